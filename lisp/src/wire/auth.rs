//! Authentication of Map-Register, Map-Notify, Map-Notify-Ack and Info-Requests (RFC 9301 §5.6).
//!
//! | id | MAC | key | MAC bytes sent | accepted |
//! |---|---|---|---|---|
//! | 1 | HMAC-SHA-1 | the secret | 20 | 12, 20 |
//! | 2 | HMAC-SHA-256 | the secret | 32 | 16, 32 |
//! | 3 | HMAC-SHA-256 | HKDF-SHA256 of nonce and secret | 16 | 16 |
//!
//! RFC 9301 truncates 1 and 2 to 12 and 16 bytes; what is deployed sends the whole MAC. Both are accepted, nothing
//! shorter is, and every byte that came is compared.
//!
//! # Algorithm 3: how HKDF is fed
//!
//! RFC 9301 §5.6 says `per-msg-key = KDF(nonce + PSK[KeyID], s)` and no more. This is how Weft reads it, in the terms
//! of RFC 5869, with test vectors in `tests/vectors/`:
//!
//! - input keying material: the 8 bytes of the nonce field as they travel, then the secret;
//! - salt: `s` in ASCII, no NUL: `Map-Register Authentication`, `Map-Notify Authentication` or
//!   `Map-Notify-Ack Authentication`; by analogy `Info-Request Authentication` and `Info-Reply Authentication`, which
//!   are ours;
//! - info: empty;
//! - length: 32 bytes, the key of HMAC-SHA-256.
//!
//! # What is covered
//!
//! The MAC is computed with its own field zeroed. RFC 9301 ends its scope at the last RLOC-record, which would leave
//! the xTR-ID and Site-ID behind it open to forgery although the replay state is kept by xTR-ID. Deployed code covers
//! the whole payload; so does [`sign`], and [`verify`] accepts nothing else. [`verify_scoped`] takes the RFC's scope
//! for a peer that is configured so.

use ring::{hkdf, hmac};
use serde::{Deserialize, Serialize};

use super::{MapNotify, MapNotifyAck, MapRegister, WireError, ids::IDS_LEN, reader::Reader, text, writer::Writer};

/// Offset of the nonce in every authenticated message.
const NONCE: usize = 4;
/// Offset of the Key-ID, with the Algorithm-ID behind it.
const KEY_ID: usize = 12;
/// Offset of the MAC.
const MAC: usize = 16;

/// Algorithm ID (RFC 9301 §12.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthAlgorithm {
    /// 1: weak; MUST NOT be used over the Internet. Off unless asked for by name.
    HmacSha1,
    /// 2.
    HmacSha256_128,
    /// 3: a fresh key for each message, by HKDF over nonce and secret.
    HmacSha256_128HkdfSha256,
}

/// The Key-ID, Algorithm-ID and MAC fields as they travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authentication {
    /// Which pre-shared secret.
    pub key_id: u8,
    /// Algorithm ID; 0 and unknown ones are carried so that they can be refused by name.
    pub algorithm_id: u8,
    /// The MAC. Zeros of the right length before signing.
    #[serde(serialize_with = "text::hex")]
    pub mac: Vec<u8>,
}

/// Which of the messages: enters the key derivation of algorithm 3, and must be the type of the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum Purpose {
    MapRegister,
    MapNotify,
    MapNotifyAck,
    InfoRequest,
    InfoReply,
}

/// How far the MAC reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthScope {
    /// The whole UDP payload, as deployed code has it.
    #[default]
    WholePayload,
    /// To the end of the last RLOC-record, as RFC 9301 §5.6 has it: a trailing xTR-ID and Site-ID are not covered, and
    /// whoever accepts this must not trust them.
    LastRecord,
}

/// Why a message is not authentic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Not of a type that carries authentication, or cut short.
    #[error("the message carries no authentication data")]
    NotAuthenticated,
    /// The algorithm is not one the site accepts.
    #[error("algorithm {0} is not accepted here")]
    AlgorithmRefused(u8),
    /// A MAC length that the algorithm does not have.
    #[error("a MAC of {0} bytes is not of this algorithm")]
    BadLength(usize),
    /// It does not verify.
    #[error("the MAC does not verify")]
    BadMac,
    /// An empty secret authenticates nobody.
    #[error("the secret is empty")]
    EmptySecret,
}

