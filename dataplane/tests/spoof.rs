//! A guest that pretends: to be another guest, a router, or something that is no packet at all.

mod common;

use common::*;
use dataplane::{
    buffer::{Offload, PacketBuf, Segmentation},
    control::{Change, Query, Service},
};
use etherparse::TcpHeader;
use proptest::prelude::*;

fn node() -> (Node, Guest) {
    let mut node = Node::new(&["192.0.2.1"]);
    node.mesh(1, 7);
    let guest = node.port(1, 1, &["10.7.0.1", "fd00::1"]);
    node.map("[7]10.7.0.2/32", &["192.0.2.2"]);
    node.map("[7]fd00::2/128", &["192.0.2.2"]);
    (node, guest)
}

#[track_caller]
fn refused(node: &mut Node, guest: &Guest, frame: &[u8], word: &str) {
    node.skip();
    assert_silent(&node.send(guest, frame));
    let (whole, door) = (format!("drop.{word}"), format!("guest_port.guest1/net0.drop.{word}"));
    node.assert_moved(&[("guest_port.guest1/net0.rx_packets", 1), (&whole, 1), (&door, 1)]);
}

#[test]
fn only_its_own_mac_and_addresses() {
    let (mut node, guest) = node();
    let base = Spec::new(&guest, "10.7.0.1", "10.7.0.2");
    let mac = Spec {
        source_mac: [2, 0, 0, 0, 9, 9],
        ..base.clone()
    };
    refused(&mut node, &guest, &mac.udp(1, 2, b"x"), "spoofed-mac");
    let around = Spec {
        destination_mac: [2, 0, 0, 0, 1, 2],
        ..base.clone()
    };
    refused(&mut node, &guest, &around.udp(1, 2, b"x"), "foreign-mac");
    for source in ["10.7.0.2", "10.7.0.254", "0.0.0.0", "127.0.0.1", "192.0.2.1"] {
        refused(
            &mut node,
            &guest,
            &Spec {
                source: ip(source),
                ..base.clone()
            }
            .udp(1, 2, b"x"),
            "spoofed-source",
        );
    }
    let base = Spec::new(&guest, "fd00::1", "fd00::2");
    for source in ["fd00::2", "::", "fe80::2", "fe80::1", "::1"] {
        refused(
            &mut node,
            &guest,
            &Spec {
                source: ip(source),
                ..base.clone()
            }
            .udp(1, 2, b"x"),
            "spoofed-source",
        );
    }
    // Prefixes behind the guest are its own, too.
    let mut config = port(1, 1, &["10.7.0.1"]);
    config.routed = vec!["10.8.0.0/16".parse().unwrap()];
    node.apply(&Change::PutPort(config));
    let routed = Spec::new(&guest, "10.8.3.3", "10.7.0.2").udp(1, 2, b"x");
    assert_eq!(node.send(&guest, &routed).to_uplinks.len(), 1);
    refused(
        &mut node,
        &guest,
        &Spec::new(&guest, "10.9.3.3", "10.7.0.2").udp(1, 2, b"x"),
        "spoofed-source",
    );
    // And reach it; the guest itself cannot bounce them.
    let inner = Spec::new(&guest, "10.7.0.2", "10.8.3.3").udp(1, 2, b"x");
    assert_eq!(
        node.datagram("192.0.2.2", clear(7), &inner[14..], 64, 0).to_ports.len(),
        1
    );
    assert_silent(&node.send(&guest, &Spec::new(&guest, "10.7.0.1", "10.8.9.9").udp(1, 2, b"x")));
    assert_eq!(node.counters()["drop.no-route"], 1);
}

