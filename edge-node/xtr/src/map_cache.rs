//! What an ITR has learned (RFC 9301 §5.4, §5.5): positive and negative mappings, bounded for each Instance-ID,
//! expiring, refreshed while in use.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use lisp::mesh::KeyId;
use lisp::{Eid, EidPrefix, InstanceId, Mapping};

use crate::{Config, Event, MapCacheStatus, deadlines::Deadlines, outbox::Outbox, prefix_table::PrefixTable};

/// When a negative entry that is suspected to be a moment's truth is asked for again.
const RECHECKS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];
/// An entry with less life left than this is not refreshed any more but left to expire.
const LAST_REFRESH: Duration = Duration::from_secs(3);
/// A refresh begins when this much, or an eighth, of the life is left.
const EARLIEST_REFRESH: Duration = Duration::from_secs(600);

/// Least time between doubts about one negative entry.
const DOUBT_INTERVAL: Duration = Duration::from_secs(3);

/// One entry.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) mapping: Mapping,
    /// Which node speaks for it, in a sealed network.
    pub(crate) node: Option<KeyId>,
    /// The EID that was asked for when this came.
    asked: Eid,
    installed: Instant,
    expires: Instant,
    used: Instant,
    hits: u64,
    /// Index into [`RECHECKS`] of the next, and when it is due.
    recheck: Option<(usize, Instant)>,
    refresh: Instant,
    /// When it was last doubted because its owner spoke to us.
    doubted: Option<Instant>,
}

impl Entry {
    fn due(&self) -> Instant {
        let next = self.expires.min(self.refresh);
        self.recheck.map_or(next, |(_, at)| next.min(at))
    }
}

/// Why an entry should be asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stale {
    /// It is in use and about to expire.
    Expiring,
    /// It is negative and was not so before.
    Doubtful,
}

/// The map-cache.
#[derive(Debug, Default)]
pub(crate) struct MapCache {
    table: PrefixTable<Entry>,
    instances: BTreeMap<InstanceId, BTreeSet<(Instant, EidPrefix)>>,
    due: Deadlines<EidPrefix>,
}

impl MapCache {
    pub(crate) fn longest_match(&self, eid: &Eid) -> Option<(EidPrefix, &Entry)> {
        self.table.longest_match(eid)
    }

    /// What is known of exactly this prefix.
    pub(crate) fn get(&self, prefix: &EidPrefix) -> Option<&Mapping> {
        self.table.get(prefix).map(|entry| &entry.mapping)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.next()
    }

    /// Which node speaks for exactly this prefix.
    pub(crate) fn node(&self, prefix: &EidPrefix) -> Option<KeyId> {
        self.table.get(prefix)?.node
    }

    /// An EID that `node` speaks for, and where it is; `preferred` if that is one.
    pub(crate) fn of_node(&self, node: &KeyId, preferred: Option<Eid>) -> Option<(Eid, &Mapping)> {
        let is_its = |entry: &Entry| entry.node == Some(*node) && !entry.mapping.is_negative();
        let by_name = preferred.and_then(|eid| {
            let (_, entry) = self.table.longest_match(&eid)?;
            is_its(entry).then_some((eid, &entry.mapping))
        });
        by_name.or_else(|| {
            let mut all = self.table.iter();
            all.find_map(|(prefix, entry)| is_its(entry).then(|| (prefix.first_eid(), &entry.mapping)))
        })
    }

