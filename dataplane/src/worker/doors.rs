//! The descriptors of one worker by the number of what they belong to, and their place in its epoll set.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    event::epoll::{self, EventData, EventFlags},
    io::Errno,
};

use crate::{
    buffer::{DatagramRun, Pool},
    control::{Attachment, LocalExitConfig, PortConfig, PortId, UplinkConfig, UplinkId},
    port::{
        GuestPort, TooSmall, UplinkPort,
        packet::PacketPort,
        tap::TapPort,
        udp::{UdpUplink, sockets_of},
    },
};

/// How long an uplink may have no room for anything before what waits for it is dropped.
const PATIENCE: Duration = Duration::from_millis(20);

/// What an event of the epoll set is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Someone connects.
    Listener,
    /// Control has said something, or has room again.
    Control,
    /// Frames of a guest.
    Port(PortId),
    /// Datagrams of an uplink.
    Uplink(UplinkId),
    /// Packets from the host's network.
    Exit,
    /// Room in a socket of an uplink.
    Room(UplinkId),
}

impl Token {
    /// As epoll carries it.
    pub(super) fn encode(self) -> EventData {
        let (kind, id) = match self {
            Self::Listener => (0, 0),
            Self::Control => (1, 0),
            Self::Port(id) => (2, id.0),
            Self::Uplink(id) => (3, id.0),
            Self::Exit => (4, 0),
            Self::Room(id) => (5, id.0),
        };
        EventData::new_u64(u64::from(id) << 8 | kind)
    }

    /// Back again.
    pub(super) fn decode(data: EventData) -> Option<Self> {
        let value = data.u64();
        let id = u32::try_from(value >> 8).ok()?;
        Some(match value & 0xff {
            0 => Self::Listener,
            1 => Self::Control,
            2 => Self::Port(PortId(id)),
            3 => Self::Uplink(UplinkId(id)),
            4 => Self::Exit,
            5 => Self::Room(UplinkId(id)),
            _ => return None,
        })
    }
}

/// A guest port.
pub(super) struct PortDoor {
    pub(super) config: PortConfig,
    pub(super) port: Box<dyn GuestPort + Send>,
    invalid: u64,
}

/// An uplink.
#[derive(Debug)]
pub(super) struct UplinkDoor {
    pub(super) uplink: UdpUplink,
    /// Since when runs wait for room.
    blocked_since: Option<Instant>,
    /// It did not find room in time; until it does, nothing waits for it.
    stalled: bool,
    abandoned: u64,
    times_full: u64,
    failed: u64,
}

impl UplinkDoor {
    fn is_overdue(&self, now: Instant) -> bool {
        self.blocked_since.is_some_and(|since| now >= since + PATIENCE)
    }
}

/// The exit to the host's network.
#[derive(Debug)]
pub(super) struct ExitDoor {
    pub(super) config: LocalExitConfig,
    pub(super) port: TapPort,
    invalid: u64,
}

/// All of them.
pub(super) struct Doors {
    epoll: Arc<OwnedFd>,
    pub(super) ports: BTreeMap<PortId, PortDoor>,
    pub(super) uplinks: BTreeMap<UplinkId, UplinkDoor>,
    pub(super) exit: Option<ExitDoor>,
    /// Ports without a descriptor, handed over in-process, until a change names them.
    pub(super) memory: BTreeMap<PortId, Box<dyn GuestPort + Send>>,
    /// Guests are held back: the uplink has no room.
    paused: bool,
    /// Packets for a door that had failed.
    pub(super) closed: u64,
}

/// A door that a change brings, checked but not in its place yet.
pub(super) enum Fresh {
    /// What is held already serves.
    Kept,
    /// A guest port.
    Port(Box<dyn GuestPort + Send>),
    /// An uplink.
    Uplink(UdpUplink),
    /// The exit.
    Exit(TapPort),
}

