//! LISP-SEC authentication data (RFC 9303 §6). Carried and shown; computing it is the xTR's and the Map-Server's.
//!
//! Every length of an AD counts its own two bytes: RFC 9303 §6.1 has an ITR set the EID-AD Length to 4 while it writes
//! that length and the KDF ID alone. PKT-AD Length is read the same way. OTK Length is the exception that the text
//! makes: preamble and key.

use serde::Serialize;

use super::{AfiAddress, WireError, reader::Reader, text, writer::Writer};

/// AD type of LISP-SEC (RFC 9303 §8.1, §8.2).
const LISP_SEC: u8 = 1;
const PREAMBLE: u16 = 8;
const CANT_SIGN: u8 = 0x80;

/// The AD that follows an ECM header with S set (RFC 9303 §6.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "field names are the RFC's")]
pub struct EcmSecurity {
    pub requested_hmac_id: u16,
    pub key_id: u8,
    pub wrap_id: u8,
    #[serde(serialize_with = "text::hex")]
    pub preamble: [u8; 8],
    #[serde(serialize_with = "text::hex")]
    pub otk: Vec<u8>,
    pub eid_ad: EidAd,
}

/// The EID-AD of RFC 9303 §6.1 and §6.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "field names are the RFC's")]
pub struct EidAd {
    pub kdf_id: u16,
    /// Records and HMAC, present only when a Map-Server wrote it.
    pub records: Option<EidAdRecords>,
}

/// The part of an EID-AD that only a Map-Server writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "field names are the RFC's")]
pub struct EidAdRecords {
    pub etr_cant_sign: bool,
    pub hmac_id: u16,
    /// Mask length and EID of each, at most 255.
    pub prefixes: Vec<(u8, AfiAddress)>,
    #[serde(serialize_with = "text::hex")]
    pub hmac: Vec<u8>,
}

/// The AD that follows the records of a Map-Reply with S set (RFC 9303 §6.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "field names are the RFC's")]
pub struct MapReplySecurity {
    pub eid_ad: EidAd,
    pub packet_ad: PacketAd,
}

/// The PKT-AD of RFC 9303 §6.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "field names are the RFC's")]
pub struct PacketAd {
    pub hmac_id: u16,
    #[serde(serialize_with = "text::hex")]
    pub hmac: Vec<u8>,
}

impl EcmSecurity {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let offset = reader.offset();
        let [kind, _] = reader.array("ECM AD type")?;
        check_kind(kind, offset)?;
        let requested_hmac_id = reader.u16("Requested HMAC ID")?;
        let offset = reader.offset();
        let length = reader.u16("OTK Length")?;
        let [key_id, wrap_id] = reader.array("Key ID and OTK Wrapping ID")?;
        let Some(otk_len) = length.checked_sub(PREAMBLE) else {
            let reason = format!("{length} bytes, shorter than the preamble");
            return Err(WireError::Invalid {
                offset,
                field: "OTK Length",
                reason,
            });
        };
        Ok(Self {
            requested_hmac_id,
            key_id,
            wrap_id,
            preamble: reader.array("One-Time-Key Preamble")?,
            otk: reader.bytes(otk_len.into(), "One-Time Key")?.to_vec(),
            eid_ad: EidAd::read(reader)?,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.bytes(&[LISP_SEC, 0]);
        writer.u16(self.requested_hmac_id);
        let length = writer.fit_len(self.otk.len().saturating_add(PREAMBLE.into()), "One-Time Key");
        // A key that fits no length field is left out; the preamble stays.
        writer.u16(length.unwrap_or(PREAMBLE));
        writer.bytes(&[self.key_id, self.wrap_id]);
        writer.bytes(&self.preamble);
        if length.is_some() {
            writer.bytes(&self.otk);
        }
        self.eid_ad.write(writer);
    }
}

impl EidAd {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut part = read_ad(reader, "EID-AD")?;
        let kdf_id = part.u16("KDF ID")?;
        if part.is_empty() {
            return Ok(Self { kdf_id, records: None });
        }
        let [count, bits] = part.array("EID-AD record count")?;
        let hmac_id = part.u16("EID HMAC ID")?;
        let mut prefixes = Vec::new();
        for _ in 0..count {
            let [_, mask_len] = part.array("EID mask-len")?;
            prefixes.push((mask_len, AfiAddress::read(&mut part)?));
        }
        let hmac = part.bytes(part.remaining(), "EID HMAC")?.to_vec();
        let etr_cant_sign = bits & CANT_SIGN != 0;
        Ok(Self {
            kdf_id,
            records: Some(EidAdRecords {
                etr_cant_sign,
                hmac_id,
                prefixes,
                hmac,
            }),
        })
    }

    fn write(&self, writer: &mut Writer) {
        write_ad(writer, "EID-AD", self.kdf_id, |writer| {
            let Some(records) = &self.records else { return };
            let (count, prefixes) = writer.fit_u8(&records.prefixes, "EID-AD records");
            writer.bytes(&[count, if records.etr_cant_sign { CANT_SIGN } else { 0 }]);
            writer.u16(records.hmac_id);
            for (mask_len, eid) in prefixes {
                writer.bytes(&[0, *mask_len]);
                eid.write(writer);
            }
            writer.bytes(&records.hmac);
        });
    }
}

impl MapReplySecurity {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let offset = reader.offset();
        let [kind, ..] = reader.array::<4>("MR AD type")?;
        check_kind(kind, offset)?;
        let eid_ad = EidAd::read(reader)?;
        let mut part = read_ad(reader, "PKT-AD")?;
        let hmac_id = part.u16("PKT HMAC ID")?;
        let hmac = part.bytes(part.remaining(), "PKT HMAC")?.to_vec();
        Ok(Self {
            eid_ad,
            packet_ad: PacketAd { hmac_id, hmac },
        })
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.bytes(&[LISP_SEC, 0, 0, 0]);
        self.eid_ad.write(writer);
        write_ad(writer, "PKT-AD", self.packet_ad.hmac_id, |writer| {
            writer.bytes(&self.packet_ad.hmac);
        });
    }
}

fn check_kind(kind: u8, offset: usize) -> Result<(), WireError> {
    if kind == LISP_SEC {
        return Ok(());
    }
    let reason = format!("{kind}, expected {LISP_SEC} (LISP-SEC)");
    Err(WireError::Invalid {
        offset,
        field: "authentication data type",
        reason,
    })
}

/// A part whose length counts its own two bytes, which are taken.
fn read_ad<'a>(reader: &mut Reader<'a>, field: &'static str) -> Result<Reader<'a>, WireError> {
    let offset = reader.offset();
    let length = reader.u16("authentication data length")?;
    let Some(rest) = length.checked_sub(2) else {
        return Err(WireError::Invalid {
            offset,
            field,
            reason: format!("length {length}, at least 4"),
        });
    };
    reader.part(rest.into(), field)
}

/// Length, `id`, and what `write` writes; what does not fit the length is left out.
fn write_ad(writer: &mut Writer, what: &'static str, id: u16, write: impl FnOnce(&mut Writer)) {
    let start = writer.len();
    writer.u16(0);
    writer.u16(id);
    let body = writer.len();
    write(writer);
    let length = writer
        .fit_len(writer.len().saturating_sub(start), what)
        .unwrap_or_else(|| {
            writer.truncate(body);
            4
        });
    writer.patch(start, &length.to_be_bytes());
}
