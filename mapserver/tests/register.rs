//! Map-Register: who may register what, and every attack of `lisp-wire.md` §5.5 refused under its name.

mod common;

use std::time::Duration;

use common::*;
use lisp::Ttl;
use lisp::wire::{AfiAddress, AuthAlgorithm, Lcaf, MapNotify, RlocRecord};
use mapserver::{Command, Event, Limits, NotifyPort, SitePrefix};

const OK: [(&str, u64); 3] = [("map-register", 1), ("registered", 1), ("map-notify-sent", 1)];

#[test]
fn a_registration_is_acknowledged_with_the_same_nonce_and_records() {
    let mut server = Server::new(config(vec![site("plant", &["[7]10.7.0.0/16"])]));
    let mut xtr = Xtr::new(1);
    let sent = server.deliver(&xtr.from(), &xtr.clone().register(&["[7]10.7.1.0/24"]));
    let [notify] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(notify.destination, xtr.address);
    assert_eq!(notify.source, Some(ip(SERVER)), "from the address that was asked");
    let message = xtr.message(&["[7]10.7.1.0/24"]);
    let notify = xtr.open(notify);
    assert_eq!(notify.nonce, message.nonce);
    assert_eq!(notify.records, message.records);
    server.counted(&OK);
    assert_eq!(server.registered(), ["[7]10.7.1.0/24"]);
    assert!(matches!(&server.events()[..], [Event::Registered { site, .. }] if site == "plant"));
}

#[test]
fn without_the_m_bit_there_is_no_answer() {
    let mut server = Server::new(config(vec![site("plant", &["[7]10.7.0.0/16"])]));
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register_with(&["[7]10.7.1.0/24"], |message| message.want_map_notify = false);
    assert_eq!(server.deliver(&xtr.from(), &bytes), []);
    server.counted(&[("map-register", 1), ("registered", 1)]);
}

#[test]
fn a_map_notify_goes_to_the_observed_port_or_to_4342_as_configured() {
    let mut xtr = Xtr::new(1);
    let mut config = config(vec![site("plant", &["10.0.0.0/8"])]);
    let mut server = Server::new(config.clone());
    let sent = server.deliver("198.51.100.1:61000", &xtr.register(&["10.1.0.0/16"]));
    assert_eq!(sent[0].destination.port(), 61000);
    config.notify_port = NotifyPort::Control;
    server
        .machine
        .handle_command(server.now, Command::Reconfigure(config))
        .unwrap();
    let sent = server.deliver("198.51.100.1:61000", &xtr.register(&["10.1.0.0/16"]));
    assert_eq!(sent[0].destination.port(), 4342);
}

#[test]
fn a_registration_runs_out_after_three_minutes_unless_refreshed() {
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"])]));
    let mut xtr = Xtr::new(1);
    server.deliver(&xtr.from(), &xtr.clone().register(&["10.1.0.0/16"]));
    server.pass(Duration::from_secs(120));
    xtr.nonce += 1;
    server.deliver(&xtr.from(), &xtr.clone().register(&["10.1.0.0/16"]));
    server.pass(Duration::from_secs(179));
    assert_eq!(server.registered(), ["10.1.0.0/16"].map(|p| format!("[0]{p}")));
    server.pass(Duration::from_secs(1));
    assert!(server.registered().is_empty());
    server.pass(Duration::from_secs(2));
    server.counted(&[
        ("map-register", 2),
        ("registered", 1),
        ("refreshed", 1),
        ("map-notify-sent", 2),
        ("expired", 1),
    ]);
    assert!(server.machine.store().table().is_empty());
    assert_eq!(server.machine.poll_timeout(), None, "an idle Map-Server sleeps");
}

#[test]
fn the_t_bit_makes_the_record_ttl_the_life() {
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"])]));
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register_with(&["10.1.0.0/16"], |message| {
        message.use_ttl = true;
        message.records[0].ttl = Ttl(10);
    });
    server.deliver(&xtr.from(), &bytes);
    server.pass(Duration::from_secs(599));
    assert_eq!(server.registered().len(), 1);
    server.pass(Duration::from_secs(1));
    assert_eq!(server.registered().len(), 0);
}

#[test]
fn ttl_zero_deregisters_at_once_and_is_acknowledged() {
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"])]));
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["10.1.0.0/16", "10.2.0.0/16"]);
    server.deliver(&xtr.from(), &bytes);
    server.counted(&[("map-register", 1), ("registered", 2), ("map-notify-sent", 1)]);
    let bytes = xtr.deregister(&["10.1.0.0/16"]);
    let sent = server.deliver(&xtr.from(), &bytes);
    assert_eq!(prefixes(&xtr.open(&sent[0]).records), ["[0]10.1.0.0/16"]);
    server.counted(&[("map-register", 1), ("deregistered", 1), ("map-notify-sent", 1)]);
    assert_eq!(server.registered(), ["[0]10.2.0.0/16"]);
}

