//! Kind `Guest`: a workload and its NICs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A workload: its NICs and what is on the other side of each.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuestSpec {
    /// Its NICs.
    #[schemars(length(min = 1))]
    pub nics: Vec<Nic>,
}

/// A NIC.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Nic {
    /// Its name, unique in the guest.
    pub name: String,
    /// Name of the `Network` object.
    pub network: String,
    /// How the guest reaches it.
    pub attach: Attach,
    /// The guest's MAC address, such as `02:00:00:00:00:0a`; derived from the guest's and the NIC's name when not
    /// given, so that it survives a move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Name of a `Secret` with an EID's private key, for a sealed mesh: the NIC's IPv6 address is the hash of the key and
    /// need not stand in `addresses`. A NIC with neither key nor IPv6 address gets a key of its own, made by the node,
    /// where the mesh's prefixes hold `fd00::/8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-credential" = true))]
    pub key: Option<String>,
    /// The guest's addresses: EIDs in a mesh. Without an IPv4 address it gets the next free one of the network's slice.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Prefixes behind the guest, which it routes.
    #[serde(default)]
    pub routed: Vec<String>,
}

/// How a NIC is attached: exactly one of its fields.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attach {
    /// A TAP: made when it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<Tap>,
    /// One end of a veth that is there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub veth: Option<Veth>,
}

/// A TAP.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tap {
    /// Interface name, at most 15 bytes.
    pub interface: String,
    /// Network namespace (as `ip netns` knows it) that it is moved into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Interface name in that namespace; `interface` when not given.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub name_inside: Option<String>,
}

/// One end of a veth.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Veth {
    /// Interface name of our end.
    pub interface: String,
}
