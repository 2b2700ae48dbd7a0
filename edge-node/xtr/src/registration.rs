//! The ETR's side of Map-Register (RFC 9301 §5.6, §5.7, §8.2): every prefix at every Map-Server, refreshed each
//! minute, repeated until acknowledged, withdrawn when it is no longer ours.
//!
//! A repetition is signed anew under a new nonce. §5.7 says to retransmit "the original Map-Register", but §5.6 has
//! the Map-Server drop any nonce that is not greater than the last: an original that did arrive, and whose Map-Notify
//! was lost, would be dropped for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use lisp::wire::{EidRecord, MapNotify};
use lisp::{EidPrefix, Nonce};

use crate::{
    Config, Event, MapServerPeer, RegistrationState, RegistrationStatus, compose, database::Database,
    deadlines::Deadlines, outbox::Outbox, packing,
};

/// Nonces of one message that a late Map-Notify may still answer.
const NONCES: usize = 4;
/// Waits without an answer after which a registration counts as unanswered: 1 s and 2 s.
const UNANSWERED_AFTER: u32 = 2;
/// Transmissions of a withdrawal.
const DEREGISTER_TRIES: u32 = 8;

/// One prefix at one Map-Server.
#[derive(Debug)]
struct Prefix {
    state: RegistrationState,
    acknowledged: Option<Instant>,
    /// It is being withdrawn.
    leaving: bool,
    /// Not acknowledged since it became ours. Our claim is newer than what the Map-Server may remember: that the prefix
    /// went from us to another xTR, and that we have not withdrawn it since. Such a memory is cleared by a withdrawal
    /// ahead of the registration.
    claim: Claim,
    /// The message under way that carries it.
    message: Option<u64>,
}

/// How a prefix that just became ours is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// It was acknowledged once: a refusal from now on is the last word of somebody else.
    Settled,
    /// Being registered for the first time.
    Fresh,
    /// That was refused: being withdrawn, to be registered anew.
    Clearing,
}

/// One Map-Server.
#[derive(Debug)]
struct Server {
    peer: MapServerPeer,
    prefixes: BTreeMap<EidPrefix, Prefix>,
    quick_until: Instant,
}

/// A Map-Register that no Map-Notify answered yet.
#[derive(Debug)]
struct Message {
    server: SocketAddr,
    prefixes: Vec<EidPrefix>,
    nonces: Vec<Nonce>,
    wait: Duration,
    tries: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Refresh(SocketAddr),
    Repeat(u64),
}

/// All registrations.
#[derive(Debug, Default)]
pub(crate) struct Registrations {
    servers: BTreeMap<SocketAddr, Server>,
    messages: BTreeMap<u64, Message>,
    by_nonce: BTreeMap<Nonce, u64>,
    last_message: u64,
    due: Deadlines<Due>,
}

/// What the parts of this module need of the rest of the machine.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) config: &'a Config,
    pub(crate) database: &'a Database,
    pub(crate) out: &'a mut Outbox,
}

