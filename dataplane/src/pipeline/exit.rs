//! Packets from the host's network: whose connection they answer, back through NAT, and to the guest.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;

use crate::{
    buffer::PacketBuf,
    connection::Translation,
    decide,
    flow::{Direction, Rewrite},
    next_hop::NextHop,
    parse::{FlowKey, IpPacket},
    stage::{etr, policy},
    tables::network::Local,
    transmit::transmit,
    verdict::{DropReason, Outcome},
    worker_state::{Burst, Origin, Subject, Worker},
};

/// Scope of flow keys of packets from the host's network, which are not in any network of ours yet.
pub const EXIT_SCOPE: u32 = u32::MAX;

/// A packet from the host's network; it starts at its IP header.
pub fn from_local_exit(worker: &mut Worker, burst: &mut Burst<'_>, packet: PacketBuf) {
    let mut packet = Some(packet);
    let outcome = from_exit(worker, burst, &mut packet);
    worker.ended(burst, &Origin::Exit, outcome);
    burst.recycle(packet);
}

fn from_exit(worker: &mut Worker, burst: &mut Burst<'_>, packet: &mut Option<PacketBuf>) -> Outcome {
    let frame = packet.as_ref().ok_or(DropReason::Malformed)?;
    let bytes = frame.bytes();
    worker.capture.begin(None, "local-exit", false, bytes, 0);
    let mut ip = IpPacket::parse(bytes, 0, &frame.offload)?;
    worker.counters.exit().rx.add(ip.segments(), bytes.len());
    ip.key.scope = EXIT_SCOPE;
    worker.fragments.complete(&mut ip.key, ip.fragment, burst.now)?;
    let known = worker.flows.lookup(Direction::Inbound, &ip.key).map(Arc::clone);
    let hit = known.filter(|known| {
        let connection = known.connection;
        connection.is_some_and(|(name, forward)| worker.connections.touch(name, forward, ip.tcp_flags, burst.now))
    });
    let rewrite = match hit {
        Some(rewrite) => rewrite,
        None => {
            let rewrite = Arc::new(untranslate(worker, burst, &ip, bytes)?);
            if rewrite.connection.is_some() {
                worker.flows.insert(Direction::Inbound, ip.key, Arc::clone(&rewrite));
            }
            rewrite
        }
    };
    worker.fragments.remember(&ip.key, ip.fragment, burst.now);
    let network = Arc::clone(&rewrite.network);
    transmit(
        worker,
        burst,
        &mut Subject {
            origin: Origin::Exit,
            network: &network,
            ip,
        },
        packet,
        &rewrite,
    )
}

/// Finds whose connection a packet from outside answers, by its translated port.
fn untranslate(worker: &mut Worker, burst: &Burst<'_>, ip: &IpPacket, bytes: &[u8]) -> Result<Rewrite, DropReason> {
    let exit = burst.snapshot.exit.as_ref().ok_or(DropReason::NoLocalExit)?;
    if decide::outside_address(exit, ip.key.family) != Some(ip.key.destination) {
        return Err(DropReason::NatNoState);
    }
    // An ICMP error speaks of a packet that went out: its source is the translated one.
    let seen = match ip.is_icmp_error() {
        true => policy::quoted_key(bytes, ip)
            .ok_or(DropReason::IcmpUnrelated)?
            .reversed(),
        false => ip.key,
    };
    if seen.destination != ip.key.destination {
        return Err(DropReason::NatNoState);
    }
    let own = worker
        .connections
        .bindings
        .inside(seen.family, seen.protocol, seen.destination_port);
    let own = own.ok_or(DropReason::NatNoState)?;
    let key = FlowKey {
        scope: own.scope,
        destination: own.address,
        destination_port: own.port,
        ..seen
    };
    let (connection, forward) = worker.connections.find(&key, burst.now).ok_or(DropReason::NatNoState)?;
    if forward {
        return Err(DropReason::NatNoState);
    }
    let network = burst.snapshot.networks.get(&crate::control::NetworkId(own.scope));
    let network = network.ok_or(DropReason::UnknownNetwork)?;
    let opening = worker
        .connections
        .get(connection)
        .ok_or(DropReason::NatNoState)?
        .opening;
    if opening.policy_version != network.policy.version {
        if !network.policy.first_match(&opening.key).is_some_and(|rule| rule.allow) {
            worker.connections.remove(connection);
            return Err(DropReason::PolicyDenied);
        }
        worker.connections.set_policy(connection, network.policy.version);
    }
    let Ok(Local::Port(port)) = etr::deliver(network, key.destination_address()) else {
        return Err(DropReason::UnservedEid);
    };
    let error = ip.is_icmp_error();
    if !error {
        worker.connections.touch(connection, false, ip.tcp_flags, burst.now);
    }
    Ok(Rewrite {
        network: Arc::clone(network),
        next_hop: NextHop::Guest(port),
        connection: (!error).then_some((connection, false)),
        binding: None,
        translation: Some(Translation {
            address: own.address,
            port: own.port,
        }),
    })
}
