//! Hop 3 inbound: what came sealed; the control that may be inside; and packets outbound that no SA may seal now.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::net::SocketAddr;

use lisp::{Eid, InstanceId};

use crate::{
    control::{Event, MeshNode},
    counters::Count,
    next_hop::Destination,
    runs::RunHeader,
    seal::{SaPair, inside::Inside},
    stage::uplink,
    tables::node::{Away, SaEntry},
    verdict::{DropReason, Outcome, Passed},
    worker_state::{Burst, Origin, Worker},
};

/// Outer TTL of control inside an SA.
const TTL: u8 = 64;

/// Opens a datagram in place. Only when that worked it may say anything: that the SA is confirmed, and where the node is.
/// `heard` is whether this run has said the latter; `control`, whether its header says control.
pub(super) fn open<'d>(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    origin: &Origin<'_>,
    sa: &SaEntry,
    datagram: &'d mut [u8],
    (heard, control): (&mut bool, bool),
) -> Result<&'d mut [u8], DropReason> {
    let opened = sa.pair.open(sa.channel, datagram, burst.now)?;
    worker.counters.add(Count::Opened, 1);
    if sa.pair.confirm() {
        burst.out.events.extend(sa.pair.name().map(Event::SaConfirmed));
        if sa.node.promote(&sa.pair) {
            worker.ready.push(sa.node.name);
        }
    }
    if opened.newest
        && !*heard
        && let Some(from) = source(origin)
    {
        *heard = true;
        if let Some(to) = sa.node.heard(from, control, burst.now) {
            let node = sa.node.name;
            burst.out.events.push(Event::Roamed { node, to });
        }
    }
    Ok(opened.inside)
}

/// Where a packet came from, as a way back.
fn source(origin: &Origin<'_>) -> Option<Away> {
    let Origin::Mesh {
        uplink, local, from, ..
    } = *origin
    else {
        return None;
    };
    from.is_usable().then_some(Away {
        remote: from.data_address(),
        uplink,
        local,
    })
}

/// Control inside an SA.
pub(super) fn control(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    origin: &Origin<'_>,
    sa: &SaEntry,
    inside: &[u8],
) -> Outcome {
    let (Some(from), Origin::Mesh { from: rloc, .. }) = (source(origin), *origin) else {
        return Err(DropReason::SealedControl);
    };
    let node = sa.node.name;
    match Inside::decode(inside).ok_or(DropReason::SealedControl)? {
        Inside::Probe(nonce) => {
            let to = uplink::answer(&burst.snapshot.uplinks, &from, nonce as u32)?;
            // The current pair; when there is none, the one that the question came under.
            let current = sa.node.current().map(|tenure| std::sync::Arc::clone(&tenure.pair));
            let usable = current.filter(|pair| pair.may_seal(burst.now, 1));
            let pair = usable.as_ref().unwrap_or(&sa.pair);
            send(worker, burst, pair, to, &Inside::Answer(nonce))?;
        }
        Inside::Answer(nonce) => burst.out.events.push(Event::SealedProbeAnswered { node, nonce }),
        Inside::Message(message) => {
            if !worker.messages.take(burst.now) {
                return Err(DropReason::SealedControl);
            }
            burst.out.events.push(Event::SealedMessage {
                node,
                from: rloc,
                payload: message.to_vec(),
            });
        }
    }
    Ok(Passed::Control)
}

/// Sends control under a pair of SAs, from the data port.
pub fn send(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    pair: &SaPair,
    to: Destination,
    inside: &Inside<'_>,
) -> Result<(), DropReason> {
    let (channel, layout) = (pair.channel(to.flow_hash), pair.layout());
    let lisp = pair.header(channel, InstanceId::CONTROL).ok_or(DropReason::NoMeshSa)?;
    let length = lisp.len() + layout.overhead() + inside.size();
    let counter = pair
        .reserve(channel, worker.number, 1, inside.size(), burst.now)
        .ok_or(DropReason::NoMeshSa)?;
    let header = RunHeader {
        to,
        ttl: TTL,
        tos: 0,
        data_port: true,
    };
    let number = worker.number;
    let written = worker
        .runs
        .datagram(&header, length, burst.pool, burst.out, |datagram| {
            let (front, rest) = datagram.split_at_mut_checked(lisp.len())?;
            front.copy_from_slice(&lisp);
            inside.encode(rest.get_mut(layout.before..layout.before + inside.size())?)?;
            pair.seal(channel, datagram, number, counter)
        });
    written.flatten().ok_or(DropReason::Malformed)?;
    worker.counters.add(Count::Sealed, 1);
    worker.counters.uplink(to.uplink).tx.add(1, length);
    Ok(())
}

/// Sends control to a node: to `remote`, or to where it is.
pub fn send_to_node(
    worker: &mut Worker,
    burst: &mut Burst<'_>,
    node: MeshNode,
    remote: Option<SocketAddr>,
    inside: &Inside<'_>,
) -> Result<(), DropReason> {
    let known = worker.tables.nodes.get(&node).ok_or(DropReason::NoMeshSa)?;
    let current = known.current().filter(|tenure| tenure.pair.may_seal(burst.now, 1));
    let tenure = current.ok_or(DropReason::NoMeshSa)?;
    let uplinks = &burst.snapshot.uplinks;
    // Any hash will do; control of one node takes one way.
    let hash = tenure.pair.number as u32;
    let place = known.whereabouts();
    let to = match (remote, &place.away) {
        (Some(remote), _) => uplink::towards(uplinks, remote, hash)?,
        (None, Some(away)) => uplink::answer(uplinks, away, hash)?,
        (None, None) => {
            let locator = known.any_locator(|rloc| uplink::towards(uplinks, rloc.data_address(), hash).is_ok());
            let locator = locator.ok_or(DropReason::NoLocator)?;
            uplink::towards(uplinks, locator.data_address(), hash)?
        }
    };
    send(worker, burst, &tenure.pair, to, inside)
}

/// A packet found no SA to be sealed under: control is told.
pub(super) fn tell_no_sa(worker: &mut Worker, burst: &mut Burst<'_>, node: MeshNode, (source, eid): (Eid, Eid)) {
    worker.counters.add(Count::NoSa, 1);
    if worker.no_sas.allows(node, burst.now) {
        burst.out.events.push(Event::NoSa { node, eid, source });
    }
}
