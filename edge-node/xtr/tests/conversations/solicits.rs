use std::time::Duration;

use lisp::wire::{AfiAddress, MapRequest, Message};
use xtr::Command;

use crate::lab::*;

fn traffic(lab: &mut Lab, rlocs: &[&str]) {
    lab.command(Command::TrafficSent {
        rlocs: rlocs.iter().map(|text| rloc(text)).collect(),
    });
}

fn smrs(lab: &mut Lab) -> Vec<(String, MapRequest)> {
    lab.messages()
        .into_iter()
        .filter_map(|(to, message)| match message {
            Message::MapRequest(request) if request.smr => Some((to.to_string(), request)),
            _ => None,
        })
        .collect()
}

fn smr(changed: &str) -> Vec<u8> {
    let mut request = map_request(changed, &["198.51.100.1"]);
    request.smr = true;
    request.dont_reply = true;
    request.source_eid = AfiAddress::from_eid(&eid(changed));
    request.encode()
}

/// §6.1: those whom data was sent to within the last minute.
#[test]
fn a_prefix_that_leaves_is_told_to_recent_peers() {
    let mut lab = Lab::serving(&["[7]10.1.0.0/16", "[7]10.2.0.0/16"]);
    traffic(&mut lab, &["198.51.100.9"]);
    lab.pass(seconds(61));
    traffic(&mut lab, &["198.51.100.1", "2001:db8:9::1"]);
    lab.acknowledge_all();
    lab.clean();
    lab.serve(&["[7]10.2.0.0/16"]);
    assert!(
        smrs(&mut lab).is_empty(),
        "not before the prefix had the time to be registered elsewhere"
    );
    // Data that still comes for it is no reason to hurry.
    lab.command(Command::SolicitMapRequest {
        eid: eid("[7]10.1.0.9"),
        to: rloc("198.51.100.1"),
        node: None,
    });
    lab.pass(Duration::from_millis(199));
    assert!(smrs(&mut lab).is_empty());
    lab.pass(Duration::from_millis(1));
    let told = smrs(&mut lab);
    let to: Vec<&str> = told.iter().map(|(to, _)| to.as_str()).collect();
    assert_eq!(to, ["198.51.100.1:4342", "[2001:db8:9::1]:4342"]);
    for (_, request) in &told {
        assert!(request.smr && request.dont_reply && !request.probe);
        assert_eq!(request.source_eid.to_eid(), Some(eid("[7]10.1.0.0")));
        assert_eq!(request.records[0].prefix().unwrap(), prefix("[7]10.1.0.0/16"));
    }
    assert_eq!(lab.xtr.counters().smr_sent, 2);
}

#[test]
fn new_locators_are_told_to_recent_peers() {
    let mut lab = Lab::serving(&["[7]10.1.0.0/16"]);
    traffic(&mut lab, &["198.51.100.1"]);
    let mut changed = config();
    changed.locators[1].weight = 1;
    lab.command(Command::Configure(changed));
    assert_eq!(smrs(&mut lab).len(), 1);
}

#[test]
fn a_new_prefix_is_nobodys_news() {
    let mut lab = Lab::serving(&["[7]10.1.0.0/16"]);
    traffic(&mut lab, &["198.51.100.1"]);
    lab.serve(&["[7]10.1.0.0/16", "[7]10.2.0.0/16"]);
    assert!(smrs(&mut lab).is_empty());
}

/// §6.1: a burst of eight, then one each 3 s, for each RLOC.
#[test]
fn one_rloc_gets_one_smr_in_three_seconds_and_none_is_lost() {
    let mut lab = Lab::new();
    for _ in 0..2 {
        for n in 0..13 {
            lab.command(Command::SolicitMapRequest {
                eid: eid(&format!("[7]10.1.0.{n}")),
                node: None,
                to: rloc("198.51.100.1"),
            });
        }
    }
    lab.command(Command::SolicitMapRequest {
        eid: eid("[7]10.1.0.1"),
        to: rloc("198.51.100.2"),
        node: None,
    });
    assert_eq!(smrs(&mut lab).len(), 8 + 1);
    // EIDs 0 to 7 went out at once, and were asked for again after that: 8 + 5 + 8 in all.
    let mut told = 8;
    for second in 1..=60 {
        lab.pass(seconds(1));
        let now = smrs(&mut lab).len();
        assert_eq!(now, usize::from(second % 3 == 0 && told < 21), "second {second}");
        told += now;
    }
    assert_eq!(told, 21);
    lab.pass(seconds(3));
    assert_eq!(lab.xtr.poll_timeout(), None, "nothing is left behind");
}

