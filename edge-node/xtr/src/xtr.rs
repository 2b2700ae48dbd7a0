//! The machine: one owner of all state, the verbs that every machine of Weft shares.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use lisp::Nonce;

use crate::{Command, Config, Event, Status, Transmit};

/// An xTR.
#[derive(Debug)]
pub struct Xtr {
    config: Config,
}

impl Xtr {
    /// A machine that serves nothing yet. `seed` is 32 bytes of good randomness: Map-Request nonces come from it.
    /// `first_nonce` is above every nonce ever used by this xTR: the larger of the last
    /// [`Event::NonceAdvanced`] and the wall clock in nanoseconds.
    pub fn new(config: Config, seed: [u8; 32], first_nonce: Nonce) -> Self {
        let _ = (seed, first_nonce);
        Self { config }
    }

    /// A datagram arrived from `from` at our address `to` (UDP port 4342).
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, to: IpAddr, bytes: &[u8]) {
        let _ = (now, from, to, bytes);
    }

    /// The node asks for something.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        let _ = now;
        if let Command::Configure(config) = command {
            self.config = config;
        }
    }

    /// Time has come: to be called when the instant of [`Xtr::poll_timeout`] is reached; harmless at any other time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// When to call [`Xtr::handle_timeout`] next, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        None
    }

    /// The next datagram to send. Drain [`Xtr::poll_event`] first.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// A picture of the machine.
    pub fn status(&self, now: Instant) -> Status {
        let _ = now;
        Status {
            registrations: Vec::new(),
            database: Vec::new(),
            map_cache: Vec::new(),
            pending: Vec::new(),
            locators: Vec::new(),
            counters: crate::Counters::default(),
        }
    }
}
