use std::net::SocketAddr;

use lisp::wire::MapRequest;
use lisp::{Locator, Mapping};
use xtr::{Command, Event, Reachability};

use crate::lab::*;

/// Tells the machine each second that data is being sent; answers the probes of those who are alive.
fn run(lab: &mut Lab, tenths: u32, sending: &[&str], alive: &[&str]) {
    for tenth in 0..tenths {
        if tenth % 10 == 0 {
            lab.command(Command::TrafficSent {
                rlocs: sending.iter().map(|text| rloc(text)).collect(),
            });
        }
        answer(lab, alive);
        lab.pass(millis(100));
    }
    answer(lab, alive);
}

fn answer(lab: &mut Lab, alive: &[&str]) {
    for (to, message) in lab.messages() {
        let lisp::wire::Message::MapRequest(request) = message else {
            continue;
        };
        assert!(request.probe);
        if alive.contains(&to.ip().to_string().as_str()) {
            lab.receive(to, &probe_reply(lab, to, &request));
        }
    }
}

fn probe_reply(lab: &Lab, from: SocketAddr, request: &MapRequest) -> Vec<u8> {
    let asked = request.records[0].prefix().unwrap();
    let status = lab.xtr.status(lab.now);
    let entry = status
        .map_cache
        .iter()
        .find(|entry| entry.mapping.prefix == asked)
        .expect("probes name cached prefixes");
    let mut told = entry.mapping.clone();
    told.authoritative = true;
    for locator in &mut told.locators {
        locator.probed = locator.rloc.address == from.ip();
    }
    map_reply(request.nonce, true, &[told])
}

fn states(lab: &mut Lab) -> Vec<(String, bool)> {
    let states = lab
        .events
        .iter()
        .filter_map(|event| match event {
            Event::LocatorState { rloc, reachable, .. } => Some((rloc.to_string(), *reachable)),
            _ => None,
        })
        .collect();
    lab.events.clear();
    states
}

fn state(lab: &Lab, text: &str) -> Reachability {
    let status = lab.xtr.status(lab.now);
    status
        .locators
        .iter()
        .find(|one| one.rloc == rloc(text))
        .expect("a known locator")
        .state
}

#[test]
fn a_locator_is_probed_only_when_it_is_used() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    lab.pass(seconds(600));
    assert!(lab.sent.is_empty());
    assert_eq!(state(&lab, "198.51.100.1"), Reachability::Unknown);
    lab.command(Command::TrafficSent {
        rlocs: vec![rloc("198.51.100.1"), rloc("203.0.113.3")],
    });
    let (to, request) = lab.bare_request();
    assert_eq!(to, at("198.51.100.1"));
    assert!(request.probe && !request.smr && request.source_eid == lisp::wire::AfiAddress::None);
    assert_eq!(
        request.records[0].prefix().unwrap(),
        prefix("[7]10.1.0.0/16"),
        "the cached EID-prefix"
    );
    lab.moved(&[("probe_sent", 1)]);
}

#[test]
fn up_means_that_a_packet_came_back() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    lab.command(Command::TrafficSent {
        rlocs: vec![rloc("198.51.100.1")],
    });
    let (to, request) = lab.bare_request();
    assert_eq!(state(&lab, "198.51.100.1"), Reachability::Unknown);
    lab.now += millis(40);
    let reply = probe_reply(&lab, to, &request);
    lab.receive(to, &reply);
    assert_eq!(
        lab.events,
        [Event::LocatorState {
            rloc: rloc("198.51.100.1"),
            reachable: true,
            rtt: Some(millis(40))
        }]
    );
    assert_eq!(state(&lab, "198.51.100.1"), Reachability::Up);
    lab.moved(&[("probe_sent", 1), ("probe_reply_accepted", 1), ("locator_up", 1)]);
    lab.receive(to, &reply);
    lab.moved(&[("map_reply_unknown_nonce", 1)]);
}

/// `status` tells the truth within 3 s, at whatever moment the locator dies.
#[test]
fn a_locator_that_dies_is_down_within_three_seconds() {
    for tenth in 0..20 {
        let mut lab = Lab::new();
        lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
        run(&mut lab, 30 + tenth, &["198.51.100.1"], &["198.51.100.1"]);
        assert_eq!(states(&mut lab), [("198.51.100.1".to_owned(), true)]);
        let died = lab.now;
        run(&mut lab, 30, &["198.51.100.1"], &[]);
        assert_eq!(
            states(&mut lab),
            [("198.51.100.1".to_owned(), false)],
            "{:?}",
            lab.now - died
        );
        assert_eq!(state(&lab, "198.51.100.1"), Reachability::Down);
        // It is probed on, and up again with the first answer.
        run(&mut lab, 30, &[], &["198.51.100.1"]);
        assert_eq!(states(&mut lab), [("198.51.100.1".to_owned(), true)]);
    }
}

