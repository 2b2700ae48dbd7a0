//! A sealed mesh, two nodes back to back: what leaves, what opens, and everything that must not.

mod common;
mod exchange;
mod mesh_sa;

use std::time::Duration;

use common::*;
use dataplane::{
    control::{Answer, Change, Event, Protection, Query},
    engine::Output,
    seal::replay::WINDOW,
};
use etherparse::TcpHeader;
use lisp::{
    InstanceId, Rloc,
    mesh::{SaIndex, Suite},
};
use mesh_sa::*;
use proptest::prelude::*;

const SUITES: [Suite; 2] = [Suite::Aes128Gcm, Suite::ChaCha20Poly1305];
const EIDS: [(&str, &str); 2] = [("10.7.0.1", "10.7.0.2"), ("fd00::1", "fd00::2")];
/// Where A's packets come from.
const FROM_A: &str = "192.0.2.1:50000";

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn octets(address: &str) -> Vec<u8> {
    match ip(address) {
        std::net::IpAddr::V4(a) => a.octets().to_vec(),
        std::net::IpAddr::V6(a) => a.octets().to_vec(),
    }
}

#[test]
fn a_sealed_conversation_with_both_suites_in_all_combinations() {
    for suite in SUITES {
        for rlocs in [RLOCS, RLOCS_V6] {
            for (source, destination) in EIDS {
                let (mut a, guest_a, mut b, guest_b) = friends(rlocs, suite);
                let index = sas(&mut a)[0].outbound[0];
                let question = Spec::new(&guest_a, source, destination).udp(1000, 2000, b"a secret question");
                let mut out = a.send(&guest_a, &question);
                assert_eq!(out.to_uplinks[0].remote.port(), 4341);
                let datagram = wire(&mut out).remove(0);
                let [_, i, j, k] = index.get().to_be_bytes();
                assert_eq!(
                    datagram[..8],
                    [0x89, i, j, k, 0, 0, 7, 0],
                    "N, I, KK=1, the receiver's index, Instance-ID 7"
                );
                let iv = suite.iv_len();
                let mut expected = vec![0; iv];
                expected[iv - 1] = 1;
                assert_eq!(datagram[8..8 + iv], expected, "worker 0, counter 1");
                assert_eq!(datagram.len(), 8 + iv + question.len() - 14 + 16);
                for secret in [b"secret question".to_vec(), octets(source), octets(destination)] {
                    assert!(!contains(&datagram, &secret));
                }
                a.assert_moved(&[
                    ("guest_port.guest1/net0.rx_packets", 1),
                    ("flow.misses", 1),
                    ("connection.opened", 1),
                    ("itr.encapsulated", 1),
                    ("seal.sealed", 1),
                    ("uplink.eth0.tx_packets", 1),
                ]);
                let out = b.receive(out.to_uplinks, 3);
                let (port, frame) = one_frame(&out);
                assert_eq!(port, guest_b.port);
                assert!(contains(frame, b"a secret question"));
                assert_checksums(&frame[14..]);
                assert_eq!(out.events, [Event::SaConfirmed(index)]);
                b.assert_moved(&[
                    ("uplink.eth0.rx_packets", 1),
                    ("seal.opened", 1),
                    ("flow.misses", 1),
                    ("connection.opened", 1),
                    ("etr.decapsulated", 1),
                    ("guest_port.guest2/net0.tx_packets", 1),
                ]);
                let reply = Spec::new(&guest_b, destination, source).udp(2000, 1000, b"an answer");
                let out = b.send(&guest_b, &reply);
                let out = a.receive(out.to_uplinks, 3);
                assert_eq!(one_frame(&out).0, guest_a.port);
                a.skip();
                b.skip();
                let out = a.send(&guest_a, &question);
                a.assert_moved(&[
                    ("guest_port.guest1/net0.rx_packets", 1),
                    ("flow.hits", 1),
                    ("itr.encapsulated", 1),
                    ("seal.sealed", 1),
                    ("uplink.eth0.tx_packets", 1),
                ]);
                let out = b.receive(out.to_uplinks, 3);
                assert_eq!(out.events, [], "confirmed once");
                one_frame(&out);
                b.assert_moved(&[
                    ("uplink.eth0.rx_packets", 1),
                    ("seal.opened", 1),
                    ("flow.hits", 1),
                    ("etr.decapsulated", 1),
                    ("guest_port.guest2/net0.tx_packets", 1),
                ]);
            }
        }
    }
}

#[test]
fn a_super_packet_is_sealed_in_segments_and_arrives_as_one() {
    for suite in SUITES {
        let (mut a, guest_a, mut b, _) = friends(RLOCS, suite);
        let payload: Vec<u8> = (0..30_000_u32).map(|i| (i * 7 / 8) as u8).collect();
        let mut tcp = TcpHeader::new(1000, 2000, 1, 500);
        (tcp.ack, tcp.acknowledgment_number) = (true, 1);
        let frame = Spec::new(&guest_a, "10.7.0.1", "10.7.0.2").tcp(&tcp, &payload);
        let mut out = a.outbound(guest_a.port, vec![super_packet(&frame, 1300)]);
        let all = wire(&mut out);
        assert_eq!(all.len(), 24);
        assert_eq!(out.to_uplinks.len(), 1, "one send");
        for (at, datagram) in all.iter().enumerate() {
            assert_eq!(
                usize::from(datagram[8 + suite.iv_len() - 1]),
                at + 1,
                "one counter each"
            );
            assert!(!payload.chunks(32).any(|chunk| contains(datagram, chunk)));
        }
        let out = b.receive(out.to_uplinks, 1);
        let (_, frame) = one_frame(&out);
        assert_eq!(frame[54..], payload, "whole, in one frame");
        assert_eq!(sas(&mut b)[0].opened, 24);
        assert_eq!(sas(&mut a)[0].sealed, 24);
        assert_eq!(sas(&mut a)[0].sealed_bytes, 30_000 + 24 * 40);
        assert_eq!(sas(&mut b)[0].opened_bytes, 30_000 + 24 * 40);
    }
}

