//! IP and UDP around a LISP message, and the packet inside a data header: read leniently, since a capture may have
//! been cut, with everything that is odd put into words.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpFragOffset, IpNumber, Ipv6ExtensionSlice, LaxIpSlice};

/// An IP packet as far as it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// Protocol of the payload, behind extension headers.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP.
    pub dscp: u8,
    /// ECN.
    pub ecn: u8,
    /// Bytes that the header says the packet has.
    pub length: usize,
    /// The payload.
    pub payload: &'a [u8],
    /// Whether all of the payload is there.
    pub complete: bool,
    /// Its place in a fragmented packet.
    pub fragment: Option<Fragment>,
    /// Whether an IPv4 header checksum is wrong.
    pub bad_header_checksum: bool,
}

/// A fragment's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Names the packet it belongs to.
    pub identification: u32,
    /// Bytes before it.
    pub offset: u16,
    /// Whether others follow.
    pub more: bool,
}

/// Reads an IP packet; the error is in words.
///
/// # Errors
/// When it is none.
pub fn parse(bytes: &[u8]) -> Result<Packet<'_>, String> {
    let (slice, _) = LaxIpSlice::from_slice(bytes).map_err(|error| error.to_string())?;
    let payload = slice.payload();
    let mut packet = Packet {
        source: slice.source_addr(),
        destination: slice.destination_addr(),
        protocol: payload.ip_number.0,
        ttl: 0,
        dscp: 0,
        ecn: 0,
        length: 0,
        payload: payload.payload,
        complete: !payload.incomplete,
        fragment: None,
        bad_header_checksum: false,
    };
    match &slice {
        LaxIpSlice::Ipv4(v4) => {
            let header = v4.header();
            packet.ttl = header.ttl();
            packet.dscp = header.dcp().value();
            packet.ecn = header.ecn().value();
            packet.length = header.total_len().into();
            packet.bad_header_checksum = header.to_header().calc_header_checksum() != header.header_checksum();
            if header.is_fragmenting_payload() {
                packet.fragment = Some(Fragment {
                    identification: header.identification().into(),
                    offset: bytes_before(header.fragments_offset()),
                    more: header.more_fragments(),
                });
            }
        }
        LaxIpSlice::Ipv6(v6) => {
            let header = v6.header();
            packet.ttl = header.hop_limit();
            packet.dscp = header.dscp().value();
            packet.ecn = header.ecn().value();
            packet.length = usize::from(header.payload_length()) + 40;
            packet.fragment = v6
                .extensions()
                .clone()
                .into_iter()
                .find_map(|extension| match extension {
                    Ipv6ExtensionSlice::Fragment(fragment) if fragment.is_fragmenting_payload() => Some(Fragment {
                        identification: fragment.identification(),
                        offset: bytes_before(fragment.fragment_offset()),
                        more: fragment.more_fragments(),
                    }),
                    _ => None,
                });
        }
    }
    Ok(packet)
}

fn bytes_before(offset: IpFragOffset) -> u16 {
    offset.byte_offset()
}

/// A UDP datagram as far as it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Source address and port.
    pub from: SocketAddr,
    /// Destination address and port.
    pub to: SocketAddr,
    /// The payload.
    pub payload: &'a [u8],
    /// Whether all of it is there.
    pub complete: bool,
    /// The checksum.
    pub checksum: Checksum,
}

/// A UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Zero: none was made.
    None,
    /// It fits.
    Good,
    /// The sum over the addresses alone: the sender's NIC was to do the rest, and the capture was taken before.
    LeftToNic,
    /// It does not fit.
    Bad,
    /// Not all bytes are there.
    Unknown,
}

/// The UDP datagram of a packet; `None` when it holds none, or a later fragment of one.
#[must_use]
pub fn datagram<'a>(packet: &Packet<'a>) -> Option<Datagram<'a>> {
    if packet.protocol != IpNumber::UDP.0 || packet.fragment.is_some_and(|fragment| fragment.offset > 0) {
        return None;
    }
    let bytes = packet.payload;
    let field = |at: usize| -> Option<u16> { bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes) };
    let (source_port, destination_port, length, checksum) = (field(0)?, field(2)?, field(4)?, field(6)?);
    // Length 0: a super-packet of IPv6 that a capture saw whole (RFC 2675 has the same form).
    let length = if length == 0 { bytes.len() } else { usize::from(length) };
    let end = length.clamp(8, bytes.len().max(8)).min(bytes.len());
    let complete = packet.complete && packet.fragment.is_none() && length <= bytes.len() && length >= 8;
    let covered = bytes.get(..end)?;
    Some(Datagram {
        from: SocketAddr::new(packet.source, source_port),
        to: SocketAddr::new(packet.destination, destination_port),
        payload: bytes.get(8..end)?,
        complete,
        checksum: match checksum {
            0 => Checksum::None,
            _ if !complete => Checksum::Unknown,
            sum => judge(packet, covered, sum),
        },
    })
}

fn judge(packet: &Packet<'_>, datagram: &[u8], found: u16) -> Checksum {
    let pseudo = |address: IpAddr| match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    };
    let start = pseudo(packet.source) + pseudo(packet.destination) + 17 + datagram.len() as u64;
    if fold(start + sum(datagram)) == 0xffff {
        Checksum::Good
    } else if fold(start) == found {
        Checksum::LeftToNic
    } else {
        Checksum::Bad
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => u64::from(u16::from_be_bytes([high, low])),
            [high] => u64::from(high) << 8,
            _ => 0,
        })
        .sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
