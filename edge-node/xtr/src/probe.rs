//! RLOC-probing (RFC 9301 §7.1): which locators of the map-cache answer, and how fast. A locator is up only when a
//! packet came back. Probe replies prove liveness and nothing else: what they say about mappings is at most a reason
//! to ask the mapping system.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use lisp::mesh::KeyId;
use lisp::wire::MapReply;
use lisp::{Eid, EidPrefix, Mapping, Nonce, Rloc};

use crate::{
    Config, Event, LocatorStatus, Reachability, compose, deadlines::Deadlines, map_cache::MapCache, outbox::Outbox,
    sealed::Sealed,
};

/// Nonces that are remembered for one locator: answers may be late.
const OUTSTANDING: usize = 4;
/// Longest wait for one answer, however long the round trip.
const TIMEOUT_MAX: Duration = Duration::from_secs(3);
/// Mappings through which use of a locator counts as interest in its siblings.
const SIBLING_MAPPINGS: usize = 16;
/// A mapping system that disagrees with an ETR is asked no more often than this for one locator.
const DIFFERS_INTERVAL: Duration = Duration::from_secs(30);

/// What is known of one locator.
#[derive(Debug)]
struct Probed {
    /// Cached prefixes that it stands in.
    prefixes: BTreeSet<EidPrefix>,
    /// Those of them in sealed networks, with the node that speaks for them: it is probed inside its mesh SA.
    nodes: BTreeMap<EidPrefix, KeyId>,
    /// The one that the last probe asked for; the next asks for the next, so that one stale prefix does not make the
    /// locator look dead.
    asked: Option<EidPrefix>,
    state: Reachability,
    /// Data was sent to it.
    sent_data: Option<Instant>,
    /// Data was sent to it or to another locator of one of its mappings.
    wanted: Option<Instant>,
    heard: Option<Instant>,
    rtt: Option<Duration>,
    misses: u32,
    outstanding: VecDeque<Nonce>,
    /// The last probe, and how much of an interval (in percent) the next comes earlier.
    probed: Option<(Instant, u32)>,
    /// The last probe is unanswered and counts as missed then.
    answer_due: Option<Instant>,
    /// Interval of probes while down.
    down_wait: Duration,
    /// When the mapping system was last asked because the ETR said otherwise.
    differed: Option<Instant>,
}

/// All locators of the map-cache.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    locators: BTreeMap<Rloc, Probed>,
    by_nonce: BTreeMap<Nonce, (Rloc, Instant)>,
    due: Deadlines<Rloc>,
    /// EIDs whose mapping leads to a dead locator: the mapping system may know better.
    doubts: BTreeSet<Eid>,
}