#[test]
fn one_lost_probe_is_not_the_end() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    run(&mut lab, 30, &["198.51.100.1"], &["198.51.100.1"]);
    run(&mut lab, 11, &["198.51.100.1"], &[]);
    run(&mut lab, 30, &["198.51.100.1"], &["198.51.100.1"]);
    assert_eq!(states(&mut lab), [("198.51.100.1".to_owned(), true)]);
    assert!(lab.xtr.counters().probe_missed >= 1);
    assert_eq!(lab.xtr.counters().locator_down, 0);
}

#[test]
fn probes_are_frequent_under_traffic_rare_when_idle_and_jittered() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    run(&mut lab, 600, &["198.51.100.1"], &["198.51.100.1"]);
    let busy = lab.xtr.counters().probe_sent;
    assert!((60..=76).contains(&busy), "{busy} in a minute");
    lab.pass(seconds(10));
    let before = lab.xtr.counters().probe_sent;
    run(&mut lab, 1, &[], &["198.51.100.1"]);
    for _ in 0..1000 {
        answer(&mut lab, &["198.51.100.1"]);
        lab.pass(millis(100));
    }
    let idle = lab.xtr.counters().probe_sent - before;
    assert!((10..=13).contains(&idle), "{idle} in 100 s");
    for _ in 0..4000 {
        answer(&mut lab, &["198.51.100.1"]);
        lab.pass(millis(100));
    }
    let before = lab.xtr.counters().probe_sent;
    lab.pass(seconds(600));
    assert_eq!(lab.xtr.counters().probe_sent, before, "forgotten after five minutes");
    assert_eq!(
        state(&lab, "198.51.100.1"),
        Reachability::Unknown,
        "and not called up for ever"
    );
}

#[test]
fn a_locator_that_is_down_is_probed_with_back_off() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    run(&mut lab, 40, &["198.51.100.1"], &[]);
    assert_eq!(state(&lab, "198.51.100.1"), Reachability::Down);
    lab.clean();
    lab.pass(seconds(600));
    let sent = lab.xtr.counters().probe_sent;
    assert!((40..=60).contains(&sent), "{sent} in ten minutes");
}

#[test]
fn siblings_of_a_used_locator_are_known_before_they_are_needed() {
    let mut lab = Lab::new();
    let mut two = mapping("[7]10.1.0.0/16", &["198.51.100.1", "198.51.100.2"]);
    two.locators[1].priority = 2;
    lab.learn("[7]10.1.0.1", &[two]);
    run(&mut lab, 20, &["198.51.100.1"], &["198.51.100.1", "198.51.100.2"]);
    assert_eq!(state(&lab, "198.51.100.2"), Reachability::Up);
}

/// §5.4: P=1 requires A=1 in every record.
#[test]
fn a_probe_reply_without_the_a_bit_or_with_another_nonce_or_prefix_is_nothing() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    lab.command(Command::TrafficSent {
        rlocs: vec![rloc("198.51.100.1")],
    });
    let (to, request) = lab.bare_request();
    lab.clean();
    let good = mapping("[7]10.1.0.0/16", &["198.51.100.1"]);
    let mut proxy = good.clone();
    proxy.authoritative = false;
    lab.receive(to, &map_reply(request.nonce, true, &[proxy.clone()]));
    lab.receive(to, &map_reply(request.nonce, true, &[good.clone(), proxy]));
    lab.receive(to, &map_reply(request.nonce, true, &[]));
    lab.moved(&[("map_reply_probe_not_authoritative", 3)]);
    lab.receive(to, &map_reply(lisp::Nonce(1), true, std::slice::from_ref(&good)));
    lab.moved(&[("map_reply_unknown_nonce", 1)]);
    lab.receive(
        to,
        &map_reply(request.nonce, true, &[mapping("[8]10.1.0.0/16", &["198.51.100.1"])]),
    );
    lab.moved(&[("map_reply_wrong_eid", 1)]);
    // A probe's nonce answers no look-up, and the other way round.
    lab.receive(to, &map_reply(request.nonce, false, std::slice::from_ref(&good)));
    lab.moved(&[("map_reply_unknown_nonce", 1)]);
    assert!(lab.events.is_empty());
    lab.receive(to, &map_reply(request.nonce, true, &[good]));
    lab.moved(&[("probe_reply_accepted", 1), ("locator_up", 1)]);
}

/// §5.4: the p-bit names the locator that was probed.
#[test]
fn the_p_bit_says_which_locator_answered() {
    let mut lab = Lab::new();
    lab.learn(
        "[7]10.1.0.1",
        &[mapping("[7]10.1.0.0/16", &["198.51.100.1", "198.51.100.2"])],
    );
    lab.command(Command::TrafficSent {
        rlocs: vec![rloc("198.51.100.1")],
    });
    let probes = lab.messages();
    let (to, lisp::wire::Message::MapRequest(request)) = &probes[0] else {
        panic!()
    };
    assert_eq!(*to, at("198.51.100.1"));
    let mut told = mapping("[7]10.1.0.0/16", &["198.51.100.1", "198.51.100.2"]);
    told.locators[1].probed = true;
    lab.receive(*to, &map_reply(request.nonce, true, &[told]));
    assert_eq!(state(&lab, "198.51.100.2"), Reachability::Up);
    assert_eq!(state(&lab, "198.51.100.1"), Reachability::Unknown);
}

