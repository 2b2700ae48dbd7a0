//! The engine: tables, their writer, and one worker's state, behind the few calls that the burst loop makes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    buffer::{DatagramRun, PacketBuf, Pool},
    control::{
        Answer, Change, Event, Generation, MeshNode, NetworkId, PortConfig, PortId, Query, SaStatus, UplinkConfig,
    },
    counters::{Count, Source},
    hash::Seeded,
    pending::{Waiter, Waiting},
    pipeline,
    seal::inside::{Inside, MESSAGE},
    stage::gateway,
    tables::{Snapshot, Tables, Writer, writer::Applied},
    trace,
    verdict::DropReason,
    worker_state::{Burst, Worker},
};

/// Unsolicited Router Advertisements of a port come this far apart (RFC 4861 §6.2.1 allows 3 to 1800 s).
const ADVERTISEMENT_INTERVAL: Duration = Duration::from_secs(60);
/// How often control learns which RLOCs are sent to.
const TELL_SENT_INTERVAL: Duration = Duration::from_secs(1);

/// Where packets go after a burst. The loop drains it; nothing in it is ever dropped silently.
#[derive(Debug, Default)]
pub struct Output {
    /// Ethernet frames towards guests; may be super-packets.
    pub to_ports: Vec<(PortId, PacketBuf)>,
    /// Runs towards the underlay; [`DatagramRun::uplink`] names the uplink.
    pub to_uplinks: Vec<DatagramRun>,
    /// Raw IP packets (no Ethernet header) to the exit to the host's network; may be super-packets.
    pub to_local_exit: Vec<PacketBuf>,
    /// Raw IP packets for the node's own host in a network; checksums complete, never super-packets.
    pub to_host: Vec<(NetworkId, PacketBuf)>,
    /// For control.
    pub events: Vec<Event>,
}

/// Tables, their writer, and one worker's state.
#[derive(Debug)]
pub struct Engine {
    writer: Writer,
    worker: Worker,
}

impl Engine {
    /// An engine without networks. `unix_ns` is the wall clock at `now` (for capture time stamps only); `seed` keys
    /// the hash tables and the choice of translated ports.
    pub fn new(now: Instant, unix_ns: u64, seed: u64) -> Self {
        let tables = Arc::new(Tables::new(Seeded::new(seed)));
        let writer = Writer::new(Arc::clone(&tables));
        Self {
            writer,
            worker: Worker::new(tables, now, unix_ns, seed),
        }
    }

    /// Makes `change` true. Descriptors are the caller's matter. Packets that waited for a mapping come out in `out`.
    /// The error is for the operator.
    pub fn apply(&mut self, now: Instant, change: &Change, pool: &mut Pool, out: &mut Output) -> Result<(), String> {
        let before = Arc::clone(&self.worker.tables.small.load().uplinks);
        let Applied { gone, ready } = self.writer.apply(now, change)?;
        if before.retired.is_raised() && !before.list.is_empty() {
            self.burst(now, pool, out, announce);
        }
        for id in gone.ports {
            self.worker.counters.forget_port(id);
            self.worker.advertise_at.remove(&id);
            let closed = self.worker.connections.remove_if(|opening| opening.owner == Some(id));
            self.worker.counters.add(Count::ConnectionsClosed, closed);
        }
        for id in gone.networks {
            let closed = self.worker.connections.remove_if(|opening| opening.key.scope == id.0);
            self.worker.counters.add(Count::ConnectionsClosed, closed);
        }
        match change {
            Change::PutPort(config) => {
                self.worker.advertise_at.entry(config.id).or_insert(now);
            }
            Change::PutMapping(config) => {
                let released = self.worker.pending.release(|eid| config.prefix.contains(eid));
                self.burst(now, pool, out, |worker, burst| resume(worker, burst, released));
            }
            Change::PutSa(_) => {
                self.worker.ready.extend(ready);
                self.burst(now, pool, out, resume_ready);
            }
            Change::RemoveMapping(prefix) => self.worker.misses.forget_if(|eid| prefix.contains(eid)),
            _ => {}
        }
        Ok(())
    }

    /// Ethernet frames that came from a guest port. Takes all of `frames`.
    pub fn outbound(
        &mut self,
        now: Instant,
        port: PortId,
        frames: &mut Vec<PacketBuf>,
        pool: &mut Pool,
        out: &mut Output,
    ) {
        self.burst(now, pool, out, |worker, burst| {
            let known = burst.snapshot.ports.get(&port);
            let network = known.and_then(|port| burst.snapshot.networks.get(&port.config.network));
            for frame in frames.drain(..) {
                match (known, network) {
                    (Some(port), Some(network)) => pipeline::outbound(worker, burst, port, network, frame),
                    _ => {
                        worker.counters.dropped(Source::Node, DropReason::UnknownPort);
                        burst.pool.recycle_packet(frame);
                    }
                }
            }
        });
    }

