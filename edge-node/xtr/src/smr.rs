//! Solicit-Map-Request (RFC 9301 §6.1): telling those who sent to us, or whom we sent to, to ask again; and asking
//! again when told to.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use lisp::wire::MapRequest;
use lisp::{Eid, EidPrefix, Rloc};

use crate::{Config, compose, deadlines::Deadlines, map_cache::MapCache, outbox::Outbox};

/// SMRs waiting for their RLOC's turn.
#[derive(Debug, Default)]
struct Queue {
    /// What changed, and when it may be told at the earliest; in that order.
    waiting: VecDeque<(Instant, EidPrefix)>,
    /// When the rate has forgotten everything sent so far: a leaky bucket, told as one instant.
    drained: Option<Instant>,
}

impl Queue {
    /// When the next SMR may go out, as far as the rate goes.
    fn allowed(&self, config: &Config) -> Option<Instant> {
        let burst = config.limits.smr_burst.saturating_sub(1);
        let slack = config.timers.smr_interval.saturating_mul(burst);
        self.drained.and_then(|drained| drained.checked_sub(slack))
    }

    /// When there is something to do for this queue.
    fn due(&self, now: Instant, config: &Config) -> Option<Instant> {
        match self.waiting.front() {
            Some((earliest, _)) => Some(
                self.allowed(config)
                    .map_or(*earliest, |allowed| allowed.max(*earliest))
                    .max(now),
            ),
            None => self.drained,
        }
    }
}

/// Both halves of the procedure.
#[derive(Debug, Default)]
pub(crate) struct Smrs {
    /// RLOCs that data was sent to, and when last.
    peers: BTreeMap<Rloc, Instant>,
    peers_by_age: BTreeSet<(Instant, Rloc)>,
    queues: BTreeMap<Rloc, Queue>,
    due: Deadlines<Rloc>,
    /// Cached prefixes that an SMR was obeyed for, and when.
    obeyed: BTreeMap<EidPrefix, Instant>,
}

