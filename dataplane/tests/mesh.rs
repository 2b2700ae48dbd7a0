//! Two nodes back to back: conversations over the mesh, and everything a data packet may be or may not be.

mod common;

use std::time::Duration;

use common::*;
use dataplane::{
    buffer::PacketBuf,
    control::{Change, Event, MappingTarget, PathHealth, PathLocator, Protection, Service},
};
use etherparse::{SlicedPacket, TcpHeader, TransportSlice};
use lisp::{NegativeAction, Rloc};

const RLOCS: [(&[&str], &[&str]); 2] = [(&["192.0.2.1"], &["192.0.2.2"]), (&["2001:db8::1"], &["2001:db8::2"])];
const EIDS: [(&str, &str, &str); 2] = [
    ("10.7.0.1", "10.7.0.2", "[7]10.7.0.2/32"),
    ("fd00::1", "fd00::2", "[7]fd00::2/128"),
];

/// Node A with guest 1, node B with guest 2, in Instance-ID 7.
fn pair(rlocs: (&[&str], &[&str])) -> (Node, Guest, Node, Guest) {
    let (mut a, mut b) = (Node::new(rlocs.0), Node::new(rlocs.1));
    a.mesh(1, 7);
    b.mesh(1, 7);
    let guest_a = a.port(1, 1, &["10.7.0.1", "fd00::1"]);
    let guest_b = b.port(2, 1, &["10.7.0.2", "fd00::2"]);
    a.map("[7]10.7.0.2/32", rlocs.1);
    a.map("[7]fd00::2/128", rlocs.1);
    b.map("[7]10.7.0.1/32", rlocs.0);
    b.map("[7]fd00::1/128", rlocs.0);
    a.skip();
    b.skip();
    (a, guest_a, b, guest_b)
}

#[test]
fn a_ping_and_its_answer_in_all_four_combinations() {
    for rlocs in RLOCS {
        for (source, destination, _) in EIDS {
            let (mut a, guest_a, mut b, guest_b) = pair(rlocs);
            let request = Spec {
                tos: 0x2a,
                ..Spec::new(&guest_a, source, destination)
            }
            .echo(true, 99);
            let mut out = a.send(&guest_a, &request);
            assert_eq!(out.to_uplinks.len(), 1);
            let run = &mut out.to_uplinks[0];
            assert_eq!(
                (run.ttl, run.tos, run.count()),
                (63, 0x2a, 1),
                "TTL, DSCP and ECN are carried outside"
            );
            assert_eq!((run.local, run.remote), (ip(rlocs.0[0]), (ip(rlocs.1[0]), 4341).into()));
            assert_eq!(
                &run.bytes()[..8],
                &clear(7),
                "the header says Instance-ID 7 and nothing else"
            );
            assert_checksums(&run.bytes()[8..]);
            a.assert_moved(&[
                ("guest_port.guest1/net0.rx_packets", 1),
                ("flow.misses", 1),
                ("connection.opened", 1),
                ("itr.encapsulated", 1),
                ("uplink.eth0.tx_packets", 1),
            ]);
            let out = b.receive(out.to_uplinks, 3);
            let (port, frame) = one_frame(&out);
            assert_eq!(port, guest_b.port);
            assert_eq!((&frame[..6], &frame[6..12]), (&guest_b.mac[..], &GATEWAY_MAC[..]));
            assert_checksums(&frame[14..]);
            let ttl = if source.contains(':') { frame[21] } else { frame[22] };
            assert_eq!(ttl, 60, "TTL is the smaller of inner and outer");
            b.assert_moved(&[
                ("uplink.eth0.rx_packets", 1),
                ("flow.misses", 1),
                ("connection.opened", 1),
                ("etr.decapsulated", 1),
                ("guest_port.guest2/net0.tx_packets", 1),
            ]);
            let reply = Spec::new(&guest_b, destination, source).echo(false, 99);
            let out = b.send(&guest_b, &reply);
            let out = a.receive(out.to_uplinks, 3);
            assert_eq!(one_frame(&out).0, guest_a.port);
            a.assert_moved(&[
                ("uplink.eth0.rx_packets", 1),
                ("flow.misses", 1),
                ("etr.decapsulated", 1),
                ("guest_port.guest1/net0.tx_packets", 1),
            ]);
            a.send(&guest_a, &request);
            a.assert_moved(&[
                ("guest_port.guest1/net0.rx_packets", 1),
                ("flow.hits", 1),
                ("itr.encapsulated", 1),
                ("uplink.eth0.tx_packets", 1),
            ]);
        }
    }
}

