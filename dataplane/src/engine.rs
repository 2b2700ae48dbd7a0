//! The engine: tables, their writer, and one worker's state, behind the few calls that the burst loop makes.

use std::time::Instant;

use crate::{
    buffer::{DatagramRun, PacketBuf, Pool},
    control::{Answer, Change, Event, Generation, NetworkId, PortConfig, PortId, Query, UplinkConfig},
};

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
pub struct Engine {}

impl Engine {
    /// An engine without networks. `unix_ns` is the wall clock at `now` (for capture time stamps only); `seed` keys
    /// the hash tables and the choice of translated ports.
    pub fn new(now: Instant, unix_ns: u64, seed: u64) -> Self {
        let _ = (now, unix_ns, seed);
        Self {}
    }

    /// Makes `change` true. Descriptors are the caller's matter. Packets that waited for a mapping come out in `out`.
    /// The error is for the operator.
    pub fn apply(&mut self, now: Instant, change: &Change, pool: &mut Pool, out: &mut Output) -> Result<(), String> {
        let _ = (now, change, pool, out);
        Ok(())
    }

    /// Ethernet frames that came from a guest port. Takes all of `frames`.
    pub fn outbound(&mut self, now: Instant, port: PortId, frames: &mut Vec<PacketBuf>, pool: &mut Pool, out: &mut Output) {
        let _ = (now, port, frames, pool, out);
    }

    /// Datagrams that came to port 4341 of an uplink. Takes all of `runs`.
    pub fn inbound(&mut self, now: Instant, runs: &mut Vec<DatagramRun>, pool: &mut Pool, out: &mut Output) {
        let _ = (now, runs, pool, out);
    }

    /// Raw IP packets that came from the host's network. Takes all of `packets`.
    pub fn from_local_exit(&mut self, now: Instant, packets: &mut Vec<PacketBuf>, pool: &mut Pool, out: &mut Output) {
        let _ = (now, packets, pool, out);
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
        let _ = (now, network, packets, pool, out);
    }

    /// What time does: expiry, periodic Router Advertisements, once-a-second events. Call it every 100 ms or less often.
    pub fn tick(&mut self, now: Instant, pool: &mut Pool, out: &mut Output) {
        let _ = (now, pool, out);
    }

    /// Answers [`Query::Counters`], [`Query::TraceOutbound`], [`Query::TraceInbound`], [`Query::Capture`],
    /// [`Query::Mappings`] and [`Query::Connections`]; `None` for what the engine does not know.
    pub fn query(&mut self, now: Instant, query: &Query) -> Option<Answer> {
        let _ = (now, query);
        None
    }

    /// Frames that a guest port took from us, and those it had no room for.
    pub fn count_port_tx(&mut self, port: PortId, written: usize, refused: usize) {
        let _ = (port, written, refused);
    }

    /// Generation last committed.
    pub fn generation(&self) -> Generation {
        Generation(0)
    }

    /// Ports that exist, in order of their numbers. After a `Commit` that ended a resynchronisation, a port
    /// that is not among them is gone and its descriptor should be closed; likewise uplinks.
    pub fn ports(&self) -> Vec<PortConfig> {
        Vec::new()
    }

    /// Uplinks that exist, in order of their numbers.
    pub fn uplinks(&self) -> Vec<UplinkConfig> {
        Vec::new()
    }

    /// Whether there is a local exit.
    pub fn has_local_exit(&self) -> bool {
        false
    }
}
