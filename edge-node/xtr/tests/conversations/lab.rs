//! One xTR, a clock, and the messages of the others.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use lisp::wire::{
    AfiAddress, AuthAlgorithm, Authentication, Ecm, EidRecord, MapNotify, MapNotifyAck, MapRegister, MapReply,
    MapRequest, Message, Purpose, RequestRecord, sign, verify,
};
use lisp::{
    CONTROL_PORT, Eid, EidPrefix, InstanceId, Locator, Mapping, NegativeAction, Nonce, Rloc, SiteId, Ttl, XtrId,
};
use xtr::{
    Command, Config, Counters, DatabaseMapping, Event, Limits, MapServerPeer, SealedMesh, Secret, Timers, Transmit, Xtr,
};

pub const SECRET: &[u8] = b"a secret of the site";
pub const FIRST_NONCE: u64 = 1_000_000;

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn at(text: &str) -> SocketAddr {
    SocketAddr::new(ip(text), CONTROL_PORT)
}

pub fn rloc(text: &str) -> Rloc {
    Rloc::new(ip(text))
}

pub fn prefix(text: &str) -> EidPrefix {
    text.parse().unwrap()
}

pub fn eid(text: &str) -> Eid {
    let prefix = prefix(text);
    Eid::new(prefix.instance_id(), prefix.net().addr())
}

pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub fn peer(address: &str) -> MapServerPeer {
    MapServerPeer {
        address: at(address),
        key_id: 1,
        secret: Secret::new(SECRET),
        algorithm: AuthAlgorithm::HmacSha256_128,
        proxy_reply: false,
        want_map_notify: true,
    }
}

pub fn config() -> Config {
    Config {
        xtr_id: XtrId([7; 16]),
        site_id: SiteId(9),
        map_servers: vec![peer("192.0.2.100")],
        locators: vec![
            Locator::new(rloc("2001:db8::1"), 1, 100),
            Locator::new(rloc("192.0.2.1"), 1, 100),
        ],
        timers: Timers::default(),
        limits: Limits::default(),
        mesh: SealedMesh::default(),
    }
}

pub const MS: &str = "192.0.2.100";

/// A positive mapping with locators of priority 1.
pub fn mapping(prefix_text: &str, locators: &[&str]) -> Mapping {
    let locators = locators.iter().map(|text| Locator::new(rloc(text), 1, 100)).collect();
    let mut mapping = Mapping::new(prefix(prefix_text), Ttl::DAY, locators);
    mapping.authoritative = true;
    mapping
}

pub fn negative(prefix_text: &str, minutes: u32) -> Mapping {
    Mapping::negative(prefix(prefix_text), Ttl(minutes), NegativeAction::NativelyForward)
}

pub struct Lab {
    pub now: Instant,
    pub start: Instant,
    pub xtr: Xtr,
    pub sent: Vec<Transmit>,
    pub events: Vec<Event>,
    seen: Counters,
}

impl Lab {
    pub fn new() -> Self {
        Self::with(config())
    }

    #[allow(clippy::disallowed_methods, reason = "virtual time needs some instant to start from")]
    pub fn with(config: Config) -> Self {
        let now = Instant::now();
        let xtr = Xtr::new(config.clone(), [3; 32], Nonce(FIRST_NONCE));
        let mut lab = Self {
            now,
            start: now,
            xtr,
            sent: Vec::new(),
            events: Vec::new(),
            seen: Counters::default(),
        };
        lab.command(Command::Configure(config));
        assert!(matches!(lab.events.remove(0), Event::NonceAdvanced(_)));
        lab
    }

    /// Serves these prefixes, registered and acknowledged, the slate wiped clean.
    pub fn serving(prefixes: &[&str]) -> Self {
        let mut lab = Self::new();
        lab.serve(prefixes);
        lab.acknowledge_all();
        lab.clean();
        lab
    }

    pub fn serve(&mut self, prefixes: &[&str]) {
        let list = prefixes.iter().map(|text| DatabaseMapping::new(prefix(text))).collect();
        self.command(Command::SetDatabase(list));
    }