impl Doors {
    pub(super) fn new(epoll: Arc<OwnedFd>) -> Self {
        Self {
            epoll,
            ports: BTreeMap::new(),
            uplinks: BTreeMap::new(),
            exit: None,
            memory: BTreeMap::new(),
            paused: false,
            closed: 0,
        }
    }

    /// Checks what came with `PutPort`.
    pub(super) fn check_port(&mut self, config: &PortConfig, mut descriptors: Vec<OwnedFd>) -> Result<Fresh, String> {
        let name = &config.name;
        let descriptor = descriptors.pop();
        if !descriptors.is_empty() {
            return Err(format!("guest port {name}: one descriptor is enough"));
        }
        let held = self
            .ports
            .get(&config.id)
            .is_some_and(|door| door.config.attachment == config.attachment);
        let port: Result<Box<dyn GuestPort + Send>, io::Error> = match (&config.attachment, descriptor) {
            (Attachment::Memory, None) if held => return Ok(Fresh::Kept),
            (Attachment::Memory, None) => match self.memory.remove(&config.id) {
                Some(port) => Ok(port),
                None => return Err(format!("guest port {name}: nobody has handed a memory port over")),
            },
            (Attachment::Memory, Some(_)) => return Err(format!("guest port {name}: memory has no descriptor")),
            (_, None) if held => return Ok(Fresh::Kept),
            (_, None) => return Err(format!("guest port {name}: its descriptor is missing")),
            (Attachment::Tap { vnet_header, .. }, Some(fd)) => {
                TapPort::new(fd, *vnet_header).map(|port| Box::new(port) as Box<_>)
            }
            (Attachment::Packet { vnet_header, .. }, Some(fd)) => {
                PacketPort::new(fd, *vnet_header).map(|port| Box::new(port) as Box<_>)
            }
        };
        port.map(Fresh::Port)
            .map_err(|error| format!("guest port {name}: {error}"))
    }

    /// Checks what came with `PutUplink`.
    pub(super) fn check_uplink(&self, config: &UplinkConfig, descriptors: Vec<OwnedFd>) -> Result<Fresh, String> {
        let held = self.uplinks.get(&config.id).is_some_and(|door| {
            let held = door.uplink.config();
            held.addresses == config.addresses && held.source_ports == config.source_ports
        });
        if descriptors.is_empty() && (held || sockets_of(config) == 0) {
            return Ok(Fresh::Kept);
        }
        UdpUplink::new(config.clone(), descriptors)
            .map(Fresh::Uplink)
            .map_err(|error| error.to_string())
    }

    /// Checks what came with `PutLocalExit`.
    pub(super) fn check_exit(&self, config: &LocalExitConfig, mut descriptors: Vec<OwnedFd>) -> Result<Fresh, String> {
        match (descriptors.pop(), descriptors.is_empty()) {
            (None, _) if self.exit.is_some() => Ok(Fresh::Kept),
            (Some(fd), true) => TapPort::new(fd, config.vnet_header)
                .map(Fresh::Exit)
                .map_err(|error| format!("local exit: {error}")),
            _ => Err("local exit: it needs one descriptor".into()),
        }
    }

    /// Puts a guest port in its place.
    pub(super) fn put_port(&mut self, config: PortConfig, fresh: Fresh) -> io::Result<()> {
        if let Fresh::Port(port) = fresh {
            self.remove_port(config.id);
            if let Some(descriptor) = port.descriptor() {
                self.watch(descriptor, Token::Port(config.id), self.guest_interest())?;
            }
            self.ports.insert(
                config.id,
                PortDoor {
                    config,
                    port,
                    invalid: 0,
                },
            );
        } else if let Some(door) = self.ports.get_mut(&config.id) {
            door.config = config;
        }
        Ok(())
    }

