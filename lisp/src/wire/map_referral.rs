//! Map-Referral (RFC 8111 §6.4).

use super::{AfiAddress, RlocRecord, WireError};
use crate::{Nonce, Ttl};

/// ACT of a referral record (RFC 8111 §6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum ReferralAction {
    NodeReferral,
    MsReferral,
    MsAck,
    MsNotRegistered,
    DelegationHole,
    NotAuthoritative,
    Unassigned(u8),
}

/// A Map-Referral.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapReferral {
    /// Echo of the request's nonce.
    pub nonce: Nonce,
    /// The referrals.
    pub records: Vec<ReferralRecord>,
}

/// One referral.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferralRecord {
    /// Record TTL.
    pub ttl: Ttl,
    /// Mask length in bits.
    pub mask_len: u8,
    /// ACT.
    pub action: ReferralAction,
    /// A-bit.
    pub authoritative: bool,
    /// I-bit: incomplete.
    pub incomplete: bool,
    /// Map-Version.
    pub version: u16,
    /// The EID.
    pub eid: AfiAddress,
    /// Where to ask next.
    pub referrals: Vec<RlocRecord>,
    /// DDT signatures.
    pub signatures: Vec<ReferralSignature>,
}

/// A DDT signature section (RFC 8111 §6.4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "field names are the RFC's")]
pub struct ReferralSignature {
    pub original_ttl: Ttl,
    pub expiration: u32,
    pub inception: u32,
    pub key_tag: u16,
    pub algorithm: u8,
    pub signature: Vec<u8>,
}

impl MapReferral {
    /// Reads the UDP payload.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let _ = bytes;
        unimplemented!()
    }

    /// The UDP payload.
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }
}