    pub fn acknowledge_all(&mut self) {
        for (to, register) in self.registers() {
            self.notify_from(to, &register, SECRET);
        }
    }

    /// Forgets what was seen so far.
    pub fn clean(&mut self) {
        self.sent.clear();
        self.events.clear();
        self.seen = self.xtr.counters();
    }

    pub fn command(&mut self, command: Command) {
        self.xtr.handle_command(self.now, command);
        self.drain();
    }

    pub fn receive(&mut self, from: SocketAddr, bytes: &[u8]) {
        let to = if from.is_ipv4() {
            ip("192.0.2.1")
        } else {
            ip("2001:db8::1")
        };
        self.xtr.handle_datagram(self.now, from, to, bytes);
        self.drain();
    }

    /// Lets time pass, stopping at every deadline on the way.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while let Some((due, word)) = self.xtr.poll_timeout().filter(|(due, _)| *due <= end) {
            self.now = self.now.max(due);
            self.xtr.handle_timeout(self.now);
            self.drain();
            steps += 1;
            assert!(steps < 100_000, "the machine does not get past {word}");
        }
        self.now = end;
    }

    fn drain(&mut self) {
        while let Some(event) = self.xtr.poll_event() {
            self.events.push(event);
        }
        while let Some(transmit) = self.xtr.poll_transmit() {
            self.sent.push(transmit);
        }
    }

    /// Since the start.
    pub fn clock(&self) -> Duration {
        self.now - self.start
    }

    /// The counters that moved since the last call are these, and no others.
    #[track_caller]
    pub fn moved(&mut self, expected: &[(&'static str, u64)]) {
        let counters = self.xtr.counters();
        let mut moved = counters.since(&self.seen);
        self.seen = counters;
        let mut expected = expected.to_vec();
        moved.sort_unstable();
        expected.sort_unstable();
        assert_eq!(moved, expected);
    }

    /// Takes the datagrams sent so far.
    pub fn messages(&mut self) -> Vec<(SocketAddr, Message)> {
        self.sent
            .drain(..)
            .map(|t| {
                (
                    t.destination,
                    Message::decode(&t.payload).expect("what we send is valid"),
                )
            })
            .collect()
    }

    pub fn registers(&mut self) -> Vec<(SocketAddr, MapRegister)> {
        let mut registers = Vec::new();
        for transmit in self.sent.drain(..) {
            let Message::MapRegister(register) = Message::decode(&transmit.payload).unwrap() else {
                panic!("not a Map-Register")
            };
            verify(
                &transmit.payload,
                Purpose::MapRegister,
                SECRET,
                &[AuthAlgorithm::HmacSha256_128],
            )
            .unwrap();
            registers.push((transmit.destination, register));
        }
        registers
    }

    /// The only message, a Map-Request through the mapping system: to whom, for whom, and itself.
    #[track_caller]
    pub fn request(&mut self) -> (SocketAddr, Eid, MapRequest) {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    pub fn requests(&mut self) -> Vec<(SocketAddr, Eid, MapRequest)> {
        self.messages()
            .into_iter()
            .map(|(to, message)| {
                let Message::Ecm(ecm) = message else {
                    panic!("not encapsulated: {message:?}")
                };
                let Message::MapRequest(request) = Message::decode(&ecm.payload).unwrap() else {
                    panic!("no request")
                };
                assert_eq!(request.records.len(), 1, "senders MUST send exactly one record");
                let eid = request.records[0].eid.to_eid().unwrap();
                assert_eq!(ecm.destination, SocketAddr::new(eid.address, CONTROL_PORT));
                (to, eid, request)
            })
            .collect()
    }

    /// The only message, a bare Map-Request.
    #[track_caller]
    pub fn bare_request(&mut self) -> (SocketAddr, MapRequest) {
        let mut messages = self.messages();
        assert_eq!(messages.len(), 1, "{messages:?}");
        match messages.remove(0) {
            (to, Message::MapRequest(request)) => (to, request),
            other => panic!("not a bare Map-Request: {other:?}"),
        }
    }

    #[track_caller]
    pub fn reply(&mut self) -> (SocketAddr, MapReply) {
        let mut messages = self.messages();
        assert_eq!(messages.len(), 1, "{messages:?}");
        match messages.remove(0) {
            (to, Message::MapReply(reply)) => (to, reply),
            other => panic!("not a Map-Reply: {other:?}"),
        }
    }

    pub fn map_reply(&mut self, nonce: Nonce, mappings: &[Mapping]) {
        self.receive(at(MS), &map_reply(nonce, false, mappings));
    }

    /// Resolves by the mapping given and wipes the slate.
    pub fn learn(&mut self, wanted: &str, mappings: &[Mapping]) {
        self.command(Command::Resolve {
            eid: eid(wanted),
            source: None,
        });
        let (_, _, request) = self.request();
        self.map_reply(request.nonce, mappings);
        assert!(
            self.events
                .iter()
                .any(|event| matches!(event, Event::MappingInstalled { .. })),
            "{:?}",
            self.events
        );
        self.clean();
    }

    pub fn notify_from(&mut self, from: SocketAddr, register: &MapRegister, secret: &[u8]) {
        let bytes = map_notify(register.nonce, register.records.clone(), secret);
        self.receive(from, &bytes);
    }

    pub fn installed(&self) -> Vec<String> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::MappingInstalled { mapping, .. } => Some(mapping.prefix.to_string()),
                _ => None,
            })
            .collect()
    }

    pub fn cached(&self) -> Vec<String> {
        let status = self.xtr.status(self.now);
        status
            .map_cache
            .iter()
            .map(|entry| entry.mapping.prefix.to_string())
            .collect()
    }
}

