//! What goes into the machine and what comes out, beside datagrams.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lisp::wire::EidRecord;
use lisp::{EidPrefix, SiteId, XtrId};

use crate::MapServerConfig;

/// A datagram to send from port 4342.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The address to send from: the one that was asked. `None`: any of the destination's family.
    pub source: Option<IpAddr>,
    /// Where to.
    pub destination: SocketAddr,
    /// UDP payload.
    pub payload: Vec<u8>,
}

/// What an operator may ask for.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "commands are few and live for one call; a box would only be in the way"
)]
pub enum Command {
    /// Another configuration. Registrations that it does not allow any more are removed, all others stay.
    Reconfigure(MapServerConfig),
    /// Forget the registrations of this prefix, as if they had run out.
    Clear(EidPrefix),
}

/// What happened, for logs, status and subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A prefix has locators, or others than before.
    Registered {
        /// The prefix.
        prefix: EidPrefix,
        /// Name of the site.
        site: String,
        /// Where the Map-Register came from.
        from: SocketAddr,
    },
    /// An xTR took a prefix back.
    Deregistered {
        /// The prefix.
        prefix: EidPrefix,
        /// Name of the site.
        site: String,
        /// Where the Map-Register came from.
        from: SocketAddr,
    },
    /// A registration ran out.
    Expired {
        /// The prefix.
        prefix: EidPrefix,
    },
    /// A prefix went from one xTR to another.
    Moved {
        /// The prefix.
        prefix: EidPrefix,
        /// Where the former registrant's Map-Registers came from.
        former: SocketAddr,
        /// Where the new registrant's came from.
        current: SocketAddr,
    },
    /// A Map-Register was refused; a possible attack or a wrong key.
    Refused {
        /// The counter's word.
        reason: &'static str,
        /// Where it came from.
        from: SocketAddr,
    },
    /// A former registrant did not acknowledge the Map-Notify that told it of moved prefixes.
    NotifyUnanswered {
        /// Where it was told.
        destination: SocketAddr,
    },
    /// The store could not keep what it was given; nothing was acknowledged.
    StoreFailed {
        /// What the engine says.
        error: String,
    },
}

/// One registration, as shown by `weft status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationStatus {
    /// The prefix.
    pub prefix: EidPrefix,
    /// Name of the site.
    pub site: String,
    /// Who registered, when it says so.
    pub xtr: Option<(XtrId, SiteId)>,
    /// Source of the last Map-Register.
    pub from: SocketAddr,
    /// What was registered, locators as they came.
    pub record: EidRecord,
    /// This Map-Server answers for it.
    pub proxy_reply: bool,
    /// Its locators are merged with those of other xTRs.
    pub merge: bool,
    /// The prefix moved to another xTR; this registration is kept only to know a late refresh when it comes.
    pub superseded: bool,
    /// Life left.
    pub expires_in: Duration,
    /// Time since the last Map-Register for it.
    pub refreshed_ago: Duration,
}
