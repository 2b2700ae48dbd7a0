//! What control and the packet path say to each other: [`Change`]s and [`Query`]s down, [`Event`]s and
//! [`Answer`]s up. Over a unix seqpacket socket in life, over channels in tests.
//!
//! Changes are idempotent, ordered, and each is acknowledged by its number. When control restarts it
//! sends [`Change::Resync`], its full state, then [`Change::Commit`]: whatever was not named in between is
//! dropped, what is equal is kept untouched (connections, NAT state and flows live on).

pub mod mesh;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};
use lisp::{Eid, EidPrefix, InstanceId, NegativeAction, Rloc};
use serde::{Deserialize, Serialize};

pub use mesh::{BindingConfig, MeshNode, SaConfig, SaStatus, SaUse, SealedControl};

/// Number of a change; rises by one with each.
pub type Sequence = u64;

/// Number of an applied intent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Generation(pub u64);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub u32);
    };
}

id! {
    /// A guest port. Control assigns it and never reuses it for another NIC while the node lives.
    PortId
}
id! {
    /// A network on this node.
    NetworkId
}
id! {
    /// An uplink of this node.
    UplinkId
}

/// A message from control to the packet path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Down {
    /// State that should be so from now on. File descriptors, when the change needs them, ride on the same datagram.
    Change(Sequence, Change),
    /// A question; the answer repeats the number.
    Query(u64, Query),
}

/// A message from the packet path to control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Up {
    /// First message on every connection.
    Hello(Hello),
    /// The change of this number is in force, or why not (in words for the operator).
    Ack(Sequence, Result<(), String>),
    /// Something happened.
    Event(Event),
    /// Answer to a query.
    Answer(u64, Answer),
}

/// What the packet path holds when control connects. One [`Event::Descriptors`] for each port, each uplink and the
/// local exit follows, in this order, so that a restarted control has all descriptors again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Process id of the packet path.
    pub pid: u32,
    /// Version of the binary.
    pub version: String,
    /// Generation last committed.
    pub generation: Generation,
    /// Last sequence applied, 0 when none.
    pub sequence: Sequence,
    /// Ports and uplinks whose descriptors it holds, in the order in which [`Event::Descriptors`] hand them over.
    pub ports: Vec<PortConfig>,
    /// See `ports`.
    pub uplinks: Vec<UplinkConfig>,
    /// The local exit, whose descriptor comes last.
    pub local_exit: Option<LocalExitConfig>,
    /// The mesh SAs that it holds. They live on when control restarts, whose keys are gone; only [`Change::RemoveSa`]
    /// and their own end remove them.
    pub sas: Vec<SaStatus>,
}

/// State that should be so from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// The full state follows, up to the next `Commit`; what it does not name is dropped then.
    Resync,
    /// A network exists.
    PutNetwork(NetworkConfig),
    /// A network, and all its ports, mappings and bindings, are gone. SAs are with nodes and stay.
    RemoveNetwork(NetworkId),
    /// A guest port exists. Carries its descriptor (TAP or AF_PACKET) unless the packet path holds it already.
    PutPort(PortConfig),
    /// A guest port is gone; its descriptor is closed.
    RemovePort(PortId),
    /// An uplink exists. Carries its UDP sockets (see [`UplinkConfig`]) unless the packet path holds them already.
    PutUplink(UplinkConfig),
    /// An uplink is gone; its sockets are closed.
    RemoveUplink(UplinkId),
    /// The exit to the host's own network for `Local` networks: a TUN with vnet header, descriptor attached.
    PutLocalExit(LocalExitConfig),
    /// No exit: packets to it are dropped and counted.
    RemoveLocalExit,
    /// The whole policy of a network.
    PutPolicy(PolicyConfig),
    /// A mapping was learned or changed. One entry; nothing else is disturbed.
    PutMapping(MappingConfig),
    /// A mapping is gone: the next packet to it misses.
    RemoveMapping(EidPrefix),
    /// Health of one RLOC as probing found it. Unknown RLOCs count as up.
    PutPathHealth(PathHealth),
    /// A pair of mesh SAs. Exempt from [`Change::Resync`].
    PutSa(SaConfig),
    /// A pair of mesh SAs, named by the first of our indices, is gone at once.
    RemoveSa(lisp::mesh::SaIndex),
    /// A node may send with these inner sources.
    PutBinding(BindingConfig),
    /// Nobody may send with these inner sources any more.
    RemoveBinding(EidPrefix),
    /// Everything since the last commit belongs to this generation.
    Commit(Generation),
}

