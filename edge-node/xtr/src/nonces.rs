//! Nonces of Map-Registers and counters of sealed Map-Requests: they only rise, across restarts too (RFC 9301 §5.6).

use lisp::Nonce;

/// How many nonces are reserved at a time. A stored value is written once in so many messages.
pub(crate) const BLOCK: u64 = 4096;

/// The next nonce, and the first that is not reserved yet.
#[derive(Debug)]
pub(crate) struct RisingNonces {
    next: u64,
    reserved: u64,
}

impl RisingNonces {
    /// Starts at `first` and reserves the first block.
    pub(crate) fn new(first: Nonce) -> Self {
        Self {
            next: first.0,
            reserved: first.0.saturating_add(BLOCK),
        }
    }

    /// Nonces below this one may be used.
    pub(crate) fn bound(&self) -> Nonce {
        Nonce(self.reserved)
    }

    /// One that was never used, and the new bound when that was moved: when half of a block is gone, so that the shell has
    /// stored it before it matters.
    pub(crate) fn take(&mut self) -> (Nonce, Option<Nonce>) {
        let nonce = Nonce(self.next);
        self.next = self.next.saturating_add(1);
        if self.reserved.saturating_sub(self.next) >= BLOCK / 2 {
            return (nonce, None);
        }
        self.reserved = self.next.saturating_add(BLOCK);
        (nonce, Some(self.bound()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nonce_lies_below_what_was_announced() {
        let mut nonces = RisingNonces::new(Nonce(100));
        let mut stored = nonces.bound();
        let mut last = 99;
        for _ in 0..3 * BLOCK {
            let (nonce, advanced) = nonces.take();
            assert_eq!(nonce.0, last + 1);
            assert!(nonce < stored, "what was stored before it was taken");
            stored = advanced.unwrap_or(stored);
            last = nonce.0;
        }
    }
}
