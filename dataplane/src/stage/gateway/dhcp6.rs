//! DHCPv6 (RFC 8415): hands the guest its IPv6 EIDs. No lease state: what a guest may have is what its port says.

use std::net::{IpAddr, Ipv6Addr};

use crate::{
    buffer::PacketBuf,
    bytes::{array, be8, be16, be32},
    counters::Count,
    parse::{Family, IpPacket, bits},
    stage::gateway::{
        Answer,
        reply::{self, Cursor},
    },
    tables::{Network, Port},
    verdict::DropReason,
};

mod kind {
    pub const SOLICIT: u8 = 1;
    pub const ADVERTISE: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const CONFIRM: u8 = 4;
    pub const RENEW: u8 = 5;
    pub const REBIND: u8 = 6;
    pub const REPLY: u8 = 7;
    pub const RELEASE: u8 = 8;
    pub const DECLINE: u8 = 9;
    pub const INFORMATION_REQUEST: u8 = 11;
}

mod option {
    pub const CLIENT_ID: u16 = 1;
    pub const SERVER_ID: u16 = 2;
    pub const IA_NA: u16 = 3;
    pub const IA_ADDRESS: u16 = 5;
    pub const STATUS: u16 = 13;
    pub const RAPID_COMMIT: u16 = 14;
    pub const DNS_SERVERS: u16 = 23;
    pub const DOMAINS: u16 = 24;
}

mod status {
    pub const SUCCESS: u16 = 0;
    pub const NO_ADDRESSES: u16 = 2;
    pub const NOT_ON_LINK: u16 = 4;
}

/// Identity associations of one message that are looked at.
const ASSOCIATIONS: usize = 4;

struct Request<'a> {
    kind: u8,
    transaction: [u8; 3],
    client: &'a [u8],
    server: Option<&'a [u8]>,
    /// Identity and options of each IA_NA.
    associations: Vec<(u32, &'a [u8])>,
    rapid: bool,
}

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut request = Self {
            kind: be8(bytes, 0)?,
            transaction: array(bytes, 1)?,
            client: &[],
            server: None,
            associations: Vec::new(),
            rapid: false,
        };
        for (code, value) in options(bytes.get(4..)?) {
            match code {
                option::CLIENT_ID => request.client = value,
                option::SERVER_ID => request.server = Some(value),
                option::RAPID_COMMIT => request.rapid = true,
                option::IA_NA if request.associations.len() < ASSOCIATIONS => {
                    request.associations.push((be32(value, 0)?, value.get(12..)?));
                }
                _ => {}
            }
        }
        (request.client.len() <= 130).then_some(request)
    }

    /// Addresses that the client names in any association.
    fn addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.associations
            .iter()
            .flat_map(|(_, options)| named_addresses(options))
    }
}

/// The options of a message; ends at the first that is cut short.
fn options(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (code, length) = (be16(bytes, 0)?, usize::from(be16(bytes, 2)?));
        let value = bytes.get(4..4 + length)?;
        bytes = bytes.get(4 + length..)?;
        Some((code, value))
    })
}

fn named_addresses(options_of_association: &[u8]) -> impl Iterator<Item = Ipv6Addr> {
    let addresses = options(options_of_association).filter(|(code, _)| *code == option::IA_ADDRESS);
    addresses.filter_map(|(_, value)| array::<16>(value, 0).map(Ipv6Addr::from))
}

/// Answers a DHCPv6 message.
pub fn answer(port: &Port, network: &Network, ip: &IpPacket, payload: &[u8], answer: &mut PacketBuf) -> Answer {
    let Some(request) = Request::parse(payload) else {
        return Answer::None(DropReason::Malformed);
    };
    let own = own_addresses(port);
    let duid = server_id(port);
    // RFC 8415 §16: which messages must, and which must not, name the server.
    let for_us = match request.kind {
        kind::REQUEST | kind::RENEW | kind::RELEASE | kind::DECLINE => request.server == Some(&duid),
        kind::INFORMATION_REQUEST => request.server.is_none_or(|server| server == duid),
        _ => request.server.is_none(),
    };
    let identified = !request.client.is_empty() || request.kind == kind::INFORMATION_REQUEST;
    if !for_us || !identified || own.is_empty() && request.kind != kind::INFORMATION_REQUEST {
        return Answer::None(DropReason::GatewayConsumed);
    }
    let reply = match request.kind {
        kind::SOLICIT if !request.rapid => kind::ADVERTISE,
        kind::SOLICIT | kind::REQUEST | kind::RENEW | kind::REBIND | kind::RELEASE | kind::DECLINE => kind::REPLY,
        kind::INFORMATION_REQUEST => kind::REPLY,
        kind::CONFIRM if request.addresses().next().is_some() => kind::REPLY,
        _ => return Answer::None(DropReason::GatewayConsumed),
    };
    let gateway = IpAddr::V6(port.config.gateway.ipv6);
    let to = ip.key.source_address();
    let mac = reply::mac_of(port, to);
    let done = reply::udp(answer, port, (gateway, 547), (to, 546), mac, |cursor| {
        write(cursor, port, network, &request, reply, &own)
    });
    Answer::written(done, Count::GatewayDhcp6, DropReason::NoHeadroom)
}

