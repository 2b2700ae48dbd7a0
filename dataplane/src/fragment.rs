//! IPv4 fragmentation before encapsulation (RFC 9300 §7.1: the stateless solution), and the memory of first
//! fragments that lends later ones their transport ports.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    buffer::{PacketBuf, Pool},
    bytes::{be16, put, put16},
    checksum,
    hash::Seeded,
    parse::{FlowKey, Fragment, IpPacket},
    verdict::DropReason,
};

/// First fragments that are remembered.
const REMEMBERED: usize = 1_024;
/// For how long (RFC 791 reassembly takes 15 s, RFC 8200 60 s; a flow that still sends renews it).
const LIFE: Duration = Duration::from_secs(30);

/// Remembers the transport ports of first fragments. Bounded; later fragments that came first are dropped.
#[derive(Debug)]
pub struct Fragments {
    seen: HashMap<(FlowKey, u32), (u16, u16, Instant), Seeded>,
    /// When stale ones were thrown out last.
    swept: Option<Instant>,
}

impl Fragments {
    /// Nothing remembered; hashed with `seed`.
    pub fn new(seed: Seeded) -> Self {
        Self {
            seen: HashMap::with_hasher(seed),
            swept: None,
        }
    }

    /// Gives `key`, of a fragment, the ports of its first fragment.
    pub fn complete(&self, key: &mut FlowKey, fragment: Fragment, now: Instant) -> Result<(), DropReason> {
        let Fragment::Rest { id } = fragment else { return Ok(()) };
        match self.seen.get(&(without_ports(key), id)) {
            Some((source, destination, until)) if *until >= now => {
                (key.source_port, key.destination_port) = (*source, *destination);
                Ok(())
            }
            _ => Err(DropReason::FragmentWithoutFirst),
        }
    }

    /// Remembers a first fragment.
    pub fn remember(&mut self, key: &FlowKey, fragment: Fragment, now: Instant) {
        let Fragment::First { id } = fragment else { return };
        if self.seen.len() >= REMEMBERED && self.swept.is_none_or(|swept| now >= swept + LIFE / 30) {
            self.seen.retain(|_, (_, _, until)| *until >= now);
            self.swept = Some(now);
        }
        if self.seen.len() < REMEMBERED {
            self.seen.insert(
                (without_ports(key), id),
                (key.source_port, key.destination_port, now + LIFE),
            );
        }
    }
}

const fn without_ports(key: &FlowKey) -> FlowKey {
    FlowKey {
        source_port: 0,
        destination_port: 0,
        ..*key
    }
}

/// Splits an IPv4 packet (an ordinary one, its checksums complete) into fragments of at most `limit` bytes, each a
/// frame with the link header of the original (RFC 791 §3.2). `None` when `limit` leaves no room for payload.
pub fn split(frame: &PacketBuf, ip: &IpPacket, limit: usize, pool: &mut Pool) -> Option<Vec<PacketBuf>> {
    let bytes = frame.bytes();
    let header = bytes.get(ip.l3..ip.l4)?;
    let room = limit.checked_sub(header.len())? & !7;
    if room == 0 {
        return None;
    }
    let flags = be16(header, 6)?;
    let (more, base) = (flags & 0x2000, usize::from(flags & 0x1fff));
    let payload = bytes.get(ip.l4..ip.end)?;
    // Two halves alike rather than a full one and a crumb.
    let pieces = payload.len().div_ceil(room).max(1);
    let size = payload.len().div_ceil(pieces).next_multiple_of(8).min(room);
    let mut fragments = Vec::with_capacity(pieces);
    let count = payload.len().div_ceil(size);
    for (index, piece) in payload.chunks(size).enumerate() {
        let last = index + 1 == count;
        let offset = base + index * size / 8;
        let mut fragment = pool.packet();
        let header_len = if index == 0 {
            header.len()
        } else {
            copied_header(header, None)?
        };
        fragment.set_len(ip.l3 + header_len + piece.len());
        let to = fragment.bytes_mut();
        put(to, 0, bytes.get(..ip.l3)?)?;
        let inner = to.get_mut(ip.l3..)?;
        if index == 0 {
            put(inner, 0, header)?;
        } else {
            copied_header(header, Some(inner))?;
        }
        put16(inner, 2, u16::try_from(inner.len()).ok()?)?;
        put16(
            inner,
            6,
            if last { more } else { 0x2000 } | u16::try_from(offset).ok()? & 0x1fff,
        )?;
        put(inner, header_len, piece)?;
        checksum::write_ipv4(inner, 0, header_len)?;
        fragments.push(fragment);
    }
    Some(fragments)
}

/// The header of later fragments: the fixed part and the options that must be copied (RFC 791 §3.1). Returns its
/// length; writes it when there is somewhere to.
fn copied_header(header: &[u8], to: Option<&mut [u8]>) -> Option<usize> {
    let mut copy = [0u8; 60];
    put(&mut copy, 0, header.get(..20)?)?;
    let mut length = 20;
    let mut options = header.get(20..)?;
    while let [kind, rest @ ..] = options {
        match kind {
            0 => break,
            1 => options = rest,
            _ => {
                let size = usize::from(*rest.first()?);
                let option = options.get(..size).filter(|option| option.len() >= 2)?;
                if kind & 0x80 != 0 {
                    put(&mut copy, length, option)?;
                    length += size;
                }
                options = options.get(size..)?;
            }
        }
    }
    let length = length.next_multiple_of(4).min(60);
    *copy.first_mut()? = 0x40 | (length / 4) as u8;
    if let Some(to) = to {
        put(to, 0, copy.get(..length)?)?;
    }
    Some(length)
}