#[test]
fn equal_addresses_in_two_instances_never_meet() {
    let (mut a, mut b) = (Node::new(&["192.0.2.1"]), Node::new(&["192.0.2.2"]));
    for (network, instance_id) in [(1, 7), (2, 8)] {
        a.mesh(network, instance_id);
        b.mesh(network, instance_id);
    }
    let a7 = a.port(1, 1, &["10.7.0.1"]);
    let a8 = a.port(2, 2, &["10.7.0.1"]);
    let b7 = b.port(3, 1, &["10.7.0.2"]);
    let b8 = b.port(4, 2, &["10.7.0.2"]);
    a.map("[7]10.7.0.2/32", &["192.0.2.2"]);
    a.map("[8]10.7.0.2/32", &["192.0.2.2"]);
    for (from, to) in [(a7, b7), (a8, b8), (a7, b7), (a8, b8)] {
        let out = a.send(
            &from,
            &Spec::new(&from, "10.7.0.1", "10.7.0.2").udp(1000, 2000, b"same five-tuple"),
        );
        let out = b.receive(out.to_uplinks, 1);
        assert_eq!(one_frame(&out).0, to.port);
    }
    // Only instance 8 has 10.7.0.9; in instance 7 it is a miss.
    a.map("[8]10.7.0.9/32", &["192.0.2.2"]);
    let out = a.send(&a7, &Spec::new(&a7, "10.7.0.1", "10.7.0.9").udp(1000, 2000, b"?"));
    assert_silent(&out);
    assert_eq!(misses(&out.events), ["[7]10.7.0.1 looks for [7]10.7.0.9"]);
    // An Instance-ID that B has no network for.
    b.skip();
    let inner = Spec::new(&a7, "10.7.0.1", "10.7.0.2").udp(1, 2, b"x");
    assert_silent(&b.datagram("192.0.2.1", clear(9), &inner[14..], 64, 0));
    b.assert_moved(&[
        ("uplink.eth0.rx_packets", 1),
        ("drop.unknown-instance", 1),
        ("uplink.eth0.drop.unknown-instance", 1),
    ]);
}

#[test]
fn ecn_follows_rfc_6040() {
    // Rows: inner; columns: outer Not-ECT, ECT(1), ECT(0), CE. None: dropped.
    let table = [
        (0, [Some(0), Some(0), Some(0), None]),
        (1, [Some(1), Some(1), Some(1), Some(3)]),
        (2, [Some(2), Some(1), Some(2), Some(3)]),
        (3, [Some(3), Some(3), Some(3), Some(3)]),
    ];
    for (source, destination, _) in EIDS {
        for (inner, row) in table {
            for (outer, expected) in row.into_iter().enumerate() {
                let (_, guest_a, mut b, _) = pair(RLOCS[0]);
                let packet = Spec {
                    tos: 0xb8 | inner,
                    ..Spec::new(&guest_a, source, destination)
                }
                .udp(1, 2, b"x");
                let out = b.datagram("192.0.2.1", clear(7), &packet[14..], 64, 0x20 | outer as u8);
                let Some(expected) = expected else {
                    assert_silent(&out);
                    assert_eq!(b.counters()["drop.ecn-not-capable"], 1);
                    continue;
                };
                let (_, frame) = one_frame(&out);
                let tos = if source.contains(':') {
                    frame[14] << 4 | frame[15] >> 4
                } else {
                    frame[15]
                };
                assert_eq!(
                    tos,
                    0xb8 | expected,
                    "inner {inner} outer {outer}: DSCP is the inner one"
                );
                assert_checksums(&frame[14..]);
            }
        }
    }
}