    /// Puts an uplink in its place.
    pub(super) fn put_uplink(&mut self, config: UplinkConfig, fresh: Fresh, pool: &mut Pool) -> io::Result<()> {
        if let Fresh::Uplink(uplink) = fresh {
            self.remove_uplink(config.id, pool);
            for descriptor in uplink.descriptors() {
                self.watch(descriptor, Token::Uplink(config.id), EventFlags::IN)?;
            }
            let door = UplinkDoor {
                uplink,
                blocked_since: None,
                stalled: false,
                abandoned: 0,
                times_full: 0,
                failed: 0,
            };
            self.uplinks.insert(config.id, door);
            self.pause_guests();
        } else if let Some(door) = self.uplinks.get_mut(&config.id) {
            door.uplink.set_config(config);
        }
        Ok(())
    }

    /// Puts the exit in its place.
    pub(super) fn put_exit(&mut self, config: LocalExitConfig, fresh: Fresh) -> io::Result<()> {
        if let Fresh::Exit(port) = fresh {
            self.remove_exit();
            if let Some(descriptor) = port.descriptor() {
                self.watch(descriptor, Token::Exit, self.guest_interest())?;
            }
            self.exit = Some(ExitDoor {
                config,
                port,
                invalid: 0,
            });
        } else if let Some(door) = &mut self.exit {
            door.config = config;
        }
        Ok(())
    }

    /// Closes a guest port.
    pub(super) fn remove_port(&mut self, id: PortId) {
        if let Some(door) = self.ports.remove(&id)
            && let Some(descriptor) = door.port.descriptor()
        {
            self.forget(descriptor);
        }
    }

    /// Closes an uplink.
    pub(super) fn remove_uplink(&mut self, id: UplinkId, pool: &mut Pool) {
        let Some(mut door) = self.uplinks.remove(&id) else {
            return;
        };
        for descriptor in door.uplink.sockets() {
            self.forget(descriptor);
        }
        door.uplink.abandon(pool);
        self.pause_guests();
    }

    /// Closes the exit.
    pub(super) fn remove_exit(&mut self) {
        if let Some(door) = self.exit.take()
            && let Some(descriptor) = door.port.descriptor()
        {
            self.forget(descriptor);
        }
    }

    /// Sends `runs` by one uplink, or lets them wait for room there; takes all of them.
    pub(super) fn send(
        &mut self,
        now: Instant,
        id: UplinkId,
        runs: &mut Vec<DatagramRun>,
        pool: &mut Pool,
        too_small: &mut Vec<TooSmall>,
    ) {
        let Some(door) = self.uplinks.get_mut(&id) else {
            for run in runs.drain(..) {
                self.closed += run.count() as u64;
                pool.recycle_run(run);
            }
            return;
        };
        let was_blocked = door.blocked_since.is_some();
        if was_blocked && let Some(descriptor) = door.uplink.blocked() {
            unwatch_room(&self.epoll, &door.uplink, descriptor, id);
        }
        let sent = door.uplink.tx_burst(pool, runs, too_small).unwrap_or(0);
        door.failed += door.uplink.take_failed();
        match door.uplink.blocked() {
            None => {
                door.stalled = false;
                door.blocked_since = None;
            }
            Some(_) if sent == 0 && (door.stalled || door.is_overdue(now)) => {
                door.stalled = true;
                door.blocked_since = None;
                door.abandoned += door.uplink.abandon(pool) as u64;
            }
            Some(descriptor) => {
                // Slow is not stuck: whatever left since renews the patience.
                door.times_full += 1;
                if sent > 0 || door.blocked_since.is_none() {
                    door.blocked_since = Some(now);
                    door.stalled = false;
                }
                watch_room(&self.epoll, &door.uplink, descriptor, id);
            }
        }
        if was_blocked != door.blocked_since.is_some() {
            self.pause_guests();
        }
    }

