//! The simulated world: virtual time, one Map-Server, many xTRs, the underlay between them, and the operator's word.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use lisp::mesh::{Binding, Membership, Signer, SoftwareKey};
use lisp::wire::AuthAlgorithm;
use lisp::{CONTROL_PORT, DATA_PORT, Eid, EidPrefix, InstanceId, Locator, Mapping, Nonce, Rloc, SiteId, XtrId};
use mapserver::SealedInstance;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use xtr::{Command, Config, Identity, Limits, MapServerPeer, SealedMesh, SealedNetwork, Secret, Timers};

use super::{
    Attacker, Datagram, Model, Network, Node, NodeId, Weather,
    node::{Data, Outbound, UNIX_AT_START},
    server::Server,
};

/// When bindings and memberships of a sealed world end.
const BOUND_UNTIL: u64 = UNIX_AT_START + 86_400;
const SECRET: &[u8] = b"the secret of the simulated site";
/// The Map-Server's addresses.
pub const SERVER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
/// See [`SERVER_V4`].
pub const SERVER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1));
/// Lines of the trace that a failure shows.
const TRACE: usize = 400;

/// Which families the nodes of a world have on the underlay: any two must share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underlay {
    /// All have both.
    Dual,
    /// All have IPv4, every other one IPv6 too.
    V4,
    /// All have IPv6, every other one IPv4 too.
    V6,
}

/// A rule of the model that the machines broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Virtual time since the start.
    pub at: Duration,
    /// What is wrong.
    pub what: String,
    /// What happened before, when tracing.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "    {line}")?;
        }
        write!(f, "after {:.3} s: {}", self.at.as_secs_f64(), self.what)
    }
}

/// What became of the data packets of one look around.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// Arrived at a node that serves the EID, by sender and EID.
    pub delivered: BTreeMap<(NodeId, Eid), u64>,
    /// Arrived at a node that does not.
    pub stray: u64,
    /// Dropped at the sender because of a negative mapping.
    pub negative: BTreeMap<(NodeId, Eid), u64>,
    /// Not sent for want of a mapping or a locator.
    pub unsent: u64,
}

/// Everything.
#[derive(Debug)]
pub struct World {
    /// Virtual now.
    pub now: Instant,
    /// Virtual start.
    pub start: Instant,
    /// The only source of chance.
    pub rng: StdRng,
    /// The underlay.
    pub network: Network,
    /// The Map-Server.
    pub server: Server,
    /// The xTRs.
    pub nodes: Vec<Node>,
    /// The reference.
    pub model: Model,
    /// What data packets came to since this was last cleared.
    pub deliveries: Deliveries,
    /// Whether to keep a trace.
    pub tracing: bool,
    /// Whether data is sent each second.
    pub traffic: bool,
    /// The Map-Server is dead: what is sent to it is lost.
    pub server_dead: bool,
    /// Somebody with bad intentions, while there is one.
    pub attacker: Option<Attacker>,
    /// In a sealed world: the authority's key, and the last epoch that it gave.
    authority: Option<(SoftwareKey, u64)>,
    trace: VecDeque<String>,
    by_address: BTreeMap<IpAddr, NodeId>,
    alarms: BinaryHeap<Reverse<(Instant, NodeId)>>,
    next_second: Instant,
    lookups: u64,
    violation: Option<String>,
}

impl World {
    /// A Map-Server that accepts `space` and `count` xTRs that serve nothing yet.
    pub fn new(seed: u64, count: usize, underlay: Underlay, space: &[EidPrefix]) -> Self {
        Self::build(seed, count, underlay, space, false)
    }

    /// The same, and every network of `space` is sealed.
    pub fn sealed(seed: u64, count: usize, underlay: Underlay, space: &[EidPrefix]) -> Self {
        Self::build(seed, count, underlay, space, true)
    }

