//! Addresses with an AFI in front: what every EID and RLOC field of a control message holds.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::Serialize;

use super::{EncodeError, Lcaf, WireError, reader::Reader, text, writer::Writer};
use crate::{Eid, InstanceId};

/// LCAFs within LCAFs that are still read. Deployed encodings nest three deep; a bound keeps the recursion small.
pub(crate) const NESTING_LIMIT: usize = 8;

const AFI_NONE: u16 = 0;
const AFI_IPV4: u16 = 1;
const AFI_IPV6: u16 = 2;
/// What lispers.net sends for MAC-48.
const AFI_MAC_802: u16 = 6;
const AFI_NAME: u16 = 17;
const AFI_LCAF: u16 = 16387;
/// What IANA assigned to MAC-48.
const AFI_MAC_48: u16 = 16389;

/// An AFI and the address it announces.
///
/// Any other AFI makes the whole message invalid (RFC 9301 §5 requires that it be dropped), because the length of
/// its address is not known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
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
        #[serde(serialize_with = "text::hex")]
        address: [u8; 6],
    },
    /// AFI 17: distinguished name, without its NUL.
    Name(#[serde(serialize_with = "text::name")] Vec<u8>),
    /// AFI 16387.
    Lcaf(Box<Lcaf>),
}

impl AfiAddress {
    /// `eid` as it travels: a plain AFI in Instance-ID 0, LCAF type 2 otherwise (RFC 8060 §4.1).
    pub fn from_eid(eid: &Eid) -> Self {
        let address = Self::Ip(eid.address);
        if eid.instance_id == InstanceId::DEFAULT {
            return address;
        }
        Lcaf::InstanceId {
            mask_len: 0,
            instance_id: eid.instance_id.get(),
            address,
        }
        .into()
    }

    /// The EID, when this is an IP address, bare or in an LCAF Instance-ID. `None` also when the Instance-ID does not
    /// fit the 24 bits of a data header.
    pub fn to_eid(&self) -> Option<Eid> {
        let (instance_id, address) = match self {
            Self::Ip(address) => (InstanceId::DEFAULT, *address),
            Self::Lcaf(lcaf) => match &**lcaf {
                Lcaf::InstanceId {
                    instance_id,
                    address: Self::Ip(address),
                    ..
                } => (InstanceId::new(*instance_id)?, *address),
                _ => return None,
            },
            _ => return None,
        };
        Some(Eid::new(instance_id, address))
    }

