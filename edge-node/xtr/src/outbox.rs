//! What every part of the machine writes to: events, datagrams, counters; and the one source of randomness.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lisp::Nonce;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

use crate::{Counters, Event, Transmit, nonces::RisingNonces};

#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) events: VecDeque<Event>,
    pub(crate) transmits: VecDeque<Transmit>,
    pub(crate) counters: Counters,
    rng: ChaCha20Rng,
    nonces: RisingNonces,
}

impl Outbox {
    pub(crate) fn new(seed: [u8; 32], first_nonce: Nonce) -> Self {
        let nonces = RisingNonces::new(first_nonce);
        Self {
            events: VecDeque::from([Event::NonceAdvanced(nonces.bound())]),
            transmits: VecDeque::new(),
            counters: Counters::default(),
            rng: ChaCha20Rng::from_seed(seed),
            nonces,
        }
    }

    /// One more of what `which` names.
    pub(crate) fn count(&mut self, which: impl FnOnce(&mut Counters) -> &mut u64) {
        let counter = which(&mut self.counters);
        *counter = counter.saturating_add(1);
    }

    /// A nonce above every one that this node ever took by this name (RFC 9301 §5.6).
    pub(crate) fn rising_nonce(&mut self) -> Nonce {
        let (nonce, advanced) = self.nonces.take();
        if let Some(bound) = advanced {
            self.event(Event::NonceAdvanced(bound));
        }
        nonce
    }

    /// Bytes that nobody can guess.
    pub(crate) fn random_bytes<const N: usize>(&mut self) -> Zeroizing<[u8; N]> {
        let mut bytes = Zeroizing::new([0; N]);
        self.rng.fill_bytes(&mut bytes[..]);
        bytes
    }

    /// A number that nobody can guess.
    pub(crate) fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(crate) fn send(&mut self, source: Option<IpAddr>, destination: SocketAddr, payload: Vec<u8>) {
        self.transmits.push_back(Transmit {
            source,
            destination,
            payload,
        });
    }

    /// A nonce that nobody can guess (RFC 9301 §5.2).
    pub(crate) fn random_nonce(&mut self) -> Nonce {
        Nonce(self.rng.next_u64())
    }

    /// `most`, less a random part of up to `percent` of it.
    pub(crate) fn earlier(&mut self, most: Duration, percent: u32) -> Duration {
        most.saturating_sub(self.part_of(most, percent))
    }

    /// `least`, plus a random part of up to `percent` of it.
    pub(crate) fn later(&mut self, least: Duration, percent: u32) -> Duration {
        least.saturating_add(self.part_of(least, percent))
    }

    fn part_of(&mut self, whole: Duration, percent: u32) -> Duration {
        let span = (whole / 100).saturating_mul(percent);
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.next_u64() % micros.saturating_add(1))
    }
}
