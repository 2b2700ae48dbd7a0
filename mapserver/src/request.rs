//! Map-Requests (RFC 9301 §5.2, §8.3, §8.4): answered from the table, answered in the negative, or sent on to an ETR.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use lisp::wire::{Ecm, EidRecord, MapReply, MapRequest, MessageType};
use lisp::{CONTROL_PORT, DATA_PORT, EidPrefix, Rloc};

use crate::{MapServer, Transmit, answer::Decision, counters::Count, prefix_key::PrefixKey, registration::WallMillis};

/// A Map-Request and how it came.
pub(crate) struct Asked {
    pub(crate) wall: WallMillis,
    /// Outer source: whose budget it is.
    pub(crate) from: SocketAddr,
    /// Our address it was sent to.
    pub(crate) to: IpAddr,
    /// UDP payload bytes as they came, ECM header included.
    pub(crate) bytes: usize,
    pub(crate) request: MapRequest,
    /// What to send on to an ETR: the Map-Request untouched, with the inner addresses and the LISP-SEC data it had.
    pub(crate) envelope: Option<Ecm>,
    /// The Map-Request alone.
    pub(crate) payload: Vec<u8>,
    /// UDP source port of the Map-Request: where the Map-Reply goes.
    pub(crate) reply_port: u16,
}

impl MapServer {
    /// An ECM (RFC 9301 §5.8), from an ITR to us as Map-Resolver.
    pub(crate) fn encapsulated(&mut self, wall: WallMillis, from: SocketAddr, to: IpAddr, bytes: &[u8]) {
        let Ok(ecm) = Ecm::decode(bytes) else {
            return self.count(Count::malformed);
        };
        if ecm.ddt {
            return self.count(Count::ddt_request);
        }
        if ecm.to_etr {
            // One of ours that came back: an ETR's locator that leads here.
            return self.count(Count::ecm_to_etr);
        }
        let inner = ecm.payload.first().map(|byte| byte >> 4);
        if inner != Some(MessageType::MapRequest as u8) {
            return self.count(Count::ecm_content);
        }
        let Ok(request) = MapRequest::decode(&ecm.payload) else {
            return self.count(Count::malformed);
        };
        let reply_port = ecm.source.port();
        let payload = ecm.payload.clone();
        let asked = Asked {
            wall,
            from,
            to,
            bytes: bytes.len(),
            request,
            envelope: Some(ecm),
            payload,
            reply_port,
        };
        self.map_request(&asked);
    }

    /// A Map-Request without an ECM: answered all the same (RFC 9301 §8.3), the ITR being its source.
    pub(crate) fn plain_map_request(&mut self, wall: WallMillis, from: SocketAddr, to: IpAddr, bytes: &[u8]) {
        let Ok(request) = MapRequest::decode(bytes) else {
            return self.count(Count::malformed);
        };
        let reply_port = from.port();
        let payload = bytes.to_vec();
        let asked = Asked {
            wall,
            from,
            to,
            bytes: bytes.len(),
            request,
            envelope: None,
            payload,
            reply_port,
        };
        self.map_request(&asked);
    }

    fn map_request(&mut self, asked: &Asked) {
        let request = &asked.request;
        if request.probe {
            return self.count(Count::probe_dropped);
        }
        if request.smr {
            return self.count(Count::smr_dropped);
        }
        if !self
            .budget
            .admit(&self.config.limits, asked.wall, asked.from.ip(), asked.bytes)
        {
            return self.count(Count::budget_exceeded);
        }
        let Some(itr) = self.itr_rloc(asked) else {
            return self.count(Count::no_itr_rloc);
        };
        let limit = self.config.limits.records_per_request;
        let prefixes: Vec<EidPrefix> = request
            .records
            .iter()
            .take(limit)
            .filter_map(|record| record.prefix().ok())
            .collect();
        if prefixes.is_empty() {
            return self.count(Count::unsupported_eid);
        }
        self.count(Count::map_request);

        let mut answers: Vec<Decision> = Vec::new();
        let mut etrs: Vec<(IpAddr, EidPrefix)> = Vec::new();
        for prefix in prefixes {
            let decision = self.decide(&PrefixKey::from(&prefix), asked);
            match decision {
                Decision::Forward(etr) => etrs.push((etr, prefix)),
                answer if answers.contains(&answer) => {}
                answer => answers.push(answer),
            }
        }
        self.reply(asked, itr, answers, &mut etrs);
        // One copy for one message, however many ETRs were asked for: senders ask for one record (RFC 9301 §5.2), and
        // whoever asks for more must not make us send more than came in. The ETR of the first such record gets it.
        let Some(&(first, prefix)) = etrs.first() else {
            return;
        };
        let others: BTreeSet<IpAddr> = etrs.iter().map(|(etr, _)| *etr).filter(|etr| *etr != first).collect();
        for _ in others {
            self.count(Count::further_etr);
        }
        self.forward(asked, itr, first, &prefix);
    }

