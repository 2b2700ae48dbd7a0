//! Mappings: where an EID-prefix is.

use std::sync::{Arc, atomic::AtomicU64};

use lisp::EidPrefix;

use crate::{
    control::{MappingConfig, MappingTarget, PathHealth, PathLocator},
    tables::{Prefixes, Retired, prefixes::Entry},
};

/// Use of an entry; survives its replacement.
#[derive(Debug, Default)]
pub struct Usage {
    /// Packets sent by it.
    pub packets: AtomicU64,
    /// Bytes sent by it.
    pub bytes: AtomicU64,
}

/// A locator and what is known of the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where.
    pub locator: PathLocator,
    /// Whether probes come back. Unknown counts as up.
    pub up: bool,
    /// Path MTU in bytes, when it is known to be below the uplink's.
    pub mtu: Option<u32>,
}

/// An entry. Never changed; replaced.
#[derive(Debug)]
pub struct Mapping {
    /// What control said.
    pub config: MappingConfig,
    /// Its locators with their health; empty when negative.
    pub paths: Vec<Path>,
    /// How much it was used.
    pub usage: Arc<Usage>,
    /// Raised when it is replaced or removed, or when a more specific entry took a part of it.
    pub retired: Retired,
}

impl Mapping {
    /// An entry with the health of its locators.
    pub fn new(config: MappingConfig, usage: Arc<Usage>, health: impl Fn(&PathLocator) -> Option<PathHealth>) -> Self {
        let paths = match &config.target {
            MappingTarget::Negative(_) => Vec::new(),
            MappingTarget::Locators(locators) => locators
                .iter()
                .map(|locator| {
                    let health = health(locator);
                    let mtu = health.and_then(|health| health.mtu);
                    Path {
                        locator: *locator,
                        up: health.is_none_or(|health| health.up),
                        mtu,
                    }
                })
                .collect(),
        };
        Self {
            config,
            paths,
            usage,
            retired: Retired::default(),
        }
    }
}

impl Entry for Mapping {
    fn prefix(&self) -> EidPrefix {
        self.config.prefix
    }

    fn retired(&self) -> &Retired {
        &self.retired
    }
}

/// The mapping table.
pub type Mappings = Prefixes<Mapping>;
