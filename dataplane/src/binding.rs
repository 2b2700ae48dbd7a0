//! NAT bindings: which outside port stands for which guest's port. One binding serves all of its connections
//! (endpoint-independent mapping, RFC 4787 REQ-1), and lives as long as one of them does.

use std::collections::HashMap;

use crate::{hash::Seeded, parse::Family};

/// A guest's transport port (or ICMP echo identifier), in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inside {
    /// The network, which keeps guests with equal addresses apart.
    pub scope: u32,
    /// Address family.
    pub family: Family,
    /// IP protocol.
    pub protocol: u8,
    /// The guest's address.
    pub address: u128,
    /// Its port.
    pub port: u16,
}

#[derive(Debug)]
struct Binding {
    inside: Inside,
    connections: u32,
}

/// All bindings.
#[derive(Debug)]
pub struct Bindings {
    outside: HashMap<(Family, u8, u16), Binding, Seeded>,
    inside: HashMap<Inside, u16, Seeded>,
    draw: u64,
}

/// Lowest port that is given out.
const FIRST: u16 = 1024;
/// Ports that are tried before giving up.
const TRIES: u64 = 2_048;
/// Ports that there are.
const SPAN: u64 = u16::MAX as u64 - FIRST as u64 + 1;
/// Without a common factor with `SPAN`, so that the steps meet every port.
const STRIDE: u64 = 40_507;

impl Bindings {
    /// None, hashed with `seed`; the choice of ports starts at `draw`.
    pub fn new(seed: Seeded, draw: u64) -> Self {
        Self {
            outside: HashMap::with_hasher(seed),
            inside: HashMap::with_hasher(seed),
            draw,
        }
    }

    /// The outside port that a new connection of `inside` will get, without taking it: its binding's, else its own
    /// if that is free, else one by chance. `None` when none is free.
    pub fn candidate(&self, inside: &Inside) -> Option<u16> {
        if let Some(port) = self.inside.get(inside) {
            return Some(*port);
        }
        let free = |port: u16| !self.outside.contains_key(&(inside.family, inside.protocol, port));
        if inside.port >= FIRST && free(inside.port) {
            return Some(inside.port);
        }
        // Large steps from a drawn start, so that ports in use side by side are not met one after the other.
        let start = self.draw >> 40;
        let port = |step: u64| FIRST + ((start + step * STRIDE) % SPAN) as u16;
        (0..TRIES).map(port).find(|port| free(*port))
    }

    /// Takes `port` for one more connection of `inside`.
    pub fn take(&mut self, inside: Inside, port: u16) {
        self.draw = self
            .draw
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let key = (inside.family, inside.protocol, port);
        self.outside
            .entry(key)
            .or_insert(Binding { inside, connections: 0 })
            .connections += 1;
        self.inside.insert(inside, port);
    }

    /// A connection of `inside` has ended.
    pub fn give_back(&mut self, inside: &Inside) {
        let Some(port) = self.inside.get(inside).copied() else {
            return;
        };
        let key = (inside.family, inside.protocol, port);
        let Some(binding) = self.outside.get_mut(&key) else {
            return;
        };
        binding.connections = binding.connections.saturating_sub(1);
        if binding.connections == 0 {
            self.outside.remove(&key);
            self.inside.remove(inside);
        }
    }

    /// Whom an outside port stands for.
    pub fn inside(&self, family: Family, protocol: u8, port: u16) -> Option<Inside> {
        self.outside
            .get(&(family, protocol, port))
            .map(|binding| binding.inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::protocol;

    fn inside(scope: u32, port: u16) -> Inside {
        Inside {
            scope,
            family: Family::V4,
            protocol: protocol::UDP,
            address: 0x0a00_0001,
            port,
        }
    }

    #[test]
    fn equal_guests_of_two_networks_get_two_ports() {
        let mut bindings = Bindings::new(Seeded::new(1), 7);
        let first = bindings.candidate(&inside(1, 5000)).unwrap();
        bindings.take(inside(1, 5000), first);
        let second = bindings.candidate(&inside(2, 5000)).unwrap();
        bindings.take(inside(2, 5000), second);
        assert_eq!(first, 5000);
        assert_ne!(first, second);
        assert_eq!(bindings.inside(Family::V4, protocol::UDP, first), Some(inside(1, 5000)));
        assert_eq!(
            bindings.inside(Family::V4, protocol::UDP, second),
            Some(inside(2, 5000))
        );
        assert_eq!(bindings.inside(Family::V4, protocol::TCP, first), None);
    }

    #[test]
    fn every_free_port_can_be_found() {
        let mut bindings = Bindings::new(Seeded::new(1), 7);
        let mut taken = 0;
        for scope in 0..60_000 {
            let Some(port) = bindings.candidate(&inside(scope, 5000)) else {
                continue;
            };
            bindings.take(inside(scope, 5000), port);
            taken += 1;
        }
        assert_eq!((taken, bindings.outside.len()), (60_000, 60_000));
    }

    #[test]
    fn a_binding_lives_as_long_as_its_last_connection() {
        let mut bindings = Bindings::new(Seeded::new(1), 7);
        for _ in 0..2 {
            let port = bindings.candidate(&inside(1, 80)).unwrap();
            assert!(port >= FIRST);
            bindings.take(inside(1, 80), port);
        }
        let port = bindings.candidate(&inside(1, 80)).unwrap();
        bindings.give_back(&inside(1, 80));
        assert!(bindings.inside(Family::V4, protocol::UDP, port).is_some());
        bindings.give_back(&inside(1, 80));
        assert!(bindings.inside(Family::V4, protocol::UDP, port).is_none());
    }
}
