//! The simulator: one Map-Server and many xTRs, the real machines, in virtual time, over an underlay that loses,
//! delays, doubles and overtakes datagrams and falls apart; and a reference model that says what must come of it.
//!
//! Everything follows from one number. `README.md` beside this file says how to replay a failure.

pub mod attack;
pub mod model;
pub mod network;
pub mod node;
pub mod sealed;
pub mod server;
pub mod story;
pub mod world;

pub use attack::Attacker;
pub use model::{Model, NodeId};
pub use network::{Datagram, Network, Weather};
pub use node::Node;
pub use story::{Summary, run, run_sealed};
pub use world::{Underlay, Violation, World};
