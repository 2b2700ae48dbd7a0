//! The sealed mesh: who a node is, whom it believes, and the exchange that makes traffic keys out of a Map-Request and
//! its Map-Reply (`docs/mesh-security.md`).
//!
//! | file | what |
//! |---|---|
//! | `identity.rs` | configuration: own key, sealed networks, who may join |
//! | `offer.rs` | the initiator's Map-Request |
//! | `answer.rs` | the Map-Reply that it believes |
//! | `responder.rs` | the other side: a Map-Request that is believed, the Map-Reply to it |
//! | `admission.rs`, `bindings.rs` | members; which node speaks for what, epochs |
//! | `associations.rs` | the mesh SAs, as control knows them; when they are replaced |
//! | `announce.rs`, `message.rs` | what is said inside an SA: bindings of further EIDs, withdrawals |
//! | `refusal.rs` | every reason for not believing, each a counter |
//! | `machine.rs` | what has state |
//! | `exchange.rs`, `inside.rs` | what happens to it: by Map-Requests and Map-Replies, by messages inside an SA |
//! | `xtr.rs` | how it meets the rest of the xTR |
//! | `clock.rs` | the wall clock, as told |
//!
//! Order of work on what others send: what costs nothing first (format, membership by list, epochs), then a budget, then
//! signatures, then X25519; state last.

mod admission;
mod announce;
mod answer;
mod associations;
mod bindings;
mod clock;
mod exchange;
mod identity;
mod inside;
mod machine;
mod message;
mod offer;
mod refusal;
mod responder;
mod xtr;

use lisp::mesh::{KeyId, SaIndex, Suite, TrafficKey};
use serde::Serialize;

pub use identity::{Identity, SealedMesh, SealedNetwork};
pub(crate) use machine::Sealed;
pub(crate) use offer::Offered;
use offer::Question;
pub use refusal::Refusal;
pub(crate) use responder::vendor_locator;

/// A pair of mesh SAs that an exchange made, for the packet path. The machine forgets the keys with the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaParameters {
    /// With whom.
    pub node: KeyId,
    /// How packets are sealed.
    pub suite: Suite,
    /// Our indices, one for each receiving worker, with the key that packets to it are opened with.
    pub inbound: Vec<(SaIndex, TrafficKey)>,
    /// The other side's.
    pub outbound: Vec<(SaIndex, TrafficKey)>,
    /// Whether we asked.
    pub initiator: bool,
}

/// A pair of SAs that the packet path kept while control was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdoptedSa {
    /// The first of our indices.
    pub index: SaIndex,
    /// With whom.
    pub node: KeyId,
    /// Since it was made.
    pub age: std::time::Duration,
    /// Whether it may be sent under.
    pub confirmed: bool,
}

/// One association as `status` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SaStatus {
    /// With whom.
    pub node: KeyId,
    /// The first of our indices.
    pub index: SaIndex,
    /// Whether we asked.
    pub initiator: bool,
    /// Whether it may be sent under.
    pub confirmed: bool,
    /// Since it was made.
    pub age: std::time::Duration,
}

/// The last refusals, as `status` and `trace` show them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RefusalStatus {
    /// What was asked for, or claimed.
    pub eid: String,
    /// Which node, where it could be told.
    pub node: Option<KeyId>,
    /// Whether it was ours that was asked of, or theirs.
    pub by: &'static str,
    /// Why.
    pub reason: Refusal,
    /// In words.
    pub words: String,
    /// Since it happened last.
    pub ago: std::time::Duration,
    /// How often.
    pub times: u64,
}