    /// When the patience with an uplink ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.uplinks
            .values()
            .filter_map(|door| door.blocked_since)
            .min()
            .map(|since| since + PATIENCE)
    }

    /// Uplinks with which patience has ended.
    pub(super) fn overdue(&self, now: Instant) -> Vec<UplinkId> {
        self.uplinks
            .iter()
            .filter(|(_, door)| door.is_overdue(now))
            .map(|(&id, _)| id)
            .collect()
    }

    /// Numbers of our own, by name.
    pub(super) fn counters(&mut self, all: &mut Vec<(String, u64)>) {
        all.push(("doors.closed".into(), self.closed));
        for door in self.ports.values_mut() {
            door.invalid += door.port.take_invalid();
            all.push((format!("guest_port.{}.rx_invalid", door.config.name), door.invalid));
        }
        for door in self.uplinks.values_mut() {
            door.failed += door.uplink.take_failed();
            let name = &door.uplink.config().name;
            all.push((format!("uplink.{name}.failed"), door.failed));
            all.push((format!("uplink.{name}.times_full"), door.times_full));
            all.push((format!("uplink.{name}.tx_no_room"), door.abandoned));
            all.push((
                format!("uplink.{name}.segmentation"),
                u64::from(door.uplink.has_segmentation()),
            ));
        }
        if let Some(door) = &mut self.exit {
            door.invalid += door.port.take_invalid();
            all.push(("local_exit.rx_invalid".into(), door.invalid));
        }
    }

    fn guest_interest(&self) -> EventFlags {
        if self.paused {
            EventFlags::empty()
        } else {
            EventFlags::IN
        }
    }

    /// Holds guests back while the uplink has no room, and lets them in again: their queues fill, and TCP in the guest
    /// sees a slower NIC instead of loss. Not where there are several uplinks: a slow one would slow the others down;
    /// there what waits is bounded, and the rest is dropped.
    fn pause_guests(&mut self) {
        let paused = self.uplinks.len() == 1 && self.uplinks.values().any(|door| door.blocked_since.is_some());
        if paused == self.paused {
            return;
        }
        self.paused = paused;
        let interest = self.guest_interest();
        let ports = self
            .ports
            .iter()
            .map(|(&id, door)| (door.port.descriptor(), Token::Port(id)));
        let exit = self.exit.iter().map(|door| (door.port.descriptor(), Token::Exit));
        for (descriptor, token) in ports.chain(exit) {
            if let Some(descriptor) = descriptor {
                // Of a descriptor that is watched already this cannot fail.
                let _ = epoll::modify(&self.epoll, descriptor, token.encode(), interest);
            }
        }
    }

    fn watch(&self, descriptor: BorrowedFd<'_>, token: Token, interest: EventFlags) -> io::Result<()> {
        match epoll::add(&self.epoll, descriptor, token.encode(), interest) {
            Err(Errno::EXIST) => Ok(epoll::modify(&self.epoll, descriptor, token.encode(), interest)?),
            other => Ok(other?),
        }
    }

    /// Before it is closed: control has copies of all descriptors, and epoll would go on reporting theirs.
    fn forget(&self, descriptor: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, descriptor);
    }
}

/// Whether packets are also received on the socket, so that it is watched already.
fn is_receiving(uplink: &UdpUplink, descriptor: BorrowedFd<'_>) -> bool {
    use std::os::fd::AsRawFd;
    uplink
        .descriptors()
        .iter()
        .any(|receiving| receiving.as_raw_fd() == descriptor.as_raw_fd())
}

fn watch_room(epoll: &OwnedFd, uplink: &UdpUplink, descriptor: BorrowedFd<'_>, id: UplinkId) {
    let _ = if is_receiving(uplink, descriptor) {
        let both = EventFlags::IN | EventFlags::OUT;
        epoll::modify(epoll.as_fd(), descriptor, Token::Uplink(id).encode(), both)
    } else {
        epoll::add(epoll.as_fd(), descriptor, Token::Room(id).encode(), EventFlags::OUT)
    };
}

fn unwatch_room(epoll: &OwnedFd, uplink: &UdpUplink, descriptor: BorrowedFd<'_>, id: UplinkId) {
    let _ = if is_receiving(uplink, descriptor) {
        epoll::modify(epoll.as_fd(), descriptor, Token::Uplink(id).encode(), EventFlags::IN)
    } else {
        epoll::delete(epoll.as_fd(), descriptor)
    };
}
