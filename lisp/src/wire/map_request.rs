//! Map-Request (RFC 9301 §5.2, RFC 9437 §5 for I and N).

use serde::Serialize;

use super::{
    AfiAddress, EidRecord, EncodeError, MessageType, WireError, ids,
    reader::{Reader, first_word},
    record::{check_mask, prefix, write_mask},
    text,
    writer::Writer,
};
use crate::{Eid, EidPrefix, Nonce, SiteId, XtrId};

const A: u32 = 0x0800_0000;
const M: u32 = 0x0400_0000;
const P: u32 = 0x0200_0000;
const S: u32 = 0x0100_0000;
const PITR: u32 = 0x0080_0000;
const INVOKED: u32 = 0x0040_0000;
const I: u32 = 0x0010_0000;
const L: u32 = 0x0000_4000;
const D: u32 = 0x0000_2000;
/// N of RFC 9437, in the reserved byte of a record.
const NOTIFY: u8 = 0x80;
/// Bytes of the smallest record: its EID has AFI 0.
const RECORD_MIN: usize = 4;

/// A Map-Request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    #[serde(serialize_with = "text::display")]
    pub nonce: Nonce,
    /// Who asks; `AfiAddress::None` for a refresh or a probe.
    pub source_eid: AfiAddress,
    /// Where the reply goes: 1 to 32 addresses. A single `AfiAddress::None` ends a subscription (RFC 9437).
    pub itr_rlocs: Vec<AfiAddress>,
    /// What is asked: 1 to 255. Senders write exactly one.
    pub records: Vec<RequestRecord>,
    /// M: the asker's own mapping. Never to be trusted without a verifying Map-Request.
    pub map_reply_record: Option<EidRecord>,
    /// I: xTR-ID and Site-ID (RFC 9437).
    #[serde(serialize_with = "text::xtr")]
    pub xtr: Option<(XtrId, SiteId)>,
}

/// One asked-for EID-prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestRecord {
    /// N: publish changes to me (RFC 9437).
    pub notify: bool,
    /// Mask length in bits.
    pub mask_len: u8,
    /// The EID.
    pub eid: AfiAddress,
}

/// What stands at the end of a Map-Request with the I-bit set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrailingIds {
    /// xTR-ID and Site-ID, as RFC 9437 has it.
    #[default]
    XtrAndSite,
    /// The xTR-ID alone, as lispers.net sends it. The Site-ID is then read as 0.
    XtrOnly,
}

impl RequestRecord {
    /// Asks for one EID.
    pub fn for_eid(eid: &Eid) -> Self {
        Self::for_prefix(&eid.host_prefix())
    }

    /// Asks for an EID-prefix: a refresh of a mapping that is known by it (RFC 9301 §5.2).
    pub fn for_prefix(prefix: &EidPrefix) -> Self {
        Self {
            notify: false,
            mask_len: prefix.length(),
            eid: AfiAddress::from_eid(&prefix.first_eid()),
        }
    }

    /// The EID-prefix asked for, when it is an IP prefix.
    pub fn prefix(&self) -> Result<EidPrefix, WireError> {
        prefix(&self.eid, self.mask_len)
    }
}

impl MapRequest {
    /// ITR-RLOCs that the 5-bit IRC can count (RFC 9301 §5.2).
    pub const MAX_ITR_RLOCS: usize = 32;

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