#[test]
fn what_a_data_header_may_not_say() {
    let (_, guest_a, mut b, _) = pair(RLOCS[0]);
    let packet = Spec::new(&guest_a, "10.7.0.1", "10.7.0.2").udp(1, 2, b"x");
    let inner = &packet[14..];
    let with = |flags: u8| {
        let mut header = clear(7);
        header[0] |= flags;
        header
    };
    // N, L, E and V are ignored, N and V together as well.
    for flags in [0x80, 0x40, 0xa0, 0x10, 0x90, 0xf0] {
        assert_eq!(
            b.datagram("192.0.2.1", with(flags), inner, 64, 0).to_ports.len(),
            1,
            "{flags:#x}"
        );
    }
    b.skip();
    for (header, bytes, word) in [
        (with(0x04), inner, "lisp-next-protocol"),
        (with(0x01), inner, "lisp-sealed-unknown"),
        (with(0x03), inner, "lisp-sealed-unknown"),
        (clear(7), &[][..], "malformed"),
        (clear(7), &[0x55; 40][..], "inner-family"),
        (clear(7), &inner[..19], "malformed"),
        ([0; 8], inner, "unknown-instance"),
    ] {
        assert_silent(&b.datagram("192.0.2.1", header, bytes, 64, 0));
        let (node, door) = (format!("drop.{word}"), format!("uplink.eth0.drop.{word}"));
        b.assert_moved(&[("uplink.eth0.rx_packets", 1), (&node, 1), (&door, 1)]);
    }
    let out = b.datagram("192.0.2.1", clear(0x00ff_ffff), b"control", 64, 0);
    assert_eq!(
        out.events,
        [Event::ControlInData {
            from: "192.0.2.1:40000".parse().unwrap(),
            payload: b"control".to_vec()
        }]
    );
}

#[test]
fn sources_and_destinations_that_may_not_come_from_outside() {
    let (_, guest_a, mut b, _) = pair(RLOCS[0]);
    for source in [
        "10.7.0.2",
        "127.0.0.1",
        "224.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "169.254.1.1",
    ] {
        b.skip();
        let packet = Spec::new(&guest_a, source, "10.7.0.2").udp(1, 2, b"x");
        assert_silent(&b.datagram("192.0.2.1", clear(7), &packet[14..], 64, 0));
        assert_eq!(b.counters()["drop.inner-source"], 1, "{source}");
        b = pair(RLOCS[0]).2;
    }
    // What never leaves its link: Neighbour Advertisements, Router Advertisements, redirects.
    b.skip();
    for (source, destination, kind, code) in [
        ("fd00::1", "fd00::2", 136, 0),
        ("fd00::1", "fd00::2", 134, 0),
        ("fd00::1", "fd00::2", 137, 0),
        ("10.7.0.1", "10.7.0.2", 5, 1),
    ] {
        let packet = Spec {
            ttl: 255,
            ..Spec::new(&guest_a, source, destination)
        }
        .icmp(kind, code, &[0; 40]);
        assert_silent(&b.datagram("192.0.2.1", clear(7), &packet[14..], 255, 0));
    }
    assert_eq!(b.counters()["drop.link-scoped"], 4);
    let packet = Spec::new(&guest_a, "10.7.0.1", "10.7.0.77").udp(1, 2, b"x");
    for expected in [1, 0] {
        let out = b.datagram("192.0.2.1", clear(7), &packet[14..], 64, 0);
        assert_silent(&out);
        assert_eq!(out.events.len(), expected, "once a second for each EID and RLOC");
        assert!(
            out.events
                .iter()
                .all(|event| matches!(event, Event::UnservedEid { .. }))
        );
    }
    assert_eq!(b.counters()["drop.unserved-eid"], 2);
}

#[test]
fn a_miss_asks_once_and_what_waited_goes_on_when_the_mapping_comes() {
    let (mut a, guest, _, _) = pair(RLOCS[0]);
    let packet = |port| Spec::new(&guest, "10.7.0.1", "10.7.0.50").udp(port, 2000, b"waits");
    let out = a.send(&guest, &packet(1));
    assert_eq!(misses(&out.events), ["[7]10.7.0.1 looks for [7]10.7.0.50"]);
    a.assert_moved(&[
        ("guest_port.guest1/net0.rx_packets", 1),
        ("flow.misses", 1),
        ("itr.map-cache-miss", 1),
    ]);
    for port in 2..12 {
        assert!(a.send(&guest, &packet(port)).events.is_empty());
    }
    assert_eq!(a.counters()["drop.pending-full"], 3, "eight wait for one EID");
    let out = a.map("[7]10.7.0.50/32", &["192.0.2.2"]);
    assert_eq!(out.to_uplinks.iter().map(|run| run.count()).sum::<usize>(), 8);
    assert_eq!(a.counters()["itr.released"], 8);
    // Another, for which nothing comes.
    let other = Spec::new(&guest, "10.7.0.1", "10.7.0.51").udp(1, 2, b"in vain");
    a.send(&guest, &other);
    a.tick(Duration::from_millis(2_900));
    assert_eq!(a.counters()["drop.pending-expired"], 0);
    a.tick(Duration::from_millis(200));
    assert_eq!(a.counters()["drop.pending-expired"], 1);
    assert_eq!(
        misses(&a.send(&guest, &other).events).len(),
        1,
        "and control is asked again"
    );
}

