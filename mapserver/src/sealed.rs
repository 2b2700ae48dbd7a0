//! What a Map-Server checks of registrations in a sealed network: each record carries a binding of its prefix to the node
//! that signed the message. The Map-Server is trusted for reachability, not for identity; these checks keep a former host, or
//! the holder of another node's site key, from pulling a prefix away. Signatures are verified when something changed; an
//! unchanged refresh is taken by its MAC.

use lisp::mesh::{Binding, Label, Payload, Proof, PublicKey, Seal, vendor_payload, verify_message};
use lisp::wire::{EidRecord, MapRegister};
use lisp::{EidPrefix, Ttl};

use crate::{
    MapServer, SealedInstance,
    counters::Count,
    prefix_key::PrefixKey,
    registration::{Registration, RegistrationKey},
    replay::{KeyTag, NonceKey},
};

/// What a record's binding says, once believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// Its epoch.
    pub(crate) epoch: u64,
    /// Above every epoch that was seen of the prefix so far.
    pub(crate) newer: bool,
}

/// What the message's signature says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signer {
    /// Not looked at yet, or there is none.
    Unknown,
    /// This node's key made it.
    Node(PublicKey),
}

impl MapServer {
    /// Whether the Instance-ID of `prefix` is sealed, and by which authority.
    pub(crate) fn sealed_instance(&self, prefix: &EidPrefix) -> Option<&SealedInstance> {
        self.config.sealed.get(&prefix.instance_id())
    }

    /// The node that signed the whole message. `Err` when there is a signature that does not verify: then nothing of the
    /// message is believed.
    pub(crate) fn signer(message: &MapRegister, bytes: &[u8]) -> Result<Signer, Count> {
        let locators = message.records.iter().flat_map(|record| &record.locators);
        let mut seals = locators.filter_map(|locator| match vendor_payload(&locator.rloc)? {
            Ok(Payload::Seal(seal)) => Some(seal),
            _ => None,
        });
        let Some(Seal { node, signature }) = seals.next() else {
            return Ok(Signer::Unknown);
        };
        let is_alone = seals.next().is_none();
        if is_alone && verify_message(Label::MapRegister, None, bytes, &signature, &node) {
            Ok(Signer::Node(node))
        } else {
            Err(Count::seal_refused)
        }
    }

    /// Whether something about the registrations of sealed networks in `message` is not as it is stored: then signatures
    /// have to be verified.
    pub(crate) fn is_news(&self, records: &[(EidPrefix, RegistrationKey, &EidRecord)]) -> bool {
        records.iter().any(|(prefix, key, record)| {
            let stored = || self.store.table().get(key);
            self.sealed_instance(prefix).is_some()
                && record.ttl != Ttl::ZERO
                && stored()
                    .and_then(|stored| stored.eid_record())
                    .is_none_or(|stored| (&stored.locators, stored.mask_len) != (&record.locators, record.mask_len))
        })
    }

    /// Whether a record of a sealed network may be stored. `None`: the network is in clear.
    pub(crate) fn check_binding(
        &self,
        prefix: &EidPrefix,
        key: &RegistrationKey,
        record: &EidRecord,
        signer: Option<Signer>,
        unix: u64,
    ) -> Result<Option<Bound>, Count> {
        let Some(instance) = self.sealed_instance(prefix) else {
            return Ok(None);
        };
        if record.ttl == Ttl::ZERO {
            // A withdrawal ends the registrant's own registration alone; its MAC says who that is.
            return Ok(None);
        }
        let Some(Proof(statement)) = proof(record) else {
            return Err(Count::binding_missing);
        };
        let last = self.store.table().last_nonce(&epoch_key(prefix));
        if last.is_some_and(|last| statement.epoch < last) {
            return Err(Count::epoch_old);
        }
        let bound = Bound {
            epoch: statement.epoch,
            newer: last.is_none_or(|last| statement.epoch > last),
        };
        if statement.not_after <= unix {
            return Err(Count::binding_refused);
        }
        // An unchanged refresh: it was verified when it came first.
        let Some(signer) = signer else { return Ok(Some(bound)) };
        let Signer::Node(node) = signer else {
            return Err(Count::binding_missing);
        };
        let binding = Binding {
            prefix: *prefix,
            node,
            statement,
        };
        if !bound.newer && self.is_held_by_another(prefix, key, statement.epoch) {
            return Err(Count::epoch_conflict);
        }
        binding
            .verify(instance.authority.as_ref(), unix)
            .map_err(|_| Count::binding_refused)?;
        Ok(Some(bound))
    }

    /// Whether another xTR has a live registration of `prefix` with a binding of the same epoch.
    fn is_held_by_another(&self, prefix: &EidPrefix, key: &RegistrationKey, epoch: u64) -> bool {
        let holds = |other: &Registration| {
            let of_epoch = other
                .eid_record()
                .and_then(|record| proof(&record))
                .map(|proof| proof.0.epoch);
            !other.superseded && of_epoch == Some(epoch)
        };
        let table = self.store.table();
        table
            .at(PrefixKey::from(prefix))
            .any(|(other, registration)| other != key && holds(&registration))
    }
}

/// The record's binding, of which there is one at most.
pub(crate) fn proof(record: &EidRecord) -> Option<Proof> {
    let mut proofs = record
        .locators
        .iter()
        .filter_map(|locator| match vendor_payload(&locator.rloc)? {
            Ok(Payload::Proof(proof)) => Some(proof),
            _ => None,
        });
    let first = proofs.next()?;
    proofs.next().is_none().then_some(first)
}

/// Whether a locator carries the signature of a whole message, which is of no use once that was verified.
pub(crate) fn is_seal(locator: &lisp::wire::RlocRecord) -> bool {
    matches!(vendor_payload(&locator.rloc), Some(Ok(Payload::Seal(_))))
}

/// What the highest epoch of a prefix is remembered by, beside the nonces: it outlives the registration.
pub(crate) fn epoch_key(prefix: &EidPrefix) -> NonceKey {
    NonceKey::of_prefix(KeyTag(*b"epochs\0\0"), prefix)
}
