//! The machine: datagrams, commands and time go in; datagrams, events and deadlines come out.
//!
//! A datagram takes one of two ways. A Map-Register (`register.rs`) is authenticated, checked against the
//! configuration and the last nonce, and stored; what it acknowledges waits in the outbox until the store has
//! committed. A Map-Request (`request.rs`) is answered from the table, or sent on to an ETR.

use std::{
    collections::{BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant, SystemTime},
};

use lisp::wire::MessageType;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::{
    Command, ConfigError, Counters, Event, MapServerConfig, RegistrationStatus, Transmit,
    budget::Budget,
    clock::{Clock, millis},
    counters::Count,
    directory::Directory,
    notify::Notifies,
    prefix_key::PrefixKey,
    registration::{Registration, RegistrationKey, WallMillis},
    store::Store,
};

/// Own addresses learned from where datagrams arrived, beside the configured ones.
const LEARNED_ADDRESSES: usize = 64;
/// Shortest time between two looks for what has run out; look-ups go by the exact time themselves.
const SWEEP_EVERY: WallMillis = 1000;
/// Table size for which a sweep is worth another [`SWEEP_EVERY`].
const SWEEP_SIZE: usize = 200_000;

/// Map-Server and Map-Resolver (RFC 9301 §8.3, §8.4).
pub struct MapServer {
    pub(crate) config: MapServerConfig,
    pub(crate) directory: Directory,
    pub(crate) store: Box<dyn Store>,
    pub(crate) clock: Clock,
    pub(crate) random: ChaCha12Rng,
    pub(crate) budget: Budget,
    pub(crate) notifies: Notifies,
    pub(crate) counters: Counters,
    pub(crate) own: BTreeSet<IpAddr>,
    outbox: VecDeque<Transmit>,
    /// Acknowledgments of writes that the store has not committed.
    uncommitted: VecDeque<Transmit>,
    dirty: bool,
    events: VecDeque<Event>,
    next_sweep: WallMillis,
}

impl MapServer {
    /// A machine over what `store` holds. `wall` is the wall time at `now`: what was registered in an earlier life
    /// lives as long as it had left. Registrations that the configuration does not allow are removed.
    pub fn new(
        config: MapServerConfig,
        store: Box<dyn Store>,
        seed: [u8; 32],
        now: Instant,
        wall: SystemTime,
    ) -> Result<Self, Vec<ConfigError>> {
        config.validate()?;
        let clock = Clock::new(now, wall);
        let mut machine = Self {
            directory: Directory::new(&config),
            own: addresses(&config),
            config,
            store,
            notifies: Notifies::default(),
            clock,
            random: ChaCha12Rng::from_seed(seed),
            budget: Budget::new(),
            counters: Counters::default(),
            outbox: VecDeque::new(),
            uncommitted: VecDeque::new(),
            dirty: false,
            events: VecDeque::new(),
            next_sweep: 0,
        };
        machine.sweep(clock.wall(now));
        machine.remove_unowned();
        machine.clip_lives(clock.wall(now));
        Ok(machine)
    }

