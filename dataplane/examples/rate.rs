//! What the pipeline costs without any I/O: guest frame to runs of datagrams and back to guest frames, one core.
//!
//! `cargo run --release -p dataplane --example rate`, in clear; with `-- --sealed` also under both suites, and what
//! sealing alone costs.
#![allow(clippy::disallowed_methods, reason = "time starts somewhere")]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use dataplane::{
    buffer::{DatagramRun, Offload, Pool, Segmentation},
    bytes::{put, put16},
    checksum,
    control::{
        Attachment, BindingConfig, Change, GatewayConfig, MappingConfig, MappingTarget, MeshNode, NetworkConfig,
        NetworkId, NetworkKind, PathLocator, PolicyConfig, PolicyRule, PortConfig, PortId, Protection, SaConfig,
        Service, UplinkConfig, UplinkId,
    },
    engine::{Engine, Output},
    parse::{Family, bits},
    seal,
};
use lisp::{
    EidPrefix, InstanceId, Rloc,
    mesh::{SaIndex, Suite, TrafficKey},
};

const NODES: [MeshNode; 2] = [lisp::mesh::KeyId([1; 16]), lisp::mesh::KeyId([2; 16])];
const MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 1];
const EIDS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 7, 0, 1), Ipv4Addr::new(10, 7, 0, 2)];
const RLOCS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
];

fn main() {
    println!(
        "{:32} {:>10} {:>10} {:>10} {:>10}",
        "", "ns/packet", "Gbit/s", "out ns", "in ns"
    );
    let suites = [Suite::Aes128Gcm, Suite::ChaCha20Poly1305].map(Some);
    let sealed = std::env::args().any(|argument| argument == "--sealed");
    for suite in [None].into_iter().chain(suites.into_iter().filter(|_| sealed)) {
        println!("{}", suite.map_or("in clear".to_owned(), |suite| suite.to_string()));
        measure(suite, "TCP, super-packets of 58 KB", 58_000, 1_360, 1);
        measure(suite, "TCP, super-packets of 16 KB", 16_000, 1_360, 4);
        measure(suite, "TCP, singles of 1400 B, 32 a burst", 1_348, 1_348, 32);
        measure(suite, "TCP, singles of 64 B, 32 a burst", 24, 24, 32);
    }
    if sealed {
        for (suite, each) in seal::measure(Duration::from_millis(500)) {
            println!("{suite}: {each} ns to seal 1400 bytes");
        }
    }
}

/// `count` frames a burst, `payload` bytes of TCP each, to be cut at `size`.
fn measure(suite: Option<Suite>, name: &str, payload: usize, size: usize, count: usize) {
    let (mut sender, mut receiver) = (node(0, suite), node(1, suite));
    let mut pool = Pool::default();
    let (mut out, mut back) = (Output::default(), Output::default());
    let (mut frames, mut runs) = (Vec::new(), Vec::new());
    let template: Vec<Vec<u8>> = (0..count)
        .map(|index| frame(payload, (index * payload) as u32))
        .collect();
    let (mut packets, mut bytes, mut outbound, mut inbound) = (0, 0, Duration::ZERO, Duration::ZERO);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        for bytes in &template {
            let mut packet = pool.packet();
            packet.set_len(bytes.len());
            packet.bytes_mut().copy_from_slice(bytes);
            let size = size as u16;
            packet.offload = Offload {
                segmentation: if payload > usize::from(size) {
                    Segmentation::TcpV4 { size, ecn: false }
                } else {
                    Segmentation::None
                },
                checksum: Some((34, 16)),
            };
            frames.push(packet);
        }
        let now = Instant::now();
        sender.outbound(now, PortId(1), &mut frames, &mut pool, &mut out);
        let sent = Instant::now();
        outbound += sent - now;
        runs.extend(out.to_uplinks.drain(..).map(|run: DatagramRun| arrived(run)));
        packets += runs.iter().map(DatagramRun::count).sum::<usize>();
        let now = Instant::now();
        receiver.inbound(now, &mut runs, &mut pool, &mut back);
        inbound += now.elapsed();
        for (_, frame) in back.to_ports.drain(..) {
            bytes += frame.len() - 54;
            pool.recycle_packet(frame);
        }
    }
    let total = (outbound + inbound).as_nanos() as f64;
    println!(
        "{name:32} {:>10.0} {:>10.1} {:>10.0} {:>10.0}",
        total / packets as f64,
        bytes as f64 * 8.0 / total,
        outbound.as_nanos() as f64 / packets as f64,
        inbound.as_nanos() as f64 / packets as f64,
    );
}

