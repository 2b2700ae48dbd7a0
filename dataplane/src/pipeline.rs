//! One packet, ten hops. Read this file first; each hop names the file that does it.
//!
//! Outbound, a frame that a guest sent ([`outbound`]):
//!
//!  1. `port/` read it into a buffer with headroom; it may be a super-packet
//!  2. `parse.rs` looks at it once; `stage/antispoof.rs` checks that the guest speaks for itself
//!  3. `stage/gateway/` answers what is meant for the gateway: ARP, ND, DHCP, DNS, echo
//!  4. `flow.rs`: a flow that is known goes to hop 8
//!  5. `stage/policy.rs`: may it?
//!  6. `stage/itr.rs`: where to? A guest here, another node, the host's network; or nowhere; or a miss
//!  7. `stage/uplink.rs`: which locator, by which uplink
//!  8. `transmit.rs` rewrites it: TTL, size, MSS, NAT; `segment.rs` cuts it while encapsulating
//!  9. `seal/`: in place, in the datagrams that `segment.rs` has just written; clear networks skip it
//! 10. the burst loop sends what lies in [`crate::engine::Output`]
//!
//! Inbound, a datagram that another node sent ([`inbound`]): 1. `port/udp.rs`, 2. data header (`lisp::wire`),
//! 3. `seal/`, by `pipeline/sealed.rs`, 4. `stage/etr.rs`, 5. `parse.rs`, 6. `flow.rs`, 7. `stage/policy.rs`, 8. `stage/etr.rs` again: whose,
//! 9. guest-side headers and `coalesce.rs`, 10. the burst loop.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod exit;
mod sealed;

use std::sync::Arc;

use lisp::{Eid, Rloc, wire::DataHeader};

use crate::{
    buffer::{DatagramRun, Offload, PacketBuf},
    checksum,
    control::Event,
    counters::Count,
    decide::{self, Undecided},
    flow::{Direction, Rewrite},
    next_hop::NextHop,
    parse::{ARP, ETHERNET, Ethernet, IPV4, IPV6, IpPacket},
    pending::Waiter,
    stage::{
        antispoof,
        etr::{self, Says},
        gateway,
    },
    tables::{Network, Port, node::SaEntry},
    transmit::transmit,
    verdict::{DropReason, Outcome, Passed},
    worker_state::{Burst, Origin, Subject, Worker},
};

pub use exit::{EXIT_SCOPE, from_local_exit};
pub use sealed::send_to_node;

/// A frame that the guest of `port` sent.
pub fn outbound(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    port: &Arc<Port>,
    network: &Arc<Network>,
    frame: PacketBuf,
) {
    let mut packet = Some(frame);
    let outcome = from_guest(worker, burst, port, network, &mut packet);
    worker.ended(burst, &Origin::Guest(port), outcome);
    burst.recycle(packet);
}

fn from_guest(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    port: &Arc<Port>,
    network: &Arc<Network>,
    packet: &mut Option<PacketBuf>,
) -> Outcome {
    let frame = packet.as_mut().ok_or(DropReason::Malformed)?;
    let bytes = frame.bytes();
    worker.counters.port(port.config.id).rx.add(1, bytes.len());
    worker
        .capture
        .begin(Some(port.config.id), &port.config.name, true, bytes, ETHERNET);
    let ethernet = Ethernet::parse(bytes)?;
    antispoof::check_frame(port, &ethernet, bytes)?;
    let ip = match ethernet.ether_type {
        ARP => None,
        IPV4 | IPV6 => Some(IpPacket::parse(bytes, ETHERNET, &frame.offload)?),
        _ => return Err(DropReason::UnknownEtherType),
    };
    if let Some(ip) = &ip {
        if ip.key.family.ether_type() != ethernet.ether_type {
            return Err(DropReason::Malformed);
        }
        worker.counters.port(port.config.id).rx.add(ip.segments() - 1, 0);
        antispoof::check_packet(port, ip, bytes)?;
    }
    if ip.as_ref().is_none_or(|ip| gateway::concerns(port, ip)) {
        return ask_gateway(worker, burst, port, network, ip.as_ref(), packet);
    }
    let ip = ip.ok_or(DropReason::GatewayConsumed)?;
    forward(
        worker,
        burst,
        Subject {
            origin: Origin::Guest(port),
            network,
            ip,
        },
        packet,
    )
}

