//! `ioctl`s of `/dev/net/tun`. Used by control, when it opens a TAP or TUN; never by the packet path.

#![allow(
    clippy::disallowed_methods,
    reason = "control opens the device, and hands the descriptor over"
)]
#![allow(unsafe_code, reason = "ioctl has no safe wrapper for the TUN requests")]

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
};

/// Opens `/dev/net/tun` and attaches it to the interface `name`, which is created unless it exists. `flags` are the
/// `IFF_*` of `TUNSETIFF`.
pub(crate) fn attach(name: &str, flags: libc::c_int) -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    // SAFETY: `ifreq` is plain old data, for which all zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    super::packet::copy_name(name, &mut request.ifr_name)?;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives until after the call; the descriptor is open.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(file.into())
}

/// `TUNSETVNETHDRSZ`: bytes of the vnet header.
pub(crate) fn set_vnet_header(fd: BorrowedFd<'_>, bytes: u8) -> io::Result<()> {
    let bytes = libc::c_int::from(bytes);
    // SAFETY: TUNSETVNETHDRSZ reads one `int`, which lives until after the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const bytes) })
}

/// `TUNSETOFFLOAD`: what the kernel may leave to us (`TUN_F_*`).
pub(crate) fn set_offload(fd: BorrowedFd<'_>, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) })
}

/// `TUNSETPERSIST`: whether the interface outlives its last descriptor.
pub(crate) fn set_persist(fd: BorrowedFd<'_>, persist: bool) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes its argument by value.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETPERSIST, libc::c_ulong::from(persist)) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
