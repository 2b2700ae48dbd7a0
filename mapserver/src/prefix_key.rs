//! EID-prefixes as sortable keys. One order serves every question: which prefixes cover an EID, which lie inside a
//! prefix, and how far the nearest neighbour is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lisp::{EidPrefix, InstanceId};

/// Instance-ID and family, address, mask length: in this order, so that a prefix sorts before everything inside it.
/// 21 bytes, no padding; an IPv4 address stands in the first four of the sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixKey {
    space: [u8; 4],
    address: [u8; 16],
    length: u8,
}

const IPV4: u8 = 4;
const IPV6: u8 = 6;

impl From<&EidPrefix> for PrefixKey {
    fn from(prefix: &EidPrefix) -> Self {
        let [_, a, b, c] = prefix.instance_id().get().to_be_bytes();
        let (family, address) = match prefix.net().network() {
            IpAddr::V4(v4) => (IPV4, u128::from(u32::from(v4)) << 96),
            IpAddr::V6(v6) => (IPV6, u128::from(v6)),
        };
        Self {
            space: [a, b, c, family],
            address: address.to_be_bytes(),
            length: prefix.length(),
        }
    }
}

impl PrefixKey {
    /// Bytes of a key on disk.
    pub const SIZE: usize = 21;

    /// The prefix. `None` when the bytes came from a damaged file.
    pub fn prefix(&self) -> Option<EidPrefix> {
        let [a, b, c, family] = self.space;
        let instance_id = InstanceId::new(u32::from_be_bytes([0, a, b, c]))?;
        let address = match family {
            IPV4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(self.bits() >> 96).ok()?)),
            IPV6 => IpAddr::V6(Ipv6Addr::from(self.bits())),
            _ => return None,
        };
        EidPrefix::from_parts(instance_id, address, self.length).ok()
    }

    /// Mask length in bits.
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// As it stands on disk.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        for (to, from) in bytes
            .iter_mut()
            .zip(self.space.iter().chain(&self.address).chain([&self.length]))
        {
            *to = *from;
        }
        bytes
    }

    /// From disk.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (space, rest) = bytes.split_first_chunk::<4>()?;
        let (address, rest) = rest.split_first_chunk::<16>()?;
        let &[length] = rest else { return None };
        let key = Self {
            space: *space,
            address: *address,
            length,
        };
        // Re-made from the prefix: a key with host bits set would never be found again.
        (Self::from(&key.prefix()?) == key).then_some(key)
    }

    /// Whether both are of one Instance-ID and one family.
    pub fn same_space(&self, other: &Self) -> bool {
        self.space == other.space
    }

    /// Whether `other` is equal to or inside this prefix.
    pub fn covers(&self, other: &Self) -> bool {
        self.same_space(other) && self.length <= other.length && self.common(other) >= self.length
    }

    /// Leading bits that the two have in common, at most the shorter mask length.
    pub fn common(&self, other: &Self) -> u8 {
        let equal = (self.bits() ^ other.bits()).leading_zeros();
        let equal = u8::try_from(equal).unwrap_or(128);
        equal.min(self.length).min(other.length)
    }

    /// The prefix of `length` bits that holds this one.
    #[must_use]
    pub fn truncated(&self, length: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
        Self {
            address: (self.bits() & mask).to_be_bytes(),
            length,
            ..*self
        }
    }

    /// The lowest possible key of the same Instance-ID and family.
    #[must_use]
    pub fn lowest(&self) -> Self {
        Self {
            address: [0; 16],
            length: 0,
            ..*self
        }
    }

    /// No key of this Instance-ID and family sorts after it.
    #[must_use]
    pub fn highest(&self) -> Self {
        Self {
            address: [0xff; 16],
            length: u8::MAX,
            ..*self
        }
    }

    /// No key inside this prefix sorts after it.
    #[must_use]
    pub fn last_inside(&self) -> Self {
        let host = u128::MAX.checked_shr(u32::from(self.length)).unwrap_or(0);
        Self {
            address: (self.bits() | host).to_be_bytes(),
            length: u8::MAX,
            ..*self
        }
    }

    const fn bits(&self) -> u128 {
        u128::from_be_bytes(self.address)
    }
}

