//! Data packets: the LISP header and the packet inside.

use std::net::SocketAddr;

use etherparse::{IpNumber, TcpHeaderSlice};
use lisp::{
    DATA_PORT, InstanceId,
    wire::{DataHeader, EncryptionKeyId},
};
use serde_json::{Map, Value, json};

use super::{
    Decoder,
    control::Carrier,
    ip::{self, Checksum, Datagram, Packet},
    item::Decoded,
    link, text,
};

/// Flags of byte 0.
const N: u8 = 0x80;
const E: u8 = 0x20;
const V: u8 = 0x10;
const P: u8 = 0x04;

/// Congestion experienced.
const CE: u8 = 3;

/// Next protocols of LISP-GPE (RFC 9305).
const GPE_ETHERNET: u8 = 3;

/// Whether a payload looks like a data packet: a header, and behind it a packet, something sealed or a control message.
pub fn is_plausible(payload: &[u8]) -> bool {
    let Ok(header) = DataHeader::decode(payload) else {
        return false;
    };
    let version = payload.get(DataHeader::LEN).map_or(0, |byte| byte >> 4);
    matches!(version, 4 | 6)
        || header.key_id.0 != 0
        || header.next_protocol.is_some()
        || header.instance_id == Some(InstanceId::CONTROL)
}

/// Whether a packet in clear stands behind the header, which ends where the payload does or before.
pub fn is_clear(payload: &[u8]) -> bool {
    let rest = payload.get(DataHeader::LEN..).unwrap_or_default();
    ip::parse(rest).is_ok_and(|inner| inner.length <= rest.len())
}

impl Decoder {
    /// Decodes one data packet.
    pub(super) fn data(&mut self, number: u64, outer: &Packet<'_>, datagram: &Datagram<'_>) -> Decoded {
        let (Ok(header), Some((raw, rest))) = (
            DataHeader::decode(datagram.payload),
            datagram.payload.split_at_checked(DataHeader::LEN),
        ) else {
            let mut decoded = Decoded::new("Data", json!({"bytes": datagram.payload.len()}));
            if datagram.complete {
                let problem = format!(
                    "malformed: {} bytes are too few for a LISP header of 8",
                    datagram.payload.len()
                );
                decoded.problems.push(problem);
            }
            return decoded;
        };
        let mut fields = serde_json::to_value(header).unwrap_or(Value::Null);
        if let Value::Object(fields) = &mut fields {
            fields.insert(
                "outer".into(),
                json!({"ttl": outer.ttl, "dscp": outer.dscp, "ecn": outer.ecn, "length": outer.length}),
            );
        }
        let mut decoded = Decoded::new("Data", fields);
        decoded.lines.push(text::data_header(&header));
        if datagram.checksum == Checksum::Bad {
            decoded
                .problems
                .push("the UDP checksum is neither zero nor right: a receiver may drop this".into());
        }
        if datagram.to.port() != DATA_PORT {
            decoded.problems.push(format!(
                "wrong port: it goes to {}, not to {DATA_PORT}",
                datagram.to.port()
            ));
        }
        header_problems(&header, raw, &mut decoded.problems);
        if header.key_id != EncryptionKeyId(0) {
            put(&mut decoded.fields, "sealed_bytes", json!(rest.len()));
            decoded
                .lines
                .push(format!("sealed with key {}: {} bytes", header.key_id.0, rest.len()));
        } else if header.instance_id == Some(InstanceId::CONTROL) {
            let inner = self.control(number, rest, &Carrier::data(datagram));
            decoded.contain(inner);
        } else {
            inside(&header, raw, rest, outer, datagram.complete, &mut decoded);
        }
        decoded
    }
}

fn put(fields: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = fields {
        fields.insert(name.into(), value);
    }
}

/// Bits that exclude each other, and bits that must be zero.
fn header_problems(header: &DataHeader, raw: &[u8], problems: &mut Vec<String>) {
    let flags = raw.first().copied().unwrap_or_default();
    if flags & (N | V) == N | V {
        problems.push("N and V are both set: the field is read as a nonce".into());
    }
    if flags & E != 0 && flags & N == 0 {
        problems.push("E is set without N".into());
    }
    if flags & P != 0 && flags & (N | E | V) != 0 {
        problems.push("P (GPE) is set together with N, E or V".into());
    }
    let canonical = header.encode();
    let differs = |range: std::ops::Range<usize>| canonical.get(range.clone()) != raw.get(range);
    if differs(1..4) {
        problems.push("the nonce field is not zero, and neither N nor V says what it is".into());
    }
    if differs(4..8) {
        problems.push("Locator-Status-Bits are not zero, and L is not set".into());
    }
    if header
        .map_version
        .is_some_and(|(source, destination)| source == 0 || destination == 0)
    {
        problems.push("a Map-Version of 0 in a packet with the V-bit".into());
    }
}