    #[allow(clippy::disallowed_methods, reason = "virtual time needs some instant to start from")]
    fn build(seed: u64, count: usize, underlay: Underlay, space: &[EidPrefix], sealed: bool) -> Self {
        let now = Instant::now();
        let mut rng = StdRng::seed_from_u64(seed);
        let mut server_seed = [0; 32];
        rng.fill_bytes(&mut server_seed);
        let authority = sealed.then(|| SoftwareKey::from_bytes(&[99; 32]).expect("a key"));
        let instances: Vec<_> = space.iter().map(EidPrefix::instance_id).filter(|_| sealed).collect();
        let instance = SealedInstance {
            authority: authority.as_ref().map(SoftwareKey::public_key),
        };
        let sealed_instances = instances.iter().map(|id| (*id, instance)).collect();
        let mut world = Self {
            now,
            start: now,
            server: Server::new(now, server_seed, space, SECRET, sealed_instances),
            authority: authority.map(|key| (key, 0)),
            rng,
            network: Network::new(Weather::FAIR),
            nodes: Vec::new(),
            model: Model::default(),
            deliveries: Deliveries::default(),
            tracing: false,
            traffic: false,
            server_dead: false,
            attacker: None,
            trace: VecDeque::new(),
            by_address: BTreeMap::new(),
            alarms: BinaryHeap::new(),
            next_second: now + Duration::from_secs(1),
            lookups: 0,
            violation: None,
        };
        for id in 0..count {
            let mut config = node_config(id, underlay);
            if let Some((authority, _)) = &world.authority {
                config.mesh = sealed_mesh(id, authority, &instances);
            }
            let mut seed = [0; 32];
            world.rng.fill_bytes(&mut seed);
            let node = Node::new(now, id, config, seed, Nonce(UNIX_AT_START * 1_000_000_000));
            for address in node.addresses() {
                world.by_address.insert(address, id);
            }
            world.nodes.push(node);
        }
        world
    }

    /// Every node asks the Map-Server to answer in its place (P-bit).
    pub fn ask_for_proxy_replies(&mut self) {
        for id in 0..self.nodes.len() {
            let now = self.now;
            if let Some(node) = self.nodes.get_mut(id) {
                for peer in &mut node.config.map_servers {
                    peer.proxy_reply = true;
                }
                node.machine
                    .handle_command(now, Command::Configure(node.config.clone()));
            }
            self.settle(id);
        }
    }

    /// Whether its networks are sealed.
    pub fn is_sealed(&self) -> bool {
        self.authority.is_some()
    }

    /// Virtual time since the start.
    pub fn clock(&self) -> Duration {
        self.now - self.start
    }

