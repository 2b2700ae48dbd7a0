use lisp::Nonce;
use lisp::wire::{AuthAlgorithm, EidRecord, Message, Purpose, verify};
use xtr::{Command, Event};

use crate::lab::*;

fn moved_to(text: &str, locators: &[&str]) -> Vec<EidRecord> {
    vec![EidRecord::from_mapping(&mapping(text, locators))]
}

#[test]
fn a_prefix_that_another_xtr_registered_is_news_and_recent_peers_are_told() {
    let mut lab = Lab::serving(&["[7]10.1.0.0/16"]);
    lab.command(Command::TrafficSent {
        rlocs: vec![rloc("198.51.100.1")],
    });
    lab.clean();
    lab.receive(
        at(MS),
        &map_notify(Nonce(500), moved_to("[7]10.1.0.0/16", &["198.51.100.7"]), SECRET),
    );
    let [
        Event::Moved {
            map_server,
            prefix: moved,
            locators,
        },
    ] = &lab.events[..]
    else {
        panic!("{:?}", lab.events)
    };
    assert_eq!((*map_server, *moved), (at(MS), prefix("[7]10.1.0.0/16")));
    assert_eq!(locators[0].rloc, rloc("198.51.100.7"));
    verify(
        &lab.sent[0].payload,
        Purpose::MapNotifyAck,
        SECRET,
        &[AuthAlgorithm::HmacSha256_128],
    )
    .unwrap();
    let messages = lab.messages();
    let ack = notify_ack(&messages[0].1);
    assert_eq!((messages[0].0, ack.nonce, ack.records.len()), (at(MS), Nonce(500), 1));
    let (to, Message::MapRequest(smr)) = &messages[1] else {
        panic!("{messages:?}")
    };
    assert_eq!(*to, at("198.51.100.1"));
    assert!(smr.smr);
    lab.moved(&[
        ("map_notify_unsolicited", 1),
        ("map_notify_ack_sent", 1),
        ("map_notify_moved", 1),
        ("smr_sent", 1),
    ]);
}

#[test]
fn a_repeated_one_is_acknowledged_again_and_obeyed_once_and_an_older_one_not_at_all() {
    let mut lab = Lab::serving(&["[7]10.1.0.0/16"]);
    let news = map_notify(Nonce(500), moved_to("[7]10.1.0.0/16", &["198.51.100.7"]), SECRET);
    lab.receive(at(MS), &news);
    lab.clean();
    lab.receive(at(MS), &news);
    lab.moved(&[("map_notify_replayed", 1), ("map_notify_ack_sent", 1)]);
    assert!(lab.events.is_empty());
    lab.sent.clear();
    let older = map_notify(Nonce(499), moved_to("[7]10.1.0.0/16", &["198.51.100.8"]), SECRET);
    lab.receive(at(MS), &older);
    lab.moved(&[("map_notify_replayed", 1)]);
    assert!(lab.events.is_empty() && lab.sent.is_empty());
}

/// §5.7: what does not verify is dropped without further processing, and earns no acknowledgment.
#[test]
fn an_unauthentic_one_is_nothing() {
    let mut lab = Lab::serving(&["[7]10.1.0.0/16"]);
    lab.receive(
        at(MS),
        &map_notify(Nonce(500), moved_to("[7]10.1.0.0/16", &["198.51.100.7"]), b"wrong"),
    );
    assert!(lab.events.is_empty() && lab.sent.is_empty());
    lab.moved(&[("map_notify_bad_authentication", 1)]);
}

#[test]
fn what_is_not_ours_or_still_with_us_has_not_moved() {
    let mut lab = Lab::serving(&["[7]10.1.0.0/16"]);
    let mut records = moved_to("[7]10.2.0.0/16", &["198.51.100.7"]);
    records.extend(moved_to("[8]10.1.0.0/16", &["198.51.100.7"]));
    records.extend(moved_to("[7]10.1.0.0/16", &["198.51.100.7", "192.0.2.1"]));
    records.push(EidRecord::from_mapping(&negative("[7]10.1.0.0/16", 1)));
    lab.receive(at(MS), &map_notify(Nonce(500), records, SECRET));
    assert!(lab.events.is_empty());
    lab.moved(&[("map_notify_unsolicited", 1), ("map_notify_ack_sent", 1)]);
}

#[test]
fn one_host_of_a_prefix_of_ours_can_move() {
    let mut lab = Lab::serving(&["[7]10.1.0.0/16"]);
    lab.receive(
        at(MS),
        &map_notify(Nonce(500), moved_to("[7]10.1.0.9/32", &["198.51.100.7"]), SECRET),
    );
    let [Event::Moved { prefix: moved, .. }] = &lab.events[..] else {
        panic!("{:?}", lab.events)
    };
    assert_eq!(*moved, prefix("[7]10.1.0.9/32"));
}

#[test]
fn another_map_server_cannot_acknowledge_what_it_was_not_asked() {
    let mut two = config();
    let mut other = peer("192.0.2.101");
    other.secret = xtr::Secret::new(*b"the other secret");
    two.map_servers.push(other);
    let mut lab = Lab::with(two);
    lab.serve(&["10.1.0.0/16"]);
    let first = lab.sent.remove(0);
    let Message::MapRegister(register) = Message::decode(&first.payload).unwrap() else {
        panic!()
    };
    lab.clean();
    lab.receive(
        at("192.0.2.101"),
        &map_notify(register.nonce, register.records.clone(), b"the other secret"),
    );
    lab.moved(&[("map_notify_wrong_server", 1)]);
    assert!(lab.events.is_empty());
}

#[test]
fn a_map_server_may_answer_from_another_of_its_addresses() {
    let mut lab = Lab::new();
    lab.serve(&["10.1.0.0/16"]);
    let (_, register) = lab.registers().remove(0);
    lab.clean();
    lab.notify_from(at("2001:db8::100"), &register, SECRET);
    lab.moved(&[("map_notify_accepted", 1)]);
}
