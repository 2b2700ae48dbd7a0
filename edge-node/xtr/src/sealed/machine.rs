//! Everything of the sealed mesh that has state, and what happens to it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use lisp::{
    Eid, EidPrefix, InstanceId, Mapping,
    mesh::{Binding, KeyId, PublicKey, SaIndex},
};

use super::{
    AdoptedSa, Refusal, RefusalStatus, SaParameters, SaStatus, SealedNetwork, admission::Admission,
    announce::Announcements, associations::Associations, bindings::Bindings, clock::Clock, responder::Responder,
};
use crate::{Config, Event, database::Database, outbox::Outbox};

/// Refusals that are remembered for the operator.
const REFUSALS: usize = 64;

/// The state of the sealed mesh on this node.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    pub(super) clock: Clock,
    pub(super) admission: Admission,
    pub(super) bindings: Bindings,
    pub(super) associations: Associations,
    pub(super) announcements: Announcements,
    pub(super) responder: Responder,
    /// Where whoever asked is, to be believed once a packet of theirs has opened: a copied Map-Request moves nobody.
    pub(super) returns: BTreeMap<SaIndex, (Eid, Mapping)>,
    refusals: BTreeMap<(Eid, &'static str), Refused>,
}

#[derive(Debug)]
struct Refused {
    node: Option<KeyId>,
    reason: Refusal,
    at: Instant,
    times: u64,
}

/// What an answer that is believed says.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) mapping: Mapping,
    pub(crate) node: KeyId,
}

/// What a sealed message changed for the map-cache.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// These prefixes are no longer where this node was.
    pub(crate) withdrawn: Vec<EidPrefix>,
    /// These are at another node than they were.
    pub(crate) moved: Vec<EidPrefix>,
}

impl Sealed {
    pub(crate) fn tell_time(&mut self, now: Instant, unix: u64) {
        self.clock.tell(now, unix);
    }

    pub(crate) fn remember(&mut self, prefix: EidPrefix, epoch: u64, node: KeyId) {
        self.bindings.remember(prefix, epoch, node);
    }

    pub(crate) fn adopt(&mut self, now: Instant, config: &Config, adopted: &[AdoptedSa]) {
        for one in adopted {
            self.associations.adopt(now, config, one);
        }
    }

