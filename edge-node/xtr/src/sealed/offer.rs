//! The initiator's half of the exchange, its beginning: a signed Map-Request that offers key material.

use std::net::IpAddr;

use lisp::{
    Eid, Nonce,
    mesh::{
        Binding, Label, Offer, PLACEHOLDER, Payload, SaIndex, Suite, X25519_LEN, digest, sign_message, x25519_public,
    },
    wire::{AfiAddress, Lcaf, MapRequest, RequestRecord},
};
use zeroize::Zeroizing;

use super::Refusal;
use crate::Config;

/// ITR-RLOCs of a sealed Map-Request: with more, it would not fit 576 bytes.
const ITR_RLOCS: usize = 4;

/// A Map-Request that went out, and what its answer needs. The secret is wiped with it.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) secret: Zeroizing<[u8; X25519_LEN]>,
    pub(crate) indices: Vec<SaIndex>,
    pub(crate) digest: [u8; 32],
    /// A repetition is the same message to the byte: the responder knows a copy by it.
    pub(crate) bytes: Vec<u8>,
}

/// What a Map-Request says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) eid: Eid,
    pub(crate) source: &'a Binding,
    pub(crate) source_eid: Eid,
    pub(crate) nonce: Nonce,
    /// Straight to a locator (P=1), not through the mapping system.
    pub(crate) direct: bool,
    pub(crate) smr_invoked: bool,
    pub(crate) counter: u64,
}

impl Offered {
    /// Writes and signs it.
    pub(crate) fn new(
        config: &Config,
        question: &Question<'_>,
        indices: Vec<SaIndex>,
        secret: Zeroizing<[u8; X25519_LEN]>,
    ) -> Result<Self, Refusal> {
        let identity = config.mesh.identity.as_ref().ok_or(Refusal::NoOwnBinding)?;
        let network = config.mesh.networks.get(&question.eid.instance_id);
        let addresses: Vec<IpAddr> = config
            .itr_rlocs()
            .iter()
            .filter_map(AfiAddress::ip)
            .take(ITR_RLOCS)
            .collect();
        let weight_of = |address: &IpAddr| {
            let locator = config.locators.iter().find(|locator| locator.rloc.address == *address);
            locator.map_or((255, 0), |locator| (locator.priority, locator.weight))
        };
        let offer = Offer {
            suites: config.mesh.suites.iter().map(|suite| suite.id()).collect(),
            capabilities: 0,
            indices: indices.clone(),
            counter: question.counter,
            node: identity.public_key(),
            source: (question.source.prefix.length(), question.source.statement),
            permit: network.and_then(|network| network.permit),
            locators: addresses.iter().map(weight_of).collect(),
            signature: PLACEHOLDER,
        };
        let (first, rest) = addresses.split_first().ok_or(Refusal::NoOwnBinding)?;
        let suite = config.mesh.suites.first().copied().unwrap_or(Suite::ChaCha20Poly1305);
        let key_material = Lcaf::SecurityKey {
            cipher_suite: suite.id(),
            revoke: false,
            keys: vec![x25519_public(&secret).to_vec()],
            address: AfiAddress::Ip(*first),
        };
        let mut itr_rlocs = vec![key_material.into()];
        itr_rlocs.extend(rest.iter().copied().map(AfiAddress::Ip));
        itr_rlocs.push(Payload::Offer(offer).to_address());
        let mut request = MapRequest::new(
            question.nonce,
            AfiAddress::from_eid(&question.source_eid),
            itr_rlocs,
            RequestRecord::for_eid(&question.eid),
        );
        request.smr_invoked = question.smr_invoked;
        request.probe = question.direct;
        let mut bytes = request.try_encode().map_err(|_| Refusal::NoOwnBinding)?;
        sign_message(Label::MapRequest, None, &mut bytes, identity.signer()).map_err(|_| Refusal::NoOwnBinding)?;
        Ok(Self {
            secret,
            indices,
            digest: digest(&bytes),
            bytes,
        })
    }
}

/// The one LCAF 11 with one X25519 value among `addresses`: its suite and the value.
pub(crate) fn key_material<'a>(
    addresses: impl IntoIterator<Item = &'a AfiAddress>,
) -> Result<(u8, [u8; X25519_LEN]), Refusal> {
    let mut found = None;
    for address in addresses {
        let AfiAddress::Lcaf(lcaf) = address else { continue };
        let Lcaf::SecurityKey { cipher_suite, keys, .. } = &**lcaf else {
            continue;
        };
        let [key] = keys.as_slice() else {
            return Err(Refusal::NoKeyMaterial);
        };
        let key = <[u8; X25519_LEN]>::try_from(key.as_slice()).map_err(|_| Refusal::NoKeyMaterial)?;
        if found.replace((*cipher_suite, key)).is_some() {
            return Err(Refusal::NoKeyMaterial);
        }
    }
    found.ok_or(Refusal::NoKeyMaterial)
}
