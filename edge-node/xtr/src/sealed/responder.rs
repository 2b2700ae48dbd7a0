//! The responder's half of the exchange: a Map-Request that offers key material is believed step by step, cheap steps
//! first, and answered by a signed Map-Reply.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use lisp::{
    DATA_PORT, Eid, EidPrefix, Locator, Mapping, Rloc, Ttl,
    mesh::{
        Answer, Binding, KeyId, Label, Offer, PLACEHOLDER, Payload, PublicKey, SaIndex, Suite, digest, sign_message,
        vendor_payload, verify_message,
    },
    wire::{AfiAddress, EidRecord, Lcaf, MapReply, MapRequest, RlocRecord},
};

use super::{Refusal, admission::REPLY_KEPT, offer::key_material};
use crate::{Config, DatabaseMapping};

/// Map-Replies kept at a time.
const KEPT: usize = 1024;
/// Counters below the highest that are still told apart.
const WINDOW: u64 = 64;

/// Replies that copies of their requests are answered with, and the counters seen of each node.
#[derive(Debug, Default)]
pub(crate) struct Responder {
    kept: BTreeMap<[u8; 32], Vec<u8>>,
    kept_by_age: BTreeSet<(Instant, [u8; 32])>,
    windows: BTreeMap<PublicKey, Window>,
}

/// Counters seen of one node.
#[derive(Clone, Copy, Debug)]
struct Window {
    highest: u64,
    seen: u64,
}

/// A Map-Request's parts, found and read; nothing is verified yet.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) offer: Offer,
    pub(crate) key: [u8; 32],
    /// Who is asked for.
    pub(crate) eid: Eid,
    /// Who asks.
    pub(crate) source: Eid,
    pub(crate) binding: Binding,
    bytes: &'a [u8],
    locators: Vec<Locator>,
}

impl<'a> Asked<'a> {
    /// Finds the parts. `Err(Unsigned)`: there is no offer in it at all.
    pub(crate) fn new(request: &MapRequest, bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut offers = request.itr_rlocs.iter().filter_map(vendor_payload);
        let offer = match (offers.next(), offers.next()) {
            (None, _) => return Err(Refusal::Unsigned),
            (Some(Ok(Payload::Offer(offer))), None) => offer,
            _ => return Err(Refusal::Malformed),
        };
        let (suite, key) = key_material(&request.itr_rlocs)?;
        if !offer.suites.contains(&suite) {
            return Err(Refusal::NoKeyMaterial);
        }
        let [record] = request.records.as_slice() else {
            return Err(Refusal::Malformed);
        };
        let asked = record.prefix().map_err(|_| Refusal::Malformed)?;
        let eid = asked.first_eid();
        let source = request.source_eid.to_eid().ok_or(Refusal::Malformed)?;
        if asked != eid.host_prefix() || source.instance_id != eid.instance_id {
            return Err(Refusal::Malformed);
        }
        let prefix = EidPrefix::from_parts(source.instance_id, source.address, offer.source.0);
        let binding = Binding {
            prefix: prefix.map_err(|_| Refusal::Malformed)?,
            node: offer.node,
            statement: offer.source.1,
        };
        let addresses = request.itr_rlocs.iter().filter_map(AfiAddress::ip);
        let locators = addresses
            .zip(&offer.locators)
            .map(|(address, (priority, weight))| {
                let rloc = Rloc {
                    address,
                    port: DATA_PORT,
                };
                Locator::new(rloc, *priority, *weight)
            })
            .collect();
        Ok(Self {
            offer,
            key,
            eid,
            source,
            binding,
            bytes,
            locators,
        })
    }

    /// Whether its signature is over this message.
    pub(crate) fn verify_signature(&self) -> Result<(), Refusal> {
        verify_message(
            Label::MapRequest,
            None,
            self.bytes,
            &self.offer.signature,
            &self.offer.node,
        )
        .then_some(())
        .ok_or(Refusal::BadSignature)
    }

    /// The sender's own mapping: where its ITR-RLOCs are, for as long as its binding holds, a day at most.
    pub(crate) fn mapping(&self, unix: u64) -> Mapping {
        let minutes = self.binding.statement.not_after.saturating_sub(unix) / 60;
        let ttl = Ttl(u32::try_from(minutes).unwrap_or(u32::MAX).clamp(1, Ttl::DAY.0));
        let mut mapping = Mapping::new(self.binding.prefix, ttl, self.locators.clone());
        mapping.authoritative = true;
        mapping
    }

    /// The suite to answer with: the favourite when both have the same, else the one that is fast without AES
    /// instructions, else the first of ours that was offered.
    pub(crate) fn choose(&self, ours: &[Suite]) -> Result<Suite, Refusal> {
        let theirs = |suite: &Suite| self.offer.suites.contains(&suite.id());
        let favourite = ours
            .first()
            .filter(|suite| self.offer.suites.first() == Some(&suite.id()));
        let plain = Suite::ChaCha20Poly1305;
        let plain = (ours.contains(&plain) && theirs(&plain)).then_some(plain);
        favourite
            .copied()
            .or(plain)
            .or_else(|| ours.iter().copied().find(theirs))
            .ok_or(Refusal::NoSuite)
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        digest(self.bytes)
    }
}

impl Responder {
    /// The Map-Reply to a copy of a Map-Request that was answered just now.
    pub(crate) fn kept(&self, request: &[u8; 32]) -> Option<&Vec<u8>> {
        self.kept.get(request)
    }

