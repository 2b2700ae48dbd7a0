use lisp::wire::{AfiAddress, EidRecord};
use lisp::{Nonce, Ttl};
use xtr::{Command, DatabaseMapping};

use crate::lab::*;

#[test]
fn a_forwarded_map_request_is_answered_to_the_itr_rloc() {
    let mut lab = Lab::serving(&["[7]10.1.0.0/16"]);
    lab.receive(
        at(MS),
        &encapsulated(&map_request("[7]10.1.2.3", &["198.51.100.1"]), 50_123),
    );
    let source = lab.sent[0].source;
    let (to, reply) = lab.reply();
    assert_eq!(
        to.to_string(),
        "198.51.100.1:50123",
        "ITR-RLOC and the request's source port"
    );
    assert_eq!(source, Some(ip("192.0.2.1")));
    assert_eq!((reply.nonce, reply.probe), (Nonce(77), false));
    let [record] = &reply.records[..] else {
        panic!("{reply:?}")
    };
    assert!(record.authoritative);
    let told = record.to_mapping().unwrap();
    assert_eq!(told.prefix, prefix("[7]10.1.0.0/16"));
    let rlocs: Vec<String> = told.locators.iter().map(|l| l.rloc.to_string()).collect();
    assert_eq!(rlocs, ["192.0.2.1", "2001:db8::1"], "sorted, IPv4 first");
    assert!(told.locators.iter().all(|l| l.local && l.reachable && !l.probed));
    lab.moved(&[("map_request_answered", 1)]);
}

/// §5.5, the RFC's own example.
#[test]
fn the_best_match_comes_with_its_more_specifics() {
    let mut lab = Lab::serving(&[
        "2001:db8::/32",
        "2001:db8:1::/48",
        "2001:db8:1:1::/64",
        "2001:db8:1:2::/64",
    ]);
    lab.receive(at("2001:db8::100"), &encapsulated_v6("2001:db8:1:1::1"));
    let prefixes = |reply: lisp::wire::MapReply| -> Vec<String> {
        reply
            .records
            .iter()
            .map(|record| record.prefix().unwrap().to_string())
            .collect()
    };
    assert_eq!(prefixes(lab.reply().1), ["[0]2001:db8:1:1::/64"]);
    lab.receive(at("2001:db8::100"), &encapsulated_v6("2001:db8:1:5::5"));
    assert_eq!(
        prefixes(lab.reply().1),
        ["[0]2001:db8:1::/48", "[0]2001:db8:1:1::/64", "[0]2001:db8:1:2::/64"]
    );
}

fn encapsulated_v6(target: &str) -> Vec<u8> {
    lisp::wire::Ecm {
        ddt: false,
        to_etr: true,
        to_ms: false,
        security: None,
        source: at("2001:db8:9::1"),
        destination: at("2001:db8:1::1"),
        payload: map_request(target, &["2001:db8:9::1"]).encode(),
    }
    .encode()
}

#[test]
fn all_records_of_one_reply_have_the_least_ttl() {
    let mut lab = Lab::new();
    let mut short = DatabaseMapping::new(prefix("10.1.1.0/24"));
    short.ttl = Ttl(5);
    lab.command(Command::SetDatabase(vec![
        DatabaseMapping::new(prefix("10.1.0.0/16")),
        short,
    ]));
    lab.clean();
    lab.receive(at(MS), &encapsulated(&map_request("10.1.9.9", &["198.51.100.1"]), 4342));
    let ttls: Vec<Ttl> = lab.reply().1.records.iter().map(|record| record.ttl).collect();
    assert_eq!(ttls, [Ttl(5), Ttl(5)]);
}

#[test]
fn a_reply_is_bounded_in_records_and_bytes() {
    let mut lab = Lab::new();
    let list: Vec<String> = (0..100)
        .map(|n| format!("10.1.{n}.0/24"))
        .chain(["10.1.0.0/16".into()])
        .collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    lab.serve(&list);
    lab.clean();
    lab.receive(
        at(MS),
        &encapsulated(&map_request("10.1.200.1", &["198.51.100.1"]), 4342),
    );
    assert!(lab.sent[0].payload.len() <= 548);
    let (_, reply) = lab.reply();
    assert_eq!(
        reply.records[0].prefix().unwrap(),
        prefix("10.1.0.0/16"),
        "the answer itself is never the one cut"
    );
    assert!(reply.records.len() <= 16);
}

