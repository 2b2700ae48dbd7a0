//! The configuration, arranged for look-ups: who owns a prefix, which site has a tag.

use std::collections::BTreeMap;

use crate::{
    MapServerConfig, Site, SiteKey,
    prefix_key::{PrefixKey, covers},
    registration::SiteTag,
};

/// What is configured for one prefix.
#[derive(Debug, Default)]
pub(crate) struct Configured {
    /// Sites that may register it, with whether they may register parts of it.
    pub(crate) sites: Vec<(usize, bool)>,
}

/// Sites and prefixes of one configuration.
#[derive(Debug)]
pub(crate) struct Directory {
    sites: Vec<Site>,
    by_tag: BTreeMap<SiteTag, usize>,
    prefixes: BTreeMap<PrefixKey, Configured>,
}

/// Why a prefix may not be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// By nobody, or not by this site.
    NotOwned,
    /// Only the configured prefix itself.
    MoreSpecific,
    /// The owner has no such key.
    UnknownKeyId,
}

impl Directory {
    pub(crate) fn new(config: &MapServerConfig) -> Self {
        let mut prefixes: BTreeMap<PrefixKey, Configured> = BTreeMap::new();
        for (index, site) in config.sites.iter().enumerate() {
            for prefix in &site.prefixes {
                let entry = prefixes.entry(PrefixKey::from(&prefix.prefix)).or_default();
                entry.sites.push((index, prefix.accept_more_specifics));
            }
        }
        for block in &config.blocks {
            prefixes.entry(PrefixKey::from(block)).or_default();
        }
        let by_tag = config
            .sites
            .iter()
            .enumerate()
            .map(|(index, site)| (SiteTag::of(&site.name), index))
            .collect();
        Self {
            sites: config.sites.clone(),
            by_tag,
            prefixes,
        }
    }

    pub(crate) fn site(&self, tag: SiteTag) -> Option<&Site> {
        self.sites.get(*self.by_tag.get(&tag)?)
    }

    /// The site and key that a Map-Register for `prefix` is checked with. The most specific configured prefix
    /// decides: space delegated to one site cannot be registered by the site whose prefix it was cut from.
    pub(crate) fn owner(&self, prefix: &PrefixKey, key_id: u8) -> Result<(&Site, &SiteKey), Ownership> {
        let Some((configured, owners)) = self.owners(prefix) else {
            return Err(Ownership::NotOwned);
        };
        let mut reason = Ownership::UnknownKeyId;
        for (index, accept_more_specifics) in &owners.sites {
            let Some(site) = self.sites.get(*index) else { continue };
            let Some(key) = site.key(key_id) else { continue };
            if configured == *prefix || *accept_more_specifics {
                return Ok((site, key));
            }
            reason = Ownership::MoreSpecific;
        }
        Err(reason)
    }

    /// Whether the site of `tag` may (still) register `prefix`.
    pub(crate) fn may_register(&self, tag: SiteTag, prefix: &PrefixKey) -> bool {
        let Some(site) = self.by_tag.get(&tag) else {
            return false;
        };
        self.owners(prefix).is_some_and(|(configured, owners)| {
            owners
                .sites
                .iter()
                .any(|(index, more)| index == site && (*more || configured == *prefix))
        })
    }

    /// The most specific prefix of a site that covers `target`.
    pub(crate) fn owners(&self, target: &PrefixKey) -> Option<(PrefixKey, &Configured)> {
        covers(target, |bound| self.last(bound)).find_map(|prefix| {
            let configured = self.prefixes.get(&prefix)?;
            (!configured.sites.is_empty()).then_some((prefix, configured))
        })
    }

    /// The most specific configured prefix, of a site or a block, that covers `target`.
    pub(crate) fn configured(&self, target: &PrefixKey) -> Option<PrefixKey> {
        covers(target, |bound| self.last(bound)).next()
    }

    /// Prefixes configured strictly inside `prefix`, at most `limit`.
    pub(crate) fn inside(&self, prefix: PrefixKey, limit: usize) -> Vec<PrefixKey> {
        let inside = self.prefixes.range(prefix..=prefix.last_inside()).map(|(key, _)| *key);
        inside.filter(|key| *key != prefix).take(limit).collect()
    }

    /// The nearest configured prefixes below and above `target` in the same Instance-ID and family.
    pub(crate) fn neighbours(&self, target: &PrefixKey) -> [Option<PrefixKey>; 2] {
        let below = self.prefixes.range(target.lowest()..*target).next_back();
        let above = self
            .prefixes
            .range(*target..=target.highest())
            .find(|(key, _)| *key != target);
        [below, above].map(|entry| entry.map(|(key, _)| *key))
    }

    fn last(&self, bound: &PrefixKey) -> Option<PrefixKey> {
        self.prefixes.range(..=*bound).next_back().map(|(key, _)| *key)
    }
}
