//! Several xTRs and one prefix: merge, moves, and the Map-Notifies that tell a former registrant (RFC 9301 §5.7).

mod common;

use std::time::Duration;

use common::*;
use lisp::wire::EidRecord;
use mapserver::{Command, Event};

const EID: &str = "[1]10.1.2.3/32";

fn plant() -> Server {
    Server::new(config(vec![site("plant", &["[1]10.0.0.0/8"])]))
}

/// The xTR registers, and what goes out is given back.
fn register(server: &mut Server, xtr: &mut Xtr, eids: &[&str]) -> Vec<mapserver::Transmit> {
    let bytes = xtr.register(eids);
    server.deliver(&xtr.from(), &bytes)
}

/// The record an ITR would get.
fn looked_up(server: &mut Server) -> EidRecord {
    let entry = server
        .machine
        .registrations(server.now)
        .into_iter()
        .find(|entry| !entry.superseded);
    entry.unwrap().record
}

/// B registers, then C registers the same EID. Gives what C's Map-Register made go out.
fn moved() -> (Server, Xtr, Xtr, Vec<mapserver::Transmit>) {
    let mut server = plant();
    let (mut b, mut c) = (Xtr::new(2), Xtr::new(3));
    register(&mut server, &mut b, &[EID]);
    server.counted(&[("map-register", 1), ("registered", 1), ("map-notify-sent", 1)]);
    server.events();
    let sent = register(&mut server, &mut c, &[EID]);
    (server, b, c, sent)
}

#[test]
fn the_newest_registrant_wins_and_the_former_is_told_where_the_eid_is() {
    let (mut server, b, c, sent) = moved();
    server.counted(&[
        ("map-register", 1),
        ("registered", 1),
        ("moved", 1),
        ("map-notify-sent", 1),
        ("map-notify-unsolicited", 1),
    ]);
    let [ack, news] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(ack.destination, c.address);
    assert_eq!(news.destination, b.address);
    let news = b.open(news);
    assert_eq!(prefixes(&news.records), [EID]);
    assert_eq!(rlocs(&news.records[0]), ["198.51.100.3"], "where it is now");
    assert_ne!(news.nonce, c.open(ack).nonce);
    assert_eq!(rlocs(&looked_up(&mut server)), ["198.51.100.3"]);
    assert!(
        server
            .events()
            .iter()
            .any(|event| matches!(event, Event::Moved { former, current, .. }
        if *former == b.address && *current == c.address))
    );
    assert_eq!(server.deliver(&b.from(), &b.ack(&news)), []);
    server.counted(&[("map-notify-ack", 1)]);
    assert_eq!(server.pass(Duration::from_secs(100)), [], "acknowledged: not repeated");
}

#[test]
fn unanswered_it_is_repeated_three_times_at_3_s_then_three_times_doubling_then_given_up() {
    let (mut server, b, _, sent) = moved();
    let first = &sent[1];
    server.counted(&[
        ("map-register", 1),
        ("registered", 1),
        ("moved", 1),
        ("map-notify-sent", 1),
        ("map-notify-unsolicited", 1),
    ]);
    let repeated = server.pass(Duration::from_secs(150));
    let at: Vec<u64> = repeated.iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!(at, [3, 6, 9, 15, 27, 51]);
    assert!(
        repeated.iter().all(|(_, transmit)| transmit == first),
        "the same message with the same nonce"
    );
    server.counted(&[("map-notify-retransmitted", 6), ("map-notify-unanswered", 1)]);
    let told = |event: &Event| *event == Event::NotifyUnanswered { destination: b.address };
    assert!(server.events().iter().any(told));
}

#[test]
fn only_an_authentic_ack_with_the_nonce_stops_the_repetition() {
    let (mut server, b, _, sent) = moved();
    let news = b.open(&sent[1]);
    server.counted(&[
        ("map-register", 1),
        ("registered", 1),
        ("moved", 1),
        ("map-notify-sent", 1),
        ("map-notify-unsolicited", 1),
    ]);
    let mut forged = b.ack(&news);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    server.deliver(&b.from(), &forged);
    server.counted(&[("map-notify-ack-refused", 1)]);
    let mut other = news.clone();
    other.nonce.0 += 1;
    server.deliver(&b.from(), &b.ack(&other));
    server.counted(&[("map-notify-ack-unexpected", 1)]);
    server.deliver(&b.from(), &sent[1].payload);
    server.counted(&[("unexpected-message", 1)]);
    assert_eq!(server.pass(Duration::from_secs(3)).len(), 1, "still repeated");
    server.deliver(&b.from(), &b.ack(&news));
    server.deliver(&b.from(), &b.ack(&news));
    server.counted(&[
        ("map-notify-retransmitted", 1),
        ("map-notify-ack", 1),
        ("map-notify-ack-unexpected", 1),
    ]);
}