impl Probes {
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.next()
    }

    /// A mapping entered the map-cache; in a sealed network `node` speaks for it.
    pub(crate) fn add(&mut self, config: &Config, mapping: &Mapping, node: Option<KeyId>, out: &mut Outbox) {
        for locator in &mapping.locators {
            let probed = self.locators.entry(locator.rloc).or_insert_with(|| Probed::new(config));
            probed.prefixes.insert(mapping.prefix);
            match node {
                Some(node) => probed.nodes.insert(mapping.prefix, node),
                None => probed.nodes.remove(&mapping.prefix),
            };
            probed.follow_uplinks(config, locator.rloc, out);
        }
    }

    /// A mapping left the map-cache or was replaced; `still` tells whether the prefix has this locator all the same.
    pub(crate) fn forget(&mut self, mapping: &Mapping, still: impl Fn(&Rloc) -> bool, out: &mut Outbox) {
        for locator in &mapping.locators {
            let rloc = locator.rloc;
            if still(&rloc) {
                continue;
            }
            let Some(probed) = self.locators.get_mut(&rloc) else {
                continue;
            };
            probed.prefixes.remove(&mapping.prefix);
            probed.nodes.remove(&mapping.prefix);
            if !probed.prefixes.is_empty() {
                continue;
            }
            for nonce in &probed.outstanding {
                self.by_nonce.remove(nonce);
            }
            if matches!(probed.state, Reachability::Down | Reachability::NoUplink) {
                // Whoever learns it again starts without prejudice.
                out.event(Event::LocatorState {
                    rloc,
                    reachable: true,
                    rtt: None,
                });
            }
            self.locators.remove(&rloc);
            self.due.remove(&rloc);
        }
    }

    /// The node's own locators changed: which families it speaks.
    pub(crate) fn reconfigured(&mut self, now: Instant, config: &Config, out: &mut Outbox) {
        let all: Vec<Rloc> = self.locators.keys().copied().collect();
        for rloc in all {
            if let Some(probed) = self.locators.get_mut(&rloc) {
                probed.follow_uplinks(config, rloc, out);
            }
            self.plan(now, config, rloc);
        }
    }

    /// Data was sent to `rloc`.
    pub(crate) fn sent_data(
        &mut self,
        now: Instant,
        config: &Config,
        cache: &MapCache,
        rloc: Rloc,
        sealed: &Sealed,
        out: &mut Outbox,
    ) {
        let Some(probed) = self.locators.get_mut(&rloc) else {
            return;
        };
        probed.sent_data = Some(now);
        let siblings: BTreeSet<Rloc> = probed
            .prefixes
            .iter()
            .take(SIBLING_MAPPINGS)
            .filter_map(|prefix| cache.get(prefix))
            .flat_map(|mapping| mapping.locators.iter().map(|locator| locator.rloc))
            .chain([rloc])
            .collect();
        for sibling in siblings {
            if let Some(probed) = self.locators.get_mut(&sibling) {
                probed.wanted = Some(now);
            }
            self.plan(now, config, sibling);
        }
        self.tick(now, config, sealed, out);
    }

    /// Whether data was sent within `window` to a locator of `mapping`.
    pub(crate) fn is_busy(&self, now: Instant, mapping: &Mapping, window: Duration) -> bool {
        mapping.locators.iter().any(|locator| {
            self.locators
                .get(&locator.rloc)
                .and_then(|probed| probed.sent_data)
                .is_some_and(|at| now.saturating_duration_since(at) <= window)
        })
    }

    /// A Map-Reply with P=1 came. Returns an EID to ask the mapping system for, when the ETR disagrees with it.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        config: &Config,
        cache: &MapCache,
        reply: &MapReply,
        out: &mut Outbox,
    ) -> Option<Eid> {
        if reply.records.is_empty() || !reply.records.iter().all(|record| record.authoritative) {
            // §5.4: otherwise it MUST be silently discarded.
            out.counters.map_reply_probe_not_authoritative =
                out.counters.map_reply_probe_not_authoritative.saturating_add(1);
            return None;
        }
        let Some((asked, sent)) = self.by_nonce.get(&reply.nonce).copied() else {
            out.counters.map_reply_unknown_nonce = out.counters.map_reply_unknown_nonce.saturating_add(1);
            return None;
        };
        let prefixes = self
            .locators
            .get(&asked)
            .map(|probed| probed.prefixes.clone())
            .unwrap_or_default();
        let records: Vec<Mapping> = reply
            .records
            .iter()
            .filter_map(|record| record.to_mapping().ok())
            .collect();
        if !records
            .iter()
            .any(|record| prefixes.iter().any(|prefix| record.prefix.overlaps(prefix)))
        {
            out.counters.map_reply_wrong_eid = out.counters.map_reply_wrong_eid.saturating_add(1);
            return None;
        }
        self.by_nonce.remove(&reply.nonce);
        if let Some(probed) = self.locators.get_mut(&asked) {
            probed.outstanding.retain(|nonce| *nonce != reply.nonce);
        }
        out.counters.probe_reply_accepted = out.counters.probe_reply_accepted.saturating_add(1);
        // §5.4: the first locator with the p-bit names the one that was probed, if it is one of ours.
        let named = records
            .iter()
            .flat_map(|record| &record.locators)
            .find(|locator| locator.probed)
            .map(|l| l.rloc);
        // An ETR vouches for the locators of its own mappings only.
        let is_its = |rloc: &Rloc| {
            self.locators
                .get(rloc)
                .is_some_and(|probed| !probed.prefixes.is_disjoint(&prefixes))
        };
        let rloc = named.filter(is_its).unwrap_or(asked);
        if rloc != asked
            && let Some(probed) = self.locators.get_mut(&asked)
        {
            // Its probe was answered, by way of another.
            probed.answer_due = None;
            self.plan(now, config, asked);
        }
        self.heard(now, config, rloc, sent, out);
        let probed = self.locators.get_mut(&rloc)?;
        let doubt = probed
            .differed
            .is_none_or(|at| now.saturating_duration_since(at) >= DIFFERS_INTERVAL)
            .then(|| records.iter().find_map(|record| differs(cache, record, rloc)))
            .flatten();
        if doubt.is_some() {
            probed.differed = Some(now);
            out.counters.probe_reply_differs = out.counters.probe_reply_differs.saturating_add(1);
        }
        self.plan(now, config, rloc);
        doubt
    }

    /// The answer to a sealed probe came: the tag has proven who sent it.
    pub(crate) fn answer_sealed(&mut self, now: Instant, config: &Config, nonce: Nonce, out: &mut Outbox) {
        let Some((rloc, sent)) = self.by_nonce.remove(&nonce) else {
            out.counters.map_reply_unknown_nonce = out.counters.map_reply_unknown_nonce.saturating_add(1);
            return;
        };
        if let Some(probed) = self.locators.get_mut(&rloc) {
            probed.outstanding.retain(|other| *other != nonce);
        }
        out.counters.probe_reply_accepted = out.counters.probe_reply_accepted.saturating_add(1);
        self.heard(now, config, rloc, sent, out);
        self.plan(now, config, rloc);
    }

    /// A probe of `rloc`, sent at `sent`, was answered.
    fn heard(&mut self, now: Instant, config: &Config, rloc: Rloc, sent: Instant, out: &mut Outbox) {
        let Some(probed) = self.locators.get_mut(&rloc) else {
            return;
        };
        let round_trip = now.saturating_duration_since(sent);
        probed.rtt = Some(
            probed
                .rtt
                .map_or(round_trip, |rtt| (rtt * 7).saturating_add(round_trip) / 8),
        );
        probed.heard = Some(now);
        probed.misses = 0;
        probed.answer_due = None;
        probed.down_wait = config.timers.probe_interval;
        if probed.state != Reachability::Up {
            probed.state = Reachability::Up;
            out.counters.locator_up = out.counters.locator_up.saturating_add(1);
            out.event(Event::LocatorState {
                rloc,
                reachable: true,
                rtt: probed.rtt,
            });
        }
    }

    /// Counts probes that went unanswered, sends those that are due.
    pub(crate) fn tick(&mut self, now: Instant, config: &Config, sealed: &Sealed, out: &mut Outbox) {
        while let Some(rloc) = self.due.pop(now) {
            let Some(probed) = self.locators.get_mut(&rloc) else {
                continue;
            };
            let mut send_now = false;
            if probed.answer_due.is_some_and(|at| at <= now) {
                probed.answer_due = None;
                probed.misses = probed.misses.saturating_add(1);
                out.counters.probe_missed = out.counters.probe_missed.saturating_add(1);
                let wanted = probed
                    .wanted
                    .is_some_and(|at| now.saturating_duration_since(at) <= config.timers.probe_idle_window);
                if probed.state == Reachability::Down {
                    probed.down_wait = probed
                        .down_wait
                        .saturating_mul(2)
                        .min(config.timers.probe_down_interval_max);
                    self.doubts
                        .extend(probed.asked.filter(|_| wanted).as_ref().map(compose::first_eid));
                } else if probed.misses >= config.timers.probe_misses {
                    probed.state = Reachability::Down;
                    probed.down_wait = config.timers.probe_interval;
                    out.counters.locator_down = out.counters.locator_down.saturating_add(1);
                    out.event(Event::LocatorState {
                        rloc,
                        reachable: false,
                        rtt: probed.rtt,
                    });
                    // An ETR does not answer for a prefix that it lost: what looks dead may have moved.
                    let stale = probed.prefixes.iter().take(SIBLING_MAPPINGS).filter(|_| wanted);
                    self.doubts.extend(stale.map(compose::first_eid));
                } else {
                    // Doubt is settled at once, not an interval later.
                    send_now = true;
                }
            }
            let due = probed.answer_due.is_none() && probed.due(now, config).is_some_and(|at| at <= now);
            if (send_now || due) && probed.state != Reachability::NoUplink {
                let nonce = out.random_nonce();
                let earlier = u32::try_from(nonce.0 % 21).unwrap_or(0);
                let next = probed.asked.and_then(|asked| {
                    let after = (std::ops::Bound::Excluded(asked), std::ops::Bound::Unbounded);
                    probed.prefixes.range(after).next().copied()
                });
                if let Some(prefix) = next.or_else(|| probed.prefixes.first().copied()) {
                    probed.asked = Some(prefix);
                    probed.probed = Some((now, earlier));
                    let node = probed.nodes.get(&prefix).copied();
                    if node.is_some_and(|node| !sealed.usable(now, config, &node)) {
                        // Without a mesh SA nothing can be asked, and silence says nothing.
                        probed.misses = 0;
                        self.plan(now, config, rloc);
                        continue;
                    }
                    probed.answer_due = Some(now + probed.timeout(config));
                    probed.outstanding.push_back(nonce);
                    if probed.outstanding.len() > OUTSTANDING
                        && let Some(old) = probed.outstanding.pop_front()
                    {
                        self.by_nonce.remove(&old);
                    }
                    self.by_nonce.insert(nonce, (rloc, now));
                    out.counters.probe_sent = out.counters.probe_sent.saturating_add(1);
                    match node {
                        Some(node) => out.event(Event::SealedProbe { node, rloc, nonce }),
                        None => out.send(None, rloc.control_address(), compose::probe(config, nonce, &prefix)),
                    }
                }
            }
            self.plan(now, config, rloc);
        }
    }

    /// Takes the EIDs to ask the mapping system for.
    pub(crate) fn take_doubts(&mut self) -> BTreeSet<Eid> {
        std::mem::take(&mut self.doubts)
    }

    /// Repeats what the dataplane should hold against locators.
    pub(crate) fn repeat_all(&self, out: &mut Outbox) {
        for (rloc, probed) in &self.locators {
            let reachable = match probed.state {
                Reachability::Unknown => continue,
                Reachability::Up => true,
                Reachability::Down | Reachability::NoUplink => false,
            };
            out.event(Event::LocatorState {
                rloc: *rloc,
                reachable,
                rtt: probed.rtt,
            });
        }
    }

    /// "Up" only while the last answer is younger than three idle intervals: nobody asks an idle locator for longer.
    pub(crate) fn status(&self, now: Instant, config: &Config) -> Vec<LocatorStatus> {
        let ago = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let fresh = |at| ago(at).is_some_and(|ago| ago <= config.timers.probe_idle_interval.saturating_mul(3));
        self.locators
            .iter()
            .map(|(rloc, probed)| LocatorStatus {
                rloc: *rloc,
                state: match probed.state {
                    Reachability::Up if !fresh(probed.heard) => Reachability::Unknown,
                    state => state,
                },
                rtt: probed.rtt,
                heard_ago: ago(probed.heard),
                sent_ago: ago(probed.sent_data),
                misses: probed.misses,
            })
            .collect()
    }

    fn plan(&mut self, now: Instant, config: &Config, rloc: Rloc) {
        let Some(probed) = self.locators.get(&rloc) else { return };
        match probed.answer_due.or_else(|| probed.due(now, config)) {
            Some(at) => self.due.set(rloc, at),
            None => self.due.remove(&rloc),
        }
    }
}

