//! Rate limits of what the node says on its own: events to control, ICMP errors to guests.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use crate::hash::Seeded;

/// Lets each key through once per period. Bounded: when too many keys are fresh, new ones have to wait.
#[derive(Debug)]
pub struct OncePer<K> {
    period: Duration,
    last: HashMap<K, Instant, Seeded>,
    /// When stale keys were thrown out last: that walks the whole map, and is not for every packet.
    swept: Option<Instant>,
}

/// Keys that are remembered.
const REMEMBERED: usize = 4_096;

impl<K: Eq + Hash> OncePer<K> {
    /// Once per `period`.
    pub fn new(period: Duration, seed: Seeded) -> Self {
        Self {
            period,
            last: HashMap::with_hasher(seed),
            swept: None,
        }
    }

    /// Whether `key` may go through now; if so, that counts.
    pub fn allows(&mut self, key: K, now: Instant) -> bool {
        let fresh = |last: &Instant| now.saturating_duration_since(*last) < self.period;
        if self.last.get(&key).is_some_and(fresh) {
            return false;
        }
        if self.last.len() >= REMEMBERED {
            if self
                .swept
                .is_none_or(|swept| now.saturating_duration_since(swept) >= self.period / 4)
            {
                self.last
                    .retain(|_, last| now.saturating_duration_since(*last) < self.period);
                self.swept = Some(now);
            }
            if self.last.len() >= REMEMBERED {
                return false;
            }
        }
        self.last.insert(key, now);
        true
    }

    /// Lets `key` through again at once.
    pub fn forget_if(&mut self, gone: impl Fn(&K) -> bool) {
        self.last.retain(|key, _| !gone(key));
    }
}

/// A bucket of tokens that refills with time.
#[derive(Debug)]
pub struct Bucket {
    tokens: u32,
    size: u32,
    interval: Duration,
    filled: Option<Instant>,
}

impl Bucket {
    /// `size` at once, `rate` a second in the long run. Both at least 1.
    pub fn new(size: u32, rate: u32) -> Self {
        let (size, rate) = (size.max(1), rate.max(1));
        Self {
            tokens: size,
            size,
            interval: Duration::from_secs(1) / rate,
            filled: None,
        }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let filled = *self.filled.get_or_insert(now);
        let due = now.saturating_duration_since(filled).as_nanos() / self.interval.as_nanos().max(1);
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        if due > 0 {
            self.tokens = self.tokens.saturating_add(due).min(self.size);
            self.filled = Some(if self.tokens == self.size {
                now
            } else {
                filled + self.interval * due
            });
        }
        match self.tokens.checked_sub(1) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }
}
