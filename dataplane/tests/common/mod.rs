//! Nodes with memory instead of ports and uplinks, frames built by etherparse (not by the code under test), and
//! counters of which every movement has to be named.
#![allow(clippy::disallowed_methods, reason = "time starts somewhere")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use dataplane::{
    buffer::{DatagramRun, Offload, PacketBuf, Pool, Segmentation},
    control::{
        Answer, Attachment, Change, Event, GatewayConfig, MappingConfig, MappingTarget, NetworkConfig, NetworkId,
        NetworkKind, PathLocator, PolicyConfig, PolicyRule, PortConfig, PortId, Protection, Query, Service,
        UplinkConfig, UplinkId,
    },
    engine::{Engine, Output},
};
use etherparse::{EtherType, Ethernet2Header, IpHeaders, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};
use lisp::{EidPrefix, InstanceId, Rloc};

pub const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A node under test.
pub struct Node {
    pub engine: Engine,
    pub pool: Pool,
    pub now: Instant,
    pub rlocs: Vec<IpAddr>,
    seen: BTreeMap<String, u64>,
}

impl Node {
    /// A node with one uplink that has these addresses.
    pub fn new(rlocs: &[&str]) -> Self {
        let now = Instant::now();
        let mut node = Self {
            engine: Engine::new(now, 1_700_000_000_000_000_000, 42),
            pool: Pool::default(),
            now,
            rlocs: rlocs.iter().map(|rloc| ip(rloc)).collect(),
            seen: BTreeMap::new(),
        };
        let config = UplinkConfig {
            id: UplinkId(1),
            name: "eth0".into(),
            addresses: node.rlocs.clone(),
            source_ports: 4,
            mtu: 1500,
        };
        node.apply(&Change::PutUplink(config));
        node
    }

    pub fn apply(&mut self, change: &Change) -> Output {
        self.try_apply(change).unwrap()
    }

    pub fn try_apply(&mut self, change: &Change) -> Result<Output, String> {
        let mut out = Output::default();
        self.engine.apply(self.now, change, &mut self.pool, &mut out)?;
        Ok(out)
    }

    /// A mesh network where everything is allowed.
    pub fn mesh(&mut self, id: u32, instance_id: u32) {
        self.apply(&Change::PutNetwork(mesh(id, instance_id, Protection::Clear)));
        self.allow(id, vec![rule("all", &[], &[], Service::Any, true)]);
    }

    pub fn allow(&mut self, network: u32, rules: Vec<PolicyRule>) {
        self.apply(&Change::PutPolicy(PolicyConfig {
            network: NetworkId(network),
            rules,
        }));
    }

    pub fn port(&mut self, id: u32, network: u32, addresses: &[&str]) -> Guest {
        let config = port(id, network, addresses);
        self.apply(&Change::PutPort(config.clone()));
        self.skip();
        Guest {
            port: PortId(id),
            mac: config.mac,
        }
    }

    pub fn map(&mut self, prefix: &str, rlocs: &[&str]) -> Output {
        let locators = rlocs.iter().map(|rloc| locator(rloc, 1, 100)).collect();
        self.apply(&Change::PutMapping(mapping(prefix, MappingTarget::Locators(locators))))
    }

    pub fn outbound(&mut self, port: PortId, frames: Vec<PacketBuf>) -> Output {
        let mut out = Output::default();
        self.engine
            .outbound(self.now, port, &mut { frames }, &mut self.pool, &mut out);
        out
    }

    pub fn send(&mut self, guest: &Guest, frame: &[u8]) -> Output {
        self.outbound(guest.port, vec![PacketBuf::from_frame(frame)])
    }

    pub fn inbound(&mut self, runs: Vec<DatagramRun>) -> Output {
        let mut out = Output::default();
        self.engine.inbound(self.now, &mut { runs }, &mut self.pool, &mut out);
        out
    }

    /// A datagram with this LISP header word and inner packet.
    pub fn datagram(&mut self, from: &str, header: [u8; 8], inner: &[u8], ttl: u8, tos: u8) -> Output {
        let mut bytes = header.to_vec();
        bytes.extend(inner);
        let mut run = DatagramRun::new();
        run.room_mut()[..bytes.len()].copy_from_slice(&bytes);
        run.set_len(bytes.len());
        (run.uplink, run.remote, run.ttl, run.tos) = (UplinkId(1), SocketAddr::new(ip(from), 40_000), ttl, tos);
        run.stride = bytes.len();
        self.inbound(vec![run])
    }

