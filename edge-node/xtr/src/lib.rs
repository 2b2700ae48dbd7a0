//! The xTR of RFC 9301 as a sans-IO machine: registration, map-cache, Map-Requests and Map-Replies, SMR and
//! RLOC-probing. No sockets, no clock, no threads, no randomness of its own: see [`Xtr`].
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

mod api;
mod config;
mod counters;
mod status;
mod xtr;

pub use api::{Command, Event, LookupAnswer, LookupError, RegistrationState, Transmit};
pub use config::{Config, DatabaseMapping, Limits, MapServerPeer, Secret, Timers};
pub use counters::Counters;
pub use status::{LocatorStatus, MapCacheStatus, PendingStatus, Reachability, RegistrationStatus, Status};
pub use xtr::Xtr;