#[test]
fn without_merge_a_new_locator_set_replaces_the_old_one() {
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"])]));
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["10.1.0.0/16"]);
    server.deliver(&xtr.from(), &bytes);
    xtr.rlocs = vec![ip("198.51.100.77")];
    let bytes = xtr.register(&["10.1.0.0/16"]);
    server.deliver(&xtr.from(), &bytes);
    server.counted(&[("map-register", 2), ("registered", 2), ("map-notify-sent", 2)]);
    assert_eq!(
        rlocs(&server.machine.registrations(server.now)[0].record),
        ["198.51.100.77"]
    );
}

#[test]
fn locators_that_nobody_knows_are_kept_untouched() {
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"])]));
    let mut xtr = Xtr::new(1);
    let strange = |lcaf| RlocRecord {
        rloc: AfiAddress::Lcaf(Box::new(lcaf)),
        ..rloc("192.0.2.7")
    };
    let added = [
        strange(Lcaf::Vendor {
            oui: [0x02, 0xaa, 0xbb],
            data: (0..200).collect(),
        }),
        strange(Lcaf::Unknown {
            rsvd1: 1,
            flags: 2,
            kind: 200,
            rsvd2: 3,
            body: vec![9, 8, 7],
        }),
    ];
    let bytes = xtr.register_with(&["10.1.0.0/16"], |message| {
        message.records[0].locators.extend(added.clone());
    });
    let sent = server.deliver(&xtr.from(), &bytes);
    let stored = &server.machine.registrations(server.now)[0].record;
    assert_eq!(stored.locators[1..], added);
    assert_eq!(xtr.open(&sent[0]).records[0].locators[1..], added);
}

// ---- refusals: state must not change, and each has its own word ----

#[track_caller]
fn refused(server: &mut Server, from: &str, bytes: &[u8], reason: &'static str) {
    let before = server.machine.store().snapshot();
    assert_eq!(
        server.deliver(from, bytes),
        [],
        "a refused Map-Register is not answered"
    );
    server.counted(&[(reason, 1)]);
    assert_eq!(server.machine.store().snapshot(), before);
}

fn plant() -> Server {
    Server::new(config(vec![site("plant", &["10.0.0.0/8"])]))
}

#[test]
fn a_forged_mac_is_refused_wherever_a_bit_is_flipped() {
    let mut server = plant();
    let mut xtr = Xtr::new(1);
    let good = xtr.register(&["10.1.0.0/16"]);
    for byte in [16, 31, good.len() - 1, good.len() - 8, good.len() - 24] {
        let mut bad = good.clone();
        bad[byte] ^= 1;
        refused(&mut server, &xtr.from(), &bad, "bad-mac");
    }
    let thief = Xtr {
        secret: b"guess".to_vec(),
        ..xtr.clone()
    };
    let forged = thief.clone().register(&["10.1.0.0/16"]);
    refused(&mut server, &xtr.from(), &forged, "bad-mac");
    server.deliver(&xtr.from(), &good);
    server.counted(&OK);
}

#[test]
fn algorithm_zero_is_refused() {
    let mut xtr = Xtr::new(1);
    let mut message = xtr.message(&["10.1.0.0/16"]);
    message.authentication.algorithm_id = 0;
    message.authentication.mac.clear();
    refused(&mut plant(), &xtr.from(), &message.encode(), "algorithm-refused");
}

#[test]
fn hmac_sha1_is_refused_unless_named() {
    let mut xtr = Xtr {
        algorithm: AuthAlgorithm::HmacSha1,
        ..Xtr::new(1)
    };
    let bytes = xtr.register(&["10.1.0.0/16"]);
    refused(&mut plant(), &xtr.from(), &bytes, "algorithm-refused");
    let mut named = site("plant", &["10.0.0.0/8"]);
    named.keys[0].algorithms.push(AuthAlgorithm::HmacSha1);
    let mut server = Server::new(config(vec![named]));
    server.deliver(&xtr.from(), &bytes);
    server.counted(&OK);
}

