//! What a guest asks of its router. Answers are decoded by etherparse, smoltcp, or by hand, never by our own code.

mod common;

use std::time::Duration;

use common::*;
use dataplane::control::Change;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, Icmpv6Packet, Icmpv6Repr,
    NdiscNeighborFlags, NdiscRepr, NdiscRouterFlags,
};

const BROADCAST: [u8; 6] = [0xff; 6];

fn node() -> (Node, Guest) {
    let mut node = Node::new(&["192.0.2.1"]);
    node.mesh(1, 7);
    let guest = node.port(1, 1, &["10.7.0.1", "fd00::1"]);
    (node, guest)
}

/// The UDP payload of the one answer, with its ends.
#[track_caller]
fn udp_answer(out: &dataplane::engine::Output) -> (String, Vec<u8>) {
    let (_, frame) = one_frame(out);
    assert_checksums(&frame[14..]);
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let (source, destination) = match sliced.net.unwrap() {
        NetSlice::Ipv4(v4) => (
            v4.header().source_addr().to_string(),
            v4.header().destination_addr().to_string(),
        ),
        NetSlice::Ipv6(v6) => (
            v6.header().source_addr().to_string(),
            v6.header().destination_addr().to_string(),
        ),
        other => panic!("{other:?}"),
    };
    let Some(TransportSlice::Udp(udp)) = sliced.transport else {
        panic!()
    };
    let ends = format!(
        "{source} {} > {destination} {}",
        udp.source_port(),
        udp.destination_port()
    );
    (ends, udp.payload().to_vec())
}

fn arp(guest: &Guest, operation: ArpOperation, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(guest.mac),
        source_protocol_addr: sender.into(),
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target.into(),
    };
    let mut frame = [&BROADCAST[..], &guest.mac, &[8, 6]].concat();
    frame.resize(42, 0);
    repr.emit(&mut ArpPacket::new_unchecked(&mut frame[14..]));
    frame
}

#[test]
fn arp_is_answered_for_everybody_else() {
    let (mut node, guest) = node();
    for target in [[10, 7, 0, 254], [10, 7, 0, 2], [10, 99, 1, 1]] {
        let out = node.send(&guest, &arp(&guest, ArpOperation::Request, [10, 7, 0, 1], target));
        let (_, frame) = one_frame(&out);
        assert_eq!((&frame[..6], &frame[6..12]), (&guest.mac[..], &GATEWAY_MAC[..]));
        let answer = ArpRepr::parse(&ArpPacket::new_checked(&frame[14..]).unwrap()).unwrap();
        let expected = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: EthernetAddress(GATEWAY_MAC),
            source_protocol_addr: target.into(),
            target_hardware_addr: EthernetAddress(guest.mac),
            target_protocol_addr: [10, 7, 0, 1].into(),
        };
        assert_eq!(answer, expected);
    }
    node.assert_moved(&[
        ("guest_port.guest1/net0.rx_packets", 3),
        ("gateway.arp", 3),
        ("guest_port.guest1/net0.tx_packets", 3),
    ]);
    for (operation, sender, target) in [
        (ArpOperation::Request, [10, 7, 0, 1], [10, 7, 0, 1]),
        (ArpOperation::Request, [0; 4], [10, 7, 0, 1]),
        (ArpOperation::Request, [0; 4], [10, 7, 0, 2]),
        (ArpOperation::Request, [10, 7, 0, 1], [169, 254, 3, 4]),
        (ArpOperation::Reply, [10, 7, 0, 1], [10, 7, 0, 254]),
    ] {
        assert_silent(&node.send(&guest, &arp(&guest, operation, sender, target)));
    }
    assert_eq!(node.counters()["drop.gateway-consumed"], 5);
    // Whether the gateway's own address is free: it is not.
    assert_eq!(
        node.send(&guest, &arp(&guest, ArpOperation::Request, [0; 4], [10, 7, 0, 254]))
            .to_ports
            .len(),
        1
    );
}

