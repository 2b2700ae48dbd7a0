//! Opening of an uplink's sockets. Control does this; the packet path is handed the descriptors.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::sys::{packet, sockopt};

/// The LISP data port.
pub const DATA_PORT: u16 = 4341;

/// First port that sending sockets take: the dynamic range of RFC 6335, as RFC 9300 (section 5.3) wants for entropy.
const FIRST_SOURCE_PORT: u16 = 49_152;

/// Bytes of receive buffer asked for: a burst at 10 Gbit/s while the packet path is busy elsewhere.
const RECEIVE_BUFFER: libc::c_int = 8 << 20;
/// Bytes of send buffer asked for: enough to keep a fast NIC busy, little enough that a slow one does not hoard.
const SEND_BUFFER: libc::c_int = 2 << 20;
/// Nothing is ever read from a sending socket.
const NO_BUFFER: libc::c_int = 4096;

/// Opens the sockets of an uplink with these RLOCs, in the order that [`crate::control::UplinkConfig`] describes:
/// first those that receive on port 4341, one for each address, then `source_ports` sending ones for each address.
/// With `interface` packets leave by that interface whatever the routes say.
///
/// Sends never fragment and heed what the kernel has learned of the path's MTU (`IP_PMTUDISC_DO`): ICMP from the
/// middle of a path is the only thing that knows of a smaller link there, and a datagram beyond it is refused here,
/// with an event, where `IP_PMTUDISC_PROBE` would let it vanish. [`path_mtu`] says what fits.
///
/// # Errors
/// An address is not on this host, or something else is bound to port 4341 of it.
pub fn open_uplink(addresses: &[IpAddr], source_ports: u8, interface: Option<&str>) -> io::Result<Vec<OwnedFd>> {
    let interface = interface.map(packet::interface_index).transpose()?;
    let mut sockets = Vec::new();
    for &address in addresses {
        let socket = open_receiving(address, interface).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("UDP {}: {error}", SocketAddr::new(address, DATA_PORT)),
            )
        })?;
        sockets.push(socket.into());
    }
    for &address in addresses {
        let mut ports = FIRST_SOURCE_PORT..=u16::MAX;
        for _ in 0..source_ports {
            sockets.push(open_sending(address, interface, &mut ports)?.into());
        }
    }
    Ok(sockets)
}

/// Largest IP packet, in bytes, that the kernel believes the path from `local` to `remote` takes.
///
/// # Errors
/// No route.
#[allow(clippy::disallowed_methods, reason = "for control, which has the right to")]
pub fn path_mtu(local: IpAddr, remote: IpAddr) -> io::Result<u32> {
    let socket = UdpSocket::bind((local, 0))?;
    socket.connect((remote, DATA_PORT))?;
    let mtu = if remote.is_ipv4() {
        sockopt::get(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MTU)?
    } else {
        sockopt::get(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU)?
    };
    u32::try_from(mtu).map_err(io::Error::other)
}

/// Index of the interface that packets of a socket of [`open_uplink`] leave by, whatever bears its name now; 0 when the
/// routes decide. `address` is the RLOC of the socket.
///
/// # Errors
/// It is not a socket of the family of `address`.
pub fn interface_of(socket: BorrowedFd<'_>, address: IpAddr) -> io::Result<u32> {
    let (level, name) = unicast_if(address);
    // In network byte order in both families.
    sockopt::get(socket, level, name).map(|index| u32::from_be(index.cast_unsigned()))
}

fn open_receiving(address: IpAddr, interface: Option<u32>) -> io::Result<Socket> {
    let socket = open(address, interface)?;
    let fd = socket.as_fd();
    match address {
        IpAddr::V4(_) => {
            sockopt::set(fd, libc::IPPROTO_IP, libc::IP_RECVTTL, 1)?;
            sockopt::set(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        }
        IpAddr::V6(_) => {
            sockopt::set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, 1)?;
            sockopt::set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
            // RFC 9300, section 5.3: a zero checksum must be accepted over IPv6 too.
            sockopt::set(fd, libc::SOL_UDP, libc::UDP_NO_CHECK6_RX, 1)?;
        }
    }
    // Without it every datagram comes alone.
    let _ = sockopt::set(fd, libc::SOL_UDP, libc::UDP_GRO, 1);
    sockopt::set_buffers(fd, RECEIVE_BUFFER, SEND_BUFFER);
    socket.bind(&SocketAddr::new(address, DATA_PORT).into())?;
    Ok(socket)
}

fn open_sending(address: IpAddr, interface: Option<u32>, ports: &mut impl Iterator<Item = u16>) -> io::Result<Socket> {
    let socket = open(address, interface)?;
    sockopt::set_buffers(socket.as_fd(), NO_BUFFER, SEND_BUFFER);
    // What is sent to these ports is nobody's.
    socket.attach_filter(&[SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0)])?;
    for port in ports {
        match socket.bind(&SocketAddr::new(address, port).into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            other => return other.map(|()| socket),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("no source port is free on {address}"),
    ))
}

/// A non-blocking UDP socket that does not fragment.
fn open(address: IpAddr, interface: Option<u32>) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address((address, 0).into()),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    let fd = socket.as_fd();
    match address {
        IpAddr::V4(_) => {
            sockopt::set(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)?;
            sockopt::set(
                fd,
                libc::IPPROTO_IP,
                libc::IP_TTL,
                i32::from(crate::sys::mmsg::DEFAULT_TTL),
            )?;
        }
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            sockopt::set(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)?;
            let hops = i32::from(crate::sys::mmsg::DEFAULT_TTL);
            sockopt::set(fd, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, hops)?;
        }
    }
    if let Some(index) = interface {
        leave_by(fd, address, index)?;
    }
    Ok(socket)
}

fn leave_by(fd: BorrowedFd<'_>, address: IpAddr, index: u32) -> io::Result<()> {
    let (level, name) = unicast_if(address);
    sockopt::set(fd, level, name, index.to_be().cast_signed())
}

fn unicast_if(address: IpAddr) -> (libc::c_int, libc::c_int) {
    match address {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_UNICAST_IF),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_IF),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn a_socket_knows_the_interface_that_it_is_tied_to() {
        let loopback = packet::interface_index("lo").expect("lo");
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let tied = open(address, Some(loopback)).expect("a socket");
            assert_eq!(interface_of(tied.as_fd(), address).expect("an index"), loopback);
            let free = open(address, None).expect("a socket");
            assert_eq!(interface_of(free.as_fd(), address).expect("an index"), 0);
        }
    }
}
