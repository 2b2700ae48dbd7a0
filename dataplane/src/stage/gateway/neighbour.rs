//! Neighbour Discovery and Router Advertisements (RFC 4861, RFC 8106). The gateway is the only neighbour that a
//! guest has; it answers for every other address. The prefix is neither on-link nor for autoconfiguration: addresses
//! come by DHCPv6 (M=1), and everything goes through the gateway.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::{
    buffer::PacketBuf,
    bytes::array,
    control::NetworkKind,
    counters::Count,
    parse::{ETHERNET, Family, IPV6, IpPacket, bits},
    stage::{
        gateway::{
            Answer,
            reply::{self, Cursor},
        },
        icmp,
        itr::is_forwardable,
    },
    tables::{Network, Port},
    verdict::DropReason,
};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Answers a solicitation that anti-spoofing let pass.
pub fn answer(port: &Port, network: &Network, ip: &IpPacket, kind: u8, frame: &[u8], answer: &mut PacketBuf) -> Answer {
    let IpAddr::V6(source) = ip.key.source_address() else {
        return Answer::None(DropReason::Malformed);
    };
    match kind {
        ROUTER_SOLICITATION => {
            let to = if source.is_unspecified() { ALL_NODES } else { source };
            let done = advertise_to(port, network, to, answer);
            Answer::written(done, Count::GatewayRouter, DropReason::GatewayConsumed)
        }
        NEIGHBOUR_SOLICITATION => solicited(port, ip, source, frame, answer),
        _ => Answer::None(DropReason::GatewayConsumed),
    }
}

fn solicited(port: &Port, ip: &IpPacket, source: Ipv6Addr, frame: &[u8], answer: &mut PacketBuf) -> Answer {
    let target: Option<[u8; 16]> = array(frame, ip.l4 + 8);
    let Some(target) = target.map(Ipv6Addr::from).filter(|_| ip.end >= ip.l4 + 24) else {
        return Answer::None(DropReason::Malformed);
    };
    let gateway = target == port.config.gateway.ipv6;
    // From nowhere: a guest asks whether an address is free (RFC 4862 §5.4); only the gateway's own is defended.
    let others = !source.is_unspecified() && is_forwardable(IpAddr::V6(target)) && !port.owns(IpAddr::V6(target));
    if !gateway && !others {
        return Answer::None(DropReason::GatewayConsumed);
    }
    let (to, solicited) = if source.is_unspecified() {
        (ALL_NODES, 0)
    } else {
        (source, 0x40)
    };
    let router = if gateway { 0x80 } else { 0 };
    let done = message(port, to, answer, |cursor| {
        cursor.bytes(&[NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, router | solicited | 0x20, 0, 0, 0])?;
        cursor.bytes(&target.octets())?;
        link_layer_option(cursor, 2, port)
    });
    Answer::written(done, Count::GatewayNeighbour, DropReason::NoHeadroom)
}

/// Writes an unsolicited Router Advertisement to all nodes on the NIC. `None` when the guest has no IPv6 address.
pub fn advertise(port: &Port, network: &Network, answer: &mut PacketBuf) -> Option<()> {
    advertise_to(port, network, ALL_NODES, answer)
}

fn advertise_to(port: &Port, network: &Network, to: Ipv6Addr, answer: &mut PacketBuf) -> Option<()> {
    if !port.config.addresses.iter().any(IpAddr::is_ipv6) {
        return None;
    }
    let gateway = &port.config.gateway;
    let lifetime = gateway.lease.as_secs().clamp(60, 9_000) as u16;
    message(port, to, answer, |cursor| {
        // Hop limit 64, M and O, preference medium.
        cursor.bytes(&[ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0xc0])?;
        cursor.u16(lifetime)?;
        cursor.zeros(8)?;
        link_layer_option(cursor, 1, port)?;
        cursor.bytes(&[5, 1, 0, 0])?;
        cursor.u32(u32::from(gateway.mtu))?;
        if let NetworkKind::Mesh { eid_prefixes, .. } = &network.config.kind {
            for net in eid_prefixes.iter().take(8) {
                if let IpNet::V6(net) = net {
                    // L=0, A=0: the prefix is there to be seen, and decides nothing.
                    cursor.bytes(&[3, 4, net.prefix_len(), 0])?;
                    cursor.u32(u32::from(lifetime))?;
                    cursor.u32(u32::from(lifetime))?;
                    cursor.zeros(4)?;
                    cursor.bytes(&net.network().octets())?;
                }
            }
        }
        let resolvers: Vec<IpAddr> = port.resolvers(Family::V6).collect();
        cursor.bytes(&[25, 3 + 2 * resolvers.len() as u8, 0, 0])?;
        cursor.u32(u32::from(lifetime))?;
        cursor.bytes(&gateway.ipv6.octets())?;
        resolvers
            .iter()
            .try_for_each(|server| cursor.bytes(&bits(*server).to_be_bytes()))?;
        search_list(cursor, &network.config.domain, u32::from(lifetime))
    })
}

/// DNS search list (RFC 8106 §5.2).
fn search_list(cursor: &mut Cursor<'_>, domain: &str, lifetime: u32) -> Option<()> {
    if domain.is_empty() || domain.len() > 200 {
        return Some(());
    }
    let mut encoded = [0u8; 256];
    let mut name = Cursor::new(&mut encoded);
    name.name(domain)?;
    let length = name.len();
    let units = (8 + length).div_ceil(8);
    cursor.bytes(&[31, u8::try_from(units).ok()?, 0, 0])?;
    cursor.u32(lifetime)?;
    cursor.bytes(encoded.get(..length)?)?;
    cursor.zeros(units * 8 - 8 - length)
}

fn link_layer_option(cursor: &mut Cursor<'_>, kind: u8, port: &Port) -> Option<()> {
    cursor.bytes(&[kind, 1])?;
    cursor.bytes(&port.config.gateway.mac)
}

fn message(
    port: &Port,
    to: Ipv6Addr,
    answer: &mut PacketBuf,
    write: impl FnOnce(&mut Cursor<'_>) -> Option<()>,
) -> Option<()> {
    const L4: usize = ETHERNET + 40;
    let mut cursor = Cursor::new(answer.room_mut().get_mut(L4..L4 + 1232)?);
    write(&mut cursor)?;
    let length = cursor.len();
    answer.set_len(L4 + length);
    let frame = answer.bytes_mut();
    reply::ethernet(frame, port, reply::mac_of(port, to.into()), IPV6)?;
    icmp::finish(frame.get_mut(ETHERNET..)?, port.config.gateway.ipv6.into(), to.into())
}
