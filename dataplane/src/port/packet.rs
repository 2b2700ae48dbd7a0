//! AF_PACKET: a guest behind an existing interface, usually one end of a veth.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::io::Errno;
use socket2::{Domain, SockFilter, Socket, Type};

use super::{
    GuestPort,
    frames::{Frames, Refusal},
};
use crate::{
    buffer::{PacketBuf, Pool},
    sys::{packet, sockopt},
};

/// An AF_PACKET socket that control has opened.
#[derive(Debug)]
pub struct PacketPort {
    frames: Frames,
}

impl PacketPort {
    /// Takes a socket over that [`open_packet`] made; `header` are the bytes of its vnet header.
    ///
    /// # Errors
    /// No header has that many bytes.
    pub fn new(fd: OwnedFd, header: u8) -> io::Result<Self> {
        Ok(Self {
            frames: Frames::new(fd, header)?,
        })
    }
}

impl GuestPort for PacketPort {
    fn rx_burst(&mut self, pool: &mut Pool, frames: &mut Vec<PacketBuf>, limit: usize) -> io::Result<()> {
        match self.frames.read(pool, frames, limit) {
            // Down is not gone: the error is told once, and frames come again when it is up.
            Err(Errno::NETDOWN) if !packet::is_orphan(self.frames.fd()) => Ok(()),
            other => Ok(other?),
        }
    }

    fn tx_burst(&mut self, pool: &mut Pool, frames: &mut Vec<PacketBuf>) -> io::Result<usize> {
        self.frames.write(pool, frames, |error| match error {
            Errno::NXIO | Errno::NODEV => Refusal::Port,
            _ => Refusal::Frame,
        })
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.frames.fd())
    }

    fn take_invalid(&mut self) -> u64 {
        self.frames.take_invalid()
    }
}

/// Bytes asked for in each direction.
const BUFFER: libc::c_int = 4 << 20;

/// `AUXDATA` of classic BPF: whether the frame had a VLAN tag (`SKF_AD_VLAN_TAG_PRESENT`).
const VLAN_TAG_PRESENT: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT) as u32;

/// Opens an AF_PACKET socket on the existing interface `name`, with a vnet header of [`super::vnet::HEADER`] bytes,
/// promiscuous, deaf to what this host itself sends there.
///
/// Frames with a VLAN tag do not pass: the kernel would hand them over with the tag taken out, as if they had had none.
/// The host's own IP stack still sees what comes in on the interface: it should have no addresses there
/// (`disable_ipv6`, no ARP).
///
/// # Errors
/// No such interface, no permission, or a kernel without `PACKET_VNET_HDR`.
pub fn open_packet(name: &str) -> io::Result<OwnedFd> {
    let index = packet::interface_index(name)?;
    // Protocol 0: nothing comes in before everything is set and the socket is bound.
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
    let fd = socket.as_fd();
    sockopt::set(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
    sockopt::set(fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    sockopt::set_buffers(fd, BUFFER, BUFFER);
    socket.attach_filter(&[
        SockFilter::new(
            (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16,
            0,
            0,
            VLAN_TAG_PRESENT,
        ),
        SockFilter::new((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, 1, 0),
        SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, u32::MAX),
        SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0),
    ])?;
    packet::set_promiscuous(fd, index)?;
    packet::bind(fd, index)?;
    Ok(socket.into())
}
