//! Data packets whose outer UDP checksum is zero (RFC 9300 section 5.3), over both families. Needs root.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

use lisp::{InstanceId, wire::DataHeader};
use weft_tests::net::{Fabric, LabError, Namespace, Result, SiteKind, Tap, dissect, ipv6_udp, scenario, until};

const PATIENCE: Duration = Duration::from_secs(5);
const DATA_PORT: u16 = 4341;

/// Sends a datagram without a checksum from `from` to the data port of `to`.
fn without_checksum(namespace: &Namespace, from: IpAddr, to: IpAddr, payload: Vec<u8>) -> Result<()> {
    let send = move || -> io::Result<()> {
        let socket = UdpSocket::bind(SocketAddr::new(from, 0))?;
        let (level, name) = match from {
            IpAddr::V4(_) => (libc::SOL_SOCKET, libc::SO_NO_CHECK),
            IpAddr::V6(_) => (libc::SOL_UDP, libc::UDP_NO_CHECK6_TX),
        };
        let on: libc::c_int = 1;
        // SAFETY: the option is a whole number, and `on` outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                name,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        socket.send_to(&payload, SocketAddr::new(to, DATA_PORT))?;
        Ok(())
    };
    namespace.within(send)?.map_err(|source| LabError::Io {
        what: "send without a checksum".into(),
        source,
    })
}

#[test]
fn a_zero_checksum_is_accepted_over_both_families() {
    scenario(|lab| {
        let fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::Dual])?;
        fabric.until_connected(1, 2)?;
        let (from, to) = (&fabric.sites[0], &fabric.sites[1]);
        let tenant = InstanceId::new(7).unwrap();
        let outer = Tap::start(&to.namespace, "wan0", "udp port 4341")?;
        let inner = Tap::start(fabric.guest(2).namespace(), "eth0", "udp")?;
        let pairs: [(IpAddr, IpAddr, u16); 2] = [
            (from.ipv4.unwrap().into(), to.ipv4.unwrap().into(), 7004),
            (from.ipv6.unwrap().into(), to.ipv6.unwrap().into(), 7006),
        ];
        for (source, destination, port) in pairs {
            let guests: [Ipv6Addr; 2] = ["fd07::1".parse().unwrap(), "fd07::2".parse().unwrap()];
            let packet = ipv6_udp(guests[0], guests[1], (7000, port), b"no checksum outside");
            let mut payload = DataHeader::clear(tenant).encode().to_vec();
            payload.extend_from_slice(&packet);
            without_checksum(&from.namespace, source, destination, payload)?;
            let sent = format!("udp.checksum == 0 && udp.dstport == {port}");
            until("it passes the wire without a checksum", PATIENCE, || {
                Ok((!dissect(outer.file(), &sent)?.is_empty()).then_some(()))
            })?;
            until("the guest gets what was inside", PATIENCE, || {
                let seen = dissect(inner.file(), &format!("udp.dstport == {port} && ipv6.dst == fd07::2"))?;
                Ok((!seen.is_empty()).then_some(()))
            })?;
        }
        Ok(())
    });
}
