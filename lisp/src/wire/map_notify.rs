//! Map-Notify and Map-Notify-Ack (RFC 9301 §5.7): one layout, two types.

use serde::Serialize;

use super::{
    Authentication, EidRecord, EncodeError, MessageType, WireError,
    ids::{self, IDS_LEN},
    reader::{Reader, first_word},
    text,
    writer::Writer,
};
use crate::{Nonce, SiteId, XtrId};

/// Says that xTR-ID and Site-ID stand at the end. RFC 9301 reserves the bit; the NAT draft, deployed code and Wireshark
/// read it so.
const I: u32 = 0x0800_0000;

/// A Map-Notify.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapNotify {
    /// Of the Map-Register it acknowledges, or a rising one of the Map-Server.
    #[serde(serialize_with = "text::display")]
    pub nonce: Nonce,
    /// Key-ID, algorithm and MAC.
    pub authentication: Authentication,
    /// The mappings, at most 255.
    pub records: Vec<EidRecord>,
    /// A trailing xTR-ID and Site-ID, which RFC 9301 has no bit for but deployed code sends. Read when the draft's
    /// I-bit is set, and without it when exactly 24 bytes follow the records; written with the I-bit set, which
    /// receivers of RFC 9301 ignore as reserved.
    #[serde(serialize_with = "text::xtr")]
    pub xtr: Option<(XtrId, SiteId)>,
}

/// A Map-Notify-Ack: repeats the Map-Notify under another type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapNotifyAck(pub MapNotify);

impl MapNotify {
    /// Reads the UDP payload. Authentication is not checked here.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        Self::read(bytes, MessageType::MapNotify)
    }

    /// The UDP payload, with the MAC bytes as they stand in `authentication`; of more than 255 records the first 255.
    pub fn encode(&self) -> Vec<u8> {
        Writer::clamped(|writer| self.write(writer, MessageType::MapNotify))
    }

    /// The UDP payload, or what of it does not fit.
    pub fn try_encode(&self) -> Result<Vec<u8>, EncodeError> {
        Writer::checked(|writer| self.write(writer, MessageType::MapNotify))
    }

    fn read(bytes: &[u8], kind: MessageType) -> Result<Self, WireError> {
        let reader = &mut Reader::new(bytes);
        let word = first_word(reader, kind as u8)?;
        let nonce = Nonce(reader.u64("nonce")?);
        let authentication = Authentication::read(reader)?;
        let records = EidRecord::read_many(reader, word as u8)?;
        let with_ids = word & I != 0 || reader.remaining() == IDS_LEN;
        let xtr = if with_ids { Some(ids::read(reader)?) } else { None };
        reader.finish()?;
        Ok(Self {
            nonce,
            authentication,
            records,
            xtr,
        })
    }

    fn write(&self, writer: &mut Writer, kind: MessageType) {
        let (count, records) = writer.fit_u8(&self.records, "records");
        writer.first_word(kind, &[(self.xtr.is_some(), I)], count.into());
        writer.u64(self.nonce.0);
        self.authentication.write(writer);
        records.iter().for_each(|record| record.write(writer));
        ids::write(writer, self.xtr.as_ref());
    }
}

impl MapNotifyAck {
    /// Reads the UDP payload. Authentication is not checked here.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        MapNotify::read(bytes, MessageType::MapNotifyAck).map(Self)
    }

    /// The UDP payload, with the MAC bytes as they stand in `authentication`; of more than 255 records the first 255.
    pub fn encode(&self) -> Vec<u8> {
        Writer::clamped(|writer| self.0.write(writer, MessageType::MapNotifyAck))
    }

    /// The UDP payload, or what of it does not fit.
    pub fn try_encode(&self) -> Result<Vec<u8>, EncodeError> {
        Writer::checked(|writer| self.0.write(writer, MessageType::MapNotifyAck))
    }
}
