//! Kind `MapServer`: the sites a Map-Server accepts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Algorithm;

/// A Map-Server and Map-Resolver on this node: who may register what.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MapServerSpec {
    /// Addresses it listens on, with a port where it is not 4342.
    #[schemars(length(min = 1))]
    pub listen: Vec<String>,
    /// Where registrations and nonces are kept.
    #[serde(default)]
    pub store: Store,
    /// EID space it is responsible for, such as `[7]fd07::/16`: unregistered EIDs inside get a negative reply with a
    /// short life.
    #[serde(default)]
    pub blocks: Vec<String>,
    /// Who may register what.
    #[serde(default)]
    pub sites: Vec<Site>,
    /// Instance-IDs whose registrations must carry valid bindings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorities: Vec<InstanceAuthority>,
}

/// An Instance-ID of a sealed mesh, as a Map-Server sees it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceAuthority {
    /// Tenant.
    #[schemars(range(max = 16_777_214))]
    pub instance_id: u32,
    /// Public key of the network's authority, `p256:…`; without it only addresses that are the hash of a key can be
    /// registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Whether registrations must carry valid bindings.
    #[serde(default = "yes")]
    pub sealed: bool,
}

const fn yes() -> bool {
    true
}

/// Store of a Map-Server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// In the state folder; survives kill -9.
    #[default]
    Disk,
    /// Lost with the process.
    Memory,
}

/// A site: nodes under one administration.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Site {
    /// Its name, unique in this Map-Server.
    pub name: String,
    /// Its keys; several while one replaces the other, or one for each node.
    #[schemars(length(min = 1))]
    pub keys: Vec<SiteKey>,
    /// What it may register.
    #[schemars(length(min = 1))]
    pub prefixes: Vec<SitePrefix>,
    /// Whether the Map-Server answers in the site's stead when a node asks for that (P-bit).
    #[serde(default)]
    pub proxy_reply: bool,
}

/// A key of a site.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteKey {
    /// Key-ID, the same as on the nodes.
    #[serde(default)]
    pub id: u8,
    /// Algorithms that are accepted; the packet has no say.
    #[serde(default = "algorithms")]
    #[schemars(length(min = 1))]
    pub algorithms: Vec<Algorithm>,
    /// Name of the `Secret` object.
    #[schemars(extend("x-credential" = true))]
    pub secret: String,
}

fn algorithms() -> Vec<Algorithm> {
    vec![Algorithm::default()]
}

/// A prefix of a site.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SitePrefix {
    /// Tenant.
    #[serde(default)]
    #[schemars(range(max = 16_777_214))]
    pub instance_id: u32,
    /// Addresses, such as `fd07::/16`.
    pub prefix: String,
    /// Whether parts of it may be registered.
    #[serde(default)]
    pub accept_more_specifics: bool,
}
