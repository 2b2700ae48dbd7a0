//! Merging decapsulated packets of one flow into super-packets towards the guest: the inverse of [`crate::segment`],
//! by the rules of the kernel's GRO. What comes out, cut again, is what went in.
//!
//! A packet joins the one before it when everything but the payload (and what counts along with it) is equal, its
//! checksum is right, and it continues where that one ended. A frame stays open until the burst ends, or until
//! something of its flow comes that cannot join: nothing of a flow is ever overtaken.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use crate::{
    buffer::{PacketBuf, Pool, Segmentation},
    bytes::{be16, be32, put, put16},
    checksum,
    control::PortId,
    counters::{Count, Counters},
    engine::Output,
    parse::{ETHERNET, Family, FlowKey, Fragment, IpPacket, protocol, tcp},
    tables::Port,
    transmit::write_ethernet,
};

/// Frames that are open at a time.
const OPEN: usize = 8;
/// Datagrams of one UDP super-packet (the kernel's `UDP_MAX_SEGMENTS`).
const UDP_SEGMENTS: usize = 64;
/// Largest IP packet.
const LARGEST: usize = 65_535;

/// A frame that more may join.
#[derive(Debug)]
struct Open {
    port: PortId,
    /// The first packet, as it stands in the frame; `end` grows.
    ip: IpPacket,
    frame: PacketBuf,
    /// Transport payload of each packet but the last.
    size: usize,
    packets: usize,
    next_sequence: u32,
    next_id: u16,
}

/// The open frames of a worker.
#[derive(Debug, Default)]
pub struct Coalescer {
    open: Vec<Open>,
}

impl Coalescer {
    /// Takes one packet towards `port`: `inner` starts at its IP header, and `ip` is how it parses (without offloads).
    pub fn add(
        &mut self,
        port: &Port,
        inner: &[u8],
        ip: &IpPacket,
        counters: &mut Counters,
        (pool, out): (&mut Pool, &mut Output),
    ) -> Option<()> {
        let id = port.config.id;
        let candidate = port.takes_offloads() && is_candidate(inner, ip);
        if let Some(index) = self
            .open
            .iter()
            .position(|open| open.ip.key == ip.key && open.port == id)
        {
            let open = self.open.get_mut(index)?;
            if candidate && open.join(inner, ip) {
                let full = open.is_full();
                counters.add(Count::Coalesced, 1);
                if full {
                    self.close(index, out);
                }
                return Some(());
            }
            self.close(index, out);
        }
        let mut frame = pool.packet();
        frame.set_len(ETHERNET + ip.end);
        put(frame.bytes_mut(), ETHERNET, inner.get(..ip.end)?)?;
        write_ethernet(&mut frame, port, ip.key.family);
        // A frame that is its burst's last segment (PSH, or nothing to say) has nothing to wait for.
        if !candidate || ip.tcp_flags & tcp::PSH != 0 {
            out.to_ports.push((id, frame));
            return Some(());
        }
        if self.open.len() == OPEN {
            self.close(0, out);
        }
        self.open.push(Open {
            port: id,
            ip: ip.moved(ETHERNET),
            size: ip.payload_len(),
            packets: 1,
            next_sequence: sequence(inner, ip).wrapping_add(ip.payload_len() as u32),
            next_id: identification(inner, ip).wrapping_add(1),
            frame,
        });
        Some(())
    }

    /// Sends all that is open.
    pub fn flush(&mut self, out: &mut Output) {
        for open in self.open.drain(..) {
            out.to_ports.push(open.finish());
        }
    }

    fn close(&mut self, index: usize, out: &mut Output) {
        if index < self.open.len() {
            out.to_ports.push(self.open.remove(index).finish());
        }
    }
}

impl Open {
    /// Appends the packet's payload if it continues this frame.
    fn join(&mut self, bytes: &[u8], ip: &IpPacket) -> bool {
        let (length, end) = (ip.payload_len(), self.frame.len());
        if !self.continues(bytes, ip) || end - ETHERNET + length > LARGEST {
            return false;
        }
        let Some(payload) = bytes.get(ip.payload..ip.end) else {
            return false;
        };
        let Some(to) = self.frame.room_mut().get_mut(end..end + length) else {
            return false;
        };
        to.copy_from_slice(payload);
        self.frame.set_len(end + length);
        self.ip.end += length;
        self.ip.tcp_flags |= ip.tcp_flags & tcp::PSH;
        self.packets += 1;
        self.next_sequence = self.next_sequence.wrapping_add(length as u32);
        self.next_id = self.next_id.wrapping_add(1);
        // A shorter one ends it.
        if length < self.size {
            self.ip.tcp_flags |= LAST;
        }
        true
    }

