//! Map-Requests: forwarded, answered for the ETR, answered in the negative, or dropped under a name.

mod common;

use common::*;
use lisp::wire::{
    AfiAddress, Ecm, EcmSecurity, EidAd, EidRecord, Lcaf, MapReply, MapRequest, RequestRecord, RlocRecord,
};
use lisp::{Locator, NegativeAction, Ttl};
use mapserver::{Limits, MapServerConfig, Site};

/// A Map-Server for 10/8 in instances 1 and 2, with one xTR at 10.1/16.
fn plant(proxy: bool) -> (Server, Xtr) {
    let mut server = Server::new(config(vec![site("plant", &["[1]10.0.0.0/8", "[2]10.0.0.0/8"])]));
    let mut xtr = Xtr::new(1);
    register(&mut server, &mut xtr, &["[1]10.1.0.0/16"], proxy);
    (server, xtr)
}

/// Asks for what costs no answer: the bytes may be answered later.
fn save_up(server: &mut Server) {
    let mut asked = request("192.0.2.1", "203.0.113.9");
    asked.dont_reply = true;
    for _ in 0..4 {
        assert_eq!(server.deliver(ITR, &ecm("192.0.2.1", &asked).encode()), []);
    }
}

fn register(server: &mut Server, xtr: &mut Xtr, eids: &[&str], proxy: bool) {
    let bytes = xtr.register_with(eids, |message| message.proxy_reply = proxy);
    server.deliver(&xtr.from(), &bytes);
    server.counted(&[
        ("map-register", 1),
        ("registered", eids.len() as u64),
        ("map-notify-sent", 1),
    ]);
}

#[test]
fn a_map_request_is_forwarded_untouched_to_the_etr() {
    let (mut server, xtr) = plant(false);
    let request = request("[1]10.1.2.3", "203.0.113.9");
    let asked = ecm("[1]10.1.2.3", &request);
    let sent = server.deliver(ITR, &asked.encode());
    server.counted(&[("map-request", 1), ("forwarded", 1)]);
    let [forwarded] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(forwarded.destination, xtr.address);
    assert_eq!(forwarded.source, Some(ip(SERVER)));
    let arrived = Ecm::decode(&forwarded.payload).unwrap();
    assert_eq!(arrived, Ecm { to_etr: true, ..asked });
    assert_eq!(arrived.payload, request.encode());
    assert_eq!(forwarded.payload[0], 0x82, "type 8, E-bit");
}

#[test]
fn a_map_request_without_ecm_is_encapsulated() {
    let (mut server, xtr) = plant(false);
    let request = request("[1]10.1.2.3", "203.0.113.9");
    let sent = server.deliver("203.0.113.9:7777", &request.encode());
    server.counted(&[("map-request", 1), ("forwarded", 1)]);
    assert_eq!(sent[0].destination, xtr.address);
    let arrived = Ecm::decode(&sent[0].payload).unwrap();
    assert_eq!(arrived.payload, request.encode());
    assert_eq!(
        arrived.destination,
        "10.1.2.3:4342".parse().unwrap(),
        "the EID asked for"
    );
    assert_eq!(
        arrived.source,
        "203.0.113.9:7777".parse().unwrap(),
        "the port that the Map-Reply goes to"
    );
}

#[test]
fn lisp_sec_data_travels_on_and_is_not_answered_by_proxy() {
    let (mut server, _) = plant(true);
    let security = EcmSecurity {
        requested_hmac_id: 2,
        key_id: 1,
        wrap_id: 2,
        preamble: [1; 8],
        otk: vec![2; 16],
        eid_ad: EidAd {
            kdf_id: 2,
            records: None,
        },
    };
    let asked = Ecm {
        security: Some(security),
        ..ecm("[1]10.1.2.3", &request("[1]10.1.2.3", "203.0.113.9"))
    };
    let sent = server.deliver(ITR, &asked.encode());
    server.counted(&[("map-request", 1), ("forwarded", 1)]);
    assert_eq!(Ecm::decode(&sent[0].payload).unwrap(), Ecm { to_etr: true, ..asked });
}

