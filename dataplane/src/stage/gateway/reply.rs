//! Writing answers: a cursor that never writes past its end, and the headers below an answer.

use std::net::IpAddr;

use crate::{
    buffer::PacketBuf,
    bytes::{put, put16},
    checksum,
    parse::{ETHERNET, Family, bits, protocol},
    tables::Port,
};

/// Appends to a slice; every write says whether it fitted.
pub struct Cursor<'a> {
    to: &'a mut [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of `to`.
    pub fn new(to: &'a mut [u8]) -> Self {
        Self { to, at: 0 }
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.at
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        put(self.to, self.at, bytes)?;
        self.at += bytes.len();
        Some(())
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) -> Option<()> {
        self.bytes(&[value])
    }

    /// Appends a 16-bit number.
    pub fn u16(&mut self, value: u16) -> Option<()> {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends a 32-bit number.
    pub fn u32(&mut self, value: u32) -> Option<()> {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends `count` zeros.
    pub fn zeros(&mut self, count: usize) -> Option<()> {
        self.to.get_mut(self.at..self.at.checked_add(count)?)?.fill(0);
        self.at += count;
        Some(())
    }

    /// Writes a 16-bit number at an earlier place.
    pub fn patch16(&mut self, at: usize, value: u16) -> Option<()> {
        put16(self.to, at, value)
    }

    /// Appends a domain name as labels (RFC 1035 §3.1).
    pub fn name(&mut self, name: &str) -> Option<()> {
        for label in name.split('.').filter(|label| !label.is_empty()) {
            let length = u8::try_from(label.len()).ok().filter(|length| *length < 64)?;
            self.u8(length)?;
            self.bytes(label.as_bytes())?;
        }
        self.u8(0)
    }
}

/// The Ethernet header from the gateway to `destination`.
pub fn ethernet(frame: &mut [u8], port: &Port, destination: [u8; 6], ether_type: u16) -> Option<()> {
    put(frame, 0, &destination)?;
    put(frame, 6, &port.config.gateway.mac)?;
    put16(frame, 12, ether_type)
}

/// The MAC of an IP destination on this NIC: the guest's, or the group's (RFC 1112 §6.4, RFC 2464 §7).
pub fn mac_of(port: &Port, destination: IpAddr) -> [u8; 6] {
    match destination {
        IpAddr::V4(a) if a.is_broadcast() => [0xff; 6],
        IpAddr::V6(a) if a.is_multicast() => {
            let [.., a, b, c, d] = a.octets();
            [0x33, 0x33, a, b, c, d]
        }
        _ => port.config.mac,
    }
}

/// Where the payload of a UDP answer of `family` begins in its frame.
pub const fn udp_payload(family: Family) -> usize {
    ETHERNET + if family.is_v6() { 40 } else { 20 } + 8
}

/// One end of a UDP answer.
pub type End = (IpAddr, u16);

/// Lets `write` fill the payload of a UDP datagram, then writes everything below it.
pub fn udp(
    answer: &mut PacketBuf,
    port: &Port,
    from: End,
    to: End,
    mac: [u8; 6],
    write: impl FnOnce(&mut Cursor<'_>) -> Option<()>,
) -> Option<()> {
    let family = Family::of(from.0);
    let start = udp_payload(family);
    let room = answer.room_mut().get_mut(start..start + 1400)?;
    let mut cursor = Cursor::new(room);
    write(&mut cursor)?;
    let length = cursor.len();
    answer.set_len(start + length);
    let frame = answer.bytes_mut();
    ethernet(frame, port, mac, family.ether_type())?;
    let packet = frame.get_mut(ETHERNET..)?;
    let l4 = start - 8 - ETHERNET;
    put16(packet, l4, from.1)?;
    put16(packet, l4 + 2, to.1)?;
    put16(packet, l4 + 4, u16::try_from(length + 8).ok()?)?;
    put16(packet, l4 + 6, 0)?;
    ip(packet, from.0, to.0, protocol::UDP, 64)?;
    let pseudo = checksum::pseudo_header(family, bits(from.0), bits(to.0), protocol::UDP);
    let sum = pseudo + (length + 8) as u64 + u64::from(checksum::sum(packet.get(l4..)?));
    put16(packet, l4 + 6, checksum::finish(sum, true))
}

/// The IP header of a packet that is complete behind it.
pub fn ip(packet: &mut [u8], source: IpAddr, destination: IpAddr, protocol: u8, ttl: u8) -> Option<()> {
    let length = packet.len();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            put(packet, 0, &[0x45, 0, 0, 0, 0, 0, 0x40, 0, ttl, protocol, 0, 0])?;
            put16(packet, 2, u16::try_from(length).ok()?)?;
            put(packet, 12, &source.octets())?;
            put(packet, 16, &destination.octets())?;
            checksum::write_ipv4(packet, 0, 20)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            put(packet, 0, &[0x60, 0, 0, 0, 0, 0, protocol, ttl])?;
            put16(packet, 4, u16::try_from(length.checked_sub(40)?).ok()?)?;
            put(packet, 8, &source.octets())?;
            put(packet, 24, &destination.octets())
        }
        _ => None,
    }
}