fn write(
    cursor: &mut Cursor<'_>,
    port: &Port,
    network: &Network,
    request: &Request<'_>,
    reply: u8,
    own: &[Ipv6Addr],
) -> Option<()> {
    cursor.u8(reply)?;
    cursor.bytes(&request.transaction)?;
    if !request.client.is_empty() {
        nested(cursor, option::CLIENT_ID, |cursor| cursor.bytes(request.client))?;
    }
    nested(cursor, option::SERVER_ID, |cursor| cursor.bytes(&server_id(port)))?;
    match request.kind {
        kind::CONFIRM => {
            let good = request.addresses().all(|address| own.contains(&address));
            return status(cursor, if good { status::SUCCESS } else { status::NOT_ON_LINK });
        }
        kind::RELEASE | kind::DECLINE => return status(cursor, status::SUCCESS),
        _ => {}
    }
    if request.rapid && request.kind == kind::SOLICIT {
        nested(cursor, option::RAPID_COMMIT, |_| Some(()))?;
    }
    for (index, (identity, named)) in request.associations.iter().enumerate() {
        association(cursor, port, *identity, named, if index == 0 { own } else { &[] })?;
    }
    nested(cursor, option::DNS_SERVERS, |cursor| {
        cursor.bytes(&port.config.gateway.ipv6.octets())?;
        port.resolvers(Family::V6)
            .try_for_each(|server| cursor.bytes(&bits(server).to_be_bytes()))
    })?;
    let domain = &network.config.domain;
    if domain.is_empty() {
        return Some(());
    }
    nested(cursor, option::DOMAINS, |cursor| cursor.name(domain))
}

/// An IA_NA with the guest's addresses; others that the client named get a life of 0 (RFC 8415 §18.3.4).
fn association(cursor: &mut Cursor<'_>, port: &Port, identity: u32, named: &[u8], own: &[Ipv6Addr]) -> Option<()> {
    let lease = port.config.gateway.lease.as_secs().clamp(60, u64::from(u32::MAX - 1)) as u32;
    nested(cursor, option::IA_NA, |cursor| {
        cursor.u32(identity)?;
        cursor.u32(lease / 2)?;
        cursor.u32(lease / 5 * 4)?;
        let foreign = named_addresses(named).filter(|address| !own.contains(address)).take(8);
        let lives = own
            .iter()
            .map(|address| (*address, lease))
            .chain(foreign.map(|address| (address, 0)));
        for (address, life) in lives {
            nested(cursor, option::IA_ADDRESS, |cursor| {
                cursor.bytes(&address.octets())?;
                cursor.u32(life)?;
                cursor.u32(life)
            })?;
        }
        if own.is_empty() {
            status(cursor, status::NO_ADDRESSES)
        } else {
            Some(())
        }
    })
}

fn status(cursor: &mut Cursor<'_>, code: u16) -> Option<()> {
    nested(cursor, option::STATUS, |cursor| cursor.u16(code))
}

fn nested(cursor: &mut Cursor<'_>, code: u16, write: impl FnOnce(&mut Cursor<'_>) -> Option<()>) -> Option<()> {
    cursor.u16(code)?;
    let at = cursor.len();
    cursor.u16(0)?;
    write(cursor)?;
    cursor.patch16(at, u16::try_from(cursor.len() - at - 2).ok()?)
}

fn own_addresses(port: &Port) -> Vec<Ipv6Addr> {
    let addresses = port.config.addresses.iter().filter_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    addresses.take(16).collect()
}

/// DUID-LL of the gateway's MAC (RFC 8415 §11.4): the same on every node.
fn server_id(port: &Port) -> [u8; 10] {
    let [a, b, c, d, e, f] = port.config.gateway.mac;
    [0, 3, 0, 1, a, b, c, d, e, f]
}
