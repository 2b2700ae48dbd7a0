//! What the Vendor LCAFs of the sealed mesh hold (RFC 9306), and where they stand:
//!
//! | in | stands as | payload |
//! |---|---|---|
//! | Map-Request | the last ITR-RLOC | [`Offer`] |
//! | Map-Reply | an RLOC-record of priority 255 in the first EID-record | [`Answer`] |
//! | Map-Register | an RLOC-record of priority 255 in each EID-record | [`Proof`] |
//! | Map-Register | one more in the first EID-record | [`Seal`] |
//!
//! The X25519 value and the suite stand in an LCAF of type 11 around the first ITR-RLOC, or the first locator of the
//! Map-Reply's first record, as RFC 8061 §4.1 has it. A receiver that does not know the OUI passes over them.

use super::{
    PublicKey, SaIndex, Signature, Suite, binding::Statement, bytes::Fields, membership::Permit, schedule::MAX_WORKERS,
};
use crate::wire::{AfiAddress, Lcaf};

/// Organizationally unique identifier of the payloads, of the locally administered range: Weft has none assigned.
pub const VENDOR_OUI: [u8; 3] = [0x02, b'W', b'F'];
/// Most suites that an offer names.
pub const MAX_SUITES: usize = 8;
const VERSION: u8 = 1;
const OFFER: u8 = 1;
const ANSWER: u8 = 2;
const PROOF: u8 = 3;
const SEAL: u8 = 4;

/// What the sender of a Map-Request offers and proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Suites in order of preference, 1 to [`MAX_SUITES`]; unknown numbers are kept.
    pub suites: Vec<u8>,
    /// Reserved for later; unknown bits are ignored, but signed.
    pub capabilities: u8,
    /// Own SA indices, one for each receiving worker.
    pub indices: Vec<SaIndex>,
    /// Rises with each Map-Request of this node, across restarts: a copy is known by it.
    pub counter: u64,
    /// The node's key, which signs the message.
    pub node: PublicKey,
    /// Mask length of the prefix around the Source-EID that the statement binds to the node, and the statement.
    pub source: (u8, Statement),
    /// Membership in the network, when that is how it admits.
    pub permit: Option<Permit>,
    /// Priority and weight of each ITR-RLOC before the Vendor LCAF, in their order: the sender's locators.
    pub locators: Vec<(u8, u8)>,
    /// Over the whole message.
    pub signature: Signature,
}

/// What the sender of a Map-Reply answers and proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The chosen suite.
    pub suite: Suite,
    /// Reserved for later.
    pub capabilities: u8,
    /// Own SA indices, one for each receiving worker.
    pub indices: Vec<SaIndex>,
    /// The node's key, which signs the message.
    pub node: PublicKey,
    /// The binding of the first record's EID-prefix.
    pub target: Statement,
    /// Membership in the network, when that is how it admits.
    pub permit: Option<Permit>,
    /// Over the hash of the Map-Request and the whole message.
    pub signature: Signature,
}

/// The binding of a registered EID-prefix to the node that sealed the Map-Register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof(pub Statement);

/// Who signed a Map-Register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The node's key.
    pub node: PublicKey,
    /// Over the whole message.
    pub signature: Signature,
}

/// Any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each names its content")]
pub enum Payload {
    Offer(Offer),
    Answer(Answer),
    Proof(Proof),
    Seal(Seal),
}

/// Why a Vendor LCAF with our OUI is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Another version of the protocol.
    #[error("version {0} of the sealed mesh is not known here")]
    Version(u8),
    /// Another kind.
    #[error("payload kind {0} is not known here")]
    Kind(u8),
    /// Cut short, too long, or a field without sense.
    #[error("a malformed payload of kind {0}")]
    Malformed(u8),
}

/// The payload of an address that is a Vendor LCAF with our OUI; `None` for any other.
pub fn vendor_payload(address: &AfiAddress) -> Option<Result<Payload, PayloadError>> {
    let AfiAddress::Lcaf(lcaf) = address else { return None };
    match &**lcaf {
        Lcaf::Vendor { oui, data } if *oui == VENDOR_OUI => Some(Payload::decode(data)),
        _ => None,
    }
}

