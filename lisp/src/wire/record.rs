//! EID-records and RLOC-records (RFC 9301 §5.4): what Map-Reply, Map-Register and Map-Notify share.

use super::{AfiAddress, WireError};
use crate::{Eid, EidPrefix, InstanceId, Locator, Mapping, NegativeAction, Ttl};

/// An EID-record as it travels: the EID may be of any AFI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EidRecord {
    /// Record TTL.
    pub ttl: Ttl,
    /// EID mask-len in bits (of the inner address when the EID is an LCAF Instance-ID).
    pub mask_len: u8,
    /// ACT.
    pub action: NegativeAction,
    /// A-bit.
    pub authoritative: bool,
    /// Map-Version, 12 bits.
    pub version: u16,
    /// The EID.
    pub eid: AfiAddress,
    /// The locators, in wire order.
    pub locators: Vec<RlocRecord>,
}

/// An RLOC-record as it travels: the locator may be of any AFI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RlocRecord {
    /// Lower is preferred, 255 never.
    pub priority: u8,
    /// Weight.
    pub weight: u8,
    /// Multicast priority.
    pub m_priority: u8,
    /// Multicast weight.
    pub m_weight: u8,
    /// L-bit.
    pub local: bool,
    /// p-bit.
    pub probed: bool,
    /// R-bit.
    pub reachable: bool,
    /// The locator.
    pub rloc: AfiAddress,
}

impl AfiAddress {
    /// `eid` as it travels: a plain AFI in Instance-ID 0, LCAF type 2 otherwise.
    pub fn from_eid(eid: &Eid) -> Self {
        let _ = eid;
        unimplemented!()
    }

    /// The EID, when this is an IP address, bare or in an LCAF Instance-ID.
    pub fn to_eid(&self) -> Option<Eid> {
        unimplemented!()
    }

    /// The IP address, bare or inside LCAFs that only decorate it (types 2, 3, 11, 16 …; the first of an AFI-list).
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        unimplemented!()
    }
}

impl EidRecord {
    /// The record that announces `mapping`.
    pub fn from_mapping(mapping: &Mapping) -> Self {
        let _ = mapping;
        unimplemented!()
    }

    /// The EID-prefix, when the EID is an IP prefix.
    pub fn prefix(&self) -> Result<EidPrefix, WireError> {
        unimplemented!()
    }

    /// The mapping; locators that are no IP address are left out.
    pub fn to_mapping(&self) -> Result<Mapping, WireError> {
        unimplemented!()
    }
}

impl From<&Locator> for RlocRecord {
    fn from(locator: &Locator) -> Self {
        let _ = locator;
        unimplemented!()
    }
}

/// Keeps the import list of this contract honest until the codec uses it.
const _: Option<InstanceId> = None;
