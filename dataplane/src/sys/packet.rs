//! Binding of AF_PACKET sockets, and interface names.

#![allow(unsafe_code, reason = "sockaddr_ll has no safe wrapper")]

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Number of the interface called `name` in this network namespace.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: the name is a C string that lives until after the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(index)
    }
}

/// Binds an AF_PACKET socket to every protocol of one interface; from here on packets come in.
pub(crate) fn bind(fd: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    let mut address = link_address();
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
    // SAFETY: the address is a whole `sockaddr_ll`, and its size is given.
    let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), LINK_ADDRESS) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Whether the interface that the socket was bound to is gone for good (not merely down).
pub(crate) fn is_orphan(fd: BorrowedFd<'_>) -> bool {
    let mut address = link_address();
    let mut size = LINK_ADDRESS;
    // SAFETY: the kernel writes at most `size` bytes, the size of a `sockaddr_ll`.
    let result = unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut size) };
    result < 0 || address.sll_ifindex <= 0
}

/// Receives what the interface sees, not only what is addressed to it.
pub(crate) fn set_promiscuous(fd: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    // SAFETY: `packet_mreq` is plain old data, for which all zeroes are a valid value.
    let mut request: libc::packet_mreq = unsafe { std::mem::zeroed() };
    request.mr_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
    request.mr_type = libc::PACKET_MR_PROMISC as libc::c_ushort;
    // SAFETY: the option reads one `packet_mreq`, whose size is given.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            size_of::<libc::packet_mreq>() as libc::socklen_t,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Copies an interface name into the fixed field of a request.
pub(crate) fn copy_name(name: &str, field: &mut [libc::c_char; libc::IFNAMSIZ]) -> io::Result<()> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.bytes().any(|byte| byte == 0 || byte == b'/') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} cannot be an interface's name"),
        ));
    }
    for (to, from) in field.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(())
}

const LINK_ADDRESS: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

fn link_address() -> libc::sockaddr_ll {
    // SAFETY: `sockaddr_ll` is plain old data, for which all zeroes are a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address
}
