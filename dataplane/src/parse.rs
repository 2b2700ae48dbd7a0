//! One look at a packet: where its headers are, and the [`FlowKey`] that everything else goes by.
//!
//! Total on any bytes: whatever contradicts itself is a [`DropReason`], never a panic.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod flow_key;

pub use flow_key::{Family, FlowKey, bits, protocol, tcp};

use crate::{
    buffer::{Offload, Segmentation},
    bytes::{array, be8, be16, be32},
    verdict::DropReason,
};

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// Segments that a super-packet may ask for: a 64 KiB packet at the smallest TCP segment that Linux makes.
const MAX_SEGMENTS: usize = 1_400;
/// Extension headers of one IPv6 packet that we are ready to walk.
const MAX_EXTENSIONS: usize = 8;

/// Whether and which fragment a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Not a fragment.
    Whole,
    /// The first of several.
    First {
        /// Identification.
        id: u32,
    },
    /// A later one: no transport header.
    Rest {
        /// Identification.
        id: u32,
    },
}

/// The Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination MAC.
    pub destination: [u8; 6],
    /// Source MAC.
    pub source: [u8; 6],
    /// EtherType.
    pub ether_type: u16,
}

impl Ethernet {
    /// Reads the first 14 bytes of a frame.
    pub fn parse(frame: &[u8]) -> Result<Self, DropReason> {
        let header = || {
            Some(Self {
                destination: array(frame, 0)?,
                source: array(frame, 6)?,
                ether_type: be16(frame, 12)?,
            })
        };
        header().ok_or(DropReason::Malformed)
    }

    /// Whether it goes to a group (or to all).
    pub const fn is_group(&self) -> bool {
        self.destination[0] & 1 == 1
    }
}

/// Where the headers of an IP packet are. Offsets count from the start of the frame (or packet) it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpPacket {
    /// Five-tuple; `scope` is 0 until a stage sets it.
    pub key: FlowKey,
    /// Start of the IP header.
    pub l3: usize,
    /// Start of the transport header, behind extension headers and options.
    pub l4: usize,
    /// Start of the transport payload; `l4` where the transport is unknown.
    pub payload: usize,
    /// End of the packet by its own length field; padding of the frame lies behind it.
    pub end: usize,
    /// Fragment or not.
    pub fragment: Fragment,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// IPv4 DF, or IPv6, where routers never fragment.
    pub dont_fragment: bool,
    /// TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// ICMP type and code.
    pub icmp: Option<(u8, u8)>,
    /// Payload bytes of each segment of a super-packet; 0 for an ordinary packet.
    pub segment_size: usize,
}

impl IpPacket {
    /// Reads the IP packet that starts at `l3`. `offload` must agree with it; a `segmentation` that is none (it all
    /// fits one segment) counts as an ordinary packet.
    pub fn parse(bytes: &[u8], l3: usize, offload: &Offload) -> Result<Self, DropReason> {
        let mut packet = match be8(bytes, l3).ok_or(DropReason::Malformed)? >> 4 {
            4 => Self::parse_ipv4(bytes, l3)?,
            6 => Self::parse_ipv6(bytes, l3)?,
            _ => return Err(DropReason::InnerFamily),
        };
        packet.parse_transport(bytes)?;
        packet.check_offload(offload)?;
        Ok(packet)
    }

    /// Bytes of the IP packet.
    pub const fn len(&self) -> usize {
        self.end - self.l3
    }

    /// The same packet, `by` bytes further from the start.
    pub const fn moved(&self, by: usize) -> Self {
        Self {
            l3: self.l3 + by,
            l4: self.l4 + by,
            payload: self.payload + by,
            end: self.end + by,
            ..*self
        }
    }

    /// Never: an IP packet has a header.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Bytes of transport payload.
    pub const fn payload_len(&self) -> usize {
        self.end - self.payload
    }

    /// Bytes of the largest packet once the super-packet is cut.
    pub const fn segment_len(&self) -> usize {
        if self.segment_size == 0 {
            self.len()
        } else {
            self.payload - self.l3 + self.segment_size
        }
    }

    /// Packets that it stands for.
    pub const fn segments(&self) -> usize {
        if self.segment_size == 0 {
            1
        } else {
            self.payload_len().div_ceil(self.segment_size)
        }
    }

    /// Whether it opens a TCP connection: SYN without ACK.
    pub const fn opens_tcp(&self) -> bool {
        self.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN
    }

    /// Whether this is an ICMP error, which quotes the packet that it is about.
    pub const fn is_icmp_error(&self) -> bool {
        match (self.key.family, self.icmp) {
            (Family::V4, Some((kind, _))) => matches!(kind, 3 | 4 | 11 | 12),
            (Family::V6, Some((kind, _))) => kind < 128,
            _ => false,
        }
    }