/// The packet inside, or several: a capture sees super-packets before the kernel or the NIC cuts them up.
fn inside(header: &DataHeader, raw: &[u8], rest: &[u8], outer: &Packet<'_>, complete: bool, decoded: &mut Decoded) {
    let packet = match header.next_protocol {
        None | Some(1 | 2) => Some(rest),
        Some(GPE_ETHERNET) => match link::unwrap(1, rest) {
            link::Link::Ip(packet) => Some(packet),
            _ => None,
        },
        Some(_) => None,
    };
    let Some(packet) = packet else {
        put(&mut decoded.fields, "inner", Value::Null);
        decoded.lines.push(format!("{} bytes of another protocol", rest.len()));
        return;
    };
    if packet.is_empty() {
        put(&mut decoded.fields, "inner", Value::Null);
        if complete {
            decoded
                .problems
                .push("malformed: nothing behind the LISP header".into());
        }
        return;
    }
    let version = packet.first().map_or(0, |byte| byte >> 4);
    if !matches!(version, 4 | 6) {
        put(&mut decoded.fields, "inner", Value::Null);
        decoded.problems.push(format!(
            "malformed: the packet inside begins with version {version} at byte 8"
        ));
        return;
    }
    let inner = match ip::parse(packet) {
        Ok(inner) => inner,
        Err(error) => {
            put(&mut decoded.fields, "inner", Value::Null);
            decoded.problems.push(format!("malformed: the packet inside: {error}"));
            return;
        }
    };
    let (summary, line) = summary(&inner);
    put(&mut decoded.fields, "inner", summary);
    decoded.lines.push(line);
    if inner.bad_header_checksum {
        decoded
            .problems
            .push("the checksum of the inner IPv4 header is wrong".into());
    }
    if outer.ecn == CE && inner.ecn == 0 {
        decoded
            .problems
            .push("marked as congested outside, yet not ECN-capable inside: to be dropped (RFC 6040)".into());
    }
    if complete && inner.length > packet.len() {
        decoded.problems.push(format!(
            "the packet inside wants {} bytes, here are {}",
            inner.length,
            packet.len()
        ));
    } else if let Some(left) = packet.get(inner.length..).filter(|left| !left.is_empty()) {
        match segments(raw, left) {
            Some(more) => {
                put(&mut decoded.fields, "segments", json!(more + 1));
                decoded
                    .lines
                    .push(format!("and {more} more like it in this super-packet"));
            }
            None if complete => decoded
                .problems
                .push(format!("{} bytes behind the packet inside", left.len())),
            None => {}
        }
    }
}

/// How many further LISP packets stand behind the first one, all with the same header; `None` when it is something else.
fn segments(raw: &[u8], mut rest: &[u8]) -> Option<usize> {
    let mut count = 0usize;
    while !rest.is_empty() {
        let packet = rest.strip_prefix(raw)?;
        let inner = ip::parse(packet).ok()?;
        if inner.length == 0 {
            return None;
        }
        rest = packet.get(inner.length..).unwrap_or_default();
        count += 1;
    }
    Some(count)
}

/// A packet in a few words: as fields and as a line.
fn summary(packet: &Packet<'_>) -> (Value, String) {
    let mut fields = Map::new();
    let name = protocol(packet.protocol);
    for (field, value) in [
        ("source", json!(packet.source)),
        ("destination", json!(packet.destination)),
        ("protocol", json!(name)),
        ("length", json!(packet.length)),
        ("ttl", json!(packet.ttl)),
        ("dscp", json!(packet.dscp)),
        ("ecn", json!(packet.ecn)),
    ] {
        fields.insert(field.into(), value);
    }
    let mut detail = String::new();
    let half = |at: usize| -> Option<u16> { packet.payload.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes) };
    let first = packet.fragment.is_none_or(|fragment| fragment.offset == 0);
    let mut ends = (packet.source.to_string(), packet.destination.to_string());
    match IpNumber(packet.protocol) {
        IpNumber::TCP | IpNumber::UDP if first => {
            if let (Some(source), Some(destination)) = (half(0), half(2)) {
                fields.insert("source_port".into(), json!(source));
                fields.insert("destination_port".into(), json!(destination));
                ends = (
                    SocketAddr::new(packet.source, source).to_string(),
                    SocketAddr::new(packet.destination, destination).to_string(),
                );
            }
            if let Ok(tcp) = TcpHeaderSlice::from_slice(packet.payload) {
                let flags = [
                    ("syn", tcp.syn()),
                    ("ack", tcp.ack()),
                    ("fin", tcp.fin()),
                    ("rst", tcp.rst()),
                ];
                let set: Vec<&str> = flags.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
                if packet.protocol == IpNumber::TCP.0 {
                    detail = format!(" [{}]", set.join(" "));
                    fields.insert("tcp_flags".into(), json!(set));
                }
            }
        }
        IpNumber::ICMP | IpNumber::IPV6_ICMP if first => {
            if let [kind, code, ..] = *packet.payload {
                fields.insert("icmp_type".into(), json!(kind));
                fields.insert("icmp_code".into(), json!(code));
                detail = format!(" type {kind} code {code}");
            }
        }
        _ => {}
    }
    if let Some(fragment) = packet.fragment {
        fields.insert("fragment_offset".into(), json!(fragment.offset));
        fields.insert("more_fragments".into(), json!(fragment.more));
        detail += &format!(" fragment at {}", fragment.offset);
    }
    let line = format!(
        "{} → {} {name}{detail}, {} bytes, ttl {}, ecn {}",
        ends.0, ends.1, packet.length, packet.ttl, packet.ecn
    );
    (Value::Object(fields), line)
}

fn protocol(number: u8) -> String {
    match IpNumber(number) {
        IpNumber::TCP => "tcp".into(),
        IpNumber::UDP => "udp".into(),
        IpNumber::ICMP => "icmp".into(),
        IpNumber::IPV6_ICMP => "icmpv6".into(),
        other => match other.keyword_str() {
            Some(word) => word.to_lowercase(),
            None => format!("protocol-{number}"),
        },
    }
}
