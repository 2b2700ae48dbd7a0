//! `lig` (RFC 6835): asks the mapping system and shows what came back. Neither reads nor fills the map-cache.

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use lisp::wire::MapReply;
use lisp::{Eid, Nonce};

use crate::{Config, Event, LookupAnswer, LookupError, compose, deadlines::Deadlines, outbox::Outbox, request};

#[derive(Debug)]
struct Lookup {
    id: u64,
    eid: Eid,
    resolver: Option<SocketAddr>,
    tries: u32,
    sent: Instant,
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

    pub(crate) fn start(
        &mut self,
        now: Instant,
        config: &Config,
        id: u64,
        eid: Eid,
        resolver: Option<SocketAddr>,
        out: &mut Outbox,
    ) {
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
            },
        );
        self.due.set(nonce, now);
        self.tick(now, config, out);
    }

    pub(crate) fn answer(&mut self, now: Instant, from: SocketAddr, reply: &MapReply, out: &mut Outbox) {
        let Some(lookup) = self.by_nonce.get(&reply.nonce) else {
            return;
        };
        let mappings: Vec<_> = reply
            .records
            .iter()
            .filter_map(|record| record.to_mapping().ok())
            .collect();
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

    pub(crate) fn tick(&mut self, now: Instant, config: &Config, out: &mut Outbox) {
        while let Some(nonce) = self.due.pop(now) {
            let Some(lookup) = self.by_nonce.get_mut(&nonce) else {
                continue;
            };
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
            if let Some(resolver) = resolver {
                let request = compose::map_request(config, nonce, None, lookup.eid, false);
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