/// Hop 3: what the gateway says goes back out of the port that it came from.
fn ask_gateway(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    port: &Port,
    network: &Network,
    ip: Option<&IpPacket>,
    packet: &Option<PacketBuf>,
) -> Outcome {
    let mut answer = burst.pool.packet();
    let bytes = packet.as_ref().map_or(&[][..], PacketBuf::bytes);
    match gateway::answer(port, network, ip, bytes, &mut answer) {
        gateway::Answer::Reply(count) => {
            worker.counters.add(count, 1);
            worker.counters.port(port.config.id).tx.add(1, answer.len());
            burst.out.to_ports.push((port.config.id, answer));
            Ok(Passed::Hairpin)
        }
        gateway::Answer::None(reason) => {
            burst.pool.recycle_packet(answer);
            Err(reason)
        }
    }
}

/// A packet that the node's own host in `network` sent; it starts at its IP header.
pub fn from_host(worker: &mut Worker, burst: &mut Burst<'_>, network: &Arc<Network>, packet: PacketBuf) {
    let mut packet = Some(packet);
    let origin = Origin::Host(network.config.id);
    let bytes = packet.as_ref().map_or(&[][..], PacketBuf::bytes);
    worker.capture.begin(None, &network.config.name, true, bytes, 0);
    let parsed = packet
        .as_ref()
        .map(|packet| IpPacket::parse(packet.bytes(), 0, &packet.offload));
    let outcome = match parsed {
        Some(Ok(ip)) if network.config.host_addresses.contains(&ip.key.source_address()) => {
            forward(worker, burst, Subject { origin, network, ip }, &mut packet)
        }
        Some(Ok(_)) => Err(DropReason::SpoofedSource),
        Some(Err(reason)) => Err(reason),
        None => Err(DropReason::Malformed),
    };
    worker.ended(burst, &origin, outcome);
    burst.recycle(packet);
}

/// Hops 4 to 10 outbound.
fn forward(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    mut subject: Subject<'_>,
    packet: &mut Option<PacketBuf>,
) -> Outcome {
    subject.ip.key.scope = subject.network.config.id.0;
    worker
        .fragments
        .complete(&mut subject.ip.key, subject.ip.fragment, burst.now)?;
    let bytes = packet.as_ref().map_or(&[][..], PacketBuf::bytes);
    let rewrite = match rewrite(worker, burst, Direction::Outbound, &subject, bytes) {
        Ok(rewrite) => rewrite,
        Err(Undecided::Drop(reason)) => return Err(reason),
        Err(Undecided::Miss) => {
            tell_miss(worker, burst, &subject);
            return wait(worker, burst, &subject, packet, DropReason::PendingFull);
        }
        Err(Undecided::NoSa(node)) => {
            let eids = (source_eid(&subject), destination_eid(&subject));
            sealed::tell_no_sa(worker, burst, node, eids);
            return wait(worker, burst, &subject, packet, DropReason::NoMeshSa);
        }
    };
    transmit(worker, burst, &mut subject, packet, &rewrite)
}

/// Hops 4 to 7: the flow table's word, or the stages'.
fn rewrite(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    direction: Direction,
    subject: &Subject<'_>,
    bytes: &[u8],
) -> Result<Arc<Rewrite>, Undecided> {
    let (key, flags) = (&subject.ip.key, subject.ip.tcp_flags);
    if !subject.ip.opens_tcp()
        && let Some(known) = worker.flows.lookup(direction, key)
        && known.binding.as_ref().map(|binding| binding.config.node) == subject.origin.node()
        && known.next_hop.takes(subject.ip.segments(), burst.now)
        && let Some((connection, forward)) = known.connection
        && worker.connections.touch(connection, forward, flags, burst.now)
    {
        let known = Arc::clone(known);
        worker.counters.add(Count::FlowHits, 1);
        worker.fragments.remember(key, subject.ip.fragment, burst.now);
        return Ok(known);
    }
    worker.counters.add(Count::FlowMisses, 1);
    let decision = decide::decide(worker, burst.snapshot, direction, subject, bytes, burst.now, &mut ());
    if decision.as_ref().err() == Some(&Undecided::Drop(DropReason::PolicyDenied))
        && let Some(connection) = decide::forbidden(worker, subject.network, key, burst.now)
    {
        worker.connections.remove(connection);
        worker.counters.add(Count::ConnectionsClosed, 1);
    }
    let rewrite = Arc::new(decide::commit(
        worker,
        subject.network,
        key,
        flags,
        decision?,
        burst.now,
    )?);
    worker.fragments.remember(key, subject.ip.fragment, burst.now);
    if rewrite.connection.is_some() {
        worker.flows.insert(direction, *key, Arc::clone(&rewrite));
    }
    Ok(rewrite)
}

fn source_eid(subject: &Subject<'_>) -> Eid {
    subject.network.eid(subject.ip.key.source_address())
}

fn destination_eid(subject: &Subject<'_>) -> Eid {
    subject.network.eid(subject.ip.key.destination_address())
}

