//! Address and port translation, in place (RFC 3022, RFC 5508 for ICMP), and the TCP MSS clamp.

use crate::{
    bytes::{array, be8, be16, put, put16},
    checksum,
    connection::Translation,
    parse::{Family, Fragment, IpPacket, protocol},
    stage::policy::quoted,
    verdict::DropReason,
};

/// Which end of a packet is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its source.
    Source,
    /// Its destination.
    Destination,
}

impl End {
    const fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

/// Whether a protocol has something that can be translated.
pub const fn is_translatable(ip: &IpPacket) -> bool {
    matches!(ip.key.protocol, protocol::TCP | protocol::UDP)
        || ip.is_icmp_error()
        || matches!(
            (ip.key.family, ip.icmp),
            (Family::V4, Some((0 | 8, _))) | (Family::V6, Some((128 | 129, _)))
        )
}

/// Translates one end of the packet to `to`, checksums included. An ICMP error has no port of its own: the other
/// end of the packet that it quotes is translated too. `partial`: the transport checksum is not complete yet.
pub fn translate(bytes: &mut [u8], ip: &IpPacket, end: End, to: Translation, partial: bool) -> Result<(), DropReason> {
    if !is_translatable(ip) && !matches!(ip.fragment, Fragment::Rest { .. }) {
        return Err(DropReason::NatProtocol);
    }
    let done = if ip.is_icmp_error() {
        translate_error(bytes, ip, end, to)
    } else {
        translate_one(bytes, ip, end, to, partial).map(|_| ())
    };
    done.ok_or(DropReason::Malformed)
}

fn translate_error(bytes: &mut [u8], ip: &IpPacket, end: End, to: Translation) -> Option<()> {
    let inner = quoted(bytes, ip)?;
    translate_one(bytes, &inner, end.other(), to, false)?;
    write_address(bytes, ip, end, to.address)?;
    let field = ip.l4 + 2;
    put16(bytes, field, 0)?;
    let sum = u64::from(checksum::sum(bytes.get(ip.l4..ip.end)?));
    let pseudo = match ip.key.family {
        Family::V4 => 0,
        Family::V6 => {
            let (source, destination) = match end {
                End::Source => (to.address, ip.key.destination),
                End::Destination => (ip.key.source, to.address),
            };
            checksum::pseudo_header(Family::V6, source, destination, protocol::ICMPV6) + (ip.end - ip.l4) as u64
        }
    };
    put16(bytes, field, checksum::finish(sum + pseudo, false))
}

/// Translates address and port of one packet. Fields that a cut-short quote does not have are left out.
fn translate_one(bytes: &mut [u8], ip: &IpPacket, end: End, to: Translation, partial: bool) -> Option<()> {
    let old_words = address_words(
        ip,
        if end == End::Source {
            ip.key.source
        } else {
            ip.key.destination
        },
    );
    let new_words = address_words(ip, to.address);
    write_address(bytes, ip, end, to.address)?;
    if matches!(ip.fragment, Fragment::Rest { .. }) {
        return Some(());
    }
    let (field, port, pseudo) = match ip.key.protocol {
        protocol::TCP => (ip.l4 + 16, ip.l4 + if end == End::Source { 0 } else { 2 }, true),
        protocol::UDP => (ip.l4 + 6, ip.l4 + if end == End::Source { 0 } else { 2 }, true),
        protocol::ICMP => (ip.l4 + 2, ip.l4 + 4, false),
        _ => (ip.l4 + 2, ip.l4 + 4, true),
    };
    let old_port = be16(bytes, port)?;
    put16(bytes, port, to.port)?;
    let Some(mut value) = be16(bytes, field).filter(|_| field + 2 <= ip.end) else {
        return Some(());
    };
    if ip.key.protocol == protocol::UDP && value == 0 && !partial {
        return Some(());
    }
    // A partial checksum is the plain sum of the pseudo-header; its complement changes like a complete one.
    value = if partial { !value } else { value };
    if pseudo {
        for (old, new) in old_words.zip(new_words) {
            value = checksum::adjust(value, old, new);
        }
    }
    if !partial {
        value = checksum::adjust(value, old_port, to.port);
    }
    value = if partial { !value } else { value };
    if ip.key.protocol == protocol::UDP && value == 0 {
        value = 0xffff;
    }
    put16(bytes, field, value)
}

fn address_words(ip: &IpPacket, address: u128) -> impl Iterator<Item = u16> {
    let count = if ip.key.family.is_v6() { 8 } else { 2 };
    (0..count).rev().map(move |word| (address >> (16 * word)) as u16)
}

fn write_address(bytes: &mut [u8], ip: &IpPacket, end: End, address: u128) -> Option<()> {
    match ip.key.family {
        Family::V6 => put(
            bytes,
            ip.l3 + if end == End::Source { 8 } else { 24 },
            &address.to_be_bytes(),
        ),
        Family::V4 => {
            let at = ip.l3 + if end == End::Source { 12 } else { 16 };
            let old: [u8; 4] = array(bytes, at)?;
            let new = (address as u32).to_be_bytes();
            put(bytes, at, &new)?;
            let mut value = be16(bytes, ip.l3 + 10)?;
            for half in [0, 2] {
                value = checksum::adjust(value, be16(&old, half)?, be16(&new, half)?);
            }
            put16(bytes, ip.l3 + 10, value)
        }
    }
}

/// Lowers the MSS option of a SYN so that full segments fit `limit` bytes of IP packet (RFC 6691). Returns whether
/// it changed anything.
pub fn clamp_mss(bytes: &mut [u8], ip: &IpPacket, limit: usize, partial: bool) -> bool {
    let headers = if ip.key.family.is_v6() { 60 } else { 40 };
    let most = u16::try_from(limit.saturating_sub(headers)).unwrap_or(u16::MAX);
    let mut at = ip.l4 + 20;
    while at < ip.payload {
        match (be8(bytes, at), be8(bytes, at + 1)) {
            (Some(1), _) => at += 1,
            (Some(2), Some(4)) => {
                let Some(old) = be16(bytes, at + 2).filter(|old| *old > most) else {
                    return false;
                };
                if at + 4 > ip.payload || put16(bytes, at + 2, most).is_none() {
                    return false;
                }
                if !partial && let Some(value) = be16(bytes, ip.l4 + 16) {
                    // An option may stand at an odd offset, which swaps what the checksum sees of it.
                    let odd = (at - ip.l4) % 2 == 1;
                    let seen = |word: u16| if odd { word.swap_bytes() } else { word };
                    let _ = put16(bytes, ip.l4 + 16, checksum::adjust(value, seen(old), seen(most)));
                }
                return true;
            }
            (Some(0) | None, _) => return false,
            (_, Some(length)) if length >= 2 => at += usize::from(length),
            _ => return false,
        }
    }
    false
}
