use lisp::Ttl;
use xtr::{Command, Event};

use crate::lab::*;

fn with_ttl(mut mapping: lisp::Mapping, minutes: u32) -> lisp::Mapping {
    mapping.ttl = Ttl(minutes);
    mapping
}

/// §5.5, the RFC's own example.
#[test]
fn a_reply_with_more_specifics_installs_them_all() {
    let mut lab = Lab::new();
    lab.learn(
        "2001:db8:1:5::5",
        &[
            mapping("2001:db8:1::/48", &["198.51.100.1"]),
            mapping("2001:db8:1:1::/64", &["198.51.100.2"]),
            mapping("2001:db8:1:2::/64", &["198.51.100.3"]),
        ],
    );
    assert_eq!(
        lab.cached(),
        ["[0]2001:db8:1::/48", "[0]2001:db8:1:1::/64", "[0]2001:db8:1:2::/64"]
    );
}

#[test]
fn records_that_are_no_more_specifics_of_the_answer_are_left_out() {
    let mut lab = Lab::new();
    lab.command(Command::Resolve {
        eid: eid("[7]10.1.0.1"),
        source: None,
    });
    let (_, _, request) = lab.request();
    lab.clean();
    lab.map_reply(
        request.nonce,
        &[
            mapping("[7]10.1.0.0/16", &["198.51.100.1"]),
            mapping("[7]10.2.0.0/16", &["203.0.113.66"]),
            mapping("[8]10.1.1.0/24", &["203.0.113.66"]),
            mapping("[7]10.1.1.0/24", &["198.51.100.2"]),
        ],
    );
    assert_eq!(lab.cached(), ["[7]10.1.0.0/16", "[7]10.1.1.0/24"]);
    lab.moved(&[
        ("map_reply_accepted", 1),
        ("map_reply_stray_record", 2),
        ("cache_installed", 2),
    ]);
}

/// §5.5: a less specific that comes later lives no longer than the more specifics in the cache.
#[test]
fn a_less_specific_expires_with_its_first_more_specific() {
    let mut lab = Lab::new();
    lab.learn(
        "[7]10.1.1.1",
        &[with_ttl(mapping("[7]10.1.1.0/24", &["198.51.100.1"]), 10)],
    );
    lab.command(Command::Resolve {
        eid: eid("[7]10.1.2.1"),
        source: None,
    });
    let (_, _, request) = lab.request();
    lab.map_reply(
        request.nonce,
        &[with_ttl(mapping("[7]10.1.0.0/16", &["198.51.100.2"]), 1440)],
    );
    let expires: Vec<_> = lab
        .xtr
        .status(lab.now)
        .map_cache
        .into_iter()
        .map(|entry| entry.expires_in)
        .collect();
    assert_eq!(expires, [seconds(600), seconds(600)]);
}

/// §5.5: "replaces the entry with the less-specific EID-Prefix".
#[test]
fn a_less_specific_answer_replaces_the_more_specific_for_the_eid_asked() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.1.1", &[mapping("[7]10.1.1.0/24", &["198.51.100.1"])]);
    lab.learn("[7]10.1.2.1", &[mapping("[7]10.1.2.0/24", &["198.51.100.1"])]);
    lab.pass(seconds(5));
    let mut smr = map_request("[7]10.1.1.1", &["198.51.100.1"]);
    smr.smr = true;
    lab.receive(at("198.51.100.1"), &smr.encode());
    let (_, _, request) = lab.request();
    assert!(request.smr_invoked);
    lab.map_reply(request.nonce, &[mapping("[7]10.1.0.0/16", &["198.51.100.9"])]);
    assert_eq!(lab.cached(), ["[7]10.1.0.0/16", "[7]10.1.2.0/24"]);
}