    fn continues(&self, bytes: &[u8], ip: &IpPacket) -> bool {
        let (own, length) = (self.frame.bytes(), ip.payload_len());
        if self.is_full() || length > self.size || ip.tos != self.ip.tos || ip.ttl != self.ip.ttl {
            return false;
        }
        if ip.l4 + ETHERNET != self.ip.l4
            || ip.payload + ETHERNET != self.ip.payload
            || ip.dont_fragment != self.ip.dont_fragment
        {
            return false;
        }
        // With DF the identification means nothing (RFC 6864 §4.1); without it, it must count on.
        if !ip.dont_fragment && identification(bytes, ip) != self.next_id {
            return false;
        }
        // The flow label and what else the IPv6 header holds.
        if ip.key.family == Family::V6 && be32(bytes, ip.l3) != be32(own, self.ip.l3) {
            return false;
        }
        if ip.key.protocol == protocol::UDP {
            return self.packets < UDP_SEGMENTS;
        }
        let (l4, ours, flags) = (ip.l4, self.ip.l4, self.ip.tcp_flags & !(tcp::PSH | LAST));
        sequence(bytes, ip) == self.next_sequence
            && flags == ip.tcp_flags & !tcp::PSH
            && bytes.get(l4 + 8..l4 + 12) == own.get(ours + 8..ours + 12)
            && bytes.get(l4 + 14..l4 + 16) == own.get(ours + 14..ours + 16)
            && bytes.get(l4 + 18..ip.payload) == own.get(ours + 18..self.ip.payload)
    }

    /// Whether nothing may join any more.
    fn is_full(&self) -> bool {
        self.ip.tcp_flags & (tcp::PSH | LAST) != 0
    }

    /// The frame, its headers made those of a super-packet.
    fn finish(mut self) -> (PortId, PacketBuf) {
        if self.packets > 1 && self.write_headers().is_none() {
            // A parsed packet's headers are where they were; this does not happen.
            self.frame.set_len(0);
        }
        (self.port, self.frame)
    }

    fn write_headers(&mut self) -> Option<()> {
        let ip = &self.ip;
        let transport = self.frame.len() - ip.l4;
        let whole = u16::try_from(self.frame.len() - ip.l3).ok()?;
        let size = u16::try_from(self.size).ok()?;
        let bytes = self.frame.bytes_mut();
        match ip.key.family {
            Family::V4 => {
                put16(bytes, ip.l3 + 2, whole)?;
                checksum::write_ipv4(bytes, ip.l3, ip.l4 - ip.l3)?;
            }
            Family::V6 => put16(bytes, ip.l3 + 4, whole.checked_sub(40)?)?,
        }
        let (field, segmentation) = match (ip.key.protocol, ip.key.family) {
            (protocol::TCP, family) => {
                *bytes.get_mut(ip.l4 + 13)? |= ip.tcp_flags & tcp::PSH;
                let segmentation = match family {
                    Family::V4 => Segmentation::TcpV4 { size, ecn: false },
                    Family::V6 => Segmentation::TcpV6 { size, ecn: false },
                };
                (16, segmentation)
            }
            _ => {
                put16(bytes, ip.l4 + 4, u16::try_from(transport).ok()?)?;
                (6, Segmentation::Udp { size })
            }
        };
        let pseudo = checksum::pseudo_header(ip.key.family, ip.key.source, ip.key.destination, ip.key.protocol);
        put16(
            bytes,
            ip.l4 + usize::from(field),
            checksum::fold(pseudo + transport as u64),
        )?;
        self.frame.offload.segmentation = segmentation;
        self.frame.offload.checksum = Some((u16::try_from(ip.l4).ok()?, field));
        Some(())
    }
}

/// Kept beside the TCP flags of an open frame: its last packet was a short one. CWR never opens a frame.
const LAST: u8 = tcp::CWR;

/// Whether a packet may be part of a super-packet at all.
fn is_candidate(bytes: &[u8], ip: &IpPacket) -> bool {
    let plain = match ip.key.family {
        Family::V4 => ip.l4 == ip.l3 + 20,
        Family::V6 => ip.l4 == ip.l3 + 40,
    };
    if !plain || ip.fragment != Fragment::Whole || ip.payload_len() == 0 || ip.end > bytes.len() {
        return false;
    }
    match ip.key.protocol {
        protocol::TCP => ip.tcp_flags & !(tcp::PSH | tcp::ECE) == tcp::ACK && transport_checksum_is_right(bytes, ip),
        protocol::UDP => {
            let length = be16(bytes, ip.l4 + 4).map(usize::from);
            let summed = be16(bytes, ip.l4 + 6).is_some_and(|field| field != 0);
            length == Some(ip.end - ip.l4) && summed && transport_checksum_is_right(bytes, ip)
        }
        _ => false,
    }
}

/// A merged frame's checksum is not looked at again, so that each packet's is verified before.
fn transport_checksum_is_right(bytes: &[u8], ip: &IpPacket) -> bool {
    let FlowKey {
        family,
        source,
        destination,
        protocol,
        ..
    } = ip.key;
    let pseudo = checksum::pseudo_header(family, source, destination, protocol);
    let Some(transport) = bytes.get(ip.l4..ip.end) else {
        return false;
    };
    checksum::fold(pseudo + transport.len() as u64 + u64::from(checksum::sum(transport))) == 0xffff
}

fn sequence(bytes: &[u8], ip: &IpPacket) -> u32 {
    if ip.key.protocol == protocol::TCP {
        be32(bytes, ip.l4 + 4).unwrap_or_default()
    } else {
        0
    }
}

fn identification(bytes: &[u8], ip: &IpPacket) -> u16 {
    if ip.key.family == Family::V4 {
        be16(bytes, ip.l3 + 4).unwrap_or_default()
    } else {
        0
    }
}