/// A miss: control is told.
fn tell_miss(worker: &mut Worker, burst: &mut Burst<'_>, subject: &Subject<'_>) {
    let eid = destination_eid(subject);
    if worker.misses.allows(eid, burst.now) {
        worker.counters.add(Count::MapCacheMisses, 1);
        let source = source_eid(subject);
        burst.out.events.push(Event::MapCacheMiss { eid, source });
    }
}

/// The packet waits for a mapping or an SA, if there is room; or it is dropped as `full`.
fn wait(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    subject: &Subject<'_>,
    packet: &mut Option<PacketBuf>,
    full: DropReason,
) -> Outcome {
    let eid = destination_eid(subject);
    let waiter = match subject.origin {
        Origin::Guest(port) => Waiter::Port(port.config.id),
        _ => Waiter::Host(subject.network.config.id),
    };
    let frame = packet.take().ok_or(DropReason::Malformed)?;
    match worker.pending.push(eid, waiter, frame, burst.now) {
        Ok(()) => Ok(Passed::Waiting),
        Err(frame) => {
            *packet = Some(frame);
            Err(full)
        }
    }
}

/// A packet whose mapping, or SA, has come: hops 4 to 10 again.
pub fn resume(worker: &mut Worker, burst: &mut Burst<'_>, from: Waiter, frame: PacketBuf) {
    let mut packet = Some(frame);
    let snapshot = burst.snapshot;
    let (port, network) = match from {
        Waiter::Port(id) => {
            let port = snapshot.ports.get(&id);
            (port, port.and_then(|port| snapshot.networks.get(&port.config.network)))
        }
        Waiter::Host(id) => (None, snapshot.networks.get(&id)),
    };
    let origin = match (port, from) {
        (Some(port), _) => Origin::Guest(port),
        (None, Waiter::Host(id)) => Origin::Host(id),
        (None, Waiter::Port(_)) => Origin::Exit,
    };
    let l3 = if port.is_some() { ETHERNET } else { 0 };
    let parsed = packet
        .as_ref()
        .map(|packet| IpPacket::parse(packet.bytes(), l3, &packet.offload));
    let outcome = match (network, parsed) {
        (Some(network), Some(Ok(ip))) => {
            worker.counters.add(Count::Released, 1);
            forward(worker, burst, Subject { origin, network, ip }, &mut packet)
        }
        (None, _) => Err(DropReason::UnknownNetwork),
        _ => Err(DropReason::Malformed),
    };
    worker.ended(burst, &origin, outcome);
    burst.recycle(packet);
}

/// A run of datagrams that came to our data port.
pub fn inbound<'a>(worker: &mut Worker, burst: &mut Burst<'a>, run: &mut DatagramRun) {
    worker.counters.uplink(run.uplink).rx.add(run.count(), run.len());
    let from = Rloc {
        address: run.remote.ip(),
        port: run.remote.port(),
    };
    let origin = Origin::Mesh {
        uplink: run.uplink,
        local: run.local,
        from,
        node: None,
        ttl: run.ttl,
        tos: run.tos,
    };
    // The datagrams of a run mostly say the same.
    let mut last = None;
    for datagram in run.datagrams_mut() {
        let outcome = from_mesh(worker, burst, origin, datagram, &mut last);
        worker.ended(burst, &origin, outcome);
    }
}

/// What a data header says, looked up.
enum Known<'a> {
    /// In clear, for this network.
    Clear(&'a Arc<Network>),
    /// Sealed under this SA, for a network (or none that may be sealed for), or control.
    Sealed {
        sa: Arc<SaEntry>,
        network: Result<&'a Arc<Network>, DropReason>,
        /// Whether this run has said where the node is.
        heard: bool,
    },
}

fn recognise<'a>(worker: &Worker, burst: &Burst<'a>, header: &[u8]) -> Result<Known<'a>, DropReason> {
    let header = DataHeader::decode(header).map_err(|_| DropReason::LispTruncated)?;
    match etr::read(&header)? {
        Says::Clear(instance_id) => etr::network(instance_id, false, burst.snapshot).map(Known::Clear),
        Says::Sealed(index, instance_id) => Ok(Known::Sealed {
            sa: worker.tables.nodes.sa(index).ok_or(DropReason::UnknownSa)?,
            network: etr::network(instance_id, true, burst.snapshot),
            heard: false,
        }),
    }
}