impl AuthAlgorithm {
    /// The wire value.
    pub const fn id(self) -> u8 {
        match self {
            Self::HmacSha1 => 1,
            Self::HmacSha256_128 => 2,
            Self::HmacSha256_128HkdfSha256 => 3,
        }
    }

    /// From the wire value.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::HmacSha1),
            2 => Some(Self::HmacSha256_128),
            3 => Some(Self::HmacSha256_128HkdfSha256),
            _ => None,
        }
    }

    /// Bytes of MAC we send: 20 and 32 as deployed code does for algorithms 1 and 2, 16 for 3.
    pub const fn sent_mac_len(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::HmacSha256_128 => 32,
            Self::HmacSha256_128HkdfSha256 => 16,
        }
    }

    /// MAC lengths in bytes that are accepted: the RFC's and the deployed one.
    pub const fn accepted_mac_lens(self) -> &'static [usize] {
        match self {
            Self::HmacSha1 => &[12, 20],
            Self::HmacSha256_128 => &[16, 32],
            Self::HmacSha256_128HkdfSha256 => &[16],
        }
    }

    /// The key of the MAC for one message.
    fn key(self, purpose: Purpose, nonce: &[u8], secret: &[u8]) -> Result<hmac::Key, AuthError> {
        Ok(match self {
            Self::HmacSha1 => hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret),
            Self::HmacSha256_128 => hmac::Key::new(hmac::HMAC_SHA256, secret),
            Self::HmacSha256_128HkdfSha256 => {
                let material = [nonce, secret].concat();
                let key = hkdf::Salt::new(hkdf::HKDF_SHA256, purpose.salt()).extract(&material);
                let expanded = key.expand(&[], hmac::HMAC_SHA256).map_err(|_| AuthError::BadMac)?;
                hmac::Key::from(expanded)
            }
        })
    }
}

impl Purpose {
    /// `s` of RFC 9301 §5.6.
    const fn salt(self) -> &'static [u8] {
        match self {
            Self::MapRegister => b"Map-Register Authentication",
            Self::MapNotify => b"Map-Notify Authentication",
            Self::MapNotifyAck => b"Map-Notify-Ack Authentication",
            Self::InfoRequest => b"Info-Request Authentication",
            Self::InfoReply => b"Info-Reply Authentication",
        }
    }

    /// Of a message, by its first byte. `None` when its type carries no authentication.
    pub const fn of(message: &[u8]) -> Option<Self> {
        match message.first() {
            Some(0x30..=0x3f) => Some(Self::MapRegister),
            Some(0x40..=0x4f) => Some(Self::MapNotify),
            Some(0x50..=0x5f) => Some(Self::MapNotifyAck),
            Some(0x70..=0x77) => Some(Self::InfoRequest),
            Some(0x78..=0x7f) => Some(Self::InfoReply),
            _ => None,
        }
    }
}