    /// Datagrams that came to port 4341 of an uplink. Takes all of `runs`.
    pub fn inbound(&mut self, now: Instant, runs: &mut Vec<DatagramRun>, pool: &mut Pool, out: &mut Output) {
        self.burst(now, pool, out, |worker, burst| {
            for mut run in runs.drain(..) {
                pipeline::inbound(worker, burst, &mut run);
                burst.pool.recycle_run(run);
            }
            resume_ready(worker, burst);
        });
    }

    /// Raw IP packets that came from the host's network. Takes all of `packets`.
    pub fn from_local_exit(&mut self, now: Instant, packets: &mut Vec<PacketBuf>, pool: &mut Pool, out: &mut Output) {
        self.burst(now, pool, out, |worker, burst| {
            for packet in packets.drain(..) {
                pipeline::from_local_exit(worker, burst, packet);
            }
        });
    }

    /// Raw IP packets that the node's own host in `network` sends. Takes all of `packets`.
    pub fn from_host(
        &mut self,
        now: Instant,
        network: NetworkId,
        packets: &mut Vec<PacketBuf>,
        pool: &mut Pool,
        out: &mut Output,
    ) {
        self.burst(now, pool, out, |worker, burst| {
            let known = burst.snapshot.networks.get(&network);
            for packet in packets.drain(..) {
                match known {
                    Some(network) => pipeline::from_host(worker, burst, network, packet),
                    None => {
                        worker.counters.dropped(Source::Node, DropReason::UnknownNetwork);
                        burst.pool.recycle_packet(packet);
                    }
                }
            }
        });
    }

    /// What time does: expiry, periodic Router Advertisements, once-a-second events. Call it every 100 ms or less often.
    pub fn tick(&mut self, now: Instant, pool: &mut Pool, out: &mut Output) {
        self.writer.tick(now);
        let worker = &mut self.worker;
        let ended = worker.connections.expire(now);
        worker.counters.add(Count::ConnectionsClosed, ended);
        for Waiting { from, packet, .. } in worker.pending.expire(now) {
            let source = match from {
                Waiter::Port(id) => Source::Port(id),
                Waiter::Host(_) => Source::Node,
            };
            worker.counters.dropped(source, DropReason::PendingExpired);
            pool.recycle_packet(packet);
        }
        if now >= worker.tell_sent_at {
            worker.tell_sent_at = now + TELL_SENT_INTERVAL;
            worker.last_sent_to = None;
            if !worker.sent_to.is_empty() {
                out.events.push(Event::TrafficSent(
                    std::mem::take(&mut worker.sent_to).into_iter().collect(),
                ));
            }
            let used = self.writer.sa_use();
            if !used.is_empty() {
                out.events.push(Event::SaUsed(used));
            }
        }
        self.burst(now, pool, out, advertise);
    }

    /// Answers [`Query::Counters`], [`Query::TraceOutbound`], [`Query::TraceInbound`], [`Query::Capture`],
    /// [`Query::Mappings`], [`Query::Connections`], [`Query::Sas`] and [`Query::Bindings`]; `None` for what the engine
    /// does not know. [`Engine::ask`] knows more.
    pub fn query(&mut self, now: Instant, query: &Query) -> Option<Answer> {
        let snapshot = self.worker.tables.small.load_full();
        let worker = &mut self.worker;
        Some(match query {
            Query::Counters => Answer::Counters(worker.counters.named(&snapshot)),
            Query::TraceOutbound { port, frame } => {
                Answer::Trace(trace::outbound(worker, &snapshot, *port, frame, now))
            }
            Query::TraceInbound {
                from,
                node,
                instance_id,
                packet,
            } => Answer::Trace(trace::inbound(
                worker,
                &snapshot,
                (*from, *node),
                *instance_id,
                packet,
                now,
            )),
            Query::Sas => Answer::Sas(self.writer.sa_status(now)),
            Query::Bindings => Answer::Bindings(self.writer.bindings()),
            Query::Capture(filter) => {
                worker.capture.set(filter.clone());
                Answer::Ok
            }
            Query::Mappings => Answer::Mappings(self.writer.mapping_status()),
            Query::Connections => Answer::Connections(worker.connections.status(now)),
            _ => return None,
        })
    }