pub fn map_reply(nonce: Nonce, probe: bool, mappings: &[Mapping]) -> Vec<u8> {
    let records = mappings.iter().map(EidRecord::from_mapping).collect();
    MapReply {
        probe,
        echo_nonce: false,
        nonce,
        records,
        security: None,
    }
    .encode()
}

pub fn map_notify(nonce: Nonce, records: Vec<EidRecord>, secret: &[u8]) -> Vec<u8> {
    let authentication = Authentication::unsigned(1, AuthAlgorithm::HmacSha256_128);
    let mut bytes = MapNotify {
        nonce,
        authentication,
        records,
        xtr: None,
    }
    .encode();
    sign(&mut bytes, Purpose::MapNotify, secret).unwrap();
    bytes
}

/// A Map-Request of another xTR for `target`, answers to `itr_rlocs`.
pub fn map_request(target: &str, itr_rlocs: &[&str]) -> MapRequest {
    let target = prefix(target);
    let record = RequestRecord {
        notify: false,
        mask_len: target.length(),
        eid: AfiAddress::from_eid(&Eid::new(target.instance_id(), target.net().addr())),
    };
    let itr_rlocs = itr_rlocs.iter().map(|text| AfiAddress::Ip(ip(text))).collect();
    MapRequest::new(Nonce(77), AfiAddress::None, itr_rlocs, record)
}

/// As the Map-Server forwards it; the inner addresses play no part.
pub fn encapsulated(request: &MapRequest, port: u16) -> Vec<u8> {
    Ecm {
        ddt: false,
        to_etr: true,
        to_ms: false,
        security: None,
        source: SocketAddr::new(ip("10.99.0.1"), port),
        destination: SocketAddr::new(ip("10.1.0.1"), CONTROL_PORT),
        payload: request.encode(),
    }
    .encode()
}

pub fn instance(number: u32) -> InstanceId {
    InstanceId::new(number).unwrap()
}

pub fn notify_ack(message: &Message) -> &MapNotify {
    match message {
        Message::MapNotifyAck(MapNotifyAck(notify)) => notify,
        other => panic!("not a Map-Notify-Ack: {other:?}"),
    }
}
