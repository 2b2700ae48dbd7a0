//! Addresses with an AFI in front, and LCAF, the canonical address format (RFC 8060, RFC 9306).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An AFI and the address it announces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AfiAddress {
    /// AFI 0: no address.
    None,
    /// AFI 1 or 2.
    Ip(IpAddr),
    /// AFI 6 or 16389: MAC-48. The AFI is kept so that it goes out as it came in.
    Mac {
        /// 6 or 16389.
        afi: u16,
        /// The address.
        address: [u8; 6],
    },
    /// AFI 17: distinguished name, without its NUL.
    Name(Vec<u8>),
    /// AFI 16387.
    Lcaf(Box<Lcaf>),
}

/// The body of an LCAF. Unknown types are carried through untouched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "field names are RFC 8060's, section named at each variant")]
pub enum Lcaf {
    /// Type 0.
    Null,
    /// Type 1, §4.1.1 and §4.16.
    AfiList(Vec<AfiAddress>),
    /// Type 2, §4.1. `mask_len` is the IID mask-len of rsvd2.
    InstanceId { mask_len: u8, instance_id: u32, address: AfiAddress },
    /// Type 3, §4.2.
    AsNumber { asn: u32, address: AfiAddress },
    /// Type 4, §5.1.
    Application { tos_tc_flow: [u8; 3], protocol: u8, local_ports: (u16, u16), remote_ports: (u16, u16), address: AfiAddress },
    /// Type 5, §4.3; raw coordinates.
    Geo { north: bool, latitude: (u16, u8, u8), east: bool, longitude: (u16, u8, u8), altitude: i32, address: AfiAddress },
    /// Type 6, §5.2.
    OpaqueKey { fields: u8, wildcard: u16, key: Vec<u8> },
    /// Type 7, §4.4.
    NatTraversal { ms_port: u16, etr_port: u16, global_etr: AfiAddress, ms: AfiAddress, private_etr: AfiAddress, rtrs: Vec<AfiAddress> },
    /// Type 10, §4.6.
    ExplicitLocatorPath(Vec<ElpHop>),
    /// Type 11, §4.7 with RFC 8061's reading; `rsvd` kept as it came.
    SecurityKey { cipher_suite: u8, revoke: bool, keys: Vec<Vec<u8>>, address: AfiAddress },
    /// Type 12, §4.8.
    SourceDest { source_mask: u8, dest_mask: u8, source: AfiAddress, dest: AfiAddress },
    /// Type 13, §4.9.
    ReplicationList(Vec<(u8, AfiAddress)>),
    /// Type 14, §5.4.
    Json { binary: bool, json: Vec<u8>, address: Option<AfiAddress> },
    /// Type 15, §5.5.
    KeyValue { key: AfiAddress, value: AfiAddress },
    /// Type 16, §5.6; the U..L bits.
    Encapsulation { formats: u8, address: AfiAddress },
    /// Type 255, RFC 9306.
    Vendor { oui: [u8; 3], data: Vec<u8> },
    /// Any other: head and body as they came.
    Unknown { rsvd1: u8, flags: u8, kind: u8, rsvd2: u8, body: Vec<u8> },
}

/// One hop of an explicit locator path (RFC 8060 §4.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ElpHop {
    /// L: look the address up.
    pub lookup: bool,
    /// P: RLOC-probe it.
    pub probe: bool,
    /// S: must be visited.
    pub strict: bool,
    /// The hop.
    pub address: AfiAddress,
}

impl From<IpAddr> for AfiAddress {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl From<Ipv4Addr> for AfiAddress {
    fn from(address: Ipv4Addr) -> Self {
        Self::Ip(address.into())
    }
}

impl From<Ipv6Addr> for AfiAddress {
    fn from(address: Ipv6Addr) -> Self {
        Self::Ip(address.into())
    }
}
