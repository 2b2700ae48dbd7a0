use lisp::wire::AfiAddress;
use lisp::{NegativeAction, Nonce, Ttl};
use xtr::{Command, Event};

use crate::lab::*;

fn resolve(lab: &mut Lab, text: &str) {
    lab.command(Command::Resolve {
        eid: eid(text),
        source: Some(eid("[7]10.99.0.5")),
    });
}

#[test]
fn a_miss_asks_the_mapping_system_once_and_installs_the_answer() {
    let mut lab = Lab::new();
    resolve(&mut lab, "[7]10.1.0.1");
    let (to, asked, request) = lab.request();
    assert_eq!((to, asked), (at(MS), eid("[7]10.1.0.1")));
    assert_eq!(request.source_eid.to_eid(), Some(eid("[7]10.99.0.5")));
    let itr_rlocs: Vec<_> = request.itr_rlocs.iter().filter_map(AfiAddress::ip).collect();
    assert_eq!(itr_rlocs, [ip("192.0.2.1"), ip("2001:db8::1")]);
    assert!(!request.probe && !request.smr && !request.smr_invoked && !request.dont_reply);
    lab.moved(&[("map_request_sent", 1)]);
    // The dataplane keeps missing: one request is enough.
    resolve(&mut lab, "[7]10.1.0.1");
    lab.moved(&[("resolve_pending", 1)]);

    lab.map_reply(request.nonce, &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    let [
        Event::MappingInstalled {
            mapping: installed,
            expires,
            node: None,
        },
    ] = &lab.events[..]
    else {
        panic!("{:?}", lab.events)
    };
    assert_eq!(installed.prefix, prefix("[7]10.1.0.0/16"));
    assert_eq!(*expires, lab.now + seconds(86_400));
    lab.moved(&[("map_reply_accepted", 1), ("cache_installed", 1)]);
    // Known now: told again, not asked again.
    lab.clean();
    resolve(&mut lab, "[7]10.1.200.9");
    assert_eq!(lab.installed(), ["[7]10.1.0.0/16"]);
    lab.moved(&[("resolve_cached", 1)]);
    lab.pass(seconds(30));
    assert!(lab.sent.is_empty());
}

/// lisp-wire §11.1: the nonce is dropped after use.
#[test]
fn a_nonce_answers_once_and_a_wrong_one_never() {
    let mut lab = Lab::new();
    resolve(&mut lab, "[7]10.1.0.1");
    let (_, _, request) = lab.request();
    lab.clean();
    lab.map_reply(
        Nonce(request.nonce.0 ^ 1),
        &[mapping("[7]10.1.0.0/16", &["203.0.113.66"])],
    );
    lab.moved(&[("map_reply_unknown_nonce", 1)]);
    lab.map_reply(request.nonce, &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    lab.moved(&[("map_reply_accepted", 1), ("cache_installed", 1)]);
    lab.map_reply(request.nonce, &[mapping("[7]10.1.0.0/16", &["203.0.113.66"])]);
    lab.moved(&[("map_reply_unknown_nonce", 1)]);
    assert_eq!(lab.cached(), ["[7]10.1.0.0/16"]);
}

#[test]
fn an_answer_for_another_eid_or_another_instance_uses_nothing_up() {
    let mut lab = Lab::new();
    resolve(&mut lab, "[7]10.1.0.1");
    let (_, _, request) = lab.request();
    lab.clean();
    lab.map_reply(request.nonce, &[mapping("[7]10.2.0.0/16", &["203.0.113.66"])]);
    lab.map_reply(request.nonce, &[mapping("[8]10.1.0.0/16", &["203.0.113.66"])]);
    lab.map_reply(request.nonce, &[mapping("[0]10.1.0.0/16", &["203.0.113.66"])]);
    lab.map_reply(request.nonce, &[]);
    lab.moved(&[("map_reply_wrong_eid", 4)]);
    assert!(lab.events.is_empty());
    lab.map_reply(request.nonce, &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    lab.moved(&[("map_reply_accepted", 1), ("cache_installed", 1)]);
}

/// lisp-wire §11.2: never /0, nor anything shorter than configured.
#[test]
fn a_record_that_claims_too_much_is_refused() {
    let mut lab = Lab::new();
    resolve(&mut lab, "[7]10.1.0.1");
    let (_, _, request) = lab.request();
    lab.clean();
    lab.map_reply(request.nonce, &[mapping("[7]0.0.0.0/0", &["203.0.113.66"])]);
    lab.map_reply(request.nonce, &[mapping("[7]10.0.0.0/7", &["203.0.113.66"])]);
    lab.moved(&[("map_reply_overclaim", 2)]);
    assert!(lab.events.is_empty());
}

#[test]
fn a_negative_record_that_is_too_wide_is_cut_down_around_the_eid() {
    let mut lab = Lab::new();
    resolve(&mut lab, "[7]200.1.0.1");
    let (_, _, request) = lab.request();
    lab.clean();
    lab.map_reply(request.nonce, &[negative("[7]128.0.0.0/1", 15)]);
    lab.moved(&[
        ("map_reply_accepted", 1),
        ("map_reply_negative_clipped", 1),
        ("cache_installed", 1),
    ]);
    assert_eq!(lab.installed(), ["[7]200.0.0.0/8"]);
}

#[test]
fn locators_that_nobody_may_send_to_are_left_out_and_none_left_is_a_refusal() {
    let mut lab = Lab::new();
    resolve(&mut lab, "[7]10.1.0.1");
    let (_, _, request) = lab.request();
    lab.clean();
    let unusable = ["224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1", "::", "192.0.2.1"];
    lab.map_reply(request.nonce, &[mapping("[7]10.1.0.0/16", &unusable)]);
    lab.moved(&[("map_reply_no_usable_locator", 1)]);
    assert!(lab.events.is_empty(), "not taken for a negative answer either");
    lab.map_reply(
        request.nonce,
        &[mapping("[7]10.1.0.0/16", &["224.0.0.1", "198.51.100.1"])],
    );
    let Event::MappingInstalled { mapping, .. } = &lab.events[0] else {
        panic!()
    };
    assert_eq!(mapping.locators.len(), 1);
}

/// §5.3: at most one a second; after ten, wait 30 s.
#[test]
fn ten_tries_then_a_pause_of_thirty_seconds() {
    let mut lab = Lab::new();
    resolve(&mut lab, "[7]10.1.0.1");
    let mut times = vec![lab.clock()];
    let (_, _, first) = lab.request();
    while !lab
        .events
        .iter()
        .any(|event| matches!(event, Event::ResolveFailed { .. }))
    {
        lab.pass(millis(10));
        for (_, _, request) in lab.requests() {
            assert_eq!(request.nonce, first.nonce);
            times.push(lab.clock());
        }
    }
    assert_eq!(times.len(), 10);
    assert!(
        times.windows(2).all(|pair| pair[1] - pair[0] >= seconds(1)),
        "{times:?}"
    );
    assert!(
        times.windows(2).all(|pair| pair[1] - pair[0] <= millis(2210)),
        "{times:?}"
    );
    let Some(Event::ResolveFailed { until, .. }) = lab.events.last() else {
        panic!()
    };
    assert!(*until > lab.now + millis(29_980) && *until <= lab.now + seconds(30));
    lab.moved(&[
        ("map_request_sent", 10),
        ("map_request_repeated", 9),
        ("map_request_given_up", 1),
    ]);
    // Late answers count for nothing now; new misses wait.
    lab.map_reply(first.nonce, &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    resolve(&mut lab, "[7]10.1.0.1");
    lab.moved(&[("map_reply_unknown_nonce", 1), ("resolve_pending", 1)]);
    lab.pass(millis(29_900));
    assert!(lab.sent.is_empty());
    // Another EID is not held up.
    resolve(&mut lab, "[7]10.2.0.1");
    assert_eq!(lab.requests().len(), 1);
    lab.pass(millis(200));
    lab.clean();
    resolve(&mut lab, "[7]10.1.0.1");
    assert_eq!(lab.requests().len(), 1);
}

#[test]
fn retries_go_round_the_map_resolvers_and_the_one_that_answers_is_kept() {
    let mut three = config();
    three.map_servers = vec![peer("192.0.2.100"), peer("192.0.2.101"), peer("192.0.2.102")];
    let mut lab = Lab::with(three);
    resolve(&mut lab, "[7]10.1.0.1");
    lab.pass(millis(5600));
    let asked: Vec<_> = lab.requests().iter().map(|(to, _, _)| to.ip()).collect();
    assert_eq!(
        asked,
        [
            ip("192.0.2.100"),
            ip("192.0.2.101"),
            ip("192.0.2.102"),
            ip("192.0.2.100")
        ]
    );
    resolve(&mut lab, "[7]10.2.0.1");
    assert_eq!(lab.request().0, at("192.0.2.100"));
}

#[test]
fn a_map_resolver_of_a_family_we_have_not_is_not_asked() {
    let mut config = config();
    config.locators.retain(|locator| locator.rloc.address.is_ipv4());
    config.map_servers = vec![peer("2001:db8::100"), peer("192.0.2.101")];
    let mut lab = Lab::with(config.clone());
    resolve(&mut lab, "[7]10.1.0.1");
    assert_eq!(lab.request().0, at("192.0.2.101"));
    config.map_servers.remove(1);
    let mut lab = Lab::with(config);
    resolve(&mut lab, "[7]10.1.0.1");
    lab.moved(&[("resolve_nobody_to_ask", 1)]);
}

#[test]
fn requests_under_way_are_bounded_and_one_instance_cannot_take_all() {
    let mut config = config();
    config.limits.pending_requests = 5;
    config.limits.pending_per_instance = 3;
    let mut lab = Lab::with(config);
    for n in 0..10 {
        resolve(&mut lab, &format!("[7]10.1.0.{n}"));
        resolve(&mut lab, &format!("[7]fd00::{n:x}"));
    }
    for n in 0..10 {
        resolve(&mut lab, &format!("[8]10.1.0.{n}"));
    }
    assert_eq!(lab.requests().len(), 5);
    lab.moved(&[("map_request_sent", 5), ("resolve_full", 25)]);
}

#[test]
fn what_we_serve_ourselves_is_not_looked_up_nor_cached() {
    let mut lab = Lab::serving(&["[7]10.1.0.0/16"]);
    resolve(&mut lab, "[7]10.1.0.1");
    lab.moved(&[("resolve_own", 1)]);
    resolve(&mut lab, "[8]10.1.0.1");
    let (_, _, request) = lab.request();
    lab.clean();
    // An answer may come after the prefix became ours.
    lab.serve(&["[7]10.1.0.0/16", "[8]10.1.0.0/16"]);
    lab.map_reply(request.nonce, &[mapping("[8]10.1.0.0/24", &["198.51.100.1"])]);
    assert!(lab.cached().is_empty());
    assert_eq!(
        lab.xtr.counters().map_reply_unknown_nonce,
        1,
        "the request was cancelled"
    );
}

/// §8.1, and mesh-security: a negative answer is an answer, and never permission to send in clear.
#[test]
fn negative_answers_are_kept_a_quarter_of_an_hour_at_most() {
    let mut lab = Lab::new();
    resolve(&mut lab, "[7]10.1.0.1");
    let (_, _, request) = lab.request();
    lab.map_reply(request.nonce, &[negative("[7]10.1.0.0/24", 1440)]);
    let Event::MappingInstalled { mapping, expires, .. } = &lab.events[0] else {
        panic!()
    };
    assert!(mapping.is_negative());
    assert_eq!(mapping.action, NegativeAction::NativelyForward);
    assert_eq!(*expires, lab.now + seconds(900));
    lab.clean();
    lab.pass(seconds(901));
    assert_eq!(lab.events, [Event::MappingRemoved(prefix("[7]10.1.0.0/24"))]);
    lab.moved(&[("cache_expired", 1)]);
}

#[test]
fn the_action_send_map_request_asks_at_every_miss_but_not_faster_than_once_a_second() {
    let mut lab = Lab::new();
    let mut ask_again = negative("[7]10.1.0.0/24", 1);
    ask_again.action = NegativeAction::SendMapRequest;
    lab.learn("[7]10.1.0.1", &[ask_again]);
    resolve(&mut lab, "[7]10.1.0.1");
    lab.moved(&[("resolve_cached", 1), ("map_request_rate_limited", 1)]);
    lab.pass(millis(999));
    assert!(lab.sent.is_empty());
    lab.pass(millis(2));
    assert_eq!(lab.requests().len(), 1);
}

#[test]
fn a_record_with_ttl_zero_removes_the_entry() {
    let mut lab = Lab::new();
    lab.learn("[7]10.1.0.1", &[mapping("[7]10.1.0.0/16", &["198.51.100.1"])]);
    lab.pass(seconds(5));
    solicit(&mut lab, "[7]10.1.0.1");
    let (_, _, request) = lab.request();
    lab.clean();
    let mut gone = mapping("[7]10.1.0.0/16", &["198.51.100.1"]);
    gone.ttl = Ttl::ZERO;
    lab.map_reply(request.nonce, &[gone]);
    assert_eq!(lab.events, [Event::MappingRemoved(prefix("[7]10.1.0.0/16"))]);
    lab.moved(&[("map_reply_accepted", 1), ("cache_withdrawn", 1)]);
}

/// Another xTR's SMR makes us ask again.
fn solicit(lab: &mut Lab, text: &str) {
    let mut smr = map_request(text, &["198.51.100.1"]);
    smr.smr = true;
    smr.dont_reply = true;
    smr.source_eid = AfiAddress::from_eid(&eid(text));
    lab.receive(at("198.51.100.1"), &smr.encode());
}

#[test]
fn nonsense_is_counted_and_changes_nothing() {
    let mut lab = Lab::serving(&["10.1.0.0/16"]);
    let before = format!("{:?}", lab.xtr.status(lab.now).map_cache);
    for length in 0..64 {
        for byte in [0x00, 0x10, 0x20, 0x28, 0x40, 0x80, 0x88, 0xff] {
            lab.receive(at("203.0.113.9"), &vec![byte; length]);
        }
    }
    assert!(lab.events.is_empty());
    assert!(lab.sent.is_empty());
    assert_eq!(format!("{:?}", lab.xtr.status(lab.now).map_cache), before);
    assert!(lab.xtr.counters().malformed > 400);
}
