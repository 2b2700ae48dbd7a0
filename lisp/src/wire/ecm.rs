//! Encapsulated Control Message (RFC 9301 §5.8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::Serialize;

use super::{
    EcmSecurity, EncodeError, MessageType, WireError,
    checksum::Checksum,
    reader::{Reader, first_word},
    text,
    writer::Writer,
};
use crate::DATA_PORT;

const S: u32 = 0x0800_0000;
const D: u32 = 0x0400_0000;
const E: u32 = 0x0200_0000;
const M: u32 = 0x0100_0000;

const UDP: u8 = 17;
const UDP_HEADER: u16 = 8;
const IPV4_HEADER: u16 = 20;
const HOP_LIMIT: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000;
/// More-fragments and the fragment offset.
const FRAGMENT: u16 = 0x3fff;

/// An ECM: a control message with an inner IP and UDP header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ecm {
    /// D: from a DDT client.
    pub ddt: bool,
    /// E: to the ETR.
    pub to_etr: bool,
    /// M: to the Map-Server.
    pub to_ms: bool,
    /// S: LISP-SEC authentication data (RFC 9303 §6.1).
    pub security: Option<EcmSecurity>,
    /// Inner source address and UDP port.
    pub source: SocketAddr,
    /// Inner destination: the EID asked for, port 4342. Same family as `source`.
    pub destination: SocketAddr,
    /// The control message, untouched.
    #[serde(serialize_with = "text::hex")]
    pub payload: Vec<u8>,
}

impl Ecm {
    /// Reads the UDP payload; the inner IPv4 header checksum and the inner UDP checksum are verified,
    /// a zero UDP checksum is refused, as is port 4341 on either side, a fragment, and an IPv6 extension header.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let reader = &mut Reader::new(bytes);
        let word = first_word(reader, MessageType::Ecm as u8)?;
        let security = if word & S != 0 {
            Some(EcmSecurity::read(reader)?)
        } else {
            None
        };
        let version = reader.peek().first().map_or(0, |byte| byte >> 4);
        let (source, destination, mut udp) = match version {
            4 => read_ipv4(reader)?,
            6 => read_ipv6(reader)?,
            _ if reader.is_empty() => return Err(truncated(reader)),
            _ => {
                return Err(invalid(
                    reader.offset(),
                    "inner IP header",
                    format!("version {version}"),
                ));
            }
        };
        reader.finish()?;
        let (source_port, destination_port, payload) = read_udp(&mut udp, source, destination)?;
        Ok(Self {
            ddt: word & D != 0,
            to_etr: word & E != 0,
            to_ms: word & M != 0,
            security,
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
            payload,
        })
    }

    /// The UDP payload, inner checksums filled in. When the two addresses differ in family the source goes out as
    /// "unspecified"; a payload that fits no UDP datagram is left out.
    pub fn encode(&self) -> Vec<u8> {
        Writer::clamped(|writer| self.write(writer))
    }

    /// The UDP payload, or what of it does not fit.
    pub fn try_encode(&self) -> Result<Vec<u8>, EncodeError> {
        Writer::checked(|writer| self.write(writer))
    }

    fn write(&self, writer: &mut Writer) {
        let flags = [
            (self.security.is_some(), S),
            (self.ddt, D),
            (self.to_etr, E),
            (self.to_ms, M),
        ];
        writer.first_word(MessageType::Ecm, &flags, 0);
        if let Some(security) = &self.security {
            security.write(writer);
        }
        let ip_header = if self.destination.is_ipv4() { IPV4_HEADER } else { 0 };
        let most = usize::from(u16::MAX - ip_header - UDP_HEADER);
        let payload = if self.payload.len() > most {
            writer.fault(EncodeError::TooLong {
                what: "encapsulated message",
                len: self.payload.len(),
                max: most,
            });
            &[]
        } else {
            self.payload.as_slice()
        };
        for port in [self.source.port(), self.destination.port()] {
            if port == DATA_PORT {
                writer.fault(EncodeError::Invalid {
                    what: "inner UDP port",
                    reason: "4341 is the data port",
                });
            }
        }
        let udp_len = u16::try_from(payload.len())
            .unwrap_or_default()
            .saturating_add(UDP_HEADER);
        let (source, destination) = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                write_ipv4(writer, source, destination, udp_len);
                (source.into(), destination.into())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                write_ipv6(writer, source, destination, udp_len);
                (source.into(), destination.into())
            }
            (_, destination) => {
                let reason = "source and destination are of one family";
                writer.fault(EncodeError::Invalid {
                    what: "inner IP addresses",
                    reason,
                });
                match destination {
                    IpAddr::V4(v4) => write_ipv4(writer, Ipv4Addr::UNSPECIFIED, v4, udp_len),
                    IpAddr::V6(v6) => write_ipv6(writer, Ipv6Addr::UNSPECIFIED, v6, udp_len),
                }
                (unspecified_like(destination), destination)
            }
        };
        let start = writer.len();
        writer.u16(self.source.port());
        writer.u16(self.destination.port());
        writer.u16(udp_len);
        writer.u16(0);
        writer.bytes(payload);
        let checksum = match Checksum::udp(source, destination, writer.written(start)).finish() {
            // Zero on the wire means "none" (RFC 768).
            0 => u16::MAX,
            sum => sum,
        };
        writer.patch(start.saturating_add(6), &checksum.to_be_bytes());
    }
}

