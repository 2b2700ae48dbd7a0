//! Local networks: guests behind the node, translated on their way to the host's network and back.

mod common;

use common::*;
use dataplane::{
    buffer::PacketBuf,
    control::{Change, LocalExitConfig, NetworkConfig, NetworkId, NetworkKind, Service},
    engine::Output,
};
use etherparse::TcpHeader;

const OUTSIDE: (&str, &str) = ("100.64.0.2", "fd64::2");

fn node() -> (Node, Guest, Guest) {
    let mut node = Node::new(&["192.0.2.1"]);
    for network in [1, 2] {
        node.apply(&Change::PutNetwork(NetworkConfig {
            id: NetworkId(network),
            name: format!("local{network}"),
            kind: NetworkKind::Local {
                nat44: true,
                nat66: true,
            },
            names: vec![],
            domain: "lan".into(),
            host_addresses: vec![],
        }));
        node.allow(
            network,
            vec![rule("out", &["10.7.0.0/24", "fd00::/64"], &[], Service::Any, true)],
        );
    }
    node.apply(&exit(OUTSIDE.0));
    // Equal addresses in two networks.
    let one = node.port(1, 1, &["10.7.0.1", "fd00::1"]);
    let two = node.port(2, 2, &["10.7.0.1", "fd00::1"]);
    node.skip();
    (node, one, two)
}

fn exit(ipv4: &str) -> Change {
    Change::PutLocalExit(LocalExitConfig {
        interface: "weft-exit".into(),
        vnet_header: 10,
        ipv4: Some(ipv4.parse().unwrap()),
        ipv6: Some(OUTSIDE.1.parse().unwrap()),
        mtu: 1500,
    })
}

/// From the host's network: what `spec` writes, without its Ethernet header.
fn answer(node: &mut Node, frame: &[u8]) -> Output {
    let mut out = Output::default();
    let packet = PacketBuf::from_frame(&frame[14..]);
    node.engine
        .from_local_exit(node.now, &mut vec![packet], &mut node.pool, &mut out);
    out
}

/// Source port (or ICMP identifier) of the one packet that left.
#[track_caller]
fn left(out: &Output) -> (String, u16, Vec<u8>) {
    assert_eq!(out.to_local_exit.len(), 1, "{out:?}");
    let packet = out.to_local_exit[0].bytes();
    assert_checksums(packet);
    let (source, l4, icmp) = match packet[0] >> 4 {
        4 => {
            let octets: [u8; 4] = packet[12..16].try_into().unwrap();
            (std::net::Ipv4Addr::from(octets).to_string(), 20, packet[9] == 1)
        }
        _ => {
            let octets: [u8; 16] = packet[8..24].try_into().unwrap();
            (std::net::Ipv6Addr::from(octets).to_string(), 40, packet[6] == 58)
        }
    };
    let at = if icmp { l4 + 4 } else { l4 };
    (
        source,
        u16::from_be_bytes([packet[at], packet[at + 1]]),
        packet.to_vec(),
    )
}

