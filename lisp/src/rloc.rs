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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_can_be_reached_at_is_no_locator() {
        let usable = |text: &str| Rloc::new(text.parse().unwrap()).is_usable();
        for text in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"] {
            assert!(!usable(text), "{text}");
        }
        assert!(usable("192.0.2.1") && usable("2001:db8::1"));
    }

    #[test]
    fn a_port_is_shown_only_when_it_is_another() {
        let mut rloc = Rloc::new("2001:db8::1".parse().unwrap());
        assert_eq!(rloc.to_string(), "2001:db8::1");
        rloc.port = 54321;
        assert_eq!(rloc.to_string(), "[2001:db8::1]:54321");
        assert_eq!(
            rloc.control_address().port(),
            CONTROL_PORT,
            "control does not follow the data port"
        );
    }
}
