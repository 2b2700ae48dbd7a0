//! The xTR of RFC 9301 as a sans-IO machine: registration, map-cache, Map-Requests and Map-Replies, SMR and
//! RLOC-probing. No sockets, no clock, no threads, no randomness of its own: see [`Xtr`].
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

mod accept;
mod api;
mod compose;
mod config;
mod counters;
mod database;
mod deadlines;
mod lookup;
mod map_cache;
mod nonces;
mod notify;
mod outbox;
mod packing;
mod prefix_table;
mod probe;
mod rate;
mod registration;
mod reply;
mod request;
mod sealed;
mod smr;
mod status;
mod xtr;

pub use api::{Command, Event, LookupAnswer, LookupError, RegistrationState, Transmit};
pub use config::{Config, DatabaseMapping, Limits, MapServerPeer, Secret, Timers};
pub use counters::Counters;
pub use sealed::{AdoptedSa, Identity, Refusal, RefusalStatus, SaParameters, SaStatus, SealedMesh, SealedNetwork};
pub use status::{LocatorStatus, MapCacheStatus, PendingStatus, Reachability, RegistrationStatus, Status};
pub use xtr::Xtr;
