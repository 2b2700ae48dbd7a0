//! Packets that wait for a mapping, or for an SA with its node. Bounded in number, in bytes and in time; what does not fit is dropped by name.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use lisp::Eid;

use crate::{
    buffer::PacketBuf,
    control::{NetworkId, PortId},
    hash::Seeded,
};

/// Frames that wait for one EID.
const PER_EID: usize = 8;
/// Frames of one sender that wait: none may take the room of all.
const PER_SENDER: usize = 64;
/// Frames that wait in all.
const TOTAL: usize = 256;
/// Bytes that wait in all.
const BYTES: usize = 4 << 20;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who sent a frame that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Waiter {
    /// A guest port.
    Port(PortId),
    /// The node's own host in a network.
    Host(NetworkId),
}

/// A frame that waits.
#[derive(Debug)]
pub struct Waiting {
    /// Who sent it.
    pub from: Waiter,
    /// The frame.
    pub packet: PacketBuf,
    since: Instant,
}

/// All that waits.
#[derive(Debug)]
pub struct Pending {
    queues: HashMap<Eid, VecDeque<Waiting>, Seeded>,
    senders: HashMap<Waiter, usize, Seeded>,
    frames: usize,
    bytes: usize,
}

impl Pending {
    /// Nothing waits; hashed with `seed`.
    pub fn new(seed: Seeded) -> Self {
        let senders = HashMap::with_hasher(seed);
        Self {
            queues: HashMap::with_hasher(seed),
            senders,
            frames: 0,
            bytes: 0,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Lets `packet` wait for `eid`; gives it back when there is no room.
    pub fn push(&mut self, eid: Eid, from: Waiter, packet: PacketBuf, now: Instant) -> Result<(), PacketBuf> {
        let held = self.queues.get(&eid).map_or(0, VecDeque::len);
        let own = self.senders.get(&from).copied().unwrap_or_default();
        let full = held >= PER_EID || own >= PER_SENDER || self.frames >= TOTAL;
        if full || self.bytes + packet.len() > BYTES {
            return Err(packet);
        }
        self.frames += 1;
        self.senders.insert(from, own + 1);
        self.bytes += packet.len();
        self.queues.entry(eid).or_default().push_back(Waiting {
            from,
            packet,
            since: now,
        });
        Ok(())
    }

    /// Takes what waits for an EID that `fits`, in the order in which it came for each EID.
    pub fn release(&mut self, fits: impl Fn(&Eid) -> bool) -> Vec<Waiting> {
        let mut eids: Vec<Eid> = self.queues.keys().copied().filter(fits).collect();
        eids.sort();
        let released: Vec<Waiting> = eids
            .iter()
            .filter_map(|eid| self.queues.remove(eid))
            .flatten()
            .collect();
        self.forget(&released);
        released
    }

    /// Takes what has waited for too long.
    pub fn expire(&mut self, now: Instant) -> Vec<Waiting> {
        let mut expired = Vec::new();
        self.queues.retain(|_, queue| {
            while queue
                .front()
                .is_some_and(|first| now.saturating_duration_since(first.since) >= PATIENCE)
            {
                expired.extend(queue.pop_front());
            }
            !queue.is_empty()
        });
        self.forget(&expired);
        expired
    }

    fn forget(&mut self, gone: &[Waiting]) {
        self.frames = self.frames.saturating_sub(gone.len());
        for waiting in gone {
            if let Some(own) = self.senders.get_mut(&waiting.from) {
                *own = own.saturating_sub(1);
            }
        }
        self.senders.retain(|_, own| *own > 0);
        self.bytes = gone
            .iter()
            .fold(self.bytes, |bytes, waiting| bytes.saturating_sub(waiting.packet.len()));
    }
}
