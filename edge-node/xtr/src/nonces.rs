//! Nonces of Map-Registers: they only rise, across restarts too (RFC 9301 §5.6).

use lisp::Nonce;

use crate::{Event, outbox::Outbox};

/// How many nonces are reserved at a time. A stored value is written once in so many Map-Registers.
pub(crate) const BLOCK: u64 = 4096;

/// The next nonce, and the first that is not reserved yet.
#[derive(Debug)]
pub(crate) struct RisingNonces {
    next: u64,
    reserved: u64,
}

impl RisingNonces {
    /// Starts at `first` and reserves the first block.
    pub(crate) fn new(first: Nonce, out: &mut Outbox) -> Self {
        let mut nonces = Self {
            next: first.0,
            reserved: first.0,
        };
        nonces.reserve(out);
        nonces
    }

    /// One that was never used. The block is renewed when half of it is gone, so that the shell has stored the new
    /// bound before it matters.
    pub(crate) fn take(&mut self, out: &mut Outbox) -> Nonce {
        let nonce = Nonce(self.next);
        self.next = self.next.saturating_add(1);
        if self.reserved.saturating_sub(self.next) < BLOCK / 2 {
            self.reserve(out);
        }
        nonce
    }

    fn reserve(&mut self, out: &mut Outbox) {
        self.reserved = self.next.saturating_add(BLOCK);
        out.event(Event::NonceAdvanced(Nonce(self.reserved)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nonce_lies_below_what_was_announced() {
        let mut out = Outbox::new([0; 32]);
        let mut nonces = RisingNonces::new(Nonce(100), &mut out);
        let mut stored = 0;
        let mut last = 99;
        for _ in 0..3 * BLOCK {
            while let Some(Event::NonceAdvanced(bound)) = out.events.pop_front() {
                stored = bound.0;
            }
            let nonce = nonces.take(&mut out).0;
            assert_eq!(nonce, last + 1);
            assert!(nonce < stored);
            last = nonce;
        }
    }
}
