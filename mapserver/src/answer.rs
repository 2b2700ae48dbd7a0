//! What a Map-Request is answered with: the decision of RFC 9301 §8.3, the records of a proxy reply (§5.5), the ETR
//! that a request is sent on to.

use std::net::IpAddr;

use lisp::wire::{AfiAddress, EidRecord, Lcaf, RlocRecord};
use lisp::{EidPrefix, Locator, Mapping, NegativeAction, Ttl};
use rand::RngExt;

use crate::{
    MapServer,
    counters::Count,
    negative::hole,
    prefix_key::PrefixKey,
    registration::{Registrant, SiteTag, WallMillis},
    request::Asked,
};

/// RFC 9301 §8.3: no LISP EID.
const NOT_LISP: Ttl = Ttl(15);
/// RFC 9301 §8.3: configured, but no ETR has registered it.
const UNREGISTERED: Ttl = Ttl(1);

/// What becomes of one record of a Map-Request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Sent on to this ETR.
    Forward(IpAddr),
    /// Answered for the ETR, which could be asked instead.
    Proxy {
        records: Vec<EidRecord>,
        etr: Option<IpAddr>,
    },
    /// Answered in the negative.
    Negative { record: EidRecord, configured: bool },
}

/// What is registered for one prefix, by all its xTRs together.
pub(crate) struct Current {
    pub(crate) record: EidRecord,
    /// Bytes of the record as it travels, at least.
    pub(crate) encoded_len: usize,
    pub(crate) registrants: Vec<Registrant>,
    pub(crate) proxy_reply: bool,
    pub(crate) site: SiteTag,
}

impl Decision {
    pub(crate) fn records(&self) -> &[EidRecord] {
        match self {
            Self::Forward(_) => &[],
            Self::Proxy { records, .. } => records,
            Self::Negative { record, .. } => std::slice::from_ref(record),
        }
    }

    pub(crate) fn word(&self) -> Count {
        match self {
            Self::Forward(_) => Count::forwarded,
            Self::Proxy { .. } => Count::proxy_reply,
            Self::Negative { configured: true, .. } => Count::negative_unregistered,
            Self::Negative { configured: false, .. } => Count::negative_not_lisp,
        }
    }

    pub(crate) fn etr(&self) -> Option<IpAddr> {
        match self {
            Self::Proxy { etr, .. } => *etr,
            _ => None,
        }
    }

    pub(crate) fn prefix(&self) -> Option<EidPrefix> {
        self.records().first()?.prefix().ok()
    }
}

impl MapServer {
    /// RFC 9301 §8.3, in its order: configured at all? registered? by an ETR that wants us to answer?
    pub(crate) fn decide(&mut self, target: &PrefixKey, asked: &Asked) -> Decision {
        let wall = asked.wall;
        let matched = self.store.table().longest_match(target, wall);
        let delegated = self.directory.owners(target).map(|(prefix, _)| prefix);
        // A site's own prefix that nobody registered is not answered with the wider one of somebody else.
        let matched = matched.filter(|matched| delegated.is_none_or(|prefix| prefix.length() <= matched.length()));
        let Some(matched) = matched else {
            return self.not_registered(target, wall);
        };
        let Some(current) = self.current(matched, wall) else {
            return self.not_registered(target, wall);
        };
        let etr = self.choose_etr(&current.record);
        let protected = asked.envelope.as_ref().is_some_and(|ecm| ecm.security.is_some());
        if self.answers_for(&current) && !(protected && etr.is_some()) {
            return Decision::Proxy {
                records: self.proxy_records(target, matched, current, wall),
                etr,
            };
        }
        match etr {
            Some(etr) => Decision::Forward(etr),
            None => self.negative(target, matched, true, wall),
        }
    }

    /// What is registered for exactly `prefix`: the newest registration, or all of them merged when it asks for that.
    pub(crate) fn current(&self, prefix: PrefixKey, wall: WallMillis) -> Option<Current> {
        let live = || {
            let at = self.store.table().at(prefix);
            at.filter(|(_, registration)| registration.expires > wall && !registration.superseded)
        };
        let (_, newest) = live().max_by_key(|(key, registration)| (registration.version, key.registrant))?;
        let mut record = newest.eid_record()?;
        let mut encoded_len = newest.record.len();
        for (_, other) in live().filter(|(_, other)| newest.merge && other.merge && *other != newest) {
            encoded_len = encoded_len.saturating_add(other.record.len());
            for locator in other.eid_record().into_iter().flat_map(|record| record.locators) {
                if !record.locators.iter().any(|mine| mine.rloc == locator.rloc) && record.locators.len() < 255 {
                    record.locators.push(locator);
                }
            }
        }
        sort_locators(&mut record.locators);
        Some(Current {
            record,
            encoded_len,
            registrants: live().map(|(key, _)| key.registrant).collect(),
            proxy_reply: live().any(|(_, registration)| registration.proxy_reply),
            site: newest.site,
        })
    }

    /// Whether we answer ourselves: an ETR asked for it and the site allows it, or the site is configured so.
    fn answers_for(&self, current: &Current) -> bool {
        let Some(site) = self.directory.site(current.site) else {
            return false;
        };
        site.force_proxy_reply || (site.allow_proxy_reply && current.proxy_reply)
    }