/// An ND message from the guest, by smoltcp.
fn nd(guest: &Guest, source: &str, destination: &str, repr: NdiscRepr<'_>) -> Vec<u8> {
    let repr = Icmpv6Repr::Ndisc(repr);
    let (source, destination) = (ip(source), ip(destination));
    let (std::net::IpAddr::V6(from), std::net::IpAddr::V6(to)) = (source, destination) else {
        panic!()
    };
    let mut message = vec![0; repr.buffer_len()];
    let checks = smoltcp::phy::ChecksumCapabilities::default();
    repr.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(&mut message), &checks);
    let mut spec = Spec::new(guest, "fd00::1", "fd00::2");
    (spec.source, spec.destination, spec.ttl) = (source, destination, 255);
    if to.is_multicast() {
        let octets = to.octets();
        spec.destination_mac = [0x33, 0x33, octets[12], octets[13], octets[14], octets[15]];
    }
    spec.frame(58, &message)
}

fn nd_answer(frame: &[u8]) -> NdiscRepr<'_> {
    assert_checksums(&frame[14..]);
    assert_eq!(frame[21], 255, "hop limit");
    match Icmpv6Repr::parse(
        &std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&frame[22..38]).unwrap()),
        &std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&frame[38..54]).unwrap()),
        &Icmpv6Packet::new_checked(&frame[54..]).unwrap(),
        &smoltcp::phy::ChecksumCapabilities::default(),
    )
    .unwrap()
    {
        Icmpv6Repr::Ndisc(repr) => repr,
        other => panic!("{other:?}"),
    }
}

#[test]
fn neighbour_solicitations_are_answered_for_everybody_else() {
    let (mut node, guest) = node();
    let solicit = |target: &str| NdiscRepr::NeighborSolicit {
        target_addr: target.parse().unwrap(),
        lladdr: Some(EthernetAddress(guest.mac).into()),
    };
    for (target, flags) in [
        (
            "fe80::1",
            NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE,
        ),
        ("fd00::2", NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE),
    ] {
        let out = node.send(&guest, &nd(&guest, "fd00::1", "ff02::1:ff00:1", solicit(target)));
        let expected = NdiscRepr::NeighborAdvert {
            flags,
            target_addr: target.parse().unwrap(),
            lladdr: Some(EthernetAddress(GATEWAY_MAC).into()),
        };
        assert_eq!(nd_answer(one_frame(&out).1), expected);
    }
    node.assert_moved(&[
        ("guest_port.guest1/net0.rx_packets", 2),
        ("gateway.neighbour-advertisement", 2),
        ("guest_port.guest1/net0.tx_packets", 2),
    ]);
    // Duplicate address detection for its own addresses, and for anybody's: free.
    let ask = |target: &str| NdiscRepr::NeighborSolicit {
        target_addr: target.parse().unwrap(),
        lladdr: None,
    };
    for target in ["fd00::1", "fe80::1234", "fd00::2"] {
        assert_silent(&node.send(&guest, &nd(&guest, "::", "ff02::1:ff00:1", ask(target))));
    }
    // But not for the gateway's.
    let out = node.send(&guest, &nd(&guest, "::", "ff02::1:ff00:1", ask("fe80::1")));
    let (_, frame) = one_frame(&out);
    assert_eq!(
        &frame[38..54],
        &std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets()
    );
}

