//! Doors: where frames and datagrams enter and leave. Two narrow traits, one for the guest's side, one for the
//! underlay's; everything behind them is a file of its own.

use std::{io, os::fd::RawFd};

use crate::buffer::{DatagramRun, PacketBuf, Pool};

/// Frames taken from a port in one burst, at the most.
pub const BURST: usize = 32;

/// A guest's NIC, or the exit to the host's network.
pub trait GuestPort {
    /// Reads up to `limit` frames into `frames`. Nothing to read is `Ok` with no frame added.
    fn rx_burst(&mut self, pool: &mut Pool, frames: &mut Vec<PacketBuf>, limit: usize) -> io::Result<()>;

    /// Writes and recycles all `frames`. Frames the other side has no room for are dropped; returns how many were
    /// written.
    fn tx_burst(&mut self, pool: &mut Pool, frames: &mut Vec<PacketBuf>) -> io::Result<usize>;

    /// What to poll for input; none for ports that are polled by calling.
    fn descriptor(&self) -> Option<RawFd>;
}

/// An attachment to the underlay.
pub trait UplinkPort {
    /// Reads runs of datagrams that came to port 4341.
    fn rx_burst(&mut self, pool: &mut Pool, runs: &mut Vec<DatagramRun>, limit: usize) -> io::Result<()>;

    /// Sends and recycles all `runs`; returns how many datagrams left. A refused size is reported in `too_small`.
    fn tx_burst(&mut self, pool: &mut Pool, runs: &mut Vec<DatagramRun>, too_small: &mut Vec<TooSmall>) -> io::Result<usize>;

    /// What to poll for input.
    fn descriptors(&self) -> Vec<RawFd>;
}

/// The kernel refused a datagram for its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    /// To whom.
    pub remote: std::net::SocketAddr,
    /// Bytes of the outer IP packet.
    pub size: u32,
}
