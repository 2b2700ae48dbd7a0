//! Hops 5 to 7, for a packet without a flow entry: policy, then where to, then which locator and uplink.
//!
//! [`decide`] only looks, so that `trace` asks the very same function; [`commit`] then does what was decided.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::{sync::Arc, time::Instant};

use lisp::{InstanceId, wire::DataHeader};

use crate::{
    connection::{ConnectionRef, Opening, Translation, inside},
    control::{MeshNode, PortId},
    flow::{Direction, Rewrite},
    hash,
    next_hop::{MeshHop, NextHop, Sealing},
    parse::{Family, FlowKey, bits, protocol},
    seal::Layout,
    stage::{
        etr,
        itr::{self, Route},
        nat, policy,
        policy::Admission,
        uplink,
    },
    tables::{Binding, LocalExit, Mapping, Network, Snapshot, network::Local},
    trace::Explain,
    verdict::DropReason,
    worker_state::{Origin, Subject, Worker},
};

/// What the stages decided.
#[derive(Debug)]
pub struct Decision {
    /// Why it may pass.
    pub admission: Admission,
    /// Where to.
    pub next_hop: NextHop,
    /// Inbound, sealed: what binds its source to the node that sealed it.
    pub binding: Option<Arc<Binding>>,
    /// How its source is translated.
    pub translation: Option<Translation>,
    /// On which guest port a new connection is counted.
    pub owner: Option<PortId>,
}

/// Why nothing was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecided {
    /// It ends here.
    Drop(DropReason),
    /// It waits for a mapping.
    Miss,
    /// It waits for an SA with this node.
    NoSa(MeshNode),
}

