//! One registration, and the compact form in which it is kept in memory and on disk.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lisp::wire::{EidRecord, MapReply};
use lisp::{Nonce, SiteId, XtrId};
use ring::digest::{SHA256, digest};

use crate::prefix_key::PrefixKey;

/// Milliseconds of wall time since 1970.
pub type WallMillis = u64;

/// A site's name in eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteTag(pub [u8; 8]);

/// An xTR of a site in eight bytes: its xTR-ID and Site-ID, or its address when it names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Registrant(pub [u8; 8]);

/// What a registration is found by: the prefix (with its Instance-ID), then who registered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistrationKey {
    /// The prefix.
    pub prefix: PrefixKey,
    /// The xTR.
    pub registrant: Registrant,
}

/// A registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The site whose key signed it.
    pub site: SiteTag,
    /// P-bit: the ETR wants this Map-Server to answer.
    pub proxy_reply: bool,
    /// a-bit: locators are merged with those of other xTRs.
    pub merge: bool,
    /// The prefix moved to another xTR. Kept until it runs out, so that a late refresh does not take the prefix back.
    pub superseded: bool,
    /// Key-ID it was signed with.
    pub key_id: u8,
    /// Algorithm-ID it was signed with.
    pub algorithm_id: u8,
    /// When it runs out.
    pub expires: WallMillis,
    /// When the last Map-Register for it came; never goes back. The newest registration of a prefix wins by it.
    pub version: WallMillis,
    /// Where the last Map-Register came from.
    pub source: SocketAddr,
    /// Our address it was sent to.
    pub local: IpAddr,
    /// The xTR-ID and Site-ID, when there were any.
    pub xtr: Option<(XtrId, SiteId)>,
    /// The encoded EID-record: locators that we do not know stay as they came.
    pub record: Box<[u8]>,
}

const FORMAT: u8 = 1;
const PROXY_REPLY: u8 = 1;
const MERGE: u8 = 2;
const SUPERSEDED: u8 = 4;
const XTR: u8 = 8;
const SOURCE_V6: u8 = 16;
const LOCAL_V6: u8 = 32;

impl RegistrationKey {
    /// Bytes of a key on disk.
    pub const SIZE: usize = PrefixKey::SIZE + 8;

    /// As it stands on disk.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::SIZE);
        bytes.extend_from_slice(&self.prefix.to_bytes());
        bytes.extend_from_slice(&self.registrant.0);
        bytes
    }

    /// From disk.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (prefix, registrant) = bytes.split_at_checked(PrefixKey::SIZE)?;
        Some(Self {
            prefix: PrefixKey::from_bytes(prefix)?,
            registrant: Registrant(registrant.try_into().ok()?),
        })
    }

    /// The first possible key of a prefix.
    pub fn first(prefix: PrefixKey) -> Self {
        Self {
            prefix,
            registrant: Registrant([0; 8]),
        }
    }

    /// The last possible key of a prefix.
    pub fn last(prefix: PrefixKey) -> Self {
        Self {
            prefix,
            registrant: Registrant([0xff; 8]),
        }
    }
}

impl SiteTag {
    /// The tag of the site with this name.
    pub fn of(name: &str) -> Self {
        Self(short_digest(&[b"site", name.as_bytes()]))
    }
}

impl Registrant {
    /// Who sent a Map-Register, within a site. An xTR-ID means nothing outside its site.
    pub fn of(site: SiteTag, xtr: Option<(XtrId, SiteId)>, source: IpAddr) -> Self {
        Self(match (xtr, source) {
            (Some((xtr, id)), _) => short_digest(&[b"xtr", &site.0, &xtr.0, &id.0.to_be_bytes()]),
            (None, IpAddr::V4(v4)) => short_digest(&[b"ip4", &site.0, &v4.octets()]),
            (None, IpAddr::V6(v6)) => short_digest(&[b"ip6", &site.0, &v6.octets()]),
        })
    }
}

/// The first bytes of SHA-256 over length-prefixed parts, so that no two lists of parts run together.
pub(crate) fn short_digest<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut text = Vec::new();
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part);
    }
    let full = digest(&SHA256, &text);
    let mut short = [0; N];
    for (to, from) in short.iter_mut().zip(full.as_ref()) {
        *to = *from;
    }
    short
}

impl Registration {
    /// The compact form.
    pub fn encode(&self) -> Box<[u8]> {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(self.proxy_reply, PROXY_REPLY)
            | flag(self.merge, MERGE)
            | flag(self.superseded, SUPERSEDED)
            | flag(self.xtr.is_some(), XTR)
            | flag(self.source.is_ipv6(), SOURCE_V6)
            | flag(self.local.is_ipv6(), LOCAL_V6);
        let mut out = Vec::with_capacity(30 + 16 + 16 + 24 + self.record.len());
        out.extend_from_slice(&[FORMAT, flags, self.key_id, self.algorithm_id]);
        out.extend_from_slice(&self.expires.to_be_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.site.0);
        out.extend_from_slice(&self.source.port().to_be_bytes());
        put_address(&mut out, self.source.ip());
        put_address(&mut out, self.local);
        if let Some((xtr, site)) = self.xtr {
            out.extend_from_slice(&xtr.0);
            out.extend_from_slice(&site.0.to_be_bytes());
        }
        out.extend_from_slice(&self.record);
        // The capacity is an upper bound; what is kept is exact.
        out.into_boxed_slice()
    }