impl Payload {
    /// Reads the data of a Vendor LCAF.
    ///
    /// # Errors
    /// When it is of another version, or no payload.
    pub fn decode(data: &[u8]) -> Result<Self, PayloadError> {
        let mut fields = Fields(data);
        let (version, kind) = match (fields.u8(), fields.u8()) {
            (Some(version), Some(kind)) => (version, kind),
            _ => return Err(PayloadError::Malformed(0)),
        };
        if version != VERSION {
            return Err(PayloadError::Version(version));
        }
        let payload = match kind {
            OFFER => Offer::read(&mut fields).map(Self::Offer),
            ANSWER => Answer::read(&mut fields).map(Self::Answer),
            PROOF => Statement::read(&mut fields).map(|statement| Self::Proof(Proof(statement))),
            SEAL => Seal::read(&mut fields).map(Self::Seal),
            other => return Err(PayloadError::Kind(other)),
        };
        payload
            .filter(|_| fields.is_empty())
            .ok_or(PayloadError::Malformed(kind))
    }

    /// The data of a Vendor LCAF.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        match self {
            Self::Offer(offer) => offer.write(&mut bytes),
            Self::Answer(answer) => answer.write(&mut bytes),
            Self::Proof(Proof(statement)) => {
                bytes.push(PROOF);
                statement.write(&mut bytes);
            }
            Self::Seal(seal) => {
                bytes.push(SEAL);
                bytes.extend_from_slice(seal.node.as_bytes());
                bytes.extend_from_slice(&seal.signature.0);
            }
        }
        bytes
    }

    /// The Vendor LCAF.
    pub fn to_address(&self) -> AfiAddress {
        let data = self.encode();
        Lcaf::Vendor { oui: VENDOR_OUI, data }.into()
    }
}

impl Offer {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(OFFER);
        let suites = self.suites.iter().take(MAX_SUITES);
        bytes.push(u8::try_from(suites.len()).unwrap_or_default());
        bytes.extend(suites);
        bytes.push(self.capabilities);
        write_indices(bytes, &self.indices);
        bytes.extend_from_slice(&self.counter.to_be_bytes());
        bytes.extend_from_slice(self.node.as_bytes());
        bytes.push(self.source.0);
        self.source.1.write(bytes);
        write_permit(bytes, self.permit.as_ref());
        let locators = self.locators.iter().take(31);
        bytes.push(u8::try_from(locators.len()).unwrap_or_default());
        bytes.extend(locators.flat_map(|(priority, weight)| [*priority, *weight]));
        bytes.extend_from_slice(&self.signature.0);
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let count = usize::from(fields.u8()?);
        if count == 0 || count > MAX_SUITES {
            return None;
        }
        let suites = (0..count).map(|_| fields.u8()).collect::<Option<_>>()?;
        Some(Self {
            suites,
            capabilities: fields.u8()?,
            indices: read_indices(fields)?,
            counter: fields.u64()?,
            node: PublicKey::from_bytes(fields.array()?),
            source: (fields.u8()?, Statement::read(fields)?),
            permit: read_permit(fields)?,
            locators: {
                let count = fields.u8()?;
                (0..count)
                    .map(|_| fields.array().map(|[priority, weight]| (priority, weight)))
                    .collect::<Option<_>>()?
            },
            signature: Signature(fields.array()?),
        })
    }
}

impl Answer {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&[ANSWER, self.suite.id(), self.capabilities]);
        write_indices(bytes, &self.indices);
        bytes.extend_from_slice(self.node.as_bytes());
        self.target.write(bytes);
        write_permit(bytes, self.permit.as_ref());
        bytes.extend_from_slice(&self.signature.0);
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            suite: Suite::from_id(fields.u8()?)?,
            capabilities: fields.u8()?,
            indices: read_indices(fields)?,
            node: PublicKey::from_bytes(fields.array()?),
            target: Statement::read(fields)?,
            permit: read_permit(fields)?,
            signature: Signature(fields.array()?),
        })
    }
}

impl Seal {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            node: PublicKey::from_bytes(fields.array()?),
            signature: Signature(fields.array()?),
        })
    }
}