#[test]
fn nothing_is_said_about_prefixes_of_others_or_other_instances() {
    let mut lab = Lab::serving(&["[7]10.1.0.0/16"]);
    for target in ["[7]10.2.0.1", "[8]10.1.0.1", "10.1.0.1", "[7]10.0.0.0/8", "[7]fd00::1"] {
        lab.receive(at(MS), &encapsulated(&map_request(target, &["198.51.100.1"]), 4342));
    }
    assert!(lab.sent.is_empty());
    lab.moved(&[("map_request_not_ours", 5)]);
}

/// §5.3, and lisp-wire §11.4: no reply to where nobody may be sent anything.
#[test]
fn itr_rlocs_that_must_not_be_sent_to_are_passed_over() {
    let mut lab = Lab::serving(&["10.1.0.0/16"]);
    let bad = [
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "ff02::1",
        "::",
        "192.0.2.1",
        "2001:db8::1",
    ];
    lab.receive(at(MS), &encapsulated(&map_request("10.1.0.1", &bad), 4342));
    lab.moved(&[("map_request_no_itr_rloc", 1)]);
    let mut mixed = bad.to_vec();
    mixed.push("198.51.100.1");
    lab.receive(at(MS), &encapsulated(&map_request("10.1.0.1", &mixed), 4342));
    assert_eq!(lab.reply().0, at("198.51.100.1"));
    let mut unknown = map_request("10.1.0.1", &["198.51.100.1"]);
    unknown.itr_rlocs = vec![AfiAddress::Name(b"nobody".to_vec())];
    lab.receive(at(MS), &encapsulated(&unknown, 4342));
    assert!(lab.sent.is_empty());
}

#[test]
fn an_itr_rloc_of_a_family_we_have_not_is_passed_over() {
    let mut config = config();
    config.locators.retain(|locator| locator.rloc.address.is_ipv4());
    let mut lab = Lab::with(config);
    lab.serve(&["10.1.0.0/16"]);
    lab.clean();
    lab.receive(
        at(MS),
        &encapsulated(&map_request("10.1.0.1", &["2001:db8:9::1", "198.51.100.1"]), 4342),
    );
    assert_eq!(lab.reply().0, at("198.51.100.1"));
    lab.receive(
        at(MS),
        &encapsulated(&map_request("10.1.0.1", &["2001:db8:9::1"]), 4342),
    );
    lab.moved(&[("map_request_answered", 1), ("map_request_no_itr_rloc", 1)]);
}

#[test]
fn no_reply_into_the_data_plane_or_to_port_zero() {
    let mut lab = Lab::serving(&["10.1.0.0/16"]);
    let request = map_request("10.1.0.1", &["198.51.100.1"]).encode();
    lab.receive("198.51.100.1:4341".parse().unwrap(), &request);
    lab.receive("198.51.100.1:0".parse().unwrap(), &request);
    assert!(lab.sent.is_empty());
    lab.moved(&[("map_request_bad_port", 2)]);
}

/// §5.4: Map-Replies MUST be rate limited.
#[test]
fn a_flood_of_requests_is_answered_within_the_budget() {
    let mut lab = Lab::serving(&["10.1.0.0/16"]);
    let request = encapsulated(&map_request("10.1.0.1", &["198.51.100.1"]), 4342);
    for _ in 0..1000 {
        lab.receive(at(MS), &request);
    }
    assert_eq!(lab.sent.len(), 16);
    lab.moved(&[("map_request_answered", 16), ("map_request_over_budget", 984)]);
    // Others are not made to suffer for it.
    lab.receive(at(MS), &encapsulated(&map_request("10.1.0.1", &["198.51.100.2"]), 4342));
    lab.moved(&[("map_request_answered", 1)]);
    lab.now += seconds(1);
    for _ in 0..1000 {
        lab.receive(at(MS), &request);
    }
    lab.moved(&[("map_request_answered", 4), ("map_request_over_budget", 996)]);
}

