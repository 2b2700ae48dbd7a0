//! The initiator's half of the exchange, its end: whether a Map-Reply is the one that was asked for, and what it says.

use lisp::{
    Eid, Mapping,
    mesh::{
        Answer, Binding, Direction, KeyId, Label, Payload, Suite, digest, traffic_keys, transcript, vendor_payload,
        verify_message, x25519,
    },
    wire::MapReply,
};

use super::{
    Refusal, SaParameters,
    offer::{Offered, key_material},
};

/// The parts of a signed Map-Reply, found and read; nothing is verified yet.
pub(crate) struct Read<'a> {
    pub(crate) answer: Answer,
    pub(crate) mapping: Mapping,
    pub(crate) binding: Binding,
    key: [u8; 32],
    bytes: &'a [u8],
}

impl<'a> Read<'a> {
    /// Finds the parts. `Err(Unsigned)`: there is no answer in it at all.
    pub(crate) fn new(reply: &MapReply, bytes: &'a [u8], asked: &Eid) -> Result<Self, Refusal> {
        let record = reply.records.first().ok_or(Refusal::Unsigned)?;
        let addresses = || {
            reply
                .records
                .iter()
                .flat_map(|record| &record.locators)
                .map(|locator| &locator.rloc)
        };
        let mut answers = addresses().filter_map(vendor_payload);
        let answer = match (answers.next(), answers.next()) {
            (None, _) => return Err(Refusal::Unsigned),
            (Some(Ok(Payload::Answer(answer))), None) => answer,
            _ => return Err(Refusal::Malformed),
        };
        let (suite, key) = key_material(addresses())?;
        if suite != answer.suite.id() {
            return Err(Refusal::NoKeyMaterial);
        }
        let mapping = record.to_mapping().map_err(|_| Refusal::Malformed)?;
        if !mapping.prefix.contains(asked) {
            return Err(Refusal::WrongPrefix);
        }
        let binding = Binding {
            prefix: mapping.prefix,
            node: answer.node,
            statement: answer.target,
        };
        Ok(Self {
            answer,
            mapping,
            binding,
            key,
            bytes,
        })
    }

    /// The node's name.
    pub(crate) fn node(&self) -> Result<KeyId, Refusal> {
        self.answer.node.id().ok_or(Refusal::BadSignature)
    }

    /// Whether its signature is over this message and the Map-Request that it answers.
    pub(crate) fn verify_signature(&self, offered: &Offered) -> Result<(), Refusal> {
        verify_message(
            Label::MapReply,
            Some(&offered.digest),
            self.bytes,
            &self.answer.signature,
            &self.answer.node,
        )
        .then_some(())
        .ok_or(Refusal::BadSignature)
    }

    /// The keys. Only after the signature was verified.
    pub(crate) fn keys(&self, node: KeyId, offered: &Offered, suites: &[Suite]) -> Result<SaParameters, Refusal> {
        if !suites.contains(&self.answer.suite) {
            return Err(Refusal::NoSuite);
        }
        let secret = x25519(&offered.secret, &self.key).map_err(|_| Refusal::LowOrder)?;
        let transcript = transcript(&offered.digest, &digest(self.bytes));
        let inbound = traffic_keys(&secret, &transcript, Direction::ToInitiator, offered.indices.len());
        let outbound = traffic_keys(&secret, &transcript, Direction::ToResponder, self.answer.indices.len());
        Ok(SaParameters {
            node,
            suite: self.answer.suite,
            inbound: offered.indices.iter().copied().zip(inbound).collect(),
            outbound: self.answer.indices.iter().copied().zip(outbound).collect(),
            initiator: true,
        })
    }
}
