//! The 8-byte header of data packets (RFC 9300 §5.3, RFC 9305 for the P-bit, RFC 8061 for KK).
//!
//! ```text
//! byte 0: N L E V I P K K | bytes 1-3: nonce (24) or versions (12+12) or 0x0000 + next protocol (8)
//! bytes 4-7: locator-status-bits (32), or with I set Instance-ID (24) + locator-status-bits (8)
//! ```

use serde::Serialize;

use crate::InstanceId;

const N: u8 = 0x80;
const L: u8 = 0x40;
const E: u8 = 0x20;
const V: u8 = 0x10;
const I: u8 = 0x08;
const P: u8 = 0x04;
const KK: u8 = 0x03;

/// The KK bits: which of up to three keys sealed the payload (RFC 8061 §8); 0 is "in clear".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EncryptionKeyId(pub u8);

/// A decoded data header.
///
/// Bits that another bit makes meaningless are not shown: E and V next to P (RFC 9305 §3), E without N, V next to N
/// (the crib's rule: read as a nonce), the 24-bit field when neither N, V nor P is set, the status bits without L.
/// [`DataHeader::encode`] writes them as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
    #[inline]
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
    #[inline]
    pub const fn decode(bytes: &[u8]) -> Result<Self, DataHeaderError> {
        let Some(&[flags, a, b, c, d, e, f, low]) = bytes.first_chunk::<{ Self::LEN }>() else {
            return Err(DataHeaderError::Truncated);
        };
        let field = u32::from_be_bytes([0, a, b, c]);
        let gpe = flags & P != 0;
        let nonce = flags & N != 0 && !gpe;
        let version = flags & V != 0 && !nonce && !gpe;
        let with_instance = flags & I != 0;
        let status = if with_instance {
            low as u32
        } else {
            u32::from_be_bytes([d, e, f, low])
        };
        Ok(Self {
            nonce: if nonce { Some(field) } else { None },
            locator_status: if flags & L != 0 { Some(status) } else { None },
            echo_nonce: nonce && flags & E != 0,
            map_version: if version {
                Some(((field >> 12) as u16, (field & 0xfff) as u16))
            } else {
                None
            },
            instance_id: if with_instance {
                InstanceId::new(u32::from_be_bytes([0, d, e, f]))
            } else {
                None
            },
            next_protocol: if gpe { Some(c) } else { None },
            key_id: EncryptionKeyId(flags & KK),
        })
    }

    /// The eight bytes. Values wider than their field lose their high bits; of `next_protocol`, `nonce` and
    /// `map_version`, which share one field, the first that is set is written.
    #[inline]
    pub const fn encode(&self) -> [u8; Self::LEN] {
        let mut flags = self.key_id.0 & KK;
        let mut field = 0;
        if let Some(next_protocol) = self.next_protocol {
            flags |= P;
            field = next_protocol as u32;
        } else if let Some(nonce) = self.nonce {
            flags |= N;
            if self.echo_nonce {
                flags |= E;
            }
            field = nonce;
        } else if let Some((source, destination)) = self.map_version {
            flags |= V;
            field = ((source as u32 & 0xfff) << 12) | (destination as u32 & 0xfff);
        }
        let status = match self.locator_status {
            Some(status) => {
                flags |= L;
                status
            }
            None => 0,
        };
        let word = match self.instance_id {
            Some(instance_id) => {
                flags |= I;
                (instance_id.get() << 8) | (status & 0xff)
            }
            None => status,
        };
        let [_, a, b, c] = field.to_be_bytes();
        let [d, e, f, low] = word.to_be_bytes();
        [flags, a, b, c, d, e, f, low]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both_ways(bytes: [u8; 8], header: DataHeader) {
        assert_eq!(DataHeader::decode(&bytes), Ok(header));
        assert_eq!(header.encode(), bytes);
    }

    #[test]
    fn clear_packet_with_instance_id() {
        both_ways(
            [0x08, 0, 0, 0, 0x00, 0x00, 0x07, 0x00],
            DataHeader::clear(InstanceId::new(7).unwrap()),
        );
    }

    #[test]
    fn nonce_echo_status_bits_and_key() {
        both_ways(
            [0b1110_1010, 0xab, 0xcd, 0xef, 0x12, 0x34, 0x56, 0x05],
            DataHeader {
                nonce: Some(0x00ab_cdef),
                locator_status: Some(5),
                echo_nonce: true,
                map_version: None,
                instance_id: InstanceId::new(0x0012_3456),
                next_protocol: None,
                key_id: EncryptionKeyId(2),
            },
        );
    }

    #[test]
    fn without_an_instance_id_there_are_32_status_bits() {
        let bytes = [0x40, 0, 0, 0, 0x80, 0, 0, 1];
        let header = DataHeader::decode(&bytes).unwrap();
        assert_eq!((header.instance_id, header.locator_status), (None, Some(0x8000_0001)));
        assert_eq!(header.encode(), bytes);
    }

    #[test]
    fn map_versions_are_twelve_bits_each() {
        let bytes = [0x10, 0x12, 0x3a, 0xbc, 0, 0, 0, 0];
        let header = DataHeader::decode(&bytes).unwrap();
        assert_eq!(header.map_version, Some((0x123, 0xabc)));
        assert_eq!(header.encode(), bytes);
    }

    #[test]
    fn nonce_wins_over_map_version() {
        let header = DataHeader::decode(&[0x90, 0, 0, 9, 0, 0, 0, 0]).unwrap();
        assert_eq!((header.nonce, header.map_version), (Some(9), None));
    }

    #[test]
    fn echo_request_without_nonce_is_ignored() {
        let header = DataHeader::decode(&[0x20, 0, 0, 9, 0, 0, 0, 0]).unwrap();
        assert!(!header.echo_nonce);
        assert_eq!(header.nonce, None);
    }

    #[test]
    fn next_protocol_hides_n_e_v_and_the_16_bits_before_it() {
        let header = DataHeader::decode(&[0b1011_1100, 0xff, 0xff, 0x03, 0, 0, 1, 0]).unwrap();
        assert_eq!(header.next_protocol, Some(3));
        assert_eq!(
            (header.nonce, header.map_version, header.echo_nonce),
            (None, None, false)
        );
        assert_eq!(header.encode(), [0b0000_1100, 0, 0, 3, 0, 0, 1, 0]);
    }

    #[test]
    fn status_byte_without_l_is_ignored_and_sent_as_zero() {
        let header = DataHeader::decode(&[0x08, 0, 0, 0, 0, 0, 1, 0xff]).unwrap();
        assert_eq!(header.locator_status, None);
        assert_eq!(header.encode()[7], 0);
    }

    #[test]
    fn control_instance_is_read() {
        let header = DataHeader::decode(&[0x08, 0, 0, 0, 0xff, 0xff, 0xff, 0]).unwrap();
        assert_eq!(header.instance_id, Some(InstanceId::CONTROL));
    }

    #[test]
    fn seven_bytes_are_no_header() {
        for len in 0..8 {
            assert_eq!(DataHeader::decode(&[0xff; 8][..len]), Err(DataHeaderError::Truncated));
        }
    }

    #[test]
    fn encoding_is_stable_for_every_flag_byte() {
        for flags in 0..=u8::MAX {
            let header = DataHeader::decode(&[flags, 1, 2, 3, 4, 5, 6, 7]).unwrap();
            let bytes = header.encode();
            assert_eq!(DataHeader::decode(&bytes), Ok(header), "flags {flags:#04x}");
            assert_eq!(header.encode(), bytes);
        }
    }
}
