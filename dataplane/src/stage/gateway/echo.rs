//! Pings of the gateway itself.

use crate::{
    buffer::PacketBuf,
    bytes::{be8, put},
    counters::Count,
    parse::{ETHERNET, Family, IpPacket},
    stage::{gateway::Answer, gateway::reply, icmp},
    tables::Port,
    verdict::DropReason,
};

/// Answers an echo request to one of the gateway's addresses.
pub fn answer(port: &Port, ip: &IpPacket, frame: &[u8], answer: &mut PacketBuf) -> Answer {
    let kinds = match ip.key.family {
        Family::V4 => (8, 0),
        Family::V6 => (128, 129),
    };
    if be8(frame, ip.l4) != Some(kinds.0) {
        return Answer::None(DropReason::GatewayUnserved);
    }
    let done = (|| {
        let message = frame.get(ip.l4..ip.end)?;
        let header = if ip.key.family.is_v6() { 40 } else { 20 };
        answer.set_len(ETHERNET + header + message.len());
        let to = answer.bytes_mut();
        reply::ethernet(to, port, port.config.mac, ip.key.family.ether_type())?;
        let packet = to.get_mut(ETHERNET..)?;
        put(packet, header, message)?;
        put(packet, header, &[kinds.1, 0])?;
        icmp::finish(packet, ip.key.destination_address(), ip.key.source_address())
    })();
    Answer::written(done, Count::GatewayEcho, DropReason::Malformed)
}
