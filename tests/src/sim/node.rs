//! One simulated node: the xTR machine, what survives `kill -9`, and a dataplane of a few lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use lisp::{CONTROL_PORT, DATA_PORT, Eid, EidPrefix, InstanceId, Mapping, Nonce, Rloc};
use xtr::{Command, Config, DatabaseMapping, Event, LookupAnswer, LookupError, Xtr};

use super::{Datagram, NodeId};

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// The machine under test.
    pub machine: Xtr,
    /// What it is configured with; survives a kill.
    pub config: Config,
    /// Nonces below this may have been used; on disk, survives a kill.
    pub stored_nonce: Nonce,
    /// The prefixes that it serves; survives a kill.
    pub intent: BTreeSet<EidPrefix>,
    /// The dataplane's mappings, as the events told.
    pub table: BTreeMap<EidPrefix, (Mapping, Instant)>,
    /// Locators that the events called down.
    pub down: BTreeSet<Rloc>,
    /// What its guests send to.
    pub wants: Vec<Eid>,
    /// RLOCs that data was sent to since they were last told to the machine.
    pub sent_to: BTreeSet<Rloc>,
    /// EIDs missed since then.
    pub missed: BTreeSet<Eid>,
    /// Results of look-ups.
    pub lookups: BTreeMap<u64, Result<LookupAnswer, LookupError>>,
    /// Highest nonce seen in its Map-Registers.
    pub last_nonce: Option<u64>,
    /// Prefixes that the machine was told have moved away.
    pub moved: u64,
}

/// A data packet of a guest, as it travels between nodes here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// Whom to.
    pub eid: Eid,
    /// Which node sent it.
    pub sender: NodeId,
}

impl Data {
    /// As a payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.eid.instance_id.get().to_be_bytes().to_vec();
        bytes.extend((self.sender as u64).to_be_bytes());
        match self.eid.address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
        bytes
    }

    /// From a payload.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let instance_id = InstanceId::new(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))?;
        let sender = u64::from_be_bytes(bytes.get(4..12)?.try_into().ok()?) as NodeId;
        let address = match bytes.get(12..)? {
            four if four.len() == 4 => IpAddr::from(<[u8; 4]>::try_from(four).ok()?),
            sixteen => IpAddr::from(<[u8; 16]>::try_from(sixteen).ok()?),
        };
        Some(Self {
            eid: Eid::new(instance_id, address),
            sender,
        })
    }
}

/// What became of a data packet at its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// Encapsulated.
    Sent(Datagram),
    /// For a guest of this very node.
    Local,
    /// No mapping: the machine is asked.
    Missed,
    /// A negative mapping: dropped.
    Negative,
    /// A mapping, and no locator that may be used.
    NoLocator,
}

impl Node {
    /// Starts, or starts anew after a kill: only what is on disk is known.
    pub fn new(id: NodeId, config: Config, seed: [u8; 32], stored_nonce: Nonce) -> Self {
        let machine = Xtr::new(config.clone(), seed, stored_nonce);
        Self {
            id,
            machine,
            config,
            stored_nonce,
            intent: BTreeSet::new(),
            table: BTreeMap::new(),
            down: BTreeSet::new(),
            wants: Vec::new(),
            sent_to: BTreeSet::new(),
            missed: BTreeSet::new(),
            lookups: BTreeMap::new(),
            last_nonce: None,
            moved: 0,
        }
    }

    /// `kill -9` and a new start.
    pub fn restart(&mut self, now: Instant, seed: [u8; 32]) {
        self.machine = Xtr::new(self.config.clone(), seed, self.stored_nonce);
        self.table.clear();
        self.down.clear();
        self.sent_to.clear();
        self.missed.clear();
        self.lookups.clear();
        self.tell_intent(now);
    }