#[test]
fn router_advertisements_say_managed() {
    let (mut node, guest) = node();
    let solicit = NdiscRepr::RouterSolicit {
        lladdr: Some(EthernetAddress(guest.mac).into()),
    };
    let out = node.send(&guest, &nd(&guest, "fe80::2", "ff02::2", solicit));
    let (_, frame) = one_frame(&out);
    let NdiscRepr::RouterAdvert {
        hop_limit,
        flags,
        router_lifetime,
        lladdr,
        mtu,
        prefix_info,
        ..
    } = nd_answer(frame)
    else {
        panic!()
    };
    assert_eq!(hop_limit, 64);
    assert_eq!(flags, NdiscRouterFlags::MANAGED | NdiscRouterFlags::OTHER);
    assert_eq!(router_lifetime, smoltcp::time::Duration::from_secs(3600));
    assert_eq!(lladdr, Some(EthernetAddress(GATEWAY_MAC).into()));
    assert_eq!(mtu, Some(1400));
    let prefix = prefix_info.unwrap();
    assert_eq!((prefix.prefix.to_string().as_str(), prefix.prefix_len), ("fd00::", 8));
    assert!(prefix.flags.is_empty(), "neither on-link nor for autoconfiguration");
    // RDNSS and DNSSL, by hand: lifetime 3600; fe80::1; mesh.weft.
    let rdnss = [&[25, 3, 0, 0, 0, 0, 14, 16][..], &GATEWAY_V6.octets()].concat();
    assert!(frame.windows(rdnss.len()).any(|window| window == rdnss));
    let dnssl = b"\x1f\x03\0\0\0\0\x0e\x10\x04mesh\x04weft\0\0\0\0\0\0";
    assert!(frame.windows(24).any(|window| window == &dnssl[..24]));
    // Unasked, too: at once for a new port, and then every minute.
    let mut again = Node::new(&["192.0.2.1"]);
    again.mesh(1, 7);
    again.port(1, 1, &["fd00::1"]);
    again.port(2, 1, &["10.7.0.2"]);
    assert_eq!(
        again.tick(Duration::from_millis(100)).to_ports.len(),
        1,
        "none for a guest without IPv6"
    );
    assert_eq!(again.tick(Duration::from_secs(30)).to_ports.len(), 0);
    let out = again.tick(Duration::from_secs(30));
    assert!(matches!(nd_answer(one_frame(&out).1), NdiscRepr::RouterAdvert { .. }));
}

