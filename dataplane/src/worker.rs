//! The burst loop: waits for any door, reads one burst from each that has something, runs it to completion through
//! the engine, and hands out what the engine leaves. One thread, nothing shared: a flow that enters here stays here.
//!
//! There is no spinning: a round that finds work is followed by another look (epoll reports what is readable at
//! once), and one that finds none sleeps until a door opens or time is due.
//!
//! A full uplink, when it is the only one, holds the guests back instead of dropping their packets (see `doors.rs`). A full guest port loses
//! frames, counted: holding the underlay back for one guest would hold back all.

#![allow(clippy::disallowed_methods, reason = "this is the loop that reads the clock")]

mod changes;
mod control_end;
mod doors;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use lisp::Rloc;
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventFlags},
    },
    io::Errno,
};

use self::{
    control_end::ControlEnd,
    doors::{Doors, Token},
};
use crate::{
    buffer::{DatagramRun, PacketBuf, Pool},
    channel::Channel,
    control::{Down, Event, PortId, Sequence, Up, UplinkId},
    engine::{Engine, Output},
    hash::Seeded,
    host::Hosts,
    limit::OncePer,
    port::{BURST, GuestPort, TooSmall, UplinkPort},
};

/// How often the engine's clock moves when nothing else happens.
const TICK: Duration = Duration::from_millis(100);
/// Messages of control handled between two bursts, at the most.
const MESSAGES: usize = 64;
/// Doors handled in one round, at the most; the others are first in the next.
const EVENTS: usize = 64;

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Control said so, or the caller's flag did.
    Told,
    /// The one connection that there was is gone.
    ControlGone,
}

/// One worker with its doors.
pub struct BurstLoop {
    engine: Engine,
    pool: Pool,
    out: Output,
    doors: Doors,
    hosts: Hosts,
    control: ControlEnd,
    epoll: Arc<OwnedFd>,
    frames: Vec<PacketBuf>,
    runs: Vec<DatagramRun>,
    too_small: Vec<TooSmall>,
    told_too_small: OncePer<Rloc>,
    next_tick: Instant,
    sequence: Sequence,
    ending: Option<Ending>,
    facts: Vec<(String, u64)>,
}