impl From<DropReason> for Undecided {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

/// Runs the stages. Changes nothing.
pub fn decide(
    worker: &Worker,
    snapshot: &Snapshot,
    direction: Direction,
    subject: &Subject<'_>,
    bytes: &[u8],
    now: Instant,
    explain: &mut impl Explain,
) -> Result<Decision, Undecided> {
    let (network, key, ip) = (&**subject.network, &subject.ip.key, &subject.ip);
    if ip.is_link_scoped() {
        explain.dropped("policy", DropReason::LinkScoped);
        return Err(DropReason::LinkScoped.into());
    }
    let mut binding = None;
    if direction == Direction::Inbound {
        etr::check_source(network, key).inspect_err(|reason| explain.dropped("etr", *reason))?;
        if let Some(node) = subject.origin.node() {
            let bound = etr::check_binding(&worker.tables.bindings, network, key, node);
            let bound = bound.inspect_err(|reason| {
                explain.step("binding", "drop", || {
                    format!(
                        "{}: {} is not bound to node {node}",
                        reason.word(),
                        key.source_address()
                    )
                });
            })?;
            explain.step("binding", "continue", || {
                format!("{} is bound to node {node}", bound.config.prefix)
            });
            binding = Some(bound);
        }
    }
    let exempt = match subject.origin {
        Origin::Host(_) => true,
        _ => is_echo_request(subject) && matches!(network.local(key.destination_address()), Some(Local::Host)),
    };
    let evaluated = policy::evaluate(&worker.connections, network, key, ip, bytes, exempt, now);
    let admission = match evaluated {
        Ok((admission, rule)) => {
            explain.step("policy", "allow", || rule.to_owned());
            admission
        }
        Err((reason, rule)) => {
            explain.step("policy", "drop", || format!("{}: {rule}", reason.word()));
            return Err(reason.into());
        }
    };
    let next_hop = match direction {
        Direction::Outbound => route(worker, snapshot, subject, now, explain)?,
        Direction::Inbound => deliver(network, key, explain)?,
    };
    let (admission, translation) = match &next_hop {
        NextHop::Local(exit) => translate(worker, exit, subject, admission, now, explain)?,
        _ => (admission, None),
    };
    let owner = match (&subject.origin, &next_hop) {
        (Origin::Guest(port), _) => Some(port.config.id),
        (_, NextHop::Guest(port)) => Some(port.config.id),
        _ => None,
    };
    if admission == Admission::Open && !worker.connections.has_room(owner) {
        explain.dropped("connection", DropReason::ConnectionTableFull);
        return Err(DropReason::ConnectionTableFull.into());
    }
    Ok(Decision {
        admission,
        next_hop,
        binding,
        translation,
        owner,
    })
}

/// Does what was decided, and says how to treat the packet and those that follow.
pub fn commit(
    worker: &mut Worker,
    network: &Arc<Network>,
    key: &FlowKey,
    tcp_flags: u8,
    decision: Decision,
    now: Instant,
) -> Result<Rewrite, DropReason> {
    let policy_version = network.policy.version;
    let connection = match decision.admission {
        Admission::Open => {
            let opening = Opening {
                key: *key,
                owner: decision.owner,
                policy_version,
                translation: decision.translation,
            };
            let connection = worker.connections.open(opening, tcp_flags, now)?;
            worker.counters.add(crate::counters::Count::ConnectionsOpened, 1);
            Some((connection, true))
        }
        Admission::Known {
            connection,
            forward,
            renewed,
        } => {
            if renewed {
                worker.connections.set_policy(connection, policy_version);
            }
            worker.connections.touch(connection, forward, tcp_flags, now);
            Some((connection, forward))
        }
        Admission::Related(_) => None,
    };
    Ok(Rewrite {
        network: Arc::clone(network),
        next_hop: decision.next_hop,
        connection,
        binding: decision.binding,
        translation: decision.translation,
    })
}

/// The connection that the policy no longer allows, to be ended.
pub fn forbidden(worker: &Worker, network: &Network, key: &FlowKey, now: Instant) -> Option<ConnectionRef> {
    let (connection, _) = worker.connections.find(key, now)?;
    let opening = worker.connections.get(connection)?.opening;
    let still = network.policy.first_match(&opening.key).is_some_and(|rule| rule.allow);
    (opening.policy_version != network.policy.version && !still).then_some(connection)
}

fn route(
    worker: &Worker,
    snapshot: &Snapshot,
    subject: &Subject<'_>,
    now: Instant,
    explain: &mut impl Explain,
) -> Result<NextHop, Undecided> {
    let (network, key) = (&**subject.network, &subject.ip.key);
    match itr::route(snapshot, &worker.tables.mappings, network, key) {
        Route::Guest(port) => {
            explain.step("itr", "continue", || {
                format!("guest `{}` of this node", port.config.name)
            });
            Ok(NextHop::Guest(port))
        }
        Route::Host => {
            explain.step("itr", "continue", || "this node's own host".to_owned());
            Ok(NextHop::Host)
        }
        Route::Exit(exit) => {
            explain.step("itr", "continue", || {
                format!("the host's network, by `{}`", exit.config.interface)
            });
            Ok(NextHop::Local(exit))
        }
        Route::Miss => {
            explain.step("itr", "miss", || {
                format!("no mapping for {}", network.eid(key.destination_address()))
            });
            Err(Undecided::Miss)
        }
        Route::Nowhere(reason) => {
            explain.dropped("itr", reason);
            Err(reason.into())
        }
        Route::Mapped(mapping) => {
            explain.step("itr", "continue", || format!("mapping {}", mapping.config.prefix));
            let hash = hash::symmetric(key);
            let instance_id = network.instance_id().unwrap_or_default();
            let hop = if network.is_sealed() {
                let packets = subject.ip.segments();
                sealed(worker, snapshot, &mapping, (instance_id, hash), packets, now, explain)?
            } else {
                let header = DataHeader::clear(instance_id).encode();
                uplink::choose(&mapping, &snapshot.uplinks, header, Layout::CLEAR, hash)
                    .inspect_err(|reason| explain.dropped("uplink", *reason))?
            };
            explain.step("uplink", "continue", || {
                let uplink = snapshot
                    .uplinks
                    .get(hop.to.uplink)
                    .map_or("?", |uplink| &uplink.config.name);
                format!(
                    "{} by `{uplink}` from {}, inner packets up to {} bytes",
                    hop.to.remote, hop.to.local, hop.limit
                )
            });
            Ok(NextHop::Mesh(hop))
        }
    }
}

/// The way of a packet in a sealed network: under the SAs with the mapping's node, to where that is; or nowhere.
fn sealed(
    worker: &Worker,
    snapshot: &Snapshot,
    mapping: &Arc<Mapping>,
    (instance_id, hash): (InstanceId, u32),
    packets: usize,
    now: Instant,
    explain: &mut impl Explain,
) -> Result<MeshHop, Undecided> {
    let nodes = &worker.tables.nodes;
    let Some(name) = mapping.config.node else {
        explain.step("seal", "drop", || {
            format!("{}: the mapping names no node", DropReason::NoMeshSa.word())
        });
        return Err(DropReason::NoMeshSa.into());
    };
    let node = nodes.get(&name);
    let current = node.as_ref().and_then(|node| node.current());
    let (Some(node), Some(tenure)) = (node, current.filter(|tenure| tenure.pair.may_seal(now, packets))) else {
        explain.step("seal", "miss", || {
            format!("no SA with node {name}, or none that may still be sent under")
        });
        return Err(Undecided::NoSa(name));
    };
    let channel = tenure.pair.channel(hash);
    let header = tenure.pair.header(channel, instance_id).ok_or(DropReason::NoMeshSa)?;
    explain.step("seal", "continue", || {
        let index = tenure.pair.outbound_index(channel).map_or(0, |index| index.get());
        format!("{} for node {name}, its SA index {index}", tenure.pair.suite)
    });
    let (layout, place) = (tenure.pair.layout(), node.whereabouts());
    let hop = match &place.away {
        Some(away) => {
            explain.step("seal", "continue", || format!("the node has roamed to {}", away.remote));
            let away = (away, nodes.mtu(away.rloc()));
            uplink::follow(mapping, &snapshot.uplinks, header, layout, hash, away)
        }
        None => uplink::choose(mapping, &snapshot.uplinks, header, layout, hash),
    };
    let hop = hop.inspect_err(|reason| explain.dropped("uplink", *reason))?;
    let seal = Sealing { tenure, channel, place };
    Ok(MeshHop {
        seal: Some(seal),
        ..hop
    })
}

fn deliver(network: &Network, key: &FlowKey, explain: &mut impl Explain) -> Result<NextHop, Undecided> {
    match etr::deliver(network, key.destination_address()) {
        Ok(Local::Port(port)) => {
            explain.step("deliver", "continue", || format!("guest port `{}`", port.config.name));
            Ok(NextHop::Guest(port))
        }
        Ok(Local::Host) => {
            explain.step("deliver", "continue", || "this node's own host".to_owned());
            Ok(NextHop::Host)
        }
        Err(reason) => {
            explain.dropped("deliver", reason);
            Err(reason.into())
        }
    }
}

/// Which outside address and port a packet to the host's network gets. A connection that has none yet (or has one of
/// an exit that is gone) is opened anew.
fn translate(
    worker: &Worker,
    exit: &LocalExit,
    subject: &Subject<'_>,
    admission: Admission,
    now: Instant,
    explain: &mut impl Explain,
) -> Result<(Admission, Option<Translation>), DropReason> {
    let key = &subject.ip.key;
    let outside = outside_address(exit, key.family).ok_or(DropReason::NoLocalExit);
    let outside = outside.inspect_err(|reason| explain.dropped("nat", *reason))?;
    if !nat::is_translatable(&subject.ip) {
        explain.dropped("nat", DropReason::NatProtocol);
        return Err(DropReason::NatProtocol);
    }
    let existing = match admission {
        Admission::Known {
            connection,
            forward: true,
            ..
        } => worker.connections.get(connection),
        Admission::Related(about) => {
            let found = worker.connections.find(&about, now);
            found.and_then(|(connection, _)| worker.connections.get(connection))
        }
        _ => None,
    };
    let existing = existing.and_then(|connection| connection.opening.translation);
    let (admission, translation) = match existing.filter(|translation| translation.address == outside) {
        Some(translation) => (admission, translation),
        None if matches!(admission, Admission::Related(_)) => return Err(DropReason::IcmpUnrelated),
        None => {
            let port = worker
                .connections
                .bindings
                .candidate(&inside(key))
                .ok_or(DropReason::NatExhausted);
            let port = port.inspect_err(|reason| explain.dropped("nat", *reason))?;
            (Admission::Open, Translation { address: outside, port })
        }
    };
    explain.step("nat", "continue", || {
        format!(
            "source becomes {} port {}",
            key.family.address(translation.address),
            translation.port
        )
    });
    Ok((admission, Some(translation)))
}

/// The exit's own address of a family, as a number.
pub fn outside_address(exit: &LocalExit, family: Family) -> Option<u128> {
    match family {
        Family::V4 => exit.config.ipv4.map(|address| bits(address.into())),
        Family::V6 => exit.config.ipv6.map(|address| bits(address.into())),
    }
}

fn is_echo_request(subject: &Subject<'_>) -> bool {
    match subject.ip.icmp {
        Some((8, 0)) => subject.ip.key.protocol == protocol::ICMP,
        Some((128, 0)) => subject.ip.key.protocol == protocol::ICMPV6,
        _ => false,
    }
}