/// A DHCP message by smoltcp, wrapped.
fn dhcp(guest: &Guest, source: &str, change: impl FnOnce(&mut DhcpRepr<'_>)) -> Vec<u8> {
    let mut repr = DhcpRepr {
        message_type: DhcpMessageType::Discover,
        transaction_id: 0x1234_5678,
        secs: 0,
        client_hardware_address: EthernetAddress(guest.mac),
        client_ip: [0; 4].into(),
        your_ip: [0; 4].into(),
        server_ip: [0; 4].into(),
        router: None,
        subnet_mask: None,
        relay_agent_ip: [0; 4].into(),
        broadcast: false,
        requested_ip: None,
        client_identifier: Some(EthernetAddress(guest.mac)),
        server_identifier: None,
        parameter_request_list: Some(&[1, 3, 6]),
        dns_servers: None,
        max_size: Some(1500),
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    change(&mut repr);
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
    let mut spec = Spec::new(guest, source, "255.255.255.255");
    spec.destination_mac = BROADCAST;
    spec.udp(68, 67, &bytes)
}

fn dhcp_option(bytes: &[u8], wanted: u8) -> Option<Vec<u8>> {
    let packet = DhcpPacket::new_checked(bytes).unwrap();
    packet
        .options()
        .find(|option| option.kind == wanted)
        .map(|option| option.data.to_vec())
}

#[test]
fn dhcpv4_hands_out_the_one_address() {
    let (mut node, guest) = node();
    let out = node.send(&guest, &dhcp(&guest, "0.0.0.0", |_| {}));
    let (ends, bytes) = udp_answer(&out);
    assert_eq!(ends, "10.7.0.254 67 > 10.7.0.1 68");
    assert_eq!(&one_frame(&out).1[..6], &guest.mac);
    assert!(bytes.len() >= 300);
    let packet = DhcpPacket::new_checked(&bytes[..]).unwrap();
    let offer = DhcpRepr::parse(&packet).unwrap();
    assert_eq!(offer.message_type, DhcpMessageType::Offer);
    assert_eq!(
        (offer.transaction_id, offer.client_hardware_address.0),
        (0x1234_5678, guest.mac)
    );
    assert_eq!(offer.your_ip.to_string(), "10.7.0.1");
    assert_eq!(offer.server_identifier.unwrap().to_string(), "10.7.0.254");
    assert_eq!(offer.router.unwrap().to_string(), "10.7.0.254");
    assert_eq!(offer.subnet_mask.unwrap().to_string(), "255.255.255.0");
    assert_eq!(
        (offer.lease_duration, offer.renew_duration, offer.rebind_duration),
        (Some(3600), Some(1800), Some(3150))
    );
    assert_eq!(offer.dns_servers.unwrap()[0].to_string(), "10.7.0.254");
    assert_eq!(dhcp_option(&bytes, 26), Some(vec![5, 120]), "MTU 1400");
    assert_eq!(dhcp_option(&bytes, 15), Some(b"mesh.weft".to_vec()));
    assert_eq!(dhcp_option(&bytes, 12), Some(b"guest1".to_vec()));
    assert_eq!(dhcp_option(&bytes, 121), None, "the gateway is on-link");

    type Ask = fn(&mut DhcpRepr<'_>);
    type Case = (&'static str, Ask, Option<(DhcpMessageType, &'static str)>);
    let cases: [Case; 9] = [
        (
            "0.0.0.0",
            |d| {
                d.message_type = DhcpMessageType::Request;
                d.requested_ip = Some([10, 7, 0, 1].into());
                d.server_identifier = Some([10, 7, 0, 254].into());
            },
            Some((DhcpMessageType::Ack, "10.7.0.254 67 > 10.7.0.1 68")),
        ),
        (
            "0.0.0.0",
            |d| {
                d.message_type = DhcpMessageType::Request;
                d.requested_ip = Some([10, 7, 0, 9].into());
            },
            Some((DhcpMessageType::Nak, "10.7.0.254 67 > 255.255.255.255 68")),
        ),
        (
            "10.7.0.1",
            |d| {
                d.message_type = DhcpMessageType::Request;
                d.client_ip = [10, 7, 0, 1].into();
            },
            Some((DhcpMessageType::Ack, "10.7.0.254 67 > 10.7.0.1 68")),
        ),
        (
            "0.0.0.0",
            |d| {
                d.message_type = DhcpMessageType::Request;
                d.requested_ip = Some([10, 7, 0, 1].into());
                d.server_identifier = Some([192, 168, 0, 1].into());
            },
            None,
        ),
        (
            "0.0.0.0",
            |d| d.broadcast = true,
            Some((DhcpMessageType::Offer, "10.7.0.254 67 > 255.255.255.255 68")),
        ),
        (
            "10.7.0.1",
            |d| {
                d.message_type = DhcpMessageType::Inform;
                d.client_ip = [10, 7, 0, 1].into();
            },
            Some((DhcpMessageType::Ack, "10.7.0.254 67 > 10.7.0.1 68")),
        ),
        ("0.0.0.0", |d| d.message_type = DhcpMessageType::Decline, None),
        ("10.7.0.1", |d| d.message_type = DhcpMessageType::Release, None),
        ("0.0.0.0", |d| d.message_type = DhcpMessageType::Ack, None),
    ];
    for (index, (source, ask, expected)) in cases.into_iter().enumerate() {
        let out = node.send(&guest, &dhcp(&guest, source, ask));
        let Some((kind, ends)) = expected else {
            assert_silent(&out);
            continue;
        };
        let (got, bytes) = udp_answer(&out);
        let packet = DhcpPacket::new_checked(&bytes[..]).unwrap();
        let reply = DhcpRepr::parse(&packet).unwrap();
        assert_eq!((reply.message_type, got.as_str()), (kind, ends), "case {index}");
    }
    // To the subnet's broadcast address and to the gateway itself.
    let mut renew = dhcp(&guest, "10.7.0.1", |d| {
        d.message_type = DhcpMessageType::Request;
        d.client_ip = [10, 7, 0, 1].into();
    });
    renew[..6].copy_from_slice(&GATEWAY_MAC);
    renew[30..34].copy_from_slice(&[10, 7, 0, 254]);
    assert_eq!(node.send(&guest, &renew).to_ports.len(), 1);
    // A guest of a /32: a route to the gateway, and the default route (RFC 3442).
    let mut config = port(1, 1, &["10.7.0.1"]);
    config.gateway.ipv4 = Some(([169, 254, 1, 1].into(), "10.7.0.1/32".parse().unwrap()));
    node.apply(&Change::PutPort(config));
    let (_, bytes) = udp_answer(&node.send(&guest, &dhcp(&guest, "0.0.0.0", |_| {})));
    assert_eq!(
        dhcp_option(&bytes, 121),
        Some(vec![32, 169, 254, 1, 1, 0, 0, 0, 0, 0, 169, 254, 1, 1])
    );
}

/// A DHCPv6 message by hand.
fn dhcp6(guest: &Guest, kind: u8, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![kind, 0xaa, 0xbb, 0xcc];
    for (code, value) in options {
        bytes.extend(code.to_be_bytes());
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(*value);
    }
    let mut spec = Spec::new(guest, "fe80::2", "ff02::1:2");
    spec.destination_mac = [0x33, 0x33, 0, 1, 0, 2];
    spec.udp(546, 547, &bytes)
}

/// Options of a DHCPv6 message or of an option, decoded apart from the code under test.
fn options6(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut options = Vec::new();
    while !bytes.is_empty() {
        let code = u16::from_be_bytes([bytes[0], bytes[1]]);
        let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        options.push((code, bytes[4..4 + length].to_vec()));
        bytes = &bytes[4 + length..];
    }
    options
}

#[test]
fn dhcpv6_hands_out_the_eids() {
    let (mut node, guest) = node();
    const CLIENT: (u16, &[u8]) = (1, &[0, 3, 0, 1, 2, 0, 0, 0, 1, 1]);
    let server = [&[0, 3, 0, 1][..], &GATEWAY_MAC].concat();
    let server = (2, &server[..]);
    let other = (2, &[0, 3, 0, 1, 9, 9, 9, 9, 9, 9][..]);
    let ia = |address: Option<&str>| {
        let mut ia = vec![0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
        if let Some(address) = address {
            ia.extend([0, 5, 0, 24]);
            ia.extend(address.parse::<std::net::Ipv6Addr>().unwrap().octets());
            ia.extend([0; 8]);
        }
        ia
    };
    let (bare, own, foreign) = (ia(None), ia(Some("fd00::1")), ia(Some("fd00::bad")));
    const RAPID: (u16, &[u8]) = (14, &[]);
    let lease = 3600u32.to_be_bytes();
    let address = |text: &str, life: [u8; 4]| {
        let octets = text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        (5u16, [&octets[..], &life, &life].concat())
    };
    // SOLICIT: the offer in full.
    let out = node.send(&guest, &dhcp6(&guest, 1, &[CLIENT, (3, &bare)]));
    let (ends, bytes) = udp_answer(&out);
    assert_eq!(ends, "fe80::1 547 > fe80::2 546");
    assert_eq!(bytes[..4], [2, 0xaa, 0xbb, 0xcc], "ADVERTISE");
    let options = options6(&bytes[4..]);
    let codes: Vec<u16> = options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [1, 2, 3, 23, 24]);
    assert_eq!((options[0].1.as_slice(), options[1].1.as_slice()), (CLIENT.1, server.1));
    assert_eq!(
        options[2].1[..12],
        [&[0, 0, 0, 7][..], &1800u32.to_be_bytes(), &2880u32.to_be_bytes()].concat()
    );
    assert_eq!(options6(&options[2].1[12..]), [address("fd00::1", lease)]);
    assert_eq!(options[3].1, GATEWAY_V6.octets());
    assert_eq!(options[4].1, b"\x04mesh\x04weft\0");
    // The others: kind of reply, and what the IA or the status says.
    let status = |code: u8| vec![(13u16, vec![0, code])];
    let given = vec![address("fd00::1", lease)];
    let corrected = vec![address("fd00::1", lease), address("fd00::bad", [0; 4])];
    type Case<'a> = (u8, Vec<(u16, &'a [u8])>, Option<(u8, Vec<(u16, Vec<u8>)>)>);
    let cases: Vec<Case<'_>> = vec![
        (1, vec![CLIENT, RAPID, (3, &bare)], Some((7, given.clone()))),
        (3, vec![CLIENT, server, (3, &own)], Some((7, given.clone()))),
        (3, vec![CLIENT, other, (3, &own)], None),
        (3, vec![CLIENT, (3, &own)], None),
        (5, vec![CLIENT, server, (3, &foreign)], Some((7, corrected))),
        (6, vec![CLIENT, (3, &own)], Some((7, given))),
        (6, vec![CLIENT, server, (3, &own)], None),
        (4, vec![CLIENT, (3, &own)], Some((7, status(0)))),
        (4, vec![CLIENT, (3, &foreign)], Some((7, status(4)))),
        (4, vec![CLIENT, (3, &bare)], None),
        (8, vec![CLIENT, server, (3, &own)], Some((7, status(0)))),
        (9, vec![CLIENT, server, (3, &own)], Some((7, status(0)))),
        (11, vec![CLIENT], Some((7, vec![]))),
        (11, vec![], Some((7, vec![]))),
        (1, vec![(3, &bare)], None),
        (2, vec![CLIENT], None),
        (200, vec![CLIENT], None),
    ];
    for (index, (kind, options, expected)) in cases.into_iter().enumerate() {
        let out = node.send(&guest, &dhcp6(&guest, kind, &options));
        let Some((reply, contents)) = expected else {
            assert_silent(&out);
            continue;
        };
        let (_, bytes) = udp_answer(&out);
        assert_eq!(bytes[0], reply, "case {index}");
        let options = options6(&bytes[4..]);
        let found = match options.iter().find(|(code, _)| *code == 3) {
            Some((_, ia)) => options6(&ia[12..]),
            None => options.into_iter().filter(|(code, _)| *code == 13).collect(),
        };
        assert_eq!(found, contents, "case {index}");
    }
}

