//! Packets in, packets out: the userspace packet path of a Weft node.
//!
//! No async, no configuration files, no policy about *what* should be connected: all of that arrives as
//! [`control::Change`]s. Read `pipeline.rs` first, then `docs/packet-path.md`.

pub mod buffer;
pub mod control;
pub mod engine;
pub mod port;
pub mod verdict;