/// A network on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Its number.
    pub id: NetworkId,
    /// Its name, for DNS, trace and counters.
    pub name: String,
    /// What is on the other side.
    pub kind: NetworkKind,
    /// Names that DNS answers, fully qualified without the trailing dot, lower case: guests and nodes.
    pub names: Vec<(String, Vec<IpAddr>)>,
    /// Domain that guests get as search domain.
    pub domain: String,
    /// Addresses of the node itself inside this network (answer pings, source of `weft ping`). May be empty.
    pub host_addresses: Vec<IpAddr>,
}

/// What is on the other side of a NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkKind {
    /// A LISP mesh.
    Mesh {
        /// The tenant.
        instance_id: InstanceId,
        /// What packets of this mesh need before they may leave.
        protection: Protection,
        /// EIDs outside of these prefixes are not looked up but refused. Empty: everything is looked up.
        eid_prefixes: Vec<IpNet>,
    },
    /// NAT to the host's network.
    Local {
        /// Translate IPv4.
        nat44: bool,
        /// Translate IPv6.
        nat66: bool,
    },
}

/// What packets of a mesh need before they may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protection {
    /// The operator said `encryption: none`.
    Clear,
    /// Only under a mesh SA; without one packets are dropped and counted. Packets that come in clear are too.
    Sealed,
}

/// A guest's NIC, our side of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortConfig {
    /// Its number.
    pub id: PortId,
    /// `guest/nic`, for trace, capture and counters.
    pub name: String,
    /// Which network.
    pub network: NetworkId,
    /// How it is attached.
    pub attachment: Attachment,
    /// The guest's MAC address.
    pub mac: [u8; 6],
    /// The guest's addresses: EIDs in a mesh. The only sources that anti-spoofing lets pass, with `routed`.
    pub addresses: Vec<IpAddr>,
    /// Prefixes behind the guest.
    pub routed: Vec<IpNet>,
    /// The gateway that the guest sees.
    pub gateway: GatewayConfig,
    /// Host name handed out by DHCP and known to DNS.
    pub host_name: String,
}

/// How a guest port is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attachment {
    /// A TAP opened with `IFF_VNET_HDR` (10-byte or 12-byte header as said) and offloads on.
    Tap {
        /// Interface name when it was opened, for messages only.
        interface: String,
        /// Bytes of the vnet header, 10 or 12.
        vnet_header: u8,
    },
    /// An AF_PACKET socket bound to one end of a veth, with `PACKET_VNET_HDR`.
    Packet {
        /// Interface name, for messages only.
        interface: String,
        /// Bytes of the vnet header, 10 or 12; 0 when the kernel refused it.
        vnet_header: u8,
    },
    /// No descriptor: tests hand a memory port over in-process.
    Memory,
}

/// The gateway of one NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayConfig {
    /// MAC of the gateway; the same on every node, so that a guest may move.
    pub mac: [u8; 6],
    /// IPv4 address of the gateway and the subnet DHCPv4 announces.
    pub ipv4: Option<(Ipv4Addr, Ipv4Net)>,
    /// Link-local address that RAs come from.
    pub ipv6: Ipv6Addr,
    /// MTU told to the guest (DHCP option 26, RA MTU), bytes of IP packet.
    pub mtu: u16,
    /// Life of DHCP leases and RA router lifetime.
    pub lease: Duration,
    /// DNS servers beyond the gateway itself that names outside of the mesh are forwarded to. Not used yet by meshes.
    pub dns_upstream: Vec<SocketAddr>,
}

/// An attachment of the node to an underlay. Its sockets ride on the datagram: first the receiving sockets
/// (port 4341; in the order of `addresses`), then `source_ports` sending sockets for each address, same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkConfig {
    /// Its number.
    pub id: UplinkId,
    /// Interface name, for trace and counters.
    pub name: String,
    /// Our own RLOCs on it.
    pub addresses: Vec<IpAddr>,
    /// How many sending sockets each address has (source ports spread flows over ECMP paths); 0: send from 4341.
    pub source_ports: u8,
    /// MTU of the interface in bytes.
    pub mtu: u32,
}

/// The exit to the host's own network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalExitConfig {
    /// Interface name, for messages only.
    pub interface: String,
    /// Bytes of the vnet header, 10 or 12.
    pub vnet_header: u8,
    /// Source that NAT44 translates to.
    pub ipv4: Option<Ipv4Addr>,
    /// Source that NAT66 translates to.
    pub ipv6: Option<Ipv6Addr>,
    /// MTU in bytes.
    pub mtu: u32,
}

/// Who may talk to whom in a network; whatever no rule allows is denied. Replies of an allowed connection pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyConfig {
    /// Which network.
    pub network: NetworkId,
    /// In order; the first that fits decides.
    pub rules: Vec<PolicyRule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// Name for trace and counters, such as `allow-ping/rule[0]`.
    pub name: String,
    /// Sources; empty: any.
    pub from: Vec<IpNet>,
    /// Destinations; empty: any.
    pub to: Vec<IpNet>,
    /// What.
    pub service: Service,
    /// Allow or deny.
    pub allow: bool,
}

