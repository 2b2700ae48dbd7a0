//! Cutting a super-packet into the packets that it stands for, while writing them where they belong: straight into
//! the datagrams of a run (encapsulation), or into frames of their own ([`explode`]).

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use crate::{
    buffer::{Offload, PacketBuf, Pool, Segmentation},
    bytes::{be16, be32, put, put16},
    checksum,
    engine::Output,
    parse::{ETHERNET, Family, IpPacket, protocol, tcp},
    runs::{RunHeader, Runs},
    seal::{Layout, SaPair},
};

/// One packet out of a super-packet: which part of the payload, and whether it is the first and the last.
#[derive(Clone, Copy, Debug)]
struct Cut {
    index: usize,
    from: usize,
    to: usize,
    last: bool,
}

/// The packets that `ip` stands for; one, of everything, for an ordinary packet.
fn cuts(ip: &IpPacket) -> impl Iterator<Item = Cut> {
    let (total, size) = (ip.payload_len(), ip.segment_size);
    let count = ip.segments();
    (0..count).map(move |index| {
        let from = index * size;
        let to = if size == 0 { total } else { (from + size).min(total) };
        Cut {
            index,
            from,
            to,
            last: index + 1 == count,
        }
    })
}

/// How the datagrams of a packet are sealed.
#[derive(Clone, Copy, Debug)]
pub struct Seal<'a> {
    /// Under which pair of SAs.
    pub pair: &'a SaPair,
    /// For which of the node's workers.
    pub channel: usize,
    /// By which of ours.
    pub worker: u8,
    /// The first counter; one for each datagram, all reserved.
    pub first: u64,
}

/// Encapsulates a packet: each packet that it stands for goes into a datagram of its own, behind the LISP `header`,
/// checksums complete, sealed in place if there is a `seal`. Returns how many; `None` when headers and lengths do
/// not agree, which a parsed packet's do.
pub fn encapsulate(
    bytes: &[u8],
    ip: &IpPacket,
    offload: &Offload,
    header: &[u8],
    seal: Option<Seal<'_>>,
    to: &RunHeader,
    (runs, pool, out): (&mut Runs, &mut Pool, &mut Output),
) -> Option<usize> {
    let headers = ip.payload - ip.l3;
    let layout = seal.map_or(Layout::CLEAR, |seal| seal.pair.layout());
    let around = header.len() + layout.overhead();
    let mut count = 0;
    for cut in cuts(ip) {
        let inner = headers + cut.to - cut.from;
        runs.datagram(to, around + inner, pool, out, |datagram| {
            let (front, rest) = datagram.split_at_mut_checked(header.len())?;
            front.copy_from_slice(header);
            write(
                rest.get_mut(layout.before..layout.before + inner)?,
                bytes,
                ip,
                offload,
                cut,
            )?;
            match seal {
                Some(seal) => {
                    let counter = seal.first.checked_add(cut.index as u64)?;
                    seal.pair.seal(seal.channel, datagram, seal.worker, counter)
                }
                None => Some(()),
            }
        })??;
        count += 1;
    }
    Some(count)
}

/// Turns a frame (`ip.l3` bytes of link header and an IP packet) into ordinary frames without offloads, for ports
/// that have none. Consumes it; an ordinary frame gets its checksum completed in place.
pub fn explode_parsed(mut frame: PacketBuf, ip: &IpPacket, pool: &mut Pool, into: &mut Vec<PacketBuf>) {
    let mut offload = frame.offload;
    if ip.segment_size == 0 {
        offload.segmentation = Segmentation::None;
        let udp = ip.key.protocol == protocol::UDP;
        let done = checksum::complete(frame.bytes_mut(), ip.end, &mut offload, udp);
        frame.offload = offload;
        match done {
            Some(()) => into.push(frame),
            None => pool.recycle_packet(frame),
        }
        return;
    }
    let headers = ip.payload - ip.l3;
    for cut in cuts(ip) {
        let mut single = pool.packet();
        let length = ip.payload + cut.to - cut.from;
        single.set_len(length);
        let done = (|| {
            put(single.bytes_mut(), 0, frame.bytes().get(..ip.l3)?)?;
            let inner = single.bytes_mut().get_mut(ip.l3..ip.l3 + headers + cut.to - cut.from)?;
            write(inner, frame.bytes(), ip, &offload, cut)
        })();
        match done {
            Some(()) => into.push(single),
            None => pool.recycle_packet(single),
        }
    }
    pool.recycle_packet(frame);
}