/// A DNS query for one name.
fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

/// Code of the answer, and the data of its records.
fn decode(question: &[u8], bytes: &[u8]) -> (u8, Vec<Vec<u8>>) {
    assert_eq!(bytes[..2], question[..2]);
    assert_eq!(bytes[2] & 0x84, 0x84, "an authoritative answer");
    assert_eq!(bytes[12..question.len()], question[12..], "the question is repeated");
    let mut at = question.len();
    let count = u16::from_be_bytes([bytes[6], bytes[7]]);
    let records = (0..count).map(|_| {
        assert_eq!(bytes[at..at + 2], [0xc0, 12]);
        let length = usize::from(u16::from_be_bytes([bytes[at + 10], bytes[at + 11]]));
        at += 12 + length;
        bytes[at - length..at].to_vec()
    });
    let records = records.collect();
    assert_eq!(at, bytes.len());
    (bytes[3] & 15, records)
}

#[test]
fn dns_knows_the_names_of_the_network() {
    let (mut node, guest) = node();
    let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec();
    let reverse = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
    for (source, gateway) in [
        ("10.7.0.1", "10.7.0.254"),
        ("fd00::1", "fe80::1"),
        ("fe80::2", "fe80::1"),
    ] {
        for (name, kind, code, records) in [
            ("web.mesh.weft", 1, 0, vec![vec![10, 7, 0, 2]]),
            ("WEB.Mesh.Weft", 28, 0, vec![v6("fd00::2")]),
            ("web.mesh.weft", 255, 0, vec![vec![10, 7, 0, 2], v6("fd00::2")]),
            ("db.mesh.weft", 1, 0, vec![]),
            ("web.mesh.weft", 15, 0, vec![]),
            ("nobody.mesh.weft", 1, 3, vec![]),
            ("mesh.weft", 1, 0, vec![]),
            ("example.org", 1, 5, vec![]),
            ("notmesh.weft", 1, 5, vec![]),
            (
                "2.0.7.10.in-addr.arpa",
                12,
                0,
                vec![b"\x03web\x04mesh\x04weft\0".to_vec()],
            ),
            (reverse, 12, 0, vec![b"\x03web\x04mesh\x04weft\0".to_vec()]),
            ("9.9.9.10.in-addr.arpa", 12, 3, vec![]),
        ] {
            let question = query(0x4242, name, kind);
            let out = node.send(&guest, &Spec::new(&guest, source, gateway).udp(5353, 53, &question));
            let (ends, bytes) = udp_answer(&out);
            assert_eq!(ends, format!("{gateway} 53 > {source} 5353"));
            assert_eq!(decode(&question, &bytes), (code, records), "{name} {kind}");
        }
    }
    let spec = Spec::new(&guest, "10.7.0.1", "10.7.0.254");
    // Status query: not implemented. Two questions, a pointer in the question: format errors.
    let mut status = query(1, "web.mesh.weft", 1);
    status[2] |= 0x10;
    let mut two = query(1, "web.mesh.weft", 1);
    two[5] = 2;
    let mut pointer = query(1, "web.mesh.weft", 1);
    pointer[12] = 0xc0;
    for (bytes, code) in [(status, 4), (two, 1), (pointer, 1)] {
        assert_eq!(
            udp_answer(&node.send(&guest, &spec.udp(5353, 53, &bytes))).1[3] & 15,
            code
        );
    }
    // Responses, and queries from port 53, are not answered.
    let mut response = query(1, "web.mesh.weft", 1);
    response[2] |= 0x80;
    assert_silent(&node.send(&guest, &spec.udp(5353, 53, &response)));
    assert_silent(&node.send(&guest, &spec.udp(53, 53, &query(1, "web.mesh.weft", 1))));
}

