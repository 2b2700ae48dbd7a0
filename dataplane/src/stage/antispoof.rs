//! Anti-spoofing: a guest speaks for itself alone. ARP, Neighbour Discovery and DHCP included.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    bytes::{array, be8, be16},
    parse::{ARP, ETHERNET, Ethernet, Family, IpPacket, protocol},
    tables::Port,
    verdict::DropReason,
};

/// Checks the Ethernet header, and the sender of an ARP packet.
pub fn check_frame(port: &Port, ethernet: &Ethernet, frame: &[u8]) -> Result<(), DropReason> {
    if ethernet.source != port.config.mac {
        return Err(DropReason::SpoofedMac);
    }
    if !ethernet.is_group() && ethernet.destination != port.config.gateway.mac {
        return Err(DropReason::ForeignMac);
    }
    if ethernet.ether_type == ARP {
        check_arp(port, frame)
    } else {
        Ok(())
    }
}

/// Checks the source of an IP packet, and who Neighbour Discovery and DHCP say that they are.
pub fn check_packet(port: &Port, ip: &IpPacket, frame: &[u8]) -> Result<(), DropReason> {
    let source = ip.key.source_address();
    if let Some((kind @ 133..=137, _)) = ip.icmp
        && ip.key.family == Family::V6
    {
        return check_neighbour(port, ip, kind, source, frame);
    }
    if is_dhcp_request(port, ip) {
        return check_dhcp(port, ip, source, frame);
    }
    if port.owns(source) || is_multicast_report(ip, source) || speaks_to_gateway(port, ip, source) {
        return Ok(());
    }
    Err(DropReason::SpoofedSource)
}

/// RFC 826: hardware and protocol address of the sender must be the guest's; an ARP probe (RFC 5227) has none yet.
fn check_arp(port: &Port, frame: &[u8]) -> Result<(), DropReason> {
    let sender_mac: [u8; 6] = array(frame, ETHERNET + 8).ok_or(DropReason::Malformed)?;
    let sender: [u8; 4] = array(frame, ETHERNET + 14).ok_or(DropReason::Malformed)?;
    let sender = Ipv4Addr::from(sender);
    let honest = sender_mac == port.config.mac && (sender.is_unspecified() || port.owns(IpAddr::V4(sender)));
    if honest { Ok(()) } else { Err(DropReason::SpoofedArp) }
}

/// RFC 4861 §7: solicitations and advertisements speak for the guest's own addresses, with its own MAC, and only a
/// router advertises routes.
fn check_neighbour(port: &Port, ip: &IpPacket, kind: u8, source: IpAddr, frame: &[u8]) -> Result<(), DropReason> {
    const ROUTER_SOLICITATION: u8 = 133;
    const NEIGHBOUR_SOLICITATION: u8 = 135;
    const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    let IpAddr::V6(source) = source else {
        return Err(DropReason::SpoofedNeighbour);
    };
    let own = |address: Ipv6Addr| port.owns(IpAddr::V6(address)) || is_own_link_local(port, address);
    let from_guest = source.is_unspecified() || own(source);
    let allowed = match kind {
        ROUTER_SOLICITATION => from_guest,
        NEIGHBOUR_SOLICITATION => from_guest,
        NEIGHBOUR_ADVERTISEMENT => {
            let target: [u8; 16] = array(frame, ip.l4 + 8).ok_or(DropReason::Malformed)?;
            own(source) && own(Ipv6Addr::from(target))
        }
        _ => false,
    };
    let options = ip.l4 + if kind == ROUTER_SOLICITATION { 8 } else { 24 };
    if ip.ttl != 255 || !allowed || !link_layer_options_are_own(port, frame.get(options..ip.end).unwrap_or_default()) {
        return Err(DropReason::SpoofedNeighbour);
    }
    Ok(())
}

/// Source and target link-layer address options (RFC 4861 §4.6.1) must name the guest's MAC.
fn link_layer_options_are_own(port: &Port, mut options: &[u8]) -> bool {
    while let [kind, length, ..] = options {
        let size = usize::from(*length) * 8;
        if size == 0 {
            return false;
        }
        let Some(option) = options.get(..size) else {
            return false;
        };
        if matches!(kind, 1 | 2) && option.get(2..8) != Some(&port.config.mac) {
            return false;
        }
        options = options.get(size..).unwrap_or_default();
    }
    true
}

/// DHCP that the gateway will hear: between guests these are ports like any other.
fn is_dhcp_request(port: &Port, ip: &IpPacket) -> bool {
    let ports = (ip.key.source_port, ip.key.destination_port);
    let heard = || port.is_gateway(ip.key.destination_address()) || port.is_group(ip.key.destination_address());
    let asks = match ip.key.family {
        Family::V4 => ports == (68, 67),
        Family::V6 => ports.1 == 547,
    };
    ip.key.protocol == protocol::UDP && asks && heard()
}

/// DHCPv4: from nowhere or from the guest's own address, with its own hardware address inside (RFC 2131 §2).
/// DHCPv6: from a link-local address (RFC 8415 §13.1).
fn check_dhcp(port: &Port, ip: &IpPacket, source: IpAddr, frame: &[u8]) -> Result<(), DropReason> {
    let honest = match source {
        IpAddr::V4(address) => {
            let hardware: Option<[u8; 6]> = array(frame, ip.payload + 28);
            let ethernet = be8(frame, ip.payload + 1) == Some(1) && be8(frame, ip.payload + 2) == Some(6);
            (address.is_unspecified() || port.owns(source)) && ethernet && hardware == Some(port.config.mac)
        }
        IpAddr::V6(address) => is_own_link_local(port, address) || port.owns(source),
    };
    if honest { Ok(()) } else { Err(DropReason::SpoofedDhcp) }
}

/// MLD and IGMP reports come before there is an address (RFC 3810 §5.2.13); they end at the gateway.
fn is_multicast_report(ip: &IpPacket, source: IpAddr) -> bool {
    match source {
        IpAddr::V6(address) => {
            let reports = matches!(ip.icmp, Some((130..=132 | 143, _)));
            reports && (address.is_unspecified() || address.is_unicast_link_local())
        }
        IpAddr::V4(address) => ip.key.protocol == 2 && address.is_unspecified(),
    }
}

/// Link-local addresses may talk to the gateway's own link-local address, and nowhere else.
fn speaks_to_gateway(port: &Port, ip: &IpPacket, source: IpAddr) -> bool {
    let IpAddr::V6(source) = source else { return false };
    let destination = ip.key.destination_address();
    is_own_link_local(port, source) && (port.is_gateway(destination) || destination.is_multicast())
}

/// Any link-local address but the gateway's: guests make them up (RFC 7217), and they never leave the NIC.
fn is_own_link_local(port: &Port, address: Ipv6Addr) -> bool {
    address.is_unicast_link_local() && address != port.config.gateway.ipv6
}

/// The protocol numbers of an ARP packet are Ethernet and IPv4 (RFC 826).
pub fn is_ethernet_arp(frame: &[u8]) -> bool {
    let words = (
        be16(frame, ETHERNET),
        be16(frame, ETHERNET + 2),
        be16(frame, ETHERNET + 4),
    );
    words == (Some(1), Some(0x0800), Some(0x0604))
}
