//! One Map-Server in virtual time, and xTRs that speak to it in signed bytes.
#![allow(dead_code, reason = "every test binary uses a part of it")]
#![allow(
    clippy::disallowed_methods,
    reason = "one anchor of virtual time; nothing waits for the clock"
)]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lisp::wire::{
    AfiAddress, AuthAlgorithm, Authentication, Ecm, EidRecord, MapNotify, MapNotifyAck, MapRegister, MapReply,
    MapRequest, Purpose, RequestRecord, RlocRecord, sign, verify,
};
use lisp::{Eid, EidPrefix, Locator, Mapping, Nonce, Rloc, SiteId, Ttl, XtrId};
use mapserver::store::{MemoryStore, Store};
use mapserver::{Event, MapServer, MapServerConfig, Secret, Site, SiteKey, SitePrefix, Transmit};

pub const SERVER: &str = "192.0.2.254";
pub const SECRET: &[u8] = b"correct horse";

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn prefix(text: &str) -> EidPrefix {
    text.parse().unwrap()
}

pub fn eid(text: &str) -> Eid {
    let prefix = prefix(text);
    Eid::new(prefix.instance_id(), prefix.net().addr())
}

pub fn site(name: &str, prefixes: &[&str]) -> Site {
    let prefixes = prefixes.iter().map(|text| SitePrefix {
        prefix: prefix(text),
        accept_more_specifics: true,
    });
    Site {
        name: name.to_owned(),
        keys: vec![key(1, SECRET)],
        prefixes: prefixes.collect(),
        allow_proxy_reply: true,
        force_proxy_reply: false,
    }
}

pub fn key(key_id: u8, secret: &[u8]) -> SiteKey {
    SiteKey {
        key_id,
        secret: Secret::new(secret),
        algorithms: vec![AuthAlgorithm::HmacSha256_128],
    }
}

pub fn config(sites: Vec<Site>) -> MapServerConfig {
    MapServerConfig {
        sites,
        addresses: vec![ip(SERVER), ip("2001:db8::254")],
        ..MapServerConfig::default()
    }
}

/// A Map-Server and its virtual time.
pub struct Server {
    pub machine: MapServer,
    pub now: Instant,
    counted: mapserver::Counters,
}

impl Server {
    pub fn new(config: MapServerConfig) -> Self {
        Self::with_store(
            config,
            Box::new(MemoryStore::default()),
            Duration::from_secs(1_700_000_000),
        )
    }

    /// `wall`: since 1970.
    pub fn with_store(config: MapServerConfig, store: Box<dyn Store>, wall: Duration) -> Self {
        let now = Instant::now();
        let machine = MapServer::new(config, store, [7; 32], now, wall_time(wall)).unwrap();
        let counted = *machine.counters();
        Self { machine, now, counted }
    }

    /// Delivers a datagram and returns what goes out.
    pub fn deliver(&mut self, from: &str, bytes: &[u8]) -> Vec<Transmit> {
        let from: SocketAddr = from.parse().unwrap();
        let to = if from.is_ipv4() {
            ip(SERVER)
        } else {
            ip("2001:db8::254")
        };
        self.machine.handle_datagram(self.now, from, to, bytes);
        self.drain()
    }

    pub fn drain(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.machine.poll_transmit()).collect()
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.machine.poll_event()).collect()
    }

    /// Lets time pass, deadline by deadline, and returns what was sent, with when.
    pub fn pass(&mut self, time: Duration) -> Vec<(Duration, Transmit)> {
        let start = self.now;
        let end = start + time;
        let mut sent = Vec::new();
        loop {
            let due = self.machine.poll_timeout().filter(|(at, _)| *at <= end);
            self.now = due.map_or(end, |(at, _)| at.max(self.now));
            if due.is_none() {
                return sent;
            }
            self.machine.handle_timeout(self.now);
            let at = self.now - start;
            sent.extend(self.drain().into_iter().map(|transmit| (at, transmit)));
        }
    }

    /// Exactly the counters that rose since the last call.
    #[track_caller]
    pub fn counted(&mut self, expected: &[(&str, u64)]) {
        let risen = self.machine.counters().since(&self.counted);
        self.counted = *self.machine.counters();
        let mut expected = expected.to_vec();
        let mut risen_sorted = risen;
        expected.sort_unstable();
        risen_sorted.sort_unstable();
        assert_eq!(risen_sorted, expected);
    }

    pub fn registered(&self) -> Vec<String> {
        let all = self.machine.registrations(self.now);
        all.iter()
            .filter(|entry| !entry.superseded)
            .map(|entry| entry.prefix.to_string())
            .collect()
    }
}

pub fn wall_time(since: Duration) -> SystemTime {
    UNIX_EPOCH + since
}

/// An xTR: signs Map-Registers with a rising nonce.
#[derive(Clone)]
pub struct Xtr {
    pub address: SocketAddr,
    pub xtr: Option<(XtrId, SiteId)>,
    pub key_id: u8,
    pub secret: Vec<u8>,
    pub algorithm: AuthAlgorithm,
    pub nonce: u64,
    pub rlocs: Vec<IpAddr>,
}

