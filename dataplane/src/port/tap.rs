//! TAP: a guest's NIC as an interface of this host. TUN: the exit to the host's own network.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::io::Errno;

use super::{
    GuestPort,
    frames::{Frames, Refusal},
    vnet,
};
use crate::{
    buffer::{PacketBuf, Pool},
    sys::tun,
};

/// A TAP or TUN that control has opened.
#[derive(Debug)]
pub struct TapPort {
    frames: Frames,
}

impl TapPort {
    /// Takes a descriptor over that [`open_tap`] or [`open_local_exit`] made; `header` are the bytes of its vnet header.
    ///
    /// # Errors
    /// No header has that many bytes.
    pub fn new(fd: OwnedFd, header: u8) -> io::Result<Self> {
        Ok(Self {
            frames: Frames::new(fd, header)?,
        })
    }
}

impl GuestPort for TapPort {
    fn rx_burst(&mut self, pool: &mut Pool, frames: &mut Vec<PacketBuf>, limit: usize) -> io::Result<()> {
        Ok(self.frames.read(pool, frames, limit)?)
    }

    fn tx_burst(&mut self, pool: &mut Pool, frames: &mut Vec<PacketBuf>) -> io::Result<usize> {
        // EIO: the interface is down. EINVAL, EMSGSIZE: the kernel does not like this frame. EBADFD: the interface
        // was deleted.
        self.frames.write(pool, frames, |error| {
            if error == Errno::BADFD {
                Refusal::Port
            } else {
                Refusal::Frame
            }
        })
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.frames.fd())
    }

    fn take_invalid(&mut self) -> u64 {
        self.frames.take_invalid()
    }
}

/// Opens the TAP `name` (created unless it exists) with a vnet header of [`vnet::HEADER`] bytes and every offload
/// that this kernel knows. With `persist` the interface outlives its last descriptor.
///
/// The interface is left down; setting it up, and `gso_max_size` 59000 (then one super-packet is one send of an
/// uplink), is up to the caller.
///
/// # Errors
/// Those of the kernel: no permission, the name is taken by another kind of interface, someone else has it open.
pub fn open_tap(name: &str, persist: bool) -> io::Result<OwnedFd> {
    open(name, libc::IFF_TAP, persist)
}

/// Opens the TUN `name`, the exit of `Local` networks, likewise. It goes with its last descriptor.
///
/// # Errors
/// As [`open_tap`].
pub fn open_local_exit(name: &str) -> io::Result<OwnedFd> {
    open(name, libc::IFF_TUN, false)
}

fn open(name: &str, kind: libc::c_int, persist: bool) -> io::Result<OwnedFd> {
    let fd = tun::attach(name, kind | libc::IFF_NO_PI | libc::IFF_VNET_HDR)?;
    tun::set_vnet_header(fd.as_fd(), vnet::HEADER)?;
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    // USO came with Linux 6.2; older kernels refuse the whole set.
    if tun::set_offload(fd.as_fd(), tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6).is_err() {
        tun::set_offload(fd.as_fd(), tcp)?;
    }
    if persist {
        tun::set_persist(fd.as_fd(), true)?;
    }
    Ok(fd)
}
