//! A table by EID-prefix: longest match within an Instance-ID, changed entry by entry while workers read.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use ipnet::IpNet;
use lisp::{Eid, EidPrefix, InstanceId};

use crate::{hash::Seeded, tables::Retired};

/// What such a table holds. Never changed; replaced.
pub trait Entry {
    /// Of which prefix.
    fn prefix(&self) -> EidPrefix;
    /// Raised when it is replaced or removed, or when a more specific entry took a part of it.
    fn retired(&self) -> &Retired;
}

/// How many entries of each prefix length an Instance-ID has, so that a look-up tries only lengths that occur.
#[derive(Debug)]
struct Lengths {
    ipv4: [AtomicU32; 33],
    ipv6: [AtomicU32; 129],
}

impl Lengths {
    fn new() -> Self {
        Self {
            ipv4: [const { AtomicU32::new(0) }; 33],
            ipv6: [const { AtomicU32::new(0) }; 129],
        }
    }

    fn family(&self, address: IpAddr) -> &[AtomicU32] {
        match address {
            IpAddr::V4(_) => &self.ipv4,
            IpAddr::V6(_) => &self.ipv6,
        }
    }
}

/// The table.
#[derive(Debug)]
pub struct Prefixes<E> {
    entries: papaya::HashMap<EidPrefix, Arc<E>, Seeded>,
    lengths: papaya::HashMap<InstanceId, Arc<Lengths>, Seeded>,
}

impl<E: Entry> Prefixes<E> {
    /// An empty table, hashed with `seed`.
    pub fn new(seed: Seeded) -> Self {
        Self {
            entries: papaya::HashMap::with_hasher(seed),
            lengths: papaya::HashMap::with_hasher(seed),
        }
    }

    /// The longest prefix that holds `eid`.
    pub fn lookup(&self, eid: Eid) -> Option<Arc<E>> {
        self.longest(eid.instance_id, eid.address, u8::MAX)
    }

    /// The entry next above `prefix`, without `prefix` itself.
    pub fn covering(&self, prefix: &EidPrefix) -> Option<Arc<E>> {
        let below = prefix.length().checked_sub(1)?;
        self.longest(prefix.instance_id(), prefix.net().addr(), below)
    }

    /// The entry of exactly this prefix.
    pub fn get(&self, prefix: &EidPrefix) -> Option<Arc<E>> {
        self.entries.pin().get(prefix).map(Arc::clone)
    }

    /// Puts an entry in and retires what it replaces. For the writer alone.
    pub fn insert(&self, entry: E) {
        let prefix = entry.prefix();
        match self.entries.pin().insert(prefix, Arc::new(entry)) {
            Some(old) => old.retired().raise(),
            None => {
                let lengths = self.lengths.pin();
                let lengths = lengths.get_or_insert_with(prefix.instance_id(), || Arc::new(Lengths::new()));
                if let Some(count) = lengths.family(prefix.net().addr()).get(usize::from(prefix.length())) {
                    count.fetch_add(1, Ordering::Release);
                }
            }
        }
    }

    /// Takes an entry out and retires it. For the writer alone.
    pub fn remove(&self, prefix: &EidPrefix) -> Option<Arc<E>> {
        let old = self.entries.pin().remove(prefix).map(Arc::clone)?;
        old.retired().raise();
        if let Some(lengths) = self.lengths.pin().get(&prefix.instance_id())
            && let Some(count) = lengths.family(prefix.net().addr()).get(usize::from(prefix.length()))
        {
            count.fetch_sub(1, Ordering::Release);
        }
        Some(old)
    }

    /// All entries, sorted by prefix.
    pub fn all(&self) -> Vec<Arc<E>> {
        let mut all: Vec<_> = self.entries.pin().values().map(Arc::clone).collect();
        all.sort_by_key(|entry| entry.prefix());
        all
    }

    fn longest(&self, instance_id: InstanceId, address: IpAddr, at_most: u8) -> Option<Arc<E>> {
        let lengths = self.lengths.pin();
        let lengths = lengths.get(&instance_id)?;
        let entries = self.entries.pin();
        for (length, count) in lengths.family(address).iter().enumerate().rev() {
            let length = u8::try_from(length).ok()?;
            if length > at_most || count.load(Ordering::Acquire) == 0 {
                continue;
            }
            let Ok(net) = IpNet::new(address, length) else { continue };
            if let Some(entry) = entries.get(&EidPrefix::new(instance_id, net)) {
                return Some(Arc::clone(entry));
            }
        }
        None
    }
}
