//! Which counters of one sending worker came already (RFC 4303 §3.4.3, by words as in RFC 6479). Written by the one
//! worker that receives under the key; atomic so that others may look, not so that others may write.

#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Words of the bitmap; a power of two.
const WORDS: u64 = 64;
/// Counters this far behind the highest, or farther, are refused: one word is always being refilled.
pub const WINDOW: u64 = (WORDS - 1) * 64;

/// A sliding window.
#[derive(Debug)]
pub struct Window {
    highest: AtomicU64,
    seen: [AtomicU64; WORDS as usize],
}

impl Window {
    /// Nothing came.
    pub fn new() -> Self {
        Self {
            highest: AtomicU64::new(0),
            seen: [const { AtomicU64::new(0) }; WORDS as usize],
        }
    }

    /// Whether `counter` is new and not too old.
    #[inline]
    pub fn is_fresh(&self, counter: u64) -> bool {
        let highest = self.highest.load(Relaxed);
        if counter > highest {
            return true;
        }
        let bit = 1 << (counter % 64);
        highest - counter < WINDOW && self.word(counter).is_some_and(|word| word.load(Relaxed) & bit == 0)
    }

    /// Remembers a fresh counter; whether it is the highest so far. Only after its packet proved authentic.
    #[inline]
    pub fn mark(&self, counter: u64) -> bool {
        let highest = self.highest.load(Relaxed);
        let newest = counter > highest;
        if newest {
            let (from, to) = (highest / 64, counter / 64);
            for number in (from + 1..=to).take(WORDS as usize) {
                if let Some(word) = self.word(number.wrapping_mul(64)) {
                    word.store(0, Relaxed);
                }
            }
            self.highest.store(counter, Relaxed);
        }
        if let Some(word) = self.word(counter) {
            word.store(word.load(Relaxed) | 1 << (counter % 64), Relaxed);
        }
        newest
    }

    #[inline]
    fn word(&self, counter: u64) -> Option<&AtomicU64> {
        self.seen.get((counter / 64 % WORDS) as usize)
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_edges_of_the_window() {
        let window = Window::new();
        for counter in [1, 2, 3, WINDOW + 1] {
            assert!(window.is_fresh(counter));
            window.mark(counter);
            assert!(!window.is_fresh(counter));
        }
        let top = WINDOW * 3;
        assert!(window.mark(top));
        assert!(!window.is_fresh(top - WINDOW), "just outside");
        assert!(window.is_fresh(top - WINDOW + 1), "just inside");
        assert!(!window.mark(top - WINDOW + 1), "not the newest");
        assert!(!window.is_fresh(top - WINDOW + 1));
        assert!(window.mark(u64::MAX), "a jump over more than the bitmap");
        assert!(!window.is_fresh(top));
        assert!(window.is_fresh(u64::MAX - 1));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in prop::collection::vec((0..3_u8, 1..6_000_u64), 1..600)) {
            let (window, mut seen, mut highest) = (Window::new(), HashSet::new(), 0_u64);
            for (kind, by) in steps {
                let counter = match kind {
                    0 => highest + by,
                    1 => highest + by % 5 + 1,
                    _ => highest.saturating_sub(by).max(1),
                };
                let fresh = counter > highest || (highest - counter < WINDOW && !seen.contains(&counter));
                prop_assert_eq!(window.is_fresh(counter), fresh);
                if fresh {
                    prop_assert_eq!(window.mark(counter), counter > highest);
                    seen.insert(counter);
                    highest = highest.max(counter);
                }
            }
        }
    }
}