#[test]
fn the_limit_leaves_room_for_the_seal() {
    for (suite, limit) in [
        (Suite::Aes128Gcm, 1500 - 36 - 28),
        (Suite::ChaCha20Poly1305, 1500 - 36 - 24),
    ] {
        let (mut a, guest, ..) = friends(RLOCS, suite);
        let spec = Spec::new(&guest, "10.7.0.1", "10.7.0.2");
        let mut out = a.send(&guest, &spec.udp(1, 2, &vec![0; limit - 28]));
        assert_eq!(wire(&mut out)[0].len(), 1472, "fills the link");
        let out = a.send(&guest, &spec.udp(1, 2, &vec![0; limit - 27]));
        assert!(out.to_uplinks.is_empty());
        assert_eq!(a.counters()["drop.packet-too-big"], 1);
        // Without DF it goes in fragments, each of them sealed.
        let split = Spec {
            dont_fragment: false,
            ..spec
        }
        .udp(1, 2, &vec![0; 3000]);
        let mut out = a.send(&guest, &split);
        assert_eq!(wire(&mut out).len(), 3);
        assert_eq!(sas(&mut a)[0].sealed, 4);
    }
}

#[test]
fn what_came_once_never_comes_again() {
    for suite in SUITES {
        let (mut a, guest, mut b, _) = friends(RLOCS, suite);
        let old = one(&mut a, &guest, 1);
        let first = one(&mut a, &guest, 1);
        one_frame(&deliver(&mut b, FROM_A, &first));
        assert_eq!(refused(&mut b, FROM_A, &first), "sealed-replayed");
        for _ in 0..WINDOW - 1 {
            one(&mut a, &guest, 1);
        }
        let last = one(&mut a, &guest, 1);
        one_frame(&deliver(&mut b, FROM_A, &last));
        assert_eq!(
            refused(&mut b, FROM_A, &old),
            "sealed-replayed",
            "never seen, but too old to tell"
        );
        assert_eq!(refused(&mut b, FROM_A, &first), "sealed-replayed");
        // Out of order within the window is fine, once.
        let (x, y) = (one(&mut a, &guest, 1), one(&mut a, &guest, 1));
        one_frame(&deliver(&mut b, FROM_A, &y));
        one_frame(&deliver(&mut b, FROM_A, &x));
        assert_eq!(refused(&mut b, FROM_A, &x), "sealed-replayed");
        // Nor across a rekey, while both pairs are there.
        let (ours, theirs) = exchange(suite, 1);
        b.apply(&Change::PutSa(theirs));
        a.apply(&Change::PutSa(ours));
        one_frame(&deliver(&mut b, FROM_A, &one(&mut a, &guest, 1)));
        assert_eq!(refused(&mut b, FROM_A, &last), "sealed-replayed");
        let mut crossed = last.clone();
        crossed[1..4].copy_from_slice(&one(&mut a, &guest, 1)[1..4]);
        assert_eq!(
            refused(&mut b, FROM_A, &crossed),
            "sealed-bad-tag",
            "under the other pair's index"
        );
    }
}

#[test]
fn a_flipped_bit_anywhere_has_a_name_and_no_effect() {
    for suite in SUITES {
        let (mut a, guest, mut b, _) = friends(RLOCS, suite);
        let datagram = one(&mut a, &guest, 1);
        for at in 0..datagram.len() * 8 {
            let mut flipped = datagram.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            let word = refused(&mut b, "203.0.113.66:4341", &flipped);
            let expected: &[&str] = match at / 8 {
                // N, V, I, P, KK of the flags; what else is there is authentic or not.
                0 => &[
                    "sealed-bad-tag",
                    "lisp-sealed-unknown",
                    "lisp-next-protocol",
                    "clear-in-sealed-network",
                ],
                1..4 => &["sealed-unknown-sa", "lisp-sealed-unknown"],
                at if at < 8 + suite.iv_len() => &["sealed-bad-tag", "sealed-foreign-iv"],
                _ => &["sealed-bad-tag"],
            };
            assert!(expected.contains(&word.as_str()), "bit {at}: {word}");
        }
        for length in 1..datagram.len() {
            let word = refused(&mut b, "203.0.113.66:4341", &datagram[..length]);
            assert!(
                ["lisp-truncated", "sealed-bad-tag"].contains(&word.as_str()),
                "{length}: {word}"
            );
        }
        let status = &sas(&mut b)[0];
        assert_eq!((status.confirmed, status.opened, status.roamed_to), (false, 0, None));
        assert_eq!(
            deliver(&mut b, FROM_A, &datagram).events.len(),
            1,
            "the real one still opens"
        );
    }
}

#[test]
fn an_unknown_index_is_refused() {
    let (mut a, guest, mut b, _) = friends(RLOCS, Suite::Aes128Gcm);
    let mut datagram = one(&mut a, &guest, 1);
    datagram[1..4].copy_from_slice(&[0xff, 0xff, 0xff]);
    assert_eq!(refused(&mut b, FROM_A, &datagram), "sealed-unknown-sa");
    datagram[1..4].copy_from_slice(&[0, 0, 0]);
    assert_eq!(
        refused(&mut b, FROM_A, &datagram),
        "lisp-sealed-unknown",
        "no index is 0"
    );
    let index = sas(&mut b)[0].index;
    b.apply(&Change::RemoveSa(index));
    let datagram = one(&mut a, &guest, 1);
    assert_eq!(refused(&mut b, FROM_A, &datagram), "sealed-unknown-sa");
}

