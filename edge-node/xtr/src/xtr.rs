//! The machine: one owner of all state, and the verbs that every machine of Weft shares. Each kind of message goes to
//! the file that is named after it; what one part learns and another needs to know passes through here.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use lisp::wire::{Ecm, MapNotify, MapReply, MapRequest, Message};
use lisp::{Eid, EidPrefix, Nonce};

use crate::{
    Command, Config, Event, Status, Transmit,
    accept::accept,
    database::Database,
    lookup::Lookups,
    map_cache::{Changed, MapCache, Stale},
    nonces::RisingNonces,
    notify::{Notifies, Way, signer},
    outbox::Outbox,
    probe::Probes,
    registration::{Context, Registrations},
    reply::{Arrival, Replies},
    request::{Reason, Requests},
    smr::Smrs,
};

/// An xTR: ITR and ETR of one node.
#[derive(Debug)]
pub struct Xtr {
    config: Config,
    database: Database,
    cache: MapCache,
    requests: Requests,
    lookups: Lookups,
    replies: Replies,
    smrs: Smrs,
    probes: Probes,
    registrations: Registrations,
    notifies: Notifies,
    nonces: RisingNonces,
    out: Outbox,
}

impl Xtr {
    /// A machine that serves nothing yet. `seed` is 32 bytes of good randomness: Map-Request nonces come from it.
    /// `first_nonce` is above every nonce ever used by this xTR: the larger of the last
    /// [`Event::NonceAdvanced`] and the wall clock in nanoseconds.
    pub fn new(config: Config, seed: [u8; 32], first_nonce: Nonce) -> Self {
        let mut out = Outbox::new(seed);
        let nonces = RisingNonces::new(first_nonce, &mut out);
        Self {
            config,
            database: Database::default(),
            cache: MapCache::default(),
            requests: Requests::default(),
            lookups: Lookups::default(),
            replies: Replies::default(),
            smrs: Smrs::default(),
            probes: Probes::default(),
            registrations: Registrations::default(),
            notifies: Notifies::default(),
            nonces,
            out,
        }
    }