#[test]
fn the_etr_is_chosen_by_priority_then_weight_among_the_reachable() {
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"])]));
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register_with(&["10.1.0.0/16"], |message| {
        let with = |address: &str, priority, weight, reachable| RlocRecord {
            priority,
            weight,
            reachable,
            ..rloc(address)
        };
        message.records[0].locators = vec![
            with("198.51.100.1", 1, 75, true),
            with("198.51.100.2", 1, 25, true),
            with("198.51.100.3", 2, 100, true),
            with("198.51.100.4", 0, 100, false),
            with("198.51.100.5", Locator::NEVER, 100, true),
            with("224.0.0.1", 0, 100, true),
            with(SERVER, 0, 100, true),
        ];
    });
    server.deliver(&xtr.from(), &bytes);
    let mut hits = [0; 2];
    for _ in 0..200 {
        let sent = server.deliver(ITR, &ask("10.1.2.3"));
        match sent[0].destination.ip().to_string().as_str() {
            "198.51.100.1" => hits[0] += 1,
            "198.51.100.2" => hits[1] += 1,
            other => panic!("{other} is worse or unusable"),
        }
    }
    assert!((130..170).contains(&hits[0]), "three of four: {hits:?}");
}

#[test]
fn a_proxy_reply_is_not_authoritative_has_no_local_bit_and_is_sorted() {
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"])]));
    let mut xtr = Xtr {
        rlocs: vec![ip("2001:db8::1"), ip("198.51.100.9"), ip("198.51.100.10")],
        ..Xtr::new(1)
    };
    let bytes = xtr.register_with(&["10.1.0.0/16"], |message| {
        message.proxy_reply = true;
        message.records[0].authoritative = true;
        message.records[0].locators.reverse();
        for locator in &mut message.records[0].locators {
            (locator.local, locator.probed) = (true, true);
        }
    });
    server.deliver(&xtr.from(), &bytes);
    let asked = ecm("10.1.2.3", &request("10.1.2.3", "203.0.113.9"));
    // A small request pays for a small reply; this one saved up.
    save_up(&mut server);
    let sent = server.deliver(ITR, &asked.encode());
    assert_eq!(
        sent[0].destination,
        "203.0.113.9:5555".parse().unwrap(),
        "ITR-RLOC, source port of the Map-Request"
    );
    let reply = map_reply(&sent);
    assert_eq!(reply.nonce.0, 0x0123_4567_89ab_cdef);
    assert!(!reply.probe && !reply.echo_nonce);
    let [record] = &reply.records[..] else { panic!() };
    assert!(!record.authoritative, "RFC 9301 §5.4: a proxy MUST NOT set the A-bit");
    assert!(record.locators.iter().all(|locator| !locator.local && !locator.probed));
    assert_eq!(rlocs(record), ["198.51.100.9", "198.51.100.10", "2001:db8::1"]);
    assert_eq!(
        (record.ttl, record.prefix().unwrap()),
        (Ttl::DAY, prefix("10.1.0.0/16"))
    );
}

#[test]
fn a_site_that_does_not_allow_it_gets_the_request_and_one_that_is_forced_does_not() {
    let only = |change: fn(&mut Site)| {
        let mut plant = site("plant", &["10.0.0.0/8"]);
        change(&mut plant);
        Server::new(config(vec![plant]))
    };
    let mut server = only(|site| site.allow_proxy_reply = false);
    register(&mut server, &mut Xtr::new(1), &["10.1.0.0/16"], true);
    server.deliver(ITR, &ask("10.1.2.3"));
    server.counted(&[("map-request", 1), ("forwarded", 1)]);
    let mut server = only(|site| site.force_proxy_reply = true);
    register(&mut server, &mut Xtr::new(1), &["10.1.0.0/16"], false);
    server.deliver(ITR, &ask("10.1.2.3"));
    server.counted(&[("map-request", 1), ("proxy-reply", 1)]);
}

