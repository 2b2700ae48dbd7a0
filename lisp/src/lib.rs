//! The language both ends of a LISP network speak: EIDs, RLOCs, mappings, and every wire format of
//! RFC 9300, RFC 9301 and their companions.
//!
//! This crate does no I/O, reads no clock, spawns nothing and draws no randomness.
//! The domain types ([`Eid`], [`EidPrefix`], [`Rloc`], [`Mapping`]) are what the rest of Weft
//! passes around; the [`wire`] module is what travels between nodes. Conversions between the two
//! are checked.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod eid;
mod mapping;
pub mod mesh;
mod nonce;
mod rloc;
pub mod wire;

pub use eid::{Eid, EidPrefix, InstanceId, PrefixError};
pub use mapping::{Locator, Mapping, NegativeAction, Ttl};
pub use nonce::{Nonce, SiteId, XtrId};
pub use rloc::{CONTROL_PORT, DATA_PORT, Rloc};

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
