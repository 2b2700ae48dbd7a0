//! LISP-SEC authentication data (RFC 9303 §6). Carried and shown; computing it is the xTR's and the Map-Server's.

use super::EidRecord;

/// The AD that follows an ECM header with S set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "field names are the RFC's")]
pub struct EcmSecurity {
    pub requested_hmac_id: u16,
    pub key_id: u8,
    pub wrap_id: u8,
    pub preamble: [u8; 8],
    pub otk: Vec<u8>,
    pub eid_ad: EidAd,
}

/// The EID-AD of RFC 9303 §6.4 and §6.5.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "field names are the RFC's")]
pub struct EidAd {
    pub kdf_id: u16,
    /// Records and HMAC, present only when a Map-Server wrote it.
    pub records: Option<EidAdRecords>,
}

/// The part of an EID-AD that only a Map-Server writes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "field names are the RFC's")]
pub struct EidAdRecords {
    pub etr_cant_sign: bool,
    pub hmac_id: u16,
    pub prefixes: Vec<(u8, super::AfiAddress)>,
    pub hmac: Vec<u8>,
}

/// The AD that follows the records of a Map-Reply with S set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "field names are the RFC's")]
pub struct MapReplySecurity {
    pub eid_ad: EidAd,
    pub packet_ad: PacketAd,
}

/// The PKT-AD of RFC 9303 §6.5.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "field names are the RFC's")]
pub struct PacketAd {
    pub hmac_id: u16,
    pub hmac: Vec<u8>,
}

/// Keeps the import list of this contract honest until the codec uses it.
const _: Option<EidRecord> = None;