    /// What left towards the underlay of another node arrives there, after `hops` of it.
    pub fn receive(&mut self, runs: Vec<DatagramRun>, hops: u8) -> Output {
        let arrived = runs
            .into_iter()
            .map(|mut run| {
                assert!(
                    self.rlocs.contains(&run.remote.ip()),
                    "sent to {}, we are {:?}",
                    run.remote,
                    self.rlocs
                );
                let (from, to) = (run.local, run.remote.ip());
                let spread = 40_000 + (run.flow_hash % 1000) as u16;
                run.remote = SocketAddr::new(from, if run.data_port { 4341 } else { spread });
                run.data_port = false;
                run.local = to;
                run.ttl -= hops;
                run
            })
            .collect();
        self.inbound(arrived)
    }

    pub fn ask(&mut self, query: &Query) -> (Option<Answer>, Output) {
        let mut out = Output::default();
        let answer = self.engine.ask(self.now, query, &mut self.pool, &mut out);
        (answer, out)
    }

    pub fn tick(&mut self, later: Duration) -> Output {
        self.now += later;
        let mut out = Output::default();
        self.engine.tick(self.now, &mut self.pool, &mut out);
        out
    }

    pub fn counters(&mut self) -> BTreeMap<String, u64> {
        let Some(Answer::Counters(counters)) = self.engine.query(self.now, &Query::Counters) else {
            panic!()
        };
        counters.into_iter().collect()
    }

    /// Forgets what moved so far.
    pub fn skip(&mut self) {
        self.seen = self.counters();
    }

    /// Every counter that moved since the last look, bytes left out.
    pub fn moved(&mut self) -> Vec<(String, u64)> {
        let now = self.counters();
        let moved = now
            .iter()
            .filter(|(name, _)| !name.ends_with("_bytes"))
            .map(|(name, value)| (name.clone(), value - self.seen.get(name).copied().unwrap_or_default()))
            .filter(|(_, by)| *by != 0)
            .collect();
        self.seen = now;
        moved
    }

    /// Exactly these counters moved, by so much, since the last look.
    #[track_caller]
    pub fn assert_moved(&mut self, expected: &[(&str, u64)]) {
        let mut expected: Vec<(String, u64)> = expected.iter().map(|(name, by)| ((*name).to_owned(), *by)).collect();
        expected.sort();
        assert_eq!(self.moved(), expected);
    }
}

/// A guest behind a port.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    pub port: PortId,
    pub mac: [u8; 6],
}

pub fn mesh(id: u32, instance_id: u32, protection: Protection) -> NetworkConfig {
    NetworkConfig {
        id: NetworkId(id),
        name: format!("mesh{id}"),
        kind: NetworkKind::Mesh {
            instance_id: InstanceId::new(instance_id).unwrap(),
            protection,
            eid_prefixes: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        },
        names: vec![
            ("web.mesh.weft".into(), vec![ip("10.7.0.2"), ip("fd00::2")]),
            ("db.mesh.weft".into(), vec![ip("fd00::3")]),
        ],
        domain: "mesh.weft".into(),
        host_addresses: vec![],
    }
}

pub fn port(id: u32, network: u32, addresses: &[&str]) -> PortConfig {
    PortConfig {
        id: PortId(id),
        name: format!("guest{id}/net0"),
        network: NetworkId(network),
        attachment: Attachment::Memory,
        mac: [2, 0, 0, 0, 1, id as u8],
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        routed: vec![],
        gateway: GatewayConfig {
            mac: GATEWAY_MAC,
            ipv4: Some((Ipv4Addr::new(10, 7, 0, 254), "10.7.0.0/24".parse().unwrap())),
            ipv6: GATEWAY_V6,
            mtu: 1400,
            lease: Duration::from_secs(3600),
            dns_upstream: vec![],
        },
        host_name: format!("guest{id}"),
    }
}

pub fn rule(name: &str, from: &[&str], to: &[&str], service: Service, allow: bool) -> PolicyRule {
    PolicyRule {
        name: name.into(),
        from: from.iter().map(|net| net.parse().unwrap()).collect(),
        to: to.iter().map(|net| net.parse().unwrap()).collect(),
        service,
        allow,
    }
}

pub fn locator(rloc: &str, priority: u8, weight: u8) -> PathLocator {
    PathLocator {
        rloc: Rloc::new(ip(rloc)),
        priority,
        weight,
        reachable: true,
    }
}

pub fn mapping(prefix: &str, target: MappingTarget) -> MappingConfig {
    MappingConfig {
        prefix: prefix.parse::<EidPrefix>().unwrap(),
        target,
        node: None,
    }
}

