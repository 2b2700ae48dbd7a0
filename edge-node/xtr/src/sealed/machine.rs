//! Everything of the sealed mesh that has state, and what happens to it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use lisp::{
    Eid, EidPrefix, InstanceId, Mapping, Nonce,
    mesh::{
        Binding, Direction, KeyId, Membership, PublicKey, SaIndex, TrafficKey, digest, traffic_keys, transcript,
        x25519, x25519_public,
    },
    wire::{MapReply, MapRequest},
};

use super::{
    AdoptedSa, Offered, Question, Refusal, RefusalStatus, SaParameters, SaStatus, SealedNetwork,
    admission::{Admission, Standing},
    announce::Announcements,
    answer::Read,
    associations::Associations,
    bindings::Bindings,
    clock::Clock,
    message::Message,
    responder::{Asked, Responder, node_of, write_reply},
};
use crate::{Config, DatabaseMapping, Event, database::Database, outbox::Outbox};

/// Refusals that are remembered for the operator.
const REFUSALS: usize = 64;

/// The state of the sealed mesh on this node.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    clock: Clock,
    admission: Admission,
    bindings: Bindings,
    associations: Associations,
    announcements: Announcements,
    responder: Responder,
    /// Where whoever asked is, to be believed once a packet of theirs has opened: a copied Map-Request moves nobody.
    returns: BTreeMap<SaIndex, (Eid, Mapping)>,
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
        let live = |index: &SaIndex| self.associations.status(now).iter().any(|sa| sa.index == *index);
        if !self.returns.is_empty() {
            let dead: Vec<SaIndex> = self.returns.keys().filter(|index| !live(index)).copied().collect();
            for index in dead {
                self.returns.remove(&index);
            }
        }
        replace
    }

    /// Whether there is an SA with `node` to send under.
    pub(crate) fn usable(&self, now: Instant, config: &Config, node: &KeyId) -> bool {
        self.associations.usable(now, config, node)
    }

    /// Writes a Map-Request that offers an exchange. `source`: who asks; any EID of ours when none, or none that is bound.
    #[allow(clippy::too_many_arguments, reason = "the parts of one message")]
    pub(crate) fn offer(
        &mut self,
        now: Instant,
        config: &Config,
        database: &Database,
        eid: Eid,
        source: Option<Eid>,
        nonce: Nonce,
        (direct, smr_invoked): (bool, bool),
        out: &mut Outbox,
    ) -> Result<Offered, Refusal> {
        let result = self.try_offer(now, config, database, eid, source, nonce, (direct, smr_invoked), out);
        if let Err(reason) = &result {
            self.refused(now, eid, "ours", None, *reason, out);
        }
        result
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one message")]
    fn try_offer(
        &mut self,
        now: Instant,
        config: &Config,
        database: &Database,
        eid: Eid,
        source: Option<Eid>,
        nonce: Nonce,
        (direct, smr_invoked): (bool, bool),
        out: &mut Outbox,
    ) -> Result<Offered, Refusal> {
        let unix = self.clock.unix(now).ok_or(Refusal::NoClock)?;
        let holds = |binding: &Binding| binding.statement.not_after > unix;
        let asked_by = source
            .and_then(|source| {
                database
                    .table
                    .longest_match(&source)
                    .map(|(_, mapping)| (source, mapping))
            })
            .and_then(|(source, mapping)| Some((source, mapping.binding.filter(holds)?)));
        let any = || {
            let of_network = database
                .table
                .iter()
                .filter(|(prefix, _)| prefix.instance_id() == eid.instance_id);
            let mut bound =
                of_network.filter_map(|(prefix, mapping)| Some((prefix.first_eid(), mapping.binding.filter(holds)?)));
            bound.next()
        };
        let (source_eid, source) = asked_by.or_else(any).ok_or(Refusal::NoOwnBinding)?;
        let indices = self.associations.indices(config.mesh.workers, |_| false, out);
        let secret = out.random_bytes();
        let question = Question {
            eid,
            source: &source,
            source_eid,
            nonce,
            direct,
            smr_invoked,
            counter: out.rising_nonce().0,
        };
        Offered::new(config, &question, indices, secret)
    }

    /// A Map-Reply came with the nonce of `offered`. What is believed changes state; what is not changes nothing, and uses
    /// nothing up.
    #[allow(
        clippy::too_many_arguments,
        reason = "a message, what it answers, and what it is held against"
    )]
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        config: &Config,
        database: &Database,
        asked: &Eid,
        offered: &Offered,
        reply: &MapReply,
        bytes: &[u8],
        out: &mut Outbox,
    ) -> Result<Accepted, Refusal> {
        let read = Read::new(reply, bytes, asked);
        let node = read.as_ref().ok().and_then(|read| read.node().ok());
        let result = read.and_then(|read| self.try_answer(now, config, database, asked, offered, &read, out));
        match &result {
            Ok(_) => {
                out.count(|counters| &mut counters.sealed_reply_accepted);
                self.refusals.remove(&(*asked, "theirs"));
            }
            Err(reason) => self.refused(now, *asked, "theirs", node, *reason, out),
        }
        result
    }

    #[allow(clippy::too_many_arguments, reason = "as above")]
    fn try_answer(
        &mut self,
        now: Instant,
        config: &Config,
        database: &Database,
        asked: &Eid,
        offered: &Offered,
        read: &Read<'_>,
        out: &mut Outbox,
    ) -> Result<Accepted, Refusal> {
        let network = config
            .mesh
            .networks
            .get(&asked.instance_id)
            .ok_or(Refusal::NotAMember)?;
        let unix = self.clock.unix(now).ok_or(Refusal::NoClock)?;
        let node = read.node()?;
        let key = &read.answer.node;
        if config
            .mesh
            .identity
            .as_ref()
            .is_some_and(|own| own.public_key() == *key)
        {
            return Err(Refusal::OurselvesRefused);
        }
        if !config.mesh.suites.contains(&read.answer.suite) {
            return Err(Refusal::NoSuite);
        }
        self.check_prefix(config, database, &read.binding)?;
        let permit = read.answer.permit.as_ref();
        let standing = self
            .admission
            .standing(asked.instance_id, network, key, asked.address, permit, unix)?;
        self.bindings.check_epoch(&read.binding, &node)?;
        self.admission.afford(now, config, Standing::Member)?;
        read.verify_signature(offered)?;
        if standing == Standing::Claims {
            self.admission
                .admit(config, asked.instance_id, network, key, permit, unix)?;
        }
        self.verify_binding(network, &read.binding, unix)?;
        let parameters = read.keys(node, offered, &config.mesh.suites)?;
        self.bindings.hold(now, unix, config, &read.binding, node, out)?;
        let mut mapping = read.mapping.clone();
        mapping
            .locators
            .retain(|locator| locator.rloc.is_usable() && !config.is_own(locator.rloc.address));
        mapping.locators.truncate(config.limits.locators_per_mapping);
        self.associate(now, config, parameters, Some(*asked), out);
        self.announcements
            .greet(now, config, node, Some(asked.instance_id), database, out);
        Ok(Accepted { mapping, node })
    }

    /// A Map-Request for an EID of ours in a sealed network came. The Map-Reply to send, when it is believed.
    #[allow(clippy::too_many_arguments, reason = "a message and what it is held against")]
    pub(crate) fn respond(
        &mut self,
        now: Instant,
        config: &Config,
        database: &Database,
        request: &MapRequest,
        bytes: &[u8],
        own: (&DatabaseMapping, &Mapping),
        out: &mut Outbox,
    ) -> Option<(Vec<u8>, Option<EidPrefix>)> {
        self.responder.forget_old(now);
        if let Some(reply) = self.responder.kept(&digest(bytes)) {
            out.count(|counters| &mut counters.sealed_request_repeated);
            return Some((reply.clone(), None));
        }
        let subject = request
            .source_eid
            .to_eid()
            .or_else(|| request.records.first()?.eid.to_eid());
        let asked = Asked::new(request, bytes);
        let node = asked.as_ref().ok().and_then(node_of);
        let result = asked.and_then(|asked| self.try_respond(now, config, database, request, &asked, own, out));
        match result {
            Ok(reply) => {
                out.count(|counters| &mut counters.sealed_request_answered);
                if let Some(subject) = subject {
                    self.refusals.remove(&(subject, "asker"));
                }
                Some(reply)
            }
            Err(reason) => {
                match subject {
                    Some(subject) => self.refused(now, subject, "asker", node, reason, out),
                    None => reason.count(out),
                }
                None
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "as above")]
    fn try_respond(
        &mut self,
        now: Instant,
        config: &Config,
        database: &Database,
        request: &MapRequest,
        asked: &Asked<'_>,
        (own, own_mapping): (&DatabaseMapping, &Mapping),
        out: &mut Outbox,
    ) -> Result<(Vec<u8>, Option<EidPrefix>), Refusal> {
        let instance_id = asked.eid.instance_id;
        let network = config.mesh.networks.get(&instance_id).ok_or(Refusal::NotAMember)?;
        let unix = self.clock.unix(now).ok_or(Refusal::NoClock)?;
        let key = &asked.offer.node;
        let node = key.id().ok_or(Refusal::BadSignature)?;
        if config
            .mesh
            .identity
            .as_ref()
            .is_some_and(|own| own.public_key() == *key)
        {
            return Err(Refusal::OurselvesRefused);
        }
        if own.binding.is_none_or(|binding| binding.statement.not_after <= unix) {
            return Err(Refusal::NoOwnBinding);
        }
        let suite = asked.choose(&config.mesh.suites)?;
        self.check_prefix(config, database, &asked.binding)?;
        let permit = asked.offer.permit.as_ref();
        let standing = self
            .admission
            .standing(instance_id, network, key, asked.source.address, permit, unix)?;
        self.bindings.check_epoch(&asked.binding, &node)?;
        self.responder.check_counter(key, asked.offer.counter)?;
        self.admission.afford(now, config, standing)?;
        if standing == Standing::Claims {
            self.admission.admit(config, instance_id, network, key, permit, unix)?;
        }
        asked.verify_signature()?;
        self.verify_binding(network, &asked.binding, unix)?;
        self.responder.take_counter(config, key, asked.offer.counter)?;
        let secret = out.random_bytes();
        let shared = x25519(&secret, &asked.key).map_err(|_| Refusal::LowOrder)?;
        let indices = self.associations.indices(config.mesh.workers, |_| false, out);
        let public = x25519_public(&secret);
        let reply = write_reply(
            config,
            request,
            asked,
            own,
            own_mapping,
            (suite, indices.clone(), public),
        )?;
        let transcript = transcript(&asked.digest(), &digest(&reply));
        let named = |indices: &[SaIndex], direction| -> Vec<(SaIndex, TrafficKey)> {
            let keys = traffic_keys(&shared, &transcript, direction, indices.len());
            indices.iter().copied().zip(keys).collect()
        };
        let parameters = SaParameters {
            node,
            suite,
            inbound: named(&indices, Direction::ToResponder),
            outbound: named(&asked.offer.indices, Direction::ToInitiator),
            initiator: false,
        };
        let former = self.bindings.hold(now, unix, config, &asked.binding, node, out)?;
        let first = indices.first().copied().ok_or(Refusal::TooMany)?;
        self.returns.insert(first, (asked.source, asked.mapping(unix)));
        self.associate(now, config, parameters, Some(asked.source), out);
        self.responder.keep(now, asked.digest(), reply.clone());
        Ok((reply, former.map(|_| asked.binding.prefix)))
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

    /// A message came sealed by `node`.
    pub(crate) fn message(
        &mut self,
        now: Instant,
        config: &Config,
        database: &Database,
        node: KeyId,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Heard {
        let mut heard = Heard::default();
        let number = match Message::decode(payload) {
            None => {
                out.count(|counters| &mut counters.sealed_message_malformed);
                return heard;
            }
            Some(Message::Acknowledgment { number }) => {
                self.announcements.acknowledged(&node, number);
                return heard;
            }
            Some(Message::Bindings {
                number,
                memberships,
                bindings,
            }) => {
                for membership in &memberships {
                    match self.take_membership(now, config, node, membership) {
                        Ok(()) => {}
                        Err(Refusal::OverBudget) => return heard,
                        Err(reason) => reason.count(out),
                    }
                }
                for binding in &bindings {
                    match self.take_binding(now, config, database, node, binding, out) {
                        Ok(Some(_)) => heard.moved.push(binding.prefix),
                        Ok(None) => {}
                        // Not acknowledged: it comes again.
                        Err(Refusal::OverBudget) => return heard,
                        Err(reason) => {
                            self.refused(now, binding.prefix.first_eid(), "announced", Some(node), reason, out);
                        }
                    }
                }
                number
            }
            Some(Message::Wanted { number, prefixes }) => {
                self.announcements.wanted(now, config, node, &prefixes, database, out);
                number
            }
            Some(Message::Withdrawn { number, prefixes }) => {
                for prefix in &prefixes {
                    self.bindings.drop_of(prefix, &node, out);
                }
                heard.withdrawn = prefixes;
                number
            }
        };
        out.count(|counters| &mut counters.sealed_message_heard);
        out.event(Event::SealedSend {
            node,
            payload: Message::Acknowledgment { number }.encode(),
        });
        heard
    }

    fn take_membership(
        &mut self,
        now: Instant,
        config: &Config,
        node: KeyId,
        membership: &Membership,
    ) -> Result<(), Refusal> {
        let Membership {
            instance_id,
            node: key,
            permit,
        } = membership;
        let network = config.mesh.networks.get(instance_id).ok_or(Refusal::NotAMember)?;
        let unix = self.clock.unix(now).ok_or(Refusal::NoClock)?;
        if self.admission.is_member(*instance_id, network, key, unix) {
            return Ok(());
        }
        if key.id() != Some(node) {
            return Err(Refusal::NotAMember);
        }
        self.admission.afford(now, config, Standing::Member)?;
        self.admission
            .admit(config, *instance_id, network, key, Some(permit), unix)
    }

    fn take_binding(
        &mut self,
        now: Instant,
        config: &Config,
        database: &Database,
        node: KeyId,
        binding: &Binding,
        out: &mut Outbox,
    ) -> Result<Option<KeyId>, Refusal> {
        if self.bindings.is_held(binding) {
            return Ok(None);
        }
        let instance_id = binding.prefix.instance_id();
        let network = config.mesh.networks.get(&instance_id).ok_or(Refusal::NotAMember)?;
        let unix = self.clock.unix(now).ok_or(Refusal::NoClock)?;
        if binding.node.id() != Some(node) {
            return Err(Refusal::BadBinding);
        }
        let listed = network.eids.contains(&binding.prefix.first_eid().address);
        if !listed && !self.is_member(instance_id, network, node, &binding.node, unix) {
            return Err(Refusal::NotAMember);
        }
        self.check_prefix(config, database, binding)?;
        self.bindings.check_epoch(binding, &node)?;
        self.admission.afford(now, config, Standing::Member)?;
        self.verify_binding(network, binding, unix)?;
        self.bindings.hold(now, unix, config, binding, node, out)
    }

    /// Packets of `node` come from an EID that is not known to be bound to it: it is asked.
    pub(crate) fn unbound(&mut self, now: Instant, node: KeyId, source: Eid, out: &mut Outbox) {
        self.announcements.want(now, node, source.host_prefix(), out);
    }

    /// `node` sent data for an EID that is not served here: it is told, inside the SA.
    pub(crate) fn unserved(&mut self, now: Instant, node: KeyId, eid: Eid, out: &mut Outbox) {
        self.announcements.unserved(now, node, eid.host_prefix(), out);
    }

    /// Prefixes that this node serves have changed.
    pub(crate) fn own_prefixes(
        &mut self,
        now: Instant,
        config: &Config,
        database: &Database,
        put: &[EidPrefix],
        removed: &[EidPrefix],
        out: &mut Outbox,
    ) {
        for prefix in put {
            self.bindings.drop_inside(prefix, out);
        }
        self.announcements.served(now, config, put, database, out);
        self.announcements
            .withdrawn(now, removed, config.timers.smr_withdrawal_delay);
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

    fn associate(
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
    fn check_prefix(&self, config: &Config, database: &Database, binding: &Binding) -> Result<(), Refusal> {
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

    fn verify_binding(&self, network: &SealedNetwork, binding: &Binding, unix: u64) -> Result<(), Refusal> {
        if self.bindings.is_held(binding) && binding.statement.not_after > unix {
            return Ok(());
        }
        binding.verify(network.authority.as_ref(), unix).map_err(Refusal::from)
    }

    fn is_member(
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
