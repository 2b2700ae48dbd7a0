//! Info-Request and Info-Reply (draft-ermagan-lisp-nat-traversal): one type, told apart by the R-bit.

use serde::Serialize;

use super::{
    AfiAddress, Authentication, EncodeError, MessageType, WireError,
    reader::{Reader, first_word},
    text,
    writer::Writer,
};
use crate::{Nonce, Ttl};

/// R: a reply.
const REPLY: u32 = 0x0800_0000;

/// An Info-Request: "what does my address look like from there?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InfoRequest {
    /// The nonce the reply echoes.
    #[serde(serialize_with = "text::display")]
    pub nonce: Nonce,
    /// Key-ID, algorithm and MAC.
    pub authentication: Authentication,
    /// Life of the answer.
    pub ttl: Ttl,
    /// Mask length of `eid`, in bits.
    pub mask_len: u8,
    /// Who asks.
    pub eid: AfiAddress,
}

/// An Info-Reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InfoReply {
    /// Echo of the request's nonce.
    #[serde(serialize_with = "text::display")]
    pub nonce: Nonce,
    /// Key-ID, algorithm and MAC.
    pub authentication: Authentication,
    /// Life of the answer.
    pub ttl: Ttl,
    /// Mask length of `eid`, in bits.
    pub mask_len: u8,
    /// Who asked.
    pub eid: AfiAddress,
    /// LCAF type 7 with the translated address and the RTRs.
    pub nat: AfiAddress,
}

/// Whether the bytes of a type 7 message are an Info-Reply.
pub(super) fn is_reply(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first & 0x08 != 0)
}

impl InfoRequest {
    /// Reads the UDP payload. Authentication is not checked here.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let InfoReply {
            nonce,
            authentication,
            ttl,
            mask_len,
            eid,
            nat,
        } = read(bytes, false)?;
        if nat != AfiAddress::None {
            let reason = format!("{nat}, expected none in an Info-Request");
            return Err(WireError::Invalid {
                offset: bytes.len(),
                field: "last address",
                reason,
            });
        }
        Ok(Self {
            nonce,
            authentication,
            ttl,
            mask_len,
            eid,
        })
    }

    /// The UDP payload, with the MAC bytes as they stand in `authentication`.
    pub fn encode(&self) -> Vec<u8> {
        Writer::clamped(|writer| self.write(writer))
    }

    /// The UDP payload, or what of it does not fit.
    pub fn try_encode(&self) -> Result<Vec<u8>, EncodeError> {
        Writer::checked(|writer| self.write(writer))
    }

    fn write(&self, writer: &mut Writer) {
        writer.first_word(MessageType::Info, &[], 0);
        write_head(
            writer,
            self.nonce,
            &self.authentication,
            self.ttl,
            self.mask_len,
            &self.eid,
        );
        AfiAddress::None.write(writer);
    }
}

impl InfoReply {
    /// Reads the UDP payload. Authentication is not checked here.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        read(bytes, true)
    }

    /// The UDP payload, with the MAC bytes as they stand in `authentication`.
    pub fn encode(&self) -> Vec<u8> {
        Writer::clamped(|writer| self.write(writer))
    }

    /// The UDP payload, or what of it does not fit.
    pub fn try_encode(&self) -> Result<Vec<u8>, EncodeError> {
        Writer::checked(|writer| self.write(writer))
    }

    fn write(&self, writer: &mut Writer) {
        writer.first_word(MessageType::Info, &[(true, REPLY)], 0);
        write_head(
            writer,
            self.nonce,
            &self.authentication,
            self.ttl,
            self.mask_len,
            &self.eid,
        );
        self.nat.write(writer);
    }
}

fn read(bytes: &[u8], reply: bool) -> Result<InfoReply, WireError> {
    let reader = &mut Reader::new(bytes);
    let word = first_word(reader, MessageType::Info as u8)?;
    if (word & REPLY != 0) != reply {
        let reason = format!("{}, expected {}", u8::from(!reply), u8::from(reply));
        return Err(WireError::Invalid {
            offset: 0,
            field: "R-bit",
            reason,
        });
    }
    let nonce = Nonce(reader.u64("nonce")?);
    let authentication = Authentication::read(reader)?;
    let ttl = Ttl(reader.u32("TTL")?);
    let [_, mask_len] = reader.array("EID mask-len")?;
    let eid = AfiAddress::read(reader)?;
    let nat = AfiAddress::read(reader)?;
    reader.finish()?;
    Ok(InfoReply {
        nonce,
        authentication,
        ttl,
        mask_len,
        eid,
        nat,
    })
}

fn write_head(
    writer: &mut Writer,
    nonce: Nonce,
    authentication: &Authentication,
    ttl: Ttl,
    mask_len: u8,
    eid: &AfiAddress,
) {
    writer.u64(nonce.0);
    authentication.write(writer);
    writer.u32(ttl.0);
    writer.bytes(&[0, mask_len]);
    eid.write(writer);
}