#[test]
fn made_up_itr_rlocs_share_one_budget() {
    let mut lab = Lab::serving(&["10.1.0.0/16"]);
    for n in 0..5000_u32 {
        let target = format!("198.{}.{}.1", 18 + n / 256 % 2, n % 256);
        let other = format!("100.{}.{}.1", 64 + n / 256, n % 256);
        let address = if n % 2 == 0 { target } else { other };
        lab.receive(at(MS), &encapsulated(&map_request("10.1.0.1", &[&address]), 4342));
    }
    assert_eq!(lab.sent.len(), 1000, "the budget of one second for all");
}

#[test]
fn an_rloc_probe_is_answered_by_the_locator_that_was_probed() {
    let mut lab = Lab::serving(&["[7]10.1.0.0/16"]);
    let mut probe = map_request("[7]10.1.0.0/16", &["198.51.100.1", "2001:db8:9::1"]);
    probe.probe = true;
    lab.receive(at("2001:db8:9::1"), &probe.encode());
    let source = lab.sent[0].source;
    let (to, reply) = lab.reply();
    assert_eq!((to, source), (at("2001:db8:9::1"), Some(ip("2001:db8::1"))));
    assert!(reply.probe && reply.records.iter().all(|record| record.authoritative));
    let probed: Vec<_> = reply.records[0]
        .locators
        .iter()
        .filter(|l| l.probed)
        .map(|l| l.rloc.ip().unwrap())
        .collect();
    assert_eq!(probed, [ip("2001:db8::1")]);
    lab.moved(&[("probe_answered", 1)]);
}

/// §5.8: probes MUST NOT be encapsulated.
#[test]
fn an_encapsulated_probe_is_not_answered() {
    let mut lab = Lab::serving(&["10.1.0.0/16"]);
    let mut probe = map_request("10.1.0.0/16", &["198.51.100.1"]);
    probe.probe = true;
    lab.receive(at(MS), &encapsulated(&probe, 4342));
    assert!(lab.sent.is_empty());
    lab.moved(&[("probe_encapsulated", 1)]);
}

#[test]
fn the_d_bit_is_obeyed() {
    let mut lab = Lab::serving(&["10.1.0.0/16"]);
    let mut request = map_request("10.1.0.1", &["198.51.100.1"]);
    request.dont_reply = true;
    lab.receive(at(MS), &encapsulated(&request, 4342));
    assert!(lab.sent.is_empty());
    lab.moved(&[("map_request_dont_reply", 1)]);
}

/// §5.3 and lisp-wire §11.3: an M=1 record is not believed without a verifying Map-Request. We take none.
#[test]
fn a_piggybacked_record_is_not_believed() {
    let mut lab = Lab::serving(&["10.1.0.0/16"]);
    let mut request = map_request("10.1.0.1", &["198.51.100.1"]);
    request.source_eid = AfiAddress::from_eid(&eid("10.9.0.1"));
    request.map_reply_record = Some(EidRecord::from_mapping(&mapping("10.9.0.0/16", &["203.0.113.66"])));
    lab.receive(at(MS), &encapsulated(&request, 4342));
    assert!(lab.cached().is_empty() && lab.events.is_empty());
    lab.moved(&[("map_request_record_ignored", 1), ("map_request_answered", 1)]);
}

/// §5.2: receivers MUST accept many records.
#[test]
fn several_records_are_answered_in_one_reply() {
    let mut lab = Lab::serving(&["10.1.0.0/16", "10.2.0.0/16"]);
    let mut request = map_request("10.1.0.1", &["198.51.100.1"]);
    request
        .records
        .extend(map_request("10.2.0.1", &["198.51.100.1"]).records);
    request
        .records
        .extend(map_request("10.1.0.2", &["198.51.100.1"]).records);
    lab.receive(at(MS), &encapsulated(&request, 4342));
    assert_eq!(lab.reply().1.records.len(), 2);
}

#[test]
fn an_envelope_in_an_envelope_is_not_opened() {
    let mut lab = Lab::serving(&["10.1.0.0/16"]);
    let inner = encapsulated(&map_request("10.1.0.1", &["198.51.100.1"]), 4342);
    let outer = lisp::wire::Ecm {
        ddt: false,
        to_etr: false,
        to_ms: false,
        security: None,
        source: at("198.51.100.1"),
        destination: at("10.1.0.1"),
        payload: inner,
    };
    lab.receive(at(MS), &outer.encode());
    assert!(lab.sent.is_empty());
    lab.moved(&[("unexpected_message", 1)]);
}