type Inner<'a> = (IpAddr, IpAddr, Reader<'a>);

fn read_ipv4<'a>(reader: &mut Reader<'a>) -> Result<Inner<'a>, WireError> {
    let start = reader.offset();
    let packet = reader.peek();
    let [first, _] = reader.array("inner IPv4 header")?;
    let total = usize::from(reader.u16("inner total length")?);
    let _identification = reader.u16("inner identification")?;
    let fragment = reader.u16("inner fragment offset")?;
    let [_ttl, protocol] = reader.array("inner protocol")?;
    let _checksum = reader.u16("inner header checksum")?;
    let source = Ipv4Addr::from(reader.array::<4>("inner source address")?);
    let destination = Ipv4Addr::from(reader.array::<4>("inner destination address")?);
    let header_len = usize::from(first & 0x0f).saturating_mul(4);
    let Some(options) = header_len.checked_sub(usize::from(IPV4_HEADER)) else {
        return Err(invalid(
            start,
            "inner IPv4 header length",
            format!("{header_len} bytes"),
        ));
    };
    reader.bytes(options, "inner IPv4 options")?;
    if Checksum::over(packet.get(..header_len).unwrap_or_default()).finish() != 0 {
        return Err(invalid(
            start,
            "inner IPv4 header checksum",
            "it does not fit the header".to_owned(),
        ));
    }
    if fragment & FRAGMENT != 0 {
        return Err(invalid(start, "inner IPv4 header", "a fragment".to_owned()));
    }
    if protocol != UDP {
        return Err(invalid(start, "inner protocol", format!("{protocol}, expected UDP")));
    }
    let Some(length) = total.checked_sub(header_len) else {
        return Err(invalid(
            start,
            "inner total length",
            format!("{total} bytes, shorter than its header"),
        ));
    };
    Ok((
        source.into(),
        destination.into(),
        reader.part(length, "inner IPv4 payload")?,
    ))
}

fn read_ipv6<'a>(reader: &mut Reader<'a>) -> Result<Inner<'a>, WireError> {
    let start = reader.offset();
    let _version_class_flow = reader.u32("inner IPv6 header")?;
    let length = usize::from(reader.u16("inner payload length")?);
    let [next_header, _hop_limit] = reader.array("inner next header")?;
    let source = Ipv6Addr::from(reader.array::<16>("inner source address")?);
    let destination = Ipv6Addr::from(reader.array::<16>("inner destination address")?);
    if next_header != UDP {
        return Err(invalid(
            start,
            "inner next header",
            format!("{next_header}, expected UDP"),
        ));
    }
    Ok((
        source.into(),
        destination.into(),
        reader.part(length, "inner IPv6 payload")?,
    ))
}

/// Ports and payload of the inner UDP datagram, which is all of `udp`.
fn read_udp(udp: &mut Reader<'_>, source: IpAddr, destination: IpAddr) -> Result<(u16, u16, Vec<u8>), WireError> {
    let start = udp.offset();
    let datagram = udp.peek();
    let (source_port, destination_port) = (udp.u16("inner source port")?, udp.u16("inner destination port")?);
    let length = udp.u16("inner UDP length")?;
    let checksum = udp.u16("inner UDP checksum")?;
    if usize::from(length) != datagram.len() {
        let reason = format!("{length} bytes in an IP payload of {}", datagram.len());
        return Err(invalid(start, "inner UDP length", reason));
    }
    if checksum == 0 {
        return Err(invalid(start, "inner UDP checksum", "zero".to_owned()));
    }
    if Checksum::udp(source, destination, datagram).finish() != 0 {
        return Err(invalid(
            start,
            "inner UDP checksum",
            "it does not fit the datagram".to_owned(),
        ));
    }
    if source_port == DATA_PORT || destination_port == DATA_PORT {
        return Err(invalid(start, "inner UDP port", "4341 is the data port".to_owned()));
    }
    Ok((
        source_port,
        destination_port,
        udp.bytes(udp.remaining(), "inner UDP payload")?.to_vec(),
    ))
}

fn write_ipv4(writer: &mut Writer, source: Ipv4Addr, destination: Ipv4Addr, udp_len: u16) {
    let start = writer.len();
    writer.bytes(&[0x45, 0]);
    writer.u16(udp_len.saturating_add(IPV4_HEADER));
    writer.u16(0);
    writer.u16(DONT_FRAGMENT);
    writer.bytes(&[HOP_LIMIT, UDP]);
    writer.u16(0);
    writer.bytes(&source.octets());
    writer.bytes(&destination.octets());
    let checksum = Checksum::over(writer.written(start)).finish();
    writer.patch(start.saturating_add(10), &checksum.to_be_bytes());
}

fn write_ipv6(writer: &mut Writer, source: Ipv6Addr, destination: Ipv6Addr, udp_len: u16) {
    writer.u32(6 << 28);
    writer.u16(udp_len);
    writer.bytes(&[UDP, HOP_LIMIT]);
    writer.bytes(&source.octets());
    writer.bytes(&destination.octets());
}

const fn unspecified_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

const fn invalid(offset: usize, field: &'static str, reason: String) -> WireError {
    WireError::Invalid { offset, field, reason }
}

const fn truncated(reader: &Reader<'_>) -> WireError {
    WireError::Truncated {
        offset: reader.offset(),
        field: "inner IP header",
        needed: IPV4_HEADER as usize,
    }
}