impl Registrations {
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.next()
    }

    /// Registers what changed: `changed` names prefixes that are new or different, `all` says that everything is
    /// (own locators or names changed). Prefixes and Map-Servers that are gone are withdrawn.
    pub(crate) fn update(&mut self, cx: &mut Context<'_>, changed: &[EidPrefix], all: bool) {
        self.drop_servers(cx);
        for peer in &cx.config.map_servers {
            let known = self
                .servers
                .get(&peer.address)
                .is_some_and(|server| server.peer == *peer);
            let server = self.servers.entry(peer.address).or_insert_with(|| Server {
                peer: peer.clone(),
                prefixes: BTreeMap::new(),
                quick_until: cx.now,
            });
            server.peer = peer.clone();
            let everything = all || !known;
            let mut send = BTreeSet::new();
            let announced = cx
                .database
                .table
                .iter()
                .filter(|(_, mapping)| cx.config.may_announce(mapping));
            for (prefix, _) in announced {
                let entry = server.prefixes.get(prefix);
                let again = entry.is_none_or(|entry| entry.leaving) || everything || changed.contains(prefix);
                if again {
                    send.insert(*prefix);
                }
            }
            for (prefix, entry) in &mut server.prefixes {
                let ours = cx
                    .database
                    .table
                    .get(prefix)
                    .is_some_and(|mapping| cx.config.may_announce(mapping));
                if !ours && !entry.leaving {
                    entry.leaving = true;
                    send.insert(*prefix);
                }
            }
            if !send.is_empty() {
                server.quick_until = cx.now + cx.config.timers.quick_register_period;
                let address = peer.address;
                self.detach(&address, &mut send);
                self.send(cx, address, send, None);
                self.plan_refresh(cx, address);
            }
        }
    }

    /// Sends what is due.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        while let Some(due) = self.due.pop(cx.now) {
            match due {
                Due::Refresh(address) => {
                    let Some(server) = self.servers.get(&address) else {
                        continue;
                    };
                    // What is under way already repeats itself.
                    let idle = server
                        .prefixes
                        .iter()
                        .filter(|(_, p)| p.message.is_none() && !p.leaving);
                    let idle: BTreeSet<EidPrefix> = idle.map(|(prefix, _)| *prefix).collect();
                    self.send(cx, address, idle, None);
                    self.plan_refresh(cx, address);
                }
                Due::Repeat(id) => self.repeat(cx, id),
            }
        }
    }

    /// Whether this nonce answers a Map-Register under way, and of which Map-Server.
    pub(crate) fn asked(&self, nonce: Nonce) -> Option<SocketAddr> {
        self.messages
            .get(self.by_nonce.get(&nonce)?)
            .map(|message| message.server)
    }

    /// A Map-Notify with an outstanding nonce came; it is authentic.
    pub(crate) fn acknowledged(&mut self, cx: &mut Context<'_>, notify: &MapNotify) {
        let Some(id) = self.by_nonce.get(&notify.nonce).copied() else {
            return;
        };
        let Some(message) = self.forget_message(id) else { return };
        let Some(server) = self.servers.get_mut(&message.server) else {
            return;
        };
        let named: BTreeSet<EidPrefix> = notify
            .records
            .iter()
            .filter_map(|record| record.prefix().ok())
            .collect();
        let mut next = BTreeSet::new();
        for prefix in message.prefixes {
            let Some(entry) = server.prefixes.get_mut(&prefix) else {
                continue;
            };
            entry.message = None;
            let state = match (entry.leaving, entry.claim, named.contains(&prefix)) {
                (true, _, _) => RegistrationState::Deregistered,
                (false, Claim::Clearing, _) => {
                    entry.claim = Claim::Settled;
                    next.insert(prefix);
                    RegistrationState::Pending
                }
                (false, _, true) => {
                    entry.claim = Claim::Settled;
                    entry.acknowledged = Some(cx.now);
                    RegistrationState::Registered
                }
                (false, Claim::Fresh, false) => {
                    entry.claim = Claim::Clearing;
                    next.insert(prefix);
                    RegistrationState::Pending
                }
                (false, Claim::Settled, false) => RegistrationState::Refused("the Map-Notify leaves it out".to_owned()),
            };
            entry.become_state(message.server, prefix, state, cx.out);
            if entry.leaving {
                server.prefixes.remove(&prefix);
            }
        }
        self.send(cx, message.server, next, None);
    }

    /// Says every state once more.
    pub(crate) fn repeat_all(&self, out: &mut Outbox) {
        for (address, server) in &self.servers {
            for (prefix, entry) in &server.prefixes {
                out.event(Event::Registration {
                    map_server: *address,
                    prefix: *prefix,
                    state: entry.state.clone(),
                });
            }
        }
    }

    pub(crate) fn status(&self, now: Instant) -> Vec<RegistrationStatus> {
        let mut all = Vec::new();
        for (address, server) in &self.servers {
            for (prefix, entry) in &server.prefixes {
                all.push(RegistrationStatus {
                    map_server: *address,
                    prefix: *prefix,
                    state: entry.state.clone(),
                    acknowledged_ago: entry.acknowledged.map(|at| now.saturating_duration_since(at)),
                    unanswered: entry
                        .message
                        .and_then(|id| self.messages.get(&id))
                        .map_or(0, |m| m.tries),
                });
            }
        }
        all
    }

    /// A Map-Server that is no longer configured: one withdrawal of everything, unanswered or not.
    fn drop_servers(&mut self, cx: &mut Context<'_>) {
        let configured: BTreeSet<SocketAddr> = cx.config.map_servers.iter().map(|peer| peer.address).collect();
        let gone: Vec<SocketAddr> = self
            .servers
            .keys()
            .copied()
            .filter(|a| !configured.contains(a))
            .collect();
        for address in gone {
            let Some(server) = self.servers.get_mut(&address) else {
                continue;
            };
            server.peer.want_map_notify = false;
            for (prefix, entry) in &mut server.prefixes {
                entry.leaving = true;
                entry.become_state(address, *prefix, RegistrationState::Deregistered, cx.out);
            }
            let mut all: BTreeSet<EidPrefix> = server.prefixes.keys().copied().collect();
            self.detach(&address, &mut all);
            self.send(cx, address, all, None);
            self.servers.remove(&address);
            self.due.remove(&Due::Refresh(address));
        }
    }

    /// Takes `prefixes` out of the messages under way; their companions in those messages join them.
    fn detach(&mut self, address: &SocketAddr, prefixes: &mut BTreeSet<EidPrefix>) {
        let Some(server) = self.servers.get(address) else {
            return;
        };
        let ids: BTreeSet<u64> = prefixes
            .iter()
            .filter_map(|prefix| server.prefixes.get(prefix))
            .filter_map(|p| p.message)
            .collect();
        for id in ids {
            let Some(message) = self.forget_message(id) else {
                continue;
            };
            let Some(server) = self.servers.get_mut(address) else {
                return;
            };
            for prefix in message.prefixes {
                if let Some(entry) = server.prefixes.get_mut(&prefix) {
                    entry.message = None;
                    prefixes.insert(prefix);
                }
            }
        }
    }

    fn forget_message(&mut self, id: u64) -> Option<Message> {
        let message = self.messages.remove(&id)?;
        for nonce in &message.nonces {
            self.by_nonce.remove(nonce);
        }
        self.due.remove(&Due::Repeat(id));
        Some(message)
    }

    /// No Map-Notify came in time.
    fn repeat(&mut self, cx: &mut Context<'_>, id: u64) {
        let Some(message) = self.forget_message(id) else { return };
        let Some(server) = self.servers.get_mut(&message.server) else {
            return;
        };
        let mut prefixes = BTreeSet::new();
        for prefix in &message.prefixes {
            let Some(entry) = server.prefixes.get_mut(prefix) else {
                continue;
            };
            entry.message = None;
            if entry.leaving && message.tries >= DEREGISTER_TRIES {
                entry.become_state(message.server, *prefix, RegistrationState::Unanswered, cx.out);
                server.prefixes.remove(prefix);
                continue;
            }
            if message.tries >= UNANSWERED_AFTER && !entry.leaving {
                entry.become_state(message.server, *prefix, RegistrationState::Unanswered, cx.out);
            }
            prefixes.insert(*prefix);
        }
        let address = message.server;
        cx.out.counters.map_register_repeated = cx.out.counters.map_register_repeated.saturating_add(1);
        self.send(cx, address, prefixes, Some(message));
    }

    /// Sends Map-Registers for `prefixes`, as many as their size demands. `repeated` is the message that they repeat.
    fn send(
        &mut self,
        cx: &mut Context<'_>,
        address: SocketAddr,
        prefixes: BTreeSet<EidPrefix>,
        repeated: Option<Message>,
    ) {
        let Some(server) = self.servers.get(&address) else {
            return;
        };
        let peer = server.peer.clone();
        let mut groups: BTreeMap<(bool, bool), Vec<(EidPrefix, EidRecord)>> = BTreeMap::new();
        for prefix in prefixes {
            let mapping = cx.database.table.get(&prefix).copied();
            let mapping = mapping.filter(|mapping| cx.config.may_announce(mapping));
            let leaving = mapping.is_none() || cx.config.map_servers.iter().all(|other| other.address != address);
            let clearing = server
                .prefixes
                .get(&prefix)
                .is_some_and(|entry| entry.claim == Claim::Clearing);
            let merge = mapping.is_some_and(|mapping| mapping.merge);
            let record = compose::registration_record(cx.config, prefix, mapping.filter(|_| !leaving && !clearing));
            groups.entry((leaving, merge)).or_default().push((prefix, record));
        }
        for ((leaving, merge), records) in groups {
            for chunk in packing::split(&peer, cx.config, records) {
                let (prefixes, records): (Vec<EidPrefix>, Vec<EidRecord>) = chunk.into_iter().unzip();
                let nonce = cx.out.rising_nonce();
                let mut register = compose::map_register(&peer, cx.config, nonce);
                register.merge = merge;
                register.records = records;
                let Some(payload) = compose::sign_register(cx.config, &peer, register) else {
                    continue;
                };
                if cx.config.locators.is_empty() {
                    // It would say that our prefixes are nowhere. The first locator sends everything at once.
                    let held = &mut cx.out.counters.map_register_no_locator;
                    *held = held.saturating_add(1);
                } else {
                    cx.out.counters.map_register_sent = cx.out.counters.map_register_sent.saturating_add(1);
                    cx.out.send(None, address, payload);
                }
                self.sent(cx, address, prefixes, nonce, leaving, repeated.as_ref());
            }
        }
    }

    /// Keeps track of a message that just went out.
    fn sent(
        &mut self,
        cx: &mut Context<'_>,
        address: SocketAddr,
        prefixes: Vec<EidPrefix>,
        nonce: Nonce,
        leaving: bool,
        repeated: Option<&Message>,
    ) {
        let Some(server) = self.servers.get_mut(&address) else {
            return;
        };
        let acknowledged = server.peer.want_map_notify;
        self.last_message = self.last_message.wrapping_add(1);
        let id = self.last_message;
        for prefix in &prefixes {
            if leaving && !acknowledged {
                server.prefixes.remove(prefix);
                continue;
            }
            let fresh = if acknowledged {
                RegistrationState::Pending
            } else {
                RegistrationState::Sent
            };
            let entry = server.prefixes.entry(*prefix).or_insert_with(|| {
                cx.out.event(Event::Registration {
                    map_server: address,
                    prefix: *prefix,
                    state: fresh.clone(),
                });
                Prefix {
                    state: fresh.clone(),
                    acknowledged: None,
                    leaving,
                    claim: Claim::Fresh,
                    message: None,
                }
            });
            if entry.leaving && !leaving {
                entry.claim = Claim::Fresh;
            }
            entry.leaving = leaving;
            entry.message = acknowledged.then_some(id);
            if !acknowledged {
                entry.become_state(address, *prefix, fresh, cx.out);
            }
        }
        if !acknowledged {
            return;
        }
        let timers = &cx.config.timers;
        let wait = repeated.map_or(timers.register_timeout, |message| {
            message.wait.saturating_mul(2).min(timers.register_timeout_max)
        });
        let mut nonces = repeated.map(|message| message.nonces.clone()).unwrap_or_default();
        nonces.push(nonce);
        let surplus = nonces.len().saturating_sub(NONCES);
        nonces.drain(..surplus);
        for nonce in &nonces {
            self.by_nonce.insert(*nonce, id);
        }
        let tries = repeated.map_or(0, |message| message.tries).saturating_add(1);
        self.messages.insert(
            id,
            Message {
                server: address,
                prefixes,
                nonces,
                wait,
                tries,
            },
        );
        let wait = cx.out.later(wait, 5);
        self.due.set(Due::Repeat(id), cx.now + wait);
    }

    fn plan_refresh(&mut self, cx: &mut Context<'_>, address: SocketAddr) {
        let Some(server) = self.servers.get(&address) else {
            return;
        };
        // Acknowledged registrations repeat themselves until they are known to have arrived; the others can only be
        // sent more often for a while (§8.2, quick registration).
        let timers = &cx.config.timers;
        let quick = !server.peer.want_map_notify && cx.now < server.quick_until;
        let interval = if quick {
            timers.quick_register_interval
        } else {
            timers.register_interval
        };
        let wait = cx.out.earlier(interval, if quick { 0 } else { 10 });
        self.due.set(Due::Refresh(address), cx.now + wait);
    }
}

impl Prefix {
    fn become_state(&mut self, map_server: SocketAddr, prefix: EidPrefix, state: RegistrationState, out: &mut Outbox) {
        if self.state != state {
            self.state = state.clone();
            out.event(Event::Registration {
                map_server,
                prefix,
                state,
            });
        }
    }
}