/// RFC 9301 §5.5 with the RFC's own example.
#[test]
fn overlapping_prefixes_are_answered_with_their_more_specifics() {
    let mut server = Server::new(config(vec![site("plant", &["2001:db8::/32"])]));
    let eids = [
        "2001:db8::/32",
        "2001:db8:1::/48",
        "2001:db8:1:1::/64",
        "2001:db8:1:2::/64",
    ];
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register_with(&eids, |message| {
        message.proxy_reply = true;
        message.records[2].ttl = Ttl(5);
    });
    server.deliver(&xtr.from(), &bytes);
    let mut ask = |target: &str| {
        let asked = ecm(target, &request(target, "203.0.113.9")).encode();
        let mut sent = Vec::new();
        for _ in 0..4 {
            sent = server.deliver(ITR, &asked);
        }
        map_reply(&sent).records
    };
    assert_eq!(prefixes(&ask("2001:db8:1:1::1")), ["[0]2001:db8:1:1::/64"]);
    let records = ask("2001:db8:1:5::5");
    assert_eq!(
        prefixes(&records),
        ["[0]2001:db8:1::/48", "[0]2001:db8:1:1::/64", "[0]2001:db8:1:2::/64"]
    );
    assert!(
        records.iter().all(|record| record.ttl == Ttl(5)),
        "one TTL for all, the shortest"
    );
}

#[test]
fn too_many_more_specifics_give_a_narrower_prefix_instead() {
    let mut server = Server::new(MapServerConfig {
        limits: Limits {
            records_per_reply: 3,
            ..Limits::default()
        },
        ..config(vec![site("plant", &["10.0.0.0/8"])])
    });
    let eids = ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"];
    register(&mut server, &mut Xtr::new(1), &eids, true);
    let sent = server.deliver(ITR, &ask("10.128.0.1"));
    assert_eq!(prefixes(&map_reply(&sent).records), ["[0]10.128.0.0/9"]);
    let sent = server.deliver(ITR, &ask("10.0.0.1"));
    assert_eq!(prefixes(&map_reply(&sent).records), ["[0]10.0.0.0/16"]);
}

#[test]
fn a_more_specific_that_answers_for_itself_is_cut_out_of_a_proxy_reply() {
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"])]));
    register(&mut server, &mut Xtr::new(1), &["10.0.0.0/8"], true);
    register(&mut server, &mut Xtr::new(2), &["10.1.0.0/16"], false);
    let sent = server.deliver(ITR, &ask("10.0.0.1"));
    assert_eq!(prefixes(&map_reply(&sent).records), ["[0]10.0.0.0/16"]);
}

#[test]
fn unknown_locators_are_in_proxy_replies_as_they_came() {
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"])]));
    let mut xtr = Xtr::new(1);
    let vendor = RlocRecord {
        rloc: AfiAddress::Lcaf(Box::new(Lcaf::Vendor {
            oui: [2, 0, 0],
            data: vec![7; 30],
        })),
        ..rloc("192.0.2.7")
    };
    let bytes = xtr.register_with(&["10.1.0.0/16"], |message| {
        message.proxy_reply = true;
        message.records[0].locators.insert(0, vendor.clone());
    });
    server.deliver(&xtr.from(), &bytes);
    save_up(&mut server);
    let sent = server.deliver(ITR, &ask("10.1.2.3"));
    let record = map_reply(&sent).records.remove(0);
    assert_eq!(record.locators[0], rloc("198.51.100.1"));
    assert_eq!(record.locators[1], vendor, "after the addresses");
}

// ---- negative ----

fn negative(server: &mut Server, target: &str) -> EidRecord {
    let reply = map_reply(&server.deliver(ITR, &ask(target)));
    let [record] = &reply.records[..] else {
        panic!("{reply:?}")
    };
    assert!(record.locators.is_empty() && !record.authoritative);
    assert_eq!(record.action, NegativeAction::NativelyForward);
    record.clone()
}

#[test]
fn what_is_no_lisp_eid_is_negative_for_fifteen_minutes() {
    let (mut server, _) = plant(false);
    let record = negative(&mut server, "[1]11.0.0.1");
    assert_eq!(
        (record.ttl, prefixes(&[record])),
        (Ttl(15), vec!["[1]11.0.0.0/8".to_owned()])
    );
    let record = negative(&mut server, "[1]192.0.2.1");
    assert_eq!(prefixes(&[record]), ["[1]128.0.0.0/1"]);
    let record = negative(&mut server, "[3]10.1.2.3");
    assert_eq!(prefixes(&[record]), ["[3]0.0.0.0/0"], "an instance without anything");
    server.counted(&[("map-request", 3), ("negative-not-lisp", 3)]);
}