/// B, with SAs also with node C, which sends what it wants to.
fn with_insider() -> (Node, Guest, Node, Node, Guest) {
    let (a, guest, mut b, _) = friends(RLOCS, Suite::Aes128Gcm);
    let (mut c, insider, ..) = strangers((&["192.0.2.3"], RLOCS.1));
    let (ours, theirs) = exchange(Suite::Aes128Gcm, 1);
    c.apply(&Change::PutSa(ours));
    b.apply(&Change::PutSa(dataplane::control::SaConfig { node: C, ..theirs }));
    (a, guest, b, c, insider)
}

#[test]
fn an_insider_speaks_for_nobody_else() {
    let (mut a, guest, mut b, mut c, insider) = with_insider();
    let from_c = "192.0.2.3:50000";
    // Before A has said anything, and when there is a flow that its packets would belong to.
    for _ in 0..2 {
        let forged = one(&mut c, &insider, 1);
        assert_eq!(refused(&mut b, from_c, &forged), "sealed-unbound-source");
        one_frame(&deliver(&mut b, FROM_A, &one(&mut a, &guest, 1)));
    }
    b.skip();
    one_frame(&deliver(&mut b, FROM_A, &one(&mut a, &guest, 1)));
    assert!(b.moved().contains(&("flow.hits".into(), 1)), "A's flow did not suffer");
    // One event a second.
    b.tick(Duration::from_secs(2));
    let mut forged = |c: &mut Node| deliver(&mut b, from_c, &one(c, &insider, 1)).events;
    let (first, second) = (forged(&mut c), forged(&mut c));
    let source = lisp::Eid::new(InstanceId::new(7).unwrap(), ip("10.7.0.1"));
    assert_eq!(first, [Event::UnboundSource { node: C, source }]);
    assert_eq!(second, []);
}

#[test]
fn a_guest_moves_and_its_binding_with_it() {
    let (mut a, guest, mut b, mut c, insider) = with_insider();
    one_frame(&deliver(&mut b, FROM_A, &one(&mut a, &guest, 1)));
    // More specific bindings win, and flows of the covering one look again.
    b.apply(&binding("[7]10.0.0.0/8", C));
    b.skip();
    one_frame(&deliver(&mut b, FROM_A, &one(&mut a, &guest, 1)));
    assert!(b.moved().contains(&("flow.hits".into(), 1)));
    b.apply(&binding("[7]10.7.0.1/32", C));
    assert_eq!(
        refused(&mut b, FROM_A, &one(&mut a, &guest, 1)),
        "sealed-unbound-source"
    );
    one_frame(&deliver(&mut b, "192.0.2.3:50000", &one(&mut c, &insider, 1)));
    b.apply(&Change::RemoveBinding("[7]10.7.0.1/32".parse().unwrap()));
    one_frame(&deliver(&mut b, "192.0.2.3:50000", &one(&mut c, &insider, 1)));
    b.apply(&Change::RemoveBinding("[7]10.0.0.0/8".parse().unwrap()));
    assert_eq!(
        refused(&mut b, "192.0.2.3:50000", &one(&mut c, &insider, 1)),
        "sealed-unbound-source"
    );
}

#[test]
fn clear_and_sealed_never_mix() {
    let (mut a, guest, mut b, _) = friends(RLOCS, Suite::Aes128Gcm);
    let packet = Spec::new(&guest, "10.7.0.1", "10.7.0.2").udp(1, 2000, b"x");
    let mut datagram = clear(7).to_vec();
    datagram.extend(&packet[14..]);
    assert_eq!(refused(&mut b, FROM_A, &datagram), "clear-in-sealed-network");
    // Also when there is a flow already.
    one_frame(&deliver(&mut b, FROM_A, &one(&mut a, &guest, 1)));
    assert_eq!(refused(&mut b, FROM_A, &datagram), "clear-in-sealed-network");
    b.apply(&Change::PutNetwork(mesh(1, 7, Protection::Clear)));
    assert_eq!(
        refused(&mut b, FROM_A, &one(&mut a, &guest, 1)),
        "sealed-in-clear-network"
    );
    assert_eq!(
        refused(&mut b, FROM_A, &one(&mut a, &guest, 1)),
        "sealed-in-clear-network"
    );
    b.apply(&Change::RemoveNetwork(dataplane::control::NetworkId(1)));
    assert_eq!(refused(&mut b, FROM_A, &one(&mut a, &guest, 1)), "unknown-instance");
    assert_eq!(sas(&mut b).len(), 1, "SAs are with nodes");
    // A mapping that names no node is no way out.
    a.map("[7]10.7.0.2/32", RLOCS.1);
    assert_silent(&a.send(&guest, &packet));
    assert_eq!(a.counters()["drop.no-mesh-sa"], 1);
}

fn no_sa(events: &[Event]) -> usize {
    let told = |event: &&Event| matches!(event, Event::NoSa { node, .. } if *node == B);
    events.iter().filter(told).count()
}

