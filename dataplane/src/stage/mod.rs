//! The stages, one file each, in the order in which packets meet them. A stage looks and says; the pipeline acts.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

pub mod antispoof;
pub mod etr;
pub mod gateway;
pub mod icmp;
pub mod itr;
pub mod nat;
pub mod policy;
pub mod uplink;
