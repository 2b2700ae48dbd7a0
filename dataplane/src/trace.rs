//! What would happen to a packet: the very same stage functions, on a copy, with nothing changed and nothing sent.

use std::{net::IpAddr, time::Instant};

use lisp::{InstanceId, Rloc};

use crate::{
    buffer::{Offload, PacketBuf},
    control::{MeshNode, PortId, TraceStep, UplinkId},
    decide::{self, Decision, Undecided},
    flow::Direction,
    next_hop::NextHop,
    parse::{ARP, ETHERNET, Ethernet, IPV4, IPV6, IpPacket},
    stage::{antispoof, etr, gateway, policy::Admission},
    tables::Snapshot,
    transmit::{Fit, fit},
    verdict::DropReason,
    worker_state::{Origin, Subject, Worker},
};

/// Somebody who wants to know what each stage says. The packet path itself does not.
pub trait Explain {
    /// A stage's word and what it was based on.
    fn step(&mut self, stage: &'static str, verdict: &'static str, detail: impl FnOnce() -> String);

    /// A stage dropped it.
    fn dropped(&mut self, stage: &'static str, reason: DropReason) {
        self.step(stage, "drop", || reason.word().to_owned());
    }
}

impl Explain for () {
    #[inline]
    fn step(&mut self, _: &'static str, _: &'static str, _: impl FnOnce() -> String) {}
}

impl Explain for Vec<TraceStep> {
    fn step(&mut self, stage: &'static str, verdict: &'static str, detail: impl FnOnce() -> String) {
        self.push(TraceStep {
            stage: stage.to_owned(),
            verdict: verdict.to_owned(),
            detail: detail(),
        });
    }
}

/// Traces a frame that the guest of `port` would send.
pub fn outbound(worker: &Worker, snapshot: &Snapshot, port: PortId, frame: &[u8], now: Instant) -> Vec<TraceStep> {
    let mut steps = Vec::new();
    if let Err(reason) = try_outbound(worker, snapshot, port, frame, now, &mut steps) {
        steps.dropped("parse", reason);
    }
    steps
}

/// An error is one of parsing; every stage writes its own word.
fn try_outbound(
    worker: &Worker,
    snapshot: &Snapshot,
    port: PortId,
    frame: &[u8],
    now: Instant,
    steps: &mut Vec<TraceStep>,
) -> Result<(), DropReason> {
    let port = snapshot.ports.get(&port).ok_or(DropReason::UnknownPort)?;
    let network = snapshot
        .networks
        .get(&port.config.network)
        .ok_or(DropReason::UnknownNetwork)?;
    let ethernet = Ethernet::parse(frame)?;
    let ip = match ethernet.ether_type {
        ARP => None,
        IPV4 | IPV6 => Some(IpPacket::parse(frame, ETHERNET, &Offload::default())?),
        _ => return Err(DropReason::UnknownEtherType),
    };
    steps.step("parse", "continue", || describe(ip.as_ref()));
    let checked = antispoof::check_frame(port, &ethernet, frame);
    let checked = checked.and_then(|()| {
        ip.as_ref()
            .map_or(Ok(()), |ip| antispoof::check_packet(port, ip, frame))
    });
    if let Err(reason) = checked {
        steps.dropped("antispoof", reason);
        return Ok(());
    }
    steps.step("antispoof", "continue", || {
        format!("guest port `{}` speaks for itself", port.config.name)
    });
    if ip.as_ref().is_none_or(|ip| gateway::concerns(port, ip)) {
        let mut answer = PacketBuf::new();
        match gateway::answer(port, network, ip.as_ref(), frame, &mut answer) {
            gateway::Answer::Reply(count) => {
                steps.step("gateway", "hairpin", || {
                    format!("{}, {} bytes", count.word(), answer.len())
                });
            }
            gateway::Answer::None(reason) => steps.dropped("gateway", reason),
        }
        return Ok(());
    }
    steps.step("gateway", "continue", || "not for the gateway".to_owned());
    let Some(mut ip) = ip else { return Ok(()) };
    ip.key.scope = network.config.id.0;
    if let Err(reason) = worker.fragments.complete(&mut ip.key, ip.fragment, now) {
        steps.dropped("flow", reason);
        return Ok(());
    }
    let subject = Subject {
        origin: Origin::Guest(port),
        network,
        ip,
    };
    explain_flow(worker, Direction::Outbound, &subject, steps);
    let decided = decide::decide(worker, snapshot, Direction::Outbound, &subject, frame, now, steps);
    match decided {
        Ok(decision) => explain_way_out(&subject, &decision, steps),
        Err(Undecided::Miss) => {
            steps.step("itr", "wait", || {
                "control is asked, and the packet waits up to 3 s".to_owned()
            });
        }
        Err(Undecided::NoSa(_)) => {
            steps.step("seal", "wait", || {
                "control is asked, and the packet waits up to 3 s".to_owned()
            });
        }
        Err(Undecided::Drop(_)) => {}
    }
    Ok(())
}