#[test]
fn negative_mappings_drop_under_their_name() {
    let (mut a, guest, _, _) = pair(RLOCS[0]);
    for (action, word) in [
        (NegativeAction::NoAction, "negative-no-action"),
        (NegativeAction::NativelyForward, "negative-natively-forward"),
        (NegativeAction::SendMapRequest, "negative-send-map-request"),
        (NegativeAction::Drop, "negative-drop"),
        (NegativeAction::DropPolicyDenied, "negative-drop-policy-denied"),
        (NegativeAction::DropAuthFailure, "negative-drop-auth-failure"),
        (NegativeAction::Unassigned(7), "negative-unassigned"),
    ] {
        a.apply(&Change::PutMapping(mapping(
            "[7]10.9.0.0/16",
            MappingTarget::Negative(action),
        )));
        a.skip();
        assert_silent(&a.send(&guest, &Spec::new(&guest, "10.7.0.1", "10.9.1.1").udp(1, 2, b"x")));
        let (node, door) = (format!("drop.{word}"), format!("guest_port.guest1/net0.drop.{word}"));
        a.assert_moved(&[
            ("guest_port.guest1/net0.rx_packets", 1),
            ("flow.misses", 1),
            (&node, 1),
            (&door, 1),
        ]);
    }
    assert_silent(&a.send(&guest, &Spec::new(&guest, "10.7.0.1", "192.168.1.1").udp(1, 2, b"x")));
    assert_eq!(a.counters()["drop.no-route"], 1, "outside of the network's prefixes");
}

#[test]
fn a_sealed_network_speaks_no_clear_and_hears_none() {
    let (mut a, guest, mut b, _) = pair(RLOCS[0]);
    for node in [&mut a, &mut b] {
        node.apply(&Change::PutNetwork(mesh(1, 7, Protection::Sealed)));
    }
    let packet = Spec::new(&guest, "10.7.0.1", "10.7.0.2").udp(1, 2, b"secret");
    assert_silent(&a.send(&guest, &packet));
    assert_eq!(a.counters()["drop.no-mesh-sa"], 1);
    assert_silent(&b.datagram("192.0.2.1", clear(7), &packet[14..], 64, 0));
    assert_eq!(b.counters()["drop.clear-in-sealed-network"], 1);
}

#[test]
fn a_flow_follows_its_mapping_and_others_do_not_notice() {
    let (mut a, guest, _, _) = pair(RLOCS[0]);
    a.map("[7]10.7.1.0/24", &["192.0.2.2"]);
    let packets = [("10.7.1.1", 1), ("10.7.1.2", 1), ("10.7.0.2", 1)]
        .map(|(to, port)| Spec::new(&guest, "10.7.0.1", to).udp(port, 2, b"x"));
    let sent = |a: &mut Node| {
        let remotes: Vec<String> = packets
            .iter()
            .map(|packet| a.send(&guest, packet).to_uplinks[0].remote.ip().to_string())
            .collect();
        let counters = a.moved();
        let hits = counters
            .iter()
            .find(|(name, _)| name == "flow.hits")
            .map_or(0, |(_, by)| *by);
        (remotes, hits)
    };
    sent(&mut a);
    assert_eq!(sent(&mut a).1, 3);
    // More specific: the covering entry's flows look again, once; the third flow does not notice.
    a.map("[7]10.7.1.2/32", &["192.0.2.9"]);
    assert_eq!(
        sent(&mut a),
        (vec!["192.0.2.2".into(), "192.0.2.9".into(), "192.0.2.2".into()], 1)
    );
    assert_eq!(sent(&mut a).1, 3);
    // The same again changes nothing.
    a.map("[7]10.7.1.2/32", &["192.0.2.9"]);
    assert_eq!(sent(&mut a).1, 3);
    // Gone: back to the covering one.
    a.apply(&Change::RemoveMapping("[7]10.7.1.2/32".parse().unwrap()));
    assert_eq!(
        sent(&mut a),
        (vec!["192.0.2.2".into(), "192.0.2.2".into(), "192.0.2.2".into()], 2)
    );
    // Down, by probing, and no other locator: it is tried all the same, since only control answers probes.
    let rloc = Rloc::new(ip("192.0.2.2"));
    a.apply(&Change::PutPathHealth(PathHealth {
        rloc,
        up: false,
        mtu: None,
    }));
    assert_eq!(sent(&mut a).0, ["192.0.2.2"; 3]);
    assert_eq!(a.counters()["drop.no-locator"], 0);
    a.apply(&Change::PutPathHealth(PathHealth {
        rloc,
        up: true,
        mtu: None,
    }));
    assert_eq!(sent(&mut a).1, 0);
    assert_eq!(sent(&mut a).1, 3);
    assert_eq!(
        a.counters()["connection.opened"],
        3,
        "and no connection was lost over it"
    );
}