#[test]
fn there_and_back_for_every_protocol_and_family() {
    let guests = node();
    for (inside, outside, remote) in [
        ("10.7.0.1", OUTSIDE.0, "198.51.100.9"),
        ("fd00::1", OUTSIDE.1, "2001:db8:9::9"),
    ] {
        let (mut node, one, two) = node();
        let there = Spec::new(&one, inside, remote);
        let back = Spec::new(&one, remote, outside);
        // UDP.
        let out = node.send(&one, &there.udp(5000, 53, b"question"));
        let (source, port, _) = left(&out);
        assert_eq!((source.as_str(), port), (outside, 5000), "its own port, as it is free");
        node.assert_moved(&[
            ("guest_port.guest1/net0.rx_packets", 1),
            ("flow.misses", 1),
            ("connection.opened", 1),
            ("nat.out", 1),
            ("local_exit.tx_packets", 1),
        ]);
        // The same guest address and port in the other network: another port.
        let out = node.send(&two, &Spec::new(&two, inside, remote).udp(5000, 53, b"question"));
        let (_, other, _) = left(&out);
        assert_ne!(other, 5000);
        node.skip();
        for (port, guest) in [(5000, one), (other, two), (5000, one)] {
            let out = answer(&mut node, &back.udp(53, port, b"answer"));
            let (to, frame) = one_frame(&out);
            assert_eq!((to, &frame[..6]), (guest.port, &guest.mac[..]));
            assert_checksums(&frame[14..]);
            let l4 = if inside.contains(':') { 54 } else { 34 };
            assert_eq!(frame[l4 + 2..l4 + 4], 5000u16.to_be_bytes());
        }
        assert_eq!(node.counters()["nat.in"], 3);
        // One binding for all destinations; but only those that were spoken to may answer.
        let elsewhere = Spec {
            destination: ip(if inside.contains(':') {
                "2001:db8::8"
            } else {
                "203.0.113.8"
            }),
            ..there.clone()
        };
        assert_eq!(left(&node.send(&one, &elsewhere.udp(5000, 53, b"x"))).1, 5000);
        assert_silent(&answer(&mut node, &back.udp(54, 5000, b"stranger")));
        assert_silent(&answer(&mut node, &back.udp(53, 5001, b"stranger")));
        assert_eq!(node.counters()["drop.nat-no-state"], 2);
        // TCP, SYN with an MSS, a super-packet.
        let mut syn = TcpHeader::new(6000, 80, 1, 1000);
        syn.syn = true;
        syn.set_options_raw(&[2, 4, 0xff, 0xff]).unwrap();
        let (_, _, packet) = left(&node.send(&one, &there.tcp(&syn, &[])));
        let l4 = if inside.contains(':') { 40 } else { 20 };
        let mss = u16::from_be_bytes([packet[l4 + 22], packet[l4 + 23]]);
        assert_eq!(usize::from(mss), 1500 - l4 - 20);
        let data = TcpHeader {
            ack: true,
            ..TcpHeader::new(6000, 80, 2, 1000)
        };
        let whole = there.tcp(&data, &vec![0x33; 9_000]);
        let out = node.outbound(one.port, vec![super_packet(&whole, 1000)]);
        // The oracle: the same packet as sent from outside, its checksum partial.
        let expected = Spec {
            source: ip(outside),
            ttl: 63,
            ..there.clone()
        };
        let expected = super_packet(&expected.tcp(&data, &vec![0x33; 9_000]), 1000);
        assert_eq!(out.to_local_exit[0].bytes(), &expected.bytes()[14..]);
        assert_eq!(out.to_local_exit[0].offload.segmentation, expected.offload.segmentation);
        assert_eq!(out.to_local_exit[0].offload.checksum, Some((l4 as u16, 16)));
        let reply = TcpHeader {
            ack: true,
            ..TcpHeader::new(80, 6000, 2, 1000)
        };
        let out = answer(&mut node, &back.tcp(&reply, b"200 OK"));
        assert_checksums(&one_frame(&out).1[14..]);
        // Ping.
        let (_, id, _) = left(&node.send(&one, &there.echo(true, 77)));
        let out = answer(&mut node, &back.echo(false, id));
        assert_checksums(&one_frame(&out).1[14..]);
        // Port unreachable, from a router on the way, about the UDP packet.
        let sent = Spec {
            source: ip(outside),
            ..there.clone()
        }
        .udp(5000, 53, b"question");
        let quote = [&[0; 4][..], &sent[14..]].concat();
        let router = Spec {
            source: ip(if inside.contains(':') {
                "2001:db8::f"
            } else {
                "203.0.113.1"
            }),
            ..back.clone()
        };
        let (kind, code) = if inside.contains(':') { (1, 4) } else { (3, 3) };
        let out = answer(&mut node, &router.icmp(kind, code, &quote));
        let (to, frame) = one_frame(&out);
        assert_eq!(to, one.port);
        assert_checksums(&frame[14..]);
        let quoted = &frame[14 + l4 + 8..];
        assert_checksums(quoted);
        assert_eq!(
            quoted,
            &there.udp(5000, 53, b"question")[14..],
            "the guest sees its own packet quoted"
        );
        // And one from the guest, about an answer.
        let seen = back.udp(53, 5000, b"answer");
        let mine = Spec {
            destination: ip(inside),
            ..back.clone()
        }
        .udp(53, 5000, b"answer");
        let out = node.send(&one, &there.icmp(kind, code, &[&[0; 4][..], &mine[14..]].concat()));
        assert_eq!(out.to_local_exit.len(), 1, "{:?}", node.moved());
        let packet = out.to_local_exit[0].bytes();
        assert_checksums(packet);
        assert_eq!(packet[l4 + 8..], seen[14..]);
    }
    drop(guests);
}

