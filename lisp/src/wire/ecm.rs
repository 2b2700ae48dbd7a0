//! Encapsulated Control Message (RFC 9301 §5.8).

use std::net::SocketAddr;

use super::{EcmSecurity, WireError};

/// An ECM: a control message with an inner IP and UDP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ecm {
    /// D: from a DDT client.
    pub ddt: bool,
    /// E: to the ETR.
    pub to_etr: bool,
    /// M: to the Map-Server.
    pub to_ms: bool,
    /// S: LISP-SEC authentication data (RFC 9303 §6.4).
    pub security: Option<EcmSecurity>,
    /// Inner source address and UDP port.
    pub source: SocketAddr,
    /// Inner destination: the EID asked for, port 4342. Same family as `source`.
    pub destination: SocketAddr,
    /// The control message, untouched.
    pub payload: Vec<u8>,
}

impl Ecm {
    /// Reads the UDP payload; the inner IPv4 header checksum and the inner UDP checksum are verified,
    /// a zero UDP checksum is refused, as is destination port 4341.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let _ = bytes;
        unimplemented!()
    }

    /// The UDP payload, inner checksums filled in.
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }
}