    /// Reads the UDP payload. No record at all is invalid; what to do with more than one is the receiver's.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        Self::decode_with(bytes, TrailingIds::XtrAndSite)
    }

    /// Reads the UDP payload of a peer that ends its Map-Requests as `trailing` says.
    pub fn decode_with(bytes: &[u8], trailing: TrailingIds) -> Result<Self, WireError> {
        let reader = &mut Reader::new(bytes);
        let word = first_word(reader, MessageType::MapRequest as u8)?;
        let count = word as u8;
        if count == 0 {
            let reason = "a Map-Request asks for at least one record".to_owned();
            return Err(WireError::Invalid {
                offset: 3,
                field: "Record Count",
                reason,
            });
        }
        let nonce = Nonce(reader.u64("nonce")?);
        let source_eid = AfiAddress::read(reader)?;
        let itr_rlocs = (0..=(word >> 8) & 0x1f)
            .map(|_| AfiAddress::read(reader))
            .collect::<Result<_, _>>()?;
        let mut records = Vec::with_capacity(usize::from(count).min(reader.remaining() / RECORD_MIN));
        for _ in 0..count {
            records.push(RequestRecord::read(reader)?);
        }
        let map_reply_record = if word & M != 0 {
            Some(EidRecord::read(reader)?)
        } else {
            None
        };
        let xtr = match trailing {
            _ if word & I == 0 => None,
            TrailingIds::XtrAndSite => Some(ids::read(reader)?),
            TrailingIds::XtrOnly => Some((XtrId(reader.array("xTR-ID")?), SiteId(0))),
        };
        reader.finish()?;
        Ok(Self {
            authoritative: word & A != 0,
            probe: word & P != 0,
            smr: word & S != 0,
            pitr: word & PITR != 0,
            smr_invoked: word & INVOKED != 0,
            local: word & L != 0,
            dont_reply: word & D != 0,
            nonce,
            source_eid,
            itr_rlocs,
            records,
            map_reply_record,
            xtr,
        })
    }

    /// The UDP payload. Of more than 32 ITR-RLOCs or 255 records the first ones; no ITR-RLOC at all goes out as one of
    /// AFI 0, because the count cannot say "none".
    pub fn encode(&self) -> Vec<u8> {
        Writer::clamped(|writer| self.write(writer))
    }

    /// The UDP payload, or what of it does not fit.
    pub fn try_encode(&self) -> Result<Vec<u8>, EncodeError> {
        Writer::checked(|writer| self.write(writer))
    }

    fn write(&self, writer: &mut Writer) {
        let itr_rlocs = writer.fit(&self.itr_rlocs, Self::MAX_ITR_RLOCS, "ITR-RLOCs");
        let (count, records) = writer.fit_u8(&self.records, "records");
        if itr_rlocs.is_empty() {
            writer.fault(EncodeError::Invalid {
                what: "ITR-RLOCs",
                reason: "a Map-Request has at least one",
            });
        }
        if records.is_empty() {
            writer.fault(EncodeError::Invalid {
                what: "records",
                reason: "a Map-Request has at least one",
            });
        }
        let irc = u32::try_from(itr_rlocs.len().saturating_sub(1)).unwrap_or_default();
        let flags = [
            (self.authoritative, A),
            (self.map_reply_record.is_some(), M),
            (self.probe, P),
            (self.smr, S),
            (self.pitr, PITR),
            (self.smr_invoked, INVOKED),
            (self.xtr.is_some(), I),
            (self.local, L),
            (self.dont_reply, D),
        ];
        writer.first_word(MessageType::MapRequest, &flags, irc << 8 | u32::from(count));
        writer.u64(self.nonce.0);
        self.source_eid.write(writer);
        if itr_rlocs.is_empty() {
            AfiAddress::None.write(writer);
        }
        itr_rlocs.iter().for_each(|rloc| rloc.write(writer));
        for record in records {
            writer.u8(if record.notify { NOTIFY } else { 0 });
            write_mask(writer, &record.eid, record.mask_len);
            record.eid.write(writer);
        }
        if let Some(record) = &self.map_reply_record {
            record.write(writer);
        }
        ids::write(writer, self.xtr.as_ref());
    }
}

impl RequestRecord {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let bits = reader.u8("record flags")?;
        let mask_offset = reader.offset();
        let mask_len = reader.u8("EID mask-len")?;
        let eid = AfiAddress::read(reader)?;
        check_mask(&eid, mask_len, mask_offset)?;
        Ok(Self {
            notify: bits & NOTIFY != 0,
            mask_len,
            eid,
        })
    }
}