#[test]
fn what_does_not_get_out() {
    let (mut node, one, _) = node();
    let there = Spec::new(&one, "10.7.0.1", "198.51.100.9");
    assert_silent(&node.send(&one, &there.frame(47, &[0; 20])));
    assert_eq!(node.counters()["drop.nat-protocol"], 1);
    node.allow(1, vec![]);
    assert_silent(&node.send(&one, &there.udp(1, 2, b"x")));
    assert_eq!(node.counters()["drop.policy-denied"], 1);
    node.allow(1, vec![rule("out", &[], &[], Service::Any, true)]);
    node.apply(&Change::RemoveLocalExit);
    assert_silent(&node.send(&one, &there.udp(1, 2, b"x")));
    assert_eq!(node.counters()["drop.no-local-exit"], 1);
    // Strangers, and packets for somebody else altogether.
    node.apply(&exit(OUTSIDE.0));
    for (source, destination) in [("198.51.100.9", OUTSIDE.0), ("198.51.100.9", "10.7.0.1")] {
        assert_silent(&answer(
            &mut node,
            &Spec::new(&one, source, destination).udp(53, 5000, b"x"),
        ));
    }
    assert_eq!(node.counters()["drop.nat-no-state"], 2);
}

#[test]
fn a_new_outside_address_opens_anew_and_a_forbidden_connection_ends() {
    let (mut node, one, _) = node();
    let there = Spec::new(&one, "10.7.0.1", "198.51.100.9").udp(5000, 53, b"x");
    assert_eq!(left(&node.send(&one, &there)).0, OUTSIDE.0);
    node.apply(&exit("100.64.0.3"));
    assert_eq!(left(&node.send(&one, &there)).0, "100.64.0.3");
    let back = Spec::new(&one, "198.51.100.9", "100.64.0.3").udp(53, 5000, b"x");
    assert_eq!(answer(&mut node, &back).to_ports.len(), 1);
    node.allow(1, vec![rule("other", &[], &[], Service::Icmp, true)]);
    assert_silent(&answer(&mut node, &back));
    node.allow(1, vec![rule("out", &[], &[], Service::Any, true)]);
    assert_silent(&answer(&mut node, &back));
    assert_eq!(node.counters()["drop.nat-no-state"], 1);
}

#[test]
fn translated_ports_run_out_by_name() {
    let (mut node, one, _) = node();
    // A guest with a prefix behind it has more ports than there are outside; connections are bounded before that.
    let mut config = port(1, 1, &["10.7.0.1"]);
    config.routed = vec!["10.7.0.0/24".parse().unwrap()];
    node.apply(&Change::PutPort(config));
    for host in 1..5 {
        for chunk in 0..41u16 {
            let source = format!("10.7.0.{host}");
            let frames = (0..100)
                .map(|i| Spec::new(&one, &source, "198.51.100.9").udp(2000 + chunk * 100 + i, 53, b"x"))
                .map(|frame| PacketBuf::from_frame(&frame))
                .collect();
            for packet in node.outbound(one.port, frames).to_local_exit {
                node.pool.recycle_packet(packet);
            }
        }
    }
    let counters = node.counters();
    let sent = counters["nat.out"];
    assert_eq!(
        sent + counters["drop.nat-exhausted"] + counters["drop.connection-table-full"],
        4 * 4100
    );
    assert_eq!(sent, 16_384);
}
