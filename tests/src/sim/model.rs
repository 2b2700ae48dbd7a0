//! The reference model: who owns which EID-prefix, by the word of the operator. It knows nothing of LISP.

use std::collections::{BTreeMap, BTreeSet};

use lisp::EidPrefix;

/// Number of a simulated xTR.
pub type NodeId = usize;

/// Who owns what, and who ever did.
#[derive(Debug, Default)]
pub struct Model {
    owners: BTreeMap<EidPrefix, Option<NodeId>>,
    ever: BTreeMap<EidPrefix, BTreeSet<NodeId>>,
}

impl Model {
    /// `owner` owns `prefix` from now on, and nobody else does.
    pub fn give(&mut self, prefix: EidPrefix, owner: Option<NodeId>) {
        self.owners.insert(prefix, owner);
        let ever = self.ever.entry(prefix).or_default();
        ever.extend(owner);
    }

    /// Every prefix with its owner.
    pub fn owners(&self) -> impl Iterator<Item = (EidPrefix, Option<NodeId>)> {
        self.owners.iter().map(|(prefix, owner)| (*prefix, *owner))
    }

    /// Who owns `prefix`.
    pub fn owner(&self, prefix: &EidPrefix) -> Option<NodeId> {
        self.owners.get(prefix).copied().flatten()
    }

    /// What `node` owns.
    pub fn owned_by(&self, node: NodeId) -> Vec<EidPrefix> {
        self.owners
            .iter()
            .filter(|(_, owner)| **owner == Some(node))
            .map(|(prefix, _)| *prefix)
            .collect()
    }

    /// Whether `node` owned something inside `prefix` at some time: if not, a mapping that leads there is a lie.
    pub fn ever_owned(&self, prefix: &EidPrefix, node: NodeId) -> bool {
        self.ever
            .iter()
            .any(|(owned, nodes)| prefix.covers(owned) && nodes.contains(&node))
    }
}
