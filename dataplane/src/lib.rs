//! Packets in, packets out: the userspace packet path of a Weft node.
//!
//! No async, no configuration files, no policy about *what* should be connected: all of that arrives as
//! [`control::Change`]s. Read `pipeline.rs` first, then `docs/packet-path.md`.

#![deny(unsafe_code)]

pub mod binding;
pub mod buffer;
pub mod bytes;
pub mod capture;
pub mod channel;
pub mod checksum;
pub mod coalesce;
pub mod connection;
pub mod control;
pub mod counters;
pub mod decide;
pub mod engine;
pub mod flow;
pub mod fragment;
pub mod hash;
pub mod host;
pub mod limit;
pub mod link;
pub mod next_hop;
pub mod parse;
pub mod pending;
pub mod pipeline;
pub mod port;
pub mod process;
pub mod runs;
pub mod seal;
pub mod segment;
pub mod stage;
mod sys;
pub mod tables;
pub mod trace;
pub mod transmit;
pub mod verdict;
pub mod worker;
pub mod worker_state;
