//! The virtio-net header (virtio 1.2, section 5.1.6): what the kernel or a guest left for us to do with a frame, and
//! what we leave to them. In the byte order of the host, as TAP, TUN and AF_PACKET use it unless told otherwise.

use crate::buffer::{Offload, Segmentation};

/// Bytes of the header without `num_buffers`, which is what our descriptors are opened with.
pub const HEADER: u8 = 10;

/// Bytes of the header with `num_buffers`.
pub const HEADER_WITH_BUFFERS: u8 = 12;

const NEEDS_CSUM: u8 = 1;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Reads a header. `None`: too short, a kind of segmentation that we never offered (UFO), or one without a size.
pub fn decode(header: &[u8]) -> Option<Offload> {
    let header = header.get(..usize::from(HEADER))?;
    let field = |at: usize| Some(u16::from_ne_bytes([*header.get(at)?, *header.get(at + 1)?]));
    let flags = *header.first()?;
    let kind = *header.get(1)?;
    let size = field(4)?;
    let checksum = if flags & NEEDS_CSUM != 0 {
        Some((field(6)?, field(8)?))
    } else {
        None
    };
    let ecn = kind & GSO_ECN != 0;
    let segmentation = match kind & !GSO_ECN {
        GSO_NONE => Segmentation::None,
        _ if size == 0 => return None,
        GSO_TCPV4 => Segmentation::TcpV4 { size, ecn },
        GSO_TCPV6 => Segmentation::TcpV6 { size, ecn },
        GSO_UDP_L4 => Segmentation::Udp { size },
        _ => return None,
    };
    Some(Offload { segmentation, checksum })
}

/// Writes a header of [`HEADER_WITH_BUFFERS`] bytes; a shorter one is its beginning. `frame` is what follows: the
/// length of its headers is a hint that the kernel wants beside the size of segments.
pub fn encode(offload: &Offload, frame: &[u8]) -> [u8; HEADER_WITH_BUFFERS as usize] {
    let mut header = [0; HEADER_WITH_BUFFERS as usize];
    if *offload == Offload::default() {
        return header;
    }
    let (kind, size) = match offload.segmentation {
        Segmentation::None => (GSO_NONE, 0),
        Segmentation::TcpV4 { size, ecn } => (GSO_TCPV4 | if ecn { GSO_ECN } else { 0 }, size),
        Segmentation::TcpV6 { size, ecn } => (GSO_TCPV6 | if ecn { GSO_ECN } else { 0 }, size),
        Segmentation::Udp { size } => (GSO_UDP_L4, size),
    };
    header[1] = kind;
    header[4..6].copy_from_slice(&size.to_ne_bytes());
    if let Some((start, offset)) = offload.checksum {
        header[0] = NEEDS_CSUM;
        header[6..8].copy_from_slice(&start.to_ne_bytes());
        header[8..10].copy_from_slice(&offset.to_ne_bytes());
        let transport = match offload.segmentation {
            Segmentation::None => None,
            Segmentation::TcpV4 { .. } | Segmentation::TcpV6 { .. } => {
                frame.get(usize::from(start) + 12).map(|byte| u16::from(byte >> 4) * 4)
            }
            Segmentation::Udp { .. } => Some(8),
        };
        if let Some(end) = transport.and_then(|length| start.checked_add(length)) {
            header[2..4].copy_from_slice(&end.to_ne_bytes());
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u8, kind: u8, length: u16, size: u16, start: u16, offset: u16) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[0] = flags;
        bytes[1] = kind;
        for (at, value) in [(2, length), (4, size), (6, start), (8, offset)] {
            bytes[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        }
        bytes
    }

    /// A frame whose TCP header, 32 bytes long, starts at 34.
    fn tcp_frame() -> Vec<u8> {
        let mut frame = vec![0; 34 + 32];
        frame[34 + 12] = 8 << 4;
        frame
    }

    #[test]
    fn meaning_and_bytes_agree() {
        let checksum = Some((34, 16));
        let cases = [
            (Offload::default(), header(0, 0, 0, 0, 0, 0)),
            (
                Offload {
                    segmentation: Segmentation::None,
                    checksum,
                },
                header(1, 0, 0, 0, 34, 16),
            ),
            (
                Offload {
                    segmentation: Segmentation::TcpV4 { size: 1448, ecn: false },
                    checksum,
                },
                header(1, 1, 66, 1448, 34, 16),
            ),
            (
                Offload {
                    segmentation: Segmentation::TcpV4 { size: 1448, ecn: true },
                    checksum,
                },
                header(1, 0x81, 66, 1448, 34, 16),
            ),
            (
                Offload {
                    segmentation: Segmentation::TcpV6 { size: 1, ecn: true },
                    checksum,
                },
                header(1, 0x84, 66, 1, 34, 16),
            ),
            (
                Offload {
                    segmentation: Segmentation::Udp { size: 65_535 },
                    checksum: Some((34, 6)),
                },
                header(1, 5, 42, 65_535, 34, 6),
            ),
        ];
        for (meaning, bytes) in cases {
            assert_eq!(encode(&meaning, &tcp_frame()), bytes, "{meaning:?}");
            assert_eq!(decode(&bytes), Some(meaning));
            assert_eq!(decode(&bytes[..10]), Some(meaning));
        }
    }

    #[test]
    fn what_was_never_offered_is_refused() {
        assert_eq!(decode(&header(1, 3, 42, 1400, 34, 6)), None, "UFO");
        assert_eq!(decode(&header(1, 7, 42, 1400, 34, 6)), None, "a kind of the future");
        assert_eq!(decode(&header(1, 1, 66, 0, 34, 16)), None, "segments of no size");
        assert_eq!(decode(&[0; 9]), None, "too short");
        assert_eq!(decode(&[]), None);
    }

    #[test]
    fn data_valid_says_nothing_that_we_would_trust() {
        assert_eq!(decode(&header(2, 0, 0, 0, 0, 0)), Some(Offload::default()));
    }

    #[test]
    fn a_checksum_start_beyond_the_frame_is_no_panic() {
        let offload = Offload {
            segmentation: Segmentation::TcpV4 { size: 1, ecn: false },
            checksum: Some((65_535, 16)),
        };
        assert_eq!(encode(&offload, &[])[2..4], [0, 0]);
    }
}
