//! The ETR's answers: Map-Replies to Map-Requests and RLOC-probes for prefixes that this node serves
//! (RFC 9301 §5.4, §5.5, §7.1). Never more than the budget, never to where nobody may be sent anything.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use lisp::wire::{EidRecord, MapRequest};
use lisp::{DATA_PORT, Mapping, Rloc, Ttl};

use crate::{
    Config, DatabaseMapping, compose,
    database::Database,
    outbox::Outbox,
    rate::{Allowance, Budget},
};

/// Budgets of Map-Replies, and of probe replies apart from them.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    replies: Budget,
    probes: Budget,
}

/// How a Map-Request reached us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Who asked and from which port: the inner source when it was encapsulated.
    pub(crate) from: SocketAddr,
    /// Which address of ours it came to.
    pub(crate) to: IpAddr,
    /// Through the mapping system.
    pub(crate) encapsulated: bool,
    /// We asked ourselves (`lig self`).
    pub(crate) ourselves: bool,
}

impl Replies {
    /// Answers `request` if it is for us.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        config: &Config,
        database: &Database,
        arrival: Arrival,
        request: &MapRequest,
        out: &mut Outbox,
    ) {
        if !admissible(arrival, request, out) {
            return;
        }
        let probed = request.probe.then_some(arrival.to);
        let mappings = answers(config, database, (probed, arrival.ourselves), request, out);
        if mappings.is_empty() {
            out.counters.map_request_not_ours = out.counters.map_request_not_ours.saturating_add(1);
            return;
        }
        let Some(itr_rloc) = self.afford(now, config, arrival, request, out) else {
            return;
        };
        let answered = if request.probe {
            &mut out.counters.probe_answered
        } else {
            &mut out.counters.map_request_answered
        };
        *answered = answered.saturating_add(1);
        let mut records: Vec<EidRecord> = mappings.iter().map(EidRecord::from_mapping).collect();
        let mut payload = compose::map_reply(request.nonce, request.probe, records.clone());
        while payload.len() > compose::largest_payload(itr_rloc) && records.len() > 1 {
            records.pop();
            payload = compose::map_reply(request.nonce, request.probe, records.clone());
        }
        send(config, arrival, itr_rloc, payload, out);
    }

    /// Where the answer goes, if it may go there: an ITR-RLOC within its budget.
    pub(crate) fn afford(
        &mut self,
        now: Instant,
        config: &Config,
        arrival: Arrival,
        request: &MapRequest,
        out: &mut Outbox,
    ) -> Option<IpAddr> {
        let Some(itr_rloc) = itr_rloc(config, arrival, request) else {
            out.counters.map_request_no_itr_rloc = out.counters.map_request_no_itr_rloc.saturating_add(1);
            return None;
        };
        let budget = if request.probe {
            &mut self.probes
        } else {
            &mut self.replies
        };
        if !budget.take(now, itr_rloc, allowance(config)) {
            out.counters.map_request_over_budget = out.counters.map_request_over_budget.saturating_add(1);
            return None;
        }
        Some(itr_rloc)
    }
}

/// Sends an answer. The address that was asked answers, where the family allows it: the asker's NAT or filter expects it.
pub(crate) fn send(config: &Config, arrival: Arrival, itr_rloc: IpAddr, payload: Vec<u8>, out: &mut Outbox) {
    let source = Some(arrival.to).filter(|to| to.is_ipv4() == itr_rloc.is_ipv4() && config.is_own(*to));
    out.send(source, SocketAddr::new(itr_rloc, arrival.from.port()), payload);
}

/// Whether a Map-Request may be answered at all, whatever it asks for.
pub(crate) fn admissible(arrival: Arrival, request: &MapRequest, out: &mut Outbox) -> bool {
    let counters = &mut out.counters;
    if request.map_reply_record.is_some() {
        counters.map_request_record_ignored = counters.map_request_record_ignored.saturating_add(1);
    }
    if request.probe && arrival.encapsulated {
        counters.probe_encapsulated = counters.probe_encapsulated.saturating_add(1);
        return false;
    }
    if request.dont_reply {
        counters.map_request_dont_reply = counters.map_request_dont_reply.saturating_add(1);
        return false;
    }
    if matches!(arrival.from.port(), 0 | DATA_PORT) {
        counters.map_request_bad_port = counters.map_request_bad_port.saturating_add(1);
        return false;
    }
    true
}

const fn allowance(config: &Config) -> Allowance {
    let limits = &config.limits;
    Allowance {
        burst: limits.reply_burst,
        rate: limits.reply_rate,
        total: limits.reply_rate_total,
        destinations: limits.rate_sources,
    }
}

/// The best match of each record asked for and what is more specific of it (§5.5), bounded. All of one TTL.
fn answers(
    config: &Config,
    database: &Database,
    (probed, ourselves): (Option<IpAddr>, bool),
    request: &MapRequest,
    out: &mut Outbox,
) -> Vec<Mapping> {
    let mut chosen: Vec<DatabaseMapping> = Vec::new();
    for record in &request.records {
        let Ok(asked) = record.prefix() else {
            out.counters.map_request_not_ip = out.counters.map_request_not_ip.saturating_add(1);
            continue;
        };
        if config.is_sealed(asked.instance_id()) && !ourselves {
            // Whoever asks in clear learns nothing of a sealed network.
            out.counters.sealed_unsigned = out.counters.sealed_unsigned.saturating_add(1);
            continue;
        }
        let Some((best, mapping)) = database.table.longest_cover(&asked) else {
            continue;
        };
        let inside = database.table.more_specifics(&best).map(|(_, inner)| *inner);
        for mapping in std::iter::once(*mapping).chain(inside) {
            if chosen.len() >= config.limits.reply_records {
                break;
            }
            if !chosen.iter().any(|other| other.prefix == mapping.prefix) {
                chosen.push(mapping);
            }
        }
    }
    let ttl = chosen.iter().map(|mapping| mapping.ttl).min().unwrap_or(Ttl::DAY);
    chosen
        .iter()
        .map(|mapping| own_mapping(config, mapping, ttl, probed))
        .collect()
}

/// A mapping of ours as it is told to others: authoritative, locators local, in ascending order; the p-bit on the
/// locator that was probed.
pub(crate) fn own_mapping(config: &Config, mapping: &DatabaseMapping, ttl: Ttl, probed: Option<IpAddr>) -> Mapping {
    let mut locators = config.locators.clone();
    for locator in &mut locators {
        locator.local = true;
        locator.probed = probed == Some(locator.rloc.address);
    }
    let mut told = Mapping::new(mapping.prefix, ttl, locators);
    told.authoritative = true;
    told
}

/// Where the answer goes: an ITR-RLOC that may be sent to, of a family of ours; the one that the request came from
/// when it is named, else one of the family that it came by.
fn itr_rloc(config: &Config, arrival: Arrival, request: &MapRequest) -> Option<IpAddr> {
    let usable = || {
        request
            .itr_rlocs
            .iter()
            .filter_map(|address| address.ip())
            .filter(|ip| Rloc::new(*ip).is_usable() && config.speaks(*ip) && (arrival.ourselves || !config.is_own(*ip)))
    };
    usable()
        .find(|ip| *ip == arrival.from.ip())
        .or_else(|| usable().find(|ip| ip.is_ipv4() == arrival.to.is_ipv4()))
        .or_else(|| usable().next())
}