/// The prefixes of a sorted set that cover `target`, the most specific first.
///
/// `last_at_or_below` gives the greatest member not above its argument. Each miss names the most bits that any
/// remaining cover can have, so the walk takes a few steps, not one for each mask length.
pub(crate) fn covers<'a>(
    target: &'a PrefixKey,
    last_at_or_below: impl Fn(&PrefixKey) -> Option<PrefixKey> + 'a,
) -> impl Iterator<Item = PrefixKey> + 'a {
    let mut bound = Some(*target);
    std::iter::from_fn(move || {
        loop {
            let found = last_at_or_below(&bound?).filter(|found| found.same_space(target));
            let Some(found) = found else {
                bound = None;
                return None;
            };
            if found.covers(target) {
                bound = found.length.checked_sub(1).map(|length| target.truncated(length));
                return Some(found);
            }
            bound = Some(target.truncated(found.common(target)));
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> PrefixKey {
        PrefixKey::from(&text.parse::<EidPrefix>().unwrap())
    }

    #[test]
    fn bytes_beside_meaning() {
        let mut expected = [0u8; 21];
        expected[..6].copy_from_slice(&[0, 0, 7, 4, 10, 7]);
        expected[20] = 16;
        assert_eq!(key("[7]10.7.0.0/16").to_bytes(), expected);
        assert_eq!(PrefixKey::from_bytes(&expected), Some(key("[7]10.7.0.0/16")));
    }

    #[test]
    fn damaged_bytes_are_no_key() {
        let mut bytes = key("[7]10.7.0.0/16").to_bytes();
        assert_eq!(PrefixKey::from_bytes(&bytes[..20]), None);
        bytes[20] = 33;
        assert_eq!(PrefixKey::from_bytes(&bytes), None, "mask length beyond IPv4's");
        bytes[20] = 8;
        assert_eq!(PrefixKey::from_bytes(&bytes), None, "host bits set");
    }

    #[test]
    fn instances_and_families_never_mix() {
        assert!(!key("[1]10.0.0.0/8").covers(&key("[2]10.1.0.0/16")));
        assert!(!key("[1]0.0.0.0/0").covers(&key("[1]::/0")));
        assert!(key("[1]0.0.0.0/0").covers(&key("[1]255.255.255.255/32")));
        assert!(key("[1]::/0").covers(&key("[1]ffff::1/128")));
    }

    #[test]
    fn ends_of_a_prefix() {
        let prefix = key("[7]10.7.0.0/16");
        assert!(key("[7]10.7.255.255/32") < prefix.last_inside());
        assert!(key("[7]10.8.0.0/16") > prefix.last_inside());
        assert!(prefix.lowest() <= key("[7]0.0.0.0/0") && key("[7]255.255.255.255/32") < prefix.highest());
    }

    proptest! {
        #[test]
        fn covers_finds_what_a_scan_finds(
            set in proptest::collection::btree_set((any::<u8>(), 24u8..=32), 0..40), host in any::<u8>()
        ) {
            let set: BTreeSet<PrefixKey> = set
                .iter()
                .map(|(last, length)| key(&format!("[9]192.0.2.{last}/{length}")))
                .collect();
            let target = key(&format!("[9]192.0.2.{host}"));
            let walked: Vec<_> =
                covers(&target, |bound| set.range(..=*bound).next_back().copied()).collect();
            let mut scanned: Vec<_> = set.iter().filter(|k| k.covers(&target)).copied().collect();
            scanned.sort_by_key(|k| std::cmp::Reverse(k.length()));
            prop_assert_eq!(walked, scanned);
        }
    }
}
