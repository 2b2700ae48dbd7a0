//! Capture: copies of packets with how they ended. Costs one comparison a packet while nobody listens.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::{net::IpAddr, time::Instant};

use crate::{
    buffer::Offload,
    control::{CaptureFilter, CapturedPacket, Event, PortId},
    engine::Output,
    parse::IpPacket,
    verdict::Outcome,
};

/// Bytes kept when the filter does not say.
const SNAP_LENGTH: u32 = 65_535;
/// Bytes kept at most: an event must fit one datagram of the control socket.
const LONGEST: usize = 32_768;

#[derive(Debug)]
struct Held {
    port: Option<PortId>,
    interface: String,
    outbound: bool,
    length: usize,
    ethernet: bool,
    bytes: Vec<u8>,
}

/// The capture of a worker.
#[derive(Debug)]
pub struct Capture {
    filter: Option<CaptureFilter>,
    epoch: (Instant, u64),
    held: Option<Held>,
}

impl Capture {
    /// Nobody listens. `unix_ns` is the wall clock at `now`.
    pub fn new(now: Instant, unix_ns: u64) -> Self {
        Self {
            filter: None,
            epoch: (now, unix_ns),
            held: None,
        }
    }

    /// Starts, changes or stops it.
    pub fn set(&mut self, filter: Option<CaptureFilter>) {
        self.filter = filter;
        self.held = None;
    }

    /// A packet has come: keep a copy if somebody wants it. `l3` is where its IP header is, 0 without a link header.
    #[inline]
    pub fn begin(&mut self, port: Option<PortId>, interface: &str, outbound: bool, bytes: &[u8], l3: usize) {
        if self.filter.is_some() {
            self.keep(port, interface, outbound, bytes, l3);
        }
    }

    /// It goes to this guest port.
    #[inline]
    pub fn towards(&mut self, port: PortId, interface: &str) {
        if let Some(held) = &mut self.held
            && held.port.is_none()
            && !held.outbound
        {
            held.port = Some(port);
            interface.clone_into(&mut held.interface);
        }
    }

    /// It has ended.
    #[inline]
    pub fn end(&mut self, now: Instant, outcome: &Outcome, out: &mut Output) {
        let Some(held) = self.held.take() else { return };
        let Some(filter) = &self.filter else { return };
        if filter.port.is_some() && filter.port != held.port {
            return;
        }
        let since = now.saturating_duration_since(self.epoch.0).as_nanos();
        out.events.push(Event::Captured(CapturedPacket {
            time_ns: self.epoch.1.saturating_add(u64::try_from(since).unwrap_or(u64::MAX)),
            interface: held.interface,
            outbound: held.outbound,
            verdict: match outcome {
                Ok(passed) => passed.word().to_owned(),
                Err(reason) => format!("drop.{}", reason.word()),
            },
            length: u32::try_from(held.length).unwrap_or(u32::MAX),
            ethernet: held.ethernet,
            bytes: held.bytes,
        }));
    }

    fn keep(&mut self, port: Option<PortId>, interface: &str, outbound: bool, bytes: &[u8], l3: usize) {
        let Some(filter) = &self.filter else { return };
        let early = filter.port.is_some() && port.is_some() && filter.port != port;
        if early || !matches(&filter.addresses, bytes, l3) {
            return;
        }
        let snap = if filter.snap_length == 0 {
            SNAP_LENGTH
        } else {
            filter.snap_length
        };
        let snap = usize::try_from(snap).unwrap_or(LONGEST).min(LONGEST);
        self.held = Some(Held {
            port,
            interface: interface.to_owned(),
            outbound,
            length: bytes.len(),
            ethernet: l3 != 0,
            bytes: bytes.iter().take(snap).copied().collect(),
        });
    }
}

fn matches(addresses: &[IpAddr], bytes: &[u8], l3: usize) -> bool {
    if addresses.is_empty() {
        return true;
    }
    let Ok(ip) = IpPacket::parse(bytes, l3, &Offload::default()) else {
        return false;
    };
    addresses.contains(&ip.key.source_address()) || addresses.contains(&ip.key.destination_address())
}