#[test]
fn without_an_sa_packets_wait_and_control_is_told() {
    let (mut a, guest, mut b, _) = strangers(RLOCS);
    let packet = |port| Spec::new(&guest, "10.7.0.1", "10.7.0.2").udp(port, 2000, b"patience");
    let mut told = 0;
    for port in 0..12 {
        let out = a.send(&guest, &packet(port));
        assert_silent(&out);
        told += no_sa(&out.events);
        assert_eq!(misses(&out.events).len(), 0);
    }
    assert_eq!(told, 1, "at most once a second");
    assert_eq!(a.counters()["drop.no-mesh-sa"], 4, "eight wait");
    a.now += Duration::from_secs(1);
    assert_eq!(no_sa(&a.send(&guest, &packet(20)).events), 1);
    let (ours, theirs) = exchange(Suite::ChaCha20Poly1305, 1);
    b.apply(&Change::PutSa(theirs));
    let out = a.apply(&Change::PutSa(ours));
    let out = b.receive(out.to_uplinks, 1);
    assert_eq!(out.to_ports.len(), 8);
    assert_eq!(a.counters()["itr.released"], 8);
    // The responder may not send before it has heard; then what waits leaves.
    let (mut a, guest_a, mut b, guest_b) = strangers(RLOCS);
    let (ours, theirs) = exchange(Suite::ChaCha20Poly1305, 1);
    b.apply(&Change::PutSa(theirs));
    let reply = Spec::new(&guest_b, "10.7.0.2", "10.7.0.1").udp(5, 6, b"early");
    assert_silent(&b.send(&guest_b, &reply));
    a.apply(&Change::PutSa(ours));
    let out = deliver(&mut b, FROM_A, &one(&mut a, &guest_a, 1));
    let out = a.receive(out.to_uplinks, 1);
    one_frame(&out);
    // Nobody waits for ever.
    let (mut a, guest, ..) = strangers(RLOCS);
    assert_silent(&a.send(&guest, &packet(1)));
    assert!(a.tick(Duration::from_secs(4)).to_uplinks.is_empty());
    assert_eq!(a.counters()["drop.pending-expired"], 1);
}

#[test]
fn the_responder_keeps_its_old_pair_until_the_new_one_has_opened() {
    let (mut a, guest_a, mut b, guest_b) = friends(RLOCS, Suite::Aes128Gcm);
    one_frame(&deliver(&mut b, FROM_A, &one(&mut a, &guest_a, 1)));
    let index_of = |node: &mut Node, guest: &Guest| {
        let frame = Spec::new(guest, "10.7.0.2", "10.7.0.1").udp(2000, 1, b"x");
        let datagram = wire(&mut node.send(guest, &frame)).remove(0);
        SaIndex::new(u32::from_be_bytes([0, datagram[1], datagram[2], datagram[3]])).unwrap()
    };
    let old = sas(&mut a)[0].index;
    assert_eq!(index_of(&mut b, &guest_b), old);
    let (ours, theirs) = exchange(Suite::ChaCha20Poly1305, 1);
    b.apply(&Change::PutSa(theirs.clone()));
    assert_eq!(
        index_of(&mut b, &guest_b),
        old,
        "nothing has proved that A has the keys"
    );
    let late = one(&mut a, &guest_a, 1);
    a.apply(&Change::PutSa(ours.clone()));
    let new = one(&mut a, &guest_a, 1);
    assert_eq!(
        deliver(&mut b, FROM_A, &new).events,
        [Event::SaConfirmed(theirs.inbound[0].0)]
    );
    assert_eq!(
        index_of(&mut b, &guest_b),
        ours.inbound[0].0,
        "the new one, on a flow that was there before"
    );
    one_frame(&deliver(&mut b, FROM_A, &late));
    let status: Vec<_> = sas(&mut b).iter().map(|sa| (sa.confirmed, sa.current)).collect();
    assert_eq!(status, [(true, false), (true, true)]);
    // The new one goes: back to the old.
    b.apply(&Change::RemoveSa(theirs.inbound[0].0));
    assert_eq!(index_of(&mut b, &guest_b), old);
    b.skip();
    assert_eq!(index_of(&mut b, &guest_b), old);
    assert!(b.moved().contains(&("flow.hits".into(), 1)));
}

#[test]
fn both_ends_may_ask_at_once() {
    let (mut a, guest_a, mut b, guest_b) = strangers(RLOCS);
    let (a_asks, b_answers) = exchange(Suite::Aes128Gcm, 1);
    let (b_asks, a_answers) = exchange(Suite::ChaCha20Poly1305, 1);
    let (b_asks, a_answers) = (
        dataplane::control::SaConfig { node: A, ..b_asks },
        dataplane::control::SaConfig { node: B, ..a_answers },
    );
    a.apply(&Change::PutSa(a_asks));
    b.apply(&Change::PutSa(b_asks));
    a.apply(&Change::PutSa(a_answers));
    b.apply(&Change::PutSa(b_answers));
    for round in 0..5 {
        let question = Spec::new(&guest_a, "10.7.0.1", "10.7.0.2").udp(1, 2, b"question");
        let reply = Spec::new(&guest_b, "10.7.0.2", "10.7.0.1").udp(2, 1, b"answer");
        let (there, back) = (a.send(&guest_a, &question), b.send(&guest_b, &reply));
        one_frame(&b.receive(there.to_uplinks, 1));
        one_frame(&a.receive(back.to_uplinks, 1));
        if round > 0 {
            for node in [&mut a, &mut b] {
                let all = sas(node);
                assert_eq!(all.iter().filter(|sa| sa.current).count(), 1);
                assert!(all[1].current, "the newest that is confirmed");
            }
        }
    }
}