    /// Whether it is an ICMP message that a router never forwards: redirects, Neighbour Discovery, MLD
    /// (RFC 1812 §5.2.7.2, RFC 4861 §4, RFC 2710 §3).
    pub const fn is_link_scoped(&self) -> bool {
        match (self.key.family, self.icmp) {
            (Family::V4, Some((kind, _))) => kind == 5,
            (Family::V6, Some((kind, _))) => matches!(kind, 130..=137 | 143),
            _ => false,
        }
    }

    fn parse_ipv4(bytes: &[u8], l3: usize) -> Result<Self, DropReason> {
        let header: [u8; 20] = array(bytes, l3).ok_or(DropReason::Malformed)?;
        let length = usize::from(header[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let end = l3 + total;
        if length < 20 || total < length || end > bytes.len() {
            return Err(DropReason::Malformed);
        }
        if length > 20 {
            check_ipv4_options(bytes.get(l3 + 20..l3 + length).ok_or(DropReason::Malformed)?)?;
        }
        let flags = u16::from_be_bytes([header[6], header[7]]);
        let id = u32::from(u16::from_be_bytes([header[4], header[5]]));
        let (offset, more) = (flags & 0x1fff, flags & 0x2000 != 0);
        if offset != 0 && l3 + length == end || usize::from(offset) * 8 + total > 65_535 + length {
            return Err(DropReason::Malformed);
        }
        if offset == 1 && header[9] == protocol::TCP {
            // RFC 1858 §4.2: it would overwrite the flags of the first fragment.
            return Err(DropReason::FragmentTricks);
        }
        let word = |at: usize| u128::from(be32(&header, at).unwrap_or_default());
        Ok(Self {
            key: FlowKey {
                source: word(12),
                destination: word(16),
                scope: 0,
                source_port: 0,
                destination_port: 0,
                protocol: header[9],
                family: Family::V4,
            },
            l3,
            l4: l3 + length,
            payload: l3 + length,
            end,
            fragment: match (offset, more) {
                (0, false) => Fragment::Whole,
                (0, true) => Fragment::First { id },
                _ => Fragment::Rest { id },
            },
            ttl: header[8],
            tos: header[1],
            dont_fragment: flags & 0x4000 != 0,
            tcp_flags: 0,
            icmp: None,
            segment_size: 0,
        })
    }

    fn parse_ipv6(bytes: &[u8], l3: usize) -> Result<Self, DropReason> {
        let header: [u8; 40] = array(bytes, l3).ok_or(DropReason::Malformed)?;
        let end = l3 + 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        if end > bytes.len() {
            return Err(DropReason::Malformed);
        }
        let address = |at: usize| array(&header, at).map(u128::from_be_bytes).unwrap_or_default();
        let mut packet = Self {
            key: FlowKey {
                source: address(8),
                destination: address(24),
                scope: 0,
                source_port: 0,
                destination_port: 0,
                protocol: header[6],
                family: Family::V6,
            },
            l3,
            l4: l3 + 40,
            payload: l3 + 40,
            end,
            fragment: Fragment::Whole,
            ttl: header[7],
            tos: (u16::from_be_bytes([header[0], header[1]]) >> 4) as u8,
            dont_fragment: true,
            tcp_flags: 0,
            icmp: None,
            segment_size: 0,
        };
        packet.walk_extensions(bytes)?;
        Ok(packet)
    }

    /// Walks hop-by-hop, destination, routing and fragment headers (RFC 8200 §4).
    fn walk_extensions(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const DESTINATION: u8 = 60;
        for index in 0..=MAX_EXTENSIONS {
            let kind = self.key.protocol;
            if !matches!(kind, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
                return Ok(());
            }
            if index == MAX_EXTENSIONS || kind == HOP_BY_HOP && index > 0 {
                return Err(DropReason::ExtensionHeaders);
            }
            let header: [u8; 8] = array(bytes, self.l4).ok_or(DropReason::Malformed)?;
            let length = if kind == FRAGMENT {
                8
            } else {
                (usize::from(header[1]) + 1) * 8
            };
            if self.l4 + length > self.end {
                return Err(DropReason::Malformed);
            }
            match kind {
                // Segments left: it asks to be routed on, which RFC 5095 forbids for type 0; no other is wanted.
                ROUTING if header[3] != 0 => return Err(DropReason::SourceRoute),
                FRAGMENT => {
                    let flags = u16::from_be_bytes([header[2], header[3]]);
                    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                    self.fragment = match (flags >> 3, flags & 1) {
                        (0, 0) => Fragment::Whole,
                        (0, _) => Fragment::First { id },
                        _ => Fragment::Rest { id },
                    };
                }
                _ => {}
            }
            self.key.protocol = header[0];
            self.l4 += length;
            self.payload = self.l4;
            if matches!(self.fragment, Fragment::Rest { .. }) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn parse_transport(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        if matches!(self.fragment, Fragment::Rest { .. }) {
            return Ok(());
        }
        let short = if self.fragment == Fragment::Whole {
            DropReason::Malformed
        } else {
            DropReason::FragmentTricks
        };
        let bytes = bytes.get(..self.end).ok_or(DropReason::Malformed)?;
        match (self.key.protocol, self.key.family) {
            (protocol::TCP, _) => {
                let header: [u8; 20] = array(bytes, self.l4).ok_or(short)?;
                let length = usize::from(header[12] >> 4) * 4;
                if length < 20 || self.l4 + length > self.end {
                    return Err(short);
                }
                self.set_ports(&header);
                self.tcp_flags = header[13];
                self.payload = self.l4 + length;
            }
            (protocol::UDP, _) => {
                let header: [u8; 8] = array(bytes, self.l4).ok_or(short)?;
                let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
                if length < 8 || self.fragment == Fragment::Whole && self.l4 + length > self.end {
                    return Err(DropReason::Malformed);
                }
                self.set_ports(&header);
                self.payload = self.l4 + 8;
            }
            (protocol::ICMP, Family::V4) | (protocol::ICMPV6, Family::V6) => {
                let header: [u8; 8] = array(bytes, self.l4).ok_or(short)?;
                self.icmp = Some((header[0], header[1]));
                let id = u16::from_be_bytes([header[4], header[5]]);
                let (request, reply) = if self.key.family.is_v6() { (128, 129) } else { (8, 0) };
                if header[0] == request {
                    self.key.source_port = id;
                } else if header[0] == reply {
                    self.key.destination_port = id;
                } else {
                    self.key.source_port = u16::from_be_bytes([header[0], header[1]]);
                    self.key.destination_port = self.key.source_port;
                }
                self.payload = self.l4 + 8;
            }
            _ => {}
        }
        Ok(())
    }

    fn set_ports(&mut self, header: &[u8]) {
        self.key.source_port = be16(header, 0).unwrap_or_default();
        self.key.destination_port = be16(header, 2).unwrap_or_default();
    }

    /// What the virtio-net header says must fit the packet (virtio 1.2 §5.1.6.2): a guest writes it.
    fn check_offload(&mut self, offload: &Offload) -> Result<(), DropReason> {
        let field = match self.key.protocol {
            protocol::TCP => Some((self.l4, 16)),
            protocol::UDP => Some((self.l4, 6)),
            _ => None,
        };
        let transport = field.and_then(|(start, offset)| Some((u16::try_from(start).ok()?, offset)));
        if let Some((start, offset)) = offload.checksum {
            let (start, offset) = (usize::from(start), usize::from(offset));
            if self.fragment != Fragment::Whole || start < self.l4 || start + offset + 2 > self.end {
                return Err(DropReason::BadOffload);
            }
        }
        let (protocol, family, size) = match offload.segmentation {
            Segmentation::None => return Ok(()),
            Segmentation::TcpV4 { size, .. } => (protocol::TCP, Some(Family::V4), size),
            Segmentation::TcpV6 { size, .. } => (protocol::TCP, Some(Family::V6), size),
            Segmentation::Udp { size } => (protocol::UDP, None, size),
        };
        let fits = self.key.protocol == protocol
            && family.is_none_or(|family| family == self.key.family)
            && self.fragment == Fragment::Whole
            && size > 0
            && offload.checksum.is_some()
            && offload.checksum == transport;
        if !fits {
            return Err(DropReason::BadOffload);
        }
        if self.payload_len() > usize::from(size) {
            self.segment_size = usize::from(size);
            if self.segments() > MAX_SEGMENTS || self.tcp_flags & (tcp::SYN | tcp::RST) != 0 {
                return Err(DropReason::BadOffload);
            }
        }
        Ok(())
    }
}

/// Source routes are refused (RFC 7126 §4.3, §4.4); other options pass.
fn check_ipv4_options(mut options: &[u8]) -> Result<(), DropReason> {
    loop {
        match options {
            [] | [0, ..] => return Ok(()),
            [1, rest @ ..] => options = rest,
            [131 | 137, ..] => return Err(DropReason::SourceRoute),
            [_, length, ..] if *length >= 2 => {
                options = options.get(usize::from(*length)..).ok_or(DropReason::Malformed)?;
            }
            _ => return Err(DropReason::Malformed),
        }
    }
}
