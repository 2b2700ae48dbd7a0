//! Doors: where frames and datagrams enter and leave. Two narrow traits, one for the guest's side, one for the
//! underlay's; everything behind them is a file of its own.

mod frames;
pub mod memory;
pub mod packet;
pub mod pcap;
pub mod tap;
pub mod udp;
pub mod uplink_sockets;
pub mod vnet;

use std::{io, os::fd::BorrowedFd};

use crate::buffer::{DatagramRun, PacketBuf, Pool};

/// Frames taken from a port in one burst, at the most.
pub const BURST: usize = 32;

/// A guest's NIC, or the exit to the host's network.
pub trait GuestPort {
    /// Reads up to `limit` frames into `frames`. Nothing to read is `Ok` with no frame added. An error means that the
    /// port is gone; frames read before it stay in `frames`.
    fn rx_burst(&mut self, pool: &mut Pool, frames: &mut Vec<PacketBuf>, limit: usize) -> io::Result<()>;

    /// Writes and recycles all `frames`. Frames the other side has no room for are dropped; returns how many were
    /// written.
    fn tx_burst(&mut self, pool: &mut Pool, frames: &mut Vec<PacketBuf>) -> io::Result<usize>;

    /// What to poll for input; none for ports that are polled by calling.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Frames that made no sense to the port itself since the last call.
    fn take_invalid(&mut self) -> u64 {
        0
    }
}

/// An attachment to the underlay.
pub trait UplinkPort {
    /// Reads runs of datagrams that came to port 4341.
    fn rx_burst(&mut self, pool: &mut Pool, runs: &mut Vec<DatagramRun>, limit: usize) -> io::Result<()>;

    /// Takes all `runs`, sends and recycles; returns how many datagrams left. A refused size is reported in
    /// `too_small`. What a full socket has no room for is kept: see [`UplinkPort::blocked`].
    fn tx_burst(
        &mut self,
        pool: &mut Pool,
        runs: &mut Vec<DatagramRun>,
        too_small: &mut Vec<TooSmall>,
    ) -> io::Result<usize>;

    /// What to poll for input.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// What to poll for output before `tx_burst` is called again (with no runs, if need be): runs wait for room there.
    fn blocked(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Drops the runs that wait and returns how many datagrams that were.
    fn abandon(&mut self, pool: &mut Pool) -> usize {
        let _ = pool;
        0
    }

    /// Datagrams that could not be sent for other reasons than size since the last call, or made no sense on receive.
    fn take_failed(&mut self) -> u64 {
        0
    }
}

/// The kernel refused a datagram for its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    /// To whom.
    pub remote: std::net::SocketAddr,
    /// Bytes of the outer IP packet.
    pub size: u32,
}