impl Authentication {
    /// Zeros of the length that [`sign`] fills in.
    pub fn unsigned(key_id: u8, algorithm: AuthAlgorithm) -> Self {
        Self {
            key_id,
            algorithm_id: algorithm.id(),
            mac: vec![0; algorithm.sent_mac_len()],
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let [key_id, algorithm_id] = reader.array("Key-ID and Algorithm-ID")?;
        let length = usize::from(reader.u16("Authentication Data Length")?);
        Ok(Self {
            key_id,
            algorithm_id,
            mac: reader.bytes(length, "Authentication Data")?.to_vec(),
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.bytes(&[self.key_id, self.algorithm_id]);
        writer.length_prefixed("Authentication Data", |writer| writer.bytes(&self.mac));
    }
}

/// An encoded message, cut around its MAC.
struct Parts<'a> {
    algorithm_id: u8,
    nonce: &'a [u8],
    head: &'a [u8],
    mac: &'a [u8],
    tail: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(message: &'a [u8], purpose: Purpose) -> Option<Self> {
        if Purpose::of(message) != Some(purpose) {
            return None;
        }
        let nonce = message.get(NONCE..KEY_ID)?;
        let (head, rest) = message.split_at_checked(MAC)?;
        let &[_, algorithm_id, high, low] = head.get(KEY_ID..)? else {
            return None;
        };
        let (mac, tail) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        Some(Self {
            algorithm_id,
            nonce,
            head,
            mac,
            tail,
        })
    }

    /// The MAC of the message with its MAC field zeroed.
    fn compute(&self, algorithm: AuthAlgorithm, purpose: Purpose, secret: &[u8]) -> Result<hmac::Tag, AuthError> {
        if secret.is_empty() {
            return Err(AuthError::EmptySecret);
        }
        let mut context = hmac::Context::with_key(&algorithm.key(purpose, self.nonce, secret)?);
        context.update(self.head);
        // No accepted length is longer than this.
        context.update(
            [0; 32]
                .get(..self.mac.len())
                .ok_or(AuthError::BadLength(self.mac.len()))?,
        );
        context.update(self.tail);
        Ok(context.sign())
    }
}

/// Writes the MAC into an encoded message whose authentication field was made by [`Authentication::unsigned`].
/// It covers the whole UDP payload.
pub fn sign(message: &mut [u8], purpose: Purpose, secret: &[u8]) -> Result<(), AuthError> {
    let parts = Parts::of(message, purpose).ok_or(AuthError::NotAuthenticated)?;
    let algorithm =
        AuthAlgorithm::from_id(parts.algorithm_id).ok_or(AuthError::AlgorithmRefused(parts.algorithm_id))?;
    let length = parts.mac.len();
    if !algorithm.accepted_mac_lens().contains(&length) {
        return Err(AuthError::BadLength(length));
    }
    let tag = parts.compute(algorithm, purpose, secret)?;
    let field = message.get_mut(MAC..).and_then(|rest| rest.get_mut(..length));
    let (Some(field), Some(mac)) = (field, tag.as_ref().get(..length)) else {
        return Err(AuthError::BadLength(length));
    };
    field.copy_from_slice(mac);
    Ok(())
}

/// Checks the MAC of an encoded message, in constant time, over the whole UDP payload, accepting the RFC's and the
/// deployed lengths. `accepted` is the site's configuration, never the packet's choice: algorithm 0 and every one that
/// is not in it are failures.
pub fn verify(message: &[u8], purpose: Purpose, secret: &[u8], accepted: &[AuthAlgorithm]) -> Result<(), AuthError> {
    let parts = Parts::of(message, purpose).ok_or(AuthError::NotAuthenticated)?;
    let algorithm = AuthAlgorithm::from_id(parts.algorithm_id)
        .filter(|algorithm| accepted.contains(algorithm))
        .ok_or(AuthError::AlgorithmRefused(parts.algorithm_id))?;
    if !algorithm.accepted_mac_lens().contains(&parts.mac.len()) {
        return Err(AuthError::BadLength(parts.mac.len()));
    }
    let tag = parts.compute(algorithm, purpose, secret)?;
    match tag.as_ref().get(..parts.mac.len()) {
        Some(expected) if equal(expected, parts.mac) => Ok(()),
        _ => Err(AuthError::BadMac),
    }
}

/// [`verify`] with a choice of scope. With [`AuthScope::LastRecord`] both scopes are tried, the whole payload first;
/// the answer says which one fitted.
pub fn verify_scoped(
    message: &[u8],
    purpose: Purpose,
    secret: &[u8],
    accepted: &[AuthAlgorithm],
    widest: AuthScope,
) -> Result<AuthScope, AuthError> {
    let whole = verify(message, purpose, secret, accepted);
    if widest == AuthScope::WholePayload || whole != Err(AuthError::BadMac) {
        return whole.map(|()| AuthScope::WholePayload);
    }
    let ids = match purpose {
        Purpose::MapRegister => MapRegister::decode(message).is_ok_and(|message| message.xtr.is_some()),
        Purpose::MapNotify => MapNotify::decode(message).is_ok_and(|message| message.xtr.is_some()),
        Purpose::MapNotifyAck => MapNotifyAck::decode(message).is_ok_and(|message| message.0.xtr.is_some()),
        Purpose::InfoRequest | Purpose::InfoReply => false,
    };
    let records = message
        .len()
        .checked_sub(IDS_LEN)
        .filter(|_| ids)
        .and_then(|end| message.get(..end));
    verify(records.ok_or(AuthError::BadMac)?, purpose, secret, accepted).map(|()| AuthScope::LastRecord)
}

/// Compares all bytes whatever the first difference is, so that the time tells nothing about it.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let difference = a
        .iter()
        .zip(b)
        .fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
    a.len() == b.len() && std::hint::black_box(difference) == 0
}