/// What a test packet says; the rest is ordinary.
#[derive(Clone, Debug)]
pub struct Spec {
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
    pub source: IpAddr,
    pub destination: IpAddr,
    pub ttl: u8,
    pub tos: u8,
    pub id: u16,
    pub dont_fragment: bool,
}

impl Spec {
    pub fn new(guest: &Guest, source: &str, destination: &str) -> Self {
        Self {
            source_mac: guest.mac,
            destination_mac: GATEWAY_MAC,
            source: ip(source),
            destination: ip(destination),
            ttl: 64,
            tos: 0,
            id: 7,
            dont_fragment: true,
        }
    }

    fn headers(&self, payload: usize, protocol: IpNumber) -> IpHeaders {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header::new(
                    payload as u16,
                    self.ttl,
                    protocol,
                    source.octets(),
                    destination.octets(),
                )
                .unwrap();
                header.identification = self.id;
                header.dont_fragment = self.dont_fragment;
                header.dscp = etherparse::IpDscp::try_new(self.tos >> 2).unwrap();
                header.ecn = etherparse::IpEcn::try_new(self.tos & 3).unwrap();
                header.header_checksum = header.calc_header_checksum();
                IpHeaders::Ipv4(header, Default::default())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => IpHeaders::Ipv6(
                Ipv6Header {
                    traffic_class: self.tos,
                    payload_length: payload as u16,
                    next_header: protocol,
                    hop_limit: self.ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Default::default()
                },
                Default::default(),
            ),
            _ => panic!("two families"),
        }
    }

    /// An Ethernet frame around an IP payload of this protocol.
    pub fn frame(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let headers = self.headers(payload.len(), IpNumber(protocol));
        let mut frame = Vec::new();
        let ether_type = if self.source.is_ipv4() {
            EtherType::IPV4
        } else {
            EtherType::IPV6
        };
        Ethernet2Header {
            source: self.source_mac,
            destination: self.destination_mac,
            ether_type,
        }
        .write(&mut frame)
        .unwrap();
        match headers {
            IpHeaders::Ipv4(header, _) => header.write(&mut frame).unwrap(),
            IpHeaders::Ipv6(header, _) => header.write(&mut frame).unwrap(),
        }
        frame.extend(payload);
        frame
    }

    pub fn tcp(&self, tcp: &TcpHeader, payload: &[u8]) -> Vec<u8> {
        let mut tcp = tcp.clone();
        tcp.checksum = match self.headers(0, IpNumber::TCP) {
            IpHeaders::Ipv4(header, _) => tcp.calc_checksum_ipv4(&header, payload).unwrap(),
            IpHeaders::Ipv6(header, _) => tcp.calc_checksum_ipv6(&header, payload).unwrap(),
        };
        let mut bytes = Vec::new();
        tcp.write(&mut bytes).unwrap();
        bytes.extend(payload);
        self.frame(6, &bytes)
    }

    pub fn udp(&self, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        let header = match self.headers(0, IpNumber::UDP) {
            IpHeaders::Ipv4(header, _) => UdpHeader::with_ipv4_checksum(source, destination, &header, payload).unwrap(),
            IpHeaders::Ipv6(header, _) => UdpHeader::with_ipv6_checksum(source, destination, &header, payload).unwrap(),
        };
        let mut bytes = Vec::new();
        header.write(&mut bytes).unwrap();
        bytes.extend(payload);
        self.frame(17, &bytes)
    }

    /// An ICMP or ICMPv6 message; `rest` follows type, code and checksum.
    pub fn icmp(&self, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, code, 0, 0];
        message.extend(rest);
        let sum = match (self.source, self.destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => etherparse::checksum::Sum16BitWords::new()
                .add_16bytes(source.octets())
                .add_16bytes(destination.octets())
                .add_4bytes((message.len() as u32).to_be_bytes())
                .add_2bytes([0, 58])
                .add_slice(&message),
            _ => etherparse::checksum::Sum16BitWords::new().add_slice(&message),
        };
        message[2..4].copy_from_slice(&sum.ones_complement().to_be().to_be_bytes());
        self.frame(if self.source.is_ipv4() { 1 } else { 58 }, &message)
    }

    /// An echo request (`true`) or reply.
    pub fn echo(&self, request: bool, id: u16) -> Vec<u8> {
        let kind = match (self.source.is_ipv4(), request) {
            (true, true) => 8,
            (true, false) => 0,
            (false, true) => 128,
            (false, false) => 129,
        };
        let mut rest = id.to_be_bytes().to_vec();
        rest.extend([0, 1]);
        rest.extend(b"how do you do");
        self.icmp(kind, 0, &rest)
    }
}

