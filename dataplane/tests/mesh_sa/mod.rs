//! Nodes of a sealed mesh, and exchanges between them as control would have made them.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use dataplane::{
    buffer::DatagramRun,
    control::{
        Answer, BindingConfig, Change, MappingConfig, MappingTarget, MeshNode, Protection, Query, SaStatus, Service,
        UplinkId,
    },
    engine::Output,
};
use lisp::mesh::Suite;

use crate::common::*;
pub use crate::exchange::{A, B, LIFE, exchange};

pub const C: MeshNode = lisp::mesh::KeyId([0xcc; 16]);
pub const RLOCS: (&[&str], &[&str]) = (&["192.0.2.1"], &["192.0.2.2"]);
pub const RLOCS_V6: (&[&str], &[&str]) = (&["2001:db8::1"], &["2001:db8::2"]);

/// Node A with guest 1 and node B with guest 2, in Instance-ID 7, sealed, mapped and bound; no SAs.
pub fn strangers(rlocs: (&[&str], &[&str])) -> (Node, Guest, Node, Guest) {
    let (mut a, mut b) = (Node::new(rlocs.0), Node::new(rlocs.1));
    for node in [&mut a, &mut b] {
        node.apply(&Change::PutNetwork(mesh(1, 7, Protection::Sealed)));
        node.allow(1, vec![rule("all", &[], &[], Service::Any, true)]);
    }
    let guest_a = a.port(1, 1, &["10.7.0.1", "fd00::1"]);
    let guest_b = b.port(2, 1, &["10.7.0.2", "fd00::2"]);
    for prefix in ["[7]10.7.0.2/32", "[7]fd00::2/128"] {
        a.apply(&sealed_mapping(prefix, rlocs.1, B));
        a.apply(&binding(prefix, B));
    }
    for prefix in ["[7]10.7.0.1/32", "[7]fd00::1/128"] {
        b.apply(&sealed_mapping(prefix, rlocs.0, A));
        b.apply(&binding(prefix, A));
    }
    a.skip();
    b.skip();
    (a, guest_a, b, guest_b)
}

/// The same, with one pair of SAs, asked for by A.
pub fn friends(rlocs: (&[&str], &[&str]), suite: Suite) -> (Node, Guest, Node, Guest) {
    let (mut a, guest_a, mut b, guest_b) = strangers(rlocs);
    let (ours, theirs) = exchange(suite, 1);
    a.apply(&Change::PutSa(ours));
    b.apply(&Change::PutSa(theirs));
    (a, guest_a, b, guest_b)
}

pub fn sealed_mapping(prefix: &str, rlocs: &[&str], node: MeshNode) -> Change {
    let locators = rlocs.iter().map(|rloc| locator(rloc, 1, 100)).collect();
    Change::PutMapping(MappingConfig {
        node: Some(node),
        ..mapping(prefix, MappingTarget::Locators(locators))
    })
}

pub fn binding(prefix: &str, node: MeshNode) -> Change {
    Change::PutBinding(BindingConfig {
        prefix: prefix.parse().unwrap(),
        node,
    })
}

pub fn sas(node: &mut Node) -> Vec<SaStatus> {
    let (Some(Answer::Sas(sas)), _) = node.ask(&Query::Sas) else {
        panic!()
    };
    sas
}

/// Whole datagrams as they travel.
pub fn wire(out: &mut Output) -> Vec<Vec<u8>> {
    datagrams(&mut out.to_uplinks)
}

/// One datagram as it came from `remote`.
pub fn run(node: &Node, remote: &str, datagram: &[u8]) -> DatagramRun {
    let mut run = DatagramRun::new();
    run.room_mut()[..datagram.len()].copy_from_slice(datagram);
    run.set_len(datagram.len());
    run.stride = datagram.len();
    run.uplink = UplinkId(1);
    run.local = node.rlocs[0];
    run.remote = remote.parse().unwrap();
    run
}

pub fn deliver(node: &mut Node, remote: &str, datagram: &[u8]) -> Output {
    let run = run(node, remote, datagram);
    node.inbound(vec![run])
}

/// The counter `drop.…` that moved, and nothing came out.
#[track_caller]
pub fn refused(node: &mut Node, remote: &str, datagram: &[u8]) -> String {
    node.skip();
    let out = deliver(node, remote, datagram);
    assert_silent(&out);
    let drops: Vec<String> = node
        .moved()
        .into_iter()
        .filter_map(|(name, _)| name.strip_prefix("drop.").map(str::to_owned))
        .collect();
    let [drop] = &drops[..] else { panic!("{drops:?}") };
    drop.clone()
}

/// A small packet of A's guest to B's, as it leaves A.
pub fn one(a: &mut Node, guest: &Guest, port: u16) -> Vec<u8> {
    let mut out = a.send(
        guest,
        &Spec::new(guest, "10.7.0.1", "10.7.0.2").udp(port, 2000, b"secret words"),
    );
    let all = wire(&mut out);
    assert_eq!(all.len(), 1, "{out:?}");
    all[0].clone()
}
