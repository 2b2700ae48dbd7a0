//! A super-packet is worth exactly the packets that it stands for: against an oracle that writes those packets one
//! by one with etherparse, and back again through the coalescer of another node.

mod common;

use common::*;
use dataplane::buffer::{DatagramRun, MAX_RUN, Offload, PacketBuf, Segmentation};
use etherparse::TcpHeader;
use proptest::prelude::*;

const EIDS: [(&str, &str); 2] = [("10.7.0.1", "10.7.0.2"), ("fd00::1", "fd00::2")];

fn pair() -> (Node, Guest, Node, Guest) {
    let (mut a, mut b) = (Node::new(&["192.0.2.1"]), Node::new(&["192.0.2.2"]));
    a.mesh(1, 7);
    b.mesh(1, 7);
    let guest_a = a.port(1, 1, &["10.7.0.1", "fd00::1"]);
    let guest_b = b.port(2, 1, &["10.7.0.2", "fd00::2"]);
    a.map("[7]10.7.0.0/24", &["192.0.2.2"]);
    a.map("[7]fd00::/64", &["192.0.2.2"]);
    (a, guest_a, b, guest_b)
}

/// What a TCP sender says once for a whole super-packet.
#[derive(Clone, Debug)]
struct Stream {
    v6: bool,
    payload: Vec<u8>,
    size: usize,
    sequence: u32,
    id: u16,
    dont_fragment: bool,
    push: bool,
    fin: bool,
    congestion_window_reduced: bool,
    timestamps: bool,
}

impl Stream {
    fn spec(&self, guest: &Guest) -> Spec {
        let (source, destination) = EIDS[usize::from(self.v6)];
        Spec {
            id: self.id,
            dont_fragment: self.dont_fragment,
            ..Spec::new(guest, source, destination)
        }
    }

