//! A pair of mesh SAs with one node, as one exchange made it: what is sealed and opened under it, and until when.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use lisp::{
    InstanceId,
    mesh::{MAX_WORKERS, SaIndex, Suite, TrafficKey},
    wire::DataHeader,
};

use super::{Aead, Layout, TAG, aead::Fingerprint, iv, replay::Window};
use crate::{
    control::{MeshNode, SaConfig, SaStatus, SaUse},
    verdict::DropReason,
};

/// Not sent under after so many packets, whatever control says: what AES-GCM bears with a wide margin.
const PACKETS: u64 = 1 << 30;
/// Neither way after so long, whatever control says.
const LIFE: Duration = Duration::from_secs(24 * 3_600);

/// Why a pair of SAs cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaError {
    /// No index, too many, or one twice.
    #[error("a pair of mesh SAs has 1 to 16 indices each way, all different")]
    Indices,
    /// Keys of a wrong length.
    #[error("a key does not fit its suite")]
    Key,
}

/// One of the other side's indices: what we seal for it with.
#[derive(Debug)]
struct Outbound {
    index: SaIndex,
    aead: Aead,
    /// Last counter of each of our workers.
    counters: [AtomicU64; MAX_WORKERS],
}

/// One of our indices: what is sealed for it. Opened by one worker of ours alone.
#[derive(Debug)]
struct Inbound {
    index: SaIndex,
    aead: Aead,
    /// What came from each of the other side's workers; made when the first packet has proved authentic.
    windows: [OnceLock<Box<Window>>; MAX_WORKERS],
    opened: AtomicU64,
    opened_bytes: AtomicU64,
}

/// A packet that opened.
#[derive(Debug)]
pub struct Opened<'a> {
    /// What was inside.
    pub inside: &'a mut [u8],
    /// Whether it is newer than all before of the same sending worker.
    pub newest: bool,
}

/// A pair of SAs.
#[derive(Debug)]
pub struct SaPair {
    /// With whom.
    pub node: MeshNode,
    /// How it seals.
    pub suite: Suite,
    /// Rises with each pair that the process ever had.
    pub number: u64,
    /// Whether we asked: it is sent under at once.
    pub initiator: bool,
    born: Instant,
    expires: Instant,
    packet_limit: u64,
    inbound: Box<[Inbound]>,
    outbound: Box<[Outbound]>,
    confirmed: AtomicBool,
    sealed: AtomicU64,
    sealed_bytes: AtomicU64,
}

impl SaPair {
    /// From control's words, at `now`.
    ///
    /// # Errors
    /// See [`SaError`].
    pub fn new(config: &SaConfig, number: u64, now: Instant) -> Result<Self, SaError> {
        let suite = config.suite;
        if !are_distinct(&config.inbound) || !are_distinct(&config.outbound) {
            return Err(SaError::Indices);
        }
        let inbound = config.inbound.iter().map(|(index, key)| {
            Some(Inbound {
                index: *index,
                aead: Aead::new(suite, key)?,
                windows: [const { OnceLock::new() }; MAX_WORKERS],
                opened: AtomicU64::new(0),
                opened_bytes: AtomicU64::new(0),
            })
        });
        let outbound = config.outbound.iter().map(|(index, key)| {
            Some(Outbound {
                index: *index,
                aead: Aead::new(suite, key)?,
                counters: [const { AtomicU64::new(0) }; MAX_WORKERS],
            })
        });
        Ok(Self {
            node: config.node,
            suite,
            number,
            initiator: config.initiator,
            born: now,
            expires: now + config.life.min(LIFE),
            packet_limit: config.packet_limit.min(PACKETS),
            inbound: inbound.collect::<Option<_>>().ok_or(SaError::Key)?,
            outbound: outbound.collect::<Option<_>>().ok_or(SaError::Key)?,
            confirmed: AtomicBool::new(false),
            sealed: AtomicU64::new(0),
            sealed_bytes: AtomicU64::new(0),
        })
    }

    /// Our first index: its name towards control.
    pub fn name(&self) -> Option<SaIndex> {
        self.inbound.first().map(|inbound| inbound.index)
    }

    /// Our indices.
    pub fn indices(&self) -> impl Iterator<Item = SaIndex> {
        self.inbound.iter().map(|inbound| inbound.index)
    }

    /// The keys that it seals with, by name.
    pub fn sealing_keys(&self) -> impl Iterator<Item = Fingerprint> {
        self.outbound.iter().map(|outbound| outbound.aead.fingerprint())
    }

    /// Bytes around each inner packet.
    pub const fn layout(&self) -> Layout {
        Layout::of(self.suite)
    }

    /// Whether its time is up.
    #[inline]
    pub fn is_expired(&self, now: Instant) -> bool {
        now >= self.expires
    }

    /// Whether `packets` more may be sealed now.
    #[inline]
    pub fn may_seal(&self, now: Instant, packets: usize) -> bool {
        !self.is_expired(now) && self.sealed.load(Relaxed).saturating_add(packets as u64) <= self.packet_limit
    }

    /// Whether it may be sent under as far as the exchange goes: the answer to our request was authentic, or a packet
    /// has opened.
    pub fn is_sendable(&self) -> bool {
        self.initiator || self.is_confirmed()
    }

