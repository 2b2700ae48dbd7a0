//! The registrations in memory, which every engine has: look-ups run here, engines add what outlives the process.

use std::collections::BTreeMap;

use crate::{
    prefix_key::{PrefixKey, covers},
    registration::{
        Registration, RegistrationKey, SiteTag, WallMillis, peek_expires, peek_live, peek_site, peek_version,
    },
    replay::{KeyTag, NonceKey},
};

/// Registrations and nonces, compactly: one ordered map of 29-byte keys to exact-size blobs, one of 24-byte keys
/// to nonces, and a few counts.
#[derive(Debug, Default)]
pub struct Table {
    entries: BTreeMap<RegistrationKey, Box<[u8]>>,
    nonces: BTreeMap<NonceKey, u64>,
    of_site: BTreeMap<SiteTag, usize>,
    of_key: BTreeMap<KeyTag, usize>,
    /// No registration runs out before this. Refreshes make it a low guess, never a late one.
    earliest: Option<WallMillis>,
}

impl Table {
    /// Registrations, superseded and run-out ones too.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no registration.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Registrations of one site.
    pub fn count_of_site(&self, site: SiteTag) -> usize {
        self.of_site.get(&site).copied().unwrap_or(0)
    }

    /// Nonces remembered for one key.
    pub fn count_of_key(&self, key: KeyTag) -> usize {
        self.of_key.get(&key).copied().unwrap_or(0)
    }

    /// One registration.
    pub fn get(&self, key: &RegistrationKey) -> Option<Registration> {
        self.entries.get(key).and_then(|bytes| Registration::decode(bytes))
    }

    /// The compact form of one registration.
    pub fn get_bytes(&self, key: &RegistrationKey) -> Option<&[u8]> {
        self.entries.get(key).map(AsRef::as_ref)
    }

    /// All, in the order of their prefixes.
    pub fn iter(&self) -> impl Iterator<Item = (&RegistrationKey, Registration)> {
        self.entries
            .iter()
            .filter_map(|(key, bytes)| Some((key, Registration::decode(bytes)?)))
    }

    /// Everything registered for exactly this prefix.
    pub fn at(&self, prefix: PrefixKey) -> impl Iterator<Item = (&RegistrationKey, Registration)> {
        self.entries
            .range(RegistrationKey::first(prefix)..=RegistrationKey::last(prefix))
            .filter_map(|(key, bytes)| Some((key, Registration::decode(bytes)?)))
    }

    /// The most specific prefix with a live registration that covers `target`.
    pub fn longest_match(&self, target: &PrefixKey, now: WallMillis) -> Option<PrefixKey> {
        let last = |bound: &PrefixKey| {
            let (key, _) = self.entries.range(..=RegistrationKey::last(*bound)).next_back()?;
            Some(key.prefix)
        };
        covers(target, last).find(|prefix| self.is_registered(*prefix, now))
    }

    /// Prefixes with a live registration strictly inside `prefix`, at most `limit`.
    pub fn inside(&self, prefix: PrefixKey, now: WallMillis, limit: usize) -> Vec<PrefixKey> {
        let mut found: Vec<PrefixKey> = Vec::new();
        let range = self
            .entries
            .range(RegistrationKey::first(prefix)..=RegistrationKey::last(prefix.last_inside()));
        for (key, bytes) in range {
            if found.len() >= limit {
                break;
            }
            if key.prefix != prefix && found.last() != Some(&key.prefix) && peek_live(bytes, now) {
                found.push(key.prefix);
            }
        }
        found
    }

    /// The nearest live prefixes below and above `target` in the same Instance-ID and family.
    pub fn neighbours(&self, target: &PrefixKey, now: WallMillis) -> [Option<PrefixKey>; 2] {
        let live = |bytes: &[u8]| peek_live(bytes, now);
        let below = self
            .entries
            .range(RegistrationKey::first(target.lowest())..RegistrationKey::first(*target))
            .rev()
            .find(|(_, bytes)| live(bytes));
        let above = self
            .entries
            .range(RegistrationKey::last(*target)..=RegistrationKey::last(target.highest()))
            .find(|(_, bytes)| live(bytes));
        [below, above].map(|entry| entry.map(|(key, _)| key.prefix))
    }

    /// The last nonce.
    pub fn last_nonce(&self, key: &NonceKey) -> Option<u64> {
        self.nonces.get(key).copied()
    }

    /// No registration runs out before this.
    pub fn earliest_expiry(&self) -> Option<WallMillis> {
        self.earliest
    }

    /// What has run out, and the next time to look. One pass over everything: while xTRs refresh in time it happens
    /// about once in the life of a registration.
    pub fn sweep(&mut self, now: WallMillis) -> Vec<RegistrationKey> {
        let mut gone = Vec::new();
        let mut earliest = None;
        for (key, bytes) in &self.entries {
            let expires = peek_expires(bytes);
            if expires <= now {
                gone.push(*key);
            } else {
                earliest = Some(earliest.map_or(expires, |e: WallMillis| e.min(expires)));
            }
        }
        self.earliest = earliest;
        gone
    }

    /// Whether a registration with this version would replace what is there.
    pub(super) fn is_newer(&self, key: &RegistrationKey, version: WallMillis) -> bool {
        self.entries.get(key).is_none_or(|bytes| version > peek_version(bytes))
    }

    pub(super) fn insert(&mut self, key: RegistrationKey, registration: &Registration) {
        let expires = registration.expires;
        self.earliest = Some(self.earliest.map_or(expires, |earliest| earliest.min(expires)));
        if let Some(old) = self.entries.insert(key, registration.encode()) {
            self.uncount_site(peek_site(&old));
        }
        let count = self.of_site.entry(registration.site).or_default();
        *count = count.saturating_add(1);
    }

    pub(super) fn remove(&mut self, key: &RegistrationKey) -> bool {
        let Some(old) = self.entries.remove(key) else {
            return false;
        };
        self.uncount_site(peek_site(&old));
        true
    }

    pub(super) fn raise_nonce(&mut self, key: NonceKey, nonce: u64) -> bool {
        match self.nonces.get_mut(&key) {
            Some(last) if nonce <= *last => false,
            Some(last) => {
                *last = nonce;
                true
            }
            None => {
                self.nonces.insert(key, nonce);
                let count = self.of_key.entry(key.key).or_default();
                *count = count.saturating_add(1);
                true
            }
        }
    }

    /// Whether exactly this prefix has a live registration.
    pub fn is_registered(&self, prefix: PrefixKey, now: WallMillis) -> bool {
        self.entries
            .range(RegistrationKey::first(prefix)..=RegistrationKey::last(prefix))
            .any(|(_, bytes)| peek_live(bytes, now))
    }

    fn uncount_site(&mut self, site: SiteTag) {
        if let Some(count) = self.of_site.get_mut(&site) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_site.remove(&site);
            }
        }
    }
}
