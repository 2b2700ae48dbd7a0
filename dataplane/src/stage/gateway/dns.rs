//! DNS over UDP (RFC 1035) for the names of guests and nodes of the network: A, AAAA, PTR. Names of our domain that
//! nobody has do not exist; everything else is refused, so that a resolver asks the next server it was given.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    buffer::PacketBuf,
    bytes::{array, be8, be16},
    counters::Count,
    parse::IpPacket,
    stage::gateway::{
        Answer,
        reply::{self, Cursor},
    },
    tables::{Network, Port},
    verdict::DropReason,
};

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const ANY: u16 = 255;
const INTERNET: u16 = 1;
/// Seconds that an answer may be kept: names move with intents, addresses of guests do not.
const TTL: u32 = 30;
/// Longest answer without EDNS (RFC 1035 §4.2.1).
const LONGEST: usize = 512;

mod code {
    pub const OK: u16 = 0;
    pub const FORMAT: u16 = 1;
    pub const NO_SUCH_NAME: u16 = 3;
    pub const NOT_IMPLEMENTED: u16 = 4;
    pub const REFUSED: u16 = 5;
}

enum Found {
    Addresses(Vec<IpAddr>),
    Names(Vec<String>),
    Nothing(u16),
}

/// Answers a query.
pub fn answer(port: &Port, network: &Network, ip: &IpPacket, query: &[u8], answer: &mut PacketBuf) -> Answer {
    let (Some(id), Some(flags)) = (array::<2>(query, 0), be16(query, 2)) else {
        return Answer::None(DropReason::Malformed);
    };
    // A response, or a source port that could be another server's: answering would make a loop.
    if flags & 0x8000 != 0 || ip.key.source_port == 53 {
        return Answer::None(DropReason::GatewayConsumed);
    }
    let question = if be16(query, 4) == Some(1) {
        Question::parse(query)
    } else {
        None
    };
    let found = match &question {
        _ if flags & 0x7800 != 0 => Found::Nothing(code::NOT_IMPLEMENTED),
        None => Found::Nothing(code::FORMAT),
        Some(question) => look_up(network, question),
    };
    let from = (ip.key.destination_address(), 53);
    let to = (ip.key.source_address(), ip.key.source_port);
    let raw = question
        .as_ref()
        .and_then(|question| query.get(12..question.end))
        .unwrap_or_default();
    let done = reply::udp(answer, port, from, to, port.config.mac, |cursor| {
        cursor.bytes(&id)?;
        write(cursor, flags, raw, &found)
    });
    Answer::written(done, Count::GatewayDns, DropReason::NoHeadroom)
}

struct Question {
    /// Lower case, without the trailing dot.
    name: String,
    kind: u16,
    class: u16,
    /// Where the question ends in the message.
    end: usize,
}

impl Question {
    fn parse(message: &[u8]) -> Option<Self> {
        let mut name = String::new();
        let mut at = 12;
        loop {
            let length = usize::from(be8(message, at)?);
            at += 1;
            match length {
                0 => break,
                // Compression has nothing to point back to in a question.
                64.. => return None,
                _ => {
                    let label = message.get(at..at + length)?;
                    if name.len() + length > 253 {
                        return None;
                    }
                    if !name.is_empty() {
                        name.push('.');
                    }
                    // What is no ASCII is in no name of ours.
                    name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                    at += length;
                }
            }
        }
        Some(Self {
            name,
            kind: be16(message, at)?,
            class: be16(message, at + 2)?,
            end: at + 4,
        })
    }
}

fn look_up(network: &Network, question: &Question) -> Found {
    if question.class != INTERNET {
        return Found::Nothing(code::REFUSED);
    }
    if let Some(address) = reverse_address(&question.name) {
        return look_up_reverse(network, question, address);
    }
    let domain = &network.config.domain;
    if let Some((_, addresses)) = network.config.names.iter().find(|(name, _)| *name == question.name) {
        let wanted = |address: &&IpAddr| match question.kind {
            A => address.is_ipv4(),
            AAAA => address.is_ipv6(),
            kind => kind == ANY,
        };
        return Found::Addresses(addresses.iter().filter(wanted).copied().collect());
    }
    let rest = question.name.strip_suffix(domain.as_str());
    match rest {
        Some("") if !domain.is_empty() => Found::Nothing(code::OK),
        Some(rest) if !domain.is_empty() && rest.ends_with('.') => Found::Nothing(code::NO_SUCH_NAME),
        _ => Found::Nothing(code::REFUSED),
    }
}

fn look_up_reverse(network: &Network, question: &Question, address: IpAddr) -> Found {
    let names = network
        .config
        .names
        .iter()
        .filter(|(_, addresses)| addresses.contains(&address));
    let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
    match (names.is_empty(), question.kind) {
        (false, PTR | ANY) => Found::Names(names),
        (false, _) => Found::Nothing(code::OK),
        (true, _) => Found::Nothing(code::NO_SUCH_NAME),
    }
}

/// `4.3.2.1.in-addr.arpa` and `….ip6.arpa` (RFC 1035 §3.5, RFC 3596 §2.5).
fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let mut address = [0u8; 4];
        let mut labels = octets.rsplit('.');
        for octet in &mut address {
            *octet = labels.next()?.parse().ok()?;
        }
        return labels.next().is_none().then(|| Ipv4Addr::from(address).into());
    }
    let nibbles = name.strip_suffix(".ip6.arpa")?;
    let mut address = 0u128;
    let mut count = 0;
    for nibble in nibbles.rsplit('.') {
        let value = u8::from_str_radix(nibble, 16).ok().filter(|_| nibble.len() == 1)?;
        address = address << 4 | u128::from(value);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(address).into())
}

fn write(cursor: &mut Cursor<'_>, flags: u16, question: &[u8], found: &Found) -> Option<()> {
    // Answer, authoritative, opcode and RD as asked, recursion not available.
    let mut header = 0x8400 | flags & 0x7900;
    if let Found::Nothing(code) = found {
        header |= code;
    }
    let at = cursor.len();
    cursor.u16(header)?;
    cursor.u16(u16::from(!question.is_empty()))?;
    cursor.u16(0)?;
    cursor.zeros(4)?;
    cursor.bytes(question)?;
    let mut count = 0u16;
    let mut whole = true;
    let mut record = |cursor: &mut Cursor<'_>, kind: u16, data: &[u8]| {
        if cursor.len() + 12 + data.len() > LONGEST {
            whole = false;
            return Some(());
        }
        count += 1;
        // The name is the question's, at offset 12.
        cursor.u16(0xc00c)?;
        cursor.u16(kind)?;
        cursor.u16(INTERNET)?;
        cursor.u32(TTL)?;
        cursor.u16(u16::try_from(data.len()).ok()?)?;
        cursor.bytes(data)
    };
    match found {
        Found::Addresses(addresses) => {
            for address in addresses {
                match address {
                    IpAddr::V4(address) => record(cursor, A, &address.octets())?,
                    IpAddr::V6(address) => record(cursor, AAAA, &address.octets())?,
                }
            }
        }
        Found::Names(names) => {
            for name in names {
                let mut encoded = [0u8; 256];
                let mut target = Cursor::new(&mut encoded);
                target.name(name)?;
                let length = target.len();
                record(cursor, PTR, encoded.get(..length)?)?;
            }
        }
        Found::Nothing(_) => {}
    }
    if !whole {
        header |= 0x0200;
    }
    cursor.patch16(at, header)?;
    cursor.patch16(at + 4, count)
}
