//! EID-records and RLOC-records (RFC 9301 §5.4): what Map-Reply, Map-Register and Map-Notify share.

use serde::Serialize;

use super::{AfiAddress, EncodeError, Lcaf, WireError, reader::Reader, writer::Writer};
use crate::{DATA_PORT, EidPrefix, Locator, Mapping, NegativeAction, Rloc, Ttl};

/// Bytes of the smallest EID-record: its EID has AFI 0, and no locators follow.
const EID_RECORD_MIN: usize = 12;
/// Bytes of the smallest RLOC-record: its locator has AFI 0.
const RLOC_RECORD_MIN: usize = 8;

const AUTHORITATIVE: u16 = 0x1000;
const LOCAL: u16 = 0x0004;
const PROBED: u16 = 0x0002;
const REACHABLE: u16 = 0x0001;

/// An EID-record as it travels: the EID may be of any AFI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// The locators, in wire order; at most 255.
    pub locators: Vec<RlocRecord>,
}

/// An RLOC-record as it travels: the locator may be of any AFI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

impl EidRecord {
    /// The record that announces `mapping`, locators in ascending order. At most 255 locators are announced.
    pub fn from_mapping(mapping: &Mapping) -> Self {
        let prefix = &mapping.prefix;
        let mut record = Self {
            ttl: mapping.ttl,
            mask_len: prefix.length(),
            action: mapping.action,
            authoritative: mapping.authoritative,
            version: mapping.version,
            eid: AfiAddress::from_eid(&prefix.first_eid()),
            locators: mapping.locators.iter().map(RlocRecord::from).collect(),
        };
        record.sort_locators();
        record
    }

    /// The EID-prefix, when the EID is an IP prefix.
    pub fn prefix(&self) -> Result<EidPrefix, WireError> {
        prefix(&self.eid, self.mask_len)
    }

    /// The mapping; locators that are no IP address are left out (RFC 9306 §3). When none is left the mapping is
    /// negative. Host bits of the EID are cleared. A second and later p-bit is ignored (RFC 9301 §5.4).
    pub fn to_mapping(&self) -> Result<Mapping, WireError> {
        let mut probed = false;
        let mut locators: Vec<Locator> = self.locators.iter().filter_map(RlocRecord::to_locator).collect();
        for locator in &mut locators {
            locator.probed &= !probed;
            probed |= locator.probed;
        }
        let mut mapping = Mapping::new(self.prefix()?, self.ttl, locators);
        mapping.action = self.action;
        mapping.authoritative = self.authoritative;
        mapping.version = self.version;
        Ok(mapping)
    }

    /// Puts the locators in the order that a Map-Reply must have: IPv4 before IPv6, ascending, LCAFs by type behind
    /// them (RFC 9301 §5.4, RFC 8060 §3). Locator-Status-Bits count by this order.
    pub fn sort_locators(&mut self) {
        self.locators.sort_by_cached_key(|locator| locator.rloc.sort_key());
    }

