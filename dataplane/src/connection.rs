//! Connections: who opened what to whom, so that replies pass a default-deny policy, and what NAT made of them.
//! Owned by one worker; bounded; outlives every change that does not forbid it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    binding::{Bindings, Inside},
    control::{ConnectionStatus, NetworkId, PortId},
    hash::Seeded,
    parse::{FlowKey, protocol, tcp},
    verdict::DropReason,
};

/// Connections that one guest port may hold open.
pub const PER_PORT: u32 = 16_384;
/// Connections of the whole worker.
pub const TOTAL: usize = 262_144;
/// Slots that one tick looks at.
const SWEEP: usize = 8_192;

/// Names a connection; stays valid as a name (and finds nothing) after the connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionRef {
    index: u32,
    generation: u32,
}

/// Source translation of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Outside address.
    pub address: u128,
    /// Outside port or ICMP identifier.
    pub port: u16,
}

/// What to open.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Five-tuple of the first packet.
    pub key: FlowKey,
    /// The guest port that it is counted on.
    pub owner: Option<PortId>,
    /// The policy that allowed it.
    pub policy_version: u64,
    /// How its source is translated.
    pub translation: Option<Translation>,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// One side has spoken.
    Opening,
    /// Both have.
    Established,
    /// TCP: reset, or closed from both sides.
    Closing,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// As it was opened.
    pub opening: Opening,
    last_seen: Instant,
    replied: bool,
    reset: bool,
    closed: [bool; 2],
}

impl Connection {
    /// Its state.
    pub fn state(&self) -> State {
        if self.reset || self.closed == [true; 2] {
            State::Closing
        } else if self.replied {
            State::Established
        } else {
            State::Opening
        }
    }

    /// How long it may be silent (RFC 5382 REQ-5, RFC 4787 REQ-5, RFC 5508 REQ-2).
    fn patience(&self) -> Duration {
        let seconds = match (self.opening.key.protocol, self.state()) {
            (protocol::TCP, State::Opening) => 60,
            (protocol::TCP, State::Established) => 7_500,
            (protocol::TCP, State::Closing) => 10,
            (protocol::UDP, State::Opening) => 60,
            (protocol::UDP, _) => 300,
            (protocol::ICMP | protocol::ICMPV6, _) => 60,
            _ => 600,
        };
        Duration::from_secs(seconds)
    }

    fn expired(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_seen) > self.patience()
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

/// All connections of a worker.
#[derive(Debug)]
pub struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: HashMap<FlowKey, u32, Seeded>,
    per_port: HashMap<PortId, u32, Seeded>,
    /// NAT bindings of the connections that have a translation.
    pub bindings: Bindings,
    cursor: usize,
}

