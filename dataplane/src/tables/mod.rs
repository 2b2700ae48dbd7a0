//! What workers read. One writer ([`writer::Writer`]) turns changes into it.
//!
//! Small tables (networks with their policy, guest ports, uplinks, the local exit) are one [`Snapshot`], swapped
//! whole; mappings, bindings, nodes and mesh SAs are
//! large and change entry by entry ([`prefixes::Prefixes`], [`node::Nodes`]). Nobody ever waits for a lock.
//!
//! Whatever a flow entry may be made from carries a [`Retired`] flag: the writer raises it on the object that it
//! replaces, and entries made from that object miss once. Objects that did not change stay the same object.

pub mod binding;
pub mod mapping;
mod mesh_writer;
pub mod network;
pub mod node;
pub mod policy;
pub mod port;
pub mod prefixes;
pub mod uplink;
pub mod writer;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use lisp::InstanceId;

pub use binding::{Binding, Bindings};
pub use mapping::{Mapping, Mappings, Path};
pub use network::Network;
pub use node::{Node, Nodes};
pub use policy::Policy;
pub use port::Port;
pub use prefixes::Prefixes;
pub use uplink::{Uplink, Uplinks};
pub use writer::Writer;

use crate::{
    control::{LocalExitConfig, NetworkId, PortId},
    hash::Seeded,
};

/// Raised once, when something else took the place of the object that holds it.
#[derive(Debug, Default)]
pub struct Retired(AtomicBool);

impl Retired {
    /// Raises the flag.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is raised.
    #[inline]
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The exit to the host's network.
#[derive(Debug)]
pub struct LocalExit {
    /// What control said.
    pub config: LocalExitConfig,
    /// Raised when it is replaced.
    pub retired: Retired,
}

/// The small tables.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Networks by number.
    pub networks: HashMap<NetworkId, Arc<Network>>,
    /// Meshes by Instance-ID.
    pub instances: HashMap<InstanceId, Arc<Network>>,
    /// Guest ports by number.
    pub ports: HashMap<PortId, Arc<Port>>,
    /// All uplinks.
    pub uplinks: Arc<Uplinks>,
    /// The exit, when there is one.
    pub exit: Option<Arc<LocalExit>>,
}

/// All tables.
#[derive(Debug)]
pub struct Tables {
    /// The small ones.
    pub small: ArcSwap<Snapshot>,
    /// The mappings.
    pub mappings: Mappings,
    /// Which node may send with which inner source.
    pub bindings: Bindings,
    /// The nodes of sealed meshes, and the SAs with them.
    pub nodes: Nodes,
}

impl Tables {
    /// Empty tables, hashed with `seed`.
    pub fn new(seed: Seeded) -> Self {
        Self {
            small: ArcSwap::from_pointee(Snapshot::default()),
            mappings: Mappings::new(seed),
            bindings: Bindings::new(seed),
            nodes: Nodes::new(seed),
        }
    }
}
