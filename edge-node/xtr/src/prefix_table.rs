//! EID-prefixes with longest match. The Instance-ID is part of every key, so two tenants never meet.

use std::collections::BTreeMap;

use ipnet::IpNet;
use lisp::{Eid, EidPrefix, InstanceId};

/// A table keyed by EID-prefix.
#[derive(Debug)]
pub(crate) struct PrefixTable<V> {
    entries: BTreeMap<EidPrefix, V>,
    /// How many prefixes of each length there are, for each Instance-ID and family: the lengths a match has to try.
    lengths: BTreeMap<(InstanceId, bool), BTreeMap<u8, usize>>,
}

impl<V> Default for PrefixTable<V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            lengths: BTreeMap::new(),
        }
    }
}

const fn is_v6(net: IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}

impl<V> PrefixTable<V> {
    pub(crate) fn get(&self, prefix: &EidPrefix) -> Option<&V> {
        self.entries.get(prefix)
    }

    pub(crate) fn get_mut(&mut self, prefix: &EidPrefix) -> Option<&mut V> {
        self.entries.get_mut(prefix)
    }

    pub(crate) fn contains(&self, prefix: &EidPrefix) -> bool {
        self.entries.contains_key(prefix)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&EidPrefix, &V)> {
        self.entries.iter()
    }

    pub(crate) fn insert(&mut self, prefix: EidPrefix, value: V) -> Option<V> {
        let old = self.entries.insert(prefix, value);
        if old.is_none() {
            let count = self
                .lengths
                .entry((prefix.instance_id(), is_v6(prefix.net())))
                .or_default()
                .entry(prefix.length())
                .or_default();
            *count = count.saturating_add(1);
        }
        old
    }

    pub(crate) fn remove(&mut self, prefix: &EidPrefix) -> Option<V> {
        let value = self.entries.remove(prefix)?;
        let key = (prefix.instance_id(), is_v6(prefix.net()));
        if let Some(lengths) = self.lengths.get_mut(&key) {
            if let Some(count) = lengths.get_mut(&prefix.length()) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    lengths.remove(&prefix.length());
                }
            }
            if lengths.is_empty() {
                self.lengths.remove(&key);
            }
        }
        Some(value)
    }

    /// The longest prefix that holds `eid`.
    pub(crate) fn longest_match(&self, eid: &Eid) -> Option<(EidPrefix, &V)> {
        self.longest_cover(&eid.host_prefix())
    }

    /// The longest prefix that covers `prefix`, `prefix` itself included.
    pub(crate) fn longest_cover(&self, prefix: &EidPrefix) -> Option<(EidPrefix, &V)> {
        let lengths = self.lengths.get(&(prefix.instance_id(), is_v6(prefix.net())))?;
        lengths.range(..=prefix.length()).rev().find_map(|(length, _)| {
            let cover = EidPrefix::from_parts(prefix.instance_id(), prefix.net().addr(), *length).ok()?;
            self.entries.get(&cover).map(|value| (cover, value))
        })
    }

    /// All prefixes strictly inside `prefix`, in ascending order.
    pub(crate) fn more_specifics(&self, prefix: &EidPrefix) -> impl Iterator<Item = (&EidPrefix, &V)> {
        // Ordered by Instance-ID, then first address, then length: what lies inside follows without a gap.
        let prefix = *prefix;
        self.entries
            .range(prefix..)
            .skip_while(move |(inner, _)| **inner == prefix)
            .take_while(move |(inner, _)| prefix.covers(inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(prefixes: &[&str]) -> PrefixTable<()> {
        let mut table = PrefixTable::default();
        for prefix in prefixes {
            table.insert(prefix.parse().unwrap(), ());
        }
        table
    }

    fn eid(iid: u32, address: &str) -> Eid {
        Eid::new(InstanceId::new(iid).unwrap(), address.parse().unwrap())
    }

    #[test]
    fn longest_match_stays_within_its_instance_and_family() {
        let table = table(&["[7]10.0.0.0/8", "[7]10.1.0.0/16", "[8]10.1.2.0/24", "[7]::/0"]);
        let found = |eid: Eid| table.longest_match(&eid).map(|(prefix, ())| prefix.to_string());
        assert_eq!(found(eid(7, "10.1.2.3")).as_deref(), Some("[7]10.1.0.0/16"));
        assert_eq!(found(eid(7, "10.2.2.3")).as_deref(), Some("[7]10.0.0.0/8"));
        assert_eq!(found(eid(8, "10.1.2.3")).as_deref(), Some("[8]10.1.2.0/24"));
        assert_eq!(found(eid(8, "10.2.2.3")), None);
        assert_eq!(found(eid(7, "11.0.0.1")), None);
        assert_eq!(found(eid(7, "2001:db8::1")).as_deref(), Some("[7]::/0"));
    }

    #[test]
    fn removal_leaves_no_trace() {
        let mut table = table(&["[7]10.0.0.0/8", "[7]10.1.0.0/16"]);
        assert!(table.remove(&"[7]10.1.0.0/16".parse().unwrap()).is_some());
        assert!(table.remove(&"[7]10.1.0.0/16".parse().unwrap()).is_none());
        assert_eq!(
            table.longest_match(&eid(7, "10.1.0.1")).unwrap().0.to_string(),
            "[7]10.0.0.0/8"
        );
        table.remove(&"[7]10.0.0.0/8".parse().unwrap());
        assert!(table.lengths.is_empty());
    }

    #[test]
    fn more_specifics_are_all_inside_and_not_itself() {
        let table = table(&[
            "[7]2001:db8::/32",
            "[7]2001:db8:1::/48",
            "[7]2001:db8:1:1::/64",
            "[7]2001:db8:1:2::/64",
            "[7]2001:db8:2::/48",
            "[8]2001:db8:1:3::/64",
        ]);
        let inside: Vec<String> = table
            .more_specifics(&"[7]2001:db8:1::/48".parse().unwrap())
            .map(|(p, ())| p.to_string())
            .collect();
        assert_eq!(inside, ["[7]2001:db8:1:1::/64", "[7]2001:db8:1:2::/64"]);
        let below: Vec<String> = table
            .more_specifics(&"[7]2001:db8:1:1::/60".parse().unwrap())
            .map(|(p, ())| p.to_string())
            .collect();
        assert_eq!(below, ["[7]2001:db8:1:1::/64", "[7]2001:db8:1:2::/64"]);
    }
}