    /// One Map-Reply with all records that are answered here, if the source has paid for it. A proxy reply that it
    /// has not paid for is left to the ETR.
    fn reply(&mut self, asked: &Asked, itr: SocketAddr, answers: Vec<Decision>, etrs: &mut Vec<(IpAddr, EidPrefix)>) {
        if answers.is_empty() {
            return;
        }
        if asked.request.dont_reply {
            return self.count(Count::reply_not_wanted);
        }
        let records: Vec<EidRecord> = answers
            .iter()
            .flat_map(|answer| answer.records().iter().cloned())
            .collect();
        let payload = map_reply(asked, records);
        if self.pay(asked, itr, payload.len()) {
            for answer in &answers {
                self.count(answer.word());
            }
            return self.send_reply(asked, itr, payload);
        }
        let (proxied, others): (Vec<Decision>, Vec<Decision>) =
            answers.into_iter().partition(|answer| answer.etr().is_some());
        etrs.extend(
            proxied
                .iter()
                .filter_map(|answer| Some((answer.etr()?, answer.prefix()?))),
        );
        let records: Vec<EidRecord> = others
            .iter()
            .flat_map(|answer| answer.records().iter().cloned())
            .collect();
        if records.is_empty() {
            if proxied.is_empty() {
                self.count(Count::budget_exceeded);
            }
            return;
        }
        let payload = map_reply(asked, records);
        if !self.pay(asked, itr, payload.len()) {
            return self.count(Count::budget_exceeded);
        }
        for answer in &others {
            self.count(answer.word());
        }
        self.send_reply(asked, itr, payload);
    }

    fn pay(&mut self, asked: &Asked, itr: SocketAddr, bytes: usize) -> bool {
        self.budget
            .spend(&self.config.limits, asked.wall, asked.from.ip(), itr.ip(), bytes)
    }

    fn send_reply(&mut self, asked: &Asked, itr: SocketAddr, payload: Vec<u8>) {
        let source = self.source_for(asked.to, itr.ip());
        self.send(Transmit {
            source,
            destination: itr,
            payload,
        });
    }

    /// Re-encapsulates towards an ETR; the Map-Request stays byte for byte what it was (RFC 9301 §8.3). It is paid for
    /// like an answer, since an answer is what it brings about.
    fn forward(&mut self, asked: &Asked, itr: SocketAddr, etr: IpAddr, prefix: &EidPrefix) {
        let source = asked.from.ip();
        if !self
            .budget
            .spend_copy(&self.config.limits, asked.wall, source, itr.ip(), asked.bytes)
        {
            return self.count(Count::budget_exceeded);
        }
        let ecm = match &asked.envelope {
            Some(ecm) => Ecm {
                to_etr: true,
                to_ms: false,
                ..ecm.clone()
            },
            None => envelope(asked, prefix),
        };
        self.count(Count::forwarded);
        let source = self.source_for(asked.to, etr);
        let destination = SocketAddr::new(etr, CONTROL_PORT);
        self.send(Transmit {
            source,
            destination,
            payload: ecm.encode(),
        });
    }

    /// Where the Map-Reply goes: an ITR-RLOC that is where the request came from, else one of the family it came in,
    /// else any we can reach. None of those that nobody may be made to receive at (RFC 9301 §5.4, §9).
    fn itr_rloc(&self, asked: &Asked) -> Option<SocketAddr> {
        let port = asked.reply_port;
        if port == 0 || port == DATA_PORT {
            return None;
        }
        let usable: Vec<IpAddr> = asked
            .request
            .itr_rlocs
            .iter()
            .filter_map(|address| address.ip())
            .filter(|ip| self.may_send(*ip))
            .collect();
        let from = asked.from.ip();
        let same_family = |ip: &&IpAddr| ip.is_ipv4() == from.is_ipv4();
        let best = usable
            .iter()
            .find(|ip| **ip == from)
            .or_else(|| usable.iter().find(same_family))
            .or_else(|| usable.first())?;
        Some(SocketAddr::new(*best, port))
    }

    /// Whether a message may be sent to `address` because somebody unauthenticated, or a registered locator, says so.
    pub(crate) fn may_send(&self, address: IpAddr) -> bool {
        let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let own = self.own.contains(&address);
        // Loopback is another name of ours, unless all of this happens inside one host.
        let loopback = address.is_loopback() && !self.own.iter().any(IpAddr::is_loopback);
        Rloc::new(address).is_usable() && !mapped && !link_local && !own && !loopback && self.can_send_to(address)
    }
}

/// RFC 9301 §5.4: the nonce of the request, no probe, no echo-nonce.
fn map_reply(asked: &Asked, records: Vec<EidRecord>) -> Vec<u8> {
    MapReply {
        probe: false,
        echo_nonce: false,
        nonce: asked.request.nonce,
        records,
        security: None,
    }
    .encode()
}

/// An ECM for a Map-Request that came without one. The inner destination is the EID asked for; the inner source is
/// the ITR where the families allow it, and says nothing otherwise: the ETR answers to an ITR-RLOC.
fn envelope(asked: &Asked, prefix: &EidPrefix) -> Ecm {
    let destination = SocketAddr::new(prefix.net().addr(), CONTROL_PORT);
    let source = match (asked.from.ip(), destination.ip()) {
        (from, to) if from.is_ipv4() == to.is_ipv4() => from,
        (_, IpAddr::V4(_)) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (_, IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Ecm {
        ddt: false,
        to_etr: true,
        to_ms: false,
        security: None,
        source: SocketAddr::new(source, asked.reply_port),
        destination,
        payload: asked.payload.clone(),
    }
}
