//! The Weft appliance: intent, reconciler, control API, command line. The composition root: the only place where
//! all parts meet.

pub mod demo;
pub mod intent;
pub mod lab;