    /// A UDP payload came from `from` to our address `to`.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, to: IpAddr, bytes: &[u8]) {
        let wall = self.clock.wall(now);
        if self.own.len() < LEARNED_ADDRESSES && !to.is_unspecified() {
            self.own.insert(to);
        }
        let kind = bytes.first().map(|byte| byte >> 4);
        match kind {
            Some(kind) if kind == MessageType::MapRegister as u8 => self.map_register(wall, from, to, bytes),
            Some(kind) if kind == MessageType::MapRequest as u8 => self.plain_map_request(wall, from, to, bytes),
            Some(kind) if kind == MessageType::Ecm as u8 => self.encapsulated(wall, from, to, bytes),
            Some(kind) if kind == MessageType::MapNotifyAck as u8 => self.map_notify_ack(wall, from, bytes),
            // RFC 9301 §8.3: discarded without response.
            Some(kind) if kind == MessageType::MapReply as u8 => self.count(Count::map_reply_discarded),
            Some(2 | 4 | 6 | 7) => self.count(Count::unexpected_message),
            _ => self.count(Count::malformed),
        }
    }

    /// An operator wants something.
    pub fn handle_command(&mut self, now: Instant, command: Command) -> Result<(), Vec<ConfigError>> {
        let _ = now;
        match command {
            Command::Reconfigure(config) => {
                config.validate()?;
                self.directory = Directory::new(&config);
                let learned = std::mem::take(&mut self.own);
                self.own = addresses(&config);
                self.own.extend(learned);
                self.config = config;
                self.remove_unowned();
            }
            Command::Clear(prefix) => {
                let prefix = PrefixKey::from(&prefix);
                let keys: Vec<RegistrationKey> = self.store.table().at(prefix).map(|(key, _)| *key).collect();
                for key in keys {
                    self.remove(&key);
                }
            }
        }
        Ok(())
    }

    /// Time passed: see [`MapServer::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        let wall = self.clock.wall(now);
        if self.sweep_at().is_some_and(|at| at <= wall) {
            self.sweep(wall);
        }
        self.repeat_notifies(wall);
    }

    /// When to call [`MapServer::handle_timeout`], and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let sweep = self.sweep_at().map(|at| (at, "registration expiry"));
        let notify = self.notifies.next().map(|at| (at, "map-notify repetition"));
        let (at, why) = sweep.into_iter().chain(notify).min()?;
        Some((self.clock.instant(at), why))
    }

    /// The next datagram to send. What acknowledges a write is handed out only after the store has committed, so
    /// call this when a batch of datagrams has been handled, not after each: the batch then shares one commit.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if self.dirty {
            self.commit();
        }
        self.outbox.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What happened so far, by name.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The configuration in force.
    pub const fn config(&self) -> &MapServerConfig {
        &self.config
    }

    /// The store, for snapshots and the change feed.
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// All registrations that have not run out, by prefix.
    pub fn registrations(&self, now: Instant) -> Vec<RegistrationStatus> {
        let wall = self.clock.wall(now);
        let table = self
            .store
            .table()
            .iter()
            .filter(|(_, registration)| registration.expires > wall);
        table
            .filter_map(|(key, registration)| {
                Some(RegistrationStatus {
                    prefix: key.prefix.prefix()?,
                    site: self.site_name(registration.site),
                    xtr: registration.xtr,
                    from: registration.source,
                    record: registration.eid_record()?,
                    proxy_reply: registration.proxy_reply,
                    merge: registration.merge,
                    superseded: registration.superseded,
                    expires_in: Duration::from_millis(registration.expires.saturating_sub(wall)),
                    refreshed_ago: Duration::from_millis(wall.saturating_sub(registration.version)),
                })
            })
            .collect()
    }

    pub(crate) fn count(&mut self, what: Count) {
        self.counters.count(what);
    }

    pub(crate) fn event(&mut self, event: Event) {
        if self.events.len() >= self.config.limits.events {
            self.count(Count::event_dropped);
        } else {
            self.events.push_back(event);
        }
    }

    /// Sends something that depends on no write.
    pub(crate) fn send(&mut self, transmit: Transmit) {
        self.outbox.push_back(transmit);
    }

    /// Sends something once all writes so far are durable.
    pub(crate) fn send_after_commit(&mut self, transmit: Transmit) {
        self.uncommitted.push_back(transmit);
        self.dirty = true;
    }

    /// Notes that the store was written to.
    pub(crate) fn wrote(&mut self) {
        self.dirty = true;
    }

    pub(crate) fn store_failed(&mut self, error: &crate::store::StoreError) {
        self.count(Count::store_failed);
        self.event(Event::StoreFailed {
            error: error.to_string(),
        });
    }

    /// Whether we can send in the family of `address`.
    pub(crate) fn can_send_to(&self, address: IpAddr) -> bool {
        self.config.addresses.is_empty() || self.own.iter().any(|own| own.is_ipv4() == address.is_ipv4())
    }

    /// The address to answer from: the one asked, when it is of the right family.
    pub(crate) fn source_for(&self, asked: IpAddr, destination: IpAddr) -> Option<IpAddr> {
        (asked.is_ipv4() == destination.is_ipv4() && !asked.is_unspecified()).then_some(asked)
    }

    pub(crate) fn site_name(&self, tag: crate::registration::SiteTag) -> String {
        self.directory
            .site(tag)
            .map(|site| site.name.clone())
            .unwrap_or_default()
    }

    fn commit(&mut self) {
        self.dirty = false;
        match self.store.commit() {
            Ok(()) => self.outbox.append(&mut self.uncommitted),
            Err(error) => {
                // Nothing is acknowledged that may be lost; the xTRs will ask again.
                self.uncommitted.clear();
                self.store_failed(&error);
            }
        }
    }

    fn sweep_at(&self) -> Option<WallMillis> {
        self.store
            .table()
            .earliest_expiry()
            .map(|earliest| earliest.max(self.next_sweep))
    }

    fn sweep(&mut self, wall: WallMillis) {
        for key in self.store.sweep(wall) {
            let superseded = self
                .store
                .table()
                .get(&key)
                .is_some_and(|registration| registration.superseded);
            if self.remove(&key) && !superseded {
                self.count(Count::expired);
                if let Some(prefix) = key.prefix.prefix() {
                    self.event(Event::Expired { prefix });
                }
            }
        }
        let factor = 1 + self.store.table().len() / SWEEP_SIZE;
        self.next_sweep = wall.saturating_add(SWEEP_EVERY.saturating_mul(factor as u64));
    }

    fn remove_unowned(&mut self) {
        let table = self.store.table().iter();
        let gone: Vec<RegistrationKey> = table
            .filter(|(key, registration)| !self.directory.may_register(registration.site, &key.prefix))
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            self.remove(&key);
        }
    }

    /// A wall clock that went back while we were away would make what is stored last for as long as it went back.
    /// Nothing lasts longer than if it had just been registered.
    fn clip_lives(&mut self, wall: WallMillis) {
        let usual = wall.saturating_add(millis(self.config.registration_expiry));
        let table = self.store.table().iter();
        let early = table.filter(|(_, registration)| registration.version > wall && registration.expires > usual);
        let early: Vec<_> = early.map(|(key, registration)| (*key, registration)).collect();
        for (key, registration) in early {
            let version = registration.version.saturating_add(1);
            let clipped = Registration {
                expires: usual,
                version,
                ..registration
            };
            match self.store.upsert_if_newer(key, clipped) {
                Ok(_) => self.dirty = true,
                Err(error) => self.store_failed(&error),
            }
        }
    }

    fn remove(&mut self, key: &RegistrationKey) -> bool {
        match self.store.delete(key) {
            Ok(there) => {
                self.dirty |= there;
                there
            }
            Err(error) => {
                self.store_failed(&error);
                false
            }
        }
    }
}

/// Own addresses and families as configured.
fn addresses(config: &MapServerConfig) -> BTreeSet<IpAddr> {
    config.addresses.iter().copied().collect()
}
