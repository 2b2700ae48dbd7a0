//! DHCPv4 (RFC 2131, RFC 2132): one guest, its one address, no lease state.

use std::net::{IpAddr, Ipv4Addr};

use crate::{
    buffer::PacketBuf,
    bytes::{array, be8, be16},
    counters::Count,
    parse::{Family, bits},
    stage::gateway::{
        Answer,
        reply::{self, Cursor},
    },
    tables::{Network, Port},
    verdict::DropReason,
};

const MAGIC: [u8; 4] = [99, 130, 83, 99];
const OPTIONS: usize = 240;
const BROADCAST: u16 = 0x8000;
/// BOOTP relays and some clients drop shorter messages (RFC 1542 §2.1).
const SHORTEST: usize = 300;

mod kind {
    pub const DISCOVER: u8 = 1;
    pub const OFFER: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const ACK: u8 = 5;
    pub const NAK: u8 = 6;
    pub const INFORM: u8 = 8;
}

mod option {
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN: u8 = 15;
    pub const MTU: u8 = 26;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const RAPID_COMMIT: u8 = 80;
    pub const CLASSLESS_ROUTES: u8 = 121;
}

#[derive(Default)]
struct Request {
    transaction: [u8; 4],
    flags: u16,
    client: Option<Ipv4Addr>,
    kind: u8,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    rapid: bool,
}

impl Request {
    fn parse(bytes: &[u8]) -> Option<Self> {
        const BOOT_REQUEST: u8 = 1;
        if be8(bytes, 0)? != BOOT_REQUEST || array(bytes, 236)? != MAGIC {
            return None;
        }
        let client = Ipv4Addr::from(array::<4>(bytes, 12)?);
        let mut request = Self {
            transaction: array(bytes, 4)?,
            flags: be16(bytes, 10)?,
            client: Some(client).filter(|address| !address.is_unspecified()),
            ..Self::default()
        };
        let mut rest = bytes.get(OPTIONS..)?;
        loop {
            match rest {
                [] | [255, ..] => break,
                [0, after @ ..] => rest = after,
                [code, length, after @ ..] => {
                    let (value, after) = after.split_at_checked(usize::from(*length))?;
                    match *code {
                        option::MESSAGE_TYPE => request.kind = *value.first()?,
                        option::REQUESTED_ADDRESS => request.requested = Some(array::<4>(value, 0)?.into()),
                        option::SERVER => request.server = Some(array::<4>(value, 0)?.into()),
                        option::RAPID_COMMIT => request.rapid = true,
                        _ => {}
                    }
                    rest = after;
                }
                _ => return None,
            }
        }
        (request.kind != 0).then_some(request)
    }
}

/// Answers a DHCP message.
pub fn answer(port: &Port, network: &Network, payload: &[u8], answer: &mut PacketBuf) -> Answer {
    let Some(request) = Request::parse(payload) else {
        return Answer::None(DropReason::Malformed);
    };
    let address = port.config.addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    let (Some(address), Some((gateway, _))) = (address, port.config.gateway.ipv4) else {
        return Answer::None(DropReason::GatewayConsumed);
    };
    if request.server.is_some_and(|server| server != gateway) {
        return Answer::None(DropReason::GatewayConsumed);
    }
    let reply = match request.kind {
        kind::DISCOVER if request.rapid => kind::ACK,
        kind::DISCOVER => kind::OFFER,
        kind::REQUEST if request.requested.or(request.client) == Some(address) => kind::ACK,
        kind::REQUEST => kind::NAK,
        kind::INFORM => kind::ACK,
        _ => return Answer::None(DropReason::GatewayConsumed),
    };
    // RFC 2131 §4.1: to the client's address if it has one; else by broadcast if it cannot take anything else.
    let to = match request.client {
        _ if reply == kind::NAK => Ipv4Addr::BROADCAST,
        Some(client) => client,
        None if request.flags & BROADCAST != 0 => Ipv4Addr::BROADCAST,
        None => address,
    };
    let mac = reply::mac_of(port, to.into());
    let done = reply::udp(answer, port, (gateway.into(), 67), (to.into(), 68), mac, |cursor| {
        write(cursor, port, network, &request, reply, address)
    });
    Answer::written(done, Count::GatewayDhcp4, DropReason::NoHeadroom)
}