#[test]
fn nothing_is_sealed_past_the_limit_or_the_end() {
    let (mut a, guest, mut b, _) = strangers(RLOCS);
    let (mut ours, theirs) = exchange(Suite::Aes128Gcm, 1);
    ours.packet_limit = 10;
    a.apply(&Change::PutSa(ours));
    b.apply(&Change::PutSa(theirs));
    for _ in 0..10 {
        one_frame(&deliver(&mut b, FROM_A, &one(&mut a, &guest, 1)));
    }
    let packet = Spec::new(&guest, "10.7.0.1", "10.7.0.2").udp(1, 2000, b"one too many");
    let out = a.send(&guest, &packet);
    assert_silent(&out);
    assert_eq!(no_sa(&out.events), 1);
    assert_eq!(sas(&mut a)[0].sealed, 10);
    assert!(!sas(&mut a)[0].current);
    let (ours, theirs) = exchange(Suite::Aes128Gcm, 1);
    b.apply(&Change::PutSa(theirs));
    let out = a.apply(&Change::PutSa(ours));
    one_frame(&b.receive(out.to_uplinks, 1));
    // Time: sent no more at the end of its life, and not opened.
    a.tick(LIFE - Duration::from_millis(1));
    let last = one(&mut a, &guest, 1);
    a.now += Duration::from_millis(1);
    let out = a.send(&guest, &packet);
    assert_silent(&out);
    assert_eq!(no_sa(&out.events), 1);
    b.now += LIFE;
    assert_eq!(refused(&mut b, FROM_A, &last), "sealed-sa-expired");
    b.tick(Duration::ZERO);
    assert_eq!(sas(&mut b), []);
    assert_eq!(refused(&mut b, FROM_A, &last), "sealed-unknown-sa");
    // A super-packet that would go past the limit does not go at all.
    let (mut a, guest, ..) = strangers(RLOCS);
    let (mut ours, _) = exchange(Suite::Aes128Gcm, 1);
    ours.packet_limit = 3;
    a.apply(&Change::PutSa(ours));
    let mut tcp = TcpHeader::new(1000, 2000, 1, 500);
    tcp.ack = true;
    let frame = Spec::new(&guest, "10.7.0.1", "10.7.0.2").tcp(&tcp, &[1; 4 * 1300]);
    assert_silent(&a.outbound(guest.port, vec![super_packet(&frame, 1300)]));
    let mut out = a.outbound(guest.port, vec![super_packet(&frame[..54 + 3 * 1300], 1300)]);
    assert!(wire(&mut out).len() <= 3);
}

#[test]
fn the_same_pair_twice_changes_nothing_and_old_keys_never_come_back() {
    let (mut a, guest, mut b, _) = strangers(RLOCS);
    let (ours, theirs) = exchange(Suite::Aes128Gcm, 2);
    b.apply(&Change::PutSa(theirs));
    for round in 1..4 {
        a.apply(&Change::PutSa(ours.clone()));
        one_frame(&deliver(&mut b, FROM_A, &one(&mut a, &guest, 1)));
        assert_eq!(sas(&mut a)[0].sealed, round);
    }
    // The process that asked again after a resynchronisation: exempt, and untouched.
    a.apply(&Change::Resync);
    a.apply(&Change::PutSa(ours.clone()));
    let mut other = ours.clone();
    other.inbound[1].0 = SaIndex::new(0x00ff_fff0).unwrap();
    assert!(a.try_apply(&Change::PutSa(other)).is_err(), "an index of another pair");
    a.apply(&Change::RemoveSa(ours.inbound[0].0));
    assert_eq!(sas(&mut a), []);
    assert!(
        a.try_apply(&Change::PutSa(ours)).is_err(),
        "its counters would start again"
    );
    let (mut odd, _) = exchange(Suite::Aes128Gcm, 1);
    odd.outbound.clear();
    assert!(a.try_apply(&Change::PutSa(odd)).is_err());
    let (odd, _) = exchange(Suite::Aes128Gcm, 17);
    assert!(a.try_apply(&Change::PutSa(odd)).is_err());
}

#[test]
fn a_resynchronisation_keeps_sas_and_drops_bindings_that_it_does_not_name() {
    let (mut a, guest, mut b, _) = friends(RLOCS, Suite::Aes128Gcm);
    one_frame(&deliver(&mut b, FROM_A, &one(&mut a, &guest, 1)));
    b.apply(&Change::Resync);
    b.apply(&Change::PutNetwork(mesh(1, 7, Protection::Sealed)));
    b.allow(1, vec![rule("all", &[], &[], dataplane::control::Service::Any, true)]);
    b.apply(&Change::PutPort(port(2, 1, &["10.7.0.2", "fd00::2"])));
    b.apply(&binding("[7]10.7.0.1/32", A));
    b.apply(&Change::Commit(dataplane::control::Generation(2)));
    assert_eq!(sas(&mut b).len(), 1);
    let Some(Answer::Bindings(bindings)) = b.engine.query(b.now, &Query::Bindings) else {
        panic!()
    };
    let prefixes: Vec<String> = bindings.iter().map(|binding| binding.prefix.to_string()).collect();
    assert_eq!(prefixes, ["[7]10.7.0.1/32"]);
    one_frame(&deliver(&mut b, FROM_A, &one(&mut a, &guest, 1)));
    let v6 = Spec::new(&guest, "fd00::1", "fd00::2").udp(1, 2, b"x");
    let datagram = wire(&mut a.send(&guest, &v6)).remove(0);
    assert_eq!(refused(&mut b, FROM_A, &datagram), "sealed-unbound-source");
}

#[test]
fn a_node_has_64_pairs_at_most_and_never_loses_the_one_in_use() {
    let (mut a, guest, ..) = strangers(RLOCS);
    let (first, _) = exchange(Suite::Aes128Gcm, 1);
    a.apply(&Change::PutSa(first.clone()));
    for _ in 0..100 {
        let (_, answer) = exchange(Suite::Aes128Gcm, 1);
        a.apply(&Change::PutSa(dataplane::control::SaConfig { node: B, ..answer }));
    }
    let all = sas(&mut a);
    assert_eq!(all.len(), 64);
    assert!(all[0].current && all[0].index == first.inbound[0].0);
    one(&mut a, &guest, 1);
}

