//! Two nodes of a sealed network with a Map-Server between them that carries what it is given, or does something else with
//! it.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use lisp::mesh::{Binding, KeyId, Membership, PublicKey, Signer, SoftwareKey, Suite};
use lisp::wire::{Ecm, MapReply, MapRequest, Message};
use lisp::{CONTROL_PORT, Eid, EidPrefix, Locator};
use xtr::{
    Command, Config, Counters, DatabaseMapping, Event, Identity, Limits, SaParameters, SealedMesh, SealedNetwork,
    Timers, Transmit, Xtr,
};

use super::lab::{eid, instance, ip, peer, prefix, rloc};

/// Seconds since the Unix epoch when a conversation begins.
pub const START: u64 = 1_800_000_000;
/// When bindings end.
pub const END: u64 = START + 86_400;

pub fn key(n: u8) -> SoftwareKey {
    SoftwareKey::from_bytes(&[n; 32]).unwrap()
}

pub fn id(n: u8) -> KeyId {
    key(n).public_key().id().unwrap()
}

/// The authority of network 7.
pub const AUTHORITY: u8 = 99;

/// The crypto-EID of key `n` in network 7.
pub fn hash_eid(n: u8) -> Eid {
    lisp::mesh::crypto_eid(instance(7), &key(n).public_key()).unwrap()
}

/// The binding of that EID to node `node`.
pub fn hash_binding(n: u8, node: u8, epoch: u64) -> Binding {
    Binding::by_eid_key(instance(7), &key(n), key(node).public_key(), epoch, END).unwrap()
}

/// A binding of any prefix by the authority.
pub fn authority_binding(text: &str, node: u8, epoch: u64) -> Binding {
    Binding::by_authority(prefix(text), &key(AUTHORITY), key(node).public_key(), epoch, END)
}

pub fn network(members: &[PublicKey], permit_of: Option<u8>) -> SealedNetwork {
    SealedNetwork {
        authority: Some(key(AUTHORITY).public_key()),
        nodes: members.iter().copied().collect(),
        eids: BTreeSet::new(),
        permit: permit_of
            .map(|node| Membership::sign(instance(7), key(node).public_key(), END, &key(AUTHORITY)).permit),
    }
}

/// Configuration of node `n`, at `address`, a member by the authority's word.
pub fn config(n: u8, address: &str) -> Config {
    Config {
        xtr_id: lisp::XtrId([n; 16]),
        site_id: lisp::SiteId(1),
        map_servers: vec![peer("192.0.2.100")],
        locators: vec![Locator::new(rloc(address), 1, 100)],
        timers: Timers::default(),
        limits: Limits::default(),
        mesh: SealedMesh {
            identity: Some(Identity::new(Arc::new(key(n)))),
            networks: [(instance(7), network(&[], Some(n)))].into(),
            suites: vec![Suite::Aes128Gcm, Suite::ChaCha20Poly1305],
            workers: 1,
        },
    }
}

/// A node.
pub struct Node {
    pub xtr: Xtr,
    pub address: SocketAddr,
    pub events: Vec<Event>,
    pub sent: Vec<Transmit>,
    seen: Counters,
}

impl Node {
    pub fn new(now: std::time::Instant, config: Config, seed: u8) -> Self {
        let address = SocketAddr::new(config.locators[0].rloc.address, CONTROL_PORT);
        let mut node = Self {
            xtr: Xtr::new(config, [seed; 32], lisp::Nonce(START * 1_000_000_000)),
            address,
            events: Vec::new(),
            sent: Vec::new(),
            seen: Counters::default(),
        };
        node.command(now, Command::Clock(START));
        node
    }

    pub fn command(&mut self, now: std::time::Instant, command: Command) {
        self.xtr.handle_command(now, command);
        self.drain();
    }

    pub fn receive(&mut self, now: std::time::Instant, from: SocketAddr, bytes: &[u8]) {
        self.xtr.handle_datagram(now, from, self.address.ip(), bytes);
        self.drain();
    }

