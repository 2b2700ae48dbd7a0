//! Map-Register (RFC 9301 §5.6).

use serde::Serialize;

use super::{
    Authentication, EidRecord, EncodeError, MessageType, WireError, ids,
    reader::{Reader, first_word},
    text,
    writer::Writer,
};
use crate::{Nonce, SiteId, XtrId};

const P: u32 = 0x0800_0000;
const S: u32 = 0x0400_0000;
/// ID-present: xTR-ID and Site-ID stand at the end.
const I: u32 = 0x0200_0000;
const E: u32 = 0x1000;
const T: u32 = 0x0800;
const MERGE: u32 = 0x0400;
const R: u32 = 0x0200;
const M: u32 = 0x0100;

/// A Map-Register. Encode, then [`super::sign`]; on receipt [`super::verify`] the raw bytes before acting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapRegister {
    /// P: the Map-Server may answer for the site.
    pub proxy_reply: bool,
    /// S: LISP-SEC capable.
    pub security_capable: bool,
    /// E: EID-notify request of the mobility drafts (RFC 9301 §5.6 names it).
    pub eid_notify: bool,
    /// T: the registration lives for the Record TTL instead of 3 minutes.
    pub use_ttl: bool,
    /// a: merge the locator sets of the site's xTRs.
    pub merge: bool,
    /// R: mobile node. Reserved by RFC 9301, which has it sent as 0 and ignored on receipt.
    pub mobile_node: bool,
    /// M: a Map-Notify is wanted.
    pub want_map_notify: bool,
    /// Rising nonce.
    #[serde(serialize_with = "text::display")]
    pub nonce: Nonce,
    /// Key-ID, algorithm and MAC.
    pub authentication: Authentication,
    /// The mappings, at most 255.
    pub records: Vec<EidRecord>,
    /// I: xTR-ID and Site-ID.
    #[serde(serialize_with = "text::xtr")]
    pub xtr: Option<(XtrId, SiteId)>,
}

impl MapRegister {
    /// Reads the UDP payload. Authentication is not checked here.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let reader = &mut Reader::new(bytes);
        let word = first_word(reader, MessageType::MapRegister as u8)?;
        let nonce = Nonce(reader.u64("nonce")?);
        let authentication = Authentication::read(reader)?;
        let records = EidRecord::read_many(reader, word as u8)?;
        let xtr = if word & I != 0 { Some(ids::read(reader)?) } else { None };
        reader.finish()?;
        Ok(Self {
            proxy_reply: word & P != 0,
            security_capable: word & S != 0,
            eid_notify: word & E != 0,
            use_ttl: word & T != 0,
            merge: word & MERGE != 0,
            mobile_node: word & R != 0,
            want_map_notify: word & M != 0,
            nonce,
            authentication,
            records,
            xtr,
        })
    }

    /// The UDP payload, with the MAC bytes as they stand in `authentication`; of more than 255 records the first 255.
    pub fn encode(&self) -> Vec<u8> {
        Writer::clamped(|writer| self.write(writer))
    }

    /// The UDP payload, or what of it does not fit.
    pub fn try_encode(&self) -> Result<Vec<u8>, EncodeError> {
        Writer::checked(|writer| self.write(writer))
    }

    fn write(&self, writer: &mut Writer) {
        let (count, records) = writer.fit_u8(&self.records, "records");
        let flags = [
            (self.proxy_reply, P),
            (self.security_capable, S),
            (self.xtr.is_some(), I),
            (self.eid_notify, E),
            (self.use_ttl, T),
            (self.merge, MERGE),
            (self.mobile_node, R),
            (self.want_map_notify, M),
        ];
        writer.first_word(MessageType::MapRegister, &flags, count.into());
        writer.u64(self.nonce.0);
        self.authentication.write(writer);
        records.iter().for_each(|record| record.write(writer));
        ids::write(writer, self.xtr.as_ref());
    }
}