#[test]
fn health_comes_before_priority_while_anything_is_healthy() {
    let (mut a, guest, _, _) = pair(RLOCS[0]);
    let locators = vec![locator("192.0.2.7", 1, 1), locator("192.0.2.8", 2, 1)];
    a.apply(&Change::PutMapping(mapping(
        "[7]10.7.2.0/24",
        MappingTarget::Locators(locators),
    )));
    let mut goes_to = |health: &[(&str, bool)]| {
        for (rloc, up) in health {
            let rloc = Rloc::new(ip(rloc));
            a.apply(&Change::PutPathHealth(PathHealth {
                rloc,
                up: *up,
                mtu: None,
            }));
        }
        let out = a.send(&guest, &Spec::new(&guest, "10.7.0.1", "10.7.2.1").udp(1, 2, b"x"));
        out.to_uplinks[0].remote.ip().to_string()
    };
    assert_eq!(goes_to(&[]), "192.0.2.7");
    assert_eq!(goes_to(&[("192.0.2.7", false)]), "192.0.2.8");
    assert_eq!(
        goes_to(&[("192.0.2.8", false)]),
        "192.0.2.7",
        "none is better: the preferred one"
    );
    assert_eq!(goes_to(&[("192.0.2.8", true)]), "192.0.2.8");
}

#[test]
fn priority_weight_reachability_and_family_choose_the_locator() {
    let (mut a, guest, _, _) = pair(RLOCS[0]);
    let mut shares = |locators: Vec<PathLocator>| {
        a.apply(&Change::PutMapping(mapping(
            "[7]10.7.2.0/24",
            MappingTarget::Locators(locators),
        )));
        let mut shares = std::collections::BTreeMap::<String, usize>::new();
        for port in 1000..2000 {
            let out = a.send(&guest, &Spec::new(&guest, "10.7.0.1", "10.7.2.1").udp(port, 2, b"x"));
            for run in &out.to_uplinks {
                *shares.entry(run.remote.ip().to_string()).or_default() += 1;
            }
        }
        shares.into_iter().collect::<Vec<_>>()
    };
    let all = |to: &str| vec![(to.to_owned(), 1000)];
    assert_eq!(
        shares(vec![locator("192.0.2.7", 2, 1), locator("192.0.2.8", 1, 1)]),
        all("192.0.2.8")
    );
    assert_eq!(
        shares(vec![locator("192.0.2.7", 2, 1), locator("192.0.2.8", 255, 1)]),
        all("192.0.2.7")
    );
    let unreachable = PathLocator {
        reachable: false,
        ..locator("192.0.2.8", 1, 1)
    };
    assert_eq!(shares(vec![locator("192.0.2.7", 2, 1), unreachable]), all("192.0.2.7"));
    assert_eq!(
        shares(vec![locator("192.0.2.7", 2, 1), locator("2001:db8::8", 1, 1)]),
        all("192.0.2.7")
    );
    assert_eq!(shares(vec![unreachable]), []);
    assert_eq!(shares(vec![locator("192.0.2.1", 1, 1)]), [], "never to ourselves");
    let split = shares(vec![locator("192.0.2.7", 1, 75), locator("192.0.2.8", 1, 25)]);
    assert!((700..800).contains(&split[0].1), "{split:?}");
    let split = shares(vec![locator("192.0.2.7", 1, 0), locator("192.0.2.8", 1, 0)]);
    assert!((430..570).contains(&split[0].1), "{split:?}");
    assert_eq!(a.counters()["drop.no-locator"], 1000);
}

