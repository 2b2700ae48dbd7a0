//! One deadline for each key, and the earliest of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// A set of keys, each with an instant at which something is due.
#[derive(Debug)]
pub(crate) struct Deadlines<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self {
            by_time: BTreeSet::new(),
            by_key: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Deadlines<K> {
    /// `key` is due at `at`, and at no other time.
    pub(crate) fn set(&mut self, key: K, at: Instant) {
        if let Some(old) = self.by_key.insert(key.clone(), at) {
            self.by_time.remove(&(old, key.clone()));
        }
        self.by_time.insert((at, key));
    }

    /// `key` is never due.
    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(at) = self.by_key.remove(key) {
            self.by_time.remove(&(at, key.clone()));
        }
    }

    /// The earliest instant.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out the earliest key that is due at `now`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn the_latest_setting_counts_and_each_key_is_due_once() {
        let t = Instant::now();
        let s = Duration::from_secs;
        let mut deadlines = Deadlines::default();
        deadlines.set('a', t + s(1));
        deadlines.set('b', t + s(2));
        deadlines.set('a', t + s(3));
        assert_eq!(deadlines.next(), Some(t + s(2)));
        assert_eq!(deadlines.pop(t + s(1)), None);
        assert_eq!(deadlines.pop(t + s(3)), Some('b'));
        assert_eq!(deadlines.pop(t + s(3)), Some('a'));
        assert_eq!(deadlines.pop(t + s(9)), None);
        deadlines.set('c', t);
        deadlines.remove(&'c');
        assert_eq!(deadlines.next(), None);
    }
}