/// The TCP super-packet that `tcp` (one packet as the oracle writes it, of any size) would be handed over as:
/// checksum partial, segmentation announced.
pub fn super_packet(frame: &[u8], size: u16) -> PacketBuf {
    let mut packet = PacketBuf::from_frame(frame);
    let v6 = frame[12..14] == [0x86, 0xdd];
    let (l4, protocol) = if v6 { (54, frame[20]) } else { (34, frame[23]) };
    let field = if protocol == 6 { 16 } else { 6 };
    packet.offload = Offload {
        segmentation: match (protocol, v6) {
            _ if size == 0 => Segmentation::None,
            (6, false) => Segmentation::TcpV4 { size, ecn: false },
            (6, true) => Segmentation::TcpV6 { size, ecn: false },
            _ => Segmentation::Udp { size },
        },
        checksum: Some((l4 as u16, field)),
    };
    let pseudo = etherparse::checksum::Sum16BitWords::new();
    let mut pseudo = if v6 {
        pseudo.add_slice(&frame[22..54])
    } else {
        pseudo.add_slice(&frame[26..34])
    };
    let length = (frame.len() - l4) as u32;
    let sum = pseudo
        .add_4bytes(length.to_be_bytes())
        .add_2bytes([0, protocol])
        .ones_complement();
    let at = l4 + usize::from(field);
    // The field holds the sum itself, not its complement.
    packet.bytes_mut()[at..at + 2].copy_from_slice(&(!sum).to_be().to_be_bytes());
    packet
}

/// All datagrams of the runs, one by one.
pub fn datagrams(runs: &mut [DatagramRun]) -> Vec<Vec<u8>> {
    runs.iter_mut()
        .flat_map(|run| run.datagrams_mut().map(|d| d.to_vec()).collect::<Vec<_>>())
        .collect()
}

/// Every checksum of an IP packet is right, as etherparse sees it.
#[track_caller]
pub fn assert_checksums(packet: &[u8]) {
    let sliced = etherparse::SlicedPacket::from_ip(packet).unwrap();
    let total = match sliced.net.as_ref().unwrap() {
        etherparse::NetSlice::Ipv4(v4) => {
            let header = v4.header().to_header();
            assert_eq!(
                header.header_checksum,
                header.calc_header_checksum(),
                "IPv4 header checksum"
            );
            if v4.is_payload_fragmented() {
                return;
            }
            usize::from(header.total_len)
        }
        etherparse::NetSlice::Ipv6(v6) => 40 + usize::from(v6.header().payload_length()),
        etherparse::NetSlice::Arp(_) => return,
    };
    assert_eq!(total, packet.len(), "length of the IP packet");
    let (protocol, l4) = if packet[0] >> 4 == 4 {
        (packet[9], 20)
    } else {
        (packet[6], 40)
    };
    let transport = &packet[l4..];
    if protocol == 17 && transport[6..8] == [0, 0] {
        return;
    }
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(transport);
    let sum = match (packet[0] >> 4, protocol) {
        (_, 1) => sum,
        (4, _) => sum
            .add_slice(&packet[12..20])
            .add_4bytes((transport.len() as u32).to_be_bytes()),
        _ => sum
            .add_slice(&packet[8..40])
            .add_4bytes((transport.len() as u32).to_be_bytes()),
    };
    let sum = if protocol == 1 {
        sum
    } else {
        sum.add_2bytes([0, protocol])
    };
    assert_eq!(sum.ones_complement(), 0, "transport checksum of protocol {protocol}");
}

/// The one frame that came out, and to which port.
#[track_caller]
pub fn one_frame(out: &Output) -> (PortId, &[u8]) {
    assert_eq!(out.to_ports.len(), 1, "{out:?}");
    (out.to_ports[0].0, out.to_ports[0].1.bytes())
}

#[track_caller]
pub fn assert_silent(out: &Output) {
    let quiet = out.to_ports.is_empty() && out.to_uplinks.is_empty() && out.to_local_exit.is_empty();
    assert!(quiet && out.to_host.is_empty(), "{out:?}");
}

pub fn misses(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::MapCacheMiss { eid, source } => Some(format!("{source} looks for {eid}")),
            _ => None,
        })
        .collect()
}

/// The LISP header of a packet in clear.
pub fn clear(instance_id: u32) -> [u8; 8] {
    let [_, a, b, c] = instance_id.to_be_bytes();
    [0x08, 0, 0, 0, a, b, c, 0]
}
