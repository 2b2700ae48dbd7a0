//! Hops 8 to 10: rewriting the packet for its next hop, and putting it where that next hop takes it.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::{net::IpAddr, sync::Arc};

use crate::{
    buffer::PacketBuf,
    bytes::put,
    checksum,
    counters::Count,
    flow::Rewrite,
    fragment,
    next_hop::{MeshHop, NextHop},
    parse::{ETHERNET, Family, IpPacket, protocol, tcp},
    runs::RunHeader,
    segment::{self, Seal},
    stage::{
        icmp::{self, Complaint},
        nat::{self, End},
    },
    tables::{LocalExit, Port},
    verdict::{DropReason, Outcome, Passed},
    worker_state::{Burst, Origin, Subject, Worker},
};

/// Sends a packet where `rewrite` says. `packet` is left in place when it is not handed on.
pub fn transmit(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    subject: &mut Subject<'_>,
    packet: &mut Option<PacketBuf>,
    rewrite: &Rewrite,
) -> Outcome {
    match &rewrite.next_hop {
        NextHop::Mesh(hop) => to_mesh(worker, burst, subject, packet, hop),
        NextHop::Guest(port) => to_guest(worker, burst, subject, packet, port, rewrite),
        NextHop::Local(exit) => to_exit(worker, burst, subject, packet, exit, rewrite),
        NextHop::Host => to_host(worker, burst, subject, packet),
    }
}

/// One routed hop: the TTL goes down by one where a packet leaves its guest (RFC 1812 §5.3.1), and what does not fit
/// `limit` bytes is complained about, or, in IPv4 without DF, comes back as [`Fit::Split`].
fn route(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    subject: &mut Subject<'_>,
    packet: &mut PacketBuf,
    limit: usize,
) -> Result<Fit, DropReason> {
    if subject.ip.ttl <= 1 {
        complain(worker, burst, subject, packet, Complaint::TimeExceeded);
        return Err(DropReason::TtlExceeded);
    }
    let fit = fit(&mut subject.ip, limit);
    if fit == Fit::Not {
        complain(worker, burst, subject, packet, Complaint::TooBig(limit));
        return Err(DropReason::PacketTooBig);
    }
    let (ip, partial) = (&subject.ip, packet.offload.checksum.is_some());
    if ip.key.protocol == protocol::TCP
        && ip.tcp_flags & tcp::SYN != 0
        && nat::clamp_mss(packet.bytes_mut(), ip, limit, partial)
    {
        worker.counters.add(Count::MssClamped, 1);
    }
    checksum::decrement_ttl(packet.bytes_mut(), ip.l3, ip.key.family).ok_or(DropReason::Malformed)?;
    Ok(fit)
}

/// How a packet fits its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// As it is.
    Whole,
    /// In fragments.
    Split,
    /// Not at all: DF, or IPv6.
    Not,
}

/// How a packet fits `limit` bytes (RFC 9300 §7.1: S = L - H). A TCP super-packet without DF is cut smaller, which no
/// receiver can tell from a sender that did so itself.
pub fn fit(ip: &mut IpPacket, limit: usize) -> Fit {
    let headers = ip.payload - ip.l3;
    if ip.segment_len() <= limit {
        Fit::Whole
    } else if ip.dont_fragment {
        Fit::Not
    } else if ip.segment_size != 0 && ip.key.protocol == protocol::TCP && limit >= headers + 64 {
        ip.segment_size = limit - headers;
        Fit::Whole
    } else if limit >= 68 {
        Fit::Split
    } else {
        Fit::Not
    }
}

/// Tells the sender what went wrong, at a bounded rate.
fn complain(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    subject: &Subject<'_>,
    packet: &PacketBuf,
    complaint: Complaint,
) {
    let family = subject.ip.key.family;
    let source = match subject.origin {
        Origin::Guest(port) => gateway_address(port, family),
        Origin::Host(_) => subject
            .network
            .config
            .host_addresses
            .iter()
            .copied()
            .find(|address| Family::of(*address) == family),
        Origin::Mesh { .. } | Origin::Exit => None,
    };
    let Some(source) = source else { return };
    if !worker.complaints.take(burst.now) {
        return;
    }
    let link = subject.ip.l3;
    let mut answer = burst.pool.packet();
    if icmp::error(&mut answer, link, complaint, source, &subject.ip, packet.bytes()).is_none() {
        burst.pool.recycle_packet(answer);
        return;
    }
    worker.counters.add(
        match complaint {
            Complaint::TimeExceeded => Count::TimeExceeded,
            Complaint::TooBig(_) => Count::TooBig,
        },
        1,
    );
    match subject.origin {
        Origin::Guest(port) => {
            write_ethernet(&mut answer, port, family);
            worker.counters.port(port.config.id).tx.add(1, answer.len());
            burst.out.to_ports.push((port.config.id, answer));
        }
        Origin::Host(network) => burst.out.to_host.push((network, answer)),
        Origin::Mesh { .. } | Origin::Exit => burst.pool.recycle_packet(answer),
    }
}

