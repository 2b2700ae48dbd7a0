//! The EID-prefixes that this node serves, and which it served a moment ago.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use lisp::{Eid, EidPrefix, Ttl};

use crate::{DatabaseMapping, prefix_table::PrefixTable};

/// How long a prefix counts as just departed: a negative answer for it may only mean that its new home has not
/// registered it yet.
const DEPARTED_FOR: Duration = Duration::from_secs(60);
const DEPARTED_MAX: usize = 256;

/// Prefixes of ours.
#[derive(Debug, Default)]
pub(crate) struct Database {
    pub(crate) table: PrefixTable<DatabaseMapping>,
    departed: BTreeMap<EidPrefix, Instant>,
}

/// What a new list of prefixes changed.
#[derive(Debug, Default)]
pub(crate) struct DatabaseChange {
    /// New, or registered differently from now on.
    pub(crate) put: Vec<EidPrefix>,
    /// New ones of these.
    pub(crate) new: Vec<EidPrefix>,
    /// No longer ours.
    pub(crate) removed: Vec<EidPrefix>,
}

impl Database {
    /// Takes the full list.
    pub(crate) fn set(&mut self, now: Instant, list: Vec<DatabaseMapping>) -> DatabaseChange {
        let mut change = DatabaseChange::default();
        let mut wanted = BTreeMap::new();
        for mut mapping in list {
            // TTL 0 in a record says "remove"; a prefix that is served is not removed.
            if mapping.ttl == Ttl::ZERO {
                mapping.ttl = Ttl::DAY;
            }
            wanted.insert(mapping.prefix, mapping);
        }
        change.removed = self
            .table
            .iter()
            .map(|(p, _)| *p)
            .filter(|p| !wanted.contains_key(p))
            .collect();
        for prefix in &change.removed {
            self.table.remove(prefix);
            if self.departed.len() < DEPARTED_MAX {
                self.departed.insert(*prefix, now);
            }
        }
        for (prefix, mapping) in wanted {
            self.departed.remove(&prefix);
            let old = self.table.insert(prefix, mapping);
            if old != Some(mapping) {
                change.put.push(prefix);
            }
            if old.is_none() {
                change.new.push(prefix);
            }
        }
        self.departed
            .retain(|_, since| now.saturating_duration_since(*since) < DEPARTED_FOR);
        change
    }

    /// Whether this node serves `eid`.
    pub(crate) fn serves(&self, eid: &Eid) -> bool {
        self.table.longest_match(eid).is_some()
    }

    /// Whether this node served `eid` within the last minute.
    pub(crate) fn served_lately(&self, now: Instant, eid: &Eid) -> bool {
        self.departed
            .iter()
            .any(|(prefix, since)| prefix.contains(eid) && now.saturating_duration_since(*since) < DEPARTED_FOR)
    }
}
