//! `lig` (RFC 6835): asks the mapping system and shows what came back. Neither reads nor fills the map-cache.

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use lisp::wire::MapReply;
use lisp::{Eid, Nonce};

use crate::{
    Event, LookupAnswer, LookupError, compose,
    deadlines::Deadlines,
    request::{self, Ground},
    sealed::Offered,
};

#[derive(Debug)]
struct Lookup {
    id: u64,
    eid: Eid,
    resolver: Option<SocketAddr>,
    tries: u32,
    sent: Instant,
    /// In a sealed network: what was offered. Only a signed answer is shown.
    offered: Option<Offered>,
}

/// Look-ups under way.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    by_nonce: BTreeMap<Nonce, Lookup>,
    due: Deadlines<Nonce>,
}

impl Lookups {
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.next()
    }

    /// Whether the Map-Reply to this nonce is for a look-up of ours.
    pub(crate) fn is_outstanding(&self, nonce: Nonce) -> bool {
        self.by_nonce.contains_key(&nonce)
    }

    pub(crate) fn start(&mut self, ground: &mut Ground<'_>, id: u64, eid: Eid, resolver: Option<SocketAddr>) {
        let (now, config) = (ground.now, ground.config);
        let out = &mut *ground.out;
        let refused = if self.by_nonce.len() >= config.limits.lookups {
            Some(LookupError::Busy)
        } else if config.locators.is_empty() {
            Some(LookupError::NoLocator)
        } else if resolver.is_none() && request::resolver(config, 0).is_none() {
            Some(LookupError::NoResolver)
        } else {
            None
        };
        if let Some(error) = refused {
            out.counters.lookup_failed = out.counters.lookup_failed.saturating_add(1);
            out.event(Event::LookupDone { id, result: Err(error) });
            return;
        }
        let nonce = out.random_nonce();
        self.by_nonce.insert(
            nonce,
            Lookup {
                id,
                eid,
                resolver,
                tries: 0,
                sent: now,
                offered: None,
            },
        );
        self.due.set(nonce, now);
        self.tick(ground);
    }

    pub(crate) fn answer(&mut self, ground: &mut Ground<'_>, from: SocketAddr, reply: &MapReply, bytes: &[u8]) {
        let now = ground.now;
        let Some(lookup) = self.by_nonce.get(&reply.nonce) else {
            return;
        };
        let is_negative = reply.records.iter().all(|record| record.locators.is_empty());
        let mappings: Vec<_> = match &lookup.offered {
            Some(offered) if !is_negative => {
                let (config, database, eid) = (ground.config, ground.database, lookup.eid);
                let believed = ground
                    .sealed
                    .answer(now, config, database, &eid, offered, reply, bytes, ground.out);
                let Ok(accepted) = believed else { return };
                vec![accepted.mapping]
            }
            _ => {
                let records = reply.records.iter();
                records.filter_map(|record| record.to_mapping().ok()).collect()
            }
        };
        let out = &mut *ground.out;
        if !mappings.iter().any(|mapping| mapping.prefix.contains(&lookup.eid)) {
            out.counters.map_reply_wrong_eid = out.counters.map_reply_wrong_eid.saturating_add(1);
            return;
        }
        let answer = LookupAnswer {
            mappings,
            from,
            rtt: now.saturating_duration_since(lookup.sent),
            tries: lookup.tries,
        };
        out.counters.lookup_answered = out.counters.lookup_answered.saturating_add(1);
        out.event(Event::LookupDone {
            id: lookup.id,
            result: Ok(answer),
        });
        self.by_nonce.remove(&reply.nonce);
        self.due.remove(&reply.nonce);
    }

    pub(crate) fn tick(&mut self, ground: &mut Ground<'_>) {
        let (now, config) = (ground.now, ground.config);
        while let Some(nonce) = self.due.pop(now) {
            let Some(lookup) = self.by_nonce.get_mut(&nonce) else {
                continue;
            };
            let out = &mut *ground.out;
            if lookup.tries >= config.timers.lookup_tries {
                let result = Err(LookupError::Timeout { tries: lookup.tries });
                out.counters.lookup_failed = out.counters.lookup_failed.saturating_add(1);
                out.event(Event::LookupDone { id: lookup.id, result });
                self.by_nonce.remove(&nonce);
                continue;
            }
            let turn = usize::try_from(lookup.tries).unwrap_or(0);
            let resolver = lookup
                .resolver
                .or_else(|| request::resolver(config, turn).map(|peer| peer.address));
            // Ourselves are asked in clear: nobody else would believe the answer, and it says nothing that we do not know.
            let foreign = !ground.database.serves(&lookup.eid);
            let request = if config.is_sealed(lookup.eid.instance_id) && foreign {
                if lookup.offered.is_none() {
                    let (database, eid) = (ground.database, lookup.eid);
                    let how = (false, false);
                    let offered = ground
                        .sealed
                        .offer(now, config, database, eid, None, nonce, how, ground.out);
                    lookup.offered = offered.ok();
                }
                lookup.offered.as_ref().map(|offered| offered.bytes.clone())
            } else {
                Some(compose::map_request(config, nonce, None, lookup.eid, false))
            };
            let out = &mut *ground.out;
            if let (Some(resolver), Some(request)) = (resolver, request) {
                out.send(
                    None,
                    resolver,
                    compose::through_mapping_system(config, request, None, lookup.eid),
                );
            }
            lookup.tries = lookup.tries.saturating_add(1);
            lookup.sent = now;
            self.due.set(nonce, now + config.timers.lookup_timeout);
        }
    }
}