fn gateway_address(port: &Port, family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => port.config.gateway.ipv4.map(|(address, _)| IpAddr::V4(address)),
        Family::V6 => Some(IpAddr::V6(port.config.gateway.ipv6)),
    }
}

/// From the gateway to the guest.
pub fn write_ethernet(frame: &mut PacketBuf, port: &Port, family: Family) {
    let bytes = frame.bytes_mut();
    let _ = put(bytes, 0, &port.config.mac);
    let _ = put(bytes, 6, &port.config.gateway.mac);
    let _ = put(bytes, 12, &family.ether_type().to_be_bytes());
}

fn to_mesh(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    subject: &mut Subject<'_>,
    packet: &mut Option<PacketBuf>,
    hop: &MeshHop,
) -> Outcome {
    let frame = packet.as_mut().ok_or(DropReason::Malformed)?;
    match route(worker, burst, subject, frame, hop.limit)? {
        Fit::Split => split(worker, burst, subject, packet, hop)?,
        _ => encapsulate(worker, burst, &subject.ip, frame, hop)?,
    }
    if worker.last_sent_to != Some(hop.to.remote) {
        worker.last_sent_to = Some(hop.to.remote);
        worker.sent_to.insert(lisp::Rloc {
            address: hop.to.remote.ip(),
            port: hop.to.remote.port(),
        });
    }
    Ok(Passed::Encapsulated)
}

fn encapsulate(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    ip: &IpPacket,
    frame: &PacketBuf,
    hop: &MeshHop,
) -> Result<(), DropReason> {
    use std::sync::atomic::Ordering::Relaxed;
    // Outer TTL, DSCP and ECN are the inner packet's (RFC 9300 §5.3, RFC 6040 §4.1 normal mode).
    let header = RunHeader {
        to: hop.to,
        ttl: ip.ttl - 1,
        tos: ip.tos,
        // A NAT lets in what answers the flow that it let out, which went to our data port.
        data_port: hop.seal.as_ref().is_some_and(|sealing| sealing.place.away.is_some()),
    };
    let packets = ip.segments();
    let bytes = ip.payload_len() + (ip.payload - ip.l3) * packets;
    let seal = match &hop.seal {
        None => None,
        Some(sealing) => {
            let (pair, channel) = (&*sealing.tenure.pair, sealing.channel);
            let first = pair.reserve(channel, worker.number, packets, bytes, burst.now);
            let first = first.ok_or(DropReason::NoMeshSa)?;
            worker.counters.add(Count::Sealed, packets);
            Some(Seal {
                pair,
                channel,
                worker: worker.number,
                first,
            })
        }
    };
    let around = hop.header.len() + seal.map_or(0, |seal| seal.pair.layout().overhead());
    let sinks = (&mut worker.runs, &mut *burst.pool, &mut *burst.out);
    let count = segment::encapsulate(frame.bytes(), ip, &frame.offload, &hop.header, seal, &header, sinks)
        .ok_or(DropReason::Malformed)?;
    worker.counters.add(Count::Encapsulated, count);
    worker
        .counters
        .uplink(hop.to.uplink)
        .tx
        .add(count, bytes + around * count);
    hop.mapping.usage.packets.fetch_add(count as u64, Relaxed);
    hop.mapping.usage.bytes.fetch_add(ip.len() as u64, Relaxed);
    Ok(())
}

/// An IPv4 packet without DF that is too big: its fragments are encapsulated each (RFC 9300 §7.1).
fn split(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    subject: &Subject<'_>,
    packet: &mut Option<PacketBuf>,
    hop: &MeshHop,
) -> Result<(), DropReason> {
    let whole = packet.take().ok_or(DropReason::Malformed)?;
    let mut singles = Vec::new();
    segment::explode_parsed(whole, &subject.ip, burst.pool, &mut singles);
    for single in singles {
        let parsed = IpPacket::parse(single.bytes(), subject.ip.l3, &single.offload)?;
        let fragments = fragment::split(&single, &parsed, hop.limit, burst.pool).ok_or(DropReason::PacketTooBig)?;
        burst.pool.recycle_packet(single);
        worker.counters.add(Count::Fragmented, 1);
        for fragment in fragments {
            // TTL was decremented already; encapsulation takes it from before.
            let mut ip = IpPacket::parse(fragment.bytes(), subject.ip.l3, &fragment.offload)?;
            ip.ttl = subject.ip.ttl;
            let sent = encapsulate(worker, burst, &ip, &fragment, hop);
            burst.pool.recycle_packet(fragment);
            sent?;
        }
    }
    Ok(())
}