fn write_indices(bytes: &mut Vec<u8>, indices: &[SaIndex]) {
    let indices = indices.iter().take(MAX_WORKERS);
    bytes.push(u8::try_from(indices.len()).unwrap_or_default());
    for index in indices {
        let [_, a, b, c] = index.get().to_be_bytes();
        bytes.extend_from_slice(&[a, b, c]);
    }
}

/// One to [`MAX_WORKERS`], no two alike.
fn read_indices(fields: &mut Fields<'_>) -> Option<Vec<SaIndex>> {
    let count = usize::from(fields.u8()?);
    if count == 0 || count > MAX_WORKERS {
        return None;
    }
    let mut indices = Vec::with_capacity(count);
    for _ in 0..count {
        let [a, b, c] = fields.array()?;
        let index = SaIndex::new(u32::from_be_bytes([0, a, b, c]))?;
        if indices.contains(&index) {
            return None;
        }
        indices.push(index);
    }
    Some(indices)
}

fn write_permit(bytes: &mut Vec<u8>, permit: Option<&Permit>) {
    bytes.push(u8::from(permit.is_some()));
    if let Some(permit) = permit {
        permit.write(bytes);
    }
}

fn read_permit(fields: &mut Fields<'_>) -> Option<Option<Permit>> {
    match fields.u8()? {
        0 => Some(None),
        1 => Permit::read(fields).map(Some),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Issuer, Signer, SoftwareKey};

    fn statement(issuer: Issuer) -> Statement {
        Statement {
            epoch: 3,
            not_after: 100,
            issuer,
            signature: Signature([8; 64]),
        }
    }

    fn payloads() -> Vec<Payload> {
        let node = SoftwareKey::from_bytes(&[1; 32]).unwrap().public_key();
        let indices = vec![SaIndex::new(1).unwrap(), SaIndex::new(0xffffff).unwrap()];
        let permit = Some(Permit {
            not_after: 9,
            signature: Signature([7; 64]),
        });
        vec![
            Payload::Offer(Offer {
                suites: vec![5, 6, 99],
                capabilities: 0,
                indices: indices.clone(),
                counter: 77,
                node,
                source: (128, statement(Issuer::EidKey(node))),
                permit,
                locators: vec![(1, 100), (2, 0)],
                signature: Signature([9; 64]),
            }),
            Payload::Answer(Answer {
                suite: Suite::ChaCha20Poly1305,
                capabilities: 0,
                indices,
                node,
                target: statement(Issuer::Authority),
                permit: None,
                signature: Signature([9; 64]),
            }),
            Payload::Proof(Proof(statement(Issuer::Authority))),
            Payload::Seal(Seal {
                node,
                signature: Signature([9; 64]),
            }),
        ]
    }

    #[test]
    fn payloads_are_read_back_and_what_is_cut_or_longer_is_refused() {
        for payload in payloads() {
            let mut data = payload.encode();
            assert_eq!(Payload::decode(&data), Ok(payload.clone()));
            assert_eq!(vendor_payload(&payload.to_address()), Some(Ok(payload)));
            for short in 0..data.len() {
                assert!(Payload::decode(&data[..short]).is_err());
            }
            data.push(0);
            assert!(Payload::decode(&data).is_err());
        }
    }

    #[test]
    fn another_version_kind_or_oui_is_told_apart() {
        assert_eq!(Payload::decode(&[2, 1]), Err(PayloadError::Version(2)));
        assert_eq!(Payload::decode(&[1, 9]), Err(PayloadError::Kind(9)));
        let other: AfiAddress = Lcaf::Vendor {
            oui: [0, 0, 1],
            data: vec![1, 1],
        }
        .into();
        assert_eq!(vendor_payload(&other), None);
        assert_eq!(vendor_payload(&AfiAddress::None), None);
    }

    #[test]
    fn an_index_is_neither_zero_nor_there_twice() {
        for indices in [&[1, 0, 0, 0][..], &[2, 0, 0, 1, 0, 0, 1], &[0], &[17]] {
            assert_eq!(read_indices(&mut Fields(indices)), None, "{indices:?}");
        }
    }
}
