//! Bindings: which node may send, sealed, with which inner source.

use lisp::EidPrefix;

use crate::{
    control::BindingConfig,
    tables::{Prefixes, Retired, prefixes::Entry},
};

/// An entry. Never changed; replaced.
#[derive(Debug)]
pub struct Binding {
    /// What control said.
    pub config: BindingConfig,
    /// Raised when it is replaced or removed, or when a more specific entry took a part of it.
    pub retired: Retired,
}

impl Binding {
    /// From control's words.
    pub fn new(config: BindingConfig) -> Self {
        Self {
            config,
            retired: Retired::default(),
        }
    }
}

impl Entry for Binding {
    fn prefix(&self) -> EidPrefix {
        self.config.prefix
    }

    fn retired(&self) -> &Retired {
        &self.retired
    }
}

/// The table of bindings.
pub type Bindings = Prefixes<Binding>;
