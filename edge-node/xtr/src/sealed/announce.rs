//! Telling the other side of an SA what it needs to know of us: bindings of all our EIDs of the networks that we share,
//! ahead of their first packet; and what is no longer here. Repeated until acknowledged, a few times.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use lisp::{
    EidPrefix, InstanceId,
    mesh::{Binding, KeyId},
};

use super::message::{LARGEST, Message};
use crate::{Config, Event, database::Database, deadlines::Deadlines, outbox::Outbox};

/// Waits before each repetition; after the last nothing more is said until the next SA.
const WAITS: [Duration; 5] = [
    Duration::from_millis(300),
    Duration::from_millis(600),
    Duration::from_millis(1200),
    Duration::from_millis(2400),
    Duration::from_millis(4800),
];
/// Messages under way to one node.
const UNDER_WAY: usize = 64;

#[derive(Debug)]
struct UnderWay {
    payload: Vec<u8>,
    tries: usize,
}

/// A node that there is, or was lately, an SA with.
#[derive(Debug, Default)]
struct Peer {
    instances: BTreeSet<InstanceId>,
    under_way: BTreeMap<u32, UnderWay>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    peers: BTreeMap<KeyId, Peer>,
    due: Deadlines<(KeyId, u32)>,
    last: u32,
}

impl Announcements {
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.next()
    }

    /// There is a new SA with `node`, which is a member of `instance_id`.
    pub(crate) fn greet(
        &mut self,
        now: Instant,
        config: &Config,
        node: KeyId,
        instance_id: Option<InstanceId>,
        database: &Database,
        out: &mut Outbox,
    ) {
        let peer = self.peers.entry(node).or_default();
        peer.instances.extend(instance_id);
        let instances = peer.instances.clone();
        let ours = database
            .table
            .iter()
            .filter(|(prefix, _)| instances.contains(&prefix.instance_id()));
        let bindings: Vec<Binding> = ours.filter_map(|(_, mapping)| mapping.binding).collect();
        // What was under way is said anew.
        self.forget_messages(&node);
        self.tell_bindings(now, config, node, &bindings, out);
    }

    /// Prefixes became ours, or are bound anew.
    pub(crate) fn served(
        &mut self,
        now: Instant,
        config: &Config,
        prefixes: &[EidPrefix],
        database: &Database,
        out: &mut Outbox,
    ) {
        let nodes: Vec<(KeyId, BTreeSet<InstanceId>)> = self
            .peers
            .iter()
            .map(|(node, peer)| (*node, peer.instances.clone()))
            .collect();
        for (node, instances) in nodes {
            let bindings: Vec<Binding> = prefixes
                .iter()
                .filter(|prefix| instances.contains(&prefix.instance_id()))
                .filter_map(|prefix| database.table.get(prefix)?.binding)
                .collect();
            self.tell_bindings(now, config, node, &bindings, out);
        }
    }

    /// Prefixes are no longer ours; told after `delay`, in which their new home may register them.
    pub(crate) fn withdrawn(&mut self, now: Instant, prefixes: &[EidPrefix], delay: Duration) {
        let nodes: Vec<(KeyId, Vec<EidPrefix>)> = self
            .peers
            .iter()
            .map(|(node, peer)| {
                let shared = prefixes
                    .iter()
                    .filter(|prefix| peer.instances.contains(&prefix.instance_id()));
                (*node, shared.copied().collect())
            })
            .collect();
        for (node, prefixes) in nodes {
            for some in prefixes.chunks(40).filter(|some| !some.is_empty()) {
                let number = self.number();
                let message = Message::Withdrawn {
                    number,
                    prefixes: some.to_vec(),
                };
                self.keep(now + delay, node, number, &message);
            }
        }
    }

    /// `node` sends to `prefix`, which is not ours.
    pub(crate) fn unserved(&mut self, now: Instant, node: KeyId, prefix: EidPrefix, out: &mut Outbox) {
        let number = self.number();
        let prefixes = vec![prefix];
        self.keep(now, node, number, &Message::Withdrawn { number, prefixes });
        self.tick(now, out);
    }

    /// Packets of `node` come from `prefix`, which is not known to be bound to it.
    pub(crate) fn want(&mut self, now: Instant, node: KeyId, prefix: EidPrefix, out: &mut Outbox) {
        let number = self.number();
        let prefixes = vec![prefix];
        self.keep(now, node, number, &Message::Wanted { number, prefixes });
        self.tick(now, out);
    }

    /// `node` wants to know what binds these to us.
    pub(crate) fn wanted(
        &mut self,
        now: Instant,
        config: &Config,
        node: KeyId,
        prefixes: &[EidPrefix],
        database: &Database,
        out: &mut Outbox,
    ) {
        let ours = prefixes
            .iter()
            .filter_map(|prefix| database.table.longest_cover(prefix));
        let bindings: Vec<Binding> = ours.filter_map(|(_, mapping)| mapping.binding).collect();
        self.tell_bindings(now, config, node, &bindings, out);
    }

    /// The other side has it.
    pub(crate) fn acknowledged(&mut self, node: &KeyId, number: u32) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.under_way.remove(&number);
        }
        self.due.remove(&(*node, number));
    }

    /// Says what is due.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Outbox) {
        while let Some((node, number)) = self.due.pop(now) {
            let Some(peer) = self.peers.get_mut(&node) else {
                continue;
            };
            let Some(message) = peer.under_way.get_mut(&number) else {
                continue;
            };
            out.count(|counters| &mut counters.sealed_message_sent);
            out.event(Event::SealedSend {
                node,
                payload: message.payload.clone(),
            });
            match WAITS.get(message.tries) {
                Some(wait) => {
                    message.tries = message.tries.saturating_add(1);
                    self.due.set((node, number), now + *wait);
                }
                None => {
                    peer.under_way.remove(&number);
                    out.count(|counters| &mut counters.sealed_message_given_up);
                }
            }
        }
    }

    /// The last SA with `node` is gone.
    pub(crate) fn forget(&mut self, node: &KeyId) {
        self.forget_messages(node);
        self.peers.remove(node);
    }

    /// Networks that `node` is known to share with us.
    pub(crate) fn shares(&self, node: &KeyId, instance_id: InstanceId) -> bool {
        self.peers
            .get(node)
            .is_some_and(|peer| peer.instances.contains(&instance_id))
    }

    fn tell_bindings(&mut self, now: Instant, config: &Config, node: KeyId, bindings: &[Binding], out: &mut Outbox) {
        // A membership takes less room than a binding.
        for some in bindings.chunks(LARGEST / Binding::MAX_LEN / 2) {
            let number = self.number();
            let instances: BTreeSet<InstanceId> = some.iter().map(|binding| binding.prefix.instance_id()).collect();
            let message = Message::Bindings {
                number,
                memberships: instances.iter().filter_map(|id| config.own_membership(*id)).collect(),
                bindings: some.to_vec(),
            };
            self.keep(now, node, number, &message);
        }
        self.tick(now, out);
    }

    fn keep(&mut self, at: Instant, node: KeyId, number: u32, message: &Message) {
        let peer = self.peers.entry(node).or_default();
        if peer.under_way.len() >= UNDER_WAY
            && let Some((oldest, _)) = peer.under_way.pop_first()
        {
            self.due.remove(&(node, oldest));
        }
        let payload = message.encode();
        peer.under_way.insert(number, UnderWay { payload, tries: 0 });
        self.due.set((node, number), at);
    }

    fn number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    fn forget_messages(&mut self, node: &KeyId) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        for number in std::mem::take(&mut peer.under_way).into_keys() {
            self.due.remove(&(*node, number));
        }
    }
}