impl Connections {
    /// None, hashed with `seed`; `draw` starts the choice of translated ports.
    pub fn new(seed: Seeded, draw: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::with_hasher(seed),
            per_port: HashMap::with_hasher(seed),
            bindings: Bindings::new(seed, draw),
            cursor: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The live connection that a packet with `key` belongs to, and whether it goes the way of the first packet.
    pub fn find(&self, key: &FlowKey, now: Instant) -> Option<(ConnectionRef, bool)> {
        let (index, forward) = match self.index.get(key) {
            Some(index) => (*index, true),
            None => (*self.index.get(&key.reversed())?, false),
        };
        let slot = self.slots.get(index as usize)?;
        let connection = slot.connection.as_ref()?;
        (!connection.expired(now)).then_some((
            ConnectionRef {
                index,
                generation: slot.generation,
            },
            forward,
        ))
    }

    /// The connection of that name.
    pub fn get(&self, name: ConnectionRef) -> Option<&Connection> {
        let slot = self.slots.get(name.index as usize)?;
        if slot.generation == name.generation {
            slot.connection.as_ref()
        } else {
            None
        }
    }

    /// Remembers that the policy of this version allows it too.
    pub fn set_policy(&mut self, name: ConnectionRef, policy_version: u64) {
        if let Some(connection) = self.get_mut(name) {
            connection.opening.policy_version = policy_version;
        }
    }

    /// Counts a packet of the connection; `false` when it is gone, and the packet must be looked at again.
    #[inline]
    pub fn touch(&mut self, name: ConnectionRef, forward: bool, tcp_flags: u8, now: Instant) -> bool {
        let Some(connection) = self.get_mut(name) else {
            return false;
        };
        if connection.expired(now) {
            return false;
        }
        connection.last_seen = now;
        connection.replied |= !forward;
        if tcp_flags & (tcp::FIN | tcp::RST | tcp::SYN) != 0 {
            if tcp_flags & tcp::SYN != 0 && forward && connection.state() == State::Closing {
                (connection.replied, connection.reset, connection.closed) = (false, false, [false; 2]);
            }
            connection.reset |= tcp_flags & tcp::RST != 0;
            let [forwards, backwards] = &mut connection.closed;
            *(if forward { forwards } else { backwards }) |= tcp_flags & tcp::FIN != 0;
        }
        true
    }

    /// Whether `owner` may open one more.
    pub fn has_room(&self, owner: Option<PortId>) -> bool {
        let held = owner
            .and_then(|owner| self.per_port.get(&owner))
            .copied()
            .unwrap_or_default();
        held < PER_PORT && self.index.len() < TOTAL
    }

    /// Opens a connection whose first packet has these TCP flags.
    pub fn open(&mut self, opening: Opening, tcp_flags: u8, now: Instant) -> Result<ConnectionRef, DropReason> {
        if let Some((stale, _)) = self.find_any(&opening.key) {
            self.remove_index(stale);
        }
        if !self.has_room(opening.owner) {
            return Err(DropReason::ConnectionTableFull);
        }
        if let Some(translation) = opening.translation {
            self.bindings.take(inside(&opening.key), translation.port);
        }
        let connection = Connection {
            opening,
            last_seen: now,
            replied: false,
            reset: tcp_flags & tcp::RST != 0,
            closed: [tcp_flags & tcp::FIN != 0, false],
        };
        if let Some(owner) = opening.owner {
            *self.per_port.entry(owner).or_default() += 1;
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot::default());
                (self.slots.len() - 1) as u32
            }
        };
        self.index.insert(opening.key, index);
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Err(DropReason::ConnectionTableFull);
        };
        slot.connection = Some(connection);
        Ok(ConnectionRef {
            index,
            generation: slot.generation,
        })
    }

    /// Ends a connection.
    pub fn remove(&mut self, name: ConnectionRef) {
        if self.get(name).is_some() {
            self.remove_index(name.index);
        }
    }

    /// Ends all connections that `gone` says are gone.
    pub fn remove_if(&mut self, gone: impl Fn(&Opening) -> bool) -> usize {
        let doomed: Vec<u32> = self
            .index
            .values()
            .copied()
            .filter(|index| {
                let connection = self
                    .slots
                    .get(*index as usize)
                    .and_then(|slot| slot.connection.as_ref());
                connection.is_some_and(|connection| gone(&connection.opening))
            })
            .collect();
        for index in &doomed {
            self.remove_index(*index);
        }
        doomed.len()
    }

    /// Looks at a part of the table and ends what has been silent for too long; returns how many.
    pub fn expire(&mut self, now: Instant) -> usize {
        let mut ended = 0;
        for _ in 0..SWEEP.min(self.slots.len()) {
            self.cursor = if self.cursor + 1 < self.slots.len() {
                self.cursor + 1
            } else {
                0
            };
            let connection = self.slots.get(self.cursor).and_then(|slot| slot.connection.as_ref());
            if connection.is_some_and(|connection| connection.expired(now)) {
                self.remove_index(self.cursor as u32);
                ended += 1;
            }
        }
        ended
    }

    /// All connections for `status`, sorted.
    pub fn status(&self, now: Instant) -> Vec<ConnectionStatus> {
        let mut all: Vec<ConnectionStatus> = self
            .slots
            .iter()
            .filter_map(|slot| slot.connection.as_ref())
            .map(|connection| {
                let Opening { key, translation, .. } = &connection.opening;
                ConnectionStatus {
                    network: NetworkId(key.scope),
                    protocol: key.protocol,
                    source: SocketAddr::new(key.source_address(), key.source_port),
                    destination: SocketAddr::new(key.destination_address(), key.destination_port),
                    translated: translation.map(|t| SocketAddr::new(key.family.address(t.address), t.port)),
                    state: match connection.state() {
                        State::Opening => "opening",
                        State::Established => "established",
                        State::Closing => "closing",
                    }
                    .to_owned(),
                    idle: now.saturating_duration_since(connection.last_seen),
                }
            })
            .collect();
        all.sort_by_key(|c| (c.network, c.protocol, c.source, c.destination));
        all
    }

    fn get_mut(&mut self, name: ConnectionRef) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(name.index as usize)?;
        if slot.generation == name.generation {
            slot.connection.as_mut()
        } else {
            None
        }
    }

    fn find_any(&self, key: &FlowKey) -> Option<(u32, bool)> {
        match self.index.get(key) {
            Some(index) => Some((*index, true)),
            None => self.index.get(&key.reversed()).map(|index| (*index, false)),
        }
    }

    fn remove_index(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return;
        };
        let Some(connection) = slot.connection.take() else {
            return;
        };
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        self.index.remove(&connection.opening.key);
        if let Some(owner) = connection.opening.owner
            && let Some(held) = self.per_port.get_mut(&owner)
        {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.per_port.remove(&owner);
            }
        }
        if connection.opening.translation.is_some() {
            self.bindings.give_back(&inside(&connection.opening.key));
        }
    }
}

/// The inside half of a translated connection.
pub const fn inside(key: &FlowKey) -> Inside {
    Inside {
        scope: key.scope,
        family: key.family,
        protocol: key.protocol,
        address: key.source,
        port: key.source_port,
    }
}