    /// Takes in the answer for `asked`: the record that covers it first, its more-specifics after it; `node` speaks for
    /// them. Says which mappings entered.
    #[allow(clippy::too_many_arguments, reason = "an answer and what it is held against")]
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        config: &Config,
        asked: Eid,
        records: Vec<Mapping>,
        node: Option<KeyId>,
        doubtful: bool,
        out: &mut Outbox,
    ) -> Changed {
        let mut changed = Changed::default();
        let Some(cover) = records.first().map(|mapping| mapping.prefix) else {
            return changed;
        };
        let was_positive = self
            .longest_match(&asked)
            .is_some_and(|(_, entry)| !entry.mapping.is_negative());
        // §5.5: a less specific answer for this very EID replaces the more specific entries that the answer lacks.
        let replaced: Vec<EidPrefix> = self
            .table
            .more_specifics(&cover)
            .map(|(prefix, _)| *prefix)
            .filter(|prefix| prefix.contains(&asked) && !records.iter().any(|record| record.prefix == *prefix))
            .collect();
        for prefix in replaced {
            out.counters.cache_withdrawn = out.counters.cache_withdrawn.saturating_add(1);
            self.remove(&prefix, out, &mut changed);
        }
        // The more specific ones first, so that the less specific one can be made to live no longer than they do.
        for mapping in records.into_iter().rev() {
            let doubtful = mapping.is_negative() && (doubtful || was_positive);
            self.install(now, config, asked, mapping, node, doubtful, out, &mut changed);
        }
        changed
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one call site above; a struct would only rename the arguments"
    )]
    fn install(
        &mut self,
        now: Instant,
        config: &Config,
        asked: Eid,
        mapping: Mapping,
        node: Option<KeyId>,
        doubtful: bool,
        out: &mut Outbox,
        changed: &mut Changed,
    ) {
        let prefix = mapping.prefix;
        let timers = &config.timers;
        let most = if mapping.is_negative() {
            timers.negative_ttl_max
        } else {
            timers.cache_ttl_max
        };
        let life = mapping.ttl.duration_or(most).min(most);
        if life.is_zero() {
            // §5.4: TTL 0, the entry MUST be removed at once.
            if self.table.contains(&prefix) {
                out.counters.cache_withdrawn = out.counters.cache_withdrawn.saturating_add(1);
                self.remove(&prefix, out, changed);
            }
            return;
        }
        let own_life = now + life;
        let expires = self
            .table
            .more_specifics(&prefix)
            .map(|(_, inner)| inner.expires)
            .fold(own_life, Instant::min);
        let old = self.table.get(&prefix);
        let hits = old.map_or(0, |old| old.hits);
        let doubted = old.and_then(|old| old.doubted);
        let recheck = match old.and_then(|old| old.recheck) {
            Some(going_on) if mapping.is_negative() => Some(going_on),
            _ if doubtful => recheck(now, 0),
            _ => None,
        };
        if !self.make_room(config, &prefix, out, changed) {
            return;
        }
        let refresh = expires
            .checked_sub((life / 8).min(EARLIEST_REFRESH))
            .unwrap_or(expires)
            .max(now);
        let entry = Entry {
            mapping: mapping.clone(),
            node,
            asked,
            installed: now,
            expires,
            used: now,
            hits,
            recheck,
            refresh,
            doubted,
        };
        self.forget_use(&prefix);
        self.instances
            .entry(prefix.instance_id())
            .or_default()
            .insert((now, prefix));
        self.due.set(prefix, entry.due());
        if let Some(old) = self.table.insert(prefix, entry) {
            changed.gone.push(old.mapping);
        }
        out.counters.cache_installed = out.counters.cache_installed.saturating_add(1);
        changed.installed.push(mapping.clone());
        out.event(Event::MappingInstalled { mapping, expires, node });
    }

    /// Whether `prefix` may enter; evicts the least recently used entry of its Instance-ID for it.
    fn make_room(&mut self, config: &Config, prefix: &EidPrefix, out: &mut Outbox, changed: &mut Changed) -> bool {
        if self.table.contains(prefix) {
            return true;
        }
        let Some(order) = self.instances.get(&prefix.instance_id()) else {
            let room = self.instances.len() < config.limits.map_cache_instances;
            if !room {
                out.counters.cache_refused_instances = out.counters.cache_refused_instances.saturating_add(1);
            }
            return room;
        };
        if order.len() < config.limits.map_cache_per_instance {
            return true;
        }
        let Some((_, oldest)) = order.first().copied() else {
            return true;
        };
        out.counters.cache_evicted = out.counters.cache_evicted.saturating_add(1);
        self.remove(&oldest, out, changed);
        true
    }

    fn forget_use(&mut self, prefix: &EidPrefix) {
        let Some(entry) = self.table.get(prefix) else { return };
        if let Some(order) = self.instances.get_mut(&prefix.instance_id()) {
            order.remove(&(entry.used, *prefix));
        }
    }

    fn remove(&mut self, prefix: &EidPrefix, out: &mut Outbox, changed: &mut Changed) {
        self.forget_use(prefix);
        if self
            .instances
            .get(&prefix.instance_id())
            .is_some_and(BTreeSet::is_empty)
        {
            self.instances.remove(&prefix.instance_id());
        }
        self.due.remove(prefix);
        if let Some(entry) = self.table.remove(prefix) {
            changed.gone.push(entry.mapping);
            out.event(Event::MappingRemoved(*prefix));
        }
    }

    /// Packets matched this entry.
    pub(crate) fn used(&mut self, now: Instant, prefix: &EidPrefix, hits: u64) {
        self.forget_use(prefix);
        let Some(entry) = self.table.get_mut(prefix) else {
            return;
        };
        entry.used = now;
        entry.hits = entry.hits.saturating_add(hits);
        self.instances
            .entry(prefix.instance_id())
            .or_default()
            .insert((now, *prefix));
    }

    /// Whether a negative entry for `eid` may be doubted because its owner spoke: once in a while for each entry, as
    /// anybody can pretend to speak.
    pub(crate) fn may_doubt(&mut self, now: Instant, eid: &Eid) -> bool {
        let Some((prefix, _)) = self.table.longest_match(eid) else {
            return false;
        };
        let Some(entry) = self.table.get_mut(&prefix) else {
            return false;
        };
        let may = entry
            .doubted
            .is_none_or(|at| now.saturating_duration_since(at) >= DOUBT_INTERVAL);
        if may {
            entry.doubted = Some(now);
        }
        may
    }

    /// Says once more what the dataplane shall know.
    pub(crate) fn repeat(&self, prefix: &EidPrefix, out: &mut Outbox) {
        let Some(entry) = self.table.get(prefix) else { return };
        out.event(Event::MappingInstalled {
            mapping: entry.mapping.clone(),
            expires: entry.expires,
            node: entry.node,
        });
    }

    /// Says everything once more.
    pub(crate) fn repeat_all(&self, out: &mut Outbox) {
        for (prefix, _) in self.table.iter() {
            self.repeat(prefix, out);
        }
    }

    /// Forgets the entries inside `own`, which this node serves from now on.
    pub(crate) fn withdraw_inside(&mut self, own: &EidPrefix, out: &mut Outbox) -> Changed {
        let mut changed = Changed::default();
        let mut inside: Vec<EidPrefix> = self.table.more_specifics(own).map(|(prefix, _)| *prefix).collect();
        inside.extend(self.table.contains(own).then_some(*own));
        for prefix in inside {
            out.counters.cache_withdrawn = out.counters.cache_withdrawn.saturating_add(1);
            self.remove(&prefix, out, &mut changed);
        }
        changed
    }

    /// Forgets what lies inside `prefix` and `gone` says of its node.
    pub(crate) fn withdraw_of(
        &mut self,
        prefix: &EidPrefix,
        gone: impl Fn(Option<KeyId>) -> bool,
        out: &mut Outbox,
    ) -> Changed {
        let mut changed = Changed::default();
        let inside = self
            .table
            .more_specifics(prefix)
            .map(|(inner, entry)| (*inner, entry.node));
        let exact = self.table.get(prefix).map(|entry| (*prefix, entry.node));
        let all: Vec<EidPrefix> = inside
            .chain(exact)
            .filter(|(_, node)| gone(*node))
            .map(|(prefix, _)| prefix)
            .collect();
        for prefix in all {
            out.counters.cache_withdrawn = out.counters.cache_withdrawn.saturating_add(1);
            self.remove(&prefix, out, &mut changed);
        }
        changed
    }

    /// Forgets everything.
    pub(crate) fn flush(&mut self, out: &mut Outbox) -> Changed {
        let mut changed = Changed::default();
        let all: Vec<EidPrefix> = self.table.iter().map(|(prefix, _)| *prefix).collect();
        for prefix in all {
            self.remove(&prefix, out, &mut changed);
        }
        changed
    }

    /// Expires what is over, and says what should be asked for again. `busy` tells whether data was sent lately to a
    /// locator of a mapping.
    pub(crate) fn tick(
        &mut self,
        now: Instant,
        config: &Config,
        busy: impl Fn(&Mapping) -> bool,
        out: &mut Outbox,
    ) -> (Changed, Vec<(Eid, Stale)>) {
        let mut changed = Changed::default();
        let mut stale = Vec::new();
        while let Some(prefix) = self.due.pop(now) {
            let Some(entry) = self.table.get_mut(&prefix) else {
                continue;
            };
            if entry.expires <= now {
                out.counters.cache_expired = out.counters.cache_expired.saturating_add(1);
                self.remove(&prefix, out, &mut changed);
                continue;
            }
            if let Some((step, at)) = entry.recheck.filter(|(_, at)| *at <= now) {
                entry.recheck = recheck(at, step.saturating_add(1));
                out.counters.cache_negative_rechecked = out.counters.cache_negative_rechecked.saturating_add(1);
                stale.push((entry.asked, Stale::Doubtful));
            }
            if entry.refresh <= now {
                let left = entry.expires.saturating_duration_since(now);
                entry.refresh = if left < LAST_REFRESH {
                    entry.expires
                } else {
                    now + left / 2
                };
                let in_use = now.saturating_duration_since(entry.used) <= config.timers.refresh_window
                    && entry.used > entry.installed;
                if in_use || busy(&entry.mapping) {
                    out.counters.cache_refreshed = out.counters.cache_refreshed.saturating_add(1);
                    stale.push((entry.asked, Stale::Expiring));
                }
            }
            let due = entry.due();
            self.due.set(prefix, due);
        }
        (changed, stale)
    }

    pub(crate) fn status(&self, now: Instant) -> Vec<MapCacheStatus> {
        self.table
            .iter()
            .map(|(_, entry)| MapCacheStatus {
                mapping: entry.mapping.clone(),
                node: entry.node,
                age: now.saturating_duration_since(entry.installed),
                expires_in: entry.expires.saturating_duration_since(now),
                used_ago: now.saturating_duration_since(entry.used),
                hits: entry.hits,
            })
            .collect()
    }
}

fn recheck(after: Instant, step: usize) -> Option<(usize, Instant)> {
    RECHECKS.get(step).map(|wait| (step, after + *wait))
}

/// What entered and what left: the locator table follows it.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// Mappings that are known from now on.
    pub(crate) installed: Vec<Mapping>,
    /// Mappings that are not, or were replaced by one of `installed`.
    pub(crate) gone: Vec<Mapping>,
}
