//! LCAF, the canonical address format (RFC 8060, RFC 9306): an address that carries more than an address.

use serde::Serialize;

use super::{AfiAddress, EncodeError, WireError, reader::Reader, text, writer::Writer};

/// The body of an LCAF. Unknown types are carried through untouched.
///
/// So are known types that hold more bytes than they define: what stands behind is read by the outer length, never by
/// what was understood, and a Map-Server hands on what a newer xTR registered. Reserved bits of known types are
/// ignored and sent as zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "field names are RFC 8060's, section named at each variant")]
pub enum Lcaf {
    /// Type 0.
    Null,
    /// Type 1, §4.1.1 and §4.16.
    AfiList(Vec<AfiAddress>),
    /// Type 2, §4.1. `mask_len` is the IID mask-len of rsvd2.
    InstanceId {
        mask_len: u8,
        instance_id: u32,
        address: AfiAddress,
    },
    /// Type 3, §4.2.
    AsNumber { asn: u32, address: AfiAddress },
    /// Type 4, §5.1.
    Application {
        #[serde(serialize_with = "text::hex")]
        tos_tc_flow: [u8; 3],
        protocol: u8,
        local_ports: (u16, u16),
        remote_ports: (u16, u16),
        address: AfiAddress,
    },
    /// Type 5, §4.3; raw coordinates: degrees (15 bits), minutes, seconds.
    Geo {
        north: bool,
        latitude: (u16, u8, u8),
        east: bool,
        longitude: (u16, u8, u8),
        altitude: i32,
        address: AfiAddress,
    },
    /// Type 6, §5.2. `fields` as on the wire: one less than there are.
    OpaqueKey {
        fields: u8,
        wildcard: u16,
        #[serde(serialize_with = "text::hex")]
        key: Vec<u8>,
    },
    /// Type 7, §4.4.
    NatTraversal {
        ms_port: u16,
        etr_port: u16,
        global_etr: AfiAddress,
        ms: AfiAddress,
        private_etr: AfiAddress,
        rtrs: Vec<AfiAddress>,
    },
    /// Type 10, §4.6.
    ExplicitLocatorPath(Vec<ElpHop>),
    /// Type 11, §4.7 with RFC 8061 §6's reading: at most 255 keys, key-id 1 first.
    SecurityKey {
        cipher_suite: u8,
        revoke: bool,
        #[serde(serialize_with = "text::hex_list")]
        keys: Vec<Vec<u8>>,
        address: AfiAddress,
    },
    /// Type 12, §4.8.
    SourceDest {
        source_mask: u8,
        dest_mask: u8,
        source: AfiAddress,
        dest: AfiAddress,
    },
    /// Type 13, §4.9: level and address of each entry.
    ReplicationList(Vec<(u8, AfiAddress)>),
    /// Type 14, §5.4. No `address`: the body ends after the JSON.
    Json {
        binary: bool,
        #[serde(serialize_with = "text::name")]
        json: Vec<u8>,
        address: Option<AfiAddress>,
    },
    /// Type 15, §5.5.
    KeyValue { key: AfiAddress, value: AfiAddress },
    /// Type 16, §5.6; the U..L bits.
    Encapsulation { formats: u8, address: AfiAddress },
    /// Type 255, RFC 9306.
    Vendor {
        #[serde(serialize_with = "text::hex")]
        oui: [u8; 3],
        #[serde(serialize_with = "text::hex")]
        data: Vec<u8>,
    },
    /// Any other: head and body as they came.
    Unknown {
        rsvd1: u8,
        flags: u8,
        kind: u8,
        rsvd2: u8,
        #[serde(serialize_with = "text::hex")]
        body: Vec<u8>,
    },
}

/// One hop of an explicit locator path (RFC 8060 §4.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
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

/// N and E: the bit above the 15 bits of degrees.
const HEMISPHERE: u16 = 0x8000;

impl Lcaf {
    /// The type code.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::AfiList(_) => 1,
            Self::InstanceId { .. } => 2,
            Self::AsNumber { .. } => 3,
            Self::Application { .. } => 4,
            Self::Geo { .. } => 5,
            Self::OpaqueKey { .. } => 6,
            Self::NatTraversal { .. } => 7,
            Self::ExplicitLocatorPath(_) => 10,
            Self::SecurityKey { .. } => 11,
            Self::SourceDest { .. } => 12,
            Self::ReplicationList(_) => 13,
            Self::Json { .. } => 14,
            Self::KeyValue { .. } => 15,
            Self::Encapsulation { .. } => 16,
            Self::Vendor { .. } => 255,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    /// Reads what follows AFI 16387. `depth` counts this LCAF.
    pub(super) fn read(reader: &mut Reader<'_>, depth: usize) -> Result<Self, WireError> {
        let [rsvd1, flags, kind, rsvd2] = reader.array("LCAF head")?;
        let length = usize::from(reader.u16("LCAF length")?);
        let mut body = reader.part(length, "LCAF body")?;
        let whole = body.peek();
        let known = Self::read_body(&mut body, kind, rsvd2, depth)?;
        Ok(match known {
            Some(lcaf) if body.is_empty() => lcaf,
            _ => Self::Unknown {
                rsvd1,
                flags,
                kind,
                rsvd2,
                body: whole.to_vec(),
            },
        })
    }