#[test]
fn no_arp_for_others() {
    let (mut node, guest) = node();
    let arp = |mac: [u8; 6], sender: [u8; 4]| {
        let mut frame = [&[0xff; 6][..], &guest.mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
        frame.extend(mac);
        frame.extend(sender);
        frame.extend([0; 6]);
        frame.extend([10, 7, 0, 2]);
        frame
    };
    refused(&mut node, &guest, &arp(guest.mac, [10, 7, 0, 2]), "spoofed-arp");
    refused(&mut node, &guest, &arp(guest.mac, [10, 7, 0, 254]), "spoofed-arp");
    refused(
        &mut node,
        &guest,
        &arp([2, 0, 0, 0, 9, 9], [10, 7, 0, 1]),
        "spoofed-arp",
    );
    refused(&mut node, &guest, &arp(guest.mac, [10, 7, 0, 1])[..30], "malformed");
}

#[test]
fn no_neighbour_discovery_for_others() {
    let (mut node, guest) = node();
    let nd = |source: &str, kind: u8, target: &str, option: [u8; 6], ttl: u8| {
        let mut rest = vec![0; 4];
        if kind != 133 {
            rest.extend(target.parse::<std::net::Ipv6Addr>().unwrap().octets());
        }
        rest.extend([if kind == 136 { 2 } else { 1 }, 1]);
        rest.extend(option);
        let spec = Spec {
            ttl,
            destination_mac: [0x33, 0x33, 0, 0, 0, 1],
            ..Spec::new(&guest, source, "ff02::1")
        };
        spec.icmp(kind, 0, &rest)
    };
    let foreign = [2, 0, 0, 0, 9, 9];
    for frame in [
        nd("fd00::2", 135, "fe80::1", guest.mac, 255),
        nd("fd00::1", 135, "fe80::1", foreign, 255),
        nd("fd00::1", 135, "fe80::1", guest.mac, 64),
        nd("fd00::1", 136, "fd00::2", guest.mac, 255),
        nd("fe80::1", 136, "fe80::1", guest.mac, 255),
        nd("fd00::1", 136, "fd00::1", foreign, 255),
        nd("fe80::2", 134, "::", guest.mac, 255),
        nd("fe80::2", 137, "::", guest.mac, 255),
        nd("fe80::2", 133, "::", foreign, 255),
    ] {
        refused(&mut node, &guest, &frame, "spoofed-neighbour");
    }
}

#[test]
fn no_dhcp_for_others() {
    let (mut node, guest) = node();
    let mut message = vec![0; 300];
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[28..34].copy_from_slice(&[2, 0, 0, 0, 9, 9]);
    let mut spec = Spec::new(&guest, "0.0.0.0", "255.255.255.255");
    spec.destination_mac = [0xff; 6];
    refused(&mut node, &guest, &spec.udp(68, 67, &message), "spoofed-dhcp");
    message[28..34].copy_from_slice(&guest.mac);
    spec.source = ip("10.7.0.2");
    refused(&mut node, &guest, &spec.udp(68, 67, &message), "spoofed-dhcp");
    // A server of its own has nobody to serve: its answers go to the gateway's ears only.
    spec.source = ip("10.7.0.1");
    refused(&mut node, &guest, &spec.udp(67, 68, &message), "multicast");
}

#[test]
fn fragments_and_extension_headers() {
    let (mut node, guest) = node();
    let v4 = Spec {
        dont_fragment: false,
        ..Spec::new(&guest, "10.7.0.1", "10.7.0.2")
    };
    let fragment = |mut frame: Vec<u8>, field: u16| {
        frame[20..22].copy_from_slice(&field.to_be_bytes());
        frame[24..26].copy_from_slice(&[0, 0]);
        let header = etherparse::Ipv4HeaderSlice::from_slice(&frame[14..])
            .unwrap()
            .to_header();
        frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
        frame
    };
    let tcp = TcpHeader {
        ack: true,
        ..TcpHeader::new(1, 2, 3, 4)
    };
    // RFC 1858: too short for its TCP header; one that would overwrite its flags; one that nothing came before.
    refused(
        &mut node,
        &guest,
        &fragment(v4.frame(6, &[0; 16]), 0x2000),
        "fragment-tricks",
    );
    refused(
        &mut node,
        &guest,
        &fragment(v4.frame(6, &[0; 16]), 0x0001),
        "fragment-tricks",
    );
    refused(
        &mut node,
        &guest,
        &fragment(v4.frame(6, &[0; 16]), 0x0010),
        "fragment-without-first",
    );
    refused(
        &mut node,
        &guest,
        &fragment(v4.frame(17, &[0; 16]), 0x1fff),
        "malformed",
    );
    assert_eq!(
        node.send(&guest, &fragment(v4.tcp(&tcp, &[0; 20]), 0x2000))
            .to_uplinks
            .len(),
        1
    );
    assert_eq!(
        node.send(&guest, &fragment(v4.frame(6, &[0; 16]), 0x0010))
            .to_uplinks
            .len(),
        1
    );

    let mut routed = v4.frame(17, &[0; 12]);
    routed.splice(34..34, [131, 4, 4, 0]);
    routed[14] = 0x46;
    routed[17] += 4;
    refused(&mut node, &guest, &routed, "source-route");

    let v6 = Spec::new(&guest, "fd00::1", "fd00::2");
    let udp = &v6.udp(1, 2, b"inside")[54..];
    let chain = |headers: &[(u8, [u8; 8])]| {
        let bytes: Vec<u8> = headers
            .iter()
            .flat_map(|(_, bytes)| *bytes)
            .chain(udp.iter().copied())
            .collect();
        v6.frame(headers[0].0, &bytes)
    };
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    // Hop-by-hop, destination options, a fragment header that says "whole": all of it still UDP to port 2.
    let fine = chain(&[(0, options(60)), (60, options(44)), (44, [17, 0, 0, 0, 0, 0, 0, 9])]);
    assert_eq!(node.send(&guest, &fine).to_uplinks.len(), 1);
    refused(
        &mut node,
        &guest,
        &chain(&[(43, [17, 0, 0, 1, 0, 0, 0, 0])]),
        "source-route",
    );
    refused(
        &mut node,
        &guest,
        &chain(&[(60, options(0)), (0, options(17))]),
        "extension-headers",
    );
    refused(&mut node, &guest, &chain(&[(60, options(60)); 9]), "extension-headers");
    refused(
        &mut node,
        &guest,
        &chain(&[(60, [17, 200, 1, 4, 0, 0, 0, 0])]),
        "malformed",
    );
    refused(
        &mut node,
        &guest,
        &chain(&[(44, [17, 0, 0, 0x10, 0, 0, 0, 9])]),
        "fragment-without-first",
    );
}

#[test]
fn an_error_about_nothing_is_no_way_in() {
    let (mut node, guest) = node();
    node.allow(1, vec![rule("out", &["10.7.0.1/32"], &[], Service::Any, true)]);
    let error = |node: &mut Node, port: u16| {
        let about = Spec::new(&guest, "10.7.0.1", "10.7.0.2").udp(port, 53, b"x");
        let mut rest = vec![0; 4];
        rest.extend(&about[14..42]);
        let icmp = Spec::new(&guest, "10.7.0.9", "10.7.0.1").icmp(3, 3, &rest);
        node.datagram("192.0.2.2", clear(7), &icmp[14..], 64, 0)
    };
    assert_silent(&error(&mut node, 1000));
    assert_eq!(node.counters()["drop.icmp-unrelated"], 1);
    node.send(&guest, &Spec::new(&guest, "10.7.0.1", "10.7.0.2").udp(1000, 53, b"x"));
    assert_eq!(error(&mut node, 1000).to_ports.len(), 1);
    assert_silent(&error(&mut node, 1001));
}

fn offloads() -> impl Strategy<Value = Offload> {
    let size = prop_oneof![Just(0u16), Just(1), 1u16..2000, any::<u16>()];
    let segmentation = (0..4, size, any::<bool>()).prop_map(|(kind, size, ecn)| match kind {
        0 => Segmentation::None,
        1 => Segmentation::TcpV4 { size, ecn },
        2 => Segmentation::TcpV6 { size, ecn },
        _ => Segmentation::Udp { size },
    });
    let checksum = prop_oneof![
        Just(None),
        Just(Some((34, 16))),
        Just(Some((34, 6))),
        Just(Some((54, 16))),
        any::<(u16, u16)>().prop_map(Some)
    ];
    (segmentation, checksum).prop_map(|(segmentation, checksum)| Offload { segmentation, checksum })
}

/// Frames that are nearly right: what a fuzzer finds after a while.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let guest = Guest {
        port: dataplane::control::PortId(1),
        mac: [2, 0, 0, 0, 1, 1],
    };
    let v4 = Spec::new(&guest, "10.7.0.1", "10.7.0.2");
    let v6 = Spec::new(&guest, "fd00::1", "fd00::2");
    let tcp = TcpHeader {
        syn: true,
        ..TcpHeader::new(1, 2, 3, 4)
    };
    let to_gateway = Spec {
        destination: ip("10.7.0.254"),
        ..v4.clone()
    };
    let mut broadcast = Spec {
        source: ip("0.0.0.0"),
        destination: ip("255.255.255.255"),
        ..v4.clone()
    };
    broadcast.destination_mac = [0xff; 6];
    let mut dhcp = vec![1, 1, 6, 0];
    dhcp.resize(236, 0);
    dhcp[28..34].copy_from_slice(&guest.mac);
    dhcp.extend([99, 130, 83, 99, 53, 1, 1, 255]);
    let mut multicast = Spec {
        source: ip("fe80::2"),
        destination: ip("ff02::1:2"),
        ttl: 255,
        ..v6.clone()
    };
    multicast.destination_mac = [0x33, 0x33, 0, 1, 0, 2];
    let samples = vec![
        v4.udp(1, 2, &[7; 40]),
        v4.tcp(&tcp, &[7; 3000]),
        v6.tcp(&tcp, &[7; 3000]),
        v6.udp(1, 2, &[7; 3000]),
        v4.echo(true, 1),
        v6.echo(true, 1),
        v4.icmp(3, 3, &v4.udp(1, 2, b"x")[10..]),
        v6.icmp(1, 4, &v6.udp(1, 2, b"x")[10..]),
        to_gateway.udp(
            5353,
            53,
            b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x03web\x04mesh\x04weft\0\0\x01\0\x01",
        ),
        broadcast.udp(68, 67, &dhcp),
        multicast.udp(
            546,
            547,
            &[
                1, 0, 0, 1, 0, 1, 0, 2, 9, 9, 0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
        ),
        multicast.icmp(133, 0, &[0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 1]),
        multicast.icmp(135, 0, &[0; 20]),
        [
            &[0xff; 6][..],
            &guest.mac,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &guest.mac,
            &[10, 7, 0, 1],
            &[0; 10],
        ]
        .concat(),
    ];
    let flips = prop::collection::vec((0usize..400, any::<u8>()), 0..6);
    (prop::sample::select(samples), flips, prop::option::of(0usize..3100)).prop_map(|(mut frame, flips, cut)| {
        for (at, value) in flips {
            // Offsets within the headers, which is where it hurts; the MACs stay.
            let at = 12 + at % (frame.len() - 12).min(120);
            frame[at] = value;
        }
        frame.truncate(cut.unwrap_or(usize::MAX));
        frame
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_frames_end_in_one_word_each(frame in frames(), offload in offloads(), honest in any::<bool>()) {
        let (mut node, guest) = node();
        let mut packet = PacketBuf::from_frame(&frame);
        packet.offload = if honest { Offload::default() } else { offload };
        node.engine.query(node.now, &Query::TraceOutbound { port: guest.port, frame: frame.clone() });
        prop_assert!(node.moved().is_empty(), "trace changes nothing");
        let out = node.outbound(guest.port, vec![packet]);
        let drops: u64 = node.counters().iter().filter(|(name, _)| name.starts_with("drop.")).map(|(_, by)| by).sum();
        let waits = out.events.len() as u64;
        let went = u64::from(!out.to_uplinks.is_empty() || !out.to_ports.is_empty() && drops == 0);
        prop_assert_eq!(drops + waits + went, 1, "{:?}", node.moved());
    }

    #[test]
    fn hostile_datagrams_end_in_one_word_each(
        frame in frames(), header in any::<[u8; 8]>(), honest in any::<bool>(), swap in any::<bool>(), tos in any::<u8>(),
    ) {
        let (mut node, _) = node();
        let mut inner = frame.get(14..).unwrap_or_default().to_vec();
        if swap && inner.len() > 40 {
            // Towards our guest, rather than from it.
            if inner[0] >> 4 == 4 { inner[12..20].rotate_left(4) } else { inner[8..40].rotate_left(16) }
        }
        node.skip();
        let out = node.datagram("192.0.2.2", if honest { clear(7) } else { header }, &inner, 64, tos);
        let drops: u64 = node.counters().iter().filter(|(name, _)| name.starts_with("drop.")).map(|(_, by)| by).sum();
        prop_assert_eq!(drops + out.to_ports.len() as u64, 1);
    }

    #[test]
    fn any_bytes_at_all(bytes in prop::collection::vec(any::<u8>(), 0..200), offload in offloads()) {
        let (mut node, guest) = node();
        let mut packet = PacketBuf::from_frame(&bytes);
        packet.offload = offload;
        node.outbound(guest.port, vec![packet]);
        node.datagram("192.0.2.2", clear(7), &bytes, 64, 0);
        let mut packet = PacketBuf::from_frame(&bytes);
        packet.offload = offload;
        let mut out = dataplane::engine::Output::default();
        node.engine.from_local_exit(node.now, &mut vec![packet], &mut node.pool, &mut out);
    }
}
