//! The 8-byte header of data packets (RFC 9300 §5.3, RFC 9305 for the P-bit, RFC 8061 for KK).

use crate::InstanceId;

/// The KK bits: which of up to three keys sealed the payload (RFC 8061 §8); 0 is "in clear".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptionKeyId(pub u8);

/// A decoded data header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// N-bit and the 24-bit Nonce; in a sealed mesh the receiver's SA index.
    pub nonce: Option<u32>,
    /// L-bit and the Locator-Status-Bits: 32 without an Instance-ID, 8 with one.
    pub locator_status: Option<u32>,
    /// E-bit; only meaningful with a nonce.
    pub echo_nonce: bool,
    /// V-bit: source and destination Map-Version, 12 bits each.
    pub map_version: Option<(u16, u16)>,
    /// I-bit and the Instance-ID.
    pub instance_id: Option<InstanceId>,
    /// P-bit (LISP-GPE): next protocol.
    pub next_protocol: Option<u8>,
    /// KK bits.
    pub key_id: EncryptionKeyId,
}

/// Why eight bytes are no data header that we may act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataHeaderError {
    /// Fewer than 8 bytes.
    #[error("shorter than the 8 bytes of a LISP data header")]
    Truncated,
}

impl DataHeader {
    /// Bytes of the header.
    pub const LEN: usize = 8;

    /// The header of a packet in clear within `instance_id`.
    pub const fn clear(instance_id: InstanceId) -> Self {
        Self {
            nonce: None,
            locator_status: None,
            echo_nonce: false,
            map_version: None,
            instance_id: Some(instance_id),
            next_protocol: None,
            key_id: EncryptionKeyId(0),
        }
    }

    /// Reads the header at the start of a UDP payload from port 4341.
    pub fn decode(bytes: &[u8]) -> Result<Self, DataHeaderError> {
        let _ = bytes;
        unimplemented!()
    }

    /// The eight bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        unimplemented!()
    }
}
