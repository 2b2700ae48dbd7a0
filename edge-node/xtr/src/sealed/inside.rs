//! What two nodes tell each other inside an SA, and what comes of it: bindings and memberships, what is gone, what is wanted.

use std::time::Instant;

use lisp::{
    Eid, EidPrefix,
    mesh::{Binding, KeyId, Membership},
};

use super::{
    Refusal,
    admission::Standing,
    machine::{Heard, Sealed},
    message::Message,
};
use crate::{Config, Event, database::Database, outbox::Outbox};

impl Sealed {
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
}