    /// Writes a line to the trace.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.tracing {
            if self.trace.len() == TRACE {
                self.trace.pop_front();
            }
            let line = format!("{:9.3} {}", self.clock().as_secs_f64(), line());
            self.trace.push_back(line);
        }
    }

    /// The operator gives `prefix` to `owner`: the old owner is told first or last, as chance has it.
    pub fn give(&mut self, prefix: EidPrefix, owner: Option<NodeId>) -> Result<(), Violation> {
        let old = self.model.owner(&prefix);
        if old == owner {
            return Ok(());
        }
        self.note(|| format!("operator: {prefix} goes from {old:?} to {owner:?}"));
        self.model.give(prefix, owner);
        let binding = self.bind(prefix, owner);
        let mut told: Vec<NodeId> = old.into_iter().chain(owner).collect();
        if self.rng.random_bool(0.5) {
            told.reverse();
        }
        for id in told {
            let now = self.now;
            if let Some(node) = self.nodes.get_mut(id) {
                if Some(id) == owner {
                    node.intent.insert(prefix);
                    node.bindings.extend(binding.map(|binding| (prefix, binding)));
                } else {
                    // A former host keeps the statement that it once had: it must be of no use.
                    node.intent.remove(&prefix);
                }
                node.tell_intent(now);
            }
            self.settle(id);
        }
        self.checked(())
    }

    /// The authority's word that `owner` speaks for `prefix` from now on.
    fn bind(&mut self, prefix: EidPrefix, owner: Option<NodeId>) -> Option<Binding> {
        let node = owner.and_then(|owner| self.nodes.get(owner))?;
        let node = node.config.mesh.identity.as_ref()?.public_key();
        let (authority, epoch) = self.authority.as_mut()?;
        *epoch += 1;
        Some(Binding::by_authority(prefix, authority, node, *epoch, BOUND_UNTIL))
    }

    /// The clock of one node is set wrong, or right again.
    pub fn set_clock(&mut self, id: NodeId, error: i64) {
        self.note(|| format!("the clock of node {id} is set {error} s off"));
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(id) {
            node.clock_error = error;
            node.tell_time(now);
        }
        self.settle(id);
    }

    /// `kill -9` and restart of one xTR.
    pub fn restart_node(&mut self, id: NodeId) -> Result<(), Violation> {
        self.note(|| format!("node {id} is killed and starts anew"));
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(id) {
            node.restart(now, seed);
        }
        self.settle(id);
        self.checked(())
    }

    /// `kill -9` and restart of the Map-Server: memory is lost, the store is kept.
    pub fn restart_server(&mut self) -> Result<(), Violation> {
        self.note(|| "the Map-Server is killed and starts anew".to_owned());
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        self.server.restart(self.now, seed);
        self.settle_server();
        self.checked(())
    }

    /// Some nodes lose sight of all the others and the Map-Server.
    pub fn partition(&mut self, away: &[NodeId]) {
        self.note(|| format!("partition: {away:?} are cut off"));
        for id in away {
            if let Some(node) = self.nodes.get(*id) {
                for address in node.addresses() {
                    self.network.place(address, 1);
                }
            }
        }
    }

    /// No partition any more.
    pub fn heal(&mut self) {
        self.note(|| "the partition heals".to_owned());
        self.network.heal();
    }

    /// Asks the mapping system for `eid`, from `id`. The number is to be looked for in the node's `lookups`.
    pub fn lookup(&mut self, id: NodeId, eid: Eid) -> u64 {
        self.lookups += 1;
        let number = self.lookups;
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(id) {
            node.machine.handle_command(
                now,
                Command::Lookup {
                    id: number,
                    eid,
                    resolver: None,
                },
            );
        }
        self.settle(id);
        number
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) -> Result<(), Violation> {
        let end = self.now + time;
        loop {
            let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
            let next = [
                self.network.next(),
                alarm,
                self.server.poll_timeout(),
                Some(self.next_second),
            ]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(end);
            if next > end {
                self.now = end;
                return self.checked(());
            }
            self.now = self.now.max(next);
            self.step();
            if self.violation.is_some() {
                return self.checked(());
            }
        }
    }

    fn step(&mut self) {
        if let Some(datagram) = self.network.receive(self.now) {
            self.deliver(&datagram);
            return;
        }
        if !self.server_dead && self.server.poll_timeout().is_some_and(|at| at <= self.now) {
            self.server.handle_timeout(self.now);
            self.settle_server();
            return;
        }
        if let Some(Reverse((_, id))) = self.alarms.peek().copied().filter(|Reverse((at, _))| *at <= self.now) {
            self.alarms.pop();
            let now = self.now;
            if let Some(node) = self.nodes.get_mut(id)
                && node.machine.poll_timeout().is_some_and(|(at, _)| at <= now)
            {
                node.machine.handle_timeout(now);
                self.settle(id);
            }
            return;
        }
        if self.next_second <= self.now {
            self.next_second = self.now + Duration::from_secs(1);
            if self.traffic {
                self.send_traffic();
            }
            self.be_attacked();
        }
    }

    /// Each guest sends one packet to each EID that it wants to talk to.
    fn send_traffic(&mut self) {
        for id in 0..self.nodes.len() {
            let now = self.now;
            let Some(node) = self.nodes.get_mut(id) else { continue };
            for eid in node.wants.clone() {
                match node.outbound(now, eid) {
                    Outbound::Sent(datagram) => self.network.send(now, &mut self.rng, datagram),
                    Outbound::Local => *self.deliveries.delivered.entry((id, eid)).or_default() += 1,
                    Outbound::Negative => *self.deliveries.negative.entry((id, eid)).or_default() += 1,
                    Outbound::Missed | Outbound::NoLocator | Outbound::NoSa => self.deliveries.unsent += 1,
                }
            }
            node.report(now);
            self.settle(id);
        }
    }

    fn be_attacked(&mut self) {
        let Some(attacker) = &self.attacker else { return };
        let prefixes: Vec<EidPrefix> = self.model.owners().map(|(prefix, _)| prefix).collect();
        for datagram in attacker.strike(&mut self.rng, &self.nodes, &prefixes) {
            if self.tracing {
                let line = describe(&datagram);
                self.note(|| format!("attacker sends {line}"));
            }
            self.network.send(self.now, &mut self.rng, datagram);
        }
    }

    fn deliver(&mut self, datagram: &Datagram) {
        if self.authority.is_some() && datagram.to.port() == DATA_PORT && Data::decode(&datagram.payload).is_some() {
            self.break_rule(format!("a guest's packet travels in clear: {datagram:?}"));
        }
        if let Some(attacker) = &mut self.attacker {
            attacker.hear(&mut self.rng, datagram);
        }
        let to = datagram.to.ip();
        if to == SERVER_V4 || to == SERVER_V6 {
            if !self.server_dead {
                self.server.handle_datagram(self.now, datagram);
                self.settle_server();
            }
            return;
        }
        let Some(id) = self.by_address.get(&to).copied() else {
            return;
        };
        let now = self.now;
        let Some(node) = self.nodes.get_mut(id) else { return };
        match datagram.to.port() {
            CONTROL_PORT => node.machine.handle_datagram(now, datagram.from, to, &datagram.payload),
            DATA_PORT => {
                let sealed = self.authority.is_some();
                let data = if sealed {
                    node.open(now, datagram.from, &datagram.payload)
                } else {
                    Data::decode(&datagram.payload).map(|data| (data, None))
                };
                let Some((data, sealed_by)) = data else {
                    self.settle(id);
                    return;
                };
                if node.serves(&data.eid) {
                    *self.deliveries.delivered.entry((data.sender, data.eid)).or_default() += 1;
                } else {
                    self.deliveries.stray += 1;
                    let to = Rloc::new(datagram.from.ip());
                    node.machine.handle_command(
                        now,
                        Command::SolicitMapRequest {
                            eid: data.eid,
                            to,
                            node: sealed_by,
                        },
                    );
                }
            }
            _ => {}
        }
        self.settle(id);
    }

    /// Takes what a node wants to say, and when it wants to be woken.
    fn settle(&mut self, id: NodeId) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(id) else { return };
        let (mut datagrams, installed) = node.drain(now);
        datagrams.extend(node.take_sealed_sends(now));
        let alarm = node.machine.poll_timeout().map(|(at, _)| at);
        let mut last_nonce = node.last_nonce;
        let stored = node.stored_nonce;
        for datagram in datagrams {
            if let Some(nonce) = register_nonce(&datagram.payload) {
                if last_nonce.is_some_and(|last| nonce <= last) {
                    self.break_rule(format!("node {id} used nonce {nonce} after {last_nonce:?}"));
                }
                if nonce >= stored.0 {
                    self.break_rule(format!("node {id} used nonce {nonce} before {stored} was stored"));
                }
                last_nonce = Some(nonce);
            }
            if self.tracing {
                let line = describe(&datagram);
                self.note(|| format!("node {id} sends {line}"));
            }
            self.network.send(now, &mut self.rng, datagram);
        }
        if let Some(node) = self.nodes.get_mut(id) {
            node.last_nonce = last_nonce;
        }
        for mapping in installed {
            self.check_installed(id, &mapping);
        }
        if let Some(at) = alarm {
            self.alarms.push(Reverse((at, id)));
        }
    }

    fn settle_server(&mut self) {
        for datagram in self.server.drain() {
            if self.tracing {
                let line = describe(&datagram);
                self.note(|| format!("server sends {line}"));
            }
            self.network.send(self.now, &mut self.rng, datagram);
        }
    }

    /// A mapping leads only to nodes that own, or owned, something in that prefix of that Instance-ID.
    fn check_installed(&mut self, id: NodeId, mapping: &Mapping) {
        self.note(|| {
            format!(
                "node {id} learns {} -> {:?}",
                mapping.prefix,
                mapping.locators.iter().map(|l| l.rloc.to_string()).collect::<Vec<_>>()
            )
        });
        for locator in &mapping.locators {
            let Some(owner) = self.by_address.get(&locator.rloc.address).copied() else {
                self.break_rule(format!(
                    "node {id} learned {} at {}, which is nobody",
                    mapping.prefix, locator.rloc
                ));
                continue;
            };
            if !self.model.ever_owned(&mapping.prefix, owner) {
                self.break_rule(format!(
                    "node {id} learned {} at node {owner}, which never had it",
                    mapping.prefix
                ));
            }
        }
    }

    /// Remembers the first rule that was broken.
    pub fn break_rule(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// `value`, unless a rule was broken.
    pub fn checked<T>(&mut self, value: T) -> Result<T, Violation> {
        match self.violation.take() {
            None => Ok(value),
            Some(what) => Err(Violation {
                at: self.clock(),
                what,
                trace: self.trace.iter().cloned().collect(),
            }),
        }
    }
}

