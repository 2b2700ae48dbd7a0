//! What the machine does with what concerns sealed networks: it connects the exchange with map-cache, Map-Requests and
//! probes.

use std::time::Instant;

use lisp::{
    Eid, Mapping, Rloc, Ttl,
    mesh::{KeyId, SaIndex},
    wire::{MapReply, MapRequest},
};

use crate::{
    Reachability,
    accept::accept,
    reply::{self, Arrival},
    request::Reason,
    xtr::Xtr,
};

impl Xtr {
    /// A Map-Reply in a sealed network came: signed, or of no consequence for what is known.
    pub(crate) fn sealed_reply(&mut self, now: Instant, asked: Eid, reply: &MapReply, bytes: &[u8]) {
        let is_negative = !reply.records.is_empty() && reply.records.iter().all(|record| record.locators.is_empty());
        if is_negative {
            self.sealed_negative(now, asked, reply);
            return;
        }
        let Some(offered) = self.requests.offered(reply.nonce) else {
            self.out.count(|counters| &mut counters.map_reply_unknown_nonce);
            return;
        };
        let believed = self.sealed.answer(
            now,
            &self.config,
            &self.database,
            &asked,
            offered,
            reply,
            bytes,
            &mut self.out,
        );
        let Ok(accepted) = believed else { return };
        self.out.count(|counters| &mut counters.map_reply_accepted);
        let node = Some(accepted.node);
        let records = vec![accepted.mapping];
        let changed = self
            .cache
            .accept(now, &self.config, asked, records, node, false, &mut self.out);
        self.follow(changed);
        self.with_requests(now, |requests, ground| requests.done(ground, reply.nonce));
    }

    /// Nobody signs a negative reply. It ends the repetitions, and stands in for a mapping where none is known, or where
    /// the known one is of no use because there is no SA with its node. What is known by a signature and in use stays, and
    /// a signed answer is still taken.
    fn sealed_negative(&mut self, now: Instant, asked: Eid, reply: &MapReply) {
        self.out.count(|counters| &mut counters.sealed_negative);
        let known = self.cache.longest_match(&asked);
        let usable = |node: KeyId| self.sealed.usable(now, &self.config, &node);
        let stays = known.is_some_and(|(_, entry)| !entry.mapping.is_negative() && entry.node.is_some_and(usable));
        if !stays && let Some(mappings) = accept(&self.config, &self.database.table, &asked, reply, &mut self.out) {
            let changed = self
                .cache
                .accept(now, &self.config, asked, mappings, None, true, &mut self.out);
            self.follow(changed);
        }
        self.requests.negative(now, reply.nonce);
    }

    /// A Map-Request for a sealed network came.
    pub(crate) fn sealed_request(&mut self, now: Instant, arrival: Arrival, request: &MapRequest, bytes: &[u8]) {
        if !reply::admissible(arrival, request, &mut self.out) {
            return;
        }
        let asked = request.records.first().and_then(|record| record.prefix().ok());
        let own = asked.and_then(|asked| self.database.table.longest_cover(&asked));
        let Some((_, own)) = own.map(|(prefix, own)| (prefix, *own)) else {
            self.out.count(|counters| &mut counters.map_request_not_ours);
            self.doubt_negative(now, request);
            return;
        };
        let has_offer = request
            .itr_rlocs
            .iter()
            .any(|rloc| lisp::mesh::vendor_payload(rloc).is_some());
        if request.probe && !has_offer {
            self.out.count(|counters| &mut counters.sealed_clear_probe);
            return;
        }
        let to = self.replies.afford(now, &self.config, arrival, request, &mut self.out);
        let Some(itr_rloc) = to else { return };
        // Straight to us, the answer goes back the way it came: through a NAT there is no other.
        let itr_rloc = if arrival.encapsulated {
            itr_rloc
        } else {
            arrival.from.ip()
        };
        let ttl = if own.ttl == Ttl::ZERO { Ttl::DAY } else { own.ttl };
        let own_mapping = reply::own_mapping(&self.config, &own, ttl, None);
        let answer = self.sealed.respond(
            now,
            &self.config,
            &self.database,
            request,
            bytes,
            (&own, &own_mapping),
            &mut self.out,
        );
        let Some((payload, moved)) = answer else { return };
        self.out.count(|counters| &mut counters.map_request_answered);
        reply::send(&self.config, arrival, itr_rloc, payload, &mut self.out);
        if let (Some(prefix), Some(node)) = (moved, node_of_request(request)) {
            let changed = self.cache.withdraw_of(
                &prefix,
                |holder| holder.is_some_and(|holder| holder != node),
                &mut self.out,
            );
            self.follow(changed);
        }
    }