#[test]
fn hkdf_is_spoken_when_accepted_and_answered_in_kind() {
    let mut modern = site("plant", &["10.0.0.0/8"]);
    modern.keys[0].algorithms = vec![AuthAlgorithm::HmacSha256_128HkdfSha256];
    let mut server = Server::new(config(vec![modern]));
    let mut xtr = Xtr {
        algorithm: AuthAlgorithm::HmacSha256_128HkdfSha256,
        ..Xtr::new(1)
    };
    let bytes = xtr.register(&["10.1.0.0/16"]);
    let sent = server.deliver(&xtr.from(), &bytes);
    assert_eq!(xtr.open(&sent[0]).authentication.algorithm_id, 3);
    let mut old = Xtr::new(2);
    let bytes = old.register(&["10.2.0.0/16"]);
    server.counted(&OK);
    refused(&mut server, &old.from(), &bytes, "algorithm-refused");
}

#[test]
fn an_unknown_key_id_is_refused() {
    let mut xtr = Xtr {
        key_id: 9,
        ..Xtr::new(1)
    };
    let bytes = xtr.register(&["10.1.0.0/16"]);
    refused(&mut plant(), &xtr.from(), &bytes, "unknown-key-id");
    let mut nobody = Xtr {
        key_id: 9,
        secret: b"x".to_vec(),
        ..Xtr::new(1)
    };
    let bytes = nobody.register(&["10.1.0.0/16"]);
    refused(&mut plant(), &xtr.from(), &bytes, "unknown-key-id");
}

#[test]
fn a_truncated_hmac_is_refused() {
    let mut server = plant();
    for length in [0, 1, 4, 8, 12, 15, 17, 20, 31] {
        let mut xtr = Xtr::new(1);
        let mut message = xtr.message(&["10.1.0.0/16"]);
        // The right MAC, cut.
        let signed = xtr.sign(&message);
        message.authentication.mac = signed[16..16 + length].to_vec();
        refused(&mut server, &xtr.from(), &message.encode(), "bad-mac-length");
    }
}

#[test]
fn a_replay_is_refused_from_wherever_it_comes() {
    let mut server = plant();
    let mut xtr = Xtr::new(1);
    let old = xtr.register(&["10.1.0.0/16"]);
    server.deliver(&xtr.from(), &old);
    server.counted(&OK);
    refused(&mut server, &xtr.from(), &old, "replayed-nonce");
    refused(&mut server, "203.0.113.66:4342", &old, "replayed-nonce");
    let new = xtr.register(&["10.1.0.0/16"]);
    server.deliver(&xtr.from(), &new);
    server.counted(&[("map-register", 1), ("refreshed", 1), ("map-notify-sent", 1)]);
    refused(&mut server, &xtr.from(), &old, "replayed-nonce");
}

#[test]
fn an_xtr_without_an_id_cannot_be_replayed_from_another_address_either() {
    let mut server = plant();
    let mut xtr = Xtr {
        xtr: None,
        ..Xtr::new(1)
    };
    let old = xtr.register(&["10.1.0.0/16"]);
    server.deliver(&xtr.from(), &old);
    server.counted(&OK);
    refused(&mut server, "203.0.113.66:4342", &old, "replayed-nonce");
    // Another xTR of the site, for another prefix, has a counter of its own.
    let mut other = Xtr {
        xtr: None,
        nonce: 1,
        ..Xtr::new(2)
    };
    let bytes = other.register(&["10.2.0.0/16"]);
    server.deliver(&other.from(), &bytes);
    server.counted(&OK);
}

#[test]
fn nonces_of_two_xtrs_do_not_disturb_each_other() {
    let mut server = plant();
    let (mut one, mut two) = (
        Xtr {
            nonce: 5000,
            ..Xtr::new(1)
        },
        Xtr {
            nonce: 5,
            ..Xtr::new(2)
        },
    );
    let bytes = [one.register(&["10.1.0.0/16"]), two.register(&["10.2.0.0/16"])];
    server.deliver(&one.from(), &bytes[0]);
    server.deliver(&two.from(), &bytes[1]);
    server.counted(&[("map-register", 2), ("registered", 2), ("map-notify-sent", 2)]);
}

#[test]
fn a_prefix_outside_the_site_is_refused_with_everything_else_in_the_message() {
    let mut server = plant();
    let mut xtr = Xtr::new(1);
    for eids in [
        &["11.0.0.0/8"][..],
        &["10.1.0.0/16", "11.0.0.0/8"],
        &["0.0.0.0/0"],
        &["[9]10.1.0.0/16"],
    ] {
        let bytes = xtr.register(eids);
        refused(&mut server, &xtr.from(), &bytes, "prefix-not-owned");
    }
}