/// Node `id`: an address of each family it has, and the Map-Server at the family that it surely has.
fn node_config(id: NodeId, underlay: Underlay) -> Config {
    let [_, high, middle, low] = u32::try_from(id + 1).unwrap_or(0).to_be_bytes();
    let v4 = IpAddr::from([100, 64 + high, middle, low]);
    let v6 = IpAddr::from(Ipv6Addr::new(
        0x2001,
        0xdb8,
        0,
        0,
        0,
        0,
        u16::from_be_bytes([high, middle]),
        u16::from(low),
    ));
    let both = id.is_multiple_of(2);
    let addresses = match underlay {
        Underlay::Dual => vec![v4, v6],
        Underlay::V4 if both => vec![v4, v6],
        Underlay::V4 => vec![v4],
        Underlay::V6 if both => vec![v4, v6],
        Underlay::V6 => vec![v6],
    };
    let server = if underlay == Underlay::V6 { SERVER_V6 } else { SERVER_V4 };
    let mut xtr_id = [0; 16];
    xtr_id[8..].copy_from_slice(&(id as u64 + 1).to_be_bytes());
    Config {
        xtr_id: XtrId(xtr_id),
        site_id: SiteId(1),
        map_servers: vec![MapServerPeer {
            address: SocketAddr::new(server, CONTROL_PORT),
            key_id: 1,
            secret: Secret::new(SECRET),
            algorithm: AuthAlgorithm::HmacSha256_128,
            proxy_reply: false,
            want_map_notify: true,
        }],
        locators: addresses
            .into_iter()
            .map(|address| Locator::new(Rloc::new(address), 1, 100))
            .collect(),
        timers: Timers::default(),
        limits: Limits::default(),
        mesh: SealedMesh::default(),
    }
}