fn to_guest(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    subject: &mut Subject<'_>,
    packet: &mut Option<PacketBuf>,
    port: &Arc<Port>,
    rewrite: &Rewrite,
) -> Outcome {
    let frame = packet.as_mut().ok_or(DropReason::Malformed)?;
    worker.capture.towards(port.config.id, &port.config.name);
    if matches!(subject.origin, Origin::Guest(_) | Origin::Host(_)) {
        let fit = route(worker, burst, subject, frame, usize::from(port.config.gateway.mtu))?;
        if fit == Fit::Split {
            // Between guests of one node nothing is cut; the sender learns the size like anybody else.
            complain(
                worker,
                burst,
                subject,
                frame,
                Complaint::TooBig(usize::from(port.config.gateway.mtu)),
            );
            return Err(DropReason::PacketTooBig);
        }
        worker.counters.add(Count::GuestToGuest, subject.ip.segments());
    }
    if let Some(to) = rewrite.translation {
        let partial = frame.offload.checksum.is_some();
        nat::translate(frame.bytes_mut(), &subject.ip, End::Destination, to, partial)?;
        worker.counters.add(Count::NatIn, subject.ip.segments());
    }
    let family = subject.ip.key.family;
    let end = match subject.ip.l3 {
        ETHERNET => subject.ip.end,
        _ => {
            frame.set_len(subject.ip.end);
            push_link(frame, ETHERNET - subject.ip.l3)?;
            subject.ip.end + ETHERNET - subject.ip.l3
        }
    };
    frame.set_len(end);
    write_ethernet(frame, port, family);
    worker
        .counters
        .port(port.config.id)
        .tx
        .add(subject.ip.segments(), frame.len());
    match packet.take() {
        Some(frame) if port.takes_offloads() => burst.out.to_ports.push((port.config.id, frame)),
        Some(frame) => {
            let mut singles = Vec::new();
            segment::explode(frame, burst.pool, &mut singles);
            burst
                .out
                .to_ports
                .extend(singles.into_iter().map(|single| (port.config.id, single)));
        }
        None => {}
    }
    Ok(Passed::Delivered)
}

/// Room for a link header in front; offsets of a partial checksum count from the new start.
fn push_link(frame: &mut PacketBuf, count: usize) -> Result<(), DropReason> {
    if let Some((start, _)) = &mut frame.offload.checksum {
        *start = start
            .checked_add(u16::try_from(count).unwrap_or(u16::MAX))
            .ok_or(DropReason::NoHeadroom)?;
    }
    if frame.push(count) {
        Ok(())
    } else {
        Err(DropReason::NoHeadroom)
    }
}

/// Drops the link header; offsets of a partial checksum count from the new start.
fn pull_link(frame: &mut PacketBuf, ip: &IpPacket) -> Result<(), DropReason> {
    frame.set_len(ip.end);
    if let Some((start, _)) = &mut frame.offload.checksum {
        *start = start
            .checked_sub(u16::try_from(ip.l3).unwrap_or(u16::MAX))
            .ok_or(DropReason::BadOffload)?;
    }
    frame.pull(ip.l3);
    Ok(())
}

fn to_exit(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    subject: &mut Subject<'_>,
    packet: &mut Option<PacketBuf>,
    exit: &LocalExit,
    rewrite: &Rewrite,
) -> Outcome {
    let frame = packet.as_mut().ok_or(DropReason::Malformed)?;
    let to = rewrite.translation.ok_or(DropReason::NatNoState)?;
    let limit = exit.config.mtu as usize;
    if route(worker, burst, subject, frame, limit)? == Fit::Split {
        complain(worker, burst, subject, frame, Complaint::TooBig(limit));
        return Err(DropReason::PacketTooBig);
    }
    let partial = frame.offload.checksum.is_some();
    nat::translate(frame.bytes_mut(), &subject.ip, End::Source, to, partial)?;
    pull_link(frame, &subject.ip)?;
    worker.counters.add(Count::NatOut, subject.ip.segments());
    worker.counters.exit().tx.add(subject.ip.segments(), frame.len());
    burst.out.to_local_exit.extend(packet.take());
    Ok(Passed::LocalExit)
}

fn to_host(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    subject: &mut Subject<'_>,
    packet: &mut Option<PacketBuf>,
) -> Outcome {
    let network = subject.network.config.id;
    let mut singles = Vec::new();
    if let Some(frame) = packet.take() {
        segment::explode_parsed(frame, &subject.ip, burst.pool, &mut singles);
    }
    for mut single in singles {
        let end = IpPacket::parse(single.bytes(), subject.ip.l3, &single.offload)?.end;
        single.set_len(end);
        single.pull(subject.ip.l3);
        worker.counters.add(Count::ToHost, 1);
        burst.out.to_host.push((network, single));
    }
    Ok(Passed::Host)
}
