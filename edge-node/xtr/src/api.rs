//! What goes in ([`Command`]) and what comes out ([`Event`], [`Transmit`]).

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use lisp::mesh::{KeyId, SaIndex};
use lisp::{Eid, EidPrefix, Locator, Mapping, Nonce, Rloc};
use serde::Serialize;

use crate::{AdoptedSa, Config, DatabaseMapping, SaParameters};

/// What the node asks of the machine.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "commands are few and live for one call; a box would only be in the way"
)]
pub enum Command {
    /// The whole configuration. Idempotent: what is equal is left alone.
    Configure(Config),
    /// The EID-prefixes that this node serves, all of them. Ones no longer named are deregistered (TTL 0), and
    /// whoever we sent data to lately is solicited (SMR). Idempotent.
    SetDatabase(Vec<DatabaseMapping>),
    /// The dataplane missed. Answered by [`Event::MappingInstalled`] (at once when it is cached), or
    /// [`Event::ResolveFailed`].
    Resolve {
        /// Who is looked for.
        eid: Eid,
        /// Who looks; its address becomes the Source-EID.
        source: Option<Eid>,
    },
    /// Data came for an EID that this node does not serve: the sender's mapping is stale (RFC 9301 §6.1).
    SolicitMapRequest {
        /// Who was looked for.
        eid: Eid,
        /// Who sent the data.
        to: Rloc,
        /// The node that sealed it: it is told inside the SA.
        node: Option<KeyId>,
    },
    /// RLOCs that data was sent to since the last such command; about once a second.
    TrafficSent {
        /// Which.
        rlocs: Vec<Rloc>,
    },
    /// Map-cache entries that packets matched lately, with how many. Keeps them from eviction, has them
    /// refreshed in time, and feeds `status`.
    MappingsUsed(Vec<(EidPrefix, u64)>),
    /// `weft lig` (RFC 6835): asks the mapping system, past the map-cache and without filling it.
    Lookup {
        /// Names the answer.
        id: u64,
        /// Who is looked for.
        eid: Eid,
        /// Whom to ask; the configured Map-Servers in turn when `None`.
        resolver: Option<SocketAddr>,
    },
    /// It is this many seconds after the Unix epoch. At the start, whenever the clock was set, and once in a while: bindings
    /// and memberships end by it, and nothing is believed in a sealed network before the first.
    Clock(u64),
    /// The highest epochs that an earlier life of this node has seen ([`Event::EpochSeen`]).
    RememberEpochs(Vec<(EidPrefix, u64, KeyId)>),
    /// Mesh SAs that the packet path kept while control was away.
    AdoptSas(Vec<AdoptedSa>),
    /// The packet path started anew: every mesh SA is gone. Nodes that there was one with are asked for another.
    SasLost,
    /// The packet path has no mesh SA with `node` to send under, for a packet to `eid`.
    SaMissing {
        /// With whom.
        node: KeyId,
        /// Whom the packet is for.
        eid: Eid,
        /// Whom it is from.
        source: Option<Eid>,
    },
    /// An authentic packet of `node` came from an EID that is not known to be bound to it. About once a second for each.
    UnboundSource {
        /// Who sealed it.
        node: KeyId,
        /// Whom it claimed to be from.
        source: Eid,
    },
    /// A packet opened under a mesh SA for the first time; the SA is named by the first of our indices.
    SaConfirmed(SaIndex),
    /// Packets and bytes sealed under mesh SAs since they were made; about once a second for those in use.
    SasUsed(Vec<(SaIndex, u64, u64)>),
    /// The answer to an [`Event::SealedProbe`] came.
    SealedProbeAnswered(Nonce),
    /// A control message came sealed by `node`.
    SealedMessage {
        /// Who sealed it.
        node: KeyId,
        /// What.
        payload: Vec<u8>,
    },
    /// Forget the map-cache.
    Flush,
    /// Repeat every mapping, locator state and registration as events: the dataplane or the shell starts anew.
    Resync,
}