    /// Tells the machine what it serves.
    pub fn tell_intent(&mut self, now: Instant) {
        let list = self.intent.iter().copied().map(DatabaseMapping::new).collect();
        self.machine.handle_command(now, Command::SetDatabase(list));
    }

    /// Own addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.config.locators.iter().map(|locator| locator.rloc.address)
    }

    /// Own address of the family of `other`.
    pub fn address_towards(&self, other: IpAddr) -> Option<IpAddr> {
        self.addresses().find(|own| own.is_ipv4() == other.is_ipv4())
    }

    /// Whether a guest of this node has `eid`.
    pub fn serves(&self, eid: &Eid) -> bool {
        self.intent.iter().any(|prefix| prefix.contains(eid))
    }

    /// What the ITR stage would do with a packet to `eid`.
    pub fn outbound(&mut self, now: Instant, eid: Eid) -> Outbound {
        if self.serves(&eid) {
            return Outbound::Local;
        }
        let found = self
            .table
            .iter()
            .filter(|(prefix, (_, expires))| prefix.contains(&eid) && *expires >= now)
            .max_by_key(|(prefix, _)| prefix.length());
        let Some((_, (mapping, _))) = found else {
            self.missed.insert(eid);
            return Outbound::Missed;
        };
        if mapping.is_negative() {
            return Outbound::Negative;
        }
        let chosen = mapping
            .locators
            .iter()
            .filter(|locator| locator.is_usable() && !self.down.contains(&locator.rloc))
            .filter_map(|locator| Some((locator, self.address_towards(locator.rloc.address)?)))
            .min_by_key(|(locator, _)| (locator.priority, locator.rloc));
        let Some((locator, source)) = chosen else {
            return Outbound::NoLocator;
        };
        let rloc = locator.rloc;
        self.sent_to.insert(rloc);
        Outbound::Sent(Datagram {
            from: SocketAddr::new(source, DATA_PORT),
            to: rloc.data_address(),
            payload: Data { eid, sender: self.id }.encode(),
        })
    }

    /// Tells the machine what the dataplane did in the last second.
    pub fn report(&mut self, now: Instant) {
        if !self.sent_to.is_empty() {
            let rlocs = std::mem::take(&mut self.sent_to).into_iter().collect();
            self.machine.handle_command(now, Command::TrafficSent { rlocs });
        }
        for eid in std::mem::take(&mut self.missed) {
            self.machine.handle_command(now, Command::Resolve { eid, source: None });
        }
    }

    /// Takes in what the machine says; what is to be sent is returned. Events first, as the machine asks for.
    pub fn drain(&mut self, now: Instant) -> (Vec<Datagram>, Vec<Mapping>) {
        let mut installed = Vec::new();
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::NonceAdvanced(nonce) => self.stored_nonce = nonce,
                Event::MappingInstalled { mapping, expires } => {
                    debug_assert!(expires >= now && expires <= now + Duration::from_secs(86_400));
                    self.table.insert(mapping.prefix, (mapping.clone(), expires));
                    installed.push(mapping);
                }
                Event::MappingRemoved(prefix) => {
                    self.table.remove(&prefix);
                }
                Event::LocatorState { rloc, reachable, .. } => {
                    if reachable {
                        self.down.remove(&rloc);
                    } else {
                        self.down.insert(rloc);
                    }
                }
                Event::LookupDone { id, result } => {
                    self.lookups.insert(id, result);
                }
                Event::Moved { .. } => self.moved += 1,
                Event::ResolveFailed { .. } | Event::Registration { .. } => {}
            }
        }
        let mut datagrams = Vec::new();
        while let Some(transmit) = self.machine.poll_transmit() {
            let source = transmit
                .source
                .or_else(|| self.address_towards(transmit.destination.ip()));
            let Some(source) = source else { continue };
            datagrams.push(Datagram {
                from: SocketAddr::new(source, CONTROL_PORT),
                to: transmit.destination,
                payload: transmit.payload,
            });
        }
        (datagrams, installed)
    }
}
