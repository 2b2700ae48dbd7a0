//! Map-Requests under way through the mapping system (RFC 9301 §5.3): one nonce each, repeated with growing waits,
//! given up after ten, then a pause. Bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use lisp::{Eid, Nonce, Rloc};

use crate::{
    Config, Event, MapServerPeer, PendingStatus, compose,
    database::Database,
    deadlines::Deadlines,
    outbox::Outbox,
    sealed::{Offered, Sealed},
};

/// Transmissions of a Map-Request straight to a locator before the mapping system is asked instead.
const DIRECT_TRIES: u32 = 2;
/// How long a signed answer is still taken after a negative one, which nobody signs, came first.
const NEGATIVE_SETTLES: Duration = Duration::from_secs(5);

/// Why the mapping system is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The dataplane missed.
    Miss,
    /// The entry is in use and about to expire.
    Refresh,
    /// Somebody solicited it (§6.1): the Map-Request carries the s-bit.
    Smr,
    /// A negative entry that is doubted, or a probe reply that differs.
    Verify,
    /// The mesh SA is to be replaced, or is missing.
    Rekey,
}

impl Reason {
    const fn word(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Refresh => "refresh",
            Self::Smr => "solicited",
            Self::Verify => "verify",
            Self::Rekey => "rekey",
        }
    }
}

/// One Map-Request under way.
#[derive(Debug)]
struct Pending {
    source: Option<Eid>,
    reason: Reason,
    nonce: Nonce,
    tries: u32,
    sent: Option<Instant>,
    wait: Duration,
    paused: bool,
    /// Solicited again while under way: the answer may be of before, so ask once more after it.
    again: bool,
    /// In a sealed network: what was offered. Every transmission is the same to the byte.
    offered: Option<Offered>,
    /// Straight to this locator.
    direct: Option<Rloc>,
    /// Answered by a negative reply in a sealed network: not repeated, but a signed answer is still taken.
    settled: bool,
}

/// What asking needs of the rest of the machine.
pub(crate) struct Ground<'a> {
    pub(crate) now: Instant,
    pub(crate) config: &'a Config,
    pub(crate) database: &'a Database,
    pub(crate) sealed: &'a mut Sealed,
    pub(crate) out: &'a mut Outbox,
}

/// All Map-Requests under way.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    by_eid: BTreeMap<Eid, Pending>,
    by_nonce: BTreeMap<Nonce, Eid>,
    due: Deadlines<Eid>,
    /// When an answered EID was last asked for: the rate limit outlives the request.
    answered: BTreeMap<Eid, Instant>,
    answered_by_age: BTreeSet<(Instant, Eid)>,
    /// Index of the Map-Resolver that answered last.
    preferred: usize,
}