#[test]
fn both_directions_of_a_flow_hash_alike() {
    let (mut a, guest_a, mut b, guest_b) = pair(RLOCS[0]);
    let there = a.send(
        &guest_a,
        &Spec::new(&guest_a, "10.7.0.1", "10.7.0.2").udp(1000, 2000, b"x"),
    );
    let back = b.send(
        &guest_b,
        &Spec::new(&guest_b, "10.7.0.2", "10.7.0.1").udp(2000, 1000, b"x"),
    );
    assert_eq!(there.to_uplinks[0].flow_hash, back.to_uplinks[0].flow_hash);
    let other = a.send(
        &guest_a,
        &Spec::new(&guest_a, "10.7.0.1", "10.7.0.2").udp(1001, 2000, b"x"),
    );
    assert_ne!(there.to_uplinks[0].flow_hash, other.to_uplinks[0].flow_hash);
}

#[test]
fn too_big_is_told_with_what_fits_inside() {
    // S = L - H: 1500 - 36 and 1500 - 56.
    for (rlocs, fits) in [(RLOCS[0], 1464), (RLOCS[1], 1444)] {
        let (mut a, guest, _, _) = pair(rlocs);
        for (source, destination, header) in [("10.7.0.1", "10.7.0.2", 28), ("fd00::1", "fd00::2", 48)] {
            let packet = |size: usize| Spec::new(&guest, source, destination).udp(1, 2, &vec![7; size - header]);
            assert_eq!(a.send(&guest, &packet(fits)).to_uplinks.len(), 1);
            let big = packet(fits + 1);
            let out = a.send(&guest, &big);
            let (port, frame) = one_frame(&out);
            assert_eq!(port, guest.port);
            assert_checksums(&frame[14..]);
            let sliced = SlicedPacket::from_ethernet(frame).unwrap();
            match sliced.transport.unwrap() {
                TransportSlice::Icmpv4(icmp) => {
                    assert_eq!((icmp.type_u8(), icmp.code_u8()), (3, 4));
                    assert_eq!(icmp.bytes5to8(), [0, 0, (fits >> 8) as u8, fits as u8]);
                    assert!(frame.len() <= 14 + 576);
                    assert_eq!(
                        icmp.payload(),
                        &big[14..14 + icmp.payload().len()],
                        "and quotes the packet"
                    );
                }
                TransportSlice::Icmpv6(icmp) => {
                    assert_eq!((icmp.type_u8(), icmp.code_u8()), (2, 0));
                    assert_eq!(icmp.bytes5to8(), (fits as u32).to_be_bytes());
                    assert!(frame.len() <= 14 + 1280);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(a.counters()["drop.packet-too-big"], 2);
        assert_eq!(a.counters()["icmp.packet-too-big"], 2);
        // A path known to be narrower.
        let rloc = Rloc::new(ip(rlocs.1[0]));
        a.apply(&Change::PutPathHealth(PathHealth {
            rloc,
            up: true,
            mtu: Some(1400),
        }));
        let out = a.send(
            &guest,
            &Spec::new(&guest, "10.7.0.1", "10.7.0.2").udp(1, 2, &[7; 1400 - 28]),
        );
        assert_eq!(one_frame(&out).1.len(), 14 + 576);
    }
}

#[test]
fn without_df_it_is_split_before_encapsulation() {
    let (mut a, guest, mut b, guest_b) = pair(RLOCS[0]);
    let payload: Vec<u8> = (0..2000u32).map(|i| i as u8).collect();
    let packet = Spec {
        dont_fragment: false,
        ..Spec::new(&guest, "10.7.0.1", "10.7.0.2")
    }
    .udp(1, 2, &payload);
    let mut out = a.send(&guest, &packet);
    let pieces = datagrams(&mut out.to_uplinks);
    assert_eq!(pieces.len(), 2);
    let mut whole: Vec<u8> = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let header = etherparse::Ipv4HeaderSlice::from_slice(&piece[8..]).unwrap();
        assert_checksums(&piece[8..]);
        assert_eq!(header.ttl(), 63);
        assert_eq!(header.identification(), 7);
        assert_eq!(header.more_fragments(), index == 0);
        assert_eq!(usize::from(header.fragments_offset().value()) * 8, whole.len());
        whole.extend(&piece[28..]);
    }
    assert_eq!(whole, packet[34..]);
    // Both pieces are one connection at the other end; a later fragment alone belongs to none.
    let out = b.receive(out.to_uplinks, 1);
    assert_eq!(
        out.to_ports.iter().map(|(port, _)| *port).collect::<Vec<_>>(),
        [guest_b.port; 2]
    );
    // The next one of the same flow, with an identification of its own, goes the short way, in both pieces.
    let next = Spec {
        id: 8,
        dont_fragment: false,
        ..Spec::new(&guest, "10.7.0.1", "10.7.0.2")
    }
    .udp(1, 2, &payload);
    let out = a.send(&guest, &next);
    assert_eq!(b.receive(out.to_uplinks, 1).to_ports.len(), 2);
    assert_eq!(b.counters()["flow.hits"], 3);
    let (_, _, mut stranger, _) = pair(RLOCS[0]);
    assert_silent(&stranger.datagram("192.0.2.1", clear(7), &pieces[1][8..], 64, 0));
    assert_eq!(stranger.counters()["drop.fragment-without-first"], 1);
}

#[test]
fn the_last_hop_says_so() {
    for (source, destination, _) in EIDS {
        let (mut a, guest, _, _) = pair(RLOCS[0]);
        for (ttl, passes) in [(2, true), (1, false), (0, false)] {
            let out = a.send(
                &guest,
                &Spec {
                    ttl,
                    ..Spec::new(&guest, source, destination)
                }
                .udp(1, 2, b"x"),
            );
            assert_eq!(out.to_uplinks.len(), usize::from(passes));
            if !passes {
                let (_, frame) = one_frame(&out);
                assert_checksums(&frame[14..]);
                let kind = if source.contains(':') { frame[54] } else { frame[34] };
                assert_eq!(kind, if source.contains(':') { 3 } else { 11 });
            }
        }
        assert_eq!(a.counters()["drop.ttl-exceeded"], 2);
    }
}

#[test]
fn syns_are_clamped_to_the_path() {
    for (source, destination, mss) in [("10.7.0.1", "10.7.0.2", 1464 - 40), ("fd00::1", "fd00::2", 1464 - 60)] {
        let (mut a, guest, _, _) = pair(RLOCS[0]);
        let syn = |announced: u16, odd: bool, ack: bool| {
            let mut tcp = TcpHeader::new(1000, 2000, 5, 1000);
            (tcp.syn, tcp.ack) = (true, ack);
            let [high, low] = announced.to_be_bytes();
            // Behind a NOP it stands at an odd offset.
            let options: &[u8] = if odd {
                &[1, 2, 4, high, low, 1, 1, 0]
            } else {
                &[2, 4, high, low]
            };
            tcp.set_options_raw(options).unwrap();
            Spec::new(&guest, source, destination).tcp(&tcp, &[])
        };
        for odd in [false, true] {
            for ack in [false, true] {
                for (announced, expected) in [(1460, mss), (mss, mss), (536, 536)] {
                    let mut out = a.send(&guest, &syn(announced, odd, ack));
                    let inner = &datagrams(&mut out.to_uplinks)[0][8..];
                    assert_checksums(inner);
                    let l4 = if source.contains(':') { 40 } else { 20 };
                    let at = l4 + 20 + if odd { 3 } else { 2 };
                    assert_eq!(u16::from_be_bytes([inner[at], inner[at + 1]]), expected);
                }
            }
        }
        // With a partial checksum, too.
        let mut out = a.outbound(guest.port, vec![super_packet(&syn(1460, false, false), 0)]);
        let inner = &datagrams(&mut out.to_uplinks)[0][8..];
        assert_checksums(inner);
        assert!(a.counters()["itr.mss-clamped"] >= 5);
    }
}

#[test]
fn guest_to_guest_stays_on_the_node() {
    let (mut a, guest, _, _) = pair(RLOCS[0]);
    let other = a.port(5, 1, &["10.7.0.5", "fd00::5"]);
    a.map("[7]10.7.0.0/24", &["192.0.2.2"]);
    a.skip();
    let packet = Spec::new(&guest, "10.7.0.1", "10.7.0.5").udp(1, 2, b"neighbour");
    let out = a.send(&guest, &packet);
    let (port, frame) = one_frame(&out);
    assert_eq!(
        (port, &frame[..6], &frame[6..12]),
        (other.port, &other.mac[..], &GATEWAY_MAC[..])
    );
    assert_eq!(frame[22], 63);
    assert_checksums(&frame[14..]);
    a.assert_moved(&[
        ("guest_port.guest1/net0.rx_packets", 1),
        ("flow.misses", 1),
        ("connection.opened", 1),
        ("guest-to-guest", 1),
        ("guest_port.guest5/net0.tx_packets", 1),
    ]);
    // A super-packet with its partial checksum is passed on as it is.
    let tcp = TcpHeader {
        ack: true,
        ..TcpHeader::new(1, 2, 3, 4)
    };
    let big = Spec::new(&guest, "10.7.0.1", "10.7.0.5").tcp(&tcp, &[9; 20_000]);
    let packet = super_packet(&big, 1000);
    let offload = packet.offload;
    let out = a.outbound(guest.port, vec![packet]);
    assert_eq!(
        (one_frame(&out).1.len(), out.to_ports[0].1.offload),
        (big.len(), offload)
    );
    // Padding behind the packet does not travel.
    let mut padded = Spec::new(&guest, "10.7.0.1", "10.7.0.5").udp(1, 2, b"");
    padded.resize(60, 0xaa);
    assert_eq!(one_frame(&a.send(&guest, &padded)).1.len(), 42);
}

#[test]
fn a_moved_guest_keeps_its_connection() {
    // Guest 2 of B moves to C; A learns the new locator; the TCP connection goes on mid-stream.
    let (mut a, guest_a, mut b, guest_b) = pair(RLOCS[0]);
    for node in [&mut a, &mut b] {
        node.allow(
            1,
            vec![rule("to-b", &[], &["10.7.0.2/32"], Service::Tcp(vec![80..=80]), true)],
        );
    }
    let mut tcp = TcpHeader::new(1000, 80, 100, 1000);
    tcp.syn = true;
    let out = a.send(&guest_a, &Spec::new(&guest_a, "10.7.0.1", "10.7.0.2").tcp(&tcp, &[]));
    assert_eq!(b.receive(out.to_uplinks, 1).to_ports.len(), 1);
    let mut c = Node::new(&["192.0.2.3"]);
    c.mesh(1, 7);
    c.allow(
        1,
        vec![rule("to-b", &[], &["10.7.0.2/32"], Service::Tcp(vec![80..=80]), true)],
    );
    c.port(2, 1, &["10.7.0.2"]);
    c.map("[7]10.7.0.1/32", &["192.0.2.1"]);
    a.map("[7]10.7.0.2/32", &["192.0.2.3"]);
    let data = TcpHeader {
        ack: true,
        ..TcpHeader::new(1000, 80, 101, 1000)
    };
    let out = a.send(
        &guest_a,
        &Spec::new(&guest_a, "10.7.0.1", "10.7.0.2").tcp(&data, b"GET /"),
    );
    assert_eq!(one_frame(&c.receive(out.to_uplinks, 1)).0, guest_b.port);
    let answer = TcpHeader {
        ack: true,
        ..TcpHeader::new(80, 1000, 5, 1000)
    };
    let out = c.send(
        &guest_b,
        &Spec::new(&guest_b, "10.7.0.2", "10.7.0.1").tcp(&answer, b"200 OK"),
    );
    assert_eq!(one_frame(&a.receive(out.to_uplinks, 1)).0, guest_a.port);
}

#[test]
fn control_learns_whom_data_was_sent_to() {
    let (mut a, guest, _, _) = pair(RLOCS[0]);
    a.tick(Duration::from_secs(1));
    a.send(&guest, &Spec::new(&guest, "10.7.0.1", "10.7.0.2").udp(1, 2, b"x"));
    let told = |events: &[Event]| {
        events
            .iter()
            .filter(|event| matches!(event, Event::TrafficSent(_)))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&a.tick(Duration::from_millis(500)).events), []);
    let expected = Event::TrafficSent(vec![Rloc::new(ip("192.0.2.2"))]);
    assert_eq!(told(&a.tick(Duration::from_millis(600)).events), [expected]);
    assert_eq!(told(&a.tick(Duration::from_secs(2)).events), []);
}

#[test]
fn nothing_is_forwarded_for_a_port_that_is_not_there() {
    let (mut a, guest, _, _) = pair(RLOCS[0]);
    a.apply(&Change::RemovePort(guest.port));
    a.skip();
    let frame = Spec::new(&guest, "10.7.0.1", "10.7.0.2").udp(1, 2, b"x");
    assert_silent(&a.outbound(guest.port, vec![PacketBuf::from_frame(&frame)]));
    a.assert_moved(&[("drop.unknown-port", 1)]);
}