impl Probed {
    fn new(config: &Config) -> Self {
        Self {
            prefixes: BTreeSet::new(),
            nodes: BTreeMap::new(),
            asked: None,
            state: Reachability::Unknown,
            sent_data: None,
            wanted: None,
            heard: None,
            rtt: None,
            misses: 0,
            outstanding: VecDeque::new(),
            probed: None,
            answer_due: None,
            down_wait: config.timers.probe_interval,
            differed: None,
        }
    }

    /// A locator of a family that this node has no locator of cannot be reached, whatever it answers.
    fn follow_uplinks(&mut self, config: &Config, rloc: Rloc, out: &mut Outbox) {
        match (config.speaks(rloc.address), self.state) {
            (true, Reachability::NoUplink) => {
                self.state = Reachability::Unknown;
                out.event(Event::LocatorState {
                    rloc,
                    reachable: true,
                    rtt: None,
                });
            }
            (false, state) if state != Reachability::NoUplink => {
                self.state = Reachability::NoUplink;
                self.answer_due = None;
                out.event(Event::LocatorState {
                    rloc,
                    reachable: false,
                    rtt: None,
                });
            }
            _ => {}
        }
    }

    /// When the next probe should go out, as things stand.
    fn due(&self, now: Instant, config: &Config) -> Option<Instant> {
        let timers = &config.timers;
        let within = |at: Option<Instant>, window| at.is_some_and(|at| now.saturating_duration_since(at) <= window);
        let interval = match self.state {
            Reachability::NoUplink => return None,
            Reachability::Down => self.down_wait,
            _ if within(self.sent_data, timers.probe_active_window) => timers.probe_interval,
            _ if within(self.wanted, timers.probe_idle_window) => timers.probe_idle_interval,
            _ => return None,
        };
        let Some((last, earlier)) = self.probed else {
            return Some(now);
        };
        Some(last + interval.saturating_sub((interval / 100).saturating_mul(earlier)))
    }

    fn timeout(&self, config: &Config) -> Duration {
        let doubled = self.rtt.map_or(Duration::ZERO, |rtt| rtt.saturating_mul(2));
        config.timers.probe_timeout.max(doubled.min(TIMEOUT_MAX))
    }
}

/// The EID to ask for when `record`, from the ETR at `rloc`, does not say of `rloc` what the map-cache says.
fn differs(cache: &MapCache, record: &Mapping, rloc: Rloc) -> Option<Eid> {
    let cached = cache.get(&record.prefix)?;
    let of = |mapping: &Mapping| {
        mapping
            .locators
            .iter()
            .find(|l| l.rloc == rloc)
            .map(|l| (l.priority, l.weight, l.reachable))
    };
    let ours = of(cached)?;
    (of(record) != Some(ours)).then(|| compose::first_eid(&record.prefix))
}