    /// Keeps a Map-Reply for a while.
    pub(crate) fn keep(&mut self, now: Instant, request: [u8; 32], reply: Vec<u8>) {
        self.forget_old(now);
        if self.kept.len() >= KEPT
            && let Some((_, oldest)) = self.kept_by_age.pop_first()
        {
            self.kept.remove(&oldest);
        }
        self.kept.insert(request, reply);
        self.kept_by_age.insert((now, request));
    }

    /// Whether the counter is new, as far as is known before the signature was verified.
    pub(crate) fn check_counter(&self, node: &PublicKey, counter: u64) -> Result<(), Refusal> {
        let Some(window) = self.windows.get(node) else {
            return Ok(());
        };
        if window.has(counter) {
            Err(Refusal::Replayed)
        } else {
            Ok(())
        }
    }

    /// The counter is used up. Only after the signature was verified.
    pub(crate) fn take_counter(&mut self, config: &Config, node: &PublicKey, counter: u64) -> Result<(), Refusal> {
        self.check_counter(node, counter)?;
        if !self.windows.contains_key(node) && self.windows.len() >= config.limits.nodes {
            return Err(Refusal::TooMany);
        }
        let window = self.windows.entry(*node).or_insert(Window {
            highest: counter,
            seen: 0,
        });
        window.mark(counter);
        Ok(())
    }

    /// Forgets replies that are too old to be repeated.
    pub(crate) fn forget_old(&mut self, now: Instant) {
        while let Some((at, request)) = self.kept_by_age.first().copied() {
            if now.saturating_duration_since(at) < REPLY_KEPT {
                break;
            }
            self.kept_by_age.remove(&(at, request));
            self.kept.remove(&request);
        }
    }
}

impl Window {
    fn has(&self, counter: u64) -> bool {
        match self.highest.checked_sub(counter) {
            None => false,
            Some(behind) if behind >= WINDOW => true,
            Some(behind) => self.seen >> behind & 1 == 1,
        }
    }

    fn mark(&mut self, counter: u64) {
        if let Some(ahead) = counter.checked_sub(self.highest) {
            self.seen = if ahead >= WINDOW { 0 } else { self.seen << ahead };
            self.seen |= 1;
            self.highest = counter;
        } else {
            let behind = self.highest.saturating_sub(counter);
            if behind < WINDOW {
                self.seen |= 1 << behind;
            }
        }
    }
}

/// Writes and signs the Map-Reply.
pub(crate) fn write_reply(
    config: &Config,
    request: &MapRequest,
    asked: &Asked<'_>,
    own: &DatabaseMapping,
    own_mapping: &Mapping,
    answer: (Suite, Vec<SaIndex>, [u8; 32]),
) -> Result<Vec<u8>, Refusal> {
    let identity = config.mesh.identity.as_ref().ok_or(Refusal::NoOwnBinding)?;
    let binding = own.binding.as_ref().ok_or(Refusal::NoOwnBinding)?;
    let (suite, indices, public) = answer;
    let network = config.mesh.networks.get(&asked.eid.instance_id);
    let payload = Payload::Answer(Answer {
        suite,
        capabilities: 0,
        indices,
        node: identity.public_key(),
        target: binding.statement,
        permit: network.and_then(|network| network.permit),
        signature: PLACEHOLDER,
    });
    let mut record = EidRecord::from_mapping(own_mapping);
    let first = record.locators.first_mut().ok_or(Refusal::NoOwnBinding)?;
    first.rloc = Lcaf::SecurityKey {
        cipher_suite: suite.id(),
        revoke: false,
        keys: vec![public.to_vec()],
        address: first.rloc.clone(),
    }
    .into();
    record.locators.push(vendor_locator(payload.to_address()));
    record.sort_locators();
    let reply = MapReply {
        probe: request.probe,
        echo_nonce: false,
        nonce: request.nonce,
        records: vec![record],
        security: None,
    };
    let mut bytes = reply.try_encode().map_err(|_| Refusal::NoOwnBinding)?;
    sign_message(Label::MapReply, Some(&asked.digest()), &mut bytes, identity.signer())
        .map_err(|_| Refusal::NoOwnBinding)?;
    Ok(bytes)
}

/// An RLOC-record that nobody sends to, around a payload.
pub(crate) fn vendor_locator(rloc: AfiAddress) -> RlocRecord {
    RlocRecord {
        priority: Locator::NEVER,
        weight: 0,
        m_priority: Locator::NEVER,
        m_weight: 0,
        local: false,
        probed: false,
        reachable: false,
        rloc,
    }
}

/// Who asked, for the operator.
pub(crate) fn node_of(asked: &Asked<'_>) -> Option<KeyId> {
    asked.offer.node.id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_counts_once_in_any_order_within_the_window() {
        let mut window = Window { highest: 100, seen: 0 };
        window.mark(100);
        assert!(window.has(100) && !window.has(99) && !window.has(101));
        window.mark(103);
        assert!(window.has(100) && window.has(103) && !window.has(101) && !window.has(102));
        window.mark(101);
        assert!(window.has(101) && !window.has(102));
        assert!(window.has(103 - WINDOW), "too old to tell");
        window.mark(103 + WINDOW);
        assert!(window.has(103) && !window.has(104) && window.has(103 + WINDOW));
        window.mark(u64::MAX);
        assert!(window.has(u64::MAX) && window.has(0));
    }
}
