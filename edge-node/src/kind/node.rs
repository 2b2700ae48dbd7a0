//! Kind `Node`: who this node is.

use lisp::wire::AuthAlgorithm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who this node is: its Map-Servers and uplinks. A node has exactly one such object.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSpec {
    /// Site-ID in Map-Registers (RFC 9301, section 5.6).
    #[serde(default)]
    pub site_id: u64,
    /// Name of a `Secret` with the node's private key, as `weft key new` writes it. When not given the node makes one at
    /// its first start: `keys/node.key` in its state folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-credential" = true))]
    pub key: Option<String>,
    /// Map-Servers it registers with and asks.
    #[serde(default)]
    pub map_servers: Vec<MapServerPeer>,
    /// Its attachments to the underlay.
    #[serde(default)]
    pub uplinks: Vec<Uplink>,
}

/// A Map-Server as this node sees it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MapServerPeer {
    /// Its address, with a port where it is not 4342: `192.0.2.1`, `192.0.2.1:4342`, `2001:db8::1`, `[2001:db8::1]:4342`.
    pub address: String,
    /// The shared secret that Map-Registers are authenticated with.
    pub key: PeerKey,
    /// Ask it to answer Map-Requests in our stead (P-bit).
    #[serde(default)]
    pub proxy_reply: bool,
}

/// Key of a Map-Server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerKey {
    /// Key-ID in our Map-Registers; the Map-Server knows the secret under the same number.
    #[serde(default)]
    pub id: u8,
    /// How our Map-Registers are authenticated.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Name of the `Secret` object.
    #[schemars(extend("x-credential" = true))]
    pub secret: String,
}

/// Authentication of control messages (RFC 9301, section 5.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// HMAC-SHA-1: weak, only for old peers on a trusted underlay.
    #[serde(rename = "hmac-sha1")]
    HmacSha1,
    /// HMAC-SHA-256-128 with the shared secret itself.
    #[serde(rename = "hmac-sha256-128")]
    HmacSha256,
    /// HMAC-SHA-256-128 with a key for each message, derived by HKDF.
    #[default]
    #[serde(rename = "hmac-sha256-128-hkdf-sha256")]
    HmacSha256Hkdf,
}

impl From<Algorithm> for AuthAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HmacSha1 => Self::HmacSha1,
            Algorithm::HmacSha256 => Self::HmacSha256_128,
            Algorithm::HmacSha256Hkdf => Self::HmacSha256_128HkdfSha256,
        }
    }
}

/// An attachment to the underlay.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Uplink {
    /// Network interface. Its addresses become our RLOCs.
    pub interface: String,
    /// Priority of its locators: remote nodes use the lowest; 255 is never used.
    #[serde(default = "priority")]
    pub priority: u8,
    /// Weight of its locators: share of the flows among equal priorities.
    #[serde(default = "weight")]
    pub weight: u8,
    /// What using it costs; any scale.
    #[serde(default)]
    pub cost: u32,
    /// Source ports that flows are spread over, for underlays with several equal paths; 0 sends from port 4341.
    #[serde(default = "source_ports")]
    #[schemars(range(max = 64))]
    pub source_ports: u8,
}

const fn priority() -> u8 {
    1
}

const fn weight() -> u8 {
    100
}

const fn source_ports() -> u8 {
    8
}
