//! The end of a resynchronisation: what control did not name is gone. SAs are exempt; they end by themselves.

use std::collections::{BTreeSet, HashSet};

use lisp::{EidPrefix, Rloc};

use super::{Gone, Writer};
use crate::control::{NetworkId, PortId, UplinkId};

/// What a resynchronisation has named so far.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) networks: BTreeSet<NetworkId>,
    pub(super) policies: BTreeSet<NetworkId>,
    pub(super) ports: BTreeSet<PortId>,
    pub(super) uplinks: BTreeSet<UplinkId>,
    pub(super) exit: bool,
    pub(super) mappings: HashSet<EidPrefix>,
    pub(super) health: HashSet<Rloc>,
    pub(super) bindings: HashSet<EidPrefix>,
}

impl Writer {
    pub(super) fn sweep(&mut self, named: &Named, gone: &mut Gone) {
        let unnamed = |ids: Vec<NetworkId>| {
            ids.into_iter()
                .filter(|id| !named.networks.contains(id))
                .collect::<Vec<_>>()
        };
        for id in unnamed(self.networks.keys().copied().collect()) {
            self.remove_network(id, gone);
        }
        for id in self
            .ports
            .keys()
            .copied()
            .filter(|id| !named.ports.contains(id))
            .collect::<Vec<_>>()
        {
            self.remove_port(id, gone);
        }
        for id in self
            .policies
            .keys()
            .copied()
            .filter(|id| !named.policies.contains(id))
            .collect::<Vec<_>>()
        {
            self.policies.remove(&id);
            self.publish_network(id);
        }
        let before = self.uplinks.len();
        self.uplinks.retain(|id, _| named.uplinks.contains(id));
        if self.uplinks.len() != before {
            self.publish_uplinks();
        }
        if !named.exit {
            self.put_exit(None);
        }
        for mapping in self.tables.mappings.all() {
            if !named.mappings.contains(&mapping.config.prefix) {
                self.remove_mapping(&mapping.config.prefix);
            }
        }
        for binding in self.tables.bindings.all() {
            if !named.bindings.contains(&binding.config.prefix) {
                self.tables.bindings.remove(&binding.config.prefix);
            }
        }
        for rloc in self
            .health
            .keys()
            .copied()
            .filter(|rloc| !named.health.contains(rloc))
            .collect::<Vec<_>>()
        {
            self.health.remove(&rloc);
            self.tables.nodes.put_mtu(rloc, None);
            self.renew_users(rloc);
        }
    }
}
