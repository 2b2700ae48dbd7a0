//! What `weft status` and `weft get` show. Ages are relative to the `now` that was given.

use std::{net::SocketAddr, time::Duration};

use lisp::mesh::KeyId;
use lisp::{Eid, EidPrefix, Mapping, Rloc, Ttl};
use serde::Serialize;

use crate::{Counters, RefusalStatus, RegistrationState, SaStatus};

/// A picture of the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Each prefix at each Map-Server.
    pub registrations: Vec<RegistrationStatus>,
    /// EID-prefixes that this node serves.
    pub database: Vec<(EidPrefix, Ttl)>,
    /// What the node has learned.
    pub map_cache: Vec<MapCacheStatus>,
    /// What it is asking for.
    pub pending: Vec<PendingStatus>,
    /// Locators of the map-cache.
    pub locators: Vec<LocatorStatus>,
    /// Mesh SAs with other nodes.
    pub associations: Vec<SaStatus>,
    /// Which node speaks for which EID-prefix in sealed networks, by a binding of which epoch.
    pub bindings: Vec<(EidPrefix, KeyId, u64)>,
    /// What was not believed lately in sealed networks, and why.
    pub refusals: Vec<RefusalStatus>,
    /// What happened so far.
    pub counters: Counters,
}

/// One prefix at one Map-Server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RegistrationStatus {
    /// With whom.
    pub map_server: SocketAddr,
    /// Which.
    pub prefix: EidPrefix,
    /// How it stands.
    pub state: RegistrationState,
    /// Since it was last acknowledged.
    pub acknowledged_ago: Option<Duration>,
    /// Unanswered transmissions of the Map-Register under way.
    pub unanswered: u32,
}

/// One map-cache entry.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MapCacheStatus {
    /// What is known.
    pub mapping: Mapping,
    /// Which node speaks for it, in a sealed network.
    pub node: Option<KeyId>,
    /// Since it was installed or refreshed.
    pub age: Duration,
    /// Until it expires.
    pub expires_in: Duration,
    /// Since it was last known to be used.
    pub used_ago: Duration,
    /// Packets, as far as the dataplane told.
    pub hits: u64,
}

/// One Map-Request under way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PendingStatus {
    /// Who is looked for.
    pub eid: Eid,
    /// Why.
    pub reason: &'static str,
    /// Transmissions so far.
    pub tries: u32,
    /// Given up, waiting out the pause.
    pub paused: bool,
}

/// What is known of a locator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reachability {
    /// No packet came back yet, and not enough probes went missing.
    Unknown,
    /// A packet came back, and probes are being answered.
    Up,
    /// Probes go unanswered.
    Down,
    /// This node has no locator of that address family.
    NoUplink,
}

/// One locator of the map-cache.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LocatorStatus {
    /// Which.
    pub rloc: Rloc,
    /// How it stands.
    pub state: Reachability,
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
    /// Since a probe was last answered.
    pub heard_ago: Option<Duration>,
    /// Since data was last sent to it.
    pub sent_ago: Option<Duration>,
    /// Probes unanswered in a row.
    pub misses: u32,
}
