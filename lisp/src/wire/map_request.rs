//! Map-Request (RFC 9301 §5.2, RFC 9437 §5 for I and N).

use super::{AfiAddress, EidRecord, WireError};
use crate::{Eid, EidPrefix, Nonce, SiteId, XtrId};

/// A Map-Request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// A: an authoritative reply is wanted.
    pub authoritative: bool,
    /// P: RLOC-probe.
    pub probe: bool,
    /// S: SMR, solicit a Map-Request.
    pub smr: bool,
    /// p: from a PITR.
    pub pitr: bool,
    /// s: this Map-Request answers an SMR.
    pub smr_invoked: bool,
    /// L: from within the site.
    pub local: bool,
    /// D: do not send a Map-Reply.
    pub dont_reply: bool,
    /// The nonce the reply echoes.
    pub nonce: Nonce,
    /// Who asks; `AfiAddress::None` for a refresh or a probe.
    pub source_eid: AfiAddress,
    /// Where the reply goes: 1 to 32 addresses.
    pub itr_rlocs: Vec<AfiAddress>,
    /// What is asked. Senders write exactly one.
    pub records: Vec<RequestRecord>,
    /// M: the asker's own mapping. Never to be trusted without a verifying Map-Request.
    pub map_reply_record: Option<EidRecord>,
    /// I: xTR-ID and Site-ID (RFC 9437).
    pub xtr: Option<(XtrId, SiteId)>,
}

/// One asked-for EID-prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// N: publish changes to me (RFC 9437).
    pub notify: bool,
    /// Mask length in bits.
    pub mask_len: u8,
    /// The EID.
    pub eid: AfiAddress,
}

impl RequestRecord {
    /// Asks for one EID.
    pub fn for_eid(eid: &Eid) -> Self {
        let _ = eid;
        unimplemented!()
    }

    /// The EID-prefix asked for, when it is an IP prefix.
    pub fn prefix(&self) -> Result<EidPrefix, WireError> {
        unimplemented!()
    }
}

impl MapRequest {
    /// A plain request: all flags clear.
    pub fn new(nonce: Nonce, source_eid: AfiAddress, itr_rlocs: Vec<AfiAddress>, record: RequestRecord) -> Self {
        Self {
            authoritative: false,
            probe: false,
            smr: false,
            pitr: false,
            smr_invoked: false,
            local: false,
            dont_reply: false,
            nonce,
            source_eid,
            itr_rlocs,
            records: vec![record],
            map_reply_record: None,
            xtr: None,
        }
    }

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