    /// `None` for a type that is not known.
    fn read_body(body: &mut Reader<'_>, kind: u8, rsvd2: u8, depth: usize) -> Result<Option<Self>, WireError> {
        let address = |body: &mut Reader<'_>| AfiAddress::read_nested(body, depth);
        Ok(Some(match kind {
            0 => Self::Null,
            1 => {
                let mut list = Vec::new();
                while !body.is_empty() {
                    list.push(address(body)?);
                }
                Self::AfiList(list)
            }
            2 => Self::InstanceId {
                mask_len: rsvd2,
                instance_id: body.u32("Instance-ID")?,
                address: address(body)?,
            },
            3 => Self::AsNumber {
                asn: body.u32("AS number")?,
                address: address(body)?,
            },
            4 => Self::Application {
                tos_tc_flow: body.array("traffic class")?,
                protocol: body.u8("protocol")?,
                local_ports: (body.u16("local port")?, body.u16("local port")?),
                remote_ports: (body.u16("remote port")?, body.u16("remote port")?),
                address: address(body)?,
            },
            5 => {
                let (north, latitude) = read_degrees(body)?;
                let (east, longitude) = read_degrees(body)?;
                let altitude = i32::from_be_bytes(body.array("altitude")?);
                Self::Geo {
                    north,
                    latitude,
                    east,
                    longitude,
                    altitude,
                    address: address(body)?,
                }
            }
            6 => Self::OpaqueKey {
                fields: body.u8("key field number")?,
                wildcard: body.u16("key wildcard fields")?,
                key: body.bytes(body.remaining(), "key")?.to_vec(),
            },
            7 => {
                let (ms_port, etr_port) = (body.u16("Map-Server port")?, body.u16("ETR port")?);
                let (global_etr, ms, private_etr) = (address(body)?, address(body)?, address(body)?);
                let mut rtrs = Vec::new();
                while !body.is_empty() {
                    rtrs.push(address(body)?);
                }
                Self::NatTraversal {
                    ms_port,
                    etr_port,
                    global_etr,
                    ms,
                    private_etr,
                    rtrs,
                }
            }
            10 => {
                let mut hops = Vec::new();
                while !body.is_empty() {
                    let bits = body.u16("hop flags")?;
                    let (lookup, probe, strict) = (bits & 4 != 0, bits & 2 != 0, bits & 1 != 0);
                    hops.push(ElpHop {
                        lookup,
                        probe,
                        strict,
                        address: address(body)?,
                    });
                }
                Self::ExplicitLocatorPath(hops)
            }
            11 => {
                let [count, _, cipher_suite, bits] = body.array("security key head")?;
                let mut keys = Vec::new();
                for _ in 0..count {
                    let length = usize::from(body.u16("key length")?);
                    keys.push(body.bytes(length, "key material")?.to_vec());
                }
                Self::SecurityKey {
                    cipher_suite,
                    revoke: bits & 1 != 0,
                    keys,
                    address: address(body)?,
                }
            }
            12 => {
                let [_, _, source_mask, dest_mask] = body.array("mask lengths")?;
                Self::SourceDest {
                    source_mask,
                    dest_mask,
                    source: address(body)?,
                    dest: address(body)?,
                }
            }
            13 => {
                let mut entries = Vec::new();
                while !body.is_empty() {
                    let [_, _, _, level] = body.array("replication level")?;
                    entries.push((level, address(body)?));
                }
                Self::ReplicationList(entries)
            }
            14 => {
                let length = usize::from(body.u16("JSON length")?);
                let json = body.bytes(length, "JSON")?.to_vec();
                let address = if body.is_empty() { None } else { Some(address(body)?) };
                Self::Json {
                    binary: rsvd2 & 1 != 0,
                    json,
                    address,
                }
            }
            15 => Self::KeyValue {
                key: address(body)?,
                value: address(body)?,
            },
            16 => {
                let [_, _, _, formats] = body.array("encapsulation formats")?;
                Self::Encapsulation {
                    formats,
                    address: address(body)?,
                }
            }
            255 => {
                let [_, a, b, c] = body.array("OUI")?;
                Self::Vendor {
                    oui: [a, b, c],
                    data: body.bytes(body.remaining(), "vendor data")?.to_vec(),
                }
            }
            _ => return Ok(None),
        }))
    }

