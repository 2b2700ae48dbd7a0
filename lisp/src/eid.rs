//! Endpoint identifiers. An EID never stands alone: the same address in two Instance-IDs is two EIDs
//! (RFC 9300 §8), so the Instance-ID is part of every key.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A 24-bit tenant tag (RFC 9300 §8). `0` is the default instance and travels as "no Instance-ID".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct InstanceId(u32);

impl InstanceId {
    /// The instance of packets and records that carry none.
    pub const DEFAULT: Self = Self(0);
    /// Reserved: in a data header it says that the payload is a control message
    /// (draft-ermagan-lisp-nat-traversal).
    pub const CONTROL: Self = Self(0x00ff_ffff);
    /// The largest Instance-ID that fits the wire, `0xffffff`.
    pub const MAX: u32 = 0x00ff_ffff;

    /// `None` when `value` does not fit 24 bits.
    pub const fn new(value: u32) -> Option<Self> {
        if value <= Self::MAX { Some(Self(value)) } else { None }
    }

    /// The 24-bit value.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for InstanceId {
    type Error = String;
    fn try_from(value: u32) -> Result<Self, String> {
        Self::new(value).ok_or_else(|| format!("Instance-ID {value} is not in 0..=16777215"))
    }
}

impl From<InstanceId> for u32 {
    fn from(value: InstanceId) -> u32 {
        value.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One endpoint: an address within an Instance-ID. Written `[7]fd00::1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Eid {
    /// The tenant.
    pub instance_id: InstanceId,
    /// The address inside that tenant.
    pub address: IpAddr,
}

impl Eid {
    /// An EID from its two halves.
    pub const fn new(instance_id: InstanceId, address: IpAddr) -> Self {
        Self { instance_id, address }
    }

    /// The host prefix (/32 or /128) that holds this EID alone.
    pub fn host_prefix(self) -> EidPrefix {
        EidPrefix {
            instance_id: self.instance_id,
            net: IpNet::from(self.address),
        }
    }
}

impl fmt::Display for Eid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]{}", self.instance_id, self.address)
    }
}

/// A block of EIDs within an Instance-ID. The host bits of `net` are always zero.
/// Written `[7]10.7.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EidPrefix {
    instance_id: InstanceId,
    net: IpNet,
}

/// Why a text or a record is no EID-prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Mask length beyond the address family's.
    #[error("mask length {0} is longer than the address")]
    MaskLength(u8),
    /// Not of the form `[iid]address/len` or `address/len`.
    #[error("`{0}` is no EID-prefix; write [INSTANCE-ID]ADDRESS/LENGTH, such as [7]10.7.0.0/16")]
    Syntax(String),
}

impl EidPrefix {
    /// Host bits of `net` are cleared.
    pub fn new(instance_id: InstanceId, net: IpNet) -> Self {
        Self {
            instance_id,
            net: net.trunc(),
        }
    }

    /// A prefix from an address and a mask length in bits.
    pub fn from_parts(instance_id: InstanceId, address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let net = IpNet::new(address, length).map_err(|_| PrefixError::MaskLength(length))?;
        Ok(Self::new(instance_id, net))
    }

    /// The tenant.
    pub const fn instance_id(&self) -> InstanceId {
        self.instance_id
    }

    /// The block of addresses.
    pub const fn net(&self) -> IpNet {
        self.net
    }

    /// Mask length in bits.
    pub fn length(&self) -> u8 {
        self.net.prefix_len()
    }

    /// The lowest EID inside: the one that stands for the prefix in a record.
    pub fn first_eid(&self) -> Eid {
        Eid::new(self.instance_id, self.net.addr())
    }

    /// Whether `eid` lies inside, in the same Instance-ID.
    pub fn contains(&self, eid: &Eid) -> bool {
        self.instance_id == eid.instance_id && self.net.contains(&eid.address)
    }

    /// Whether `other` is equal to or more specific than `self`.
    pub fn covers(&self, other: &EidPrefix) -> bool {
        self.instance_id == other.instance_id && self.net.contains(&other.net)
    }

    /// Whether one of the two covers the other.
    pub fn overlaps(&self, other: &EidPrefix) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl fmt::Display for EidPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]{}", self.instance_id, self.net)
    }
}

impl FromStr for EidPrefix {
    type Err = PrefixError;
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let syntax = || PrefixError::Syntax(text.to_owned());
        let (instance_id, rest) = match text.strip_prefix('[') {
            Some(rest) => {
                let (iid, rest) = rest.split_once(']').ok_or_else(syntax)?;
                let iid = iid.parse().ok().and_then(InstanceId::new).ok_or_else(syntax)?;
                (iid, rest)
            }
            None => (InstanceId::DEFAULT, text),
        };
        let net = match rest.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => IpNet::from(rest.parse::<IpAddr>().map_err(|_| syntax())?),
        };
        Ok(Self::new(instance_id, net))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> EidPrefix {
        text.parse().unwrap()
    }

    fn eid(instance_id: u32, address: &str) -> Eid {
        Eid::new(InstanceId::new(instance_id).unwrap(), address.parse().unwrap())
    }

    #[test]
    fn an_instance_id_has_24_bits() {
        assert_eq!(InstanceId::new(0x00ff_ffff), Some(InstanceId::CONTROL));
        assert_eq!(InstanceId::new(0x0100_0000), None);
        assert!(InstanceId::try_from(0x0100_0000).is_err());
    }

    #[test]
    fn a_prefix_is_read_with_and_without_its_instance_and_its_length() {
        assert_eq!(
            prefix("[7]10.7.3.9/16"),
            prefix("[7]10.7.0.0/16"),
            "host bits are cleared"
        );
        assert_eq!(prefix("10.7.0.1").length(), 32);
        assert_eq!(prefix("[0]fd00::1"), prefix("fd00::1/128"));
    }

    #[test]
    fn what_is_no_prefix_is_told_so() {
        for text in [
            "",
            "[",
            "[7]",
            "[7",
            "7]10.0.0.0/8",
            "[16777216]10.0.0.0/8",
            "[-1]10.0.0.0/8",
            "10.0.0.0/33",
        ] {
            assert_eq!(text.parse::<EidPrefix>(), Err(PrefixError::Syntax(text.to_owned())));
        }
        let address = "10.0.0.0".parse().unwrap();
        assert_eq!(
            EidPrefix::from_parts(InstanceId::DEFAULT, address, 33),
            Err(PrefixError::MaskLength(33))
        );
    }

    /// RFC 9300 §8: the same address in two instances is two EIDs.
    #[test]
    fn nothing_reaches_over_into_another_instance() {
        assert!(prefix("[7]10.7.0.0/16").contains(&eid(7, "10.7.255.255")));
        assert!(!prefix("[7]10.7.0.0/16").contains(&eid(8, "10.7.0.1")));
        assert!(!prefix("[7]0.0.0.0/0").covers(&prefix("[8]10.7.0.0/16")));
        assert!(!prefix("[7]0.0.0.0/0").overlaps(&prefix("[8]0.0.0.0/0")));
    }

    #[test]
    fn covering_is_equal_or_more_specific() {
        let (wide, narrow) = (prefix("[7]10.0.0.0/8"), prefix("[7]10.7.0.0/16"));
        assert!(wide.covers(&narrow) && wide.covers(&wide) && !narrow.covers(&wide));
        assert!(narrow.overlaps(&wide));
        assert!(
            !prefix("[7]0.0.0.0/0").covers(&prefix("[7]::/0")),
            "the families are apart"
        );
    }
}
