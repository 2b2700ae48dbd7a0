//! Map-Reply (RFC 9301 §5.4).

use serde::Serialize;

use super::{
    EidRecord, EncodeError, MapReplySecurity, MessageType, WireError,
    reader::{Reader, first_word},
    text,
    writer::Writer,
};
use crate::Nonce;

const P: u32 = 0x0800_0000;
const E: u32 = 0x0400_0000;
const S: u32 = 0x0200_0000;

/// A Map-Reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapReply {
    /// P: answers an RLOC-probe. Such a reply with a record whose A-bit is clear is to be discarded (RFC 9301 §5.4):
    /// see [`MapReply::is_acceptable_probe`].
    pub probe: bool,
    /// E: the ETR can echo nonces.
    pub echo_nonce: bool,
    /// Echo of the Map-Request's nonce.
    #[serde(serialize_with = "text::display")]
    pub nonce: Nonce,
    /// The mappings, at most 255. The sender sorts the locators of each ([`EidRecord::sort_locators`]).
    pub records: Vec<EidRecord>,
    /// S: LISP-SEC authentication data (RFC 9303 §6.2).
    pub security: Option<MapReplySecurity>,
}

impl MapReply {
    /// Whether it answers an RLOC-probe and every record is authoritative, as RFC 9301 §5.4 demands of such a reply.
    pub fn is_acceptable_probe(&self) -> bool {
        self.probe && self.records.iter().all(|record| record.authoritative)
    }

    /// Reads the UDP payload.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let reader = &mut Reader::new(bytes);
        let word = first_word(reader, MessageType::MapReply as u8)?;
        let nonce = Nonce(reader.u64("nonce")?);
        let records = EidRecord::read_many(reader, word as u8)?;
        let security = if word & S != 0 {
            Some(MapReplySecurity::read(reader)?)
        } else {
            None
        };
        reader.finish()?;
        Ok(Self {
            probe: word & P != 0,
            echo_nonce: word & E != 0,
            nonce,
            records,
            security,
        })
    }

    /// The UDP payload; of more than 255 records the first 255.
    pub fn encode(&self) -> Vec<u8> {
        Writer::clamped(|writer| self.write(writer))
    }

    /// The UDP payload, or what of it does not fit.
    pub fn try_encode(&self) -> Result<Vec<u8>, EncodeError> {
        Writer::checked(|writer| self.write(writer))
    }

    fn write(&self, writer: &mut Writer) {
        let (count, records) = writer.fit_u8(&self.records, "records");
        let flags = [(self.probe, P), (self.echo_nonce, E), (self.security.is_some(), S)];
        writer.first_word(MessageType::MapReply, &flags, count.into());
        writer.u64(self.nonce.0);
        records.iter().for_each(|record| record.write(writer));
        if let Some(security) = &self.security {
            security.write(writer);
        }
    }
}