    /// Reads one record with its locators from `bytes`, all of which must be used.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let record = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(record)
    }

    /// The record alone, as it stands in a message; of more than 255 locators the first 255.
    pub fn encode(&self) -> Vec<u8> {
        Writer::clamped(|writer| self.write(writer))
    }

    /// The record alone, or what of it does not fit.
    pub fn try_encode(&self) -> Result<Vec<u8>, EncodeError> {
        Writer::checked(|writer| self.write(writer))
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let ttl = Ttl(reader.u32("Record TTL")?);
        let count = reader.u8("Locator count")?;
        let mask_offset = reader.offset();
        let mask_len = reader.u8("EID mask-len")?;
        let bits = reader.u16("ACT and A-bit")?;
        let version = reader.u16("Map-Version")? & 0x0fff;
        let eid = AfiAddress::read(reader)?;
        check_mask(&eid, mask_len, mask_offset)?;
        Ok(Self {
            ttl,
            mask_len,
            action: NegativeAction::from_code((bits >> 13) as u8),
            authoritative: bits & AUTHORITATIVE != 0,
            version,
            eid,
            locators: read_rlocs(reader, count)?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let (count, locators) = writer.fit_u8(&self.locators, "locators");
        writer.u32(self.ttl.0);
        writer.u8(count);
        write_mask(writer, &self.eid, self.mask_len);
        writer.u16(u16::from(self.action.code()) << 13 | if self.authoritative { AUTHORITATIVE } else { 0 });
        let version = writer.fit_bits(self.version.into(), 12, "Map-Version");
        writer.u16(version as u16);
        self.eid.write(writer);
        locators.iter().for_each(|locator| locator.write(writer));
    }

    /// Reads `count` records.
    pub(crate) fn read_many(reader: &mut Reader<'_>, count: u8) -> Result<Vec<Self>, WireError> {
        let mut records = Vec::with_capacity(usize::from(count).min(reader.remaining() / EID_RECORD_MIN));
        for _ in 0..count {
            records.push(Self::read(reader)?);
        }
        Ok(records)
    }
}

impl RlocRecord {
    /// The locator, when it is an IP address. A NAT-Traversal LCAF also carries the port of data packets.
    pub fn to_locator(&self) -> Option<Locator> {
        let port = match &self.rloc {
            AfiAddress::Lcaf(lcaf) => match **lcaf {
                Lcaf::NatTraversal { etr_port, .. } => etr_port,
                _ => DATA_PORT,
            },
            _ => DATA_PORT,
        };
        Some(Locator {
            rloc: Rloc {
                address: self.rloc.ip()?,
                port,
            },
            priority: self.priority,
            weight: self.weight,
            reachable: self.reachable,
            local: self.local,
            probed: self.probed,
        })
    }

    /// Bytes that it takes in a message.
    pub fn encoded_len(&self) -> usize {
        Writer::clamped(|writer| self.write(writer)).len()
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let [priority, weight, m_priority, m_weight] = reader.array("priorities and weights")?;
        let bits = reader.u16("locator flags")?;
        Ok(Self {
            priority,
            weight,
            m_priority,
            m_weight,
            local: bits & LOCAL != 0,
            probed: bits & PROBED != 0,
            reachable: bits & REACHABLE != 0,
            rloc: AfiAddress::read(reader)?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.bytes(&[self.priority, self.weight, self.m_priority, self.m_weight]);
        let bit = |set: bool, bit: u16| if set { bit } else { 0 };
        writer.u16(bit(self.local, LOCAL) | bit(self.probed, PROBED) | bit(self.reachable, REACHABLE));
        self.rloc.write(writer);
    }
}

impl From<&Locator> for RlocRecord {
    /// No multicast use (M-priority 255, RFC 9301 §5.4). A data port other than 4341 travels in a NAT-Traversal LCAF.
    fn from(locator: &Locator) -> Self {
        let address = AfiAddress::Ip(locator.rloc.address);
        let rloc = if locator.rloc.port == DATA_PORT {
            address
        } else {
            Lcaf::NatTraversal {
                ms_port: 0,
                etr_port: locator.rloc.port,
                global_etr: address,
                ms: AfiAddress::None,
                private_etr: AfiAddress::None,
                rtrs: Vec::new(),
            }
            .into()
        };
        Self {
            priority: locator.priority,
            weight: locator.weight,
            m_priority: Locator::NEVER,
            m_weight: 0,
            local: locator.local,
            probed: locator.probed,
            reachable: locator.reachable,
            rloc,
        }
    }
}

/// Reads `count` RLOC-records.
pub(crate) fn read_rlocs(reader: &mut Reader<'_>, count: u8) -> Result<Vec<RlocRecord>, WireError> {
    let mut rlocs = Vec::with_capacity(usize::from(count).min(reader.remaining() / RLOC_RECORD_MIN));
    for _ in 0..count {
        rlocs.push(RlocRecord::read(reader)?);
    }
    Ok(rlocs)
}

/// The IP prefix that `eid` and `mask_len` name.
pub(crate) fn prefix(eid: &AfiAddress, mask_len: u8) -> Result<EidPrefix, WireError> {
    let invalid = |reason: String| WireError::Invalid {
        offset: 0,
        field: "EID-prefix",
        reason,
    };
    let Some(eid) = eid.to_eid() else {
        return Err(invalid(format!("{eid} is no IP address within a 24-bit Instance-ID")));
    };
    EidPrefix::from_parts(eid.instance_id, eid.address, mask_len).map_err(|error| invalid(error.to_string()))
}

/// A mask longer than the address it masks makes the message invalid.
pub(crate) fn check_mask(eid: &AfiAddress, mask_len: u8, offset: usize) -> Result<(), WireError> {
    match longest_mask(eid) {
        Some(most) if mask_len > most => Err(WireError::Invalid {
            offset,
            field: "EID mask-len",
            reason: format!("{mask_len} bits of an address that has {most}"),
        }),
        _ => Ok(()),
    }
}

/// Writes a mask length; one that no receiver accepts is cut to the whole address, and a fault.
pub(crate) fn write_mask(writer: &mut Writer, eid: &AfiAddress, mask_len: u8) {
    let most = longest_mask(eid).unwrap_or(u8::MAX);
    if mask_len > most {
        let (value, max) = (mask_len.into(), most.into());
        writer.fault(EncodeError::TooLarge {
            what: "EID mask-len",
            value,
            max,
        });
    }
    writer.u8(mask_len.min(most));
}

/// Bits of an IP address, bare or in an Instance-ID.
fn longest_mask(eid: &AfiAddress) -> Option<u8> {
    match eid {
        AfiAddress::Ip(address) => Some(if address.is_ipv4() { 32 } else { 128 }),
        AfiAddress::Lcaf(lcaf) => match &**lcaf {
            Lcaf::InstanceId { address, .. } if matches!(address, AfiAddress::Ip(_)) => longest_mask(address),
            _ => None,
        },
        _ => None,
    }
}