#[test]
fn other_resolvers_are_named_after_the_gateway() {
    let (mut node, guest) = node();
    let mut config = port(1, 1, &["10.7.0.1", "fd00::1"]);
    config.gateway.dns_upstream = ["9.9.9.9:53", "[2620:fe::fe]:53", "1.1.1.1:853"]
        .map(|server| server.parse().unwrap())
        .to_vec();
    node.apply(&Change::PutPort(config));
    let (_, bytes) = udp_answer(&node.send(&guest, &dhcp(&guest, "0.0.0.0", |_| {})));
    assert_eq!(dhcp_option(&bytes, 6), Some(vec![10, 7, 0, 254, 9, 9, 9, 9]));
    let upstream = "2620:fe::fe".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let servers = [GATEWAY_V6.octets(), upstream].concat();
    let (_, bytes) = udp_answer(&node.send(&guest, &dhcp6(&guest, 11, &[])));
    assert!(options6(&bytes[4..]).contains(&(23, servers.clone())));
    let solicit = NdiscRepr::RouterSolicit { lladdr: None };
    let out = node.send(&guest, &nd(&guest, "fe80::2", "ff02::2", solicit));
    let rdnss = [&[25, 5, 0, 0, 0, 0, 14, 16][..], &servers].concat();
    let (_, frame) = one_frame(&out);
    assert_checksums(&frame[14..]);
    assert!(frame.windows(rdnss.len()).any(|window| window == rdnss));
}

