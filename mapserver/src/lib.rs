//! Map-Server and Map-Resolver (RFC 9301 §8.3, §8.4) in one machine.
//!
//! [`MapServer`] is sans-IO: datagrams, time and a seed go in, datagrams and events come out. What must outlive the
//! process is kept by a [`store`]; [`net`] is the thin shell that owns the sockets. Read `machine.rs` first, then
//! `register.rs` and `request.rs`, which are the two halves of the work.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod answer;
mod api;
mod budget;
mod clock;
mod config;
mod counters;
mod directory;
mod machine;
mod negative;
pub mod net;
mod notify;
mod prefix_key;
mod register;
mod registration;
mod replay;
mod request;
mod sealed;
pub mod store;

pub use api::{Command, Event, RegistrationStatus, Transmit};
pub use config::{
    ConfigError, Limits, MapServerConfig, NotifyPort, NotifyRetransmission, SealedInstance, Secret, Site, SiteKey,
    SitePrefix,
};
pub use counters::Counters;
pub use machine::MapServer;
pub use prefix_key::PrefixKey;
pub use registration::{Registrant, Registration, RegistrationKey, SiteTag, WallMillis};
pub use replay::{KeyTag, NonceKey};
