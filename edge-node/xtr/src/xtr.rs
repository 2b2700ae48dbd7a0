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
    notify::{Notifies, Way, signer},
    outbox::Outbox,
    probe::Probes,
    registration::{Context, Registrations},
    reply::{Arrival, Replies},
    request::{Ground, Reason, Requests},
    sealed::{Refusal, Sealed},
    smr::Smrs,
};

/// An xTR: ITR and ETR of one node.
#[derive(Debug)]
pub struct Xtr {
    pub(crate) config: Config,
    pub(crate) database: Database,
    pub(crate) cache: MapCache,
    pub(crate) requests: Requests,
    lookups: Lookups,
    pub(crate) replies: Replies,
    smrs: Smrs,
    pub(crate) probes: Probes,
    registrations: Registrations,
    notifies: Notifies,
    pub(crate) sealed: Sealed,
    pub(crate) out: Outbox,
}

impl Xtr {
    /// A machine that serves nothing yet. `seed` is 32 bytes of good randomness: Map-Request nonces come from it.
    /// `first_nonce` is above every nonce ever used by this xTR: the larger of the last
    /// [`Event::NonceAdvanced`] and the wall clock in nanoseconds.
    pub fn new(config: Config, seed: [u8; 32], first_nonce: Nonce) -> Self {
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
            sealed: Sealed::default(),
            out: Outbox::new(seed, first_nonce),
        }
    }

    /// A datagram arrived from `from` at our address `to` (UDP port 4342).
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, to: IpAddr, bytes: &[u8]) {
        match Message::decode(bytes) {
            Ok(Message::MapRequest(request)) => self.map_request(now, (from, to, false), &request, bytes),
            Ok(Message::MapReply(reply)) => self.map_reply(now, from, &reply, bytes),
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
            Command::SolicitMapRequest { eid, to, node } => {
                if self.database.serves(&eid) {
                    return;
                }
                match node {
                    Some(node) => self.sealed.unserved(now, node, eid, &mut self.out),
                    None => {
                        let prefix = eid.host_prefix();
                        self.smrs.solicit(now, &self.config, prefix, to, &mut self.out);
                    }
                }
            }
            Command::TrafficSent { rlocs } => {
                for rloc in rlocs {
                    self.smrs.sent_data(now, &self.config, rloc, &mut self.out);
                    self.probes
                        .sent_data(now, &self.config, &self.cache, rloc, &self.sealed, &mut self.out);
                }
            }
            Command::MappingsUsed(used) => {
                for (prefix, hits) in used {
                    self.cache.used(now, &prefix, hits);
                }
            }
            Command::Lookup { id, eid, resolver } => {
                self.with_lookups(now, |lookups, ground| lookups.start(ground, id, eid, resolver));
            }
            Command::Clock(unix) => {
                self.sealed.tell_time(now, unix);
                self.register(now, &[], false, false);
            }
            Command::RememberEpochs(epochs) => {
                for (prefix, epoch, node) in epochs {
                    self.sealed.remember(prefix, epoch, node);
                }
            }
            Command::AdoptSas(adopted) => self.sealed.adopt(now, &self.config, &adopted),
            Command::SasLost => {
                for (node, eid) in self.sealed.lost() {
                    self.exchange(now, node, eid, None);
                }
            }
            Command::SaMissing { node, eid, source } => {
                self.out.count(|counters| &mut counters.sa_missed);
                self.exchange(now, node, Some(eid), source);
            }
            Command::UnboundSource { node, source } => self.sealed.unbound(now, node, source, &mut self.out),
            Command::SaConfirmed(index) => self.sa_confirmed(now, index),
            Command::SasUsed(used) => {
                for (index, sealed, bytes) in used {
                    self.sealed.used(now, &self.config, index, sealed, bytes);
                }
            }
            Command::SealedProbeAnswered(nonce) => {
                self.probes.answer_sealed(now, &self.config, nonce, &mut self.out);
            }
            Command::SealedMessage { node, payload } => self.sealed_message(now, node, &payload),
            Command::Flush => {
                let changed = self.cache.flush(&mut self.out);
                self.follow(changed);
            }
            Command::Resync => {
                self.cache.repeat_all(&mut self.out);
                self.probes.repeat_all(&mut self.out);
                self.registrations.repeat_all(&mut self.out);
                self.sealed.repeat_all(&mut self.out);
            }
        }
    }

    /// Time has come: to be called when the instant of [`Xtr::poll_timeout`] is reached; harmless at any other time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.register(now, &[], false, true);
        self.with_requests(now, Requests::tick);
        self.with_lookups(now, Lookups::tick);
        self.smrs.tick(now, &self.config, &mut self.out);
        self.replace_associations(now);
        self.probes.tick(now, &self.config, &self.sealed, &mut self.out);
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
            self.ask(now, eid, None, reason);
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
            (self.sealed.next(), "sealed-mesh"),
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
            associations: self.sealed.associations(now),
            bindings: self.sealed.bindings(),
            refusals: self.sealed.refusals(now),
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
        self.sealed.own_prefixes(
            now,
            &self.config,
            &self.database,
            &change.put,
            &change.removed,
            &mut self.out,
        );
        for prefix in &change.put {
            let bound = self
                .database
                .table
                .get(prefix)
                .is_some_and(|mapping| self.config.may_announce(mapping));
            if !bound {
                let (eid, reason) = (prefix.first_eid(), Refusal::NoOwnBinding);
                self.sealed.refused(now, eid, "ours", None, reason, &mut self.out);
            }
        }
        let in_clear = |prefix: &&EidPrefix| !self.config.is_sealed(prefix.instance_id());
        for prefix in change.removed.iter().filter(in_clear) {
            self.smrs.solicit_peers_soon(now, &self.config, prefix, &mut self.out);
        }
        for prefix in change
            .put
            .iter()
            .filter(in_clear)
            .filter(|prefix| !change.new.contains(prefix))
        {
            self.smrs.solicit_peers(now, &self.config, prefix, &mut self.out);
        }
    }

    fn register(&mut self, now: Instant, changed: &[EidPrefix], all: bool, tick: bool) {
        let mut cx = Context {
            now,
            config: &self.config,
            database: &self.database,
            out: &mut self.out,
        };
        if tick {
            self.registrations.tick(&mut cx);
        } else {
            self.registrations.update(&mut cx, changed, all);
        }
    }

    /// Asks for `eid`, through the mapping system.
    pub(crate) fn ask(&mut self, now: Instant, eid: Eid, source: Option<Eid>, reason: Reason) {
        self.with_requests(now, |requests, ground| requests.ask(ground, eid, source, reason, None));
    }

    fn with_lookups(&mut self, now: Instant, work: impl FnOnce(&mut Lookups, &mut Ground<'_>)) {
        let mut ground = Ground {
            now,
            config: &self.config,
            database: &self.database,
            sealed: &mut self.sealed,
            out: &mut self.out,
        };
        work(&mut self.lookups, &mut ground);
    }

    /// Lets the Map-Requests under way do something that needs the rest of the machine.
    pub(crate) fn with_requests(&mut self, now: Instant, work: impl FnOnce(&mut Requests, &mut Ground<'_>)) {
        let mut ground = Ground {
            now,
            config: &self.config,
            database: &self.database,
            sealed: &mut self.sealed,
            out: &mut self.out,
        };
        work(&mut self.requests, &mut ground);
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
        self.ask(now, eid, source, Reason::Miss);
    }

    fn map_request(
        &mut self,
        now: Instant,
        (from, to, encapsulated): (SocketAddr, IpAddr, bool),
        request: &MapRequest,
        bytes: &[u8],
    ) {
        if request.smr {
            let eid = self
                .smrs
                .receive(now, &self.config, &self.cache, request, encapsulated, &mut self.out);
            if let Some(eid) = eid {
                self.ask(now, eid, None, Reason::Smr);
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
        let first = request.records.first().and_then(|record| record.prefix().ok());
        let is_sealed = first.is_some_and(|prefix| self.config.is_sealed(prefix.instance_id()));
        if is_sealed && !ourselves {
            self.sealed_request(now, arrival, request, bytes);
            return;
        }
        self.replies
            .answer(now, &self.config, &self.database, arrival, request, &mut self.out);
        self.doubt_negative(now, request);
    }

    /// Somebody whom the map-cache says nobody can be reached as is asking for us: the mapping system is asked again.
    /// What the request itself says is not believed.
    pub(crate) fn doubt_negative(&mut self, now: Instant, request: &MapRequest) {
        let Some(source) = request.source_eid.to_eid() else {
            return;
        };
        let Some((_, entry)) = self.cache.longest_match(&source) else {
            return;
        };
        if entry.mapping.is_negative() && self.cache.may_doubt(now, &source) {
            self.out.counters.cache_negative_rechecked = self.out.counters.cache_negative_rechecked.saturating_add(1);
            self.ask(now, source, None, Reason::Verify);
        }
    }

    /// A mapping whose locators do not answer is asked for again.
    fn verify_doubts(&mut self, now: Instant) {
        for eid in self.probes.take_doubts() {
            self.out.counters.cache_dead_verified = self.out.counters.cache_dead_verified.saturating_add(1);
            self.ask(now, eid, None, Reason::Verify);
        }
    }

    fn map_reply(&mut self, now: Instant, from: SocketAddr, reply: &MapReply, bytes: &[u8]) {
        let asked = self.requests.asked(reply.nonce);
        if let Some(asked) = asked.filter(|eid| self.config.is_sealed(eid.instance_id)) {
            self.sealed_reply(now, asked, reply, bytes);
            return;
        }
        if reply.probe {
            let doubt = self.probes.answer(now, &self.config, &self.cache, reply, &mut self.out);
            if let Some(eid) = doubt {
                self.ask(now, eid, None, Reason::Verify);
            }
            return;
        }
        if self.lookups.is_outstanding(reply.nonce) {
            self.with_lookups(now, |lookups, ground| lookups.answer(ground, from, reply, bytes));
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
            .accept(now, &self.config, asked, mappings, None, doubtful, &mut self.out);
        self.follow(changed);
        self.with_requests(now, |requests, ground| requests.done(ground, reply.nonce));
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
            Ok(Message::MapRequest(request)) => self.map_request(now, (ecm.source, to, true), &request, &ecm.payload),
            Ok(_) => self.out.counters.unexpected_message = self.out.counters.unexpected_message.saturating_add(1),
            Err(_) => self.out.counters.malformed = self.out.counters.malformed.saturating_add(1),
        }
    }

    /// The locator table follows the map-cache: first what entered, then what left, so that a locator that stays
    /// keeps its history.
    pub(crate) fn follow(&mut self, changed: Changed) {
        for mapping in &changed.installed {
            let node = self.cache.node(&mapping.prefix);
            self.probes.add(&self.config, mapping, node, &mut self.out);
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