#[test]
fn what_is_configured_but_unregistered_is_negative_for_one_minute() {
    let (mut server, _) = plant(false);
    let record = negative(&mut server, "[1]10.2.3.4");
    assert_eq!(
        (record.ttl, prefixes(&[record])),
        (Ttl(1), vec!["[1]10.2.0.0/15".to_owned()])
    );
    let record = negative(&mut server, "[2]10.1.2.3");
    assert_eq!(
        prefixes(&[record]),
        ["[2]10.0.0.0/8"],
        "the same EID in another instance is not registered"
    );
    server.counted(&[("map-request", 2), ("negative-unregistered", 2)]);
}

#[test]
fn a_block_is_configured_space() {
    let mut config = config(vec![site("plant", &["10.1.0.0/16"])]);
    config.blocks = vec![prefix("10.0.0.0/8")];
    let mut server = Server::new(config);
    let record = negative(&mut server, "10.2.0.1");
    assert_eq!(
        (record.ttl, prefixes(&[record])),
        (Ttl(1), vec!["[0]10.2.0.0/15".to_owned()])
    );
    let record = negative(&mut server, "10.1.0.1");
    assert_eq!(
        (record.ttl, prefixes(&[record])),
        (Ttl(1), vec!["[0]10.1.0.0/16".to_owned()])
    );
}

#[test]
fn unregistered_space_of_one_site_is_not_answered_with_anothers_wider_prefix() {
    let mut server = Server::new(config(vec![
        site("plant", &["10.0.0.0/8"]),
        site("branch", &["10.1.0.0/16"]),
    ]));
    register(&mut server, &mut Xtr::new(1), &["10.0.0.0/8"], true);
    let record = negative(&mut server, "10.1.2.3");
    assert_eq!(prefixes(&[record]), ["[0]10.1.0.0/16"]);
    let sent = server.deliver(ITR, &ask("10.2.2.3"));
    assert_eq!(
        prefixes(&map_reply(&sent).records),
        ["[0]10.2.0.0/15"],
        "cut around the branch"
    );
}

#[test]
fn a_registration_that_ran_out_is_no_match_even_before_it_is_swept() {
    let (mut server, _) = plant(false);
    server.now += std::time::Duration::from_secs(180);
    let record = negative(&mut server, "[1]10.1.2.3");
    assert_eq!(prefixes(&[record]), ["[1]10.0.0.0/8"]);
}

#[test]
fn an_etr_without_a_usable_locator_counts_as_unregistered() {
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"])]));
    let mut xtr = Xtr {
        rlocs: vec![ip("0.0.0.0")],
        ..Xtr::new(1)
    };
    register(&mut server, &mut xtr, &["10.1.0.0/16"], false);
    let record = negative(&mut server, "10.1.2.3");
    assert_eq!(
        (record.ttl, prefixes(&[record])),
        (Ttl(1), vec!["[0]10.1.0.0/16".to_owned()])
    );
}

// ---- refusals ----

#[track_caller]
fn dropped(server: &mut Server, from: &str, bytes: &[u8], word: &'static str) {
    assert_eq!(server.deliver(from, bytes), []);
    server.counted(&[(word, 1)]);
}

fn with(change: impl FnOnce(&mut MapRequest)) -> MapRequest {
    let mut request = request("[1]10.1.2.3", "203.0.113.9");
    change(&mut request);
    request
}

#[test]
fn probes_and_smrs_are_dropped_in_an_ecm_or_not() {
    let (mut server, _) = plant(true);
    let probe = with(|request| request.probe = true);
    dropped(&mut server, ITR, &probe.encode(), "probe-dropped");
    dropped(&mut server, ITR, &ecm("[1]10.1.2.3", &probe).encode(), "probe-dropped");
    let smr = with(|request| request.smr = true);
    dropped(&mut server, ITR, &smr.encode(), "smr-dropped");
    dropped(&mut server, ITR, &ecm("[1]10.1.2.3", &smr).encode(), "smr-dropped");
}

#[test]
fn an_smr_invoked_map_request_is_answered() {
    let (mut server, _) = plant(true);
    let invoked = with(|request| request.smr_invoked = true);
    assert_eq!(server.deliver(ITR, &ecm("[1]10.1.2.3", &invoked).encode()).len(), 1);
}

