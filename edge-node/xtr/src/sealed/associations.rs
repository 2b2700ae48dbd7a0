//! The mesh SAs as control knows them: no keys, only with whom, how old, and whether they are used. Says when one is to be
//! replaced; the packet path ends them by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use lisp::{
    Eid,
    mesh::{KeyId, SaIndex},
};

use super::{AdoptedSa, SaStatus};
use crate::{Config, deadlines::Deadlines, outbox::Outbox};

/// SAs in use this recently are replaced before they end.
const IN_USE: Duration = Duration::from_secs(30);
/// A replacement that did not come about is asked for again.
const REKEY_RETRY: Duration = Duration::from_secs(5);

/// One pair of SAs.
#[derive(Debug)]
struct Association {
    node: KeyId,
    indices: Vec<SaIndex>,
    created: Instant,
    initiator: bool,
    confirmed: bool,
    sealed: u64,
    used: Option<Instant>,
    /// Whom to ask for when it is replaced: an EID that the node speaks for.
    eid: Option<Eid>,
    rekey_at: Instant,
    heavy: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Associations {
    by_index: BTreeMap<SaIndex, Association>,
    taken: BTreeSet<SaIndex>,
    by_node: BTreeMap<KeyId, BTreeSet<SaIndex>>,
    due: Deadlines<SaIndex>,
}

impl Associations {
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.next()
    }

    /// Indices for an SA, one for each receiving worker, which its low bits name; random above that, so that they cannot be
    /// guessed, and none of them in use.
    pub(crate) fn indices(
        &self,
        workers: usize,
        reserved: impl Fn(&SaIndex) -> bool,
        out: &mut Outbox,
    ) -> Vec<SaIndex> {
        let mut indices = Vec::new();
        for worker in 0..workers.clamp(1, lisp::mesh::MAX_WORKERS) {
            // 20 random bits; a handful of tries suffices while fewer than a million are in use.
            for _ in 0..64 {
                let number = u32::try_from(out.random() & 0x000f_ffff).unwrap_or_default() << 4;
                let index = SaIndex::new(number | u32::try_from(worker).unwrap_or_default());
                if let Some(index) = index.filter(|index| {
                    number != 0 && !self.taken.contains(index) && !reserved(index) && !indices.contains(index)
                }) {
                    indices.push(index);
                    break;
                }
            }
        }
        indices
    }

