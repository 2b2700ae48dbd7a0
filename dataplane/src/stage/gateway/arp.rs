//! ARP (RFC 826), as a proxy for every address but the guest's own: a guest with an on-link subnet asks for its
//! neighbours, and all of them are behind the gateway (RFC 1027).

use std::net::{IpAddr, Ipv4Addr};

use crate::{
    buffer::PacketBuf,
    bytes::{array, be16, put, put16},
    counters::Count,
    parse::{ARP, ETHERNET},
    stage::{antispoof::is_ethernet_arp, gateway::Answer, gateway::reply, itr::is_forwardable},
    tables::Port,
    verdict::DropReason,
};

const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// Answers an ARP frame whose sender is checked already.
pub fn answer(port: &Port, frame: &[u8], answer: &mut PacketBuf) -> Answer {
    let fields = (|| {
        let sender: [u8; 4] = array(frame, ETHERNET + 14)?;
        let target: [u8; 4] = array(frame, ETHERNET + 24)?;
        Some((
            be16(frame, ETHERNET + 6)?,
            Ipv4Addr::from(sender),
            Ipv4Addr::from(target),
        ))
    })();
    let Some((operation, sender, target)) = fields.filter(|_| is_ethernet_arp(frame)) else {
        return Answer::None(DropReason::Malformed);
    };
    // Asking from 0.0.0.0 is a probe whether an address is free (RFC 5227): only the gateway's own is defended.
    let wanted = match port.is_gateway(IpAddr::V4(target)) {
        true => true,
        false => !sender.is_unspecified() && is_forwardable(IpAddr::V4(target)) && !port.owns(IpAddr::V4(target)),
    };
    if operation != REQUEST || !wanted {
        return Answer::None(DropReason::GatewayConsumed);
    }
    answer.set_len(ETHERNET + 28);
    Answer::written(
        write(port, sender, target, answer.bytes_mut()),
        Count::GatewayArp,
        DropReason::NoHeadroom,
    )
}

fn write(port: &Port, sender: Ipv4Addr, target: Ipv4Addr, frame: &mut [u8]) -> Option<()> {
    reply::ethernet(frame, port, port.config.mac, ARP)?;
    put(frame, ETHERNET, &[0, 1, 8, 0, 6, 4])?;
    put16(frame, ETHERNET + 6, REPLY)?;
    put(frame, ETHERNET + 8, &port.config.gateway.mac)?;
    put(frame, ETHERNET + 14, &target.octets())?;
    put(frame, ETHERNET + 18, &port.config.mac)?;
    put(frame, ETHERNET + 24, &sender.octets())
}