fn write(
    cursor: &mut Cursor<'_>,
    port: &Port,
    network: &Network,
    request: &Request,
    reply: u8,
    address: Ipv4Addr,
) -> Option<()> {
    let (gateway, subnet) = port.config.gateway.ipv4?;
    let inform = request.kind == kind::INFORM;
    cursor.bytes(&[2, 1, 6, 0])?;
    cursor.bytes(&request.transaction)?;
    cursor.u16(0)?;
    cursor.u16(request.flags & BROADCAST)?;
    let client = if reply == kind::NAK { None } else { request.client };
    cursor.bytes(&client.unwrap_or(Ipv4Addr::UNSPECIFIED).octets())?;
    let own = if inform || reply == kind::NAK {
        Ipv4Addr::UNSPECIFIED
    } else {
        address
    };
    cursor.bytes(&own.octets())?;
    cursor.zeros(8)?;
    cursor.bytes(&port.config.mac)?;
    cursor.zeros(10 + 64 + 128)?;
    cursor.bytes(&MAGIC)?;
    cursor.bytes(&[option::MESSAGE_TYPE, 1, reply])?;
    tlv(cursor, option::SERVER, &gateway.octets())?;
    if reply != kind::NAK {
        if !inform {
            let lease = port.config.gateway.lease.as_secs().clamp(60, u64::from(u32::MAX - 1)) as u32;
            tlv(cursor, option::LEASE_TIME, &lease.to_be_bytes())?;
            tlv(cursor, option::RENEWAL_TIME, &(lease / 2).to_be_bytes())?;
            tlv(cursor, option::REBINDING_TIME, &(lease / 8 * 7).to_be_bytes())?;
        }
        if request.kind == kind::DISCOVER && reply == kind::ACK {
            tlv(cursor, option::RAPID_COMMIT, &[])?;
        }
        tlv(cursor, option::SUBNET_MASK, &subnet.netmask().octets())?;
        tlv(cursor, option::ROUTER, &gateway.octets())?;
        dns_servers(cursor, port, gateway)?;
        text(cursor, option::HOST_NAME, &port.config.host_name)?;
        text(cursor, option::DOMAIN, &network.config.domain)?;
        tlv(cursor, option::MTU, &port.config.gateway.mtu.to_be_bytes())?;
        if !subnet.contains(&gateway) || subnet.prefix_len() == 32 {
            // The gateway is not on-link: a route to it, and the default route through it (RFC 3442).
            let [a, b, c, d] = gateway.octets();
            tlv(
                cursor,
                option::CLASSLESS_ROUTES,
                &[32, a, b, c, d, 0, 0, 0, 0, 0, a, b, c, d],
            )?;
        }
    }
    cursor.u8(255)?;
    cursor.zeros(SHORTEST.saturating_sub(cursor.len()))
}

/// The gateway itself, then the resolvers for everything else.
fn dns_servers(cursor: &mut Cursor<'_>, port: &Port, gateway: Ipv4Addr) -> Option<()> {
    let servers = std::iter::once(IpAddr::V4(gateway)).chain(port.resolvers(Family::V4));
    let octets: Vec<u8> = servers.flat_map(|server| (bits(server) as u32).to_be_bytes()).collect();
    tlv(cursor, option::DNS, &octets)
}

fn text(cursor: &mut Cursor<'_>, code: u8, text: &str) -> Option<()> {
    if text.is_empty() || text.len() > 200 {
        return Some(());
    }
    tlv(cursor, code, text.as_bytes())
}

fn tlv(cursor: &mut Cursor<'_>, code: u8, value: &[u8]) -> Option<()> {
    cursor.u8(code)?;
    cursor.u8(u8::try_from(value.len()).ok()?)?;
    cursor.bytes(value)
}
