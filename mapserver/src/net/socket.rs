//! A UDP socket that knows to which of our addresses a datagram came, and sends from the one it is told
//! (`IP_PKTINFO`, `IPV6_RECVPKTINFO`). The only `unsafe` code of the crate: two system calls and their ancillary data.

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, RawFd},
    ptr,
};

use socket2::{Domain, Protocol, SockAddr, Type};
use tokio::{io::Interest, net::UdpSocket};

use crate::Transmit;

/// A received UDP payload.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    pub(super) to: IpAddr,
    pub(super) payload: Vec<u8>,
}

/// A bound socket.
#[derive(Debug)]
pub(super) struct Socket {
    inner: UdpSocket,
    ipv4: bool,
}

/// Longest UDP payload.
pub(super) const MAX_PAYLOAD: usize = 65_535;
/// Bytes asked of the kernel for datagrams that wait; it may give less.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Ancillary data, aligned as `cmsghdr` asks.
#[repr(C, align(8))]
struct Ancillary([u8; 128]);

impl Socket {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        // Smaller is slower, not wrong.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        let (level, option) = if address.is_ipv4() {
            (libc::IPPROTO_IP, libc::IP_PKTINFO)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
        };
        enable(socket.as_raw_fd(), level, option)?;
        socket.bind(&address.into())?;
        Ok(Self {
            inner: UdpSocket::from_std(socket.into())?,
            ipv4: address.is_ipv4(),
        })
    }

    pub(super) fn local_address(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The next datagram. `buffer` is scratch space of [`MAX_PAYLOAD`] bytes.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        let bound = self.local_address()?.ip();
        self.inner
            .async_io(Interest::READABLE, || receive(self.inner.as_raw_fd(), bound, buffer))
            .await
    }

    pub(super) async fn send(&self, transmit: &Transmit) -> io::Result<()> {
        let source = transmit.source.filter(|source| source.is_ipv4() == self.ipv4);
        let send = || send(self.inner.as_raw_fd(), &transmit.payload, transmit.destination, source);
        self.inner.async_io(Interest::WRITABLE, send).await
    }
}

fn enable(fd: RawFd, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of_val(&on) as libc::socklen_t;
    // SAFETY: `on` lives through the call and `size` is its size; `fd` is an open socket of the caller.
    let done = unsafe { libc::setsockopt(fd, level, option, ptr::from_ref(&on).cast(), size) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn receive(fd: RawFd, bound: IpAddr, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut ancillary = Ancillary([0; 128]);
    let mut to = bound;
    // SAFETY: the closure fills the storage by `recvmsg` and reports its length in `len`; every pointer in `header`
    // points to a live buffer of the length given beside it.
    let (length, from) = unsafe {
        SockAddr::try_init(|storage, len| {
            let mut slice = libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            };
            let mut header: libc::msghdr = mem::zeroed();
            header.msg_name = storage.cast();
            header.msg_namelen = *len;
            header.msg_iov = &raw mut slice;
            header.msg_iovlen = 1;
            header.msg_control = ptr::from_mut(&mut ancillary).cast();
            header.msg_controllen = size_of::<Ancillary>() as _;
            let received = libc::recvmsg(fd, &raw mut header, 0);
            let Ok(received) = usize::try_from(received) else {
                return Err(io::Error::last_os_error());
            };
            *len = header.msg_namelen;
            if let Some(address) = destination(&header) {
                to = address;
            }
            Ok(received)
        })?
    };
    let payload = buffer.get(..length).unwrap_or_default().to_vec();
    let from = from.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok(Datagram { from, to, payload })
}

/// The destination address of a received datagram.
///
/// # Safety
/// `header` must be as `recvmsg` left it, its control buffer alive.
unsafe fn destination(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the macros walk the control buffer within the length that the kernel wrote; each structure is read
    // unaligned, and only under the level and type that say it is there.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(head) = control.as_ref() {
            let data = libc::CMSG_DATA(control);
            match (head.cmsg_level, head.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = ptr::read_unaligned(data.cast());
                    return Some(IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = ptr::read_unaligned(data.cast());
                    return Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                _ => control = libc::CMSG_NXTHDR(header, control),
            }
        }
    }
    None
}

fn send(fd: RawFd, payload: &[u8], destination: SocketAddr, source: Option<IpAddr>) -> io::Result<()> {
    let destination = SockAddr::from(destination);
    let mut slice = libc::iovec {
        iov_base: payload.as_ptr().cast_mut().cast(),
        iov_len: payload.len(),
    };
    let mut ancillary = Ancillary([0; 128]);
    // SAFETY: all zeros is a valid `msghdr`; every pointer put into it points to a live buffer of the length given
    // beside it, and `sendmsg` only reads them. The control buffer is larger than one packet-info message.
    unsafe {
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_name = destination.as_ptr().cast_mut().cast();
        header.msg_namelen = destination.len();
        header.msg_iov = &raw mut slice;
        header.msg_iovlen = 1;
        if let Some(source) = source {
            header.msg_control = ptr::from_mut(&mut ancillary).cast();
            header.msg_controllen = size_of::<Ancillary>() as _;
            header.msg_controllen = put_source(&header, source) as _;
        }
        if libc::sendmsg(fd, &raw const header, 0) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Writes one packet-info message and returns the length of the control data.
///
/// # Safety
/// The control buffer of `header` must be alive, aligned, and have room for one packet-info message.
unsafe fn put_source(header: &libc::msghdr, source: IpAddr) -> usize {
    // SAFETY: `CMSG_FIRSTHDR` is the start of the buffer, which has room by the caller's word.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        let Some(head) = control.as_mut() else { return 0 };
        match source {
            IpAddr::V4(source) => {
                let mut info: libc::in_pktinfo = mem::zeroed();
                info.ipi_spec_dst.s_addr = u32::from_ne_bytes(source.octets());
                let size = size_of_val(&info) as u32;
                (head.cmsg_level, head.cmsg_type) = (libc::IPPROTO_IP, libc::IP_PKTINFO);
                head.cmsg_len = libc::CMSG_LEN(size) as _;
                ptr::write_unaligned(libc::CMSG_DATA(control).cast(), info);
                libc::CMSG_SPACE(size) as usize
            }
            IpAddr::V6(source) => {
                let mut info: libc::in6_pktinfo = mem::zeroed();
                info.ipi6_addr.s6_addr = source.octets();
                let size = size_of_val(&info) as u32;
                (head.cmsg_level, head.cmsg_type) = (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO);
                head.cmsg_len = libc::CMSG_LEN(size) as _;
                ptr::write_unaligned(libc::CMSG_DATA(control).cast(), info);
                libc::CMSG_SPACE(size) as usize
            }
        }
    }
}
