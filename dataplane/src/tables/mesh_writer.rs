//! The writer's part about nodes: pairs of SAs with their ends, bindings, and which locators a node's mappings name.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use lisp::{EidPrefix, Rloc, mesh::SaIndex};

use crate::{
    control::{BindingConfig, MappingTarget, MeshNode, SaConfig, SaStatus, SaUse},
    seal::{SaPair, aead::Fingerprint},
    tables::{Binding, Tables, node::SaEntry},
};

/// Pairs of one node; the oldest go first.
const PER_NODE: usize = 64;
/// Keys that were sealed with and are gone, remembered so that they never come back with fresh counters.
const REMEMBERED: usize = 16_384;

/// What the writer knows of nodes.
#[derive(Debug, Default)]
pub(super) struct MeshWriter {
    /// By number: in order of age.
    pairs: BTreeMap<u64, Arc<SaPair>>,
    numbers: u64,
    /// Keys that were put, the oldest first.
    used: VecDeque<Fingerprint>,
    /// What control was told last: packets sealed and opened.
    told: HashMap<u64, (u64, u64)>,
    /// Which mappings name a node.
    mapped: HashMap<MeshNode, BTreeSet<EidPrefix>>,
}

impl MeshWriter {
    /// A pair of SAs. Whose node may be sealed for now and could not (or not under this pair) before.
    pub(super) fn put_sa(
        &mut self,
        tables: &Tables,
        config: &SaConfig,
        now: Instant,
    ) -> Result<Option<MeshNode>, String> {
        let held: Vec<Option<u64>> = config
            .inbound
            .iter()
            .map(|(index, _)| tables.nodes.sa(*index).map(|entry| entry.pair.number))
            .collect();
        if let Some(Some(number)) = held.first()
            && held.iter().all(|other| *other == Some(*number))
            && self.pairs.get(number).is_some_and(|pair| pair.node == config.node)
        {
            return Ok(None);
        }
        if held.iter().any(Option::is_some) {
            return Err("an index of this pair of mesh SAs belongs to another one".into());
        }
        self.numbers += 1;
        let pair = SaPair::new(config, self.numbers, now).map_err(|error| error.to_string())?;
        let keys: Vec<Fingerprint> = pair.sealing_keys().collect();
        if keys.iter().any(|key| self.used.contains(key)) {
            return Err("keys of this pair of mesh SAs were used before: a nonce would be used twice".into());
        }
        self.used.extend(keys);
        while self.used.len() > REMEMBERED {
            self.used.pop_front();
        }
        let pair = Arc::new(pair);
        let node = tables.nodes.ensure(config.node, now);
        for (channel, index) in pair.indices().enumerate() {
            let entry = SaEntry {
                pair: Arc::clone(&pair),
                channel,
                node: Arc::clone(&node),
            };
            tables.nodes.insert(index, entry);
        }
        self.pairs.insert(pair.number, Arc::clone(&pair));
        let ready = pair.is_sendable() && node.promote(&pair);
        self.make_room(tables, config.node, now);
        Ok(ready.then_some(config.node))
    }

    fn make_room(&mut self, tables: &Tables, name: MeshNode, now: Instant) {
        let current = tables.nodes.get(&name).and_then(|node| node.current());
        let own: Vec<u64> = self
            .pairs
            .values()
            .filter(|pair| pair.node == name)
            .map(|pair| pair.number)
            .collect();
        let spare = own
            .iter()
            .filter(|number| current.as_ref().is_none_or(|tenure| tenure.pair.number != **number));
        for number in spare.take(own.len().saturating_sub(PER_NODE)) {
            self.remove(tables, *number, now);
        }
    }

    /// A pair by the first of our indices.
    pub(super) fn remove_sa(&mut self, tables: &Tables, index: SaIndex, now: Instant) {
        let found = self.pairs.values().find(|pair| pair.name() == Some(index));
        if let Some(number) = found.map(|pair| pair.number) {
            self.remove(tables, number, now);
        }
    }

    fn remove(&mut self, tables: &Tables, number: u64, now: Instant) {
        let Some(pair) = self.pairs.remove(&number) else { return };
        self.told.remove(&number);
        for index in pair.indices() {
            tables.nodes.remove(index);
        }
        let Some(node) = tables.nodes.get(&pair.node) else {
            return;
        };
        if node.current().is_some_and(|tenure| tenure.pair.number == number) {
            let next = self
                .pairs
                .values()
                .rev()
                .find(|other| other.node == pair.node && other.is_sendable() && other.may_seal(now, 1));
            node.appoint(next.map(Arc::clone));
        }
        self.forget_unused(tables, pair.node);
    }

