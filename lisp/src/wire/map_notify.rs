//! Map-Notify and Map-Notify-Ack (RFC 9301 §5.7): one layout, two types.

use super::{Authentication, EidRecord, WireError};
use crate::{Nonce, SiteId, XtrId};

/// A Map-Notify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapNotify {
    /// The Map-Register's nonce, or the Map-Server's own when unsolicited.
    pub nonce: Nonce,
    /// Key-ID, algorithm and MAC.
    pub authentication: Authentication,
    /// The mappings.
    pub records: Vec<EidRecord>,
    /// A trailing xTR-ID and Site-ID, which RFC 9301 has no bit for but deployed code sends.
    pub xtr: Option<(XtrId, SiteId)>,
}

/// A Map-Notify-Ack: repeats the Map-Notify under another type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapNotifyAck(pub MapNotify);

impl MapNotify {
    /// Reads the UDP payload. Authentication is not checked here.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let _ = bytes;
        unimplemented!()
    }

    /// The UDP payload, with the MAC bytes as they stand in `authentication`.
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }
}

impl MapNotifyAck {
    /// Reads the UDP payload. Authentication is not checked here.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let _ = bytes;
        unimplemented!()
    }

    /// The UDP payload, with the MAC bytes as they stand in `authentication`.
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }
}