/// Node `id` in a sealed world: a key of its own, and the authority's word that it may join.
fn sealed_mesh(id: NodeId, authority: &SoftwareKey, instances: &[InstanceId]) -> SealedMesh {
    let mut bytes = [7; 32];
    bytes[24..].copy_from_slice(&(id as u64 + 1).to_be_bytes());
    let key = SoftwareKey::from_bytes(&bytes).expect("a key");
    let network = |instance: &InstanceId| {
        let membership = Membership::sign(*instance, key.public_key(), BOUND_UNTIL, authority);
        let network = SealedNetwork {
            authority: Some(authority.public_key()),
            permit: Some(membership.permit),
            ..SealedNetwork::default()
        };
        (*instance, network)
    };
    SealedMesh {
        networks: instances.iter().map(network).collect(),
        identity: Some(Identity::new(Arc::new(key))),
        ..SealedMesh::default()
    }
}

/// The nonce of a Map-Register.
fn register_nonce(payload: &[u8]) -> Option<u64> {
    (payload.first()? >> 4 == 3).then_some(())?;
    Some(u64::from_be_bytes(payload.get(4..12)?.try_into().ok()?))
}

fn describe(datagram: &Datagram) -> String {
    let what = match lisp::wire::Message::decode(&datagram.payload) {
        Ok(lisp::wire::Message::Ecm(ecm)) => match lisp::wire::Message::decode(&ecm.payload) {
            Ok(inner) => format!("ECM with {inner:?}"),
            Err(error) => format!("ECM with {error}"),
        },
        Ok(message) => format!("{message:?}"),
        Err(error) => error.to_string(),
    };
    format!("to {}: {what}", datagram.to)
}
