//! Kind `Network`: what is on the other side of a NIC.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is on the other side of a guest's NIC: a LISP mesh, or NAT to the node's uplinks. Exactly one of `mesh` and
/// `local`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSpec {
    /// A LISP mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<Mesh>,
    /// NAT to the node's uplinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
    /// The IPv4 subnet that guests see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4>,
    /// Domain of its names; `NETWORK.weft` when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Names that its DNS answers beside this node's guests, with their addresses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, Vec<String>>,
    /// Largest IP packet of a guest, in bytes; what the uplinks leave room for when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 576, max = 65_535), extend("x-unit" = "bytes"))]
    pub mtu: Option<u16>,
}

/// A LISP mesh.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mesh {
    /// Tenant: the Instance-ID that all nodes of this mesh use.
    #[schemars(range(max = 16_777_214))]
    pub instance_id: u32,
    /// Protection of its packets between nodes.
    #[serde(default)]
    #[schemars(extend("x-help" = "leave it out, or write `encryption: sealed`: every packet is encrypted and of a known node; write `encryption: none` where the underlay is trusted, and only there"))]
    pub encryption: Encryption,
    /// Public key of the network's authority, `p256:…` as `weft key show` prints it: whom its signatures let join, and
    /// who speaks for addresses that are no hash of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Name of a `Secret` with the authority's private key: this node signs what it needs itself. The authority may as
    /// well stay offline: see `membership` and `bindings`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-credential" = true))]
    pub authority_key: Option<String>,
    /// Name of a `Secret` with this node's membership, signed offline by `weft key member`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-credential" = true))]
    pub membership: Option<String>,
    /// Names of `Secret`s with bindings of this node, signed offline by `weft key bind`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-credential" = true))]
    pub bindings: Vec<String>,
    /// Who may join a sealed mesh: whoever is listed here and, where `authority` is given, whoever has a membership
    /// that it signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// EID space: the same on every node; packets to addresses outside are refused.
    #[schemars(length(min = 1))]
    pub prefixes: Vec<String>,
    /// This node's own addresses in the mesh: it answers pings there, and `weft ping` comes from there. Without an IPv6
    /// address the node has one in a sealed mesh whose prefixes hold `fd00::/8`: the hash of its key.
    #[serde(default)]
    pub node_addresses: Vec<String>,
}

/// Who may join a sealed mesh: exactly one of `node` and `eid`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Member {
    /// A name for policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Public key of a node, `p256:…`: every EID that is bound to it may join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// One EID, such as `fd5a:…`: it may join, wherever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eid: Option<String>,
    /// Labels, for policies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Protection of a mesh's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// Every packet is encrypted, and from a node that is bound to its source address.
    #[default]
    Sealed,
    /// Plain RFC 9300 packets: readable and forgeable on the underlay.
    None,
}

/// NAT to the node's uplinks.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Local {
    /// Translate IPv4.
    #[serde(default = "yes")]
    pub nat44: bool,
    /// Translate IPv6.
    #[serde(default = "yes")]
    pub nat66: bool,
}

const fn yes() -> bool {
    true
}

/// The IPv4 side of a network.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ipv4 {
    /// The subnet that guests see, the same on every node.
    pub prefix: String,
    /// The gateway's address in it, the same on every node.
    pub gateway: String,
    /// The part of it that this node hands out; of a `local` network, the whole prefix when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
}