    /// Like [`Engine::query`], and also what sends something: [`Query::SealedProbe`], [`Query::SealedSend`].
    pub fn ask(&mut self, now: Instant, query: &Query, pool: &mut Pool, out: &mut Output) -> Option<Answer> {
        let (node, rloc, inside) = match query {
            Query::SealedProbe { node, rloc, nonce } => (*node, *rloc, Inside::Probe(*nonce)),
            Query::SealedSend { payload, .. } if payload.len() > MESSAGE => {
                return Some(Answer::Refused(format!("a sealed message has at most {MESSAGE} bytes")));
            }
            Query::SealedSend { node, payload } => (*node, None, Inside::Message(payload)),
            query => return self.query(now, query),
        };
        let remote = rloc.map(lisp::Rloc::data_address);
        let mut sent = Ok(());
        self.burst(now, pool, out, |worker, burst| {
            sent = pipeline::send_to_node(worker, burst, node, remote, &inside);
        });
        Some(match sent {
            Ok(()) => Answer::Ok,
            Err(reason) => Answer::Refused(format!("nothing was sent to node {node}: {}", reason.word())),
        })
    }

    /// The mesh SAs, in order of node and age.
    pub fn sas(&self, now: Instant) -> Vec<SaStatus> {
        self.writer.sa_status(now)
    }

    /// Frames that a guest port had no room for. (What it took was counted when it was handed over.)
    pub fn count_port_refused(&mut self, port: PortId, refused: usize) {
        let door = self.worker.counters.port(port);
        door.tx_refused = door.tx_refused.wrapping_add(refused as u64);
    }

    /// Generation last committed.
    pub fn generation(&self) -> Generation {
        self.writer.generation()
    }

    /// Ports that exist, in order of their numbers. After a `Commit` that ended a resynchronisation, a port
    /// that is not among them is gone and its descriptor should be closed; likewise uplinks.
    pub fn ports(&self) -> Vec<PortConfig> {
        self.writer.ports().cloned().collect()
    }

    /// Uplinks that exist, in order of their numbers.
    pub fn uplinks(&self) -> Vec<UplinkConfig> {
        self.writer.uplinks().cloned().collect()
    }

    /// Whether there is a local exit.
    pub fn has_local_exit(&self) -> bool {
        self.worker.tables.small.load().exit.is_some()
    }

    /// The small tables as they are now, for whoever needs a configuration (the node's own host, for one).
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.worker.tables.small.load_full()
    }

    /// Runs `work` over one view of the small tables, then sends what is open.
    fn burst(
        &mut self,
        now: Instant,
        pool: &mut Pool,
        out: &mut Output,
        work: impl FnOnce(&mut Worker, &mut Burst<'_>),
    ) {
        let snapshot = self.worker.tables.small.load_full();
        work(
            &mut self.worker,
            &mut Burst {
                now,
                snapshot: &snapshot,
                pool,
                out,
            },
        );
        self.worker.runs.flush(out);
        self.worker.coalescer.flush(out);
    }
}

/// Our addresses have changed: every node that we could send to hears it from us at once, from the port that we are to be
/// reached at. Data alone would not say so, since it leaves from other ports.
fn announce(worker: &mut Worker, burst: &mut Burst<'_>) {
    for node in worker.tables.nodes.all() {
        // A node without an SA, or without a way to it, hears when there is one.
        let _ = pipeline::send_to_node(worker, burst, node.name, None, &Inside::Probe(0));
    }
}

/// What waited goes on.
fn resume(worker: &mut Worker, burst: &mut Burst<'_>, released: Vec<Waiting>) {
    for Waiting { from, packet, .. } in released {
        pipeline::resume(worker, burst, from, packet);
    }
}

/// What waited for nodes that may be sealed for now.
fn resume_ready(worker: &mut Worker, burst: &mut Burst<'_>) {
    if worker.ready.is_empty() {
        return;
    }
    let ready: Vec<MeshNode> = std::mem::take(&mut worker.ready);
    worker.no_sas.forget_if(|node| ready.contains(node));
    let tables = Arc::clone(&worker.tables);
    let released = worker.pending.release(|eid| {
        let mapping = tables.mappings.lookup(*eid);
        mapping
            .and_then(|mapping| mapping.config.node)
            .is_some_and(|node| ready.contains(&node))
    });
    resume(worker, burst, released);
}

/// Router Advertisements that are due.
fn advertise(worker: &mut Worker, burst: &mut Burst<'_>) {
    let due: Vec<PortId> = worker
        .advertise_at
        .iter()
        .filter(|(_, at)| **at <= burst.now)
        .map(|(id, _)| *id)
        .collect();
    for id in due {
        let Some(port) = burst.snapshot.ports.get(&id) else {
            worker.advertise_at.remove(&id);
            continue;
        };
        worker.advertise_at.insert(id, burst.now + ADVERTISEMENT_INTERVAL);
        let Some(network) = burst.snapshot.networks.get(&port.config.network) else {
            continue;
        };
        let mut frame = burst.pool.packet();
        match gateway::advertise(port, network, &mut frame) {
            Some(()) => {
                worker.counters.add(Count::GatewayRouter, 1);
                worker.counters.port(id).tx.add(1, frame.len());
                burst.out.to_ports.push((id, frame));
            }
            None => burst.pool.recycle_packet(frame),
        }
    }
}
