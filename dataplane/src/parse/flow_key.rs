//! What a flow is known by: address family, five-tuple, and the numbers that it is made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::parse::{IPV4, IPV6};

/// IP protocol numbers that stages look at.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// TCP flags.
pub mod tcp {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK.
    pub const ACK: u8 = 0x10;
    /// URG.
    pub const URG: u8 = 0x20;
    /// ECE.
    pub const ECE: u8 = 0x40;
    /// CWR.
    pub const CWR: u8 = 0x80;
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Whether this is IPv6.
    pub const fn is_v6(self) -> bool {
        matches!(self, Self::V6)
    }

    /// Family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Its EtherType.
    pub const fn ether_type(self) -> u16 {
        match self {
            Self::V4 => IPV4,
            Self::V6 => IPV6,
        }
    }

    /// The address that `bits` stand for in this family.
    pub const fn address(self, bits: u128) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            Self::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        }
    }
}

/// An address as a number; IPv4 in the low 32 bits.
pub const fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits() as u128,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A five-tuple within a network, one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Source address as a number.
    pub source: u128,
    /// Destination address as a number.
    pub destination: u128,
    /// The network (or another scope that keeps equal addresses apart).
    pub scope: u32,
    /// Source transport port. ICMP echo: the identifier in a request, 0 in a reply. Other ICMP: type and code.
    pub source_port: u16,
    /// Destination transport port. ICMP echo: 0 in a request, the identifier in a reply.
    pub destination_port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// Address family.
    pub family: Family,
}

impl FlowKey {
    /// The key of packets in the other direction.
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..*self
        }
    }

    /// Source address.
    pub const fn source_address(&self) -> IpAddr {
        self.family.address(self.source)
    }

    /// Destination address.
    pub const fn destination_address(&self) -> IpAddr {
        self.family.address(self.destination)
    }
}