    /// Every SA is gone. With whom there was one, and an EID to ask for.
    pub(crate) fn lost(&mut self) -> Vec<(KeyId, Option<Eid>)> {
        self.returns.clear();
        self.associations.lost()
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        [
            self.bindings.next(),
            self.associations.next(),
            self.announcements.next(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Lets time act. Nodes whose SAs are to be replaced, with an EID to ask for.
    pub(crate) fn tick(&mut self, now: Instant, config: &Config, out: &mut Outbox) -> Vec<(KeyId, Option<Eid>)> {
        self.bindings.tick(now, out);
        self.announcements.tick(now, out);
        self.responder.forget_old(now);
        let (replace, gone) = self.associations.tick(now, config);
        for node in gone {
            self.announcements.forget(&node);
        }
        let associations = &self.associations;
        self.returns.retain(|index, _| associations.is_live(index));
        replace
    }

    /// Whether there is an SA with `node` to send under.
    pub(crate) fn usable(&self, now: Instant, config: &Config, node: &KeyId) -> bool {
        self.associations.usable(now, config, node)
    }

    /// A packet opened under an SA for the first time: the other side is live. Its own mapping may be believed now.
    pub(crate) fn confirmed(
        &mut self,
        now: Instant,
        config: &Config,
        index: SaIndex,
        database: &Database,
        out: &mut Outbox,
    ) -> Option<(KeyId, Eid, Mapping)> {
        let (node, news) = self.associations.confirmed(index)?;
        if news {
            out.count(|counters| &mut counters.sa_confirmed);
        }
        let (eid, mapping) = self.returns.remove(&index)?;
        self.announcements
            .greet(now, config, node, Some(eid.instance_id), database, out);
        // Meanwhile it may have moved, here or elsewhere.
        let (prefix, table) = (&mapping.prefix, &database.table);
        let ours = table.longest_cover(prefix).is_some() || table.more_specifics(prefix).next().is_some();
        if ours || self.bindings.holder(prefix) != Some(node) {
            return None;
        }
        Some((node, eid, mapping))
    }

    pub(crate) fn used(&mut self, now: Instant, config: &Config, index: SaIndex, sealed: u64, bytes: u64) {
        self.associations.used(now, config, index, sealed, bytes);
    }

    /// Repeats what the packet path should know.
    pub(crate) fn repeat_all(&self, out: &mut Outbox) {
        self.bindings.repeat_all(out);
    }

    /// Which node speaks for what.
    pub(crate) fn bindings(&self) -> Vec<(EidPrefix, KeyId, u64)> {
        self.bindings
            .iter()
            .map(|(prefix, node, statement)| (*prefix, node, statement.epoch))
            .collect()
    }

    pub(crate) fn associations(&self, now: Instant) -> Vec<SaStatus> {
        self.associations.status(now)
    }

    pub(crate) fn refusals(&self, now: Instant) -> Vec<RefusalStatus> {
        self.refusals
            .iter()
            .map(|((eid, by), refused)| RefusalStatus {
                eid: eid.to_string(),
                node: refused.node,
                by,
                reason: refused.reason,
                words: refused.reason.to_string(),
                ago: now.saturating_duration_since(refused.at),
                times: refused.times,
            })
            .collect()
    }

    /// What was refused before is believed now.
    pub(super) fn believed(&mut self, eid: Eid, by: &'static str) {
        self.refusals.remove(&(eid, by));
    }

    /// Remembers a refusal for the operator, and counts it.
    pub(crate) fn refused(
        &mut self,
        now: Instant,
        eid: Eid,
        by: &'static str,
        node: Option<KeyId>,
        reason: Refusal,
        out: &mut Outbox,
    ) {
        reason.count(out);
        let hour = Duration::from_secs(3600);
        if self.refusals.len() >= REFUSALS && !self.refusals.contains_key(&(eid, by)) {
            self.refusals
                .retain(|_, refused| now.saturating_duration_since(refused.at) < hour);
            let oldest = self
                .refusals
                .iter()
                .min_by_key(|(_, refused)| refused.at)
                .map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| self.refusals.len() >= REFUSALS) {
                self.refusals.remove(&oldest);
            }
        }
        let refused = self.refusals.entry((eid, by)).or_insert(Refused {
            node,
            reason,
            at: now,
            times: 0,
        });
        (refused.node, refused.reason, refused.at) = (node.or(refused.node), reason, now);
        refused.times = refused.times.saturating_add(1);
    }

    pub(super) fn associate(
        &mut self,
        now: Instant,
        config: &Config,
        parameters: SaParameters,
        eid: Option<Eid>,
        out: &mut Outbox,
    ) {
        let indices = parameters.inbound.iter().map(|(index, _)| *index).collect();
        self.associations
            .add(now, config, parameters.node, indices, parameters.initiator, eid);
        out.count(|counters| &mut counters.sa_established);
        out.event(Event::SaEstablished(parameters));
    }

    /// Nobody binds what is ours, nor more than a positive record may cover.
    pub(super) fn check_prefix(&self, config: &Config, database: &Database, binding: &Binding) -> Result<(), Refusal> {
        let prefix = &binding.prefix;
        if database.table.longest_cover(prefix).is_some() || database.table.more_specifics(prefix).next().is_some() {
            return Err(Refusal::OwnPrefix);
        }
        let least = match prefix.net() {
            ipnet::IpNet::V4(_) => config.limits.min_mask_v4.clamp(1, 32),
            ipnet::IpNet::V6(_) => config.limits.min_mask_v6.clamp(1, 128),
        };
        if prefix.length() < least {
            Err(Refusal::WrongPrefix)
        } else {
            Ok(())
        }
    }

    pub(super) fn verify_binding(&self, network: &SealedNetwork, binding: &Binding, unix: u64) -> Result<(), Refusal> {
        if self.bindings.is_held(binding) && binding.statement.not_after > unix {
            return Ok(());
        }
        binding.verify(network.authority.as_ref(), unix).map_err(Refusal::from)
    }

    pub(super) fn is_member(
        &self,
        instance_id: InstanceId,
        network: &SealedNetwork,
        node: KeyId,
        key: &PublicKey,
        unix: u64,
    ) -> bool {
        self.admission.is_member(instance_id, network, key, unix)
            || (self.announcements.shares(&node, instance_id)
                && self.bindings.iter().any(|(prefix, holder, _)| {
                    holder == node
                        && prefix.instance_id() == instance_id
                        && network.eids.contains(&prefix.first_eid().address)
                }))
    }
}