#[test]
fn the_same_eid_in_two_instances_is_two_entries() {
    let mut lab = Lab::new();
    lab.learn("[1]10.0.0.1", &[mapping("[1]10.0.0.0/24", &["198.51.100.1"])]);
    lab.command(Command::Resolve {
        eid: eid("[2]10.0.0.1"),
        source: None,
    });
    let (_, asked, request) = lab.request();
    assert_eq!(
        asked,
        eid("[2]10.0.0.1"),
        "what instance 1 knows is no answer for instance 2"
    );
    lab.map_reply(request.nonce, &[mapping("[2]10.0.0.0/24", &["198.51.100.2"])]);
    let status = lab.xtr.status(lab.now);
    let rlocs: Vec<_> = status
        .map_cache
        .iter()
        .map(|entry| entry.mapping.locators[0].rloc.to_string())
        .collect();
    assert_eq!(rlocs, ["198.51.100.1", "198.51.100.2"]);
}

#[test]
fn an_entry_in_use_is_refreshed_before_it_expires_and_an_idle_one_is_not() {
    let mut lab = Lab::new();
    lab.learn(
        "[7]10.1.1.1",
        &[with_ttl(mapping("[7]10.1.1.0/24", &["198.51.100.1"]), 10)],
    );
    lab.learn(
        "[7]10.1.2.1",
        &[with_ttl(mapping("[7]10.1.2.0/24", &["198.51.100.2"]), 10)],
    );
    for _ in 0..580 {
        lab.pass(seconds(1));
        lab.command(Command::MappingsUsed(vec![(prefix("[7]10.1.1.0/24"), 5)]));
        if !lab.sent.is_empty() {
            break;
        }
    }
    let (_, asked, request) = lab.request();
    assert_eq!(asked, eid("[7]10.1.1.1"));
    let left = seconds(600) - lab.clock();
    assert!(left > seconds(30) && left <= seconds(80), "{left:?}");
    lab.map_reply(
        request.nonce,
        &[with_ttl(mapping("[7]10.1.1.0/24", &["198.51.100.1"]), 10)],
    );
    lab.clean();
    lab.pass(seconds(100));
    assert_eq!(lab.events, [Event::MappingRemoved(prefix("[7]10.1.2.0/24"))]);
    assert_eq!(lab.cached(), ["[7]10.1.1.0/24"]);
    assert!(lab.xtr.status(lab.now).map_cache[0].hits >= 2500);
}

#[test]
fn data_sent_to_its_locator_counts_as_use() {
    let mut lab = Lab::new();
    lab.learn(
        "[7]10.1.1.1",
        &[with_ttl(mapping("[7]10.1.1.0/24", &["198.51.100.1"]), 10)],
    );
    lab.pass(seconds(520));
    lab.command(Command::TrafficSent {
        rlocs: vec![rloc("198.51.100.1")],
    });
    lab.sent.clear();
    lab.clean();
    lab.pass(seconds(20));
    assert_eq!(lab.xtr.counters().cache_refreshed, 1);
}

#[test]
fn a_full_instance_evicts_its_least_recently_used_and_nobody_elses() {
    let mut config = config();
    config.limits.map_cache_per_instance = 3;
    config.limits.map_cache_instances = 2;
    let mut lab = Lab::with(config);
    lab.learn("[8]10.9.0.1", &[mapping("[8]10.9.0.0/24", &["198.51.100.9"])]);
    for n in 1..=3 {
        lab.pass(seconds(1));
        lab.learn(
            &format!("[7]10.{n}.0.1"),
            &[mapping(&format!("[7]10.{n}.0.0/24"), &["198.51.100.1"])],
        );
    }
    lab.pass(seconds(1));
    lab.command(Command::MappingsUsed(vec![(prefix("[7]10.1.0.0/24"), 1)]));
    lab.learn("[7]10.4.0.1", &[mapping("[7]10.4.0.0/24", &["198.51.100.1"])]);
    assert_eq!(
        lab.cached(),
        ["[7]10.1.0.0/24", "[7]10.3.0.0/24", "[7]10.4.0.0/24", "[8]10.9.0.0/24"]
    );
    assert_eq!(lab.xtr.counters().cache_evicted, 1);
    // A third Instance-ID has no place.
    lab.command(Command::Resolve {
        eid: eid("[9]10.9.0.1"),
        source: None,
    });
    let (_, _, request) = lab.request();
    lab.clean();
    lab.map_reply(request.nonce, &[mapping("[9]10.9.0.0/24", &["198.51.100.9"])]);
    lab.moved(&[("map_reply_accepted", 1), ("cache_refused_instances", 1)]);
}

