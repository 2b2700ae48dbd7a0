//! What goes in ([`Command`]) and what comes out ([`Event`], [`Transmit`]).

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use lisp::{Eid, EidPrefix, Locator, Mapping, Nonce, Rloc};
use serde::Serialize;

use crate::{Config, DatabaseMapping};

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
