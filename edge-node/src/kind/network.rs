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
    #[schemars(extend("x-help" = "the sealed mesh is not there yet: write `encryption: none` where the underlay is trusted, and only there"))]
    pub encryption: Encryption,
    /// EID space: the same on every node; packets to addresses outside are refused.
    #[schemars(length(min = 1))]
    pub prefixes: Vec<String>,
    /// This node's own addresses in the mesh: it answers pings there, and `weft ping` comes from there.
    #[serde(default)]
    pub node_addresses: Vec<String>,
}

/// Protection of a mesh's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// Plain RFC 9300 packets: readable on the underlay.
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
