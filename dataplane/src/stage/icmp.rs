//! ICMP errors that the node itself sends: time exceeded, fragmentation needed, packet too big (RFC 792, RFC 1191,
//! RFC 4443).

use std::net::IpAddr;

use crate::{
    buffer::PacketBuf,
    bytes::{put, put16},
    checksum,
    parse::{Family, Fragment, IpPacket, bits, protocol},
    stage::itr::is_forwardable,
};

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// The hop limit ran out here.
    TimeExceeded,
    /// At most this many bytes of IP packet fit.
    TooBig(usize),
}

/// Bytes of an IPv4 error (RFC 1812 §4.3.2.3) and of an IPv6 error (RFC 4443 §2.4 c), at the most.
const LARGEST: [usize; 2] = [576, 1280];

/// Writes the error about `ip` (in `bytes`) into `answer`, `link` bytes behind its start, sent from `source`.
/// `None` when there must be none: about an ICMP error, a later fragment, or a source that is no host
/// (RFC 1122 §3.2.2, RFC 4443 §2.4 e).
pub fn error(
    answer: &mut PacketBuf,
    link: usize,
    complaint: Complaint,
    source: IpAddr,
    ip: &IpPacket,
    bytes: &[u8],
) -> Option<()> {
    if ip.is_icmp_error() || matches!(ip.fragment, Fragment::Rest { .. }) || !is_forwardable(ip.key.source_address()) {
        return None;
    }
    let family = ip.key.family;
    let (header, largest) = if family.is_v6() {
        (40, LARGEST[1])
    } else {
        (20, LARGEST[0])
    };
    let quote = bytes.get(ip.l3..ip.end.min(ip.l3 + largest - header - 8))?;
    answer.set_len(link + header + 8 + quote.len());
    let packet = answer.bytes_mut().get_mut(link..)?;
    put(packet, header + 8, quote)?;
    let (kind, code, word) = match (family, complaint) {
        (Family::V4, Complaint::TimeExceeded) => (11, 0, 0),
        (Family::V4, Complaint::TooBig(mtu)) => (3, 4, mtu as u32 & 0xffff),
        (Family::V6, Complaint::TimeExceeded) => (3, 0, 0),
        (Family::V6, Complaint::TooBig(mtu)) => (2, 0, mtu as u32),
    };
    put(packet, header, &[kind, code, 0, 0])?;
    put(packet, header + 4, &word.to_be_bytes())?;
    finish(packet, source, ip.key.source_address())
}

/// Writes the IP header (and the ICMP checksum) of an ICMP message that stands behind it.
pub fn finish(packet: &mut [u8], source: IpAddr, destination: IpAddr) -> Option<()> {
    let length = packet.len();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            put(packet, 0, &[0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol::ICMP, 0, 0])?;
            put16(packet, 2, u16::try_from(length).ok()?)?;
            put(packet, 12, &source.octets())?;
            put(packet, 16, &destination.octets())?;
            checksum::write_ipv4(packet, 0, 20)?;
            put16(packet, 22, 0)?;
            let value = !checksum::sum(packet.get(20..)?);
            put16(packet, 22, value)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            put(packet, 0, &[0x60, 0, 0, 0, 0, 0, protocol::ICMPV6, 255])?;
            put16(packet, 4, u16::try_from(length.checked_sub(40)?).ok()?)?;
            put(packet, 8, &source.octets())?;
            put(packet, 24, &destination.octets())?;
            put16(packet, 42, 0)?;
            let pseudo = checksum::pseudo_header(
                Family::V6,
                bits(IpAddr::V6(source)),
                bits(IpAddr::V6(destination)),
                protocol::ICMPV6,
            );
            let sum = pseudo + (length - 40) as u64 + u64::from(checksum::sum(packet.get(40..)?));
            put16(packet, 42, checksum::finish(sum, false))
        }
        _ => None,
    }
}
