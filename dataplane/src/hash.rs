//! Hashing of flow keys: a keyed one for tables (a stranger cannot aim at one bucket), and a symmetric one that
//! both ends of a flow compute alike.

use std::hash::{BuildHasher, Hasher};

use crate::parse::FlowKey;

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies to 128 bits and folds the halves together: one instruction that mixes every input bit.
#[inline]
const fn mix(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    product as u64 ^ (product >> 64) as u64
}

/// Makes [`SeededHasher`]s that share a secret.
#[derive(Clone, Copy, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// Keyed by `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed ^ ODD, 0xd6e8_feb8_6659_fd93))
    }
}

impl BuildHasher for Seeded {
    type Hasher = SeededHasher;
    fn build_hasher(&self) -> SeededHasher {
        SeededHasher(self.0)
    }
}

/// A fast keyed hasher.
#[derive(Clone, Copy, Debug)]
pub struct SeededHasher(u64);

impl Hasher for SeededHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_ne_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            self.write_u64(u64::from_ne_bytes(last));
        }
    }
    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }
    #[inline]
    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }
    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }
    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.0 = mix(self.0 ^ value, ODD);
    }
    #[inline]
    fn write_u128(&mut self, value: u128) {
        self.write_u64(value as u64);
        self.write_u64((value >> 64) as u64);
    }
    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// A hash of the five-tuple that is the same in both directions and on every node: chooses the locator by weight
/// and the UDP source port (RFC 9300 §5.3, §12).
#[inline]
pub const fn symmetric(key: &FlowKey) -> u32 {
    let a = end(key.source, key.source_port);
    let b = end(key.destination, key.destination_port);
    let both = mix(a.wrapping_add(b), a ^ b ^ ODD) ^ ((key.protocol as u64) << 1 | key.family.is_v6() as u64);
    let hash = mix(both, 0xa076_1d64_78bd_642f);
    (hash ^ hash >> 32) as u32
}

#[inline]
const fn end(address: u128, port: u16) -> u64 {
    mix(
        (address as u64) ^ ODD,
        (address >> 64) as u64 ^ 0xe703_7ed1_a0b4_28db ^ port as u64,
    )
}