    /// RFC 9301 §5.5: the match and everything more specific inside it, all with one TTL. Where that is too much, or
    /// not all of it is ours to answer, the part of the match around `target` that holds nothing more specific.
    fn proxy_records(
        &self,
        target: &PrefixKey,
        matched: PrefixKey,
        current: Current,
        wall: WallMillis,
    ) -> Vec<EidRecord> {
        let mut records = vec![current.record];
        match self.records_inside(matched, wall) {
            Some(inside) => records.extend(inside),
            None => {
                let part = hole(target, matched, &self.directory, self.store.table(), wall);
                records.iter_mut().for_each(|record| set_prefix(record, &part));
            }
        }
        let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(UNREGISTERED);
        for record in &mut records {
            record.ttl = ttl;
            record.authoritative = false;
            for locator in &mut record.locators {
                locator.local = false;
                locator.probed = false;
            }
        }
        records
    }

    /// Everything more specific than `matched`. `None` when it is more than a reply may hold, when an ETR wants to
    /// answer for a part itself, or when a part is configured for a site that has not registered it.
    fn records_inside(&self, matched: PrefixKey, wall: WallMillis) -> Option<Vec<EidRecord>> {
        let limit = self.config.limits.records_per_reply;
        let table = self.store.table();
        let configured = self.directory.inside(matched, limit);
        let inside = table.inside(matched, wall, limit);
        let fits = configured.len() < limit && inside.len() < limit;
        if !fits || !configured.iter().all(|prefix| table.is_registered(*prefix, wall)) {
            return None;
        }
        inside
            .iter()
            .map(|prefix| {
                Some(
                    self.current(*prefix, wall)
                        .filter(|inner| self.answers_for(inner))?
                        .record,
                )
            })
            .collect()
    }

    fn not_registered(&self, target: &PrefixKey, wall: WallMillis) -> Decision {
        match self.directory.configured(target) {
            Some(configured) => self.negative(target, configured, true, wall),
            None => self.negative(target, target.truncated(0), false, wall),
        }
    }

    fn negative(&self, target: &PrefixKey, floor: PrefixKey, configured: bool, wall: WallMillis) -> Decision {
        let key = hole(target, floor, &self.directory, self.store.table(), wall);
        let ttl = if configured { UNREGISTERED } else { NOT_LISP };
        let mut record = empty_record(ttl);
        set_prefix(&mut record, &key);
        Decision::Negative { record, configured }
    }

    /// One of the registered locators that we may send to: the lowest priority, by weight among equals.
    fn choose_etr(&mut self, record: &EidRecord) -> Option<IpAddr> {
        let usable = |locator: &&RlocRecord| locator.reachable && locator.priority != Locator::NEVER;
        let candidates: Vec<(u8, u8, IpAddr)> = record
            .locators
            .iter()
            .filter(usable)
            .filter_map(|locator| Some((locator.priority, locator.weight, locator.rloc.ip()?)))
            .filter(|(_, _, address)| self.may_send(*address))
            .collect();
        let best = candidates.iter().map(|(priority, _, _)| *priority).min()?;
        let best: Vec<(u8, IpAddr)> = candidates
            .into_iter()
            .filter(|(priority, _, _)| *priority == best)
            .map(|(_, weight, address)| (weight, address))
            .collect();
        let total: u32 = best.iter().map(|(weight, _)| u32::from(*weight)).sum();
        if total == 0 {
            let index = self.random.random_range(0..best.len());
            return best.get(index).map(|(_, address)| *address);
        }
        let mut ticket = self.random.random_range(0..total);
        for (weight, address) in best {
            match ticket.checked_sub(u32::from(weight)) {
                Some(rest) => ticket = rest,
                None => return Some(address),
            }
        }
        None
    }
}

/// Ascending, IPv4 before IPv6, LCAFs after both by their type (RFC 9301 §5.5, RFC 8060 §3).
fn sort_locators(locators: &mut [RlocRecord]) {
    locators.sort_by_key(|locator| rank(&locator.rloc));
}

fn rank(address: &AfiAddress) -> (u16, u8, Option<IpAddr>) {
    match address {
        AfiAddress::None => (0, 0, None),
        AfiAddress::Ip(ip) => (if ip.is_ipv4() { 1 } else { 2 }, 0, Some(*ip)),
        AfiAddress::Mac { afi, .. } => (*afi, 0, None),
        AfiAddress::Name(_) => (17, 0, None),
        AfiAddress::Lcaf(lcaf) => (16387, lcaf_type(lcaf), address.ip()),
    }
}

const fn lcaf_type(lcaf: &Lcaf) -> u8 {
    match lcaf {
        Lcaf::Null => 0,
        Lcaf::AfiList(_) => 1,
        Lcaf::InstanceId { .. } => 2,
        Lcaf::AsNumber { .. } => 3,
        Lcaf::Application { .. } => 4,
        Lcaf::Geo { .. } => 5,
        Lcaf::OpaqueKey { .. } => 6,
        Lcaf::NatTraversal { .. } => 7,
        Lcaf::ExplicitLocatorPath(_) => 10,
        Lcaf::SecurityKey { .. } => 11,
        Lcaf::SourceDest { .. } => 12,
        Lcaf::ReplicationList(_) => 13,
        Lcaf::Json { .. } => 14,
        Lcaf::KeyValue { .. } => 15,
        Lcaf::Encapsulation { .. } => 16,
        Lcaf::Vendor { .. } => 255,
        Lcaf::Unknown { kind, .. } => *kind,
    }
}

fn empty_record(ttl: Ttl) -> EidRecord {
    EidRecord {
        ttl,
        mask_len: 0,
        action: NegativeAction::NativelyForward,
        authoritative: false,
        version: 0,
        eid: AfiAddress::None,
        locators: Vec::new(),
    }
}

/// Writes a prefix into a record.
fn set_prefix(record: &mut EidRecord, key: &PrefixKey) {
    if let Some(prefix) = key.prefix() {
        let as_record = EidRecord::from_mapping(&Mapping::negative(prefix, record.ttl, record.action));
        record.eid = as_record.eid;
        record.mask_len = as_record.mask_len;
    }
}
