//! Client verbs: each asks a running node over its control API and prints what it says.

mod apply;
mod capture;
mod connection;
mod objects;
mod pcapng;
mod print;
mod probe;
mod status;

pub use apply::{apply, delete, plan};
pub use capture::capture;
pub use objects::{describe, get};
pub use probe::{lig, ping, trace};
pub use status::status;
