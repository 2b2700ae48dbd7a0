//! Authentication of Map-Register, Map-Notify, Map-Notify-Ack and Info-Requests (RFC 9301 §5.6).

use serde::{Deserialize, Serialize};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// Which pre-shared secret.
    pub key_id: u8,
    /// Algorithm ID; 0 and unknown ones are carried so that they can be refused by name.
    pub algorithm_id: u8,
    /// The MAC. Zeros of the right length before signing.
    pub mac: Vec<u8>,
}

/// Which of the three messages: enters the key derivation of algorithm 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum Purpose {
    MapRegister,
    MapNotify,
    MapNotifyAck,
    InfoRequest,
    InfoReply,
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
}

impl Authentication {
    /// Zeros of the length that [`sign`] fills in.
    pub fn unsigned(key_id: u8, algorithm: AuthAlgorithm) -> Self {
        Self { key_id, algorithm_id: algorithm.id(), mac: vec![0; algorithm.sent_mac_len()] }
    }
}

/// Writes the MAC into an encoded message whose authentication field was made by [`Authentication::unsigned`].
/// It covers the whole UDP payload.
pub fn sign(message: &mut [u8], purpose: Purpose, secret: &[u8]) -> Result<(), AuthError> {
    let _ = (message, purpose, secret);
    unimplemented!()
}

/// Checks the MAC of an encoded message, in constant time, over the whole UDP payload, accepting the RFC's and the
/// deployed lengths. `accepted` is the site's configuration, never the packet's choice.
pub fn verify(message: &[u8], purpose: Purpose, secret: &[u8], accepted: &[AuthAlgorithm]) -> Result<(), AuthError> {
    let _ = (message, purpose, secret, accepted);
    unimplemented!()
}