    /// The other side of an SA is live: where it said that it is may be believed.
    pub(crate) fn sa_confirmed(&mut self, now: Instant, index: SaIndex) {
        let Some((node, eid, mapping)) = self
            .sealed
            .confirmed(now, &self.config, index, &self.database, &mut self.out)
        else {
            return;
        };
        let mut mapping = mapping;
        mapping
            .locators
            .retain(|locator| locator.rloc.is_usable() && !self.config.is_own(locator.rloc.address));
        let known = self.cache.get(&mapping.prefix);
        let same = known.is_some_and(|known| known.locators == mapping.locators)
            && self.cache.node(&mapping.prefix) == Some(node);
        if same || mapping.locators.is_empty() {
            return;
        }
        let changed = self
            .cache
            .accept(now, &self.config, eid, vec![mapping], Some(node), false, &mut self.out);
        self.follow(changed);
        self.requests.cancel(|asked| *asked == eid);
    }

    /// A message came inside an SA.
    pub(crate) fn sealed_message(&mut self, now: Instant, node: KeyId, payload: &[u8]) {
        let heard = self
            .sealed
            .message(now, &self.config, &self.database, node, payload, &mut self.out);
        for prefix in heard.withdrawn {
            // What covers it is as wrong as what lies inside.
            let covering = self
                .cache
                .longest_match(&prefix.first_eid())
                .map(|(covering, _)| covering);
            for prefix in [prefix].into_iter().chain(covering) {
                let changed = self
                    .cache
                    .withdraw_of(&prefix, |holder| holder == Some(node), &mut self.out);
                self.follow(changed);
            }
        }
        for prefix in heard.moved {
            let changed = self
                .cache
                .withdraw_of(&prefix, |holder| holder != Some(node), &mut self.out);
            self.follow(changed);
        }
    }

    /// Begins exchanges for the SAs that are about to end.
    pub(crate) fn replace_associations(&mut self, now: Instant) {
        for (node, eid) in self.sealed.tick(now, &self.config, &mut self.out) {
            self.out.count(|counters| &mut counters.sa_replaced);
            self.exchange(now, node, eid, None);
        }
    }

    /// Asks `node` itself for a new SA, by one of its EIDs and its best locator; the mapping system when it does not
    /// answer.
    pub(crate) fn exchange(&mut self, now: Instant, node: KeyId, eid: Option<Eid>, source: Option<Eid>) {
        let Some((asked, mapping)) = self.cache.of_node(&node, eid) else {
            if let Some(eid) = eid {
                self.ask(now, eid, source, Reason::Rekey);
            }
            return;
        };
        let states = self.probes.status(now, &self.config);
        let is_down = |rloc: &Rloc| {
            states
                .iter()
                .any(|state| state.rloc == *rloc && matches!(state.state, Reachability::Down | Reachability::NoUplink))
        };
        let direct = best(mapping, |rloc| self.config.speaks(rloc.address), is_down);
        self.with_requests(now, |requests, ground| {
            requests.ask(ground, asked, source, Reason::Rekey, direct);
        });
    }
}

/// The locator to ask: usable, not known to be down, of the best priority. `None`: the mapping system is asked.
fn best(mapping: &Mapping, speaks: impl Fn(&Rloc) -> bool, is_down: impl Fn(&Rloc) -> bool) -> Option<Rloc> {
    let usable = mapping
        .locators
        .iter()
        .filter(|locator| locator.is_usable() && speaks(&locator.rloc) && !is_down(&locator.rloc));
    usable
        .min_by_key(|locator| locator.priority)
        .map(|locator| locator.rloc)
}

fn node_of_request(request: &MapRequest) -> Option<KeyId> {
    request
        .itr_rlocs
        .iter()
        .find_map(|rloc| match lisp::mesh::vendor_payload(rloc)? {
            Ok(lisp::mesh::Payload::Offer(offer)) => offer.node.id(),
            _ => None,
        })
}
