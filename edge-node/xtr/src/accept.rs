//! Which Map-Replies are believed (RFC 9301 §5.4, §5.5; the nonce has been matched before). A refusal uses nothing
//! up: the nonce stays outstanding for the true answer.

use std::net::IpAddr;

use lisp::wire::MapReply;
use lisp::{Eid, EidPrefix, Locator, Mapping, Ttl};

use crate::{Config, outbox::Outbox, prefix_table::PrefixTable};

/// The mappings of `reply` that answer for `asked`: the one that covers it, then its more-specifics. `None`: refused,
/// and counted why.
pub(crate) fn accept<V>(
    config: &Config,
    own: &PrefixTable<V>,
    asked: &Eid,
    reply: &MapReply,
    out: &mut Outbox,
) -> Option<Vec<Mapping>> {
    let counters = &mut out.counters;
    if reply.security.is_some() {
        counters.map_reply_security_ignored = counters.map_reply_security_ignored.saturating_add(1);
    }
    let records: Vec<Mapping> = reply
        .records
        .iter()
        .filter_map(|record| record.to_mapping().ok())
        .collect();
    let Some(cover) = records
        .iter()
        .filter(|mapping| mapping.prefix.contains(asked))
        .max_by_key(|mapping| mapping.prefix.length())
    else {
        counters.map_reply_wrong_eid = counters.map_reply_wrong_eid.saturating_add(1);
        return None;
    };
    // A record whose locators are all of a kind we cannot use must not pass for a negative one.
    let had_locators = |prefix: &EidPrefix| {
        reply
            .records
            .iter()
            .any(|r| r.prefix().is_ok_and(|p| p == *prefix) && !r.locators.is_empty())
    };
    let mut cover = cover.clone();
    let least = shortest_mask(config, asked.address);
    if cover.prefix.length() < least {
        if had_locators(&cover.prefix) {
            counters.map_reply_overclaim = counters.map_reply_overclaim.saturating_add(1);
            return None;
        }
        counters.map_reply_negative_clipped = counters.map_reply_negative_clipped.saturating_add(1);
        cover.prefix = EidPrefix::from_parts(asked.instance_id, asked.address, least).ok()?;
    }
    if own.longest_cover(&cover.prefix).is_some() {
        counters.map_reply_own_prefix = counters.map_reply_own_prefix.saturating_add(1);
        return None;
    }
    let positive = had_locators(&cover.prefix);
    cover.locators = usable_locators(config, &cover.locators);
    if positive && cover.locators.is_empty() && cover.ttl != Ttl::ZERO {
        counters.map_reply_no_usable_locator = counters.map_reply_no_usable_locator.saturating_add(1);
        return None;
    }
    let mut accepted = vec![cover];
    for mut mapping in records {
        let Some(first) = accepted.first() else { break };
        if mapping.prefix == first.prefix || mapping.prefix.contains(asked) {
            continue;
        }
        let claimed = had_locators(&mapping.prefix);
        mapping.locators = usable_locators(config, &mapping.locators);
        let acceptable = first.prefix.covers(&mapping.prefix)
            && mapping.prefix.length() >= least
            && own.longest_cover(&mapping.prefix).is_none()
            && (!claimed || !mapping.locators.is_empty())
            && !accepted.iter().any(|other| other.prefix == mapping.prefix);
        if acceptable {
            accepted.push(mapping);
        } else {
            out.counters.map_reply_stray_record = out.counters.map_reply_stray_record.saturating_add(1);
        }
    }
    // Less specific before more specific, so that the cache can take them from the back.
    if let Some(rest) = accepted.get_mut(1..) {
        rest.sort_by_key(|mapping| mapping.prefix.length());
    }
    Some(accepted)
}

/// Shortest mask of a record for an EID of this family. Never 0.
fn shortest_mask(config: &Config, address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => config.limits.min_mask_v4.clamp(1, 32),
        IpAddr::V6(_) => config.limits.min_mask_v6.clamp(1, 128),
    }
}

/// Addresses that data may be sent to: no multicast, broadcast or unspecified ones, none of our own (a loop), no more
/// than the limit, the best priorities first when there are more.
fn usable_locators(config: &Config, locators: &[Locator]) -> Vec<Locator> {
    let mut usable: Vec<Locator> = locators
        .iter()
        .filter(|locator| locator.rloc.is_usable() && !config.is_own(locator.rloc.address))
        .copied()
        .collect();
    if usable.len() > config.limits.locators_per_mapping {
        usable.sort_by_key(|locator| (locator.priority, locator.rloc));
        usable.truncate(config.limits.locators_per_mapping);
    }
    usable.sort();
    usable.dedup_by_key(|locator| locator.rloc);
    usable
}
