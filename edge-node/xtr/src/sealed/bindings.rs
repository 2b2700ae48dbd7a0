//! Which node speaks for which EIDs, as far as it was proven to us; and the highest epoch ever seen for each.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use lisp::{
    EidPrefix,
    mesh::{Binding, KeyId, PublicKey, Statement},
};

use super::Refusal;
use crate::{Config, Event, deadlines::Deadlines, outbox::Outbox};

/// A binding that holds.
#[derive(Debug)]
struct Held {
    node: KeyId,
    key: PublicKey,
    statement: Statement,
}

/// Bindings and epochs.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    held: BTreeMap<EidPrefix, Held>,
    per_node: BTreeMap<KeyId, usize>,
    ends: Deadlines<EidPrefix>,
    /// Remembered for good, also across restarts: a former host shall not come back with an old statement.
    epochs: BTreeMap<EidPrefix, (u64, KeyId)>,
}

impl Bindings {
    pub(crate) fn next(&self) -> Option<Instant> {
        self.ends.next()
    }

    /// What an earlier life of this node remembered.
    pub(crate) fn remember(&mut self, prefix: EidPrefix, epoch: u64, node: KeyId) {
        let known = self.epochs.entry(prefix).or_insert((epoch, node));
        if known.0 < epoch {
            *known = (epoch, node);
        }
    }

    /// Which node speaks for exactly this prefix.
    pub(crate) fn holder(&self, prefix: &EidPrefix) -> Option<KeyId> {
        self.held.get(prefix).map(|held| held.node)
    }

    /// Whether these very words are held already: their signature need not be verified again.
    pub(crate) fn is_held(&self, binding: &Binding) -> bool {
        self.held
            .get(&binding.prefix)
            .is_some_and(|held| held.key == binding.node && held.statement == binding.statement)
    }

    /// Whether a binding of this epoch may be believed, signature aside.
    pub(crate) fn check_epoch(&self, binding: &Binding, node: &KeyId) -> Result<(), Refusal> {
        match self.epochs.get(&binding.prefix) {
            Some((epoch, _)) if binding.statement.epoch < *epoch => Err(Refusal::OldEpoch),
            Some((epoch, holder)) if binding.statement.epoch == *epoch && holder != node => Err(Refusal::EpochConflict),
            _ => Ok(()),
        }
    }

    /// Takes a binding whose signature has been verified. Says which other node held the prefix until now.
    pub(crate) fn hold(
        &mut self,
        now: Instant,
        unix: u64,
        config: &Config,
        binding: &Binding,
        node: KeyId,
        out: &mut Outbox,
    ) -> Result<Option<KeyId>, Refusal> {
        self.check_epoch(binding, &node)?;
        let prefix = binding.prefix;
        let former = self.held.get(&prefix).map(|held| held.node);
        if former != Some(node) {
            let of_node = self.per_node.get(&node).copied().unwrap_or_default();
            if of_node >= config.limits.bindings_per_node
                || (of_node == 0 && self.per_node.len() >= config.limits.nodes)
            {
                return Err(Refusal::TooMany);
            }
        }
        let epoch = binding.statement.epoch;
        if self.epochs.get(&prefix) != Some(&(epoch, node)) {
            self.epochs.insert(prefix, (epoch, node));
            out.event(Event::EpochSeen { prefix, epoch, node });
        }
        let left = binding.statement.not_after.saturating_sub(unix);
        // Far ends are cut: an `Instant` cannot say them all.
        let end = now + Duration::from_secs(left.min(10 * 365 * 86_400));
        let held = Held {
            node,
            key: binding.node,
            statement: binding.statement,
        };
        self.held.insert(prefix, held);
        self.ends.set(prefix, end);
        if former != Some(node) {
            if let Some(former) = former {
                self.one_less(&former);
            }
            let count = self.per_node.entry(node).or_default();
            *count = count.saturating_add(1);
            out.count(|counters| &mut counters.binding_held);
            out.event(Event::BindingInstalled { prefix, node });
        }
        Ok(former.filter(|former| *former != node))
    }

    /// The node speaks for it no longer.
    pub(crate) fn drop_of(&mut self, prefix: &EidPrefix, node: &KeyId, out: &mut Outbox) {
        if self.held.get(prefix).is_some_and(|held| held.node == *node) {
            self.remove(prefix, out);
        }
    }

    /// Prefixes that are served here from now on are nobody else's.
    pub(crate) fn drop_inside(&mut self, own: &EidPrefix, out: &mut Outbox) {
        let inside: Vec<EidPrefix> = self.held.keys().filter(|prefix| own.covers(prefix)).copied().collect();
        for prefix in inside {
            self.remove(&prefix, out);
        }
    }

    /// Ends what has expired.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Outbox) {
        while let Some(prefix) = self.ends.pop(now) {
            out.count(|counters| &mut counters.sealed_binding_expired);
            self.remove(&prefix, out);
        }
    }

    /// Says everything once more.
    pub(crate) fn repeat_all(&self, out: &mut Outbox) {
        for (prefix, held) in &self.held {
            out.event(Event::BindingInstalled {
                prefix: *prefix,
                node: held.node,
            });
        }
    }

    /// Everything that holds.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&EidPrefix, KeyId, &Statement)> {
        self.held
            .iter()
            .map(|(prefix, held)| (prefix, held.node, &held.statement))
    }

    fn remove(&mut self, prefix: &EidPrefix, out: &mut Outbox) {
        let Some(held) = self.held.remove(prefix) else { return };
        self.ends.remove(prefix);
        self.one_less(&held.node);
        out.event(Event::BindingRemoved(*prefix));
    }

    fn one_less(&mut self, node: &KeyId) {
        if let Some(count) = self.per_node.get_mut(node) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_node.remove(node);
            }
        }
    }
}