#[test]
fn both_directions_of_a_connection_meet_at_one_worker() {
    let (mut a, guest_a, mut b, guest_b) = strangers(RLOCS);
    let (ours, theirs) = exchange(Suite::Aes128Gcm, 4);
    a.apply(&Change::PutSa(ours.clone()));
    b.apply(&Change::PutSa(theirs.clone()));
    let channel = |datagram: &[u8], indices: &[(SaIndex, lisp::mesh::TrafficKey)]| {
        let index = SaIndex::new(u32::from_be_bytes([0, datagram[1], datagram[2], datagram[3]]));
        indices.iter().position(|(own, _)| Some(*own) == index).unwrap()
    };
    let mut used = [false; 4];
    for port in 1..40 {
        let there = one(&mut a, &guest_a, port);
        one_frame(&deliver(&mut b, FROM_A, &there));
        let reply = Spec::new(&guest_b, "10.7.0.2", "10.7.0.1").udp(2000, port, b"x");
        let back = wire(&mut b.send(&guest_b, &reply)).remove(0);
        one_frame(&deliver(&mut a, "192.0.2.2:50000", &back));
        let worker = channel(&there, &theirs.inbound);
        assert_eq!(worker, channel(&back, &ours.inbound));
        used[worker] = true;
    }
    assert_eq!(used, [true; 4]);
}

fn roamed(events: &[Event]) -> Vec<Option<String>> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Roamed { node, to } => {
                assert_eq!(*node, A);
                Some(to.map(|to| to.data_address().to_string()))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn a_node_roams_after_a_good_tag_and_comes_home() {
    let (mut a, guest_a, mut b, guest_b) = friends(RLOCS, Suite::Aes128Gcm);
    let reply = Spec::new(&guest_b, "10.7.0.2", "10.7.0.1").udp(2000, 1, b"x");
    let goes_to = |b: &mut Node| {
        let out = b.send(&guest_b, &reply);
        (out.to_uplinks[0].remote.to_string(), out.to_uplinks[0].local)
    };
    let home = deliver(&mut b, FROM_A, &one(&mut a, &guest_a, 1));
    assert_eq!(roamed(&home.events), Vec::<Option<String>>::new());
    assert_eq!(goes_to(&mut b).0, "192.0.2.1:4341");
    let old = one(&mut a, &guest_a, 1);
    let datagram = one(&mut a, &guest_a, 1);
    let mut forged = datagram.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&mut b, "203.0.113.9:1234", &forged), "sealed-bad-tag");
    assert_eq!(goes_to(&mut b).0, "192.0.2.1:4341");
    let out = deliver(&mut b, "203.0.113.9:1234", &datagram);
    one_frame(&out);
    assert_eq!(roamed(&out.events), [Some("203.0.113.9:1234".into())]);
    assert_eq!(goes_to(&mut b), ("203.0.113.9:1234".into(), ip("192.0.2.2")));
    assert!(sas(&mut b)[0].roamed_to.is_some());
    // Replayed, or merely late, from elsewhere: it stays.
    assert_eq!(refused(&mut b, "198.51.100.1:1", &datagram), "sealed-replayed");
    b.now += Duration::from_secs(1);
    let out = deliver(&mut b, "198.51.100.1:1", &old);
    one_frame(&out);
    assert_eq!(roamed(&out.events), Vec::<Option<String>>::new());
    assert_eq!(goes_to(&mut b).0, "203.0.113.9:1234");
    // Its own mapping says nothing new; a packet from its locator does.
    let out = deliver(&mut b, FROM_A, &one(&mut a, &guest_a, 1));
    assert_eq!(roamed(&out.events), [None]);
    assert_eq!(goes_to(&mut b).0, "192.0.2.1:4341");
    // What the path there carries counts, also when it is learned later.
    b.now += Duration::from_secs(1);
    let datagram = one(&mut a, &guest_a, 1);
    deliver(&mut b, "203.0.113.9:1234", &datagram);
    let big = Spec::new(&guest_b, "10.7.0.2", "10.7.0.1").udp(2000, 1, &[0; 1300]);
    assert_eq!(b.send(&guest_b, &big).to_uplinks.len(), 1);
    b.apply(&Change::PutPathHealth(dataplane::control::PathHealth {
        rloc: Rloc {
            address: ip("203.0.113.9"),
            port: 1234,
        },
        up: true,
        mtu: Some(1300),
    }));
    assert_eq!(b.send(&guest_b, &big).to_uplinks.len(), 0, "told that it is too big");
}

#[test]
fn a_node_whose_address_changes_says_so_at_once() {
    let (mut a, guest_a, mut b, guest_b) = friends(RLOCS, Suite::Aes128Gcm);
    one_frame(&deliver(&mut b, FROM_A, &one(&mut a, &guest_a, 1)));
    let uplink = |address: &str| {
        Change::PutUplink(dataplane::control::UplinkConfig {
            id: dataplane::control::UplinkId(1),
            name: "eth0".into(),
            addresses: vec![ip(address)],
            source_ports: 4,
            mtu: 1500,
        })
    };
    assert!(a.apply(&uplink("192.0.2.1")).to_uplinks.is_empty(), "the same");
    let out = a.apply(&uplink("198.51.100.7"));
    assert_eq!(out.to_uplinks.len(), 1);
    let out = b.receive(out.to_uplinks, 1);
    assert_eq!(roamed(&out.events), [Some("198.51.100.7:4341".into())]);
    // Data, from whatever port, does not contradict.
    deliver(&mut b, "198.51.100.7:49152", &one(&mut a, &guest_a, 1));
    let reply = Spec::new(&guest_b, "10.7.0.2", "10.7.0.1").udp(2000, 1, b"x");
    assert_eq!(
        b.send(&guest_b, &reply).to_uplinks[0].remote.to_string(),
        "198.51.100.7:4341"
    );
}

