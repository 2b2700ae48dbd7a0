//! What an xTR is told about itself: identity, Map-Servers, own locators, timers and limits.

use std::{fmt, net::SocketAddr, time::Duration};

use lisp::mesh::Binding;
use lisp::wire::AuthAlgorithm;
use lisp::{EidPrefix, Locator, SiteId, Ttl, XtrId};
use zeroize::Zeroizing;

use crate::SealedMesh;

/// Everything that [`crate::Command::Configure`] sets. Full, never a delta; the machine works out what changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// 128-bit name of this xTR, unique within the site (RFC 9301 §5.6).
    pub xtr_id: XtrId,
    /// Which site it belongs to.
    pub site_id: SiteId,
    /// Map-Servers to register with and Map-Resolvers to ask, in order of preference.
    pub map_servers: Vec<MapServerPeer>,
    /// Own RLOCs of any family: registered, named in Map-Replies, given as ITR-RLOCs.
    pub locators: Vec<Locator>,
    /// Intervals and timeouts.
    pub timers: Timers,
    /// Bounds on everything that others can make grow.
    pub limits: Limits,
    /// Who this node is in sealed networks, and which those are.
    pub mesh: SealedMesh,
}

/// A Map-Server that is also the Map-Resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapServerPeer {
    /// Where it listens, normally port 4342.
    pub address: SocketAddr,
    /// Which of its pre-shared secrets `secret` is.
    pub key_id: u8,
    /// The pre-shared secret.
    pub secret: Secret,
    /// How Map-Registers are authenticated, and the only algorithm accepted in its Map-Notifies.
    pub algorithm: AuthAlgorithm,
    /// P-bit: it may answer Map-Requests in our place.
    pub proxy_reply: bool,
    /// M-bit: Map-Registers are acknowledged, and repeated until they are. Without it a registration is never
    /// more than [`crate::RegistrationState::Sent`].
    pub want_map_notify: bool,
}

/// A pre-shared secret. Shown by nothing, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Wraps the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes, for a MAC and nothing else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An EID-prefix that this node serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseMapping {
    /// What it serves.
    pub prefix: EidPrefix,
    /// Record TTL of Map-Registers and Map-Replies, in minutes. 0 is read as [`Ttl::DAY`].
    pub ttl: Ttl,
    /// a-bit: the Map-Server merges our locators with those of other xTRs.
    pub merge: bool,
    /// That this node speaks for it: needed in a sealed network, where it is neither registered nor answered for without.
    pub binding: Option<Binding>,
}

impl DatabaseMapping {
    /// `prefix` for 24 hours, not merged.
    pub const fn new(prefix: EidPrefix) -> Self {
        Self {
            prefix,
            ttl: Ttl::DAY,
            merge: false,
            binding: None,
        }
    }
}

/// Intervals and timeouts. The defaults are the RFC's where it names any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Between Map-Registers, at most; each is up to a tenth earlier (RFC 9301 §8.2: one minute).
    pub register_interval: Duration,
    /// Between Map-Registers without M-bit during quick registration (§8.2: 20 s).
    pub quick_register_interval: Duration,
    /// How long quick registration lasts after a start or change (§8.2: 5 min).
    pub quick_register_period: Duration,
    /// First wait for a Map-Notify; doubles (§5.7: 1 s).
    pub register_timeout: Duration,
    /// Where the doubling stops (§5.7: 1 min).
    pub register_timeout_max: Duration,
    /// First wait for a Map-Reply; doubles. Never below the rate limit of 1/s (§5.3).
    pub request_timeout: Duration,
    /// Where that doubling stops. 2 s: a Map-Server that returns is asked again within 2 s.
    pub request_timeout_max: Duration,
    /// Transmissions of one Map-Request before the pause (§5.3: 10).
    pub request_tries: u32,
    /// The pause (§5.3: 30 s).
    pub request_pause: Duration,
    /// Between Map-Requests for one EID-prefix (§5.3: 1 s).
    pub request_interval: Duration,
    /// Between SMRs to one RLOC, once [`Limits::smr_burst`] is used up, and between SMR-invoked Map-Requests for one EID-prefix (§6.1: 3 s).
    pub smr_interval: Duration,
    /// How long to hold back the SMRs for a prefix that was withdrawn: the time that a move needs to register it at its
    /// new place.
    pub smr_withdrawal_delay: Duration,
    /// An RLOC that data was sent to this recently gets SMRs (§6.1: 1 min).
    pub smr_peer_window: Duration,
    /// Between RLOC-probes of a locator in use; each is up to a fifth earlier.
    pub probe_interval: Duration,
    /// Between RLOC-probes of a locator that is cached and was in use within `probe_idle_window`.
    pub probe_idle_interval: Duration,
    /// A locator counts as in use this long after data was sent to it.
    pub probe_active_window: Duration,
    /// A locator idle for longer than this is not probed (unless it is down).
    pub probe_idle_window: Duration,
    /// Least wait for the answer to a probe; twice the smoothed round trip when that is longer.
    pub probe_timeout: Duration,
    /// Where back-off of probes to a locator that is down stops.
    pub probe_down_interval_max: Duration,
    /// Unanswered probes in a row until a locator counts as down.
    pub probe_misses: u32,
    /// Life of a record that leaves it to the receiver, and the longest life of any (§5.4).
    pub cache_ttl_max: Duration,
    /// Longest life of a negative entry (§8.1: 15 min).
    pub negative_ttl_max: Duration,
    /// An entry used this recently is refreshed before it expires.
    pub refresh_window: Duration,
    /// Between the tries of a `Lookup` (RFC 6835 §4.1).
    pub lookup_timeout: Duration,
    /// Tries of a `Lookup`.
    pub lookup_tries: u32,
    /// Age at which a mesh SA in use is replaced by the side that asked for it; the other side waits an eighth longer.
    pub rekey_after: Duration,
    /// Age at which a mesh SA ends.
    pub sa_life: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            register_interval: s(60),
            quick_register_interval: s(20),
            quick_register_period: s(300),
            register_timeout: s(1),
            register_timeout_max: s(60),
            request_timeout: s(1),
            request_timeout_max: s(2),
            request_tries: 10,
            request_pause: s(30),
            request_interval: s(1),
            smr_interval: s(3),
            smr_withdrawal_delay: Duration::from_millis(200),
            smr_peer_window: s(60),
            probe_interval: s(1),
            probe_idle_interval: s(10),
            probe_active_window: s(5),
            probe_idle_window: s(300),
            probe_timeout: Duration::from_millis(450),
            probe_down_interval_max: s(15),
            probe_misses: 3,
            cache_ttl_max: s(24 * 3600),
            negative_ttl_max: s(15 * 60),
            refresh_window: s(60),
            lookup_timeout: s(2),
            lookup_tries: 3,
            rekey_after: s(120),
            sa_life: s(180),
        }
    }
}