impl Xtr {
    pub fn new(number: u8) -> Self {
        let rloc = IpAddr::from([198, 51, 100, number]);
        Self {
            address: SocketAddr::new(rloc, 4342),
            xtr: Some((XtrId([number; 16]), SiteId(1))),
            key_id: 1,
            secret: SECRET.to_vec(),
            algorithm: AuthAlgorithm::HmacSha256_128,
            nonce: 1000,
            rlocs: vec![rloc],
        }
    }

    pub fn from(&self) -> String {
        self.address.to_string()
    }

    pub fn record(&self, eids: &str) -> EidRecord {
        let locators = self
            .rlocs
            .iter()
            .map(|rloc| Locator::new(Rloc::new(*rloc), 1, 100))
            .collect();
        EidRecord::from_mapping(&Mapping::new(prefix(eids), Ttl::DAY, locators))
    }

    /// A Map-Register for these prefixes, M=1, unsigned.
    pub fn message(&mut self, eids: &[&str]) -> MapRegister {
        self.nonce += 1;
        MapRegister {
            proxy_reply: false,
            security_capable: false,
            eid_notify: false,
            use_ttl: false,
            merge: false,
            mobile_node: false,
            want_map_notify: true,
            nonce: Nonce(self.nonce),
            authentication: Authentication::unsigned(self.key_id, self.algorithm),
            records: eids.iter().map(|eids| self.record(eids)).collect(),
            xtr: self.xtr,
        }
    }

    pub fn sign(&self, message: &MapRegister) -> Vec<u8> {
        let mut bytes = message.encode();
        sign(&mut bytes, Purpose::MapRegister, &self.secret).unwrap();
        bytes
    }

    /// A signed Map-Register, after `change`.
    pub fn register_with(&mut self, eids: &[&str], change: impl FnOnce(&mut MapRegister)) -> Vec<u8> {
        let mut message = self.message(eids);
        change(&mut message);
        self.sign(&message)
    }

    pub fn register(&mut self, eids: &[&str]) -> Vec<u8> {
        self.register_with(eids, |_| {})
    }

    pub fn deregister(&mut self, eids: &[&str]) -> Vec<u8> {
        self.register_with(eids, |message| {
            message.records.iter_mut().for_each(|record| record.ttl = Ttl::ZERO);
        })
    }

    /// Checks a Map-Notify's MAC and decodes it.
    #[track_caller]
    pub fn open(&self, transmit: &Transmit) -> MapNotify {
        verify(&transmit.payload, Purpose::MapNotify, &self.secret, &[self.algorithm]).unwrap();
        MapNotify::decode(&transmit.payload).unwrap()
    }

    pub fn ack(&self, notify: &MapNotify) -> Vec<u8> {
        let mut ack = notify.clone();
        ack.authentication = Authentication::unsigned(self.key_id, self.algorithm);
        let mut bytes = MapNotifyAck(ack).encode();
        sign(&mut bytes, Purpose::MapNotifyAck, &self.secret).unwrap();
        bytes
    }
}

/// A Map-Request for one EID, with this ITR-RLOC.
pub fn request(target: &str, itr: &str) -> MapRequest {
    let record = RequestRecord::for_eid(&eid(target));
    MapRequest::new(
        Nonce(0x0123_4567_89ab_cdef),
        AfiAddress::None,
        vec![AfiAddress::Ip(ip(itr))],
        record,
    )
}

/// The same in an ECM.
pub fn ecm(target: &str, request: &MapRequest) -> Ecm {
    let target = eid(target).address;
    let source = if target.is_ipv4() {
        ip("203.0.113.9")
    } else {
        ip("2001:db8:9::9")
    };
    Ecm {
        ddt: false,
        to_etr: false,
        to_ms: false,
        security: None,
        source: SocketAddr::new(source, 5555),
        destination: SocketAddr::new(target, 4342),
        payload: request.encode(),
    }
}

pub const ITR: &str = "203.0.113.9:4342";

/// What an ITR at 203.0.113.9 sends when it wants to know `target`.
pub fn ask(target: &str) -> Vec<u8> {
    ecm(target, &request(target, "203.0.113.9")).encode()
}

#[track_caller]
pub fn map_reply(sent: &[Transmit]) -> MapReply {
    let [only] = sent else {
        panic!("one datagram expected, not {sent:?}")
    };
    MapReply::decode(&only.payload).unwrap()
}

/// Prefixes of the records, as text.
pub fn prefixes(records: &[EidRecord]) -> Vec<String> {
    records
        .iter()
        .map(|record| record.prefix().unwrap().to_string())
        .collect()
}

/// RLOCs of a record, as text.
pub fn rlocs(record: &EidRecord) -> Vec<String> {
    record
        .locators
        .iter()
        .filter_map(|locator| Some(locator.rloc.ip()?.to_string()))
        .collect()
}

pub fn rloc(address: &str) -> RlocRecord {
    RlocRecord::from(&Locator::new(Rloc::new(ip(address)), 1, 100))
}
