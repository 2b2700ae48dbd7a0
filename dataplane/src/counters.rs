//! Counting, by plain numbers with one owner; names are made when somebody asks.

use std::collections::BTreeMap;

use crate::{
    control::{PortId, UplinkId},
    tables::Snapshot,
    verdict::DropReason,
};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident => $word:literal,)+) => {
        /// What is counted for the whole node.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Count {
            $($(#[$doc])* $name,)+
        }

        impl Count {
            /// Every counter, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }
    };
}

counts! {
    /// Packets that found their flow entry.
    FlowHits => "flow.hits",
    /// Packets that went through all stages.
    FlowMisses => "flow.misses",
    /// Connections opened.
    ConnectionsOpened => "connection.opened",
    /// Connections that ended or idled out.
    ConnectionsClosed => "connection.closed",
    /// ARP replies.
    GatewayArp => "gateway.arp",
    /// Neighbour Advertisements.
    GatewayNeighbour => "gateway.neighbour-advertisement",
    /// Router Advertisements, asked for or not.
    GatewayRouter => "gateway.router-advertisement",
    /// DHCPv4 replies.
    GatewayDhcp4 => "gateway.dhcpv4",
    /// DHCPv6 replies.
    GatewayDhcp6 => "gateway.dhcpv6",
    /// DNS answers.
    GatewayDns => "gateway.dns",
    /// ICMP echo replies.
    GatewayEcho => "gateway.echo",
    /// ICMP errors sent: time exceeded.
    TimeExceeded => "icmp.time-exceeded",
    /// ICMP errors sent: packet too big, fragmentation needed.
    TooBig => "icmp.packet-too-big",
    /// Map-cache misses.
    MapCacheMisses => "itr.map-cache-miss",
    /// Packets that waited for a mapping and went on.
    Released => "itr.released",
    /// Packets encapsulated (each segment of a super-packet counts).
    Encapsulated => "itr.encapsulated",
    /// IPv4 packets split before encapsulation.
    Fragmented => "itr.fragmented",
    /// TCP SYNs whose MSS was lowered.
    MssClamped => "itr.mss-clamped",
    /// Packets sealed: each segment of a super-packet, and control inside SAs.
    Sealed => "seal.sealed",
    /// Packets opened.
    Opened => "seal.opened",
    /// Packets that found no SA to be sealed under.
    NoSa => "seal.no-sa",
    /// Packets decapsulated.
    Decapsulated => "etr.decapsulated",
    /// Packets that were merged into an earlier one towards a guest.
    Coalesced => "etr.coalesced",
    /// Packets translated on their way out.
    NatOut => "nat.out",
    /// Packets translated on their way in.
    NatIn => "nat.in",
    /// Packets from guest to guest on this node.
    GuestToGuest => "guest-to-guest",
    /// Packets to the node's own host.
    ToHost => "host.tx",
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets; each segment of a super-packet counts.
    pub packets: u64,
    /// Bytes as they are handed over.
    pub bytes: u64,
}

impl Traffic {
    /// Counts `packets` of `bytes` together.
    #[inline]
    pub fn add(&mut self, packets: usize, bytes: usize) {
        self.packets = self.packets.wrapping_add(packets as u64);
        self.bytes = self.bytes.wrapping_add(bytes as u64);
    }
}

const REASONS: usize = DropReason::ALL.len();

/// Counters of one guest port or uplink. Receive and transmit are ours: a guest port receives what its guest sends.
#[derive(Clone, Debug)]
pub struct Door {
    /// Came in.
    pub rx: Traffic,
    /// Went out.
    pub tx: Traffic,
    /// Frames that the other side had no room for.
    pub tx_refused: u64,
    drops: [u64; REASONS],
}

impl Default for Door {
    fn default() -> Self {
        Self {
            rx: Traffic::default(),
            tx: Traffic::default(),
            tx_refused: 0,
            drops: [0; REASONS],
        }
    }
}

/// Whose packet it was, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A guest port.
    Port(PortId),
    /// An uplink.
    Uplink(UplinkId),
    /// The exit to the host's network.
    Exit,
    /// The node's own host, or nobody any more.
    Node,
}

