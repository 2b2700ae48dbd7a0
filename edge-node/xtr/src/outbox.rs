//! What every part of the machine writes to: events, datagrams, counters; and the one source of randomness.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lisp::Nonce;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::{Counters, Event, Transmit};

#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) events: VecDeque<Event>,
    pub(crate) transmits: VecDeque<Transmit>,
    pub(crate) counters: Counters,
    rng: ChaCha20Rng,
}

impl Outbox {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self {
            events: VecDeque::new(),
            transmits: VecDeque::new(),
            counters: Counters::default(),
            rng: ChaCha20Rng::from_seed(seed),
        }
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
