//! The gateway of a NIC: what a guest asks of its router is answered here, out of the port that it came from.
//!
//! Every guest sees a router with the same MAC and link-local address on every node, so that it may move. All
//! answers are functions of the port's and the network's configuration: there is no lease state to lose.

mod arp;
mod dhcp4;
mod dhcp6;
mod dns;
mod echo;
mod neighbour;
mod reply;

pub use neighbour::advertise;

use crate::{
    buffer::PacketBuf,
    counters::Count,
    parse::{Family, Fragment, IpPacket, protocol},
    tables::{Network, Port},
    verdict::DropReason,
};

/// What the gateway says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The answer is written; it counts as this.
    Reply(Count),
    /// There is no answer.
    None(DropReason),
}

impl Answer {
    /// A written answer, or what it is when it could not be written.
    fn written(done: Option<()>, count: Count, otherwise: DropReason) -> Self {
        match done {
            Some(()) => Self::Reply(count),
            None => Self::None(otherwise),
        }
    }
}

/// Whether a packet is the gateway's business: Neighbour Discovery, to the gateway's own addresses, or to a group.
#[inline]
pub fn concerns(port: &Port, ip: &IpPacket) -> bool {
    let destination = ip.key.destination_address();
    let discovery = ip.key.family.is_v6() && matches!(ip.icmp, Some((133..=137, _)));
    discovery || port.is_gateway(destination) || port.is_group(destination)
}

/// Answers a frame of the guest of `port` that [`concerns`] the gateway into `answer`, an Ethernet frame. `ip` is `None`
/// for ARP.
pub fn answer(port: &Port, network: &Network, ip: Option<&IpPacket>, frame: &[u8], answer: &mut PacketBuf) -> Answer {
    let Some(ip) = ip else {
        return arp::answer(port, frame, answer);
    };
    let destination = ip.key.destination_address();
    if let (Family::V6, Some((kind @ 133..=137, _))) = (ip.key.family, ip.icmp) {
        return neighbour::answer(port, network, ip, kind, frame, answer);
    }
    let own = port.is_gateway(destination);
    let otherwise = match own {
        true => DropReason::GatewayUnserved,
        false if is_multicast_report(ip) => DropReason::GatewayConsumed,
        false => DropReason::Multicast,
    };
    if ip.fragment != Fragment::Whole || ip.segment_size != 0 {
        return Answer::None(otherwise);
    }
    let Some(payload) = frame.get(ip.payload..ip.end) else {
        return Answer::None(DropReason::Malformed);
    };
    match (ip.key.protocol, ip.key.family, ip.key.destination_port) {
        (protocol::UDP, Family::V4, 67) => dhcp4::answer(port, network, payload, answer),
        (protocol::UDP, Family::V6, 547) => dhcp6::answer(port, network, ip, payload, answer),
        (protocol::UDP, _, 53) if own => dns::answer(port, network, ip, payload, answer),
        (protocol::ICMP, Family::V4, _) | (protocol::ICMPV6, Family::V6, _) if own => {
            echo::answer(port, ip, frame, answer)
        }
        _ => Answer::None(otherwise),
    }
}

fn is_multicast_report(ip: &IpPacket) -> bool {
    match ip.key.family {
        Family::V4 => ip.key.protocol == 2,
        Family::V6 => matches!(ip.icmp, Some((130..=132 | 143, _))),
    }
}
