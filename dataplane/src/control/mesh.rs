//! The part of the contract that is about sealed meshes: traffic keys down, liveness and use up.
//!
//! One SA pair for two nodes carries all their Instance-IDs and EIDs. A node is named by the hash of its key
//! ([`MeshNode`]), so that the name outlives a restart of either side. Traffic keys come down once, in
//! [`super::Change::PutSa`], and are told to nobody again.

use std::time::Duration;

use lisp::{
    EidPrefix, Rloc,
    mesh::{KeyId, SaIndex, Suite, TrafficKey},
};
use serde::{Deserialize, Serialize};

/// Another node of the mesh.
pub type MeshNode = KeyId;

/// A pair of mesh SAs with one node, as one exchange made it. Putting one whose indices are known already changes
/// nothing: above all no counter, because no nonce may ever be used twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaConfig {
    /// With whom.
    pub node: MeshNode,
    /// How packets are sealed, both ways.
    pub suite: Suite,
    /// Our indices, one for each receiving worker, with the key that packets to it are opened with.
    pub inbound: Vec<(SaIndex, TrafficKey)>,
    /// The other side's indices, one for each of its receiving workers, with the key that packets to it are sealed with.
    pub outbound: Vec<(SaIndex, TrafficKey)>,
    /// We asked and the answer is authentic: it is sent under at once. Otherwise it is sent under once a packet has opened
    /// under it, which proves that the other side is live and has the keys.
    pub initiator: bool,
    /// Neither sent nor received under after this much of it (180 s).
    pub life: Duration,
    /// Not sent under after this many packets (2^30).
    pub packet_limit: u64,
}

/// "Packets from this prefix may come sealed by this node." Replaces the binding of the same prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingConfig {
    /// Which inner sources.
    pub prefix: EidPrefix,
    /// Sealed by whom.
    pub node: MeshNode,
}

/// A pair of SAs as the packet path holds it; no keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaStatus {
    /// With whom.
    pub node: MeshNode,
    /// How it seals.
    pub suite: Suite,
    /// The first of our indices: its name towards control.
    pub index: SaIndex,
    /// All our indices.
    pub inbound: Vec<SaIndex>,
    /// All of the other side's.
    pub outbound: Vec<SaIndex>,
    /// Since it was put.
    pub age: Duration,
    /// Whether a packet has opened under it.
    pub confirmed: bool,
    /// Whether packets to the node are sealed under it now.
    pub current: bool,
    /// Packets sealed, all workers.
    pub sealed: u64,
    /// Bytes sealed, inner.
    pub sealed_bytes: u64,
    /// Packets opened.
    pub opened: u64,
    /// Bytes opened, inner.
    pub opened_bytes: u64,
    /// Where the node was last heard from under it, when that is none of the addresses that its mappings name.
    pub roamed_to: Option<Rloc>,
}

/// Use of a pair of SAs since the last report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaUse {
    /// The first of our indices.
    pub index: SaIndex,
    /// Packets sealed since it was put.
    pub sealed: u64,
    /// Inner bytes sealed since it was put.
    pub sealed_bytes: u64,
    /// Packets opened since it was put.
    pub opened: u64,
}

/// What a sealed control message (Instance-ID 0xFFFFFF inside an SA) may be. The packet path answers probes by itself;
/// everything else is control's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SealedControl {
    /// "Are you there?" The other packet path sends it back, to where it came from.
    Probe {
        /// Repeated by the answer.
        nonce: u64,
    },
    /// For the other side's control.
    Message(Vec<u8>),
}