impl BurstLoop {
    /// Waits for control at `listener`; the superuser and `owner` may connect.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn listening(listener: OwnedFd, owner: u32) -> io::Result<Self> {
        Self::new(|epoll| ControlEnd::listening(epoll, listener, owner))
    }

    /// Serves one connection, and ends with it.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn connected(channel: Channel<Up, Down>) -> io::Result<Self> {
        let mut new = Self::new(|epoll| ControlEnd::connected(epoll, channel))?;
        new.greet(Instant::now());
        Ok(new)
    }

    fn new(control: impl FnOnce(Arc<OwnedFd>) -> io::Result<ControlEnd>) -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(CreateFlags::CLOEXEC)?);
        let now = Instant::now();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Keyed by the system's randomness.
        let seed = RandomState::new().build_hasher().finish();
        Ok(Self {
            engine: Engine::new(now, u64::try_from(unix.as_nanos()).unwrap_or(0), seed),
            pool: Pool::default(),
            out: Output::default(),
            doors: Doors::new(Arc::clone(&epoll)),
            hosts: Hosts::new(now, seed),
            control: control(Arc::clone(&epoll))?,
            epoll,
            frames: Vec::new(),
            runs: Vec::new(),
            too_small: Vec::new(),
            told_too_small: OncePer::new(Duration::from_secs(1), Seeded::new(seed)),
            next_tick: now,
            sequence: 0,
            ending: None,
            facts: Vec::new(),
        })
    }

    /// Hands over the port that a later `PutPort` with the attachment `Memory` means.
    pub fn offer_memory_port(&mut self, id: PortId, port: Box<dyn GuestPort + Send>) {
        self.doors.memory.insert(id, port);
    }

    /// A number that is told with the counters, such as what the sandbox got hold of.
    pub fn state_fact(&mut self, name: &str, value: u64) {
        self.facts.push((name.to_owned(), value));
    }

    /// Runs until control says otherwise.
    ///
    /// # Errors
    /// The kernel refused to wait; nothing of a packet or of a single door is an error here.
    pub fn run(self) -> io::Result<Ending> {
        self.run_until(&AtomicBool::new(false))
    }

    /// Runs until control says otherwise, or soon after `stop` is set.
    ///
    /// # Errors
    /// As [`BurstLoop::run`].
    pub fn run_until(mut self, stop: &AtomicBool) -> io::Result<Ending> {
        let mut ready: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(Ending::Told);
            }
            if let Some(ending) = self.ending {
                return Ok(ending);
            }
            self.look_at_clock();
            let timeout = self.timeout();
            ready.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut ready), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in ready.drain(..) {
                if let Some(token) = Token::decode(event.data) {
                    self.handle(token, event.flags);
                }
            }
        }
    }

    fn timeout(&self) -> Timespec {
        let now = Instant::now();
        let due = [Some(self.next_tick), self.hosts.deadline(), self.doors.deadline()];
        let next = due.into_iter().flatten().min().unwrap_or(self.next_tick);
        let left = next.saturating_duration_since(now);
        Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
            tv_nsec: i64::from(left.subsec_nanos()),
        }
    }

    fn look_at_clock(&mut self) {
        let now = Instant::now();
        for uplink in self.doors.overdue(now) {
            self.send(now, uplink, &mut Vec::new());
        }
        if self.hosts.deadline().is_some_and(|due| due <= now) {
            self.poll_hosts(now);
            self.hand_out(now);
        }
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.engine.tick(now, &mut self.pool, &mut self.out);
            self.hand_out(now);
            self.poll_quiet_ports(now);
        }
    }

    fn handle(&mut self, token: Token, flags: EventFlags) {
        let now = Instant::now();
        match token {
            Token::Listener => {
                if self.control.accept() {
                    self.hosts.forget_pings();
                    self.stop_capture(now);
                    self.greet(now);
                }
            }
            Token::Control => self.handle_control(now, flags),
            Token::Port(id) => self.serve_port(now, id),
            Token::Uplink(id) => {
                if flags.contains(EventFlags::OUT) {
                    self.send(now, id, &mut Vec::new());
                }
                self.serve_uplink(now, id);
            }
            Token::Exit => self.serve_exit(now),
            Token::Room(id) => self.send(now, id, &mut Vec::new()),
        }
    }

    fn serve_port(&mut self, now: Instant, id: PortId) {
        let Some(door) = self.doors.ports.get_mut(&id) else {
            return;
        };
        let result = door.port.rx_burst(&mut self.pool, &mut self.frames, BURST);
        if !self.frames.is_empty() {
            self.engine
                .outbound(now, id, &mut self.frames, &mut self.pool, &mut self.out);
            self.hand_out(now);
        }
        if let Err(error) = result {
            self.port_failed(id, &error);
        }
    }

    /// Ports without a descriptor cannot wake us.
    fn poll_quiet_ports(&mut self, now: Instant) {
        let quiet = |door: &doors::PortDoor| door.port.descriptor().is_none();
        let quiet: Vec<PortId> = self
            .doors
            .ports
            .iter()
            .filter(|(_, door)| quiet(door))
            .map(|(&id, _)| id)
            .collect();
        for id in quiet {
            self.serve_port(now, id);
        }
    }

    fn serve_uplink(&mut self, now: Instant, id: UplinkId) {
        let Some(door) = self.doors.uplinks.get_mut(&id) else {
            return;
        };
        let result = door.uplink.rx_burst(&mut self.pool, &mut self.runs, BURST);
        if !self.runs.is_empty() {
            self.engine.inbound(now, &mut self.runs, &mut self.pool, &mut self.out);
            self.hand_out(now);
        }
        if let Err(error) = result {
            self.doors.remove_uplink(id, &mut self.pool);
            self.control.tell(Event::UplinkFailed(id, error.to_string()));
        }
    }

    fn serve_exit(&mut self, now: Instant) {
        let Some(door) = &mut self.doors.exit else { return };
        let result = door.port.rx_burst(&mut self.pool, &mut self.frames, BURST);
        if !self.frames.is_empty() {
            self.engine
                .from_local_exit(now, &mut self.frames, &mut self.pool, &mut self.out);
            self.hand_out(now);
        }
        if result.is_err() {
            self.doors.remove_exit();
        }
    }

    /// Lets the node's own hosts work, and gives their packets to the engine.
    fn poll_hosts(&mut self, now: Instant) {
        for (network, mut packets) in self.hosts.poll(now, &mut self.pool) {
            self.engine
                .from_host(now, network, &mut packets, &mut self.pool, &mut self.out);
        }
        for (query, answer) in self.hosts.take_answers() {
            self.control.say(&Up::Answer(query, answer), &[]);
        }
    }

    /// Hands out what the engine has left.
    fn hand_out(&mut self, now: Instant) {
        // A host's answer may be for the host itself; twice is enough for every honest case.
        for _ in 0..2 {
            if self.out.to_host.is_empty() {
                break;
            }
            for (network, packet) in self.out.to_host.drain(..) {
                self.hosts.receive(network, packet, &mut self.pool);
            }
            self.poll_hosts(now);
        }
        self.hand_to_ports();
        self.hand_to_uplinks(now);
        if !self.out.to_local_exit.is_empty() {
            self.hand_to_exit();
        }
        for event in self.out.events.drain(..) {
            self.control.tell(event);
        }
    }

    fn hand_to_ports(&mut self) {
        let mut frames = std::mem::take(&mut self.frames);
        let mut outgoing = std::mem::take(&mut self.out.to_ports);
        let mut outgoing_left = outgoing.drain(..).peekable();
        while let Some((id, packet)) = outgoing_left.next() {
            frames.push(packet);
            if outgoing_left.peek().is_some_and(|(next, _)| *next == id) {
                continue;
            }
            let offered = frames.len();
            let result = match self.doors.ports.get_mut(&id) {
                Some(door) => door.port.tx_burst(&mut self.pool, &mut frames),
                None => Ok(0),
            };
            for packet in frames.drain(..) {
                self.pool.recycle_packet(packet);
            }
            let written = *result.as_ref().unwrap_or(&0);
            if written < offered {
                self.engine.count_port_refused(id, offered - written);
            }
            if let Err(error) = result {
                self.port_failed(id, &error);
            }
        }
        drop(outgoing_left);
        self.out.to_ports = outgoing;
        self.frames = frames;
    }

    fn hand_to_uplinks(&mut self, now: Instant) {
        if self.out.to_uplinks.is_empty() {
            return;
        }
        let mut runs = std::mem::take(&mut self.runs);
        let mut outgoing = std::mem::take(&mut self.out.to_uplinks);
        let mut outgoing_left = outgoing.drain(..).peekable();
        while let Some(run) = outgoing_left.next() {
            let uplink = run.uplink;
            runs.push(run);
            if outgoing_left.peek().is_none_or(|next| next.uplink != uplink) {
                self.send(now, uplink, &mut runs);
            }
        }
        drop(outgoing_left);
        self.out.to_uplinks = outgoing;
        self.runs = runs;
    }

    fn hand_to_exit(&mut self) {
        let written = match &mut self.doors.exit {
            Some(door) => door.port.tx_burst(&mut self.pool, &mut self.out.to_local_exit),
            None => Ok(0),
        };
        for packet in self.out.to_local_exit.drain(..) {
            self.doors.closed += 1;
            self.pool.recycle_packet(packet);
        }
        if written.is_err() {
            self.doors.remove_exit();
        }
    }

    fn send(&mut self, now: Instant, uplink: UplinkId, runs: &mut Vec<DatagramRun>) {
        self.doors.send(now, uplink, runs, &mut self.pool, &mut self.too_small);
        for TooSmall { remote, size } in self.too_small.drain(..) {
            let rloc = Rloc {
                address: remote.ip(),
                port: remote.port(),
            };
            if self.told_too_small.allows(rloc, now) {
                self.control.tell(Event::PathTooSmall { rloc, size });
            }
        }
    }

    fn port_failed(&mut self, id: PortId, error: &io::Error) {
        self.doors.remove_port(id);
        self.control.tell(Event::PortFailed(id, error.to_string()));
    }
}
