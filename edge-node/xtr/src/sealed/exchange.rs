//! The exchange, both halves: what is offered, which answer is believed, which question is answered. Cheap checks first,
//! then a budget, then signatures, then X25519; state last.

use std::time::Instant;

use lisp::{
    Eid, EidPrefix, Mapping, Nonce, Ttl,
    mesh::{Binding, Direction, SaIndex, TrafficKey, digest, traffic_keys, transcript, x25519, x25519_public},
    wire::{MapReply, MapRequest},
};

use super::{
    Offered, Question, Refusal, SaParameters,
    admission::Standing,
    answer::Read,
    machine::{Accepted, Sealed},
    responder::{Asked, node_of, write_reply},
};
use crate::{Config, DatabaseMapping, database::Database, outbox::Outbox};

impl Sealed {
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
                self.believed(*asked, "theirs");
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
        // Nobody is sent to for longer than he is known to speak for the prefix.
        let left = read.binding.statement.not_after.saturating_sub(unix) / 60;
        mapping.ttl = mapping
            .ttl
            .min(Ttl(u32::try_from(left).unwrap_or(u32::MAX).clamp(1, Ttl::DAY.0)));
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
                    self.believed(subject, "asker");
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
}