    pub fn drain(&mut self) {
        while let Some(event) = self.xtr.poll_event() {
            self.events.push(event);
        }
        while let Some(transmit) = self.xtr.poll_transmit() {
            self.sent.push(transmit);
        }
    }

    pub fn serve(&mut self, now: std::time::Instant, bindings: &[Binding]) {
        let list = bindings
            .iter()
            .map(|binding| DatabaseMapping {
                binding: Some(*binding),
                ..DatabaseMapping::new(binding.prefix)
            })
            .collect();
        self.command(now, Command::SetDatabase(list));
        self.clean();
    }

    pub fn clean(&mut self) {
        self.events.clear();
        self.sent.clear();
        self.seen = self.xtr.counters();
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

    pub fn established(&self) -> Vec<SaParameters> {
        let of = |event: &Event| match event {
            Event::SaEstablished(parameters) => Some(parameters.clone()),
            _ => None,
        };
        self.events.iter().filter_map(of).collect()
    }

    pub fn installed(&self) -> Vec<(EidPrefix, Option<KeyId>)> {
        let of = |event: &Event| match event {
            Event::MappingInstalled { mapping, node, .. } if !mapping.is_negative() => Some((mapping.prefix, *node)),
            _ => None,
        };
        self.events.iter().filter_map(of).collect()
    }

    pub fn bound(&self) -> Vec<(EidPrefix, KeyId)> {
        let of = |event: &Event| match event {
            Event::BindingInstalled { prefix, node } => Some((*prefix, *node)),
            _ => None,
        };
        self.events.iter().filter_map(of).collect()
    }

    /// Sealed messages to send, taken out.
    pub fn sealed(&mut self) -> Vec<(KeyId, Vec<u8>)> {
        let mut sealed = Vec::new();
        self.events.retain(|event| match event {
            Event::SealedSend { node, payload } => {
                sealed.push((*node, payload.clone()));
                false
            }
            _ => true,
        });
        sealed
    }

    /// The only Map-Request under way, taken out of its envelope.
    #[track_caller]
    pub fn request(&mut self) -> Vec<u8> {
        let mut requests: Vec<Vec<u8>> = Vec::new();
        self.sent.retain(|transmit| match Message::decode(&transmit.payload) {
            Ok(Message::Ecm(ecm)) => {
                requests.push(ecm.payload);
                false
            }
            Ok(Message::MapRequest(_)) => {
                requests.push(transmit.payload.clone());
                false
            }
            _ => true,
        });
        assert_eq!(requests.len(), 1, "{} Map-Requests", requests.len());
        requests.remove(0)
    }

    /// The only Map-Reply sent.
    #[track_caller]
    pub fn reply(&mut self) -> Vec<u8> {
        let mut replies: Vec<Vec<u8>> = self.replies();
        assert_eq!(replies.len(), 1, "{} Map-Replies", replies.len());
        replies.remove(0)
    }

    pub fn replies(&mut self) -> Vec<Vec<u8>> {
        let mut replies = Vec::new();
        self.sent.retain(|transmit| match Message::decode(&transmit.payload) {
            Ok(Message::MapReply(_)) => {
                replies.push(transmit.payload.clone());
                false
            }
            _ => true,
        });
        replies
    }
}

/// Two nodes, 1 and 2, and virtual time.
pub struct Pair {
    pub now: std::time::Instant,
    pub a: Node,
    pub b: Node,
}

pub const A_EID: &str = "[7]10.7.1.9";
pub const B_EID: &str = "[7]10.7.2.9";

impl Pair {
    /// Node 1 serves the EID of key 11 and an IPv4 address, node 2 those of key 12.
    pub fn new() -> Self {
        Self::with(config(1, "192.0.2.1"), config(2, "192.0.2.2"))
    }

