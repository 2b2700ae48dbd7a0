//! Info-Request and Info-Reply (draft-ermagan-lisp-nat-traversal).

use super::{AfiAddress, Authentication, WireError};
use crate::{Nonce, Ttl};

/// An Info-Request: "what does my address look like from there?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoRequest {
    /// The nonce the reply echoes.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoReply {
    /// Echo of the request's nonce.
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

impl InfoRequest {
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

impl InfoReply {
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
