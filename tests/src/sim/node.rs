//! One simulated node: the xTR machine, what survives `kill -9`, and a dataplane of a few lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use lisp::{
    CONTROL_PORT, DATA_PORT, Eid, EidPrefix, InstanceId, Mapping, Nonce, Rloc,
    mesh::{Binding, KeyId},
};
use xtr::{Command, Config, DatabaseMapping, Event, LookupAnswer, LookupError, Xtr};

use super::{
    Datagram, NodeId,
    sealed::{Content, Sealed},
};

/// Seconds since the Unix epoch at the virtual start.
pub const UNIX_AT_START: u64 = 1_800_000_000;

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
    /// In a sealed world: that it speaks for them; survives a kill.
    pub bindings: BTreeMap<EidPrefix, Binding>,
    /// Highest epochs seen; on disk, survives a kill.
    pub epochs: BTreeMap<EidPrefix, (u64, KeyId)>,
    /// In a sealed world: its SAs.
    pub sealed: Sealed,
    /// How far its clock is wrong, in seconds.
    pub clock_error: i64,
    /// Virtual start.
    pub start: Instant,
    /// The dataplane's mappings, as the events told, and who speaks for them.
    pub table: BTreeMap<EidPrefix, (Mapping, Instant, Option<KeyId>)>,
    /// Sealed packets that the events asked for.
    pub sealed_sends: Vec<(KeyId, Option<Rloc>, Content)>,
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
    /// A mapping, and no SA to send under: the machine is asked.
    NoSa,
}

impl Node {
    /// Starts, or starts anew after a kill: only what is on disk is known.
    pub fn new(now: Instant, id: NodeId, config: Config, seed: [u8; 32], stored_nonce: Nonce) -> Self {
        let machine = Xtr::new(config.clone(), seed, stored_nonce);
        let mut node = Self {
            id,
            machine,
            config,
            stored_nonce,
            intent: BTreeSet::new(),
            bindings: BTreeMap::new(),
            epochs: BTreeMap::new(),
            sealed: Sealed::default(),
            clock_error: 0,
            start: now,
            sealed_sends: Vec::new(),
            table: BTreeMap::new(),
            down: BTreeSet::new(),
            wants: Vec::new(),
            sent_to: BTreeSet::new(),
            missed: BTreeSet::new(),
            lookups: BTreeMap::new(),
            last_nonce: None,
            moved: 0,
        };
        node.tell_time(now);
        node
    }

    /// Tells the machine what its clock says.
    pub fn tell_time(&mut self, now: Instant) {
        let unix = UNIX_AT_START.saturating_add((now - self.start).as_secs());
        let unix = unix.saturating_add_signed(self.clock_error);
        self.machine.handle_command(now, Command::Clock(unix));
    }

    /// Whether `eid` is in a sealed network.
    pub fn is_sealed(&self, eid: &Eid) -> bool {
        self.config.mesh.networks.contains_key(&eid.instance_id)
    }

    /// `kill -9` and a new start.
    pub fn restart(&mut self, now: Instant, seed: [u8; 32]) {
        self.machine = Xtr::new(self.config.clone(), seed, self.stored_nonce);
        self.table.clear();
        self.down.clear();
        self.sent_to.clear();
        self.missed.clear();
        self.lookups.clear();
        self.sealed.clear();
        self.sealed_sends.clear();
        self.tell_time(now);
        let epochs = self
            .epochs
            .iter()
            .map(|(prefix, (epoch, node))| (*prefix, *epoch, *node));
        self.machine
            .handle_command(now, Command::RememberEpochs(epochs.collect()));
        self.tell_intent(now);
    }

