//! Sites, guests and clouds talking to each other: what the scenarios in `tests/` share.

pub mod net;
pub mod sim;
