//! The prefix of a negative Map-Reply against an oracle that tries every length.

mod common;

use common::*;
use lisp::EidPrefix;
use mapserver::SitePrefix;
use proptest::prelude::*;

/// A prefix of 24 to 32 bits in 192.0.2/24, or of 120 to 128 in 2001:db8::/120, in one of two instances.
fn small_prefix() -> impl Strategy<Value = EidPrefix> {
    (1u8..=2, any::<bool>(), any::<u8>(), 0u8..=8).prop_map(|(instance, v4, last, bits)| {
        let text = match v4 {
            true => format!("[{instance}]192.0.2.{last}/{}", 24 + bits),
            false => format!("[{instance}]2001:db8::{last:x}/{}", 120 + bits),
        };
        text.parse().unwrap()
    })
}

fn target() -> impl Strategy<Value = EidPrefix> {
    small_prefix().prop_map(|prefix| {
        let host = if prefix.net().addr().is_ipv4() { 32 } else { 128 };
        EidPrefix::from_parts(prefix.instance_id(), prefix.net().addr(), host).unwrap()
    })
}

/// RFC 9301 §8.3 and §8.4, by trying every length from the shortest.
fn oracle(target: &EidPrefix, configured: &[EidPrefix], registered: &[EidPrefix]) -> (u32, EidPrefix) {
    let floor = configured
        .iter()
        .filter(|prefix| prefix.covers(target))
        .max_by_key(|prefix| prefix.length());
    let shortest = floor.map_or(0, EidPrefix::length);
    let lengths = shortest..=target.length();
    let found = lengths
        .map(|length| EidPrefix::from_parts(target.instance_id(), target.net().addr(), length).unwrap())
        .find(|candidate| {
            let holds = |known: &&EidPrefix| candidate.covers(known) && Some(*known) != floor;
            !configured
                .iter()
                .chain(registered)
                .any(|known| holds(&known) && !known.covers(target))
        });
    (if floor.is_some() { 1 } else { 15 }, found.unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_negative_prefix_is_the_shortest_that_holds_nothing_known(
        configured in proptest::collection::btree_set(small_prefix(), 0..8),
        blocks in proptest::collection::btree_set(small_prefix(), 0..4),
        registered in proptest::collection::btree_set(small_prefix(), 0..12),
        targets in proptest::collection::vec(target(), 1..8),
    ) {
        let mut plant = site("plant", &[]);
        plant.prefixes = configured
            .iter()
            .map(|prefix| SitePrefix { prefix: *prefix, accept_more_specifics: true })
            .collect();
        let mut config = config(vec![plant]);
        config.blocks = blocks.iter().copied().collect();
        let mut server = Server::new(config);
        let mut xtr = Xtr::new(1);
        let owned = |prefix: &EidPrefix| configured.iter().any(|site| site.covers(prefix));
        let registered: Vec<EidPrefix> = registered.into_iter().filter(owned).collect();
        for prefix in &registered {
            let bytes = xtr.register(&[&prefix.to_string()]);
            prop_assert_eq!(server.deliver(&xtr.from(), &bytes).len(), 1);
        }
        let all: Vec<EidPrefix> = configured.union(&blocks).copied().collect();
        for target in targets {
            let text = target.to_string();
            let sent = server.deliver(ITR, &ask(&text));
            let matched = registered.iter().filter(|prefix| prefix.covers(&target)).map(EidPrefix::length).max();
            let delegated = configured.iter().filter(|prefix| prefix.covers(&target)).map(EidPrefix::length).max();
            if matched.is_some() && matched >= delegated {
                prop_assert_eq!(sent[0].destination, xtr.address, "registered: sent on");
                continue;
            }
            let record = map_reply(&sent).records.remove(0);
            let (ttl, prefix) = oracle(&target, &all, &registered);
            prop_assert_eq!((record.ttl.0, record.prefix().unwrap()), (ttl, prefix), "{}", text);
        }
    }
}