    fn header(&self, from: usize, last: bool) -> TcpHeader {
        let mut tcp = TcpHeader::new(1000, 2000, self.sequence.wrapping_add(from as u32), 4000);
        (tcp.ack, tcp.acknowledgment_number) = (true, 77);
        (tcp.psh, tcp.fin) = (self.push && last, self.fin && last);
        tcp.cwr = self.congestion_window_reduced && from == 0;
        if self.timestamps {
            tcp.set_options_raw(&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        }
        tcp
    }

    /// The whole, as a TSO sender hands it over.
    fn whole(&self, guest: &Guest) -> PacketBuf {
        let frame = self.spec(guest).tcp(&self.header(0, true), &self.payload);
        super_packet(&frame, self.size as u16)
    }

    /// The oracle: the packets that a sender without offloads would have written.
    fn singles(&self, guest: &Guest) -> Vec<Vec<u8>> {
        let count = self.payload.chunks(self.size).count();
        let pieces = self.payload.chunks(self.size).enumerate();
        pieces
            .map(|(index, piece)| {
                let spec = Spec {
                    id: self.id.wrapping_add(index as u16),
                    ..self.spec(guest)
                };
                spec.tcp(&self.header(index * self.size, index + 1 == count), piece)
            })
            .collect()
    }
}

fn streams() -> impl Strategy<Value = Stream> {
    let size = prop_oneof![Just(1), 2usize..100, 100usize..1400, Just(1388)];
    let flags = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    (size, 1usize..65_000, any::<u32>(), any::<u16>(), flags, any::<u64>()).prop_map(
        |(size, length, sequence, id, (v6, dont_fragment, push, fin, cwr, timestamps), seed)| Stream {
            v6,
            payload: (0..length.min(size * 1000))
                .map(|i| (seed.wrapping_mul(i as u64 + 1) >> 40) as u8)
                .collect(),
            size,
            sequence,
            id,
            dont_fragment: dont_fragment || v6,
            push,
            fin,
            congestion_window_reduced: cwr,
            timestamps,
        },
    )
}

/// Every run is what one `UDP_SEGMENT` send takes.
fn assert_sendable(runs: &[DatagramRun]) {
    for run in runs {
        assert!(
            run.len() <= MAX_RUN && run.count() <= 64 && run.stride > 0,
            "{} in {}",
            run.len(),
            run.count()
        );
    }
}

/// The TCP payload of the frames in order, which must be where the sequence numbers say.
fn stream_of(frames: &[PacketBuf], mut next: u32) -> Vec<u8> {
    let mut stream = Vec::new();
    for frame in frames {
        let bytes = frame.bytes();
        let l4 = if bytes[12..14] == [0x86, 0xdd] { 54 } else { 34 };
        let sequence = u32::from_be_bytes(bytes[l4 + 4..l4 + 8].try_into().unwrap());
        assert_eq!(sequence, next);
        let payload = &bytes[l4 + usize::from(bytes[l4 + 12] >> 4) * 4..];
        next = next.wrapping_add(payload.len() as u32);
        stream.extend(payload);
    }
    stream
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tcp_super_packet_is_worth_its_packets(stream in streams()) {
        let (mut one, guest, mut receiver, _) = pair();
        let (mut many, ..) = pair();
        let mut sent = one.outbound(guest.port, vec![stream.whole(&guest)]).to_uplinks;
        assert_sendable(&sent);
        let singles: Vec<PacketBuf> = stream.singles(&guest).iter().map(|f| PacketBuf::from_frame(f)).collect();
        let count = singles.len();
        let mut expected = many.outbound(guest.port, singles).to_uplinks;
        assert_sendable(&expected);
        let got = datagrams(&mut sent);
        prop_assert_eq!(&got, &datagrams(&mut expected));
        prop_assert_eq!(got.len(), count);
        for datagram in got.iter().step_by(1 + count / 8) {
            assert_checksums(&datagram[8..]);
        }
        // And back: merged by the other node, it is the same stream of bytes.
        let frames: Vec<PacketBuf> = receiver.receive(sent, 1).to_ports.into_iter().map(|(_, frame)| frame).collect();
        prop_assert_eq!(stream_of(&frames, stream.sequence), stream.payload.clone());
        if !stream.congestion_window_reduced && !stream.fin && count > 1 {
            prop_assert_eq!(frames.len(), if stream.payload.len() + 100 > 65_535 { frames.len() } else { 1 });
        }
        // What the frames stand for, cut again by a third node, is what was on the wire.
        if !stream.congestion_window_reduced && !stream.fin {
            let (mut third, ..) = pair();
            let mut back = Vec::new();
            for frame in frames {
                let mut frame = frame;
                frame.bytes_mut()[0..6].copy_from_slice(&GATEWAY_MAC);
                frame.bytes_mut()[6..12].copy_from_slice(&guest.mac);
                back.push(frame);
            }
            let mut again = third.outbound(guest.port, back).to_uplinks;
            let (again, got) = (datagrams(&mut again), got);
            prop_assert_eq!(again.len(), got.len());
            let l4 = if stream.v6 { 48 } else { 28 };
            for (again, got) in again.iter().zip(&got) {
                // TTL went down once more, and the header checksum with it.
                prop_assert_eq!(&again[l4..], &got[l4..]);
                prop_assert_eq!(&again[..14], &got[..14]);
            }
        }
    }

    #[test]
    fn a_udp_super_packet_is_worth_its_packets(
        v6 in any::<bool>(), size in 1usize..1400, count in 1usize..60, rest in 0usize..1400, seed in any::<u64>(),
    ) {
        let length = size * count + rest % size;
        let payload: Vec<u8> = (0..length).map(|i| (seed.wrapping_mul(i as u64 + 1) >> 40) as u8).collect();
        prop_assume!(length < 65_000);
        let (source, destination) = EIDS[usize::from(v6)];
        let (mut one, guest, mut receiver, _) = pair();
        let (mut many, ..) = pair();
        let spec = Spec::new(&guest, source, destination);
        let whole = super_packet(&spec.udp(1000, 2000, &payload), size as u16);
        let mut sent = one.outbound(guest.port, vec![whole]).to_uplinks;
        assert_sendable(&sent);
        let singles = payload.chunks(size).enumerate().map(|(index, piece)| {
            PacketBuf::from_frame(&Spec { id: spec.id + index as u16, ..spec.clone() }.udp(1000, 2000, piece))
        });
        let singles: Vec<PacketBuf> = singles.collect();
        let mut expected = many.outbound(guest.port, singles).to_uplinks;
        prop_assert_eq!(datagrams(&mut sent), datagrams(&mut expected));
        let out = receiver.receive(sent, 1);
        let mut pool = dataplane::buffer::Pool::default();
        let mut frames = Vec::new();
        for (_, frame) in out.to_ports {
            dataplane::segment::explode(frame, &mut pool, &mut frames);
        }
        let l4 = if v6 { 54 } else { 34 };
        for frame in &frames {
            assert_checksums(&frame.bytes()[14..]);
        }
        let pieces: Vec<&[u8]> = frames.iter().map(|frame| &frame.bytes()[l4 + 8..]).collect();
        prop_assert_eq!(pieces, payload.chunks(size).collect::<Vec<_>>());
    }
}

#[test]
fn a_large_super_packet_arrives_as_one_frame() {
    for v6 in [false, true] {
        let stream = Stream {
            v6,
            payload: vec![0x5a; 58_000],
            size: 1388,
            sequence: u32::MAX - 1000,
            id: 0xfff0,
            dont_fragment: true,
            push: true,
            fin: false,
            congestion_window_reduced: false,
            timestamps: true,
        };
        let (mut a, guest, mut b, _) = pair();
        let out = a.outbound(guest.port, vec![stream.whole(&guest)]);
        assert_eq!(out.to_uplinks.len(), 1, "one send");
        assert_eq!(out.to_uplinks[0].count(), 42);
        let out = b.receive(out.to_uplinks, 1);
        let (_, frame) = one_frame(&out);
        let l4 = if v6 { 54 } else { 34 };
        assert_eq!(frame.len(), l4 + 32 + 58_000);
        let segmentation = match v6 {
            true => Segmentation::TcpV6 { size: 1388, ecn: false },
            false => Segmentation::TcpV4 { size: 1388, ecn: false },
        };
        assert_eq!(
            out.to_ports[0].1.offload,
            Offload {
                segmentation,
                checksum: Some((l4 as u16, 16))
            }
        );
        assert_eq!(frame[l4 + 13], 0x18, "ACK, and the PSH of the last segment");
        b.assert_moved(&[
            ("uplink.eth0.rx_packets", 42),
            ("flow.misses", 1),
            ("flow.hits", 41),
            ("connection.opened", 1),
            ("etr.decapsulated", 42),
            ("etr.coalesced", 41),
            ("guest_port.guest2/net0.tx_packets", 42),
        ]);
    }
}

/// Sends these packets in one burst to another node and tells how they arrive: payload bytes of each frame.
fn merged(packets: &[Vec<u8>]) -> Vec<usize> {
    let (mut a, guest, mut b, _) = pair();
    let frames = packets.iter().map(|frame| PacketBuf::from_frame(frame)).collect();
    let out = a.outbound(guest.port, frames);
    let out = b.receive(out.to_uplinks, 1);
    out.to_ports
        .iter()
        .map(|(_, frame)| frame.len())
        .map(|length| length - 54)
        .collect()
}

#[test]
fn what_may_not_be_merged() {
    let (_, guest, ..) = pair();
    let base = Spec::new(&guest, "10.7.0.1", "10.7.0.2");
    let header = |sequence: u32| {
        let mut tcp = TcpHeader::new(1000, 2000, sequence, 4000);
        (tcp.ack, tcp.acknowledgment_number) = (true, 77);
        tcp
    };
    let two = |spec: &Spec, change: &dyn Fn(&mut TcpHeader)| {
        let mut second = header(200);
        change(&mut second);
        vec![base.tcp(&header(100), &[1; 100]), spec.tcp(&second, &[2; 100])]
    };
    let plain = |_: &mut TcpHeader| {};
    assert_eq!(merged(&two(&base, &plain)), [200]);
    assert_eq!(merged(&two(&base, &|tcp| tcp.psh = true)), [200], "PSH ends it");
    for (what, change) in [
        ("a gap", (|tcp| tcp.sequence_number += 1) as fn(&mut TcpHeader)),
        ("an overlap", |tcp| tcp.sequence_number -= 1),
        ("another acknowledgment", |tcp| tcp.acknowledgment_number += 1),
        ("another window", |tcp| tcp.window_size += 1),
        ("FIN", |tcp| tcp.fin = true),
        ("RST", |tcp| tcp.rst = true),
        ("URG", |tcp| tcp.urg = true),
        ("CWR", |tcp| tcp.cwr = true),
        ("ECE", |tcp| tcp.ece = true),
    ] {
        assert_eq!(merged(&two(&base, &change)), [100, 100], "{what}");
    }
    let options = |tcp: &mut TcpHeader| tcp.set_options_raw(&[1, 1, 1, 1]).unwrap();
    assert_eq!(merged(&two(&base, &options)), [100, 104], "other options");
    for (what, spec) in [
        (
            "another TTL",
            Spec {
                ttl: 63,
                ..base.clone()
            },
        ),
        (
            "another DSCP",
            Spec {
                tos: 0x20,
                ..base.clone()
            },
        ),
        ("congestion", Spec { tos: 3, ..base.clone() }),
        (
            "no DF",
            Spec {
                dont_fragment: false,
                ..base.clone()
            },
        ),
    ] {
        assert_eq!(merged(&two(&spec, &plain)), [100, 100], "{what}");
    }
    // Three of which the middle one carries PSH; a longer one after a shorter one; a pure ACK between two.
    let push = TcpHeader {
        psh: true,
        ..header(200)
    };
    let three = |middle: &[u8], last: u32| {
        vec![
            base.tcp(&header(100), &[1; 100]),
            base.tcp(&push, middle),
            base.tcp(&header(last), &[3; 100]),
        ]
    };
    assert_eq!(merged(&three(&[2; 100], 300)), [200, 100]);
    let grows = vec![base.tcp(&header(100), &[1; 100]), base.tcp(&header(200), &[2; 101])];
    assert_eq!(merged(&grows), [100, 101]);
    let shrinks = vec![
        base.tcp(&header(100), &[1; 100]),
        base.tcp(&header(200), &[2; 50]),
        base.tcp(&header(250), &[3; 50]),
    ];
    assert_eq!(merged(&shrinks), [150, 50]);
    let acks = vec![
        base.tcp(&header(100), &[1; 100]),
        base.tcp(&header(200), &[]),
        base.tcp(&header(200), &[2; 100]),
    ];
    assert_eq!(merged(&acks), [100, 0, 100]);
    // A wrong checksum is handed on alone, for the guest to see.
    let mut broken = two(&base, &plain);
    *broken[1].last_mut().unwrap() ^= 1;
    assert_eq!(merged(&broken), [100, 100]);
}

#[test]
fn a_port_without_a_vnet_header_gets_ordinary_frames() {
    let (mut a, guest, mut b, _) = pair();
    let mut config = port(3, 1, &["10.7.0.3"]);
    config.attachment = dataplane::control::Attachment::Packet {
        interface: "veth3".into(),
        vnet_header: 0,
    };
    a.apply(&dataplane::control::Change::PutPort(config.clone()));
    b.apply(&dataplane::control::Change::PutPort(config.clone()));
    a.apply(&dataplane::control::Change::RemovePort(config.id));
    let tcp = TcpHeader {
        ack: true,
        ..TcpHeader::new(1, 2, 3, 4)
    };
    let whole = |source: &str| Spec::new(&guest, source, "10.7.0.3").tcp(&tcp, &[1; 9000]);
    // From another node, and from a guest of this one.
    let out = a.outbound(guest.port, vec![super_packet(&whole("10.7.0.1"), 1000)]);
    let remote = b.receive(out.to_uplinks, 1);
    let neighbour = b.port(2, 1, &["10.7.0.2", "fd00::2"]);
    let mut local = super_packet(&whole("10.7.0.2"), 1000);
    local.bytes_mut()[6..12].copy_from_slice(&neighbour.mac);
    let local = b.outbound(neighbour.port, vec![local]);
    for out in [remote, local] {
        assert_eq!(out.to_ports.len(), 9);
        for (id, frame) in &out.to_ports {
            assert_eq!((*id, frame.len(), frame.offload), (config.id, 1054, Offload::default()));
            assert_checksums(&frame.bytes()[14..]);
        }
    }
}

#[test]
fn interleaved_flows_are_merged_each() {
    let (mut a, guest, mut b, _) = pair();
    let mut frames = Vec::new();
    for index in 0..8u32 {
        for flow in 0..3u16 {
            let mut tcp = TcpHeader::new(1000 + flow, 2000, 1 + index * 500, 4000);
            tcp.ack = true;
            let frame = Spec::new(&guest, "10.7.0.1", "10.7.0.2").tcp(&tcp, &[flow as u8; 500]);
            frames.push(PacketBuf::from_frame(&frame));
        }
    }
    let out = a.outbound(guest.port, frames);
    assert_eq!(
        out.to_uplinks.iter().map(|run| run.count()).collect::<Vec<_>>(),
        [8, 8, 8],
        "a run for each flow"
    );
    let out = b.receive(out.to_uplinks, 1);
    assert_eq!(
        out.to_ports.iter().map(|(_, frame)| frame.len()).collect::<Vec<_>>(),
        [54 + 4000; 3]
    );
}

#[test]
fn a_partial_checksum_is_completed() {
    for (source, destination) in EIDS {
        let (mut a, guest, ..) = pair();
        let frame = Spec::new(&guest, source, destination).udp(1, 2, b"odd");
        let mut out = a.outbound(guest.port, vec![super_packet(&frame, 0)]);
        let inner = &datagrams(&mut out.to_uplinks)[0][8..];
        assert_checksums(inner);
        let l4 = if source.contains(':') { 40 } else { 20 };
        assert_eq!(inner[l4..], frame[14 + l4..]);
    }
}

#[test]
fn offloads_that_lie_are_refused() {
    let (mut a, guest, ..) = pair();
    let tcp = TcpHeader {
        ack: true,
        ..TcpHeader::new(1, 2, 3, 4)
    };
    let frame = Spec::new(&guest, "10.7.0.1", "10.7.0.2").tcp(&tcp, &[1; 3000]);
    let honest = super_packet(&frame, 1000).offload;
    let v4 = |size| Segmentation::TcpV4 { size, ecn: false };
    let lies = [
        Offload {
            segmentation: v4(0),
            ..honest
        },
        Offload {
            segmentation: v4(1),
            ..honest
        },
        Offload {
            segmentation: Segmentation::TcpV6 { size: 1000, ecn: false },
            ..honest
        },
        Offload {
            segmentation: Segmentation::Udp { size: 1000 },
            ..honest
        },
        Offload {
            checksum: None,
            ..honest
        },
        Offload {
            checksum: Some((34, 6)),
            ..honest
        },
        Offload {
            checksum: Some((14, 16)),
            ..honest
        },
        Offload {
            checksum: Some((0, 0)),
            ..honest
        },
        Offload {
            checksum: Some((u16::MAX, u16::MAX)),
            ..honest
        },
        Offload {
            segmentation: Segmentation::None,
            checksum: Some((frame.len() as u16 - 1, 0)),
        },
        Offload {
            segmentation: Segmentation::None,
            checksum: Some((20, 0)),
        },
    ];
    for (index, offload) in lies.into_iter().enumerate() {
        let mut packet = PacketBuf::from_frame(&frame);
        packet.offload = offload;
        assert_silent(&a.outbound(guest.port, vec![packet]));
        assert_eq!(a.counters()["drop.bad-offload"], index as u64 + 1, "{offload:?}");
    }
}

#[test]
fn a_tcp_super_packet_without_df_is_cut_to_fit() {
    let (mut a, guest, ..) = pair();
    let tcp = TcpHeader {
        ack: true,
        ..TcpHeader::new(1, 2, 3, 4)
    };
    let spec = Spec {
        dont_fragment: false,
        ..Spec::new(&guest, "10.7.0.1", "10.7.0.2")
    };
    let frame = spec.tcp(&tcp, &[1; 9000]);
    let mut out = a.outbound(guest.port, vec![super_packet(&frame, 3000)]);
    let got = datagrams(&mut out.to_uplinks);
    assert_eq!(got.iter().map(Vec::len).max(), Some(8 + 1464));
    assert_eq!(got.iter().map(|d| d.len() - 48).sum::<usize>(), 9000);
    // With DF the sender is told.
    let frame = Spec::new(&guest, "10.7.0.1", "10.7.0.2").tcp(&tcp, &[1; 9000]);
    let out = a.outbound(guest.port, vec![super_packet(&frame, 3000)]);
    assert_eq!((out.to_ports.len(), out.to_uplinks.len()), (1, 0));
}