#[test]
fn a_late_refresh_of_the_former_registrant_does_not_take_the_prefix_back() {
    let (mut server, mut b, _, sent) = moved();
    server.deliver(&b.from(), &b.ack(&b.open(&sent[1])));
    server.counted(&[
        ("map-register", 1),
        ("registered", 1),
        ("moved", 1),
        ("map-notify-sent", 1),
        ("map-notify-unsolicited", 1),
        ("map-notify-ack", 1),
    ]);
    let sent = register(&mut server, &mut b, &[EID, "[1]10.9.0.0/16"]);
    server.counted(&[
        ("map-register", 1),
        ("superseded", 1),
        ("registered", 1),
        ("map-notify-sent", 1),
        ("map-notify-unsolicited", 1),
    ]);
    let ack = b.open(&sent[0]);
    assert_eq!(
        prefixes(&ack.records),
        ["[1]10.9.0.0/16"],
        "what was refused is left out"
    );
    assert_eq!(rlocs(&b.open(&sent[1]).records[0]), ["198.51.100.3"], "and told again");
    assert_eq!(rlocs(&looked_up(&mut server)), ["198.51.100.3"]);
}

#[test]
fn a_refused_refresh_alone_is_answered_with_no_records() {
    let (mut server, mut b, _, _) = moved();
    let sent = register(&mut server, &mut b, &[EID]);
    assert_eq!(
        b.open(&sent[0]).records,
        [],
        "so that the xTR does not ask every second"
    );
    assert_eq!(prefixes(&b.open(&sent[1]).records), [EID]);
}

#[test]
fn a_guest_that_moves_back_wins_after_its_deregistration() {
    let (mut server, mut b, c, _) = moved();
    let bytes = b.deregister(&[EID]);
    server.deliver(&b.from(), &bytes);
    assert_eq!(
        rlocs(&looked_up(&mut server)),
        ["198.51.100.3"],
        "C's registration is not B's to end"
    );
    let sent = register(&mut server, &mut b, &[EID]);
    assert_eq!(rlocs(&looked_up(&mut server)), ["198.51.100.2"]);
    let news = sent.iter().find(|transmit| transmit.destination == c.address).unwrap();
    assert_eq!(rlocs(&c.open(news).records[0]), ["198.51.100.2"], "now C is told");
}

#[test]
fn when_the_new_registrant_is_gone_the_former_is_taken_again() {
    let (mut server, mut b, mut c, _) = moved();
    let bytes = c.deregister(&[EID]);
    server.deliver(&c.from(), &bytes);
    register(&mut server, &mut b, &[EID]);
    assert_eq!(rlocs(&looked_up(&mut server)), ["198.51.100.2"]);
}

#[test]
fn a_former_registrant_that_is_silent_is_forgotten_after_its_life() {
    let (mut server, mut b, mut c, _) = moved();
    server.pass(Duration::from_secs(120));
    register(&mut server, &mut c, &[EID]);
    server.pass(Duration::from_secs(62));
    assert_eq!(server.machine.store().table().len(), 1);
    register(&mut server, &mut b, &[EID]);
    assert_eq!(
        rlocs(&looked_up(&mut server)),
        ["198.51.100.2"],
        "a new claim, not a late refresh"
    );
}

#[test]
fn several_moves_share_one_message_and_a_later_one_holds_the_earlier() {
    let mut server = plant();
    let (mut b, mut c) = (Xtr::new(2), Xtr::new(3));
    let eids = ["[1]10.1.0.1/32", "[1]10.1.0.2/32", "[1]10.1.0.3/32"];
    register(&mut server, &mut b, &eids);
    let first = register(&mut server, &mut c, &eids[..2]);
    let second = register(&mut server, &mut c, &eids[2..]);
    let (first, second) = (b.open(&first[1]), b.open(&second[1]));
    assert_eq!(prefixes(&first.records), eids[..2]);
    assert_eq!(
        prefixes(&second.records),
        [eids[2], eids[0], eids[1]],
        "the first may have been lost"
    );
    assert!(
        second.nonce > first.nonce,
        "an xTR drops Map-Notifies whose nonce does not rise"
    );
    server.deliver(&b.from(), &b.ack(&first));
    server.deliver(&b.from(), &b.ack(&second));
    assert_eq!(server.pass(Duration::from_secs(60)), []);
}