    /// Pairs whose time is up go.
    pub(super) fn expire(&mut self, tables: &Tables, now: Instant) {
        let ended: Vec<u64> = self
            .pairs
            .values()
            .filter(|pair| pair.is_expired(now))
            .map(|pair| pair.number)
            .collect();
        for number in ended {
            self.remove(tables, number, now);
        }
    }

    /// Who may send with an inner source. A part of a covering entry's flows belongs to the new one: they look again.
    pub(super) fn put_binding(tables: &Tables, config: &BindingConfig) {
        match tables.bindings.get(&config.prefix) {
            Some(old) if old.config == *config => return,
            Some(_) => {}
            None => {
                if let Some(above) = tables.bindings.covering(&config.prefix) {
                    tables.bindings.insert(Binding::new(above.config.clone()));
                }
            }
        }
        tables.bindings.insert(Binding::new(config.clone()));
    }

    /// A mapping has come that may name a node.
    pub(super) fn mapped(&mut self, tables: &Tables, prefix: EidPrefix, name: Option<MeshNode>, now: Instant) {
        let Some(name) = name else { return };
        tables.nodes.ensure(name, now);
        self.mapped.entry(name).or_default().insert(prefix);
        self.name_locators(tables, name);
    }

    /// A mapping is gone that may have named a node.
    pub(super) fn unmapped(&mut self, tables: &Tables, prefix: &EidPrefix, name: Option<MeshNode>) {
        let Some(name) = name else { return };
        if let Some(prefixes) = self.mapped.get_mut(&name) {
            prefixes.remove(prefix);
            if prefixes.is_empty() {
                self.mapped.remove(&name);
            }
        }
        self.name_locators(tables, name);
        self.forget_unused(tables, name);
    }

    fn name_locators(&self, tables: &Tables, name: MeshNode) {
        let Some(node) = tables.nodes.get(&name) else { return };
        let mut known: Vec<Rloc> = Vec::new();
        for prefix in self.prefixes(name) {
            if let Some(mapping) = tables.mappings.get(prefix)
                && let MappingTarget::Locators(locators) = &mapping.config.target
            {
                known.extend(locators.iter().map(|locator| locator.rloc));
            }
        }
        node.name_locators(known);
    }

    fn forget_unused(&self, tables: &Tables, name: MeshNode) {
        let used = self.mapped.contains_key(&name) || self.pairs.values().any(|pair| pair.node == name);
        if !used {
            tables.nodes.forget(&name);
        }
    }

    /// Prefixes of the mappings that name a node.
    pub(super) fn prefixes(&self, name: MeshNode) -> impl Iterator<Item = &EidPrefix> {
        self.mapped.get(&name).into_iter().flatten()
    }

    /// All pairs, in order of node and age (the oldest first).
    pub(super) fn status(&self, tables: &Tables, now: Instant) -> Vec<SaStatus> {
        let mut pairs: Vec<&Arc<SaPair>> = self.pairs.values().collect();
        pairs.sort_by_key(|pair| (pair.node, pair.number));
        let status = |pair: &Arc<SaPair>| {
            let node = tables.nodes.get(&pair.node);
            let current = node.as_ref().and_then(|node| node.current());
            let away = node.and_then(|node| node.whereabouts().away);
            Some(SaStatus {
                current: current.is_some_and(|tenure| tenure.pair.number == pair.number) && pair.may_seal(now, 1),
                roamed_to: away.map(|away| away.rloc()),
                ..pair.status(now)?
            })
        };
        pairs.into_iter().filter_map(status).collect()
    }

    /// Use of the pairs that were used since the last call.
    pub(super) fn used(&mut self) -> Vec<SaUse> {
        let told = &mut self.told;
        let news = |(number, pair): (&u64, &Arc<SaPair>)| {
            let usage = pair.usage()?;
            let moved = (usage.sealed, usage.opened);
            let before = told.insert(*number, moved).unwrap_or_default();
            (moved != before).then_some(usage)
        };
        self.pairs.iter().filter_map(news).collect()
    }
}