    /// From the compact form. `None` when a file is damaged or of another format.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[format, flags, key_id, algorithm_id], rest) = bytes.split_first_chunk::<4>()?;
        if format != FORMAT {
            return None;
        }
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk::<8>()?;
        let (site, rest) = rest.split_first_chunk::<8>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let (source, rest) = take_address(rest, flags & SOURCE_V6 != 0)?;
        let (local, rest) = take_address(rest, flags & LOCAL_V6 != 0)?;
        let (xtr, rest) = if flags & XTR != 0 {
            let (xtr, rest) = rest.split_first_chunk::<16>()?;
            let (site, rest) = rest.split_first_chunk::<8>()?;
            (Some((XtrId(*xtr), SiteId(u64::from_be_bytes(*site)))), rest)
        } else {
            (None, rest)
        };
        Some(Self {
            site: SiteTag(*site),
            proxy_reply: flags & PROXY_REPLY != 0,
            merge: flags & MERGE != 0,
            superseded: flags & SUPERSEDED != 0,
            key_id,
            algorithm_id,
            expires: u64::from_be_bytes(*expires),
            version: u64::from_be_bytes(*version),
            source: SocketAddr::new(source, u16::from_be_bytes(*port)),
            local,
            xtr,
            record: rest.into(),
        })
    }

    /// The EID-record.
    pub fn eid_record(&self) -> Option<EidRecord> {
        decode_record(&self.record)
    }
}

/// The two fields of the compact form that every look-up asks for, read in place.
pub(crate) fn peek_live(bytes: &[u8], now: WallMillis) -> bool {
    peek_expires(bytes) > now && bytes.get(1).is_some_and(|flags| flags & SUPERSEDED == 0)
}

pub(crate) fn peek_expires(bytes: &[u8]) -> WallMillis {
    peek(bytes, 4)
}

pub(crate) fn peek_version(bytes: &[u8]) -> WallMillis {
    peek(bytes, 12)
}

pub(crate) fn peek_site(bytes: &[u8]) -> SiteTag {
    SiteTag(peek(bytes, 20).to_be_bytes())
}

fn peek(bytes: &[u8], offset: usize) -> u64 {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk::<8>())
        .map_or(0, |field| u64::from_be_bytes(*field))
}

/// One EID-record as it travels. The codec encodes messages, so the record is lent the shortest one.
pub(crate) fn encode_record(record: &EidRecord) -> Box<[u8]> {
    let message = MapReply {
        probe: false,
        echo_nonce: false,
        nonce: Nonce(0),
        records: vec![record.clone()],
        security: None,
    };
    message.encode().split_off(MAP_REPLY_HEAD).into()
}

/// The inverse of [`encode_record`].
pub(crate) fn decode_record(bytes: &[u8]) -> Option<EidRecord> {
    let mut message = vec![0x20, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(bytes);
    MapReply::decode(&message).ok()?.records.pop()
}

/// Type, record count and nonce.
const MAP_REPLY_HEAD: usize = 12;

fn put_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
}

fn take_address(bytes: &[u8], v6: bool) -> Option<(IpAddr, &[u8])> {
    if v6 {
        let (octets, rest) = bytes.split_first_chunk::<16>()?;
        Some((IpAddr::V6(Ipv6Addr::from(*octets)), rest))
    } else {
        let (octets, rest) = bytes.split_first_chunk::<4>()?;
        Some((IpAddr::V4(Ipv4Addr::from(*octets)), rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Registration {
        Registration {
            site: SiteTag::of("plant"),
            proxy_reply: true,
            merge: false,
            superseded: true,
            key_id: 7,
            algorithm_id: 2,
            expires: 1_000_000,
            version: 999_000,
            source: "192.0.2.1:5000".parse().unwrap(),
            local: "2001:db8::1".parse().unwrap(),
            xtr: Some((XtrId([9; 16]), SiteId(3))),
            record: vec![1, 2, 3].into(),
        }
    }

    #[test]
    fn compact_form_round_trips() {
        let all = sample();
        assert_eq!(Registration::decode(&all.encode()), Some(all.clone()));
        let bare = Registration {
            xtr: None,
            proxy_reply: false,
            merge: true,
            superseded: false,
            ..all
        };
        assert_eq!(Registration::decode(&bare.encode()), Some(bare));
    }

    #[test]
    fn peeks_agree_with_the_whole() {
        let mut registration = sample();
        let bytes = registration.encode();
        assert_eq!(peek_expires(&bytes), 1_000_000);
        assert_eq!(peek_version(&bytes), 999_000);
        assert_eq!(peek_site(&bytes), SiteTag::of("plant"));
        assert!(!peek_live(&bytes, 1), "superseded");
        registration.superseded = false;
        assert!(peek_live(&registration.encode(), 999_999));
        assert!(!peek_live(&registration.encode(), 1_000_000), "at its end it is over");
    }

    #[test]
    fn any_cut_of_the_fixed_part_is_refused_and_none_panics() {
        let bytes = sample().encode();
        for end in 0..bytes.len() - 3 {
            assert_eq!(Registration::decode(&bytes[..end]), None, "{end}");
        }
    }

    #[test]
    fn xtr_ids_mean_nothing_across_sites() {
        let xtr = Some((XtrId([1; 16]), SiteId(0)));
        let from = "192.0.2.1".parse().unwrap();
        assert_ne!(
            Registrant::of(SiteTag::of("a"), xtr, from),
            Registrant::of(SiteTag::of("b"), xtr, from)
        );
    }
}
