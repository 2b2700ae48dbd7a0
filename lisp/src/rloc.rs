//! Routing locators: where an endpoint is attached to the underlay.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

/// UDP port of LISP data packets (RFC 9300 §5.3).
pub const DATA_PORT: u16 = 4341;
/// UDP port of LISP control messages (RFC 9301 §5).
pub const CONTROL_PORT: u16 = 4342;

/// An underlay address and the UDP port its data packets go to (4341 unless a NAT translated it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rloc {
    /// The underlay address.
    pub address: IpAddr,
    /// UDP destination port of data packets.
    pub port: u16,
}

impl Rloc {
    /// An RLOC on the standard data port.
    pub const fn new(address: IpAddr) -> Self {
        Self {
            address,
            port: DATA_PORT,
        }
    }

    /// Where data packets go.
    pub const fn data_address(self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Where control messages go.
    pub const fn control_address(self) -> SocketAddr {
        SocketAddr::new(self.address, CONTROL_PORT)
    }

    /// Whether this may be somebody's locator at all: not unspecified, multicast or broadcast
    /// (RFC 9301 §9, amplification).
    pub const fn is_usable(self) -> bool {
        match self.address {
            IpAddr::V4(a) => !a.is_unspecified() && !a.is_multicast() && !a.is_broadcast(),
            IpAddr::V6(a) => !a.is_unspecified() && !a.is_multicast(),
        }
    }
}

impl From<IpAddr> for Rloc {
    fn from(address: IpAddr) -> Self {
        Self::new(address)
    }
}

impl fmt::Display for Rloc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.port == DATA_PORT {
            self.address.fmt(f)
        } else {
            self.data_address().fmt(f)
        }
    }
}
