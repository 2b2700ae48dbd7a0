//! The numbered feed of changes that a replica or a subscriber follows.

use std::collections::{BTreeMap, VecDeque};

use crate::registration::{Registration, RegistrationKey};

use super::Table;

/// A state of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Number of the last change in it.
    pub sequence: u64,
    /// All registrations.
    pub registrations: Vec<(RegistrationKey, Registration)>,
}

/// The newest state of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Number of its last change.
    pub sequence: u64,
    /// Which.
    pub key: RegistrationKey,
    /// `None`: deleted.
    pub registration: Option<Registration>,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// The changed keys, oldest change first, each with its newest state.
    Since(Vec<Change>),
    /// Older than what is remembered, or of another life of the store: take a snapshot.
    TooOld,
}

/// Keys that changed, bounded.
#[derive(Debug)]
pub(super) struct ChangeLog {
    sequence: u64,
    keys: VecDeque<RegistrationKey>,
}

/// Changes remembered. A follower that is further behind takes a snapshot.
const REMEMBERED: usize = 4096;

impl ChangeLog {
    /// A log whose next change has the number after `sequence`.
    pub(super) fn starting_at(sequence: u64) -> Self {
        Self {
            sequence,
            keys: VecDeque::new(),
        }
    }

    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn push(&mut self, key: RegistrationKey) {
        if self.keys.len() >= REMEMBERED {
            self.keys.pop_front();
        }
        self.keys.push_back(key);
        self.sequence = self.sequence.wrapping_add(1);
    }

    pub(super) fn since(&self, sequence: u64, table: &Table) -> Changes {
        let Some(missed) = self.sequence.checked_sub(sequence) else {
            return Changes::TooOld;
        };
        let remembered = self.keys.len() as u64;
        let Some(skip) = remembered.checked_sub(missed) else {
            return Changes::TooOld;
        };
        let first = self.sequence.wrapping_sub(remembered);
        let mut latest = BTreeMap::new();
        for (index, key) in self
            .keys
            .iter()
            .enumerate()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX))
        {
            latest.insert(*key, first.wrapping_add(index as u64).wrapping_add(1));
        }
        let mut changes: Vec<Change> = latest
            .into_iter()
            .map(|(key, sequence)| Change {
                sequence,
                key,
                registration: table.get(&key),
            })
            .collect();
        changes.sort_by_key(|change| change.sequence);
        Changes::Since(changes)
    }
}
