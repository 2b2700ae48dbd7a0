//! What the operator asked for, validated: nothing past this point sees raw text.
//!
//! The shapes here are the product's own; the YAML shapes live in [`crate::kind`] and are translated once.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lisp::{EidPrefix, InstanceId, mesh::PublicKey, wire::AuthAlgorithm};
use serde::{Deserialize, Serialize};

/// Name of an object: lower case letters, digits, `-` and `.`, at most 63 bytes.
pub type Name = String;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Everything that one node is to be. References between objects have been checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Who this node is. Needed for networks and guests, not for a Map-Server alone.
    pub node: Option<Node>,
    /// Map-Servers that run on this node.
    pub map_servers: BTreeMap<Name, MapServer>,
    /// Networks.
    pub networks: BTreeMap<Name, Network>,
    /// Guests.
    pub guests: BTreeMap<Name, Guest>,
    /// Policies.
    pub policies: BTreeMap<Name, Policy>,
    /// Where credentials are.
    pub secrets: BTreeMap<Name, SecretSource>,
}

/// Kind `Node`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: Name,
    /// Labels.
    pub labels: Labels,
    /// Site-ID in Map-Registers (RFC 9301 §5.6).
    pub site_id: u64,
    /// The node's private key; none: the node makes one in its state folder.
    pub key: Option<Name>,
    /// Map-Servers it registers with and asks.
    pub map_servers: Vec<MapServerPeer>,
    /// Its uplinks.
    pub uplinks: Vec<Uplink>,
}

/// A Map-Server as an xTR sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapServerPeer {
    /// Where; port 4342 unless said otherwise.
    pub address: SocketAddr,
    /// Key-ID of the shared secret.
    pub key_id: u8,
    /// Algorithm of the MACs we send.
    pub algorithm: AuthAlgorithm,
    /// The shared secret.
    pub secret: Name,
    /// Ask it to answer Map-Requests for us (P-bit).
    pub proxy_reply: bool,
}

/// An uplink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// Interface name.
    pub interface: String,
    /// Priority of its locators; lower is preferred.
    pub priority: u8,
    /// Weight of its locators.
    pub weight: u8,
    /// What it costs, for people and later for path choice.
    pub cost: u32,
    /// Sending sockets for each address (entropy for ECMP); 0 sends from port 4341.
    pub source_ports: u8,
}

/// Kind `MapServer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapServer {
    /// Addresses it listens on; port 4342 unless said otherwise.
    pub listen: Vec<SocketAddr>,
    /// Where registrations and nonces are kept.
    pub store: StoreKind,
    /// EID space it is responsible for: unregistered addresses inside are "configured, not registered".
    pub blocks: Vec<EidPrefix>,
    /// Who may register what.
    pub sites: Vec<Site>,
    /// Instance-IDs whose registrations must carry valid bindings.
    pub authorities: Vec<InstanceAuthority>,
}

/// An Instance-ID of a sealed mesh, as a Map-Server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceAuthority {
    /// The tenant.
    pub instance_id: InstanceId,
    /// Whose signatures bind addresses that are no hash of a key; none: nobody's.
    pub authority: Option<PublicKey>,
    /// Whether registrations must carry valid bindings.
    pub sealed: bool,
}

/// Store engine of a Map-Server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreKind {
    /// On disk in the node's state directory; survives kill -9.
    Disk,
    /// In memory: registrations and nonces are lost with the process.
    Memory,
}

/// A site of a Map-Server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its name.
    pub name: Name,
    /// Its keys; several while one replaces the other.
    pub keys: Vec<SiteKey>,
    /// What it may register.
    pub prefixes: Vec<SitePrefix>,
    /// Whether the Map-Server answers for it when it asks for that.
    pub allow_proxy_reply: bool,
}

/// A key of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteKey {
    /// Key-ID.
    pub key_id: u8,
    /// Accepted algorithms.
    pub algorithms: Vec<AuthAlgorithm>,
    /// The shared secret.
    pub secret: Name,
}

/// A prefix of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SitePrefix {
    /// What.
    pub prefix: EidPrefix,
    /// Whether parts of it may be registered.
    pub accept_more_specifics: bool,
}

/// Kind `Network`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// What is on the other side.
    pub kind: NetworkKind,
    /// Domain of its names, such as `plant.weft`.
    pub domain: String,
    /// Names beyond those of this node's guests.
    pub names: BTreeMap<Name, Vec<IpAddr>>,
    /// MTU told to guests; none: by the uplinks' MTU and the overhead.
    pub mtu: Option<u16>,
    /// IPv4 subnet that guests see and the gateway's address in it.
    pub ipv4: Option<Ipv4Subnet>,
}

/// The IPv4 side of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv4Subnet {
    /// The subnet, the same on every node.
    pub prefix: Ipv4Net,
    /// The gateway's address, the same on every node.
    pub gateway: Ipv4Addr,
    /// The part of it whose addresses this node hands out on its own.
    pub slice: Option<Ipv4Net>,
}

/// What is on the other side of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkKind {
    /// A LISP mesh.
    Mesh(Mesh),
    /// NAT to the node's uplinks.
    Local(Local),
}

/// A mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// The tenant.
    pub instance_id: InstanceId,
    /// Protection of its packets; `None` is said by the operator, never a default.
    pub encryption: Encryption,
    /// EID space of the mesh; destinations outside are refused.
    pub prefixes: Vec<IpNet>,
    /// This node's own addresses in the mesh.
    pub node_addresses: Vec<IpAddr>,
}

/// Protection of a mesh's packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encryption {
    /// Plain RFC 9300 packets, for trusted underlays and third-party xTRs.
    None,
    /// Every packet is encrypted, and from a node that is bound to its source address.
    Sealed(Box<SealedMesh>),
}

