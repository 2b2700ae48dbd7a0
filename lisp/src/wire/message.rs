//! Any control message, by its type code (RFC 9301 §5.1).

use super::{Ecm, InfoReply, InfoRequest, MapNotify, MapNotifyAck, MapReferral, MapRegister, MapReply, MapRequest, WireError};

/// The type code in the high four bits of byte 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// A decoded control message.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Reads one UDP payload from port 4342.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let _ = bytes;
        unimplemented!()
    }

    /// The UDP payload.
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }

    /// The RFC's name of the message, such as `Map-Register`.
    pub fn name(&self) -> &'static str {
        unimplemented!()
    }
}