/// What a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Service {
    /// Every protocol.
    Any,
    /// ICMP and ICMPv6.
    Icmp,
    /// TCP to these destination ports; empty: all.
    Tcp(Vec<RangeInclusive<u16>>),
    /// UDP to these destination ports; empty: all.
    Udp(Vec<RangeInclusive<u16>>),
    /// Another IP protocol by number.
    Protocol(u8),
}

/// What a mapping says to the packet path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingConfig {
    /// Who.
    pub prefix: EidPrefix,
    /// Where, or why nowhere.
    pub target: MappingTarget,
    /// Which node speaks for it, in a sealed network: packets to it are sealed for that node, or dropped.
    pub node: Option<MeshNode>,
}

/// Where an EID-prefix is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MappingTarget {
    /// At these locators.
    Locators(Vec<PathLocator>),
    /// Nowhere; packets are dropped under the action's name. `NativelyForward` never means "in clear".
    Negative(NegativeAction),
}

/// A remote locator as the ITR uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathLocator {
    /// Where.
    pub rloc: Rloc,
    /// Lower is preferred; 255 never.
    pub priority: u8,
    /// Share among equal priorities.
    pub weight: u8,
    /// R-bit.
    pub reachable: bool,
}

/// Health of an RLOC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathHealth {
    /// Which.
    pub rloc: Rloc,
    /// Whether probes come back.
    pub up: bool,
    /// Path MTU in bytes when it is known to be below the uplink's.
    pub mtu: Option<u32>,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Descriptors of one port or uplink named in [`Hello`], attached to this datagram.
    Descriptors(Held),
    /// No mapping covers this EID; the packet waits (bounded) or was dropped. At most one a second for each EID.
    MapCacheMiss {
        /// Who is looked for.
        eid: Eid,
        /// Who looks.
        source: Eid,
    },
    /// A data packet came for an EID of a network of ours that no port serves: its sender's mapping is stale.
    /// At most one a second for each (EID, RLOC).
    UnservedEid {
        /// Who was looked for.
        eid: Eid,
        /// Who sent the data packet.
        from: Rloc,
        /// Who sealed it; `None`: it came in clear.
        node: Option<MeshNode>,
    },
    /// A control message in a data header (Instance-ID 0xffffff).
    ControlInData {
        /// Outer source.
        from: SocketAddr,
        /// The message.
        payload: Vec<u8>,
    },
    /// RLOCs that data was sent to since the last such event; once a second while there are any.
    TrafficSent(Vec<Rloc>),
    /// A packet opened under a pair of SAs for the first time.
    SaConfirmed(lisp::mesh::SaIndex),
    /// Use of the SAs that were used since the last such event; once a second while there are any.
    SaUsed(Vec<SaUse>),
    /// A packet for this node found no SA that may be sent under (none, or all at their limit), and waits (bounded) or
    /// was dropped. At most one a second for each node.
    NoSa {
        /// Which node.
        node: MeshNode,
        /// Whom the packet was for.
        eid: Eid,
        /// Whom it was from.
        source: Eid,
    },
    /// The answer to [`Query::SealedProbe`] of this nonce came, authentic.
    SealedProbeAnswered {
        /// Who answered.
        node: MeshNode,
        /// Of that probe.
        nonce: u64,
    },
    /// A control message came sealed.
    SealedMessage {
        /// Who sealed it.
        node: MeshNode,
        /// From where.
        from: Rloc,
        /// What.
        payload: Vec<u8>,
    },
    /// A node's packets come from another outer address than its mappings name; packets to it follow.
    Roamed {
        /// Which node.
        node: MeshNode,
        /// Where it is heard from now; `None`: from one of its locators again.
        to: Option<Rloc>,
    },
    /// An authentic packet of this node came from an inner source that is not bound to it; at most one a second for each.
    UnboundSource {
        /// Who sealed it.
        node: MeshNode,
        /// Whom it claimed to be from.
        source: Eid,
    },
    /// The kernel refused a size: the path MTU to this RLOC is smaller than the uplink's.
    PathTooSmall {
        /// Which.
        rloc: Rloc,
        /// Bytes of the outer IP packet that did not fit.
        size: u32,
    },
    /// A port's descriptor failed (the interface is gone).
    PortFailed(PortId, String),
    /// An uplink's socket failed.
    UplinkFailed(UplinkId, String),
    /// A packet under [`Query::Capture`].
    Captured(CapturedPacket),
}

/// Whose descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// A guest port's.
    Port(PortId),
    /// An uplink's, in the order that [`UplinkConfig`] describes.
    Uplink(UplinkId),
    /// The local exit's.
    LocalExit,
}