    /// Tells the machine what it serves.
    pub fn tell_intent(&mut self, now: Instant) {
        let list = self.intent.iter().map(|prefix| DatabaseMapping {
            binding: self.bindings.get(prefix).copied(),
            ..DatabaseMapping::new(*prefix)
        });
        let list = list.collect();
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
            .filter(|(prefix, (_, expires, _))| prefix.contains(&eid) && *expires >= now)
            .max_by_key(|(prefix, _)| prefix.length());
        let Some((_, (mapping, _, holder))) = found else {
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
        let (rloc, holder) = (locator.rloc, *holder);
        let data = Data { eid, sender: self.id };
        let payload = if self.is_sealed(&eid) {
            let own = self
                .intent
                .iter()
                .find(|prefix| prefix.instance_id() == eid.instance_id);
            let (Some(holder), Some(own)) = (holder, own) else {
                return Outbound::NoLocator;
            };
            let source = own.first_eid();
            let Some(payload) = self.sealed.seal(now, holder, &Content::Data { source, data }) else {
                let missing = Command::SaMissing {
                    node: holder,
                    eid,
                    source: Some(source),
                };
                self.machine.handle_command(now, missing);
                return Outbound::NoSa;
            };
            payload
        } else {
            data.encode()
        };
        self.sent_to.insert(rloc);
        Outbound::Sent(Datagram {
            from: SocketAddr::new(source, DATA_PORT),
            to: rloc.data_address(),
            payload,
        })
    }

    /// Seals what the machine asked for, for wherever it should go.
    pub fn take_sealed_sends(&mut self, now: Instant) -> Vec<Datagram> {
        let mut datagrams = Vec::new();
        for (node, rloc, content) in std::mem::take(&mut self.sealed_sends) {
            let Some(rloc) = rloc.or_else(|| self.locator_of(&node)) else {
                continue;
            };
            let Some(source) = self.address_towards(rloc.address) else {
                continue;
            };
            if let Some(payload) = self.sealed.seal(now, node, &content) {
                datagrams.push(Datagram {
                    from: SocketAddr::new(source, DATA_PORT),
                    to: rloc.data_address(),
                    payload,
                });
            }
        }
        datagrams
    }

    fn locator_of(&self, node: &KeyId) -> Option<Rloc> {
        let of_node = self.table.values().filter(|(_, _, holder)| *holder == Some(*node));
        let locators = of_node
            .flat_map(|(mapping, _, _)| &mapping.locators)
            .map(|locator| locator.rloc);
        locators
            .into_iter()
            .find(|rloc| self.address_towards(rloc.address).is_some())
    }

    /// A sealed packet came. The guest's packet, when it was one.
    pub fn open(&mut self, now: Instant, from: SocketAddr, payload: &[u8]) -> Option<(Data, Option<KeyId>)> {
        let opened = self.sealed.open(now, payload)?;
        let node = opened.node;
        if let Some(index) = opened.first {
            self.machine.handle_command(now, Command::SaConfirmed(index));
        }
        if let Some(source) = opened.unbound {
            self.machine
                .handle_command(now, Command::UnboundSource { node, source });
            return None;
        }
        match opened.content {
            Content::Data { data, .. } => return Some((data, Some(node))),
            Content::Message(payload) => {
                self.machine
                    .handle_command(now, Command::SealedMessage { node, payload });
            }
            Content::Probe(nonce) => {
                let back = Rloc::new(from.ip());
                self.sealed_sends.push((node, Some(back), Content::Answer(nonce)));
            }
            Content::Answer(nonce) => {
                self.machine
                    .handle_command(now, Command::SealedProbeAnswered(Nonce(nonce)));
            }
        }
        None
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
        let used = self.sealed.used();
        if !used.is_empty() {
            self.machine.handle_command(now, Command::SasUsed(used));
        }
    }

    /// Takes in what the machine says; what is to be sent is returned. Events first, as the machine asks for.
    pub fn drain(&mut self, now: Instant) -> (Vec<Datagram>, Vec<Mapping>) {
        let mut installed = Vec::new();
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::NonceAdvanced(nonce) => self.stored_nonce = nonce,
                Event::MappingInstalled { mapping, expires, node } => {
                    debug_assert!(expires >= now && expires <= now + Duration::from_secs(86_400));
                    self.table.insert(mapping.prefix, (mapping.clone(), expires, node));
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
                Event::SaEstablished(parameters) => self.sealed.put(now, parameters),
                Event::BindingInstalled { prefix, node } => self.sealed.bind(prefix, node),
                Event::BindingRemoved(prefix) => self.sealed.unbind(&prefix),
                Event::EpochSeen { prefix, epoch, node } => {
                    self.epochs.insert(prefix, (epoch, node));
                }
                Event::SealedProbe { node, rloc, nonce } => {
                    self.sealed_sends.push((node, Some(rloc), Content::Probe(nonce.0)));
                }
                Event::SealedSend { node, payload } => {
                    self.sealed_sends.push((node, None, Content::Message(payload)));
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