    /// Whether a packet has opened.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed.load(Relaxed)
    }

    /// A packet has opened; whether that is the first.
    #[inline]
    pub fn confirm(&self) -> bool {
        !self.confirmed.load(Relaxed) && !self.confirmed.swap(true, Relaxed)
    }

    /// Which of the other side's workers the flow of this hash goes to.
    #[inline]
    pub fn channel(&self, flow_hash: u32) -> usize {
        (flow_hash as usize)
            .checked_rem(self.outbound.len())
            .unwrap_or_default()
    }

    /// The data header towards a channel.
    pub fn header(&self, channel: usize, instance_id: InstanceId) -> Option<[u8; DataHeader::LEN]> {
        let outbound = self.outbound.get(channel)?;
        Some(super::header(instance_id, outbound.index))
    }

    /// The index of a channel.
    pub fn outbound_index(&self, channel: usize) -> Option<SaIndex> {
        self.outbound.get(channel).map(|outbound| outbound.index)
    }

    /// Takes `packets` counters of `worker` towards `channel`, for `bytes` of inner packets: the first of them. They are
    /// nobody else's, ever, also when they are not used. `None` beyond the limit, or the pair's life.
    #[inline]
    pub fn reserve(&self, channel: usize, worker: u8, packets: usize, bytes: usize, now: Instant) -> Option<u64> {
        let counters = self.outbound.get(channel)?.counters.get(usize::from(worker))?;
        if self.is_expired(now) {
            return None;
        }
        let packets = packets as u64;
        if self.sealed.fetch_add(packets, Relaxed).saturating_add(packets) > self.packet_limit {
            self.sealed.fetch_sub(packets, Relaxed);
            return None;
        }
        self.sealed_bytes.fetch_add(bytes as u64, Relaxed);
        counters.fetch_add(packets, Relaxed).checked_add(1)
    }

    /// Seals a whole datagram in place under a reserved counter. `None` when it is too short.
    #[inline]
    pub fn seal(&self, channel: usize, datagram: &mut [u8], worker: u8, counter: u64) -> Option<()> {
        self.outbound.get(channel)?.aead.seal(datagram, worker, counter)
    }

    /// Opens a whole datagram for our index number `channel` in place.
    ///
    /// # Errors
    /// A word for each way of not being authentic, new and in time. Nothing has changed then.
    #[inline]
    pub fn open<'a>(&self, channel: usize, datagram: &'a mut [u8], now: Instant) -> Result<Opened<'a>, DropReason> {
        let inbound = self.inbound.get(channel).ok_or(DropReason::UnknownSa)?;
        if self.is_expired(now) {
            return Err(DropReason::SaExpired);
        }
        let Layout { before, after } = self.layout();
        if datagram.len() < DataHeader::LEN + before + after {
            return Err(DropReason::LispTruncated);
        }
        let iv = datagram.get(DataHeader::LEN..DataHeader::LEN + before);
        let (sender, counter) = iv.and_then(iv::read).ok_or(DropReason::ForeignIv)?;
        let slot = inbound.windows.get(sender).ok_or(DropReason::ForeignIv)?;
        if slot.get().is_some_and(|window| !window.is_fresh(counter)) {
            return Err(DropReason::Replayed);
        }
        let bytes = datagram.len() - DataHeader::LEN - before - TAG;
        let inside = inbound.aead.open(datagram).ok_or(DropReason::BadTag)?;
        let newest = slot.get_or_init(Box::default).mark(counter);
        // One writer: the worker whose index it is.
        let add = |counter: &AtomicU64, by: u64| counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
        add(&inbound.opened, 1);
        add(&inbound.opened_bytes, bytes as u64);
        Ok(Opened { inside, newest })
    }

    /// Packets sealed, inner bytes sealed, packets opened: since it was put.
    pub fn usage(&self) -> Option<SaUse> {
        Some(SaUse {
            index: self.name()?,
            sealed: self.sealed.load(Relaxed),
            sealed_bytes: self.sealed_bytes.load(Relaxed),
            opened: self.inbound.iter().map(|inbound| inbound.opened.load(Relaxed)).sum(),
        })
    }

    /// For control; what the node knows about it (`current`, `roamed_to`) is left open.
    pub fn status(&self, now: Instant) -> Option<SaStatus> {
        let usage = self.usage()?;
        Some(SaStatus {
            node: self.node,
            suite: self.suite,
            index: usage.index,
            inbound: self.indices().collect(),
            outbound: self.outbound.iter().map(|outbound| outbound.index).collect(),
            age: now.saturating_duration_since(self.born),
            confirmed: self.is_confirmed(),
            current: false,
            sealed: usage.sealed,
            sealed_bytes: usage.sealed_bytes,
            opened: usage.opened,
            opened_bytes: self
                .inbound
                .iter()
                .map(|inbound| inbound.opened_bytes.load(Relaxed))
                .sum(),
            roamed_to: None,
        })
    }
}

fn are_distinct(keys: &[(SaIndex, TrafficKey)]) -> bool {
    let fresh = |at: usize, index: &SaIndex| keys.iter().take(at).all(|(other, _)| other != index);
    (1..=MAX_WORKERS).contains(&keys.len()) && keys.iter().enumerate().all(|(at, (index, _))| fresh(at, index))
}