#[test]
fn what_becomes_ours_leaves_the_cache() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.1.1", &[mapping("[7]10.1.1.1/32", &["198.51.100.1"])]);
    lab.learn("[8]10.1.1.1", &[mapping("[8]10.1.1.1/32", &["198.51.100.1"])]);
    lab.serve(&["[7]10.1.1.0/24"]);
    assert_eq!(lab.cached(), ["[8]10.1.1.1/32"]);
    assert!(lab.events.contains(&Event::MappingRemoved(prefix("[7]10.1.1.1/32"))));
}

/// A guest that moves is unregistered for a moment: the negative answer of that moment is not believed for a minute.
#[test]
fn a_negative_answer_in_place_of_a_positive_one_is_asked_again_soon() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.1.1", &[mapping("[7]10.1.1.1/32", &["198.51.100.1"])]);
    lab.pass(seconds(5));
    let mut smr = map_request("[7]10.1.1.1", &["198.51.100.1"]);
    smr.smr = true;
    lab.receive(at("198.51.100.1"), &smr.encode());
    let (_, _, request) = lab.request();
    lab.map_reply(request.nonce, &[negative("[7]10.1.1.1/32", 1)]);
    lab.clean();
    lab.pass(millis(1001));
    let (_, asked, request) = lab.request();
    assert_eq!(asked, eid("[7]10.1.1.1"));
    lab.map_reply(request.nonce, &[negative("[7]10.1.1.1/32", 1)]);
    lab.pass(seconds(2));
    let (_, _, request) = lab.request();
    lab.map_reply(request.nonce, &[mapping("[7]10.1.1.1/32", &["198.51.100.2"])]);
    assert_eq!(lab.xtr.counters().cache_negative_rechecked, 2);
    lab.pass(seconds(60));
    assert!(lab.sent.is_empty(), "settled");
}

#[test]
fn an_eid_that_was_never_known_is_not_asked_again() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.1.1", &[negative("[7]10.1.1.1/32", 1)]);
    lab.pass(seconds(59));
    assert!(lab.sent.is_empty());
}

/// Whoever asks for us is a LISP EID, whatever an older negative answer says; but only the mapping system is believed.
#[test]
fn a_request_from_an_eid_held_negative_makes_us_ask() {
    let mut lab = Lab::serving(&["[7]10.9.0.0/16"]);
    lab.learn("[7]10.1.1.1", &[negative("[7]10.1.1.0/24", 15)]);
    for _ in 0..5 {
        let mut request = map_request("[7]10.9.0.1", &["198.51.100.1"]);
        request.source_eid = lisp::wire::AfiAddress::from_eid(&eid("[7]10.1.1.1"));
        lab.receive(at(MS), &encapsulated(&request, 4342));
    }
    let asked = lab
        .sent
        .iter()
        .filter(|transmit| transmit.destination == at(MS))
        .count();
    assert!(asked <= 1, "at once or after the second that the rate limit asks for");
    lab.pass(seconds(2));
    assert_eq!(lab.xtr.counters().cache_negative_rechecked, 1);
    assert!(
        lab.xtr.status(lab.now).map_cache[0].mapping.is_negative(),
        "the request itself is not believed"
    );
}

#[test]
fn flush_and_resync() {
    let mut lab = Lab::serving(&["10.9.0.0/16"]);
    lab.learn("[7]10.1.1.1", &[mapping("[7]10.1.1.0/24", &["198.51.100.1"])]);
    lab.command(Command::Resync);
    assert_eq!(lab.installed(), ["[7]10.1.1.0/24"]);
    assert!(
        lab.events
            .iter()
            .any(|event| matches!(event, Event::Registration { .. }))
    );
    lab.clean();
    lab.command(Command::Flush);
    assert_eq!(lab.events, [Event::MappingRemoved(prefix("[7]10.1.1.0/24"))]);
    assert!(lab.xtr.status(lab.now).locators.is_empty());
}