#[test]
fn probes_and_messages_inside_the_sa() {
    for suite in SUITES {
        let (mut a, guest, mut b, _) = friends(RLOCS, suite);
        let probe = Query::SealedProbe {
            node: B,
            rloc: None,
            nonce: 0x1122_3344_5566_7788,
        };
        let (answer, mut out) = a.ask(&probe);
        assert_eq!(answer, Some(Answer::Ok));
        let datagram = wire(&mut out).remove(0);
        assert_eq!(datagram[4..7], [0xff, 0xff, 0xff], "the Instance-ID of control");
        assert!(!contains(&datagram, &0x1122_3344_5566_7788_u64.to_be_bytes()));
        assert!(out.to_uplinks[0].data_port);
        b.skip();
        let mut out = b.receive(out.to_uplinks, 1);
        assert!(
            matches!(out.events[..], [Event::SaConfirmed(_)]),
            "a probe confirms: {:?}",
            out.events
        );
        assert_eq!(wire(&mut out).len(), 1, "answered at once");
        b.assert_moved(&[
            ("uplink.eth0.rx_packets", 1),
            ("uplink.eth0.tx_packets", 1),
            ("seal.opened", 1),
            ("seal.sealed", 1),
        ]);
        assert_eq!(out.to_uplinks[0].remote, "192.0.2.1:4341".parse().unwrap());
        let out = a.receive(out.to_uplinks, 1);
        let confirmed = |event: &Event| matches!(event, Event::SaConfirmed(_));
        assert_eq!(
            out.events.iter().filter(|event| !confirmed(event)).collect::<Vec<_>>(),
            [&Event::SealedProbeAnswered {
                node: B,
                nonce: 0x1122_3344_5566_7788
            }]
        );
        // To where it is asked for; answered to where it came from.
        let elsewhere = Rloc::new(ip("192.0.2.99"));
        let (_, mut out) = a.ask(&Query::SealedProbe {
            node: B,
            rloc: Some(elsewhere),
            nonce: 1,
        });
        assert_eq!(out.to_uplinks[0].remote, "192.0.2.99:4341".parse().unwrap());
        let probe = wire(&mut out).remove(0);
        assert_eq!(
            deliver(&mut b, "203.0.113.5:777", &probe).to_uplinks[0]
                .remote
                .to_string(),
            "203.0.113.5:777"
        );
        assert_eq!(
            refused(&mut b, "203.0.113.5:777", &probe),
            "sealed-replayed",
            "an answer each, no more"
        );
        let (answer, out) = a.ask(&Query::SealedSend {
            node: B,
            payload: b"a word to control".to_vec(),
        });
        assert_eq!(answer, Some(Answer::Ok));
        let out = b.receive(out.to_uplinks, 1);
        let message = Event::SealedMessage {
            node: A,
            from: Rloc {
                address: ip("192.0.2.1"),
                port: 4341,
            },
            payload: b"a word to control".to_vec(),
        };
        assert!(out.events.contains(&message), "{:?}", out.events);
        let mut heard = 0;
        for _ in 0..500 {
            let (_, out) = a.ask(&Query::SealedSend {
                node: B,
                payload: vec![1],
            });
            heard += b.receive(out.to_uplinks, 1).events.len();
        }
        assert!((150..=200).contains(&heard), "bounded: {heard}");
        for query in [
            Query::SealedSend {
                node: B,
                payload: vec![0; 1201],
            },
            Query::SealedSend {
                node: C,
                payload: vec![],
            },
            Query::SealedProbe {
                node: C,
                rloc: Some(elsewhere),
                nonce: 1,
            },
        ] {
            let (answer, out) = a.ask(&query);
            assert!(matches!(answer, Some(Answer::Refused(_))), "{answer:?}");
            assert_silent(&out);
        }
        // Use is told once a second, when there was any.
        one(&mut a, &guest, 1);
        let used = |out: &Output| {
            out.events.iter().find_map(|event| match event {
                Event::SaUsed(used) => Some(used.clone()),
                _ => None,
            })
        };
        let told = used(&a.tick(Duration::from_secs(1))).unwrap();
        let status = &sas(&mut a)[0];
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].sealed, told[0].opened), (status.sealed, status.opened));
        assert_eq!(used(&a.tick(Duration::from_secs(1))), None);
    }
}

#[test]
fn trace_says_how_it_is_sealed_and_whose_source_it_is() {
    let (mut a, guest, ..) = friends(RLOCS, Suite::ChaCha20Poly1305);
    let words = |node: &mut Node, query: &Query| -> Vec<String> {
        let Some(Answer::Trace(steps)) = node.engine.query(node.now, query) else {
            panic!()
        };
        steps
            .iter()
            .map(|step| format!("{} {}: {}", step.stage, step.verdict, step.detail))
            .collect()
    };
    let outbound = Query::TraceOutbound {
        port: guest.port,
        frame: Spec::new(&guest, "10.7.0.1", "10.7.0.2").udp(1, 2, b"x"),
    };
    a.skip();
    let steps = words(&mut a, &outbound);
    let index = sas(&mut a)[0].outbound[0].get();
    let expected = format!("seal continue: chacha20-poly1305 for node {B}, its SA index {index}");
    assert!(steps.contains(&expected), "{steps:#?}");
    a.assert_moved(&[]);
    let inbound = |node, source| Query::TraceInbound {
        from: Rloc::new(ip("192.0.2.2")),
        node,
        instance_id: InstanceId::new(7).unwrap(),
        packet: Spec::new(&guest, source, "10.7.0.1").udp(2, 1, b"x")[14..].to_vec(),
    };
    let stages = |steps: &[String]| -> Vec<String> {
        steps
            .iter()
            .map(|step| step.split(':').next().unwrap().to_owned())
            .collect()
    };
    let steps = words(&mut a, &inbound(Some(B), "10.7.0.2"));
    assert_eq!(
        stages(&steps)[..5],
        [
            "open continue",
            "etr continue",
            "parse continue",
            "flow miss",
            "binding continue"
        ]
    );
    let steps = words(&mut a, &inbound(Some(C), "10.7.0.2"));
    assert_eq!(stages(&steps).last().unwrap(), "binding drop", "{steps:#?}");
    let steps = words(&mut a, &inbound(None, "10.7.0.2"));
    assert_eq!(steps, ["etr drop: clear-in-sealed-network"]);
    let index = sas(&mut a)[0].index;
    a.apply(&Change::RemoveSa(index));
    let steps = stages(&words(&mut a, &outbound));
    assert!(steps.ends_with(&["seal miss".into(), "seal wait".into()]), "{steps:?}");
}