    /// The IP address, bare or inside LCAFs that only decorate it (types 2, 3, 4, 5, 11, 14 and 16, the global address
    /// of a type 7, the first that there is in an AFI-list). An explicit locator path or a replication list is no
    /// single address: sending to one of its hops would go around the others.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Lcaf(lcaf) => match &**lcaf {
                Lcaf::AfiList(list) => list.iter().find_map(Self::ip),
                Lcaf::InstanceId { address, .. }
                | Lcaf::AsNumber { address, .. }
                | Lcaf::Application { address, .. }
                | Lcaf::Geo { address, .. }
                | Lcaf::SecurityKey { address, .. }
                | Lcaf::Encapsulation { address, .. }
                | Lcaf::NatTraversal {
                    global_etr: address, ..
                } => address.ip(),
                Lcaf::Json { address, .. } => address.as_ref().and_then(Self::ip),
                _ => None,
            },
            _ => None,
        }
    }

    /// Reads an AFI and its address from `bytes`, all of which must be used.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let address = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(address)
    }

    /// AFI and address. What does not fit an LCAF's length field goes out as AFI 0.
    pub fn encode(&self) -> Vec<u8> {
        Writer::clamped(|writer| self.write(writer))
    }

    /// AFI and address, or why there is no such encoding.
    pub fn try_encode(&self) -> Result<Vec<u8>, EncodeError> {
        Writer::checked(|writer| self.write(writer))
    }

    /// The AFI it travels under.
    pub const fn afi(&self) -> u16 {
        match self {
            Self::None => AFI_NONE,
            Self::Ip(IpAddr::V4(_)) => AFI_IPV4,
            Self::Ip(IpAddr::V6(_)) => AFI_IPV6,
            Self::Mac { afi, .. } => *afi,
            Self::Name(_) => AFI_NAME,
            Self::Lcaf(_) => AFI_LCAF,
        }
    }

    /// By what a locator set is sorted: AFI, then address, or the LCAF type (RFC 9301 §5.4, RFC 8060 §3).
    pub(crate) fn sort_key(&self) -> (u16, Vec<u8>) {
        let key = match self {
            Self::None => Vec::new(),
            Self::Ip(IpAddr::V4(address)) => address.octets().to_vec(),
            Self::Ip(IpAddr::V6(address)) => address.octets().to_vec(),
            Self::Mac { address, .. } => address.to_vec(),
            Self::Name(name) => name.clone(),
            Self::Lcaf(lcaf) => vec![lcaf.kind()],
        };
        (self.afi(), key)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Self::read_nested(reader, 0)
    }

    pub(super) fn read_nested(reader: &mut Reader<'_>, depth: usize) -> Result<Self, WireError> {
        let offset = reader.offset();
        let afi = reader.u16("AFI")?;
        Ok(match afi {
            AFI_NONE => Self::None,
            AFI_IPV4 => Self::Ip(Ipv4Addr::from(reader.array::<4>("IPv4 address")?).into()),
            AFI_IPV6 => Self::Ip(Ipv6Addr::from(reader.array::<16>("IPv6 address")?).into()),
            AFI_MAC_802 | AFI_MAC_48 => Self::Mac {
                afi,
                address: reader.array("MAC address")?,
            },
            AFI_NAME => Self::Name(read_name(reader)?),
            AFI_LCAF if depth >= NESTING_LIMIT => {
                return Err(WireError::TooDeep {
                    offset,
                    limit: NESTING_LIMIT,
                });
            }
            AFI_LCAF => Self::Lcaf(Box::new(Lcaf::read(reader, depth.saturating_add(1))?)),
            _ => return Err(WireError::UnknownAfi { offset, afi }),
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        self.write_nested(writer, 0);
    }

    pub(super) fn write_nested(&self, writer: &mut Writer, depth: usize) {
        match self {
            Self::None => writer.u16(AFI_NONE),
            Self::Ip(IpAddr::V4(address)) => {
                writer.u16(AFI_IPV4);
                writer.bytes(&address.octets());
            }
            Self::Ip(IpAddr::V6(address)) => {
                writer.u16(AFI_IPV6);
                writer.bytes(&address.octets());
            }
            Self::Mac { afi, address } => {
                if !matches!(*afi, AFI_MAC_802 | AFI_MAC_48) {
                    writer.fault(EncodeError::Invalid {
                        what: "MAC address",
                        reason: "its AFI is 6 or 16389",
                    });
                }
                writer.u16(if *afi == AFI_MAC_802 { AFI_MAC_802 } else { AFI_MAC_48 });
                writer.bytes(address);
            }
            Self::Name(name) => {
                let text = name.split(|byte| *byte == 0).next().unwrap_or_default();
                if text.len() != name.len() {
                    writer.fault(EncodeError::Invalid {
                        what: "distinguished name",
                        reason: "it holds a NUL",
                    });
                }
                writer.u16(AFI_NAME);
                writer.bytes(text);
                writer.u8(0);
            }
            Self::Lcaf(_) if depth >= NESTING_LIMIT => {
                writer.fault(EncodeError::Invalid {
                    what: "LCAF",
                    reason: "nested deeper than receivers read",
                });
                writer.u16(AFI_NONE);
            }
            Self::Lcaf(lcaf) => {
                let start = writer.len();
                writer.u16(AFI_LCAF);
                if !lcaf.write(writer, depth.saturating_add(1)) {
                    writer.truncate(start);
                    writer.u16(AFI_NONE);
                }
            }
        }
    }
}

/// A NUL-terminated distinguished name.
fn read_name(reader: &mut Reader<'_>) -> Result<Vec<u8>, WireError> {
    let rest = reader.peek();
    let length = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let name = reader.bytes(length, "distinguished name")?.to_vec();
    reader.u8("NUL of the distinguished name")?;
    Ok(name)
}

impl fmt::Display for AfiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Ip(address) => address.fmt(f),
            Self::Mac {
                address: [a, b, c, d, e, g],
                ..
            } => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
            Self::Name(name) => write!(f, "\"{}\"", name.escape_ascii()),
            Self::Lcaf(lcaf) => match &**lcaf {
                Lcaf::InstanceId {
                    instance_id, address, ..
                } => write!(f, "[{instance_id}]{address}"),
                lcaf => write!(f, "LCAF type {}", lcaf.kind()),
            },
        }
    }
}

impl From<Lcaf> for AfiAddress {
    fn from(lcaf: Lcaf) -> Self {
        Self::Lcaf(Box::new(lcaf))
    }
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