fn arrived(mut run: DatagramRun) -> DatagramRun {
    run.remote = SocketAddr::new(run.local, 40_000);
    run
}

fn frame(payload: usize, sequence: u32) -> Vec<u8> {
    let mut frame = vec![0x5a; 54 + payload];
    put(&mut frame, 0, &GATEWAY).unwrap();
    put(&mut frame, 6, &MAC).unwrap();
    put(&mut frame, 12, &[8, 0, 0x45, 0]).unwrap();
    put16(&mut frame, 16, (40 + payload) as u16).unwrap();
    put(&mut frame, 18, &[0, 1, 0x40, 0, 64, 6, 0, 0]).unwrap();
    put(&mut frame, 26, &EIDS[0].octets()).unwrap();
    put(&mut frame, 30, &EIDS[1].octets()).unwrap();
    checksum::write_ipv4(&mut frame, 14, 20).unwrap();
    put(&mut frame, 34, &[0x03, 0xe8, 0x07, 0xd0]).unwrap();
    put(&mut frame, 38, &sequence.to_be_bytes()).unwrap();
    put(&mut frame, 42, &[0, 0, 0, 1, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0]).unwrap();
    let pseudo = checksum::pseudo_header(Family::V4, bits(EIDS[0].into()), bits(EIDS[1].into()), 6);
    put16(&mut frame, 50, checksum::fold(pseudo + (20 + payload) as u64)).unwrap();
    frame
}

/// The SAs of one side.
fn sa(index: usize, suite: Suite) -> SaConfig {
    let key = |number: u32| {
        let index = SaIndex::new(number).unwrap();
        (index, TrafficKey::new([number as u8; 32], [number as u8; 12]))
    };
    let mut keys = [vec![key(1)], vec![key(2)]];
    keys.rotate_left(index);
    let [inbound, outbound] = keys;
    SaConfig {
        node: NODES[1 - index],
        suite,
        inbound,
        outbound,
        initiator: true,
        life: Duration::from_secs(180),
        packet_limit: 1 << 30,
    }
}

fn node(index: usize, suite: Option<Suite>) -> Engine {
    let now = Instant::now();
    let mut engine = Engine::new(now, 0, 1);
    let network = NetworkId(1);
    let instance_id = InstanceId::new(7).unwrap();
    let locators = vec![PathLocator {
        rloc: Rloc::new(RLOCS[1 - index]),
        priority: 1,
        weight: 1,
        reachable: true,
    }];
    let changes = [
        Change::PutUplink(UplinkConfig {
            id: UplinkId(1),
            name: "eth0".into(),
            addresses: vec![RLOCS[index]],
            source_ports: 4,
            mtu: 1500,
        }),
        Change::PutNetwork(NetworkConfig {
            id: network,
            name: "mesh".into(),
            kind: NetworkKind::Mesh {
                instance_id,
                protection: if suite.is_some() {
                    Protection::Sealed
                } else {
                    Protection::Clear
                },
                eid_prefixes: vec![],
            },
            names: vec![],
            domain: String::new(),
            host_addresses: vec![],
        }),
        Change::PutPolicy(PolicyConfig {
            network,
            rules: vec![PolicyRule {
                name: "all".into(),
                from: vec![],
                to: vec![],
                service: Service::Any,
                allow: true,
            }],
        }),
        Change::PutPort(PortConfig {
            id: PortId(1),
            name: "guest/net0".into(),
            network,
            attachment: Attachment::Memory,
            mac: MAC,
            addresses: vec![EIDS[index].into()],
            routed: vec![],
            gateway: GatewayConfig {
                mac: GATEWAY,
                ipv4: None,
                ipv6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
                mtu: 1400,
                lease: Duration::from_secs(3600),
                dns_upstream: vec![],
            },
            host_name: "guest".into(),
        }),
        Change::PutMapping(MappingConfig {
            prefix: EidPrefix::from_parts(instance_id, EIDS[1 - index].into(), 32).unwrap(),
            target: MappingTarget::Locators(locators),
            node: Some(NODES[1 - index]),
        }),
        Change::PutBinding(BindingConfig {
            prefix: EidPrefix::from_parts(instance_id, EIDS[1 - index].into(), 32).unwrap(),
            node: NODES[1 - index],
        }),
    ];
    let keys = suite.map(|suite| Change::PutSa(sa(index, suite)));
    for change in changes.into_iter().chain(keys) {
        engine
            .apply(now, &change, &mut Pool::default(), &mut Output::default())
            .unwrap();
    }
    engine
}