#[test]
fn itr_rlocs_that_nobody_may_be_answered_at_are_refused() {
    for bad in [
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.5",
        "::",
        "ff02::1",
        "fe80::1",
        "::ffff:203.0.113.1",
        "127.0.0.1",
        "::1",
        SERVER,
        "2001:db8::254",
    ] {
        for proxy in [true, false] {
            let (mut server, _) = plant(proxy);
            let asked = with(|request| request.itr_rlocs = vec![AfiAddress::Ip(ip(bad))]);
            dropped(&mut server, ITR, &ecm("[1]10.1.2.3", &asked).encode(), "no-itr-rloc");
            dropped(&mut server, ITR, &asked.encode(), "no-itr-rloc");
        }
    }
}

#[test]
fn an_itr_rloc_that_is_no_address_is_none() {
    let (mut server, _) = plant(true);
    let asked = with(|request| request.itr_rlocs = vec![AfiAddress::None]);
    dropped(&mut server, ITR, &ecm("[1]10.1.2.3", &asked).encode(), "no-itr-rloc");
}

#[test]
fn ports_that_no_control_message_comes_from_are_refused() {
    let (mut server, _) = plant(true);
    for port in [0, 4341] {
        let from = format!("203.0.113.9:{port}");
        dropped(&mut server, &from, &with(|_| {}).encode(), "no-itr-rloc");
    }
}

#[test]
fn the_itr_rloc_that_the_request_came_from_is_preferred_then_its_family() {
    let (mut server, _) = plant(true);
    let rlocs = |list: &[&str]| {
        let list = list.iter().map(|text| AfiAddress::Ip(ip(text))).collect();
        with(|request| request.itr_rlocs = list)
    };
    let mut to = |list: &[&str]| {
        let sent = server.deliver(ITR, &ecm("[1]10.1.2.3", &rlocs(list)).encode());
        sent[0].destination.ip().to_string()
    };
    assert_eq!(to(&["198.51.100.200", "203.0.113.9"]), "203.0.113.9");
    assert_eq!(to(&["2001:db8:9::9", "198.51.100.200"]), "198.51.100.200");
    assert_eq!(to(&["0.0.0.0", "2001:db8:9::9"]), "2001:db8:9::9");
}

#[test]
fn a_family_that_we_cannot_send_in_is_no_choice() {
    let mut only_v4 = config(vec![site("plant", &["[1]10.0.0.0/8"])]);
    only_v4.addresses = vec![ip(SERVER)];
    let mut server = Server::new(only_v4);
    let asked = with(|request| request.itr_rlocs = vec![AfiAddress::Ip(ip("2001:db8:9::9"))]);
    dropped(&mut server, ITR, &ecm("[1]10.1.2.3", &asked).encode(), "no-itr-rloc");
}

#[test]
fn other_contents_of_an_ecm_are_dropped_under_their_names() {
    let (mut server, mut xtr) = plant(true);
    let plain = ecm("[1]10.1.2.3", &with(|_| {}));
    dropped(
        &mut server,
        ITR,
        &Ecm {
            to_etr: true,
            ..plain.clone()
        }
        .encode(),
        "ecm-to-etr",
    );
    dropped(
        &mut server,
        ITR,
        &Ecm {
            ddt: true,
            ..plain.clone()
        }
        .encode(),
        "ddt-request",
    );
    let register = xtr.register(&["[1]10.1.0.0/16"]);
    dropped(
        &mut server,
        ITR,
        &Ecm {
            payload: register,
            ..plain.clone()
        }
        .encode(),
        "ecm-content",
    );
    dropped(
        &mut server,
        ITR,
        &Ecm {
            payload: vec![0x10, 0, 0, 1],
            ..plain.clone()
        }
        .encode(),
        "malformed",
    );
    let bytes = plain.encode();
    for end in [1, 4, 12, 40, bytes.len() - 1] {
        dropped(&mut server, ITR, &bytes[..end], "malformed");
    }
}