#[test]
fn the_gateway_answers_pings_and_nothing_else() {
    let (mut node, guest) = node();
    for (source, gateway) in [
        ("10.7.0.1", "10.7.0.254"),
        ("fd00::1", "fe80::1"),
        ("fe80::2", "fe80::1"),
    ] {
        let request = Spec::new(&guest, source, gateway).echo(true, 5);
        let out = node.send(&guest, &request);
        let (_, frame) = one_frame(&out);
        assert_checksums(&frame[14..]);
        let l4 = if source.contains(':') { 54 } else { 34 };
        assert_eq!(frame[l4], if source.contains(':') { 129 } else { 0 });
        assert_eq!(frame[l4 + 4..], request[l4 + 4..]);
    }
    node.skip();
    let tcp = etherparse::TcpHeader {
        syn: true,
        ..etherparse::TcpHeader::new(1, 22, 3, 4)
    };
    assert_silent(&node.send(&guest, &Spec::new(&guest, "10.7.0.1", "10.7.0.254").tcp(&tcp, &[])));
    node.assert_moved(&[
        ("guest_port.guest1/net0.rx_packets", 1),
        ("drop.gateway-unserved", 1),
        ("guest_port.guest1/net0.drop.gateway-unserved", 1),
    ]);
    // mDNS and the like go nowhere.
    let mut mdns = Spec::new(&guest, "10.7.0.1", "224.0.0.251");
    mdns.destination_mac = [1, 0, 0x5e, 0, 0, 0xfb];
    assert_silent(&node.send(&guest, &mdns.udp(5353, 5353, b"?")));
    assert_eq!(node.counters()["drop.multicast"], 1);
}
