//! What control would say after an exchange of keys between two nodes.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use dataplane::control::{MeshNode, SaConfig};
use lisp::mesh::{SaIndex, Suite, TrafficKey};

pub const A: MeshNode = lisp::mesh::KeyId([0xaa; 16]);
pub const B: MeshNode = lisp::mesh::KeyId([0xbb; 16]);
pub const LIFE: Duration = Duration::from_secs(180);

static NUMBERS: AtomicU32 = AtomicU32::new(1);

/// What A (the initiator) and B would be told after an exchange: fresh keys, fresh indices.
pub fn exchange(suite: Suite, workers: usize) -> (SaConfig, SaConfig) {
    let keys = || -> Vec<(SaIndex, TrafficKey)> {
        (0..workers)
            .map(|_| {
                let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
                let mut key = [0x5a; 32];
                key[..4].copy_from_slice(&number.to_be_bytes());
                (SaIndex::new(number).unwrap(), TrafficKey::new(key, [number as u8; 12]))
            })
            .collect()
    };
    let (to_a, to_b) = (keys(), keys());
    let ours = SaConfig {
        node: B,
        suite,
        inbound: to_a.clone(),
        outbound: to_b.clone(),
        initiator: true,
        life: LIFE,
        packet_limit: 1 << 30,
    };
    let theirs = SaConfig {
        node: A,
        inbound: to_b,
        outbound: to_a,
        initiator: false,
        ..ours.clone()
    };
    (ours, theirs)
}