#[test]
fn the_queue_of_one_rloc_is_bounded() {
    let mut lab = Lab::new();
    for n in 0..200 {
        lab.command(Command::SolicitMapRequest {
            eid: eid(&format!("[7]10.1.0.{n}")),
            node: None,
            to: rloc("198.51.100.1"),
        });
    }
    lab.moved(&[("smr_sent", 8), ("smr_queue_full", 128)]);
}

#[test]
fn what_we_serve_is_not_solicited_nor_are_addresses_that_nobody_has() {
    let mut lab = Lab::serving(&["[7]10.1.0.0/16"]);
    lab.command(Command::SolicitMapRequest {
        eid: eid("[7]10.1.0.1"),
        to: rloc("198.51.100.1"),
        node: None,
    });
    for to in ["224.0.0.1", "0.0.0.0", "192.0.2.1"] {
        lab.command(Command::SolicitMapRequest {
            eid: eid("[7]10.2.0.1"),
            to: rloc(to),
            node: None,
        });
    }
    assert!(lab.sent.is_empty());
}

/// §6.1: the SMR-invoked Map-Request MUST be sent through the mapping system.
#[test]
fn an_smr_for_a_cached_eid_asks_the_mapping_system() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    lab.pass(seconds(5));
    lab.receive(at("203.0.113.66"), &smr("[7]10.1.0.1"));
    let (to, asked, request) = lab.request();
    assert_eq!((to, asked), (at(MS), eid("[7]10.1.0.1")));
    assert!(request.smr_invoked && !request.smr);
    lab.moved(&[("smr_obeyed", 1), ("map_request_sent", 1)]);
    assert_eq!(
        lab.cached(),
        ["[7]10.1.0.0/16"],
        "the entry stays until the mapping system speaks"
    );
}

#[test]
fn an_smr_for_an_eid_that_is_not_cached_is_nothing() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    lab.pass(seconds(5));
    lab.receive(at("198.51.100.1"), &smr("[7]10.2.0.1"));
    lab.receive(at("198.51.100.1"), &smr("[8]10.1.0.1"));
    assert!(lab.sent.is_empty());
    lab.moved(&[("smr_not_cached", 2)]);
}

/// §6.1: once in 3 s for each EID-prefix.
#[test]
fn a_flood_of_smrs_leads_to_one_request_in_three_seconds() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    lab.pass(seconds(5));
    let mut requests = 0;
    for n in 0..90 {
        lab.receive(at("203.0.113.66"), &smr(&format!("[7]10.1.0.{n}")));
        for (_, _, request) in lab.requests() {
            requests += 1;
            lab.map_reply(request.nonce, &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
        }
        lab.pass(millis(100));
    }
    assert_eq!(requests, 3);
    assert_eq!(lab.xtr.counters().smr_rate_limited, 87);
}

#[test]
fn an_encapsulated_smr_is_nothing() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    let mut request = map_request("[7]10.1.0.1", &["198.51.100.1"]);
    request.smr = true;
    lab.receive(at(MS), &encapsulated(&request, 4342));
    assert!(lab.sent.is_empty());
    lab.moved(&[("smr_encapsulated", 1)]);
}

/// The answer under way may be of before the change.
#[test]
fn an_smr_while_a_request_is_under_way_asks_once_more_after_it() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    lab.pass(seconds(5));
    lab.receive(at("198.51.100.1"), &smr("[7]10.1.0.1"));
    let (_, _, request) = lab.request();
    lab.now += seconds(4);
    lab.receive(at("198.51.100.1"), &smr("[7]10.1.0.1"));
    lab.map_reply(request.nonce, &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    let (_, _, again) = lab.request();
    assert_ne!(again.nonce, request.nonce);
}