/// Bounds on everything that others can make grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Map-cache entries of one Instance-ID; the least recently used leaves.
    pub map_cache_per_instance: usize,
    /// Instance-IDs in the map-cache.
    pub map_cache_instances: usize,
    /// Map-Requests under way, all together.
    pub pending_requests: usize,
    /// Map-Requests under way in one Instance-ID.
    pub pending_per_instance: usize,
    /// `Lookup`s under way.
    pub lookups: usize,
    /// Locators kept of one mapping, best priorities first.
    pub locators_per_mapping: usize,
    /// Shortest mask of a positive IPv4 record; at least 1.
    pub min_mask_v4: u8,
    /// Shortest mask of a positive IPv6 record; at least 1.
    pub min_mask_v6: u8,
    /// Records in one Map-Reply of ours (amplification).
    pub reply_records: usize,
    /// Map-Replies to one ITR-RLOC in a burst.
    pub reply_burst: u32,
    /// Map-Replies a second to one ITR-RLOC after that.
    pub reply_rate: u32,
    /// Map-Replies a second to all, burst of the same size.
    pub reply_rate_total: u32,
    /// Sources that rates are kept for.
    pub rate_sources: usize,
    /// SMRs to one RLOC at once; after that one in [`Timers::smr_interval`]. A guest that moves has two or three EIDs, and
    /// none of them shall wait for three seconds.
    pub smr_burst: u32,
    /// SMRs waiting for one RLOC's turn.
    pub smr_queue_per_rloc: usize,
    /// RLOCs that data was sent to which are remembered.
    pub peers: usize,
    /// Nodes of sealed networks that something is kept of.
    pub nodes: usize,
    /// Bindings kept of one node.
    pub bindings_per_node: usize,
    /// Signatures verified a second for nodes that are not known to be members yet, burst of the same size.
    pub verifications_unknown: u32,
    /// The same for members.
    pub verifications_known: u32,
    /// Packets after which a mesh SA is replaced (2^28), and after four times which it ends.
    pub sa_packets: u64,
    /// Bytes after which a mesh SA is replaced (256 GiB).
    pub sa_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            map_cache_per_instance: 16_384,
            map_cache_instances: 256,
            pending_requests: 1024,
            pending_per_instance: 256,
            lookups: 64,
            locators_per_mapping: 32,
            min_mask_v4: 8,
            min_mask_v6: 16,
            reply_records: 16,
            reply_burst: 16,
            reply_rate: 4,
            reply_rate_total: 1000,
            rate_sources: 4096,
            smr_burst: 8,
            smr_queue_per_rloc: 64,
            peers: 4096,
            nodes: 16_384,
            bindings_per_node: 4096,
            verifications_unknown: 50,
            verifications_known: 400,
            sa_packets: 1 << 28,
            sa_bytes: 256 << 30,
        }
    }
}