    /// An exchange made one.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        config: &Config,
        node: KeyId,
        indices: Vec<SaIndex>,
        initiator: bool,
        eid: Option<Eid>,
    ) {
        let after = config.timers.rekey_after;
        // Both ends replace what is used; the one that asked does so first.
        let after = if initiator { after } else { after + after / 8 };
        self.insert(now, node, indices, now, now + after, initiator, initiator, eid);
    }

    /// The packet path kept one while control was away.
    pub(crate) fn adopt(&mut self, now: Instant, config: &Config, adopted: &AdoptedSa) {
        let created = now.checked_sub(adopted.age).unwrap_or(now);
        let at = (created + config.timers.rekey_after).max(now + Duration::from_secs(1));
        self.insert(
            now,
            adopted.node,
            vec![adopted.index],
            created,
            at,
            true,
            adopted.confirmed,
            None,
        );
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "two call sites above; a struct would only rename the arguments"
    )]
    fn insert(
        &mut self,
        now: Instant,
        node: KeyId,
        indices: Vec<SaIndex>,
        created: Instant,
        rekey_at: Instant,
        initiator: bool,
        confirmed: bool,
        eid: Option<Eid>,
    ) {
        let Some(first) = indices.first().copied() else { return };
        self.taken.extend(&indices);
        self.by_node.entry(node).or_default().insert(first);
        self.due.set(first, rekey_at.max(now));
        let association = Association {
            node,
            indices,
            created,
            initiator,
            confirmed,
            sealed: 0,
            used: None,
            eid,
            rekey_at,
            heavy: false,
        };
        self.by_index.insert(first, association);
    }

    /// A packet opened under it. With whom it is, and whether that was news.
    pub(crate) fn confirmed(&mut self, index: SaIndex) -> Option<(KeyId, bool)> {
        let association = self.by_index.get_mut(&index)?;
        let news = !std::mem::replace(&mut association.confirmed, true);
        Some((association.node, news))
    }

    /// How much it was used so far.
    pub(crate) fn used(&mut self, now: Instant, config: &Config, index: SaIndex, sealed: u64, bytes: u64) {
        let Some(association) = self.by_index.get_mut(&index) else {
            return;
        };
        if sealed > association.sealed {
            association.used = Some(now);
            association.sealed = sealed;
        }
        let heavy = sealed >= config.limits.sa_packets || bytes >= config.limits.sa_bytes;
        if heavy && !association.heavy {
            association.heavy = true;
            association.rekey_at = now;
            self.due.set(index, now);
        }
    }

    /// Whether there is an SA with `node` that may be sent under.
    pub(crate) fn usable(&self, now: Instant, config: &Config, node: &KeyId) -> bool {
        self.of(node).any(|association| {
            association.confirmed && now.saturating_duration_since(association.created) < config.timers.sa_life
        })
    }

    /// What is due: SAs to be replaced (with whom, asking for which EID), and nodes whose last SA is gone.
    pub(crate) fn tick(&mut self, now: Instant, config: &Config) -> (Vec<(KeyId, Option<Eid>)>, Vec<KeyId>) {
        let (mut replace, mut gone) = (Vec::new(), Vec::new());
        while let Some(index) = self.due.pop(now) {
            let Some(association) = self.by_index.get(&index) else {
                continue;
            };
            let (node, created) = (association.node, association.created);
            let end = created + config.timers.sa_life;
            if now >= end {
                self.remove(index);
                if !self.by_node.contains_key(&node) {
                    gone.push(node);
                }
                continue;
            }
            let newer = self.of(&node).any(|other| other.created > created && other.confirmed);
            let in_use = association
                .used
                .is_some_and(|at| now.saturating_duration_since(at) <= IN_USE);
            if !newer && association.confirmed && (in_use || association.heavy) && association.rekey_at <= now {
                replace.push((node, association.eid));
            }
            let again = if newer { end } else { (now + REKEY_RETRY).min(end) };
            self.due.set(index, again);
        }
        (replace, gone)
    }

    /// Forgets all of them. One EID of each node that there was a confirmed one with.
    pub(crate) fn lost(&mut self) -> Vec<(KeyId, Option<Eid>)> {
        let mut nodes: BTreeMap<KeyId, Option<Eid>> = BTreeMap::new();
        for association in self.by_index.values().filter(|association| association.confirmed) {
            let eid = nodes.entry(association.node).or_default();
            *eid = eid.or(association.eid);
        }
        *self = Self::default();
        nodes.into_iter().collect()
    }

    /// Whether the SA of this index has not ended.
    pub(crate) fn is_live(&self, index: &SaIndex) -> bool {
        self.by_index.contains_key(index)
    }

    pub(crate) fn status(&self, now: Instant) -> Vec<SaStatus> {
        self.by_index
            .iter()
            .map(|(index, association)| SaStatus {
                node: association.node,
                index: *index,
                initiator: association.initiator,
                confirmed: association.confirmed,
                age: now.saturating_duration_since(association.created),
            })
            .collect()
    }

    fn of(&self, node: &KeyId) -> impl Iterator<Item = &Association> {
        let indices = self.by_node.get(node).into_iter().flatten();
        indices.filter_map(|index| self.by_index.get(index))
    }

    fn remove(&mut self, index: SaIndex) {
        let Some(association) = self.by_index.remove(&index) else {
            return;
        };
        for index in &association.indices {
            self.taken.remove(index);
        }
        if let Some(indices) = self.by_node.get_mut(&association.node) {
            indices.remove(&index);
            if indices.is_empty() {
                self.by_node.remove(&association.node);
            }
        }
    }
}
