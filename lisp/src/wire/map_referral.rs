//! Map-Referral (RFC 8111 §6.4).

use serde::Serialize;

use super::{
    AfiAddress, EncodeError, MessageType, RlocRecord, WireError,
    reader::{Reader, first_word},
    record::read_rlocs,
    text,
    writer::Writer,
};
use crate::{Nonce, Ttl};

const AUTHORITATIVE: u16 = 0x1000;
const INCOMPLETE: u16 = 0x0800;
/// SigCnt is four bits.
const MAX_SIGNATURES: usize = 15;
/// Bytes of the smallest record: its EID has AFI 0, and nothing follows.
const RECORD_MIN: usize = 12;

/// ACT of a referral record (RFC 8111 §6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum ReferralAction {
    NodeReferral,
    MsReferral,
    MsAck,
    MsNotRegistered,
    DelegationHole,
    NotAuthoritative,
    /// 6 or 7.
    Unassigned(u8),
}

/// A Map-Referral.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapReferral {
    /// Echo of the request's nonce.
    #[serde(serialize_with = "text::display")]
    pub nonce: Nonce,
    /// The referrals, at most 255.
    pub records: Vec<ReferralRecord>,
}

/// One referral.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// Map-Version, 12 bits.
    pub version: u16,
    /// The EID.
    pub eid: AfiAddress,
    /// Where to ask next, at most 255.
    pub referrals: Vec<RlocRecord>,
    /// DDT signatures, at most 15.
    pub signatures: Vec<ReferralSignature>,
}

/// A DDT signature section (RFC 8111 §6.4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "field names are the RFC's")]
pub struct ReferralSignature {
    pub original_ttl: Ttl,
    pub expiration: u32,
    pub inception: u32,
    pub key_tag: u16,
    pub algorithm: u8,
    #[serde(serialize_with = "text::hex")]
    pub signature: Vec<u8>,
}

impl ReferralAction {
    /// The three bits on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::NodeReferral => 0,
            Self::MsReferral => 1,
            Self::MsAck => 2,
            Self::MsNotRegistered => 3,
            Self::DelegationHole => 4,
            Self::NotAuthoritative => 5,
            Self::Unassigned(code) => code & 7,
        }
    }

    /// From the three bits on the wire.
    pub const fn from_code(code: u8) -> Self {
        match code & 7 {
            0 => Self::NodeReferral,
            1 => Self::MsReferral,
            2 => Self::MsAck,
            3 => Self::MsNotRegistered,
            4 => Self::DelegationHole,
            5 => Self::NotAuthoritative,
            other => Self::Unassigned(other),
        }
    }
}

impl MapReferral {
    /// Reads the UDP payload.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let reader = &mut Reader::new(bytes);
        let count = first_word(reader, MessageType::MapReferral as u8)? as u8;
        let nonce = Nonce(reader.u64("nonce")?);
        let mut records = Vec::with_capacity(usize::from(count).min(reader.remaining() / RECORD_MIN));
        for _ in 0..count {
            records.push(ReferralRecord::read(reader)?);
        }
        reader.finish()?;
        Ok(Self { nonce, records })
    }

    /// The UDP payload; of more than 255 records or locators, or 15 signatures, the first ones.
    pub fn encode(&self) -> Vec<u8> {
        Writer::clamped(|writer| self.write(writer))
    }

    /// The UDP payload, or what of it does not fit.
    pub fn try_encode(&self) -> Result<Vec<u8>, EncodeError> {
        Writer::checked(|writer| self.write(writer))
    }

    fn write(&self, writer: &mut Writer) {
        let (count, records) = writer.fit_u8(&self.records, "records");
        writer.first_word(MessageType::MapReferral, &[], count.into());
        writer.u64(self.nonce.0);
        records.iter().for_each(|record| record.write(writer));
    }
}

impl ReferralRecord {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let ttl = Ttl(reader.u32("Record TTL")?);
        let [count, mask_len] = reader.array("Referral Count and EID mask-len")?;
        let bits = reader.u16("ACT, A-bit and I-bit")?;
        let signed_version = reader.u16("SigCnt and Map-Version")?;
        let eid = AfiAddress::read(reader)?;
        let referrals = read_rlocs(reader, count)?;
        let mut signatures = Vec::new();
        for _ in 0..signed_version >> 12 {
            signatures.push(ReferralSignature::read(reader)?);
        }
        Ok(Self {
            ttl,
            mask_len,
            action: ReferralAction::from_code((bits >> 13) as u8),
            authoritative: bits & AUTHORITATIVE != 0,
            incomplete: bits & INCOMPLETE != 0,
            version: signed_version & 0x0fff,
            eid,
            referrals,
            signatures,
        })
    }

    fn write(&self, writer: &mut Writer) {
        let (count, referrals) = writer.fit_u8(&self.referrals, "referrals");
        let signatures = writer.fit(&self.signatures, MAX_SIGNATURES, "signatures");
        writer.u32(self.ttl.0);
        writer.bytes(&[count, self.mask_len]);
        let bit = |set: bool, bit: u16| if set { bit } else { 0 };
        writer.u16(
            u16::from(self.action.code()) << 13
                | bit(self.authoritative, AUTHORITATIVE)
                | bit(self.incomplete, INCOMPLETE),
        );
        let version = writer.fit_bits(self.version.into(), 12, "Map-Version") as u16;
        writer.u16((signatures.len() as u16) << 12 | version);
        self.eid.write(writer);
        referrals.iter().for_each(|referral| referral.write(writer));
        signatures.iter().for_each(|signature| signature.write(writer));
    }
}

impl ReferralSignature {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let original_ttl = Ttl(reader.u32("Original Record TTL")?);
        let expiration = reader.u32("Signature Expiration")?;
        let inception = reader.u32("Signature Inception")?;
        let key_tag = reader.u16("Key Tag")?;
        let length = usize::from(reader.u16("Sig Length")?);
        let [algorithm, ..] = reader.array::<4>("Sig-Algorithm")?;
        let signature = reader.bytes(length, "Signature")?.to_vec();
        Ok(Self {
            original_ttl,
            expiration,
            inception,
            key_tag,
            algorithm,
            signature,
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u32(self.original_ttl.0);
        writer.u32(self.expiration);
        writer.u32(self.inception);
        writer.u16(self.key_tag);
        // A signature that fits no length field is left out.
        let length = writer.fit_len(self.signature.len(), "signature");
        writer.u16(length.unwrap_or(0));
        writer.bytes(&[self.algorithm, 0, 0, 0]);
        if length.is_some() {
            writer.bytes(&self.signature);
        }
    }
}