impl Smrs {
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.next()
    }

    /// Data was sent to `rloc`.
    pub(crate) fn sent_data(&mut self, now: Instant, config: &Config, rloc: Rloc, out: &mut Outbox) {
        while let Some((at, old)) = self.peers_by_age.first().copied() {
            if now.saturating_duration_since(at) <= config.timers.smr_peer_window {
                break;
            }
            self.peers_by_age.remove(&(at, old));
            self.peers.remove(&old);
        }
        if !self.peers.contains_key(&rloc) && self.peers.len() >= config.limits.peers {
            out.counters.peers_full = out.counters.peers_full.saturating_add(1);
            return;
        }
        if let Some(old) = self.peers.insert(rloc, now) {
            self.peers_by_age.remove(&(old, rloc));
        }
        self.peers_by_age.insert((now, rloc));
    }

    /// `changed` is not what it was: tell everyone whom data was sent to within the last minute.
    pub(crate) fn solicit_peers(&mut self, now: Instant, config: &Config, changed: &EidPrefix, out: &mut Outbox) {
        self.solicit_recent(now, now, config, changed, out);
    }

    /// `gone` is no longer here: tell the same, but not at once. A prefix that moves is registered at its new place a
    /// moment later; who asks before that is told "nowhere", and may not ask again for a second (§5.3).
    pub(crate) fn solicit_peers_soon(&mut self, now: Instant, config: &Config, gone: &EidPrefix, out: &mut Outbox) {
        self.solicit_recent(now, now + config.timers.smr_withdrawal_delay, config, gone, out);
    }

    fn solicit_recent(&mut self, now: Instant, at: Instant, config: &Config, changed: &EidPrefix, out: &mut Outbox) {
        let recent: Vec<Rloc> = self
            .peers
            .iter()
            .filter(|(_, sent)| now.saturating_duration_since(**sent) <= config.timers.smr_peer_window)
            .map(|(rloc, _)| *rloc)
            .collect();
        for rloc in recent {
            self.enqueue(now, at, config, *changed, rloc, out);
        }
    }

    /// Tells `to` that `changed` is not what it was, at once or when the rate allows.
    pub(crate) fn solicit(&mut self, now: Instant, config: &Config, changed: EidPrefix, to: Rloc, out: &mut Outbox) {
        self.enqueue(now, now, config, changed, to, out);
    }

    fn enqueue(&mut self, now: Instant, at: Instant, config: &Config, changed: EidPrefix, to: Rloc, out: &mut Outbox) {
        if !to.is_usable() || !config.speaks(to.address) || config.is_own(to.address) {
            return;
        }
        let known = self.queues.contains_key(&to);
        if !known && self.queues.len() >= config.limits.peers {
            out.counters.smr_queue_full = out.counters.smr_queue_full.saturating_add(1);
            return;
        }
        let queue = self.queues.entry(to).or_default();
        if queue.waiting.iter().any(|(_, waiting)| waiting.covers(&changed)) {
            return;
        }
        if queue.waiting.len() >= config.limits.smr_queue_per_rloc {
            out.counters.smr_queue_full = out.counters.smr_queue_full.saturating_add(1);
            return;
        }
        let place = queue.waiting.partition_point(|(earliest, _)| *earliest <= at);
        queue.waiting.insert(place, (at, changed));
        if let Some(due) = queue.due(now, config) {
            self.due.set(to, due);
        }
        self.tick(now, config, out);
    }

    /// Sends what is due, one SMR for each RLOC.
    pub(crate) fn tick(&mut self, now: Instant, config: &Config, out: &mut Outbox) {
        while let Some(rloc) = self.due.pop(now) {
            let Some(queue) = self.queues.get_mut(&rloc) else {
                continue;
            };
            let allowed = queue.allowed(config).is_none_or(|allowed| allowed <= now);
            if allowed && queue.waiting.front().is_some_and(|(earliest, _)| *earliest <= now) {
                let Some((_, changed)) = queue.waiting.pop_front() else {
                    continue;
                };
                let payload = compose::smr(config, out.random_nonce(), &changed);
                out.counters.smr_sent = out.counters.smr_sent.saturating_add(1);
                out.send(None, rloc.control_address(), payload);
                let drained = queue.drained.map_or(now, |drained| drained.max(now));
                queue.drained = Some(drained + config.timers.smr_interval);
            }
            match queue.due(now, config) {
                Some(due) if due > now || !queue.waiting.is_empty() => self.due.set(rloc, due),
                _ => {
                    self.queues.remove(&rloc);
                }
            }
        }
    }

    /// Somebody solicits. The EID to ask the mapping system for, if it is cached and was not asked for just now.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        config: &Config,
        cache: &MapCache,
        request: &MapRequest,
        encapsulated: bool,
        out: &mut Outbox,
    ) -> Option<Eid> {
        let counters = &mut out.counters;
        if encapsulated {
            counters.smr_encapsulated = counters.smr_encapsulated.saturating_add(1);
            return None;
        }
        // The Source-EID is what changed; some senders name it in the record instead.
        let named = request
            .records
            .iter()
            .filter_map(|record| record.prefix().ok())
            .map(|p| compose::first_eid(&p));
        let found = request
            .source_eid
            .to_eid()
            .into_iter()
            .chain(named)
            .find_map(|eid| cache.longest_match(&eid).map(|(prefix, _)| (eid, prefix)));
        let Some((eid, prefix)) = found else {
            counters.smr_not_cached = counters.smr_not_cached.saturating_add(1);
            return None;
        };
        self.obeyed
            .retain(|_, at| now.saturating_duration_since(*at) < config.timers.smr_interval);
        if self.obeyed.contains_key(&prefix) || self.obeyed.len() >= config.limits.pending_requests {
            counters.smr_rate_limited = counters.smr_rate_limited.saturating_add(1);
            return None;
        }
        self.obeyed.insert(prefix, now);
        counters.smr_obeyed = counters.smr_obeyed.saturating_add(1);
        Some(eid)
    }
}