/// All counters of one worker.
#[derive(Debug)]
pub struct Counters {
    counts: [u64; Count::ALL.len()],
    drops: [u64; REASONS],
    ports: BTreeMap<PortId, Door>,
    uplinks: BTreeMap<UplinkId, Door>,
    exit: Door,
}

impl Counters {
    /// All zero.
    pub fn new() -> Self {
        Self {
            counts: [0; Count::ALL.len()],
            drops: [0; REASONS],
            ports: BTreeMap::new(),
            uplinks: BTreeMap::new(),
            exit: Door::default(),
        }
    }

    /// Adds `by`.
    #[inline]
    pub fn add(&mut self, count: Count, by: usize) {
        if let Some(counter) = self.counts.get_mut(count as usize) {
            *counter = counter.wrapping_add(by as u64);
        }
    }

    /// A packet from `source` ended in `reason`.
    pub fn dropped(&mut self, source: Source, reason: DropReason) {
        let index = reason as usize;
        let door = match source {
            Source::Port(id) => Some(self.ports.entry(id).or_default()),
            Source::Uplink(id) => Some(self.uplinks.entry(id).or_default()),
            Source::Exit => Some(&mut self.exit),
            Source::Node => None,
        };
        let own = door.and_then(|door| door.drops.get_mut(index));
        for counter in [self.drops.get_mut(index), own].into_iter().flatten() {
            *counter = counter.wrapping_add(1);
        }
    }

    /// Counters of a guest port.
    #[inline]
    pub fn port(&mut self, id: PortId) -> &mut Door {
        self.ports.entry(id).or_default()
    }

    /// Counters of an uplink.
    #[inline]
    pub fn uplink(&mut self, id: UplinkId) -> &mut Door {
        self.uplinks.entry(id).or_default()
    }

    /// Counters of the exit to the host's network.
    #[inline]
    pub fn exit(&mut self) -> &mut Door {
        &mut self.exit
    }

    /// Forgets a port that is gone.
    pub fn forget_port(&mut self, id: PortId) {
        self.ports.remove(&id);
    }

    /// Everything by name, sorted. Ports and uplinks without a name in `snapshot` are left out; counters of reasons
    /// that never happened are left out at doors, and are 0 for the node.
    pub fn named(&self, snapshot: &Snapshot) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = Vec::new();
        all.extend(
            Count::ALL
                .iter()
                .zip(self.counts)
                .map(|(count, value)| (count.word().to_owned(), value)),
        );
        let drops = DropReason::ALL.iter().zip(self.drops);
        all.extend(drops.map(|(reason, value)| (format!("drop.{}", reason.word()), value)));
        for (id, door) in &self.ports {
            if let Some(port) = snapshot.ports.get(id) {
                door.named(&format!("guest_port.{}", port.config.name), &mut all);
            }
        }
        for (id, door) in &self.uplinks {
            if let Some(uplink) = snapshot.uplinks.get(*id) {
                door.named(&format!("uplink.{}", uplink.config.name), &mut all);
            }
        }
        self.exit.named("local_exit", &mut all);
        all.sort();
        all
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Door {
    fn named(&self, prefix: &str, all: &mut Vec<(String, u64)>) {
        for (name, value) in [
            ("rx_packets", self.rx.packets),
            ("rx_bytes", self.rx.bytes),
            ("tx_packets", self.tx.packets),
            ("tx_bytes", self.tx.bytes),
            ("tx_refused", self.tx_refused),
        ] {
            all.push((format!("{prefix}.{name}"), value));
        }
        for (reason, value) in DropReason::ALL.iter().zip(self.drops) {
            if value != 0 {
                all.push((format!("{prefix}.drop.{}", reason.word()), value));
            }
        }
    }
}