/// Traces an inner packet that `from` would send in `instance_id`, sealed by `node` or in clear.
pub fn inbound(
    worker: &Worker,
    snapshot: &Snapshot,
    (from, node): (Rloc, Option<MeshNode>),
    instance_id: InstanceId,
    packet: &[u8],
    now: Instant,
) -> Vec<TraceStep> {
    let mut steps = Vec::new();
    if let Some(name) = node {
        steps.step("open", "continue", || {
            let known = worker.tables.nodes.get(&name);
            match known.and_then(|node| node.current()) {
                Some(tenure) => format!("sealed by node {name}; we seal for it with {}", tenure.pair.suite),
                None => format!("sealed by node {name}, with which there is no SA to send under"),
            }
        });
    }
    let network = match etr::network(instance_id, node.is_some(), snapshot) {
        Ok(network) => network,
        Err(reason) => {
            steps.dropped("etr", reason);
            return steps;
        }
    };
    steps.step("etr", "continue", || {
        format!("Instance-ID {instance_id} is network `{}`", network.config.name)
    });
    let mut ip = match IpPacket::parse(packet, 0, &Offload::default()) {
        Ok(ip) => ip,
        Err(reason) => {
            steps.dropped("parse", reason);
            return steps;
        }
    };
    steps.step("parse", "continue", || describe(Some(&ip)));
    ip.key.scope = network.config.id.0;
    if let Err(reason) = worker.fragments.complete(&mut ip.key, ip.fragment, now) {
        steps.dropped("flow", reason);
        return steps;
    }
    let origin = Origin::Mesh {
        uplink: UplinkId(0),
        local: IpAddr::from([0, 0, 0, 0]),
        from,
        node,
        ttl: ip.ttl,
        tos: ip.tos,
    };
    let subject = Subject { origin, network, ip };
    explain_flow(worker, Direction::Inbound, &subject, &mut steps);
    if let Ok(decision) = decide::decide(worker, snapshot, Direction::Inbound, &subject, packet, now, &mut steps) {
        explain_connection(&decision, &mut steps);
        explain_port(&decision, &mut steps);
    }
    steps
}

fn describe(ip: Option<&IpPacket>) -> String {
    let Some(ip) = ip else { return "ARP".to_owned() };
    let (source, destination) = (ip.key.source_address(), ip.key.destination_address());
    let ports = match ip.icmp {
        Some((kind, code)) => format!("ICMP type {kind} code {code}"),
        None => format!(
            "protocol {} ports {} to {}",
            ip.key.protocol, ip.key.source_port, ip.key.destination_port
        ),
    };
    format!("{source} to {destination}, {ports}, {} bytes, TTL {}", ip.len(), ip.ttl)
}

fn explain_flow(worker: &Worker, direction: Direction, subject: &Subject<'_>, steps: &mut Vec<TraceStep>) {
    match worker.flows.lookup(direction, &subject.ip.key) {
        Some(_) => steps.step("flow", "hit", || {
            "would go straight to rewrite; what follows is how it got there".to_owned()
        }),
        None => steps.step("flow", "miss", || "goes through all stages".to_owned()),
    }
}

fn explain_connection(decision: &Decision, steps: &mut Vec<TraceStep>) {
    match decision.admission {
        Admission::Open => steps.step("connection", "open", || "would open a connection".to_owned()),
        Admission::Known { forward, .. } => steps.step("connection", "continue", || {
            if forward {
                "of an open connection"
            } else {
                "answer of an open connection"
            }
            .to_owned()
        }),
        Admission::Related(_) => steps.step("connection", "continue", || "about an open connection".to_owned()),
    }
}

fn explain_port(decision: &Decision, steps: &mut Vec<TraceStep>) {
    match &decision.next_hop {
        NextHop::Guest(port) => {
            steps.step("transmit", "delivered", || format!("guest port `{}`", port.config.name));
        }
        _ => steps.step("transmit", "host", || "the node's own host".to_owned()),
    }
}

fn explain_way_out(subject: &Subject<'_>, decision: &Decision, steps: &mut Vec<TraceStep>) {
    explain_connection(decision, steps);
    let limit = match &decision.next_hop {
        NextHop::Mesh(hop) => hop.limit,
        NextHop::Guest(port) => usize::from(port.config.gateway.mtu),
        NextHop::Local(exit) => exit.config.mtu as usize,
        NextHop::Host => usize::MAX,
    };
    let mut ip = subject.ip;
    let routed = !matches!(decision.next_hop, NextHop::Host);
    if routed && ip.ttl <= 1 {
        steps.step("rewrite", "drop", || {
            "ttl-exceeded; the sender gets Time Exceeded".to_owned()
        });
        return;
    }
    match fit(&mut ip, limit) {
        Fit::Not => {
            steps.step("rewrite", "drop", || {
                format!(
                    "packet-too-big: {} bytes, {limit} fit; the sender is told {limit}",
                    subject.ip.len()
                )
            });
            return;
        }
        Fit::Split => steps.step("rewrite", "continue", || {
            format!("split in fragments of up to {limit} bytes")
        }),
        Fit::Whole => steps.step("rewrite", "continue", || {
            format!(
                "TTL {} to {}, {} of {limit} bytes",
                ip.ttl,
                ip.ttl.saturating_sub(u8::from(routed)),
                ip.len()
            )
        }),
    }
    match &decision.next_hop {
        NextHop::Mesh(hop) => steps.step("transmit", "encapsulated", || {
            let outer = if hop.to.remote.is_ipv4() { 36 } else { 56 };
            let seal = hop.seal.as_ref().map_or(0, |seal| seal.tenure.pair.layout().overhead());
            format!(
                "LISP to {} from {}, {} bytes outside",
                hop.to.remote,
                hop.to.local,
                ip.len() + outer + seal
            )
        }),
        NextHop::Local(exit) => steps.step("transmit", "local-exit", || format!("`{}`", exit.config.interface)),
        _ => explain_port(decision, steps),
    }
}