/// What a probe reply says of mappings is a reason to ask the mapping system, nothing more.
#[test]
fn a_probe_reply_that_differs_is_verified_and_not_believed() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    lab.pass(seconds(5));
    lab.command(Command::TrafficSent {
        rlocs: vec![rloc("198.51.100.1")],
    });
    let (to, request) = lab.bare_request();
    lab.clean();
    lab.receive(
        to,
        &map_reply(request.nonce, true, &[mapping("[7]10.1.0.0/16", &["203.0.113.66"])]),
    );
    let (_, asked, request) = lab.request();
    assert_eq!(asked, eid("[7]10.1.0.0"));
    assert!(!request.smr_invoked);
    assert_eq!(
        lab.xtr.status(lab.now).map_cache[0].mapping.locators[0].rloc,
        rloc("198.51.100.1")
    );
    lab.moved(&[
        ("probe_reply_accepted", 1),
        ("probe_reply_differs", 1),
        ("locator_up", 1),
        ("map_request_sent", 1),
    ]);
}

#[test]
fn a_locator_of_a_family_we_have_not_has_no_uplink() {
    let mut v4 = config();
    v4.locators.retain(|locator| locator.rloc.address.is_ipv4());
    let mut lab = Lab::with(v4);
    lab.command(Command::Resolve {
        eid: eid("[7]10.1.0.1"),
        source: None,
    });
    let (_, _, request) = lab.request();
    lab.map_reply(
        request.nonce,
        &[mapping("[7]10.1.0.0/16", &["198.51.100.1", "2001:db8:9::1"])],
    );
    assert_eq!(states(&mut lab), [("2001:db8:9::1".to_owned(), false)]);
    run(&mut lab, 100, &["198.51.100.1", "2001:db8:9::1"], &["198.51.100.1"]);
    assert_eq!(state(&lab, "2001:db8:9::1"), Reachability::NoUplink);
    // An uplink of that family comes up.
    lab.clean();
    lab.command(Command::Configure(config()));
    assert_eq!(states(&mut lab), [("2001:db8:9::1".to_owned(), true)]);
}

#[test]
fn a_locator_that_leaves_the_cache_is_forgotten_and_one_that_stays_keeps_its_history() {
    let mut lab = Lab::new();
    lab.learn(
        "[7]10.1.0.1",
        &[mapping("[7]10.1.0.0/16", &["198.51.100.1", "198.51.100.2"])],
    );
    run(&mut lab, 40, &["198.51.100.1"], &["198.51.100.1"]);
    assert_eq!(state(&lab, "198.51.100.2"), Reachability::Down);
    states(&mut lab);
    let mut smr = map_request("[7]10.1.0.1", &["198.51.100.1"]);
    smr.smr = true;
    lab.sent.clear();
    lab.receive(at("198.51.100.1"), &smr.encode());
    let (_, _, request) = lab.request();
    lab.map_reply(request.nonce, &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    assert_eq!(
        states(&mut lab),
        [("198.51.100.2".to_owned(), true)],
        "nothing is held against it any more"
    );
    assert_eq!(state(&lab, "198.51.100.1"), Reachability::Up);
    assert_eq!(lab.xtr.status(lab.now).locators.len(), 1);
}

#[test]
fn a_long_round_trip_is_not_a_dead_locator() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    let mut underway: Vec<(std::time::Instant, SocketAddr, MapRequest)> = Vec::new();
    for tenth in 0..300 {
        if tenth % 10 == 0 {
            lab.command(Command::TrafficSent {
                rlocs: vec![rloc("198.51.100.1")],
            });
        }
        for (to, message) in lab.messages() {
            let lisp::wire::Message::MapRequest(request) = message else {
                continue;
            };
            underway.push((lab.now + millis(900), to, request));
        }
        let (due, later): (Vec<_>, Vec<_>) = underway.into_iter().partition(|(at, _, _)| *at <= lab.now);
        underway = later;
        for (_, to, request) in due {
            let reply = probe_reply(&lab, to, &request);
            lab.receive(to, &reply);
        }
        lab.pass(millis(100));
    }
    assert_eq!(states(&mut lab), [("198.51.100.1".to_owned(), true)]);
    assert_eq!(state(&lab, "198.51.100.1"), Reachability::Up);
}

#[test]
fn a_mapping_with_many_locators_keeps_the_best() {
    let mut lab = Lab::new();
    let locators = (0..100)
        .map(|n| Locator::new(rloc(&format!("198.51.100.{n}")), 100 - n, 1))
        .collect();
    let many = Mapping::new(prefix("[7]10.1.0.0/16"), lisp::Ttl::DAY, locators);
    lab.learn("[7]10.1.0.1", &[many]);
    let kept = &lab.xtr.status(lab.now).map_cache[0].mapping.locators;
    assert_eq!(kept.len(), 32);
    assert!(kept.iter().all(|locator| locator.priority <= 32));
}