    /// Writes what follows AFI 16387. `false` when the body does not fit its length.
    pub(super) fn write(&self, writer: &mut Writer, depth: usize) -> bool {
        let (rsvd1, flags, rsvd2) = match self {
            Self::InstanceId { mask_len, .. } => (0, 0, *mask_len),
            Self::Json { binary, .. } => (0, 0, u8::from(*binary)),
            Self::Unknown {
                rsvd1, flags, rsvd2, ..
            } => (*rsvd1, *flags, *rsvd2),
            _ => (0, 0, 0),
        };
        writer.bytes(&[rsvd1, flags, self.kind(), rsvd2]);
        let mut whole = true;
        let fits = writer.length_prefixed("LCAF body", |writer| whole = self.write_body(writer, depth));
        fits && whole
    }

    /// `false` when a length inside the body did not fit.
    fn write_body(&self, writer: &mut Writer, depth: usize) -> bool {
        match self {
            Self::Null => {}
            Self::AfiList(list) => list.iter().for_each(|address| address.write_nested(writer, depth)),
            Self::InstanceId {
                instance_id, address, ..
            } => {
                writer.u32(*instance_id);
                address.write_nested(writer, depth);
            }
            Self::AsNumber { asn, address } => {
                writer.u32(*asn);
                address.write_nested(writer, depth);
            }
            Self::Application {
                tos_tc_flow,
                protocol,
                local_ports,
                remote_ports,
                address,
            } => {
                writer.bytes(tos_tc_flow);
                writer.u8(*protocol);
                for port in [local_ports.0, local_ports.1, remote_ports.0, remote_ports.1] {
                    writer.u16(port);
                }
                address.write_nested(writer, depth);
            }
            Self::Geo {
                north,
                latitude,
                east,
                longitude,
                altitude,
                address,
            } => {
                write_degrees(writer, *north, *latitude);
                write_degrees(writer, *east, *longitude);
                writer.bytes(&altitude.to_be_bytes());
                address.write_nested(writer, depth);
            }
            Self::OpaqueKey { fields, wildcard, key } => {
                writer.u8(*fields);
                writer.u16(*wildcard);
                writer.bytes(key);
            }
            Self::NatTraversal {
                ms_port,
                etr_port,
                global_etr,
                ms,
                private_etr,
                rtrs,
            } => {
                writer.u16(*ms_port);
                writer.u16(*etr_port);
                for address in [global_etr, ms, private_etr].into_iter().chain(rtrs) {
                    address.write_nested(writer, depth);
                }
            }
            Self::ExplicitLocatorPath(hops) => {
                for ElpHop {
                    lookup,
                    probe,
                    strict,
                    address,
                } in hops
                {
                    writer.u16(u16::from(*lookup) << 2 | u16::from(*probe) << 1 | u16::from(*strict));
                    address.write_nested(writer, depth);
                }
            }
            Self::SecurityKey {
                cipher_suite,
                revoke,
                keys,
                address,
            } => {
                let (count, keys) = writer.fit_u8(keys, "keys of an LCAF");
                writer.bytes(&[count, 0, *cipher_suite, u8::from(*revoke)]);
                for key in keys {
                    if !writer.length_prefixed("key material", |writer| writer.bytes(key)) {
                        return false;
                    }
                }
                address.write_nested(writer, depth);
            }
            Self::SourceDest {
                source_mask,
                dest_mask,
                source,
                dest,
            } => {
                writer.bytes(&[0, 0, *source_mask, *dest_mask]);
                source.write_nested(writer, depth);
                dest.write_nested(writer, depth);
            }
            Self::ReplicationList(entries) => {
                for (level, address) in entries {
                    writer.bytes(&[0, 0, 0, *level]);
                    address.write_nested(writer, depth);
                }
            }
            Self::Json { json, address, .. } => {
                if !writer.length_prefixed("JSON", |writer| writer.bytes(json)) {
                    return false;
                }
                if let Some(address) = address {
                    address.write_nested(writer, depth);
                }
            }
            Self::KeyValue { key, value } => {
                key.write_nested(writer, depth);
                value.write_nested(writer, depth);
            }
            Self::Encapsulation { formats, address } => {
                writer.bytes(&[0, 0, 0, *formats]);
                address.write_nested(writer, depth);
            }
            Self::Vendor { oui: [a, b, c], data } => {
                writer.bytes(&[0, *a, *b, *c]);
                writer.bytes(data);
            }
            Self::Unknown { body, .. } => writer.bytes(body),
        }
        true
    }
}

fn read_degrees(body: &mut Reader<'_>) -> Result<(bool, (u16, u8, u8)), WireError> {
    let word = body.u16("degrees")?;
    let coordinate = (word & !HEMISPHERE, body.u8("minutes")?, body.u8("seconds")?);
    Ok((word & HEMISPHERE != 0, coordinate))
}

fn write_degrees(writer: &mut Writer, hemisphere: bool, (degrees, minutes, seconds): (u16, u8, u8)) {
    if degrees & HEMISPHERE != 0 {
        writer.fault(EncodeError::TooLarge {
            what: "degrees",
            value: degrees.into(),
            max: (HEMISPHERE - 1).into(),
        });
    }
    writer.u16((degrees & !HEMISPHERE) | if hemisphere { HEMISPHERE } else { 0 });
    writer.u8(minutes);
    writer.u8(seconds);
}
