//! The Weft appliance: intent, reconciler, control API, command line. The composition root: the only place where
//! all parts meet.

pub mod api;
pub mod cli;
pub mod client;
pub mod decode;
pub mod demo;
pub mod document;
pub mod error;
pub mod intent;
pub mod keyring;
pub mod kind;
pub mod lab;
pub mod nearest;
pub mod packet;
pub mod plan;
pub mod policy;
pub mod read;
pub mod schema;
pub mod tree;
pub mod up;
pub mod validate;
