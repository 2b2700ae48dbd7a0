//! The objects as people write them, one file a kind. Nothing here has been checked beyond its shape: addresses,
//! prefixes and references are still text. [`crate::validate`] turns them into [`crate::intent`] types.
//!
//! The shapes carry their own documentation: the doc comments become the JSON Schema ([`crate::schema`]), and the
//! schema is what unknown fields, wrong types and ranges are judged by. Three extensions of it are ours: `x-help` on a
//! field is the remedy that is shown when the field is missing or wrong, `x-unit` is the unit of a number, and
//! `x-credential` marks a field whose text is never repeated in a message.

mod guest;
mod map_server;
mod network;
mod node;
mod policy;
mod secret;

use std::{collections::BTreeMap, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use guest::{Attach, GuestSpec, Nic, Tap, Veth};
pub use map_server::{InstanceAuthority, MapServerSpec, Site, SiteKey, SitePrefix, Store};
pub use network::{Encryption, Ipv4, Local, Member, Mesh, NetworkSpec};
pub use node::{Algorithm, MapServerPeer, NodeSpec, PeerKey, Uplink};
pub use policy::{Action, PolicySpec, Rule, Selector, Test};
pub use secret::SecretSpec;

/// What stands under `apiVersion` of every object.
pub const API_VERSION: &str = "weft.dev/v1";

/// The kinds of objects, in the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KindName {
    /// Who this node is.
    Node,
    /// A Map-Server on this node.
    MapServer,
    /// What is on the other side of a NIC.
    Network,
    /// A workload.
    Guest,
    /// Who may talk to whom.
    Policy,
    /// Where a credential is.
    Secret,
}

impl KindName {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Node,
        Self::MapServer,
        Self::Network,
        Self::Guest,
        Self::Policy,
        Self::Secret,
    ];

    /// As it stands under `kind`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::MapServer => "MapServer",
            Self::Network => "Network",
            Self::Guest => "Guest",
            Self::Policy => "Policy",
            Self::Secret => "Secret",
        }
    }

    /// Lower case plural, for lists and the API's paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Node => "nodes",
            Self::MapServer => "mapservers",
            Self::Network => "networks",
            Self::Guest => "guests",
            Self::Policy => "policies",
            Self::Secret => "secrets",
        }
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// As people type it on the command line: any case, singular or plural.
impl FromStr for KindName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|kind| lower == kind.plural() || lower == kind.as_str().to_ascii_lowercase())
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
                format!("`{text}` is no kind of object; the kinds are {}", names.join(", "))
            })
    }
}

/// An object.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Object<S> {
    /// Always `weft.dev/v1`.
    pub api_version: String,
    /// Kind of object.
    pub kind: String,
    /// Its name and labels.
    pub metadata: Metadata,
    /// What it says.
    #[schemars(extend("x-help" = "write `spec:` and below it what the object says; `weft schema KIND` shows what may stand there"))]
    pub spec: S,
}

/// Name and labels of an object.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Name, unique among the objects of its kind: lower case letters, digits, `-` and `.`, at most 63 characters.
    pub name: String,
    /// Labels, for policies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}
