use lisp::Nonce;
use xtr::{Command, Event, LookupError};

use crate::lab::*;

#[test]
fn lig_asks_shows_and_leaves_the_map_cache_alone() {
    let mut lab = Lab::new();
    lab.command(Command::Lookup {
        id: 5,
        eid: eid("[7]10.1.0.1"),
        resolver: None,
    });
    let (to, asked, request) = lab.request();
    assert_eq!((to, asked), (at(MS), eid("[7]10.1.0.1")));
    lab.now += millis(12);
    lab.map_reply(
        Nonce(request.nonce.0 ^ 1),
        &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])],
    );
    lab.map_reply(request.nonce, &[mapping("[7]10.2.0.0/16", &["198.51.100.1"])]);
    assert!(lab.events.is_empty());
    lab.map_reply(request.nonce, &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    let [
        Event::LookupDone {
            id: 5,
            result: Ok(answer),
        },
    ] = &lab.events[..]
    else {
        panic!("{:?}", lab.events)
    };
    assert_eq!((answer.rtt, answer.tries, answer.from), (millis(12), 1, at(MS)));
    assert_eq!(answer.mappings[0].prefix, prefix("[7]10.1.0.0/16"));
    assert!(lab.cached().is_empty());
    lab.moved(&[
        ("map_reply_unknown_nonce", 1),
        ("map_reply_wrong_eid", 1),
        ("lookup_answered", 1),
    ]);
}

#[test]
fn it_is_tried_three_times_at_the_resolver_named() {
    let mut lab = Lab::new();
    lab.command(Command::Lookup {
        id: 5,
        eid: eid("[7]10.1.0.1"),
        resolver: Some(at("203.0.113.53")),
    });
    lab.pass(seconds(7));
    let asked: Vec<_> = lab.requests().iter().map(|(to, _, _)| *to).collect();
    assert_eq!(asked, [at("203.0.113.53"); 3]);
    assert_eq!(
        lab.events,
        [Event::LookupDone {
            id: 5,
            result: Err(LookupError::Timeout { tries: 3 })
        }]
    );
    lab.moved(&[("lookup_failed", 1)]);
}

#[test]
fn without_resolver_or_locator_it_fails_at_once() {
    let mut none = config();
    none.map_servers.clear();
    let mut lab = Lab::with(none.clone());
    lab.command(Command::Lookup {
        id: 1,
        eid: eid("10.1.0.1"),
        resolver: None,
    });
    assert_eq!(
        lab.events,
        [Event::LookupDone {
            id: 1,
            result: Err(LookupError::NoResolver)
        }]
    );
    none.locators.clear();
    let mut lab = Lab::with(none);
    lab.command(Command::Lookup {
        id: 1,
        eid: eid("10.1.0.1"),
        resolver: Some(at(MS)),
    });
    assert_eq!(
        lab.events,
        [Event::LookupDone {
            id: 1,
            result: Err(LookupError::NoLocator)
        }]
    );
}

/// `lig self` (RFC 6835 §4.1): the Map-Server forwards our own Map-Request to us, and we answer ourselves.
#[test]
fn lig_self_goes_the_whole_way_round() {
    let mut lab = Lab::serving(&["[7]10.1.0.0/16"]);
    lab.command(Command::Lookup {
        id: 5,
        eid: eid("[7]10.1.0.1"),
        resolver: None,
    });
    let (_, _, request) = lab.request();
    lab.receive(at(MS), &encapsulated(&request, 4342));
    let (to, reply) = lab.reply();
    assert_eq!(to, at("192.0.2.1"));
    lab.receive(at("192.0.2.1"), &reply.encode());
    let [Event::LookupDone { result: Ok(answer), .. }] = &lab.events[..] else {
        panic!("{:?}", lab.events)
    };
    assert!(answer.mappings[0].authoritative);
}

#[test]
fn look_ups_are_bounded() {
    let mut lab = Lab::new();
    for id in 0..65 {
        lab.command(Command::Lookup {
            id,
            eid: eid("10.1.0.1"),
            resolver: None,
        });
    }
    assert_eq!(
        lab.events,
        [Event::LookupDone {
            id: 64,
            result: Err(LookupError::Busy)
        }]
    );
}