impl Requests {
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.next()
    }

    /// Asks for `eid` unless that is under way, paused, or too much is; the ETR at `direct` itself, when there is one.
    pub(crate) fn ask(
        &mut self,
        ground: &mut Ground<'_>,
        eid: Eid,
        source: Option<Eid>,
        reason: Reason,
        direct: Option<Rloc>,
    ) {
        let (now, config) = (ground.now, ground.config);
        if self.by_eid.get(&eid).is_some_and(|pending| pending.settled) {
            self.forget(&eid);
        }
        let out = &mut *ground.out;
        if let Some(pending) = self.by_eid.get_mut(&eid) {
            out.counters.resolve_pending = out.counters.resolve_pending.saturating_add(1);
            pending.again |= reason == Reason::Smr && !pending.paused;
            return;
        }
        if direct.is_none() && !config.map_servers.iter().any(|peer| config.speaks(peer.address.ip())) {
            out.counters.resolve_nobody_to_ask = out.counters.resolve_nobody_to_ask.saturating_add(1);
            return;
        }
        let of_instance = self.of_instance(eid);
        if self.by_eid.len() >= config.limits.pending_requests || of_instance >= config.limits.pending_per_instance {
            out.counters.resolve_full = out.counters.resolve_full.saturating_add(1);
            return;
        }
        self.forget_answered(now, config);
        let earliest = self
            .answered
            .get(&eid)
            .map_or(now, |sent| *sent + config.timers.request_interval);
        if earliest > now {
            out.counters.map_request_rate_limited = out.counters.map_request_rate_limited.saturating_add(1);
        }
        let nonce = out.random_nonce();
        let wait = config.timers.request_timeout.max(config.timers.request_interval);
        let pending = Pending {
            source,
            reason,
            nonce,
            tries: 0,
            sent: None,
            wait,
            paused: false,
            again: false,
            offered: None,
            direct,
            settled: false,
        };
        self.by_eid.insert(eid, pending);
        self.by_nonce.insert(nonce, eid);
        self.due.set(eid, earliest);
        if earliest <= now {
            self.tick(ground);
        }
    }

    /// What was offered under `nonce`.
    pub(crate) fn offered(&self, nonce: Nonce) -> Option<&Offered> {
        self.by_eid.get(self.by_nonce.get(&nonce)?)?.offered.as_ref()
    }

    /// A negative answer came in a sealed network: no more repetitions, but nonce and offer stay for a signed one.
    pub(crate) fn negative(&mut self, now: Instant, nonce: Nonce) {
        let Some(eid) = self.by_nonce.get(&nonce).copied() else {
            return;
        };
        if let Some(pending) = self.by_eid.get_mut(&eid) {
            pending.settled = true;
            self.due.set(eid, now + NEGATIVE_SETTLES);
        }
    }

    fn forget(&mut self, eid: &Eid) {
        if let Some(pending) = self.by_eid.remove(eid) {
            self.by_nonce.remove(&pending.nonce);
        }
        self.due.remove(eid);
    }

    /// Whether `nonce` is outstanding, and for whom.
    pub(crate) fn asked(&self, nonce: Nonce) -> Option<Eid> {
        self.by_nonce.get(&nonce).copied()
    }

    /// An acceptable answer came: the nonce is used up.
    pub(crate) fn done(&mut self, ground: &mut Ground<'_>, nonce: Nonce) {
        let (now, config) = (ground.now, ground.config);
        let Some(eid) = self.by_nonce.remove(&nonce) else {
            return;
        };
        let Some(pending) = self.by_eid.remove(&eid) else {
            return;
        };
        self.due.remove(&eid);
        self.forget_answered(now, config);
        if let Some(sent) = pending.sent
            && self.answered.len() < config.limits.pending_requests.saturating_mul(4)
        {
            if let Some(old) = self.answered.insert(eid, sent) {
                self.answered_by_age.remove(&(old, eid));
            }
            self.answered_by_age.insert((sent, eid));
        }
        if pending.again {
            self.ask(ground, eid, pending.source, Reason::Smr, None);
        }
    }

    /// Nobody needs this EID resolved any more: this node serves it.
    pub(crate) fn cancel(&mut self, mut served: impl FnMut(&Eid) -> bool) {
        let gone: Vec<Eid> = self.by_eid.keys().copied().filter(|eid| served(eid)).collect();
        for eid in gone {
            self.forget(&eid);
        }
    }

    /// Sends what is due, gives up what was tried often enough.
    pub(crate) fn tick(&mut self, ground: &mut Ground<'_>) {
        let (now, config) = (ground.now, ground.config);
        while let Some(eid) = self.due.pop(now) {
            let out = &mut *ground.out;
            let Some(pending) = self.by_eid.get_mut(&eid) else {
                continue;
            };
            if pending.paused || pending.settled {
                self.forget(&eid);
                continue;
            }
            if pending.direct.is_some() && pending.tries >= DIRECT_TRIES {
                // Whoever was there does not answer: the mapping system may know better.
                (pending.direct, pending.offered, pending.tries) = (None, None, 0);
            }
            if pending.tries >= config.timers.request_tries {
                // §5.3: after 10 retransmits the sender MUST wait 30 seconds.
                pending.paused = true;
                let until = now + config.timers.request_pause;
                self.by_nonce.remove(&pending.nonce);
                self.due.set(eid, until);
                out.counters.map_request_given_up = out.counters.map_request_given_up.saturating_add(1);
                out.event(Event::ResolveFailed { eid, until });
                continue;
            }
            if pending.tries > 0 {
                self.preferred = self.preferred.wrapping_add(1);
                out.counters.map_request_repeated = out.counters.map_request_repeated.saturating_add(1);
            }
            pending.send(eid, resolver(config, self.preferred), ground);
            let out = &mut *ground.out;
            pending.tries = pending.tries.saturating_add(1);
            pending.sent = Some(now);
            let wait = out.later(pending.wait, 10);
            pending.wait = pending
                .wait
                .saturating_mul(2)
                .min(config.timers.request_timeout_max)
                .max(pending.wait);
            self.due.set(eid, now + wait);
        }
    }

    pub(crate) fn status(&self) -> Vec<PendingStatus> {
        let asking = self.by_eid.iter().filter(|(_, pending)| !pending.settled);
        asking
            .map(|(eid, pending)| PendingStatus {
                eid: *eid,
                reason: pending.reason.word(),
                tries: pending.tries,
                paused: pending.paused,
            })
            .collect()
    }

    fn of_instance(&self, eid: Eid) -> usize {
        let first = Eid::new(eid.instance_id, std::net::Ipv4Addr::UNSPECIFIED.into());
        self.by_eid
            .range(first..)
            .take_while(|(other, _)| other.instance_id == eid.instance_id)
            .count()
    }

    fn forget_answered(&mut self, now: Instant, config: &Config) {
        while let Some((sent, eid)) = self.answered_by_age.first().copied() {
            if now.saturating_duration_since(sent) < config.timers.request_interval {
                break;
            }
            self.answered_by_age.remove(&(sent, eid));
            self.answered.remove(&eid);
        }
    }
}

impl Pending {
    /// Sends it: straight to a locator, or to `resolver`.
    fn send(&mut self, eid: Eid, resolver: Option<&MapServerPeer>, ground: &mut Ground<'_>) {
        let config = ground.config;
        let smr_invoked = self.reason == Reason::Smr;
        let request = if config.mesh.networks.contains_key(&eid.instance_id) {
            if self.offered.is_none() {
                let (now, database, direct) = (ground.now, ground.database, self.direct.is_some());
                let how = (direct, smr_invoked);
                let offered = ground
                    .sealed
                    .offer(now, config, database, eid, self.source, self.nonce, how, ground.out);
                self.offered = offered.ok();
            }
            // Nothing goes out in clear instead.
            let Some(offered) = &self.offered else { return };
            offered.bytes.clone()
        } else {
            compose::map_request(config, self.nonce, self.source, eid, smr_invoked)
        };
        let (to, payload) = match (self.direct, resolver) {
            (Some(rloc), _) => (rloc.control_address(), request),
            (None, Some(resolver)) => {
                let payload = compose::through_mapping_system(config, request, self.source, eid);
                (resolver.address, payload)
            }
            (None, None) => return,
        };
        ground.out.count(|counters| &mut counters.map_request_sent);
        ground.out.send(None, to, payload);
    }
}

/// The Map-Resolver number `turn`, of those that this node has an address family for.
pub(crate) fn resolver(config: &Config, turn: usize) -> Option<&MapServerPeer> {
    let usable = || {
        config
            .map_servers
            .iter()
            .filter(|peer| config.speaks(peer.address.ip()))
    };
    let count = usable().count();
    usable().nth(turn.checked_rem(count)?)
}
