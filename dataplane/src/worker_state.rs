//! What one worker owns, and nobody else touches.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use lisp::{Eid, Rloc};

use crate::{
    buffer::{PacketBuf, Pool},
    capture::Capture,
    coalesce::Coalescer,
    connection::Connections,
    control::{MeshNode, NetworkId, PortId, UplinkId},
    counters::{Counters, Source},
    engine::Output,
    flow::FlowTable,
    fragment::Fragments,
    hash::Seeded,
    limit::{Bucket, OncePer},
    pending::Pending,
    runs::Runs,
    tables::{Network, Port, Snapshot, Tables},
    verdict::Outcome,
};

/// A worker's state.
#[derive(Debug)]
pub struct Worker {
    /// Its number, 0 to 15: what it seals says so.
    pub number: u8,
    /// The tables that it reads.
    pub tables: Arc<Tables>,
    /// Flow cache.
    pub flows: FlowTable,
    /// Connections and NAT.
    pub connections: Connections,
    /// First fragments.
    pub fragments: Fragments,
    /// Packets that wait for a mapping.
    pub pending: Pending,
    /// Counters.
    pub counters: Counters,
    /// Open runs towards uplinks.
    pub runs: Runs,
    /// Open frames towards guests.
    pub coalescer: Coalescer,
    /// Capture.
    pub capture: Capture,
    /// Misses told to control.
    pub misses: OncePer<Eid>,
    /// Unserved EIDs told to control.
    pub unserved: OncePer<(Eid, Rloc)>,
    /// Nodes without an SA to seal under, told to control.
    pub no_sas: OncePer<MeshNode>,
    /// Unbound sources told to control.
    pub unbound: OncePer<(MeshNode, Eid)>,
    /// Nodes that may be sealed for since a moment ago: what waits for them goes on.
    pub ready: Vec<MeshNode>,
    /// Control messages in data headers handed to control.
    pub punts: Bucket,
    /// How many of those, whoever they are from.
    pub unbound_told: Bucket,
    /// Messages inside SAs handed to control.
    pub messages: Bucket,
    /// ICMP errors sent.
    pub complaints: Bucket,
    /// RLOCs sent to since control was told last.
    pub sent_to: BTreeSet<Rloc>,
    /// The last of them, so that a burst to one RLOC looks once.
    pub last_sent_to: Option<SocketAddr>,
    /// When control is told next.
    pub tell_sent_at: Instant,
    /// When each port gets its next unsolicited Router Advertisement.
    pub advertise_at: BTreeMap<PortId, Instant>,
}

impl Worker {
    /// A worker that reads `tables`.
    pub fn new(tables: Arc<Tables>, now: Instant, unix_ns: u64, seed: u64) -> Self {
        let key = Seeded::new(seed);
        Self {
            number: 0,
            tables,
            flows: FlowTable::new(key),
            connections: Connections::new(key, seed.rotate_left(32)),
            fragments: Fragments::new(key),
            pending: Pending::new(key),
            counters: Counters::new(),
            runs: Runs::default(),
            coalescer: Coalescer::default(),
            capture: Capture::new(now, unix_ns),
            misses: OncePer::new(Duration::from_secs(1), key),
            unserved: OncePer::new(Duration::from_secs(1), key),
            no_sas: OncePer::new(Duration::from_secs(1), key),
            unbound: OncePer::new(Duration::from_secs(1), key),
            ready: Vec::new(),
            punts: Bucket::new(64, 64),
            unbound_told: Bucket::new(64, 64),
            messages: Bucket::new(200, 200),
            complaints: Bucket::new(100, 200),
            sent_to: BTreeSet::new(),
            last_sent_to: None,
            tell_sent_at: now,
            advertise_at: BTreeMap::new(),
        }
    }
}

impl Worker {
    /// A packet has ended: counted, and captured if somebody listens.
    pub fn ended(&mut self, burst: &mut Burst<'_>, origin: &Origin<'_>, outcome: Outcome) {
        if let Err(reason) = outcome {
            self.counters.dropped(origin.source(), reason);
        }
        self.capture.end(burst.now, &outcome, burst.out);
    }
}

/// What all packets of a burst share.
pub struct Burst<'a> {
    /// The time.
    pub now: Instant,
    /// The small tables, as they are during this burst.
    pub snapshot: &'a Snapshot,
    /// Free buffers.
    pub pool: &'a mut Pool,
    /// Where packets go.
    pub out: &'a mut Output,
}

impl Burst<'_> {
    /// Takes back a buffer that is left over.
    pub fn recycle(&mut self, packet: Option<PacketBuf>) {
        if let Some(packet) = packet {
            self.pool.recycle_packet(packet);
        }
    }
}

/// Where a packet came from.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// A guest of this node.
    Guest(&'a Arc<Port>),
    /// The node's own host.
    Host(NetworkId),
    /// Another node of the mesh.
    Mesh {
        /// Out of which uplink.
        uplink: UplinkId,
        /// To which of our addresses.
        local: IpAddr,
        /// Whose datagram.
        from: Rloc,
        /// Who sealed it; `None`: it came in clear.
        node: Option<MeshNode>,
        /// Its outer TTL.
        ttl: u8,
        /// Its outer TOS.
        tos: u8,
    },
    /// The host's network.
    Exit,
}

impl Origin<'_> {
    /// For counting.
    pub fn source(&self) -> Source {
        match self {
            Self::Guest(port) => Source::Port(port.config.id),
            Self::Mesh { uplink, .. } => Source::Uplink(*uplink),
            Self::Exit => Source::Exit,
            Self::Host(_) => Source::Node,
        }
    }

    /// The node that sealed it.
    #[inline]
    pub fn node(&self) -> Option<MeshNode> {
        match self {
            Self::Mesh { node, .. } => *node,
            _ => None,
        }
    }

    /// The guest port that it came from.
    pub fn port(&self) -> Option<PortId> {
        match self {
            Self::Guest(port) => Some(port.config.id),
            _ => None,
        }
    }
}

/// A packet on its way, with what is known of it.
pub struct Subject<'a> {
    /// Where it came from.
    pub origin: Origin<'a>,
    /// Its network.
    pub network: &'a Arc<Network>,
    /// Its headers; `key.scope` is the network.
    pub ip: crate::parse::IpPacket,
}
