//! Frames and datagrams that no honest stack would send.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::{LabError, Namespace, Result};

/// A socket that sends whole Ethernet frames out of one interface.
#[derive(Debug)]
pub struct LinkSocket {
    descriptor: OwnedFd,
    index: u32,
}

impl LinkSocket {
    /// Opens it in `namespace`.
    ///
    /// # Errors
    /// When the interface is not there.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let name = std::ffi::CString::new(interface)
            .map_err(|_| LabError::Unexpected("an interface name with a NUL".into()))?;
        namespace
            .within(move || {
                // SAFETY: plain system calls; `name` is a NUL-terminated string that outlives the call, and the
                // descriptor is checked before it is owned.
                unsafe {
                    let index = libc::if_nametoindex(name.as_ptr());
                    let raw = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
                    if index == 0 || raw < 0 {
                        return Err(io::Error::last_os_error());
                    }
                    Ok(Self {
                        descriptor: OwnedFd::from_raw_fd(raw),
                        index,
                    })
                }
            })?
            .map_err(|source| LabError::Io {
                what: "open a link socket".into(),
                source,
            })
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: `address` is a valid sockaddr_ll of the length given; all-zero is a valid value of it.
        let sent = unsafe {
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET.cast_unsigned() as u16;
            address.sll_ifindex = self.index.cast_signed();
            libc::sendto(
                self.descriptor.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 {
            return Err(LabError::Io {
                what: "send a frame".into(),
                source: io::Error::last_os_error(),
            });
        }
        Ok(())
    }
}

/// An Ethernet frame around an IP packet.
#[must_use]
pub fn ethernet(destination: [u8; 6], source: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet.first().is_some_and(|byte| byte >> 4 == 6) {
        [0x86, 0xdd]
    } else {
        [0x08, 0x00]
    };
    [&destination[..], &source[..], &kind[..], packet].concat()
}

/// An IPv6 packet with a UDP datagram, checksums right.
///
/// # Panics
/// When the payload is longer than a packet can be.
#[must_use]
pub fn ipv6_udp(source: Ipv6Addr, destination: Ipv6Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv6(source.octets(), destination.octets(), 64)
        .udp(ports.0, ports.1)
        .write(&mut packet, payload)
        .expect("a payload that fits");
    packet
}

/// Sends `payload` from a UDP socket bound to `from` in `namespace`; gives the socket, to listen for answers.
///
/// # Errors
/// When the address cannot be bound or the datagram not sent.
pub fn udp_from(namespace: &Namespace, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Result<UdpSocket> {
    let payload = payload.to_vec();
    namespace
        .within(move || {
            let socket = UdpSocket::bind(from)?;
            socket.send_to(&payload, to)?;
            Ok(socket)
        })?
        .map_err(|source: io::Error| LabError::Io {
            what: format!("send from {from} to {to}"),
            source,
        })
}
