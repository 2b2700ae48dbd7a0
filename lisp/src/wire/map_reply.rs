//! Map-Reply (RFC 9301 §5.4).

use super::{EidRecord, MapReplySecurity, WireError};
use crate::Nonce;

/// A Map-Reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapReply {
    /// P: answers an RLOC-probe.
    pub probe: bool,
    /// E: the ETR can echo nonces.
    pub echo_nonce: bool,
    /// Echo of the Map-Request's nonce.
    pub nonce: Nonce,
    /// The mappings.
    pub records: Vec<EidRecord>,
    /// S: LISP-SEC authentication data (RFC 9303 §6.5).
    pub security: Option<MapReplySecurity>,
}

impl MapReply {
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