#[test]
fn what_does_not_fit_one_message_follows_after_the_ack() {
    let mut config = config(vec![site("plant", &["[1]10.0.0.0/8"])]);
    config.limits.notify_bytes = 200;
    let mut server = Server::new(config);
    let (mut b, mut c) = (Xtr::new(2), Xtr::new(3));
    let eids: Vec<String> = (1..=9).map(|n| format!("[1]10.1.0.{n}/32")).collect();
    let eids: Vec<&str> = eids.iter().map(String::as_str).collect();
    register(&mut server, &mut b, &eids);
    let mut sent = register(&mut server, &mut c, &eids);
    let mut told = Vec::new();
    sent.remove(0);
    while let Some(news) = sent.pop() {
        assert!(news.payload.len() <= 200);
        let news = b.open(&news);
        told.extend(prefixes(&news.records));
        sent = server.deliver(&b.from(), &b.ack(&news));
    }
    assert_eq!(told, eids);
}

#[test]
fn a_key_that_is_gone_ends_the_repetition() {
    let (mut server, _, _, _) = moved();
    let mut other = site("plant", &["[1]10.0.0.0/8"]);
    other.keys = vec![key(2, b"new")];
    server
        .machine
        .handle_command(server.now, Command::Reconfigure(config(vec![other])))
        .unwrap();
    // What was signed is still repeated; nothing new is signed with a key that is gone.
    assert_eq!(server.pass(Duration::from_secs(150)).len(), 6);
}

#[test]
fn xtrs_of_one_site_that_register_the_same_locators_do_not_fight() {
    let mut server = plant();
    let both = vec![ip("198.51.100.2"), ip("198.51.100.3")];
    let (mut b, mut c) = (
        Xtr {
            rlocs: both.clone(),
            ..Xtr::new(2)
        },
        Xtr {
            rlocs: both,
            ..Xtr::new(3)
        },
    );
    for _ in 0..3 {
        register(&mut server, &mut b, &[EID]);
        register(&mut server, &mut c, &[EID]);
    }
    server.counted(&[
        ("map-register", 6),
        ("registered", 2),
        ("refreshed", 4),
        ("map-notify-sent", 6),
    ]);
}

#[test]
fn merge_unites_the_locators_of_all_xtrs_that_ask_for_it() {
    let mut server = plant();
    let (mut b, mut c) = (Xtr::new(2), Xtr::new(3));
    for xtr in [&mut b, &mut c] {
        let bytes = xtr.register_with(&[EID], |message| (message.merge, message.proxy_reply) = (true, true));
        server.deliver(&xtr.from(), &bytes);
    }
    server.counted(&[("map-register", 2), ("registered", 2), ("map-notify-sent", 2)]);
    let asked = ask("[1]10.1.2.3");
    let record = map_reply(&server.deliver(ITR, &asked)).records.remove(0);
    assert_eq!(rlocs(&record), ["198.51.100.2", "198.51.100.3"]);
    let bytes = b.register_with(&[EID], |message| {
        message.merge = true;
        message.records[0].ttl = lisp::Ttl::ZERO;
    });
    server.deliver(&b.from(), &bytes);
    let record = map_reply(&server.deliver(ITR, &asked)).records.remove(0);
    assert_eq!(rlocs(&record), ["198.51.100.3"], "each xTR takes back its own");
}

#[test]
fn one_without_merge_replaces_those_with() {
    let mut server = plant();
    let (mut b, mut c, mut d) = (Xtr::new(2), Xtr::new(3), Xtr::new(4));
    for xtr in [&mut b, &mut c] {
        let bytes = xtr.register_with(&[EID], |message| message.merge = true);
        server.deliver(&xtr.from(), &bytes);
    }
    let sent = register(&mut server, &mut d, &[EID]);
    assert_eq!(rlocs(&looked_up(&mut server)), ["198.51.100.4"]);
    assert_eq!(sent.len(), 3, "an acknowledgment and two that are told");
}

#[test]
fn a_move_between_sites_that_both_own_the_prefix() {
    let mut office = site("office", &["[1]10.0.0.0/8"]);
    office.keys = vec![key(2, b"office secret")];
    let mut server = Server::new(config(vec![site("plant", &["[1]10.0.0.0/8"]), office]));
    let (mut b, mut c) = (
        Xtr::new(2),
        Xtr {
            key_id: 2,
            secret: b"office secret".to_vec(),
            ..Xtr::new(3)
        },
    );
    register(&mut server, &mut b, &[EID]);
    let sent = register(&mut server, &mut c, &[EID]);
    c.open(&sent[0]);
    assert_eq!(
        rlocs(&b.open(&sent[1]).records[0]),
        ["198.51.100.3"],
        "told with the key of its own site"
    );
}