/// A question to the packet path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Query {
    /// All counters.
    Counters,
    /// What would happen to this Ethernet frame, coming from the guest: runs the very same stage functions,
    /// changes nothing, sends nothing.
    TraceOutbound {
        /// Whose NIC.
        port: PortId,
        /// Ethernet frame.
        frame: Vec<u8>,
    },
    /// What would happen to this inner IP packet, coming from `from` in `instance_id`.
    TraceInbound {
        /// Outer source.
        from: Rloc,
        /// Who sealed it; `None`: it came in clear.
        node: Option<MeshNode>,
        /// Tenant.
        instance_id: InstanceId,
        /// Inner packet.
        packet: Vec<u8>,
    },
    /// Send one ICMP echo request from a host address of the network, and answer when the reply comes or time is up.
    Ping {
        /// Which network.
        network: NetworkId,
        /// Whom.
        destination: IpAddr,
        /// ICMP sequence number.
        sequence: u16,
        /// Bytes of payload.
        size: u16,
        /// Give up after this.
        timeout: Duration,
    },
    /// Send a probe to this node, sealed, towards this locator; [`Event::SealedProbeAnswered`] may follow. Answered with
    /// [`Answer::Ok`], or refused when there is no SA to send under.
    SealedProbe {
        /// Whom.
        node: MeshNode,
        /// By which locator; where the node is heard from when it roamed, or by any, when `None`.
        rloc: Option<Rloc>,
        /// Repeated by the answer.
        nonce: u64,
    },
    /// Send a control message to this node, sealed. Answered like [`Query::SealedProbe`].
    SealedSend {
        /// Whom.
        node: MeshNode,
        /// At most 1,200 bytes.
        payload: Vec<u8>,
    },
    /// The mesh SAs.
    Sas,
    /// The bindings: a restarted control takes them over as it does the mappings.
    Bindings,
    /// Start (`Some`) or stop (`None`) sending [`Event::Captured`].
    Capture(Option<CaptureFilter>),
    /// Entries of the mapping table with their use.
    Mappings,
    /// Connections.
    Connections,
    /// End. Answered with [`Answer::Ok`]; every descriptor is closed when the process is gone.
    Quit,
}

/// What to capture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureFilter {
    /// Only this port; none: all ports and uplinks.
    pub port: Option<PortId>,
    /// Only packets from or to one of these addresses (inner).
    pub addresses: Vec<IpAddr>,
    /// Bytes kept of each packet.
    pub snap_length: u32,
}

/// A captured packet: inner, as the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedPacket {
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// Port name or uplink name.
    pub interface: String,
    /// Whether it left the guest.
    pub outbound: bool,
    /// How it ended, in the counter's word.
    pub verdict: String,
    /// Whole length in bytes.
    pub length: u32,
    /// Ethernet frame, or a raw IP packet when it never met a guest port.
    pub ethernet: bool,
    /// Its bytes, cut to the snap length.
    pub bytes: Vec<u8>,
}

/// Answer to a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Name and value, sorted by name: `guest_port.<name>.rx_packets`, `drop.policy-denied`, `uplink.<name>.tx_bytes` ….
    Counters(Vec<(String, u64)>),
    /// Steps in the order in which the packet met the stages.
    Trace(Vec<TraceStep>),
    /// Round trip time; `None` when none came back in time.
    Ping(Option<Duration>),
    /// Done.
    Ok,
    /// Entries.
    Mappings(Vec<MappingStatus>),
    /// Entries.
    Connections(Vec<ConnectionStatus>),
    /// The mesh SAs, in order of node and age.
    Sas(Vec<SaStatus>),
    /// The bindings.
    Bindings(Vec<BindingConfig>),
    /// The question cannot be answered, in words.
    Refused(String),
}

/// One stage's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStep {
    /// `antispoof`, `gateway`, `flow`, `policy`, `itr`, `uplink`, `rewrite`, `transmit`, `etr`, `deliver`, ….
    pub stage: String,
    /// `continue`, `hairpin`, `drop`, `miss`, ….
    pub verdict: String,
    /// What it was based on.
    pub detail: String,
}

/// A mapping and its use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingStatus {
    /// The entry.
    pub mapping: MappingConfig,
    /// Packets sent by it.
    pub packets: u64,
    /// Bytes sent by it.
    pub bytes: u64,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Which network.
    pub network: NetworkId,
    /// IP protocol.
    pub protocol: u8,
    /// Who opened it.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// Translated source, when NAT is involved.
    pub translated: Option<SocketAddr>,
    /// `opening`, `established`, `closing`.
    pub state: String,
    /// Since the last packet.
    pub idle: Duration,
}
