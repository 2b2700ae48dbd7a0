//! Socket options whose value is one `int`.

#![allow(unsafe_code, reason = "options that no safe wrapper knows")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Sets an option.
pub(crate) fn set(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one `int`, which lives until after the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as _,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Reads an option.
pub(crate) fn get(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes, the size of `value`.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut size) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(value)
    }
}

/// Asks for socket buffers beyond the system's limit where that is allowed, up to the limit where it is not.
pub(crate) fn set_buffers(fd: BorrowedFd<'_>, receive: libc::c_int, send: libc::c_int) {
    for (forced, ordinary, bytes) in [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, receive),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, send),
    ] {
        if set(fd, libc::SOL_SOCKET, forced, bytes).is_err() {
            // Smaller buffers drop earlier under load, and work.
            let _ = set(fd, libc::SOL_SOCKET, ordinary, bytes);
        }
    }
}