#[test]
fn an_eid_that_is_no_ip_address_is_not_looked_up() {
    let (mut server, _) = plant(true);
    let asked = with(|request| {
        request.records = vec![RequestRecord {
            notify: false,
            mask_len: 0,
            eid: AfiAddress::Name(b"host".to_vec()),
        }];
    });
    dropped(
        &mut server,
        ITR,
        &ecm("[1]10.1.2.3", &asked).encode(),
        "unsupported-eid",
    );
}

#[test]
fn with_the_d_bit_no_map_reply_is_sent() {
    let (mut server, _) = plant(true);
    let asked = with(|request| request.dont_reply = true);
    assert_eq!(server.deliver(ITR, &ecm("[1]10.1.2.3", &asked).encode()), []);
    server.counted(&[("map-request", 1), ("reply-not-wanted", 1)]);
}

#[test]
fn several_records_are_answered_in_one_map_reply_and_one_copy_to_one_etr() {
    let (mut server, _) = plant(true);
    register(
        &mut server,
        &mut Xtr::new(2),
        &["[1]10.2.0.0/16", "[1]10.3.0.0/16"],
        false,
    );
    let asked = with(|request| {
        let more = ["[1]10.2.0.1", "[1]10.3.0.1", "[1]10.9.0.1", "[1]10.9.0.2"];
        request
            .records
            .extend(more.iter().map(|target| RequestRecord::for_eid(&eid(target))));
    });
    save_up(&mut server);
    server.counted(&[("map-request", 4), ("reply-not-wanted", 4)]);
    let sent = server.deliver(ITR, &ecm("[1]10.1.2.3", &asked).encode());
    server.counted(&[
        ("map-request", 1),
        ("proxy-reply", 1),
        ("negative-unregistered", 1),
        ("forwarded", 1),
    ]);
    assert_eq!(sent.len(), 2);
    let reply = MapReply::decode(&sent[0].payload).unwrap();
    assert_eq!(prefixes(&reply.records), ["[1]10.1.0.0/16", "[1]10.8.0.0/13"]);
    assert_eq!(sent[1].destination, Xtr::new(2).address);
}

#[test]
fn many_records_of_many_etrs_make_one_copy() {
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"])]));
    for number in 1..=16u8 {
        register(
            &mut server,
            &mut Xtr::new(number),
            &[&format!("10.{number}.0.0/16")],
            false,
        );
    }
    let mut asked = request("10.1.2.3", "203.0.113.9");
    asked
        .records
        .extend((2..=16).map(|number| RequestRecord::for_eid(&eid(&format!("10.{number}.2.3")))));
    let bytes = ecm("10.1.2.3", &asked).encode();
    let (mut bytes_in, mut bytes_out) = (0, 0);
    for _ in 0..20 {
        bytes_in += bytes.len() + HEADERS;
        let sent = server.deliver(ITR, &bytes);
        bytes_out += sent
            .iter()
            .map(|transmit| transmit.payload.len() + HEADERS)
            .sum::<usize>();
        assert!(bytes_out <= bytes_in, "{bytes_out} > {bytes_in}");
        let [copy] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(
            copy.destination,
            Xtr::new(1).address,
            "the first record says whose it is"
        );
    }
    server.counted(&[("map-request", 20), ("forwarded", 20), ("further-etr", 20 * 15)]);
}

#[test]
fn answers_and_copies_together_are_not_more_than_what_came_in() {
    let (mut server, _) = plant(true);
    register(&mut server, &mut Xtr::new(2), &["[1]10.2.0.0/16"], false);
    let asked = with(|request| {
        let more = ["[1]10.2.0.1", "[1]10.9.0.1", "[1]192.0.2.1"];
        request
            .records
            .extend(more.iter().map(|target| RequestRecord::for_eid(&eid(target))));
    });
    let bytes = ecm("[1]10.1.2.3", &asked).encode();
    let (mut bytes_in, mut bytes_out, mut transmits) = (0, 0, 0);
    for _ in 0..40 {
        bytes_in += bytes.len() + HEADERS;
        let sent = server.deliver(ITR, &bytes);
        transmits += sent.len();
        bytes_out += sent
            .iter()
            .map(|transmit| transmit.payload.len() + HEADERS)
            .sum::<usize>();
        assert!(bytes_out <= bytes_in, "{bytes_out} > {bytes_in}");
    }
    assert!(transmits > 0);
}

