//! Any control message, by its type code (RFC 9301 §5.1).

use serde::Serialize;

use super::{
    Ecm, EncodeError, InfoReply, InfoRequest, MapNotify, MapNotifyAck, MapReferral, MapRegister, MapReply, MapRequest,
    WireError, info,
};

/// The type code in the high four bits of byte 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum MessageType {
    MapRequest = 1,
    MapReply = 2,
    MapRegister = 3,
    MapNotify = 4,
    MapNotifyAck = 5,
    MapReferral = 6,
    Info = 7,
    Ecm = 8,
}

impl MessageType {
    /// From the high four bits of byte 0.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::MapRequest,
            2 => Self::MapReply,
            3 => Self::MapRegister,
            4 => Self::MapNotify,
            5 => Self::MapNotifyAck,
            6 => Self::MapReferral,
            7 => Self::Info,
            8 => Self::Ecm,
            _ => return None,
        })
    }
}

/// A decoded control message. Serialized, it is the fields of the message within.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum Message {
    MapRequest(MapRequest),
    MapReply(MapReply),
    MapRegister(MapRegister),
    MapNotify(MapNotify),
    MapNotifyAck(MapNotifyAck),
    MapReferral(MapReferral),
    InfoRequest(InfoRequest),
    InfoReply(InfoReply),
    Ecm(Ecm),
}

impl Message {
    /// Reads one UDP payload from port 4342. Authentication is not checked here.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let Some(first) = bytes.first() else {
            return Err(WireError::Truncated {
                offset: 0,
                field: "type",
                needed: 1,
            });
        };
        let code = first >> 4;
        Ok(
            match MessageType::from_code(code).ok_or(WireError::UnknownType(code))? {
                MessageType::MapRequest => Self::MapRequest(MapRequest::decode(bytes)?),
                MessageType::MapReply => Self::MapReply(MapReply::decode(bytes)?),
                MessageType::MapRegister => Self::MapRegister(MapRegister::decode(bytes)?),
                MessageType::MapNotify => Self::MapNotify(MapNotify::decode(bytes)?),
                MessageType::MapNotifyAck => Self::MapNotifyAck(MapNotifyAck::decode(bytes)?),
                MessageType::MapReferral => Self::MapReferral(MapReferral::decode(bytes)?),
                MessageType::Info if info::is_reply(bytes) => Self::InfoReply(InfoReply::decode(bytes)?),
                MessageType::Info => Self::InfoRequest(InfoRequest::decode(bytes)?),
                MessageType::Ecm => Self::Ecm(Ecm::decode(bytes)?),
            },
        )
    }

    /// The UDP payload. What does not fit a count or a length field is left out; see the `encode` of each message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::MapRequest(message) => message.encode(),
            Self::MapReply(message) => message.encode(),
            Self::MapRegister(message) => message.encode(),
            Self::MapNotify(message) => message.encode(),
            Self::MapNotifyAck(message) => message.encode(),
            Self::MapReferral(message) => message.encode(),
            Self::InfoRequest(message) => message.encode(),
            Self::InfoReply(message) => message.encode(),
            Self::Ecm(message) => message.encode(),
        }
    }

    /// The UDP payload, or what of it does not fit.
    pub fn try_encode(&self) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::MapRequest(message) => message.try_encode(),
            Self::MapReply(message) => message.try_encode(),
            Self::MapRegister(message) => message.try_encode(),
            Self::MapNotify(message) => message.try_encode(),
            Self::MapNotifyAck(message) => message.try_encode(),
            Self::MapReferral(message) => message.try_encode(),
            Self::InfoRequest(message) => message.try_encode(),
            Self::InfoReply(message) => message.try_encode(),
            Self::Ecm(message) => message.try_encode(),
        }
    }

    /// The RFC's name of the message, such as `Map-Register`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MapRequest(_) => "Map-Request",
            Self::MapReply(_) => "Map-Reply",
            Self::MapRegister(_) => "Map-Register",
            Self::MapNotify(_) => "Map-Notify",
            Self::MapNotifyAck(_) => "Map-Notify-Ack",
            Self::MapReferral(_) => "Map-Referral",
            Self::InfoRequest(_) => "Info-Request",
            Self::InfoReply(_) => "Info-Reply",
            Self::Ecm(_) => "Encapsulated-Control-Message",
        }
    }
}