/// What the machine tells the node. Events are to be drained before transmits, because of
/// [`Event::NonceAdvanced`].
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The dataplane shall know this mapping until `expires`. Idempotent. Without locators it is negative: packets
    /// that match are dropped and counted, whatever the action; "natively-forward" never means "send in clear".
    MappingInstalled {
        /// The mapping.
        mapping: Mapping,
        /// When [`Event::MappingRemoved`] will follow at the latest, unless it is refreshed.
        expires: Instant,
        /// Which node speaks for it, in a sealed network: packets to it are sealed for that node, or dropped.
        node: Option<KeyId>,
    },
    /// The mapping is gone.
    MappingRemoved(EidPrefix),
    /// A Map-Request went unanswered to the end; the EID is not asked for again before `until`.
    ResolveFailed {
        /// Who was looked for.
        eid: Eid,
        /// End of the pause (RFC 9301 §5.3).
        until: Instant,
    },
    /// A locator came up or went down as RLOC-probing sees it. "Up" means that a packet came back.
    LocatorState {
        /// Which.
        rloc: Rloc,
        /// Whether it may be used.
        reachable: bool,
        /// Smoothed round trip, once measured.
        rtt: Option<Duration>,
    },
    /// A prefix's registration changed its state.
    Registration {
        /// With whom.
        map_server: SocketAddr,
        /// Which.
        prefix: EidPrefix,
        /// What it is now.
        state: RegistrationState,
    },
    /// Another xTR registered a prefix of ours; the Map-Server says so in a Map-Notify.
    Moved {
        /// Who says so.
        map_server: SocketAddr,
        /// Which.
        prefix: EidPrefix,
        /// Where it is now.
        locators: Vec<Locator>,
    },
    /// Answer to [`Command::Lookup`].
    LookupDone {
        /// Of that command.
        id: u64,
        /// What came back.
        result: Result<LookupAnswer, LookupError>,
    },
    /// An exchange made a pair of mesh SAs, for the packet path. The keys are told once.
    SaEstablished(SaParameters),
    /// Packets from this prefix may come sealed by this node. Idempotent; replaces another node's.
    BindingInstalled {
        /// Which inner sources.
        prefix: EidPrefix,
        /// Sealed by whom.
        node: KeyId,
    },
    /// Nobody may send from this prefix any more.
    BindingRemoved(EidPrefix),
    /// To be stored for good, and given back by [`Command::RememberEpochs`]: a former host shall not take a guest back,
    /// not after a restart either.
    EpochSeen {
        /// Of which prefix.
        prefix: EidPrefix,
        /// The highest so far.
        epoch: u64,
        /// Whose.
        node: KeyId,
    },
    /// Send a probe to `node`, sealed, by this locator; [`Command::SealedProbeAnswered`] follows when it is answered.
    SealedProbe {
        /// Whom.
        node: KeyId,
        /// By which locator.
        rloc: Rloc,
        /// Repeated by the answer.
        nonce: Nonce,
    },
    /// Send a control message to `node`, sealed.
    SealedSend {
        /// Whom.
        node: KeyId,
        /// What; at most 1,200 bytes.
        payload: Vec<u8>,
    },
    /// Nonces below this one may be used from now on. To be stored for good before anything polled later is sent;
    /// the next start begins at or above it (RFC 9301 §5.6).
    NonceAdvanced(Nonce),
}

/// State of one prefix at one Map-Server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "reason")]
pub enum RegistrationState {
    /// Sent, no Map-Notify yet.
    Pending,
    /// Sent to a Map-Server that is not asked to acknowledge.
    Sent,
    /// Acknowledged by a Map-Notify.
    Registered,
    /// The Map-Notify left it out or said otherwise.
    Refused(String),
    /// It was acknowledged, or sent, and is no longer: the Map-Server does not answer.
    Unanswered,
    /// Withdrawn.
    Deregistered,
}

/// What `lig` shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LookupAnswer {
    /// All records of the Map-Reply, as they came.
    pub mappings: Vec<Mapping>,
    /// Who sent it (unauthenticated).
    pub from: SocketAddr,
    /// Since the transmission that was answered, or the first one when that cannot be told.
    pub rtt: Duration,
    /// Transmissions, 1 or more.
    pub tries: u32,
}

/// Why a look-up has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LookupError {
    /// No Map-Reply.
    #[error("no Map-Reply after {tries} tries")]
    Timeout {
        /// Transmissions.
        tries: u32,
    },
    /// No resolver was named and none is configured.
    #[error("no Map-Resolver is configured")]
    NoResolver,
    /// This node has no locator that an answer could come to.
    #[error("this node has no locator that an answer could come to")]
    NoLocator,
    /// Too many at once.
    #[error("too many look-ups at once")]
    Busy,
}

/// A datagram to send, from UDP port 4342.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Which of the node's addresses to send from; the route decides when `None`.
    pub source: Option<IpAddr>,
    /// Where to.
    pub destination: SocketAddr,
    /// UDP payload.
    pub payload: Vec<u8>,
}
