//! A port in memory: tests and benches hold the guest's end.

use std::{
    collections::VecDeque,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixDatagram,
    },
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::GuestPort;
use crate::buffer::{PacketBuf, Pool};

/// Frames that wait in one direction, at the most; more are refused, as by a full ring.
pub const CAPACITY: usize = 1024;

type Queue = Arc<Mutex<VecDeque<PacketBuf>>>;

/// One end of a wire; both ends are alike.
#[derive(Debug)]
pub struct MemoryPort {
    incoming: Queue,
    outgoing: Queue,
    /// A datagram here means "there may be frames": something to poll, as a real port has.
    bell: UnixDatagram,
}

/// Both ends of a wire.
///
/// # Errors
/// No descriptors left.
pub fn pair() -> io::Result<(MemoryPort, MemoryPort)> {
    let (left, right) = UnixDatagram::pair()?;
    left.set_nonblocking(true)?;
    right.set_nonblocking(true)?;
    let (one, other) = (Queue::default(), Queue::default());
    Ok((
        MemoryPort {
            incoming: one.clone(),
            outgoing: other.clone(),
            bell: left,
        },
        MemoryPort {
            incoming: other,
            outgoing: one,
            bell: right,
        },
    ))
}

impl GuestPort for MemoryPort {
    fn rx_burst(&mut self, _pool: &mut Pool, frames: &mut Vec<PacketBuf>, limit: usize) -> io::Result<()> {
        let mut queue = lock(&self.incoming);
        let count = queue.len().min(limit);
        frames.extend(queue.drain(..count));
        if queue.is_empty() {
            // Under the lock: a bell rung for a later frame is not swallowed.
            while self.bell.recv(&mut [0]).is_ok() {}
        }
        Ok(())
    }

    fn tx_burst(&mut self, pool: &mut Pool, frames: &mut Vec<PacketBuf>) -> io::Result<usize> {
        let mut queue = lock(&self.outgoing);
        let was_empty = queue.is_empty();
        let written = frames.len().min(CAPACITY.saturating_sub(queue.len()));
        queue.extend(frames.drain(..written));
        if was_empty && written > 0 {
            // Fails when it is ringing already, or when the other end is gone: both are fine.
            let _ = self.bell.send(&[0]);
        }
        drop(queue);
        for packet in frames.drain(..) {
            pool.recycle_packet(packet);
        }
        Ok(written)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.bell.as_fd())
    }
}

fn lock(queue: &Queue) -> MutexGuard<'_, VecDeque<PacketBuf>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(count: usize) -> Vec<PacketBuf> {
        (0..count)
            .map(|index| PacketBuf::from_frame(&index.to_ne_bytes()))
            .collect()
    }

    #[test]
    fn frames_cross_in_order_and_the_bell_is_silent_when_all_are_read() {
        let Ok((mut left, mut right)) = pair() else {
            panic!("no socket pair")
        };
        let mut pool = Pool::default();
        assert_eq!(left.tx_burst(&mut pool, &mut frames(3)).ok(), Some(3));
        let mut seen = Vec::new();
        assert!(right.rx_burst(&mut pool, &mut seen, 2).is_ok());
        assert_eq!(seen.len(), 2);
        assert!(
            right.bell.recv(&mut [0]).is_ok(),
            "one frame is left, so the bell still rings"
        );
        assert!(right.rx_burst(&mut pool, &mut seen, 2).is_ok());
        assert_eq!(
            seen.iter().map(|packet| packet.bytes().to_vec()).collect::<Vec<_>>(),
            (0..3usize)
                .map(|index| index.to_ne_bytes().to_vec())
                .collect::<Vec<_>>()
        );
        assert!(right.bell.recv(&mut [0]).is_err());
    }

    #[test]
    fn a_full_wire_refuses() {
        let Ok((mut left, _right)) = pair() else {
            panic!("no socket pair")
        };
        let mut pool = Pool::default();
        assert_eq!(left.tx_burst(&mut pool, &mut frames(CAPACITY + 5)).ok(), Some(CAPACITY));
        assert_eq!(left.tx_burst(&mut pool, &mut frames(1)).ok(), Some(0));
    }
}
