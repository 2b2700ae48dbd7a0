//! The simulated underlay: datagrams that are lost, late, doubled, overtaken, or kept apart by a partition.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use rand::{RngExt, rngs::StdRng};

/// What the underlay does to datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Datagrams lost, in a thousand.
    pub loss: u32,
    /// Datagrams that arrive twice, in a thousand.
    pub duplication: u32,
    /// Shortest way.
    pub delay: Duration,
    /// What is added to it at random, for each datagram anew: they overtake one another.
    pub jitter: Duration,
}

impl Weather {
    /// Nothing is lost; delays stay.
    pub const FAIR: Self = Self {
        loss: 0,
        duplication: 0,
        delay: Duration::from_millis(2),
        jitter: Duration::from_millis(10),
    };
}

/// One datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Underlay source.
    pub from: SocketAddr,
    /// Underlay destination.
    pub to: SocketAddr,
    /// UDP payload.
    pub payload: Vec<u8>,
}

/// Counts of what became of datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Handed to the network.
    pub sent: u64,
    /// Arrived, doubles included.
    pub delivered: u64,
    /// Lost to weather.
    pub lost: u64,
    /// Lost to a partition.
    pub cut: u64,
}

/// The underlay.
#[derive(Debug)]
pub struct Network {
    /// What the weather is like now.
    pub weather: Weather,
    /// What happened so far.
    pub fate: Fate,
    /// Side of the partition that an address is on; those not named are on side 0.
    sides: BTreeMap<IpAddr, u8>,
    underway: BinaryHeap<Reverse<(Instant, u64)>>,
    datagrams: BTreeMap<u64, Datagram>,
    last: u64,
}

impl Network {
    /// An empty underlay.
    pub fn new(weather: Weather) -> Self {
        Self {
            weather,
            fate: Fate::default(),
            sides: BTreeMap::new(),
            underway: BinaryHeap::new(),
            datagrams: BTreeMap::new(),
            last: 0,
        }
    }

    /// Puts an address on a side; sides do not hear each other.
    pub fn place(&mut self, address: IpAddr, side: u8) {
        self.sides.insert(address, side);
    }

    /// No partition any more.
    pub fn heal(&mut self) {
        self.sides.clear();
    }

    /// Sends a datagram, or loses it.
    pub fn send(&mut self, now: Instant, rng: &mut StdRng, datagram: Datagram) {
        self.fate.sent += 1;
        let copies = if rng.random_range(0..1000) < self.weather.duplication {
            2
        } else {
            1
        };
        for _ in 0..copies {
            if rng.random_range(0..1000) < self.weather.loss {
                self.fate.lost += 1;
                continue;
            }
            let jitter = Duration::from_micros(rng.random_range(0..=self.weather.jitter.as_micros() as u64));
            self.last += 1;
            self.underway
                .push(Reverse((now + self.weather.delay + jitter, self.last)));
            self.datagrams.insert(self.last, datagram.clone());
        }
    }

    /// When the next datagram arrives.
    pub fn next(&self) -> Option<Instant> {
        self.underway.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the datagram that arrives at `now`. A partition cuts what is under way, too.
    pub fn receive(&mut self, now: Instant) -> Option<Datagram> {
        while self.next()? <= now {
            let Reverse((_, number)) = self.underway.pop()?;
            let Some(datagram) = self.datagrams.remove(&number) else {
                continue;
            };
            if self.side(datagram.from.ip()) == self.side(datagram.to.ip()) {
                self.fate.delivered += 1;
                return Some(datagram);
            }
            self.fate.cut += 1;
        }
        None
    }

    fn side(&self, address: IpAddr) -> u8 {
        self.sides.get(&address).copied().unwrap_or(0)
    }
}