#[test]
fn a_capture_shows_what_was_inside() {
    let (mut a, guest, mut b, _) = friends(RLOCS, Suite::Aes128Gcm);
    b.engine.query(b.now, &Query::Capture(Some(Default::default())));
    let out = deliver(&mut b, FROM_A, &one(&mut a, &guest, 1));
    let captured: Vec<_> = out
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Captured(packet) => Some((packet.verdict.as_str(), contains(&packet.bytes, b"secret words"))),
            _ => None,
        })
        .collect();
    assert_eq!(captured, [("delivered", true)]);
}

/// xorshift: the same every time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn a_thousand_rekeys_under_traffic_with_loss_and_reordering_lose_nothing() {
    let (mut a, guest_a, mut b, guest_b) = friends(RLOCS, Suite::Aes128Gcm);
    let mut chance = Chance(0x1234_5678_9abc_def1);
    let (mut flight_a, mut flight_b): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
    let (mut sent, mut arrived, mut lost) = (0, 0, 0);
    for round in 0..1000 {
        // One side asks, in turn; the other may be told sooner or later than it.
        let suite = SUITES[round % 2];
        let (mut asks, mut answers) = exchange(suite, 1 + round % 3);
        let a_asks = round % 5 < 3;
        if !a_asks {
            (asks.node, answers.node) = (A, B);
        }
        let (mut asks, mut answers) = (Some(asks), Some(answers));
        // The responder has its half before it replies: always before the initiator.
        for step in 0..8 {
            if step == 2 {
                let node = if a_asks { &mut b } else { &mut a };
                node.apply(&Change::PutSa(answers.take().unwrap()));
            }
            if step == 4 {
                let node = if a_asks { &mut a } else { &mut b };
                node.apply(&Change::PutSa(asks.take().unwrap()));
            }
            flight_a.push(one(&mut a, &guest_a, 1));
            let back = Spec::new(&guest_b, "10.7.0.2", "10.7.0.1").udp(2000, 1, b"x");
            let out = &mut b.send(&guest_b, &back);
            // The very first rounds: B may not send before it has heard.
            flight_b.extend(wire(out));
            sent += 1;
            for (flight, node, from) in [
                (&mut flight_a, &mut b, FROM_A),
                (&mut flight_b, &mut a, "192.0.2.2:50000"),
            ] {
                while flight.len() > 6 {
                    let datagram = flight.swap_remove(chance.below(flight.len()));
                    if chance.below(10) == 0 {
                        lost += 1;
                        continue;
                    }
                    let out = deliver(node, from, &datagram);
                    assert_eq!(out.to_ports.len(), 1, "round {round}");
                    arrived += 1;
                }
            }
        }
        if round % 10 == 9 {
            a.tick(Duration::from_secs(10));
            b.tick(Duration::from_secs(10));
        }
    }
    let waited = a.counters()["itr.released"] + b.counters()["itr.released"];
    assert!(
        sent == 8000 && arrived > 14_000 && lost > 1_000,
        "{arrived} arrived, {lost} lost, {waited} waited"
    );
    for node in [&mut a, &mut b] {
        let counters = node.counters();
        let drops: Vec<_> = counters
            .iter()
            .filter(|(name, by)| name.starts_with("drop.") && **by > 0)
            .collect();
        // B's first words, before it had heard anything of A.
        assert!(
            drops.iter().all(|(name, by)| *name == "drop.no-mesh-sa" && **by < 8),
            "{drops:?}"
        );
        assert!(sas(node).len() <= 64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn random_and_mutated_datagrams_never_panic_and_never_arrive(
        suite in 0..2_usize,
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 8),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>()), 24),
    ) {
        let (mut a, guest, mut b, _) = friends(RLOCS, SUITES[suite]);
        let good = one(&mut a, &guest, 1);
        let index = sas(&mut b)[0].index.get().to_be_bytes();
        for mut bytes in noise {
            deliver(&mut b, FROM_A, &[&[0x89, index[1], index[2], index[3]][..], &bytes].concat());
            bytes.truncate(60);
            if !bytes.is_empty() {
                deliver(&mut b, FROM_A, &bytes);
            }
        }
        for (at, value, length) in cuts {
            let mut mutated = good.clone();
            let at = at.index(mutated.len());
            if mutated[at] == value {
                continue;
            }
            mutated[at] = value;
            let out = deliver(&mut b, "203.0.113.7:4341", &mutated);
            prop_assert!(out.to_ports.is_empty() && out.events.is_empty());
            mutated.truncate(length.index(mutated.len()).max(1));
            deliver(&mut b, "203.0.113.7:4341", &mutated);
        }
        prop_assert_eq!(sas(&mut b)[0].opened, 0);
        prop_assert_eq!(deliver(&mut b, FROM_A, &good).to_ports.len(), 1);
    }
}
