//! A guest port as the stages see it.

use std::net::IpAddr;

use crate::{
    control::{Attachment, PortConfig},
    parse::Family,
    tables::Retired,
};

/// A guest port.
#[derive(Debug)]
pub struct Port {
    /// What control said.
    pub config: PortConfig,
    /// Raised when it is replaced or removed.
    pub retired: Retired,
}

impl Port {
    /// Whether the guest may use `address` as its own: one of its addresses, or one behind it.
    #[inline]
    pub fn owns(&self, address: IpAddr) -> bool {
        self.config.addresses.contains(&address) || self.config.routed.iter().any(|net| net.contains(&address))
    }

    /// Whether super-packets and partial checksums may be handed to it: it has a vnet header to say so with.
    #[inline]
    pub const fn takes_offloads(&self) -> bool {
        match self.config.attachment {
            Attachment::Tap { vnet_header, .. } | Attachment::Packet { vnet_header, .. } => vnet_header != 0,
            Attachment::Memory => true,
        }
    }

    /// Whether `address` is one of the gateway's on this NIC.
    #[inline]
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        let gateway = &self.config.gateway;
        match address {
            IpAddr::V4(address) => gateway.ipv4.is_some_and(|(own, _)| own == address),
            IpAddr::V6(address) => gateway.ipv6 == address,
        }
    }

    /// Whether `address` is broadcast or multicast, the subnet's own broadcast address included.
    pub fn is_group(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => {
                let subnet = self
                    .config
                    .gateway
                    .ipv4
                    .map(|(_, net)| net)
                    .filter(|net| net.prefix_len() < 31);
                a.is_multicast() || a.is_broadcast() || subnet.is_some_and(|net| net.broadcast() == a)
            }
            IpAddr::V6(a) => a.is_multicast(),
        }
    }

    /// Resolvers beyond the gateway that the guest is told of: those of one family on the DNS port, three at most.
    pub fn resolvers(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        let servers = self.config.gateway.dns_upstream.iter();
        let fit = servers.filter(move |server| server.port() == 53 && Family::of(server.ip()) == family);
        fit.map(|server| server.ip()).take(3)
    }
}
