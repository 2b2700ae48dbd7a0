//! `recvmmsg` and `sendmmsg` on UDP sockets, with `UDP_GRO` and `UDP_SEGMENT`: whole [`DatagramRun`]s in and out.

#![allow(
    unsafe_code,
    reason = "recvmmsg and sendmmsg take arrays of structures full of pointers"
)]

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, BorrowedFd},
};

use super::control_message::{self, Buffer};
use crate::buffer::DatagramRun;

/// Messages of one call, at the most.
pub(crate) const BATCH: usize = 16;

/// TTL and hop limit that the sockets were opened with; other values ride as ancillary data.
pub(crate) const DEFAULT_TTL: u8 = 64;

/// Receives into `runs`, one message each, and returns how many came. A message that cannot be used (no sender,
/// truncated) leaves an empty run.
pub(crate) fn receive(fd: BorrowedFd<'_>, runs: &mut [DatagramRun]) -> io::Result<usize> {
    let count = runs.len().min(BATCH);
    let mut names = [Name::EMPTY; BATCH];
    let mut controls = [Buffer::EMPTY; BATCH];
    let mut vectors = [const {
        libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }
    }; BATCH];
    // SAFETY: `mmsghdr` is plain old data, for which all zeroes (null pointers, no lengths) are a valid value.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    for (((run, vector), (header, name)), control) in runs
        .iter_mut()
        .zip(&mut vectors)
        .zip(headers.iter_mut().zip(&mut names))
        .zip(&mut controls)
    {
        let room = run.room_mut();
        *vector = libc::iovec {
            iov_base: room.as_mut_ptr().cast(),
            iov_len: room.len(),
        };
        header.msg_hdr.msg_name = (&raw mut *name).cast();
        header.msg_hdr.msg_namelen = size_of::<Name>() as libc::socklen_t;
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = (&raw mut control.bytes).cast();
        header.msg_hdr.msg_controllen = Buffer::SIZE as _;
    }
    // SAFETY: the first `count` headers point at names, vectors, ancillary buffers and rooms that outlive the call,
    // each with its own length; nothing else refers to them meanwhile.
    let received = unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    let Ok(received) = usize::try_from(received) else {
        return Err(io::Error::last_os_error());
    };
    for (((run, header), name), control) in runs.iter_mut().zip(&headers).zip(&names).zip(&controls).take(received) {
        read_message(run, header, name, control);
    }
    Ok(received)
}

#[allow(clippy::unnecessary_cast, reason = "musl has another type here than glibc")]
fn controllen(header: &libc::msghdr) -> usize {
    header.msg_controllen as usize
}

fn read_message(run: &mut DatagramRun, header: &libc::mmsghdr, name: &Name, control: &Buffer) {
    run.set_len(0);
    run.stride = 0;
    let length = header.msg_len as usize;
    let Some(remote) = name.address() else { return };
    if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
        return;
    }
    run.remote = remote;
    run.stride = length;
    run.ttl = DEFAULT_TTL;
    run.tos = 0;
    let filled = control.bytes.get(..controllen(&header.msg_hdr)).unwrap_or_default();
    control_message::for_each(filled, |level, kind, data| {
        let Some(value) = control_message::value(data) else {
            return;
        };
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => run.stride = usize::try_from(value).unwrap_or(0).min(length),
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => run.ttl = value as u8,
            (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => run.tos = value as u8,
            _ => {}
        }
    });
    run.set_len(length);
}

/// Sends each of `runs` as one message, cut by the kernel when it holds more than one datagram. Returns how many
/// runs left; the error is that of the first run when none did.
pub(crate) fn send(fd: BorrowedFd<'_>, runs: &[DatagramRun]) -> io::Result<usize> {
    send_messages(fd, runs.iter().map(|run| (run, run.bytes(), run.count() > 1)))
}