    /// A datagram arrived from `from` at our address `to` (UDP port 4342).
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, to: IpAddr, bytes: &[u8]) {
        match Message::decode(bytes) {
            Ok(Message::MapRequest(request)) => self.map_request(now, from, to, false, &request),
            Ok(Message::MapReply(reply)) => self.map_reply(now, from, &reply),
            Ok(Message::MapNotify(notify)) => self.map_notify(now, from, to, &notify, bytes),
            Ok(Message::Ecm(ecm)) => self.encapsulated(now, to, &ecm),
            Ok(_) => self.out.counters.unexpected_message = self.out.counters.unexpected_message.saturating_add(1),
            Err(_) => self.out.counters.malformed = self.out.counters.malformed.saturating_add(1),
        }
    }

    /// The node asks for something.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Configure(config) => self.configure(now, config),
            Command::SetDatabase(list) => self.set_database(now, list),
            Command::Resolve { eid, source } => self.resolve(now, eid, source),
            Command::SolicitMapRequest { eid, to } => {
                if !self.database.serves(&eid) {
                    self.smrs
                        .solicit(now, &self.config, eid.host_prefix(), to, &mut self.out);
                }
            }
            Command::TrafficSent { rlocs } => {
                for rloc in rlocs {
                    self.smrs.sent_data(now, &self.config, rloc, &mut self.out);
                    self.probes
                        .sent_data(now, &self.config, &self.cache, rloc, &mut self.out);
                }
            }
            Command::MappingsUsed(used) => {
                for (prefix, hits) in used {
                    self.cache.used(now, &prefix, hits);
                }
            }
            Command::Lookup { id, eid, resolver } => {
                self.lookups.start(now, &self.config, id, eid, resolver, &mut self.out);
            }
            Command::Flush => {
                let changed = self.cache.flush(&mut self.out);
                self.follow(changed);
            }
            Command::Resync => {
                self.cache.repeat_all(&mut self.out);
                self.probes.repeat_all(&mut self.out);
                self.registrations.repeat_all(&mut self.out);
            }
        }
    }

    /// Time has come: to be called when the instant of [`Xtr::poll_timeout`] is reached; harmless at any other time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.register(now, &[], false, true);
        self.requests.tick(now, &self.config, &mut self.out);
        self.lookups.tick(now, &self.config, &mut self.out);
        self.smrs.tick(now, &self.config, &mut self.out);
        self.probes.tick(now, &self.config, &mut self.out);
        self.verify_doubts(now);
        let window = self.config.timers.refresh_window;
        let probes = &self.probes;
        let busy = |mapping: &lisp::Mapping| probes.is_busy(now, mapping, window);
        let (changed, stale) = self.cache.tick(now, &self.config, busy, &mut self.out);
        self.follow(changed);
        for (eid, why) in stale {
            let reason = match why {
                Stale::Expiring => Reason::Refresh,
                Stale::Doubtful => Reason::Verify,
            };
            self.requests.ask(now, &self.config, eid, None, reason, &mut self.out);
        }
    }

    /// When to call [`Xtr::handle_timeout`] next, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        [
            (self.registrations.next(), "register"),
            (self.requests.next(), "map-request"),
            (self.lookups.next(), "lookup"),
            (self.smrs.next(), "smr"),
            (self.probes.next(), "rloc-probe"),
            (self.cache.next(), "map-cache"),
        ]
        .into_iter()
        .filter_map(|(at, word)| at.map(|at| (at, word)))
        .min_by_key(|(at, _)| *at)
    }

    /// The next datagram to send. Drain [`Xtr::poll_event`] first.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// A picture of the machine.
    pub fn status(&self, now: Instant) -> Status {
        Status {
            registrations: self.registrations.status(now),
            database: self
                .database
                .table
                .iter()
                .map(|(prefix, mapping)| (*prefix, mapping.ttl))
                .collect(),
            map_cache: self.cache.status(now),
            pending: self.requests.status(),
            locators: self.probes.status(now, &self.config),
            counters: self.out.counters,
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> crate::Counters {
        self.out.counters
    }

    fn configure(&mut self, now: Instant, config: Config) {
        if config == self.config {
            return;
        }
        let locators = config.locators != self.config.locators;
        let names = config.xtr_id != self.config.xtr_id || config.site_id != self.config.site_id;
        self.config = config;
        self.register(now, &[], locators || names, false);
        if locators {
            self.probes.reconfigured(now, &self.config, &mut self.out);
            let own: Vec<EidPrefix> = self.database.table.iter().map(|(prefix, _)| *prefix).collect();
            for prefix in own {
                self.smrs.solicit_peers(now, &self.config, &prefix, &mut self.out);
            }
        }
    }

    fn set_database(&mut self, now: Instant, list: Vec<crate::DatabaseMapping>) {
        let change = self.database.set(now, list);
        for prefix in &change.put {
            let changed = self.cache.withdraw_inside(prefix, &mut self.out);
            self.follow(changed);
        }
        self.requests.cancel(|eid| self.database.serves(eid));
        self.register(now, &change.put, false, false);
        for prefix in &change.removed {
            self.smrs.solicit_peers_soon(now, &self.config, prefix, &mut self.out);
        }
        for prefix in change.put.iter().filter(|prefix| !change.new.contains(prefix)) {
            self.smrs.solicit_peers(now, &self.config, prefix, &mut self.out);
        }
    }

    fn register(&mut self, now: Instant, changed: &[EidPrefix], all: bool, tick: bool) {
        let mut cx = Context {
            now,
            config: &self.config,
            database: &self.database,
            nonces: &mut self.nonces,
            out: &mut self.out,
        };
        if tick {
            self.registrations.tick(&mut cx);
        } else {
            self.registrations.update(&mut cx, changed, all);
        }
    }

    fn resolve(&mut self, now: Instant, eid: Eid, source: Option<Eid>) {
        if self.database.serves(&eid) {
            self.out.counters.resolve_own = self.out.counters.resolve_own.saturating_add(1);
            return;
        }
        if let Some((prefix, entry)) = self.cache.longest_match(&eid) {
            // ACT 2: every packet that matches asks again.
            let ask = entry.mapping.is_negative() && entry.mapping.action == lisp::NegativeAction::SendMapRequest;
            self.out.counters.resolve_cached = self.out.counters.resolve_cached.saturating_add(1);
            self.cache.repeat(&prefix, &mut self.out);
            self.cache.used(now, &prefix, 0);
            if !ask {
                return;
            }
        }
        self.requests
            .ask(now, &self.config, eid, source, Reason::Miss, &mut self.out);
    }

    fn map_request(&mut self, now: Instant, from: SocketAddr, to: IpAddr, encapsulated: bool, request: &MapRequest) {
        if request.smr {
            let eid = self
                .smrs
                .receive(now, &self.config, &self.cache, request, encapsulated, &mut self.out);
            if let Some(eid) = eid {
                self.requests
                    .ask(now, &self.config, eid, None, Reason::Smr, &mut self.out);
            }
            return;
        }
        let ourselves = self.lookups.is_outstanding(request.nonce);
        let arrival = Arrival {
            from,
            to,
            encapsulated,
            ourselves,
        };
        self.replies
            .answer(now, &self.config, &self.database, arrival, request, &mut self.out);
        self.doubt_negative(now, request);
    }

    /// Somebody whom the map-cache says nobody can be reached as is asking for us: the mapping system is asked again.
    /// What the request itself says is not believed.
    fn doubt_negative(&mut self, now: Instant, request: &MapRequest) {
        let Some(source) = request.source_eid.to_eid() else {
            return;
        };
        let Some((_, entry)) = self.cache.longest_match(&source) else {
            return;
        };
        if entry.mapping.is_negative() && self.cache.may_doubt(now, &source) {
            self.out.counters.cache_negative_rechecked = self.out.counters.cache_negative_rechecked.saturating_add(1);
            self.requests
                .ask(now, &self.config, source, None, Reason::Verify, &mut self.out);
        }
    }

    /// A mapping whose locators do not answer is asked for again.
    fn verify_doubts(&mut self, now: Instant) {
        for eid in self.probes.take_doubts() {
            self.out.counters.cache_dead_verified = self.out.counters.cache_dead_verified.saturating_add(1);
            self.requests
                .ask(now, &self.config, eid, None, Reason::Verify, &mut self.out);
        }
    }

    fn map_reply(&mut self, now: Instant, from: SocketAddr, reply: &MapReply) {
        if reply.probe {
            let doubt = self.probes.answer(now, &self.config, &self.cache, reply, &mut self.out);
            if let Some(eid) = doubt {
                self.requests
                    .ask(now, &self.config, eid, None, Reason::Verify, &mut self.out);
            }
            return;
        }
        if self.lookups.is_outstanding(reply.nonce) {
            self.lookups.answer(now, from, reply, &mut self.out);
            return;
        }
        let Some(asked) = self.requests.asked(reply.nonce) else {
            self.out.counters.map_reply_unknown_nonce = self.out.counters.map_reply_unknown_nonce.saturating_add(1);
            return;
        };
        let Some(mappings) = accept(&self.config, &self.database.table, &asked, reply, &mut self.out) else {
            return;
        };
        self.out.counters.map_reply_accepted = self.out.counters.map_reply_accepted.saturating_add(1);
        let doubtful = self.database.served_lately(now, &asked);
        let changed = self
            .cache
            .accept(now, &self.config, asked, mappings, doubtful, &mut self.out);
        self.follow(changed);
        self.requests.done(now, &self.config, reply.nonce, &mut self.out);
    }

    fn map_notify(&mut self, now: Instant, from: SocketAddr, to: IpAddr, notify: &MapNotify, bytes: &[u8]) {
        let Some(peer) = signer(&self.config, from, notify, bytes) else {
            self.out.counters.map_notify_bad_authentication =
                self.out.counters.map_notify_bad_authentication.saturating_add(1);
            return;
        };
        match self.registrations.asked(notify.nonce) {
            Some(server) => {
                let signed_by_server =
                    self.config.map_servers.iter().any(|other| {
                        other.address == server && other.key_id == peer.key_id && other.secret == peer.secret
                    });
                if !signed_by_server {
                    self.out.counters.map_notify_wrong_server =
                        self.out.counters.map_notify_wrong_server.saturating_add(1);
                    return;
                }
                self.out.counters.map_notify_accepted = self.out.counters.map_notify_accepted.saturating_add(1);
                let mut cx = Context {
                    now,
                    config: &self.config,
                    database: &self.database,
                    nonces: &mut self.nonces,
                    out: &mut self.out,
                };
                self.registrations.acknowledged(&mut cx, notify);
            }
            None => {
                let peer = peer.clone();
                let way = Way { from, to };
                let moved = self
                    .notifies
                    .unsolicited(&self.config, &self.database, &peer, way, notify, &mut self.out);
                for prefix in moved {
                    self.smrs.solicit_peers(now, &self.config, &prefix, &mut self.out);
                }
            }
        }
    }

    /// Only Map-Requests come encapsulated to an xTR; one envelope, not two.
    fn encapsulated(&mut self, now: Instant, to: IpAddr, ecm: &Ecm) {
        match Message::decode(&ecm.payload) {
            Ok(Message::MapRequest(request)) => self.map_request(now, ecm.source, to, true, &request),
            Ok(_) => self.out.counters.unexpected_message = self.out.counters.unexpected_message.saturating_add(1),
            Err(_) => self.out.counters.malformed = self.out.counters.malformed.saturating_add(1),
        }
    }

    /// The locator table follows the map-cache: first what entered, then what left, so that a locator that stays
    /// keeps its history.
    fn follow(&mut self, changed: Changed) {
        for mapping in &changed.installed {
            self.probes.add(&self.config, mapping, &mut self.out);
        }
        for mapping in &changed.gone {
            let still = |rloc: &lisp::Rloc| {
                self.cache
                    .get(&mapping.prefix)
                    .is_some_and(|known| known.locators.iter().any(|locator| locator.rloc == *rloc))
            };
            self.probes.forget(mapping, still, &mut self.out);
        }
    }
}