/// `last` is what the header of the datagram before said.
fn from_mesh<'a>(
    worker: &mut Worker,
    burst: &mut Burst<'a>,
    mut origin: Origin<'a>,
    datagram: &mut [u8],
    last: &mut Option<([u8; DataHeader::LEN], Known<'a>)>,
) -> Outcome {
    let header = *datagram
        .first_chunk::<{ DataHeader::LEN }>()
        .ok_or(DropReason::LispTruncated)?;
    if last.as_ref().is_none_or(|(same, _)| *same != header) {
        *last = None;
        let known = recognise(worker, burst, &header);
        if known.as_ref().err() == Some(&DropReason::ControlInData) {
            punt(worker, burst, &origin, datagram);
        }
        *last = Some((header, known?));
    }
    let (network, inner) = match last {
        Some((_, Known::Clear(network))) => (*network, datagram.get_mut(DataHeader::LEN..).unwrap_or_default()),
        Some((_, Known::Sealed { sa, network, heard })) => {
            let control = network.as_ref().err() == Some(&DropReason::ControlInData);
            let inside = sealed::open(worker, burst, &origin, sa, datagram, (heard, control))?;
            if let Origin::Mesh { node, .. } = &mut origin {
                *node = Some(sa.node.name);
            }
            if control {
                return sealed::control(worker, burst, &origin, sa, inside);
            }
            ((*network)?, inside)
        }
        None => return Err(DropReason::LispTruncated),
    };
    worker.capture.begin(None, &network.config.name, false, inner, 0);
    let ip = IpPacket::parse(inner, 0, &Offload::default())?;
    from_outside(worker, burst, Subject { origin, network, ip }, inner)
}

/// A control message in a clear data header: control's.
fn punt(worker: &mut Worker, burst: &mut Burst<'_>, origin: &Origin<'_>, datagram: &[u8]) {
    let Origin::Mesh { from, .. } = origin else { return };
    if worker.punts.take(burst.now) {
        burst.out.events.push(Event::ControlInData {
            from: from.data_address(),
            payload: datagram.get(DataHeader::LEN..).unwrap_or_default().to_vec(),
        });
    }
}

/// Hops 4 to 10 inbound.
fn from_outside(worker: &mut Worker, burst: &mut Burst<'_>, mut subject: Subject<'_>, inner: &mut [u8]) -> Outcome {
    let Origin::Mesh { from, ttl, tos, .. } = subject.origin else {
        return Err(DropReason::Malformed);
    };
    let ecn = etr::ecn(subject.ip.tos, tos)?;
    subject.ip.key.scope = subject.network.config.id.0;
    worker
        .fragments
        .complete(&mut subject.ip.key, subject.ip.fragment, burst.now)?;
    let rewrite = match rewrite(worker, burst, Direction::Inbound, &subject, inner) {
        Ok(rewrite) => rewrite,
        Err(Undecided::Drop(DropReason::UnservedEid)) => {
            let eid = subject.network.eid(subject.ip.key.destination_address());
            if worker.unserved.allows((eid, from), burst.now) {
                let node = subject.origin.node();
                burst.out.events.push(Event::UnservedEid { eid, from, node });
            }
            return Err(DropReason::UnservedEid);
        }
        Err(Undecided::Drop(DropReason::UnboundSource)) => {
            let source = source_eid(&subject);
            if let Some(node) = subject.origin.node()
                && worker.unbound.allows((node, source), burst.now)
                && worker.unbound_told.take(burst.now)
            {
                burst.out.events.push(Event::UnboundSource { node, source });
            }
            return Err(DropReason::UnboundSource);
        }
        Err(Undecided::Drop(reason)) => return Err(reason),
        Err(Undecided::Miss | Undecided::NoSa(_)) => return Err(DropReason::UnservedEid),
    };
    worker.counters.add(Count::Decapsulated, 1);
    let (l3, family) = (subject.ip.l3, subject.ip.key.family);
    let ttl = etr::ttl(&subject.ip, ttl);
    if ttl != subject.ip.ttl {
        checksum::set_ttl(inner, l3, family, ttl).ok_or(DropReason::Malformed)?;
    }
    if ecn != subject.ip.tos & 3 {
        checksum::set_ecn(inner, l3, family, ecn).ok_or(DropReason::Malformed)?;
    }
    (subject.ip.ttl, subject.ip.tos) = (ttl, subject.ip.tos & !3 | ecn);
    let NextHop::Guest(port) = &rewrite.next_hop else {
        let frame = PacketBuf::from_frame(inner.get(..subject.ip.end).ok_or(DropReason::Malformed)?);
        return transmit(worker, burst, &mut subject, &mut Some(frame), &rewrite);
    };
    let id = port.config.id;
    worker.capture.towards(id, &port.config.name);
    worker.counters.port(id).tx.add(1, ETHERNET + subject.ip.end);
    let added = worker
        .coalescer
        .add(port, inner, &subject.ip, &mut worker.counters, (burst.pool, burst.out));
    added.map(|()| Passed::Delivered).ok_or(DropReason::Malformed)
}