    #[allow(clippy::disallowed_methods, reason = "virtual time needs some instant to start from")]
    pub fn with(a: Config, b: Config) -> Self {
        let now = std::time::Instant::now();
        let mut pair = Self {
            now,
            a: Node::new(now, a, 1),
            b: Node::new(now, b, 2),
        };
        pair.a
            .serve(now, &[hash_binding(11, 1, 5), authority_binding(A_EID, 1, 5)]);
        pair.b
            .serve(now, &[hash_binding(12, 2, 5), authority_binding(B_EID, 2, 5)]);
        pair
    }

    /// Node 1 looks for an EID; its Map-Request.
    pub fn ask(&mut self, target: Eid, source: Eid) -> Vec<u8> {
        self.a.command(
            self.now,
            Command::Resolve {
                eid: target,
                source: Some(source),
            },
        );
        self.a.request()
    }

    /// The Map-Server hands it to node 2.
    pub fn forward(&mut self, request: &[u8]) {
        self.b
            .receive(self.now, super::lab::at("192.0.2.100"), &encapsulated(request));
    }

    /// The whole exchange by which node 1 learns of `target`. The Map-Request and the Map-Reply.
    pub fn exchange(&mut self, target: Eid, source: Eid) -> (Vec<u8>, Vec<u8>) {
        let request = self.ask(target, source);
        self.forward(&request);
        let reply = self.b.reply();
        self.a.receive(self.now, self.b.address, &reply);
        (request, reply)
    }

    /// Both ends have sent a packet under the newest SA, and told each other what they speak for.
    pub fn confirm(&mut self) {
        let index = self.b.established().last().unwrap().inbound[0].0;
        self.b.command(self.now, Command::SaConfirmed(index));
        self.exchange_messages();
    }

    /// Carries sealed messages to and fro until there are none.
    pub fn exchange_messages(&mut self) {
        loop {
            let (to_b, to_a) = (self.a.sealed(), self.b.sealed());
            if to_a.is_empty() && to_b.is_empty() {
                return;
            }
            for (node, payload) in to_b {
                assert_eq!(node, id(2));
                self.b
                    .command(self.now, Command::SealedMessage { node: id(1), payload });
            }
            for (node, payload) in to_a {
                assert_eq!(node, id(1));
                self.a
                    .command(self.now, Command::SealedMessage { node: id(2), payload });
            }
        }
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = [self.a.xtr.poll_timeout(), self.b.xtr.poll_timeout()];
            let Some(due) = due
                .into_iter()
                .flatten()
                .map(|(at, _)| at)
                .min()
                .filter(|at| *at <= end)
            else {
                break;
            };
            self.now = self.now.max(due);
            for node in [&mut self.a, &mut self.b] {
                node.xtr.handle_timeout(self.now);
                node.drain();
            }
        }
        self.now = end;
    }
}

/// As a Map-Server forwards it.
pub fn encapsulated(request: &[u8]) -> Vec<u8> {
    Ecm {
        ddt: false,
        to_etr: true,
        to_ms: false,
        security: None,
        source: SocketAddr::new(ip("10.99.0.1"), CONTROL_PORT),
        destination: SocketAddr::new(ip("10.1.0.1"), CONTROL_PORT),
        payload: request.to_vec(),
    }
    .encode()
}

/// A Map-Request changed by `change`, as a man in the middle would send it.
pub fn changed_request(request: &[u8], change: impl FnOnce(&mut MapRequest)) -> Vec<u8> {
    let mut decoded = MapRequest::decode(request).unwrap();
    change(&mut decoded);
    decoded.encode()
}

/// A Map-Reply changed by `change`.
pub fn changed_reply(reply: &[u8], change: impl FnOnce(&mut MapReply)) -> Vec<u8> {
    let mut decoded = MapReply::decode(reply).unwrap();
    change(&mut decoded);
    decoded.encode()
}

pub fn a_eid() -> Eid {
    eid(A_EID)
}

pub fn b_eid() -> Eid {
    eid(B_EID)
}