#[test]
fn another_sites_prefix_cannot_be_taken() {
    let mut other = site("office", &["11.0.0.0/8"]);
    other.keys = vec![key(2, b"another secret")];
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"]), other]));
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["11.1.0.0/16"]);
    refused(&mut server, &xtr.from(), &bytes, "unknown-key-id");
    let bytes = xtr.register(&["10.1.0.0/16", "11.1.0.0/16"]);
    refused(&mut server, &xtr.from(), &bytes, "prefix-not-owned");
    let mut guess = Xtr {
        key_id: 2,
        ..xtr.clone()
    };
    let bytes = guess.register(&["11.1.0.0/16"]);
    refused(&mut server, &xtr.from(), &bytes, "bad-mac");
}

#[test]
fn one_message_cannot_carry_records_of_sites_with_different_secrets() {
    let mut other = site("office", &["11.0.0.0/8"]);
    other.keys = vec![key(1, b"another secret under the same key-id")];
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"]), other]));
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["10.1.0.0/16", "11.1.0.0/16"]);
    refused(&mut server, &xtr.from(), &bytes, "prefix-not-owned");
    let mut shared = site("office", &["11.0.0.0/8"]);
    shared.keys = vec![key(1, SECRET)];
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"]), shared]));
    let bytes = xtr.register(&["10.1.0.0/16", "11.1.0.0/16"]);
    server.deliver(&xtr.from(), &bytes);
    server.counted(&[("map-register", 1), ("registered", 2), ("map-notify-sent", 1)]);
}

#[test]
fn the_p_bit_and_the_a_bit_are_not_stored() {
    let mut server = plant();
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register_with(&["10.1.0.0/16"], |message| {
        message.records[0].authoritative = true;
        message.records[0].locators[0].probed = true;
        message.records[0].locators[0].local = true;
    });
    server.deliver(&xtr.from(), &bytes);
    let record = &server.machine.registrations(server.now)[0].record;
    assert!(!record.authoritative && !record.locators[0].probed && record.locators[0].local);
}

#[test]
fn space_delegated_to_a_site_is_closed_to_the_owner_of_the_rest() {
    let mut branch = site("branch", &["10.1.0.0/16"]);
    branch.keys = vec![key(2, b"branch secret")];
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8"]), branch]));
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["10.1.2.0/24"]);
    refused(&mut server, &xtr.from(), &bytes, "unknown-key-id");
}

#[test]
fn exact_prefixes_are_exact() {
    let mut exact = site("plant", &[]);
    exact.prefixes = vec![SitePrefix {
        prefix: prefix("10.0.0.0/8"),
        accept_more_specifics: false,
    }];
    let mut server = Server::new(config(vec![exact]));
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["10.1.0.0/16"]);
    refused(&mut server, &xtr.from(), &bytes, "more-specific-refused");
    let bytes = xtr.register(&["10.0.0.0/8"]);
    server.deliver(&xtr.from(), &bytes);
    server.counted(&OK);
}

#[test]
fn the_same_eid_in_two_instances_is_two_eids() {
    let mut blue = site("blue", &["[2]10.0.0.0/8"]);
    blue.keys = vec![key(1, b"blue secret")];
    let mut server = Server::new(config(vec![site("red", &["[1]10.0.0.0/8"]), blue]));
    let mut red = Xtr::new(1);
    let mut blue = Xtr {
        secret: b"blue secret".to_vec(),
        ..Xtr::new(2)
    };
    let (a, b) = (red.register(&["[1]10.1.0.0/16"]), blue.register(&["[2]10.1.0.0/16"]));
    server.deliver(&red.from(), &a);
    server.deliver(&blue.from(), &b);
    server.counted(&[("map-register", 2), ("registered", 2), ("map-notify-sent", 2)]);
    let bytes = red.deregister(&["[1]10.1.0.0/16"]);
    server.deliver(&red.from(), &bytes);
    assert_eq!(server.registered(), ["[2]10.1.0.0/16"]);
    let bytes = red.register(&["[2]10.1.0.0/16"]);
    server.counted(&[("map-register", 1), ("deregistered", 1), ("map-notify-sent", 1)]);
    refused(&mut server, &red.from(), &bytes, "bad-mac");
}

#[test]
fn empty_and_broken_messages_are_refused() {
    let mut server = plant();
    let mut xtr = Xtr::new(1);
    let empty = xtr.register(&[]);
    refused(&mut server, &xtr.from(), &empty, "no-records");
    let bytes = xtr.register(&["10.1.0.0/16"]);
    for end in [1, 4, 12, 16, 40, bytes.len() - 1] {
        refused(&mut server, &xtr.from(), &bytes[..end], "malformed");
    }
    assert_eq!(server.deliver(&xtr.from(), &[]), []);
    server.counted(&[("malformed", 1)]);
}

