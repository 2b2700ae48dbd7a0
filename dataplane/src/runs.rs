//! Open runs of equal-sized datagrams: what the segments of a super-packet, and equal-sized singles of one flow in
//! one burst, are written into, so that they leave in one `UDP_SEGMENT` send.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use crate::{
    buffer::{DatagramRun, MAX_RUN, Pool},
    engine::Output,
    next_hop::Destination,
};

/// Datagrams of a run (`UDP_MAX_SEGMENTS` of older kernels).
const MAX_COUNT: usize = 64;
/// Runs that are open at a time.
const OPEN: usize = 4;

/// What all datagrams of a run have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunHeader {
    /// Where to.
    pub to: Destination,
    /// Outer TTL.
    pub ttl: u8,
    /// Outer TOS.
    pub tos: u8,
    /// From the data port itself, not from a port that spreads flows.
    pub data_port: bool,
}

/// The open runs.
#[derive(Debug, Default)]
pub struct Runs {
    open: Vec<(RunHeader, DatagramRun)>,
}

impl Runs {
    /// Lets `write` fill the next datagram of `length` bytes towards `header`. Order within a flow is kept: a run of
    /// the same flow that cannot take it leaves first.
    #[inline]
    pub fn datagram<R>(
        &mut self,
        header: &RunHeader,
        length: usize,
        pool: &mut Pool,
        out: &mut Output,
        write: impl FnOnce(&mut [u8]) -> R,
    ) -> Option<R> {
        let index = self.run(header, length, pool, out);
        let (_, run) = self.open.get_mut(index)?;
        let at = run.len();
        let result = write(run.room_mut().get_mut(at..at.checked_add(length)?)?);
        run.set_len(at + length);
        if run.stride == 0 {
            run.stride = length;
        }
        // A shorter one can only be the last.
        if length < run.stride || run.count() == MAX_COUNT {
            self.close(index, out);
        }
        Some(result)
    }

    /// Sends all that is open.
    pub fn flush(&mut self, out: &mut Output) {
        out.to_uplinks.extend(self.open.drain(..).map(|(_, run)| run));
    }

    fn run(&mut self, header: &RunHeader, length: usize, pool: &mut Pool, out: &mut Output) -> usize {
        // One flow is open in one run at most, whatever its TTL and TOS, or they would overtake each other.
        if let Some(index) = self.open.iter().position(|(open, _)| open.to == header.to) {
            let fits = self
                .open
                .get(index)
                .is_some_and(|(open, run)| open == header && length <= run.stride && run.len() + length <= MAX_RUN);
            if fits {
                return index;
            }
            self.close(index, out);
        }
        if self.open.len() == OPEN {
            self.close(0, out);
        }
        let mut run = pool.run();
        (run.uplink, run.local, run.remote) = (header.to.uplink, header.to.local, header.to.remote);
        (run.flow_hash, run.ttl, run.tos) = (header.to.flow_hash, header.ttl, header.tos);
        run.data_port = header.data_port;
        self.open.push((*header, run));
        self.open.len() - 1
    }

    fn close(&mut self, index: usize, out: &mut Output) {
        if index < self.open.len() {
            out.to_uplinks.push(self.open.remove(index).1);
        }
    }
}