/// Turns an Ethernet frame into ordinary frames without offloads, for ports whose other side cannot take
/// super-packets or partial checksums. Frames that are not what their offload says are dropped.
pub fn explode(frame: PacketBuf, pool: &mut Pool, into: &mut Vec<PacketBuf>) {
    if frame.offload == Offload::default() {
        into.push(frame);
        return;
    }
    match IpPacket::parse(frame.bytes(), ETHERNET, &frame.offload) {
        Ok(ip) => explode_parsed(frame, &ip, pool, into),
        Err(_) => pool.recycle_packet(frame),
    }
}

/// Writes one packet, from its IP header on, into `to`, which is as long as it.
#[inline]
fn write(to: &mut [u8], bytes: &[u8], ip: &IpPacket, offload: &Offload, cut: Cut) -> Option<()> {
    let headers = ip.payload - ip.l3;
    let (front, payload) = to.split_at_mut_checked(headers)?;
    front.copy_from_slice(bytes.get(ip.l3..ip.payload)?);
    payload.copy_from_slice(bytes.get(ip.payload + cut.from..ip.payload + cut.to)?);
    if ip.segment_size == 0 {
        return complete(to, ip, offload);
    }
    let l4 = ip.l4 - ip.l3;
    let transport = to.len() - l4;
    match ip.key.family {
        Family::V4 => {
            put16(to, 2, u16::try_from(to.len()).ok()?)?;
            let id = be16(to, 4)?.wrapping_add(cut.index as u16);
            put16(to, 4, id)?;
            checksum::write_ipv4(to, 0, l4)?;
        }
        Family::V6 => put16(to, 4, u16::try_from(to.len() - 40).ok()?)?,
    }
    let field = if ip.key.protocol == protocol::TCP {
        let sequence = be32(to, l4 + 4)?.wrapping_add(cut.from as u32);
        put(to, l4 + 4, &sequence.to_be_bytes())?;
        let flags = to.get_mut(l4 + 13)?;
        if !cut.last {
            *flags &= !(tcp::FIN | tcp::PSH);
        }
        if cut.index > 0 {
            // RFC 3168 §6.1.2: CWR is said once.
            *flags &= !tcp::CWR;
        }
        l4 + 16
    } else {
        put16(to, l4 + 4, u16::try_from(transport).ok()?)?;
        l4 + 6
    };
    put16(to, field, 0)?;
    let pseudo = checksum::pseudo_header(ip.key.family, ip.key.source, ip.key.destination, ip.key.protocol);
    let sum = pseudo + transport as u64 + u64::from(checksum::sum(to.get(l4..)?));
    put16(to, field, checksum::finish(sum, ip.key.protocol == protocol::UDP))
}

/// Completes a partial checksum of an ordinary packet whose IP header now stands at 0.
#[inline]
fn complete(to: &mut [u8], ip: &IpPacket, offload: &Offload) -> Option<()> {
    let Some((start, offset)) = offload.checksum else {
        return Some(());
    };
    let start = u16::try_from(usize::from(start).checked_sub(ip.l3)?).ok()?;
    let mut offload = Offload {
        checksum: Some((start, offset)),
        ..Offload::default()
    };
    let end = to.len();
    checksum::complete(to, end, &mut offload, ip.key.protocol == protocol::UDP)
}