#[test]
fn keys_rotate_without_a_gap() {
    let mut both = site("plant", &["10.0.0.0/8"]);
    both.keys.push(key(2, b"the next secret"));
    let mut server = Server::new(config(vec![both.clone()]));
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["10.1.0.0/16"]);
    server.deliver(&xtr.from(), &bytes);
    // The xTR changes over. RFC 9301 §5.6: with a new key its nonces may start anew.
    let mut next = Xtr {
        key_id: 2,
        secret: b"the next secret".to_vec(),
        nonce: 1,
        ..xtr.clone()
    };
    let bytes = next.register(&["10.1.0.0/16"]);
    let sent = server.deliver(&next.from(), &bytes);
    assert_eq!(
        next.open(&sent[0]).authentication.key_id,
        2,
        "acknowledged with the key it was signed with"
    );
    server.counted(&[
        ("map-register", 2),
        ("registered", 1),
        ("refreshed", 1),
        ("map-notify-sent", 2),
    ]);
    both.keys.remove(0);
    server
        .machine
        .handle_command(server.now, Command::Reconfigure(config(vec![both])))
        .unwrap();
    assert_eq!(server.registered(), ["[0]10.1.0.0/16"], "what stood stays");
    let bytes = xtr.register(&["10.1.0.0/16"]);
    refused(&mut server, &xtr.from(), &bytes, "unknown-key-id");
}

#[test]
fn what_the_new_configuration_does_not_allow_is_removed() {
    let mut server = Server::new(config(vec![site("plant", &["10.0.0.0/8", "11.0.0.0/8"])]));
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["10.1.0.0/16", "11.1.0.0/16"]);
    server.deliver(&xtr.from(), &bytes);
    let less = config(vec![site("plant", &["11.0.0.0/8"])]);
    server
        .machine
        .handle_command(server.now, Command::Reconfigure(less))
        .unwrap();
    assert_eq!(server.registered(), ["[0]11.1.0.0/16"]);
    let wrong = config(vec![site("plant", &["11.0.0.0/8"]), site("plant", &[])]);
    assert!(
        server
            .machine
            .handle_command(server.now, Command::Reconfigure(wrong))
            .is_err()
    );
    assert_eq!(
        server.registered(),
        ["[0]11.1.0.0/16"],
        "a wrong configuration changes nothing"
    );
    server
        .machine
        .handle_command(server.now, Command::Clear(prefix("11.1.0.0/16")))
        .unwrap();
    assert!(server.registered().is_empty());
}

#[test]
fn tables_are_bounded() {
    let limits = Limits {
        registrations_per_site: 2,
        nonces_per_key: 2,
        ..Limits::default()
    };
    let mut server = Server::new(mapserver::MapServerConfig {
        limits,
        ..config(vec![site("plant", &["10.0.0.0/8"])])
    });
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]);
    refused(&mut server, &xtr.from(), &bytes, "table-full");
    let bytes = xtr.register(&["10.1.0.0/16", "10.2.0.0/16"]);
    server.deliver(&xtr.from(), &bytes);
    let refresh = xtr.register(&["10.1.0.0/16", "10.2.0.0/16"]);
    server.deliver(&xtr.from(), &refresh);
    server.counted(&[
        ("map-register", 2),
        ("registered", 2),
        ("refreshed", 2),
        ("map-notify-sent", 2),
    ]);
    let (mut two, mut three) = (Xtr::new(2), Xtr::new(3));
    let bytes = two.deregister(&["10.1.0.0/16"]);
    server.deliver(&two.from(), &bytes);
    server.counted(&[("map-register", 1), ("deregistered", 1), ("map-notify-sent", 1)]);
    let bytes = three.deregister(&["10.1.0.0/16"]);
    refused(&mut server, &three.from(), &bytes, "table-full");
}

#[test]
fn other_messages_end_under_their_names() {
    let mut server = plant();
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["10.1.0.0/16"]);
    let reply = lisp::wire::MapReply {
        probe: false,
        echo_nonce: false,
        nonce: lisp::Nonce(1),
        records: vec![xtr.record("10.1.0.0/16")],
        security: None,
    };
    refused(&mut server, ITR, &reply.encode(), "map-reply-discarded");
    let notify = MapNotify::decode(&server.deliver(&xtr.from(), &bytes)[0].payload).unwrap();
    server.counted(&OK);
    refused(&mut server, ITR, &notify.encode(), "unexpected-message");
    refused(&mut server, ITR, &[0xf0, 1, 2, 3], "malformed");
}
