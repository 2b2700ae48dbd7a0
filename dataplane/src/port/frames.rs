//! Frames through a descriptor that carries a vnet header in front of each: what TAP, TUN and AF_PACKET share.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::io::Errno;

use super::vnet;
use crate::buffer::{Offload, PacketBuf, Pool};

/// A descriptor in non-blocking mode and the bytes of its vnet header: 0, 10 or 12.
#[derive(Debug)]
pub(super) struct Frames {
    fd: OwnedFd,
    header: usize,
    invalid: u64,
}

/// How a write that failed is to be taken.
pub(super) enum Refusal {
    /// This frame is lost, the port lives.
    Frame,
    /// The port is gone.
    Port,
}

impl Frames {
    pub(super) fn new(fd: OwnedFd, header: u8) -> io::Result<Self> {
        if ![0, vnet::HEADER, vnet::HEADER_WITH_BUFFERS].contains(&header) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no vnet header has {header} bytes"),
            ));
        }
        Ok(Self {
            fd,
            header: usize::from(header),
            invalid: 0,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Frames that made no sense since the last call.
    pub(super) fn take_invalid(&mut self) -> u64 {
        std::mem::take(&mut self.invalid)
    }

    /// Reads until there is nothing more, or `limit` frames. On an error the frames read before it stay in `frames`.
    pub(super) fn read(&mut self, pool: &mut Pool, frames: &mut Vec<PacketBuf>, limit: usize) -> Result<(), Errno> {
        for _ in 0..limit {
            let mut packet = pool.packet();
            // Cannot fail: a fresh buffer has more headroom than the header needs.
            let _ = packet.push(self.header);
            match rustix::io::read(&self.fd, packet.room_mut()) {
                Ok(length) if length > self.header => {
                    packet.set_len(length);
                    let offload = match self.header {
                        0 => Some(Offload::default()),
                        header => packet.bytes().get(..header).and_then(vnet::decode),
                    };
                    packet.pull(self.header);
                    match offload {
                        Some(offload) => {
                            packet.offload = offload;
                            frames.push(packet);
                        }
                        None => {
                            self.invalid += 1;
                            pool.recycle_packet(packet);
                        }
                    }
                }
                Ok(0) => {
                    pool.recycle_packet(packet);
                    return Ok(());
                }
                Ok(_) => {
                    self.invalid += 1;
                    pool.recycle_packet(packet);
                }
                Err(Errno::AGAIN) => {
                    pool.recycle_packet(packet);
                    return Ok(());
                }
                Err(Errno::INTR) => pool.recycle_packet(packet),
                Err(error) => {
                    pool.recycle_packet(packet);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Writes and recycles all frames; returns how many were taken. `judge` says what an error means; after the end
    /// of the port the rest is recycled unwritten.
    pub(super) fn write(
        &mut self,
        pool: &mut Pool,
        frames: &mut Vec<PacketBuf>,
        judge: impl Fn(Errno) -> Refusal,
    ) -> io::Result<usize> {
        let mut written = 0;
        let mut end = None;
        for mut packet in frames.drain(..) {
            if end.is_none() {
                match self.write_one(&mut packet) {
                    Ok(_) => written += 1,
                    Err(error) => match judge(error) {
                        Refusal::Frame => {}
                        Refusal::Port => end = Some(error),
                    },
                }
            }
            pool.recycle_packet(packet);
        }
        match end {
            Some(error) => Err(error.into()),
            None => Ok(written),
        }
    }

    fn write_one(&self, packet: &mut PacketBuf) -> Result<usize, Errno> {
        if self.header == 0 {
            return rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, packet.bytes()));
        }
        let encoded = vnet::encode(&packet.offload, packet.bytes());
        let header = &encoded[..self.header];
        if packet.push(self.header) {
            packet.bytes_mut()[..header.len()].copy_from_slice(header);
            rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, packet.bytes()))
        } else {
            rustix::io::retry_on_intr(|| {
                rustix::io::writev(&self.fd, &[IoSlice::new(header), IoSlice::new(packet.bytes())])
            })
        }
    }
}