/// Sends the datagrams of one run from the one numbered `first` on, a message each. Returns how many left; the
/// error is that of the first when none did.
pub(crate) fn send_singly(fd: BorrowedFd<'_>, run: &DatagramRun, first: usize) -> io::Result<usize> {
    let datagrams = run.bytes().chunks(run.stride.max(1)).skip(first);
    send_messages(fd, datagrams.map(|datagram| (run, datagram, false)))
}

fn send_messages<'a>(
    fd: BorrowedFd<'_>,
    messages: impl Iterator<Item = (&'a DatagramRun, &'a [u8], bool)>,
) -> io::Result<usize> {
    let mut names = [Name::EMPTY; BATCH];
    let mut controls = [Buffer::EMPTY; BATCH];
    let mut vectors = [const {
        libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }
    }; BATCH];
    // SAFETY: `mmsghdr` is plain old data, for which all zeroes (null pointers, no lengths) are a valid value.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    let mut count: libc::c_uint = 0;
    for ((run, bytes, segment), ((vector, header), (name, control))) in messages.zip(
        vectors
            .iter_mut()
            .zip(&mut headers)
            .zip(names.iter_mut().zip(&mut controls)),
    ) {
        *vector = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        *name = Name::new(run.remote);
        header.msg_hdr.msg_namelen = name.length();
        header.msg_hdr.msg_name = (&raw mut *name).cast();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        let used = write_control(control, run, segment);
        if used > 0 {
            header.msg_hdr.msg_control = (&raw mut control.bytes).cast();
            header.msg_hdr.msg_controllen = used as _;
        }
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    // SAFETY: the first `count` headers point at names, vectors, ancillary data and payloads that outlive the call,
    // each with its own length; sending only reads them.
    let sent = unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn write_control(control: &mut Buffer, run: &DatagramRun, segment: bool) -> usize {
    let mut used = 0;
    if segment {
        let stride = u16::try_from(run.stride).unwrap_or(u16::MAX);
        control.push(&mut used, libc::SOL_UDP, libc::UDP_SEGMENT, &stride.to_ne_bytes());
    }
    let (level, ttl, tos) = if run.remote.is_ipv4() {
        (libc::IPPROTO_IP, libc::IP_TTL, libc::IP_TOS)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, libc::IPV6_TCLASS)
    };
    if run.ttl != DEFAULT_TTL {
        control.push(&mut used, level, ttl, &libc::c_int::from(run.ttl).to_ne_bytes());
    }
    if run.tos != 0 {
        control.push(&mut used, level, tos, &libc::c_int::from(run.tos).to_ne_bytes());
    }
    used
}

/// A socket address of either family, as the kernel lays it out.
#[repr(C)]
#[derive(Clone, Copy)]
union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    const EMPTY: Self = Self {
        v6: libc::sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    fn new(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self {
                v4: libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(address.ip().octets()),
                    },
                    sin_zero: [0; 8],
                },
            },
            SocketAddr::V6(address) => Self {
                v6: libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: address.ip().octets(),
                    },
                    sin6_scope_id: address.scope_id(),
                },
            },
        }
    }

    fn family(&self) -> libc::c_int {
        // SAFETY: every variant starts with the family, and every value was made by `new`, `EMPTY` or the kernel.
        libc::c_int::from(unsafe { self.family })
    }

    fn length(&self) -> libc::socklen_t {
        if self.family() == libc::AF_INET {
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        } else {
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        match self.family() {
            libc::AF_INET => {
                // SAFETY: the family says which variant it is; any bytes are valid in it, and all are initialised.
                let v4 = unsafe { self.v4 };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let v6 = unsafe { self.v6 };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_layout() {
        for address in ["192.0.2.7:4341", "[2001:db8::7]:4341", "[fe80::1%3]:1"] {
            let Ok(address) = address.parse::<SocketAddr>() else {
                panic!("{address}")
            };
            assert_eq!(Name::new(address).address(), Some(address));
        }
        assert_eq!(Name::EMPTY.address(), None);
    }
}