#[test]
fn a_third_party_is_not_flooded_by_way_of_etrs_either() {
    let (mut server, _) = plant(false);
    let victim = with(|request| request.itr_rlocs = vec![AfiAddress::Ip(ip("192.0.2.66"))]);
    let bytes = ecm("[1]10.1.2.3", &victim).encode();
    let copies: usize = (0..1000u32)
        .map(|source| {
            let from = format!("203.0.{}.{}:4342", source / 250, source % 250 + 1);
            server.deliver(&from, &bytes).len()
        })
        .sum();
    assert_eq!(copies, Limits::default().third_party_replies_per_second as usize);
}

// ---- amplification ----

/// IPv4 and UDP headers.
const HEADERS: usize = 28;

#[test]
fn no_source_gets_more_bytes_than_it_sent_whatever_it_asks() {
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"])]));
    let mut xtr = Xtr {
        rlocs: (1..=24).map(|n| ip(&format!("2001:db8::{n}"))).collect(),
        ..Xtr::new(1)
    };
    let eids: Vec<String> = (0..12)
        .map(|n| format!("10.{n}.0.0/16"))
        .chain(["10.0.0.0/8".to_owned()])
        .collect();
    for eids in &eids {
        register(&mut server, &mut xtr, &[eids], true);
    }
    let (mut bytes_in, mut bytes_out) = (0, 0);
    for target in ["10.1.2.3", "10.200.0.1", "192.0.2.1", "10.0.0.1"] {
        for _ in 0..50 {
            let asked = ask(target);
            bytes_in += asked.len() + HEADERS;
            let sent = server.deliver(ITR, &asked);
            // To a registered ETR it is one copy of what came in; to the address in the request, only what is paid.
            let replies = sent
                .iter()
                .filter(|transmit| transmit.destination.ip() == ip("203.0.113.9"));
            bytes_out += replies.map(|transmit| transmit.payload.len() + HEADERS).sum::<usize>();
            assert!(sent.iter().map(|transmit| transmit.payload.len()).sum::<usize>() <= bytes_in);
            assert!(bytes_out <= bytes_in, "{bytes_out} > {bytes_in}");
        }
    }
    assert!(bytes_out > 0);
}

#[test]
fn a_reply_that_is_not_paid_for_is_left_to_the_etr() {
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"])]));
    let mut xtr = Xtr {
        rlocs: (1..=24).map(|n| ip(&format!("198.51.100.{n}"))).collect(),
        ..Xtr::new(1)
    };
    register(&mut server, &mut xtr, &["10.1.0.0/16"], true);
    let sent = server.deliver(ITR, &ask("10.1.2.3"));
    server.counted(&[("map-request", 1), ("forwarded", 1)]);
    assert!(Ecm::decode(&sent[0].payload).unwrap().to_etr);
}

#[test]
fn a_third_party_is_not_flooded_by_many_sources() {
    let (mut server, _) = plant(true);
    let victim = with(|request| request.itr_rlocs = vec![AfiAddress::Ip(ip("192.0.2.66"))]);
    let bytes = ecm("[1]10.1.2.3", &victim).encode();
    let mut hit = 0;
    for source in 0..1000u32 {
        let from = format!("203.0.{}.{}:4342", source / 250, source % 250 + 1);
        let sent = server.deliver(&from, &bytes);
        hit += sent
            .iter()
            .filter(|transmit| transmit.destination.ip() == ip("192.0.2.66"))
            .count();
    }
    assert_eq!(hit, Limits::default().third_party_replies_per_second as usize);
}

#[test]
fn a_flood_from_one_source_is_cut_and_others_are_served() {
    let (mut server, _) = plant(true);
    let answered = (0..1000)
        .filter(|_| !server.deliver(ITR, &ask("[1]10.1.2.3")).is_empty())
        .count();
    let burst = u64::from(Limits::default().request_burst);
    assert_eq!(answered as u64, burst);
    server.counted(&[
        ("map-request", burst),
        ("proxy-reply", burst),
        ("budget-exceeded", 1000 - burst),
    ]);
    let asked = ecm("[1]10.1.2.3", &request("[1]10.1.2.3", "203.0.113.10")).encode();
    assert_eq!(server.deliver("203.0.113.10:4342", &asked).len(), 1);
}