/// Who speaks for what in a sealed mesh, and who may join.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedMesh {
    /// Whose signatures let nodes join, and bind addresses that are no hash of a key.
    pub authority: Option<PublicKey>,
    /// Secret with the authority's private key, where this node signs for itself.
    pub authority_key: Option<Name>,
    /// Secret with this node's membership, signed offline.
    pub membership: Option<Name>,
    /// Secrets with bindings of this node, signed offline.
    pub bindings: Vec<Name>,
    /// Who may join without a membership.
    pub members: Vec<Member>,
}

/// Who may join a sealed mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name, for policies; unique among the members.
    pub name: Option<Name>,
    /// Who it is.
    pub who: MemberId,
    /// Labels, for policies.
    pub labels: Labels,
}

/// By what a member is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberId {
    /// By its node key: every EID that is bound to it.
    Node(PublicKey),
    /// By one EID, wherever it is.
    Eid(IpAddr),
}

impl Network {
    /// Its mesh, when it is one.
    #[must_use]
    pub fn mesh(&self) -> Option<&Mesh> {
        match &self.kind {
            NetworkKind::Mesh(mesh) => Some(mesh),
            NetworkKind::Local(_) => None,
        }
    }

    /// Its mesh and what seals it, when it is a sealed mesh.
    #[must_use]
    pub fn sealed(&self) -> Option<(&Mesh, &SealedMesh)> {
        let mesh = self.mesh()?;
        Some((mesh, mesh.sealed()?))
    }
}

impl Mesh {
    /// What seals it; none: nothing does.
    #[must_use]
    pub fn sealed(&self) -> Option<&SealedMesh> {
        match &self.encryption {
            Encryption::None => None,
            Encryption::Sealed(sealed) => Some(sealed),
        }
    }

    /// Whether its EID space holds every EID that is the hash of a key.
    #[must_use]
    pub fn holds_hashes(&self) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(&crypto_eids()))
    }

    /// Whether this node's EID in it is the hash of its node key.
    #[must_use]
    pub fn node_eid_is_hash(&self) -> bool {
        self.sealed().is_some() && self.holds_hashes() && !self.node_addresses.iter().any(IpAddr::is_ipv6)
    }

    /// Whether a NIC's IPv6 EID in it is the hash of a key: one that is given, or one that the node makes.
    #[must_use]
    pub fn nic_eid_is_hash(&self, nic: &Nic) -> bool {
        let wanted = nic.key.is_some() || !nic.addresses.iter().any(IpAddr::is_ipv6);
        self.sealed().is_some() && self.holds_hashes() && wanted
    }
}

/// `fd00::/8`: where every EID lies that is the hash of a key.
#[must_use]
pub const fn crypto_eids() -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0), 8))
}

/// A local network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Local {
    /// Translate IPv4.
    pub nat44: bool,
    /// Translate IPv6.
    pub nat66: bool,
}

/// Kind `Guest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Labels, for policies.
    pub labels: Labels,
    /// Its NICs.
    pub nics: Vec<Nic>,
}

/// A NIC of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Its name within the guest.
    pub name: Name,
    /// Which network.
    pub network: Name,
    /// How it is attached.
    pub attach: Attach,
    /// The guest's MAC; derived from the guest's and the NIC's name when not given, so that it survives a move.
    pub mac: [u8; 6],
    /// Private key of its IPv6 EID, which is the hash of it.
    pub key: Option<Name>,
    /// The guest's addresses, without what is the hash of a key; `Keyring::complete` adds that.
    pub addresses: Vec<IpAddr>,
    /// Prefixes behind the guest.
    pub routed: Vec<IpNet>,
}

/// How a NIC is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attach {
    /// A TAP that Weft creates, or a persistent one that exists.
    Tap {
        /// Interface name.
        interface: String,
        /// Named network namespace that it is moved into, and its name there.
        netns: Option<TapNamespace>,
    },
    /// One end of an existing veth.
    Veth {
        /// Interface name.
        interface: String,
    },
}

/// Where a TAP is moved to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapNamespace {
    /// Name as `ip netns` knows it.
    pub name: String,
    /// Interface name inside.
    pub interface: String,
}

/// Kind `Policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Which network.
    pub network: Name,
    /// Rules in order.
    pub rules: Vec<Rule>,
    /// What the whole policy of the network must answer.
    pub tests: Vec<PolicyTest>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Sources; empty: any.
    pub from: Vec<Selector>,
    /// Destinations; empty: any.
    pub to: Vec<Selector>,
    /// Services; empty: any.
    pub services: Vec<Service>,
    /// Allow or deny.
    pub allow: bool,
}

/// Who.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selector {
    /// Addresses.
    Prefix(IpNet),
    /// A guest of this node, a name of the network, or a member of it.
    Name(Name),
    /// Guests of this node and members of the network with this label.
    Label(String, String),
    /// Every EID that is bound to a node.
    Node(PublicKey),
}

/// What.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Service {
    /// Echo and errors.
    Icmp,
    /// TCP ports.
    Tcp(RangeInclusive<u16>),
    /// UDP ports.
    Udp(RangeInclusive<u16>),
    /// IP protocol by number.
    Protocol(u8),
}

/// A test that a policy carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTest {
    /// From.
    pub from: Selector,
    /// To.
    pub to: Selector,
    /// What; none: any.
    pub service: Option<Service>,
    /// What must come out.
    pub allow: bool,
}

/// Kind `Secret`: where a credential is. The credential itself never stands here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretSource {
    /// A file (mode 0600 or 0400), trailing newline cut.
    File(PathBuf),
    /// An environment variable of `weft up`.
    Environment(String),
    /// A systemd credential.
    SystemdCredential(String),
}
