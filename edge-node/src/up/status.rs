//! What `weft status` shows: the truth about the node, gathered when it is asked for.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use dataplane::control::{Answer, MappingTarget, Query};
use serde::{Deserialize, Serialize};
use xtr::Reachability;

use super::{names, node::Node};
use crate::intent::{Encryption, Intent, NetworkKind};

/// Seconds.
type Seconds = f64;

/// How old news may be that is told as the present.
const TRUE_FOR: Duration = Duration::from_secs(3);

/// The state of a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[allow(
    missing_docs,
    reason = "the names are what users see, and the table in the help of `weft status` shows them"
)]
pub struct Status {
    pub node: Option<String>,
    pub version: String,
    pub uptime: Seconds,
    pub generation: u64,
    /// Everything that is not as it was asked to be, and why.
    pub failures: Vec<String>,
    pub warnings: Vec<String>,
    pub dataplane: Option<Dataplane>,
    pub uplinks: Vec<Uplink>,
    pub registrations: Vec<Registration>,
    pub map_cache: Vec<MapCacheEntry>,
    /// None: no network of this node is sealed.
    pub sealed: Option<Sealed>,
    pub locators: Vec<Locator>,
    pub guests: Vec<GuestPort>,
    /// Packets that ended early, by the word of their end; zeros are left out.
    pub drops: BTreeMap<String, u64>,
    /// Control messages and refusals of the xTR; zeros are left out.
    pub xtr: BTreeMap<String, u64>,
    pub map_servers: Vec<MapServer>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Dataplane {
    /// None while another is being started.
    pub pid: Option<u32>,
    pub uptime: Seconds,
    /// How often it was started since this control process is up; 0: it was adopted.
    pub starts: u64,
    pub last_end: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Uplink {
    pub interface: String,
    pub up: bool,
    pub rlocs: Vec<String>,
    pub mtu: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Registration {
    pub map_server: String,
    pub eid_prefix: String,
    pub state: String,
    pub reason: Option<String>,
    pub acknowledged_ago: Option<Seconds>,
    /// Whether the Map-Server can be told anything now: an uplink with an address of its family is up.
    #[serde(default)]
    pub reachable: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct MapCacheEntry {
    pub eid_prefix: String,
    /// `mapped`, or the negative action.
    pub state: String,
    /// Which node speaks for it, in a sealed network.
    pub node: Option<String>,
    pub rlocs: Vec<String>,
    pub age: Option<Seconds>,
    pub expires_in: Option<Seconds>,
    pub packets: u64,
    pub bytes: u64,
}

/// Sealed networks: who this node is, with whom it has keys, whom it believes what, and whom not.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Sealed {
    pub node_key: Option<String>,
    /// The name that its key gives it.
    pub node: Option<String>,
    pub associations: Vec<Association>,
    pub bindings: Vec<Binding>,
    /// What this node serves and has no valid binding for: it is not registered. Prefix and reason.
    pub unbound: BTreeMap<String, String>,
    pub refusals: Vec<Refusal>,
}

/// A pair of mesh SAs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Association {
    pub node: String,
    pub index: u32,
    pub suite: String,
    pub age: Seconds,
    /// `current`, `confirmed`, `waiting` (nothing has opened under it yet).
    pub state: String,
    pub sealed_packets: u64,
    pub opened_packets: u64,
    /// Where the node is heard from, when that is none of its locators.
    pub roamed_to: Option<String>,
}

/// "This node speaks for this EID-prefix."
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Binding {
    pub eid_prefix: String,
    pub node: String,
    pub epoch: u64,
}

/// Something that was not believed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Refusal {
    pub eid: String,
    pub node: Option<String>,
    /// `ours`: we could not ask; `theirs`: their answer; `asker`: their question; `announced`: what they told inside an SA.
    pub by: String,
    pub reason: String,
    pub ago: Seconds,
    pub times: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Locator {
    pub rloc: String,
    /// A packet came back within the last three seconds.
    pub up: bool,
    /// `up`, `down`, `idle` (it was up when it was asked last, and nobody sends to it), `unknown`, `no-uplink`.
    pub state: String,
    pub rtt_ms: Option<f64>,
    pub heard_ago: Option<Seconds>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct GuestPort {
    pub guest: String,
    pub nic: String,
    pub network: String,
    pub attached: bool,
    pub addresses: Vec<String>,
    pub mac: String,
    pub mtu: u16,
    pub received_packets: u64,
    pub sent_packets: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct MapServer {
    pub name: String,
    pub listening: Vec<String>,
    pub registrations: Vec<MapServerRegistration>,
    /// Zeros are left out.
    pub counters: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct MapServerRegistration {
    pub eid_prefix: String,
    pub site: String,
    pub from: String,
    pub rlocs: Vec<String>,
    pub superseded: bool,
    pub expires_in: Seconds,
    pub refreshed_ago: Seconds,
}

/// What an operator should know about an intent that is carried out as asked.
pub fn warnings(intent: &Intent) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, network) in &intent.networks {
        if let NetworkKind::Mesh(mesh) = &network.kind {
            match mesh.encryption {
                Encryption::None => warnings.push(format!(
                    "encryption: none: network `{name}`: packets travel in clear text and unauthenticated: whoever sees the underlay \
                     reads them, whoever reaches it can forge them"
                )),
                Encryption::Sealed(_) => {}
            }
        }
        if !intent.policies.values().any(|policy| policy.network == *name) {
            warnings.push(format!("network `{name}` has no Policy: everything in it is denied"));
        }
    }
    warnings
}

impl Node {
    /// The state of this node now.
    pub(super) async fn status(&self) -> Status {
        let now = Instant::now();
        let counters = self.counters().await;
        let mut status = Status {
            node: self.intent.node.as_ref().map(|node| node.name.clone()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: now.duration_since(self.started).as_secs_f64(),
            generation: self.generation.0,
            failures: self.all_failures(),
            warnings: warnings(&self.intent),
            drops: counters
                .iter()
                .filter(|(name, value)| *value > 0 && ended_early(name))
                .map(|(name, value)| (name.clone(), *value))
                .collect(),
            ..Status::default()
        };
        if self.packets.is_some() {
            status.dataplane = Some(Dataplane {
                pid: self.packet_path.pid,
                uptime: self
                    .packet_path
                    .since
                    .map_or(0.0, |since| now.duration_since(since).as_secs_f64()),
                starts: self.packet_path.starts,
                last_end: self.packet_path.last_end.clone(),
            });
            if !self.connected {
                status
                    .failures
                    .push("the packet path is being started: no packets pass".to_owned());
            }
        }
        let served = self.shell.status().database;
        for prefix in self
            .moved
            .keys()
            .filter(|prefix| served.iter().any(|(own, _)| own == *prefix))
        {
            status.warnings.push(format!(
                "another node registered {prefix}, which is served here: two guests with one address?"
            ));
        }
        self.add_uplinks(&mut status);
        self.add_guests(&mut status, &counters);
        if self.intent.node.is_some() {
            self.add_xtr(&mut status).await;
            status.warnings.extend(self.keyring.warnings());
            status.sealed = self.sealed_status().await;
        }
        self.add_map_servers(&mut status).await;
        status
    }

    async fn counters(&self) -> Vec<(String, u64)> {
        let Some(packets) = self.packets.as_ref().filter(|_| self.connected) else {
            return Vec::new();
        };
        match packets.ask(Query::Counters).await {
            Answer::Counters(counters) => counters,
            _ => Vec::new(),
        }
    }

    fn add_uplinks(&self, status: &mut Status) {
        let interfaces = self.interfaces.borrow();
        for uplink in self.intent.node.iter().flat_map(|node| &node.uplinks) {
            let config = self.desired.uplinks.get(&names::uplink(&uplink.interface));
            let interface = interfaces.get(&uplink.interface);
            match interface {
                None => status
                    .failures
                    .push(format!("uplink `{}`: there is no such interface", uplink.interface)),
                Some(interface) if !interface.running => {
                    status.failures.push(format!("uplink `{}` is down", uplink.interface));
                }
                Some(interface) if interface.addresses.is_empty() => {
                    status.failures.push(format!(
                        "uplink `{}` has no address that can be an RLOC",
                        uplink.interface
                    ));
                }
                Some(_) => {}
            }
            status.uplinks.push(Uplink {
                interface: uplink.interface.clone(),
                up: config.is_some(),
                rlocs: config
                    .map(|config| config.addresses.iter().map(ToString::to_string).collect())
                    .unwrap_or_default(),
                mtu: interface.map_or(0, |interface| interface.mtu),
            });
        }
    }

    fn add_guests(&self, status: &mut Status, counters: &[(String, u64)]) {
        let counters: BTreeMap<&str, u64> = counters.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        for (guest, spec) in &self.complete.guests {
            for nic in &spec.nics {
                let port = self.desired.ports.get(&names::port(guest, &nic.name));
                let count = |what: &str| {
                    let name = format!("guest_port.{}.{what}", names::nic(guest, &nic.name));
                    counters.get(name.as_str()).copied().unwrap_or(0)
                };
                status.guests.push(GuestPort {
                    guest: guest.clone(),
                    nic: nic.name.clone(),
                    network: nic.network.clone(),
                    attached: port.is_some(),
                    addresses: nic.addresses.iter().map(ToString::to_string).collect(),
                    mac: nic.mac.map(|octet| format!("{octet:02x}")).join(":"),
                    mtu: port.map_or(0, |port| port.gateway.mtu),
                    received_packets: count("rx_packets"),
                    sent_packets: count("tx_packets"),
                });
            }
        }
    }

    async fn add_xtr(&self, status: &mut Status) {
        let xtr = self.shell.status();
        let families: Vec<bool> = self
            .desired
            .uplinks
            .values()
            .flat_map(|uplink| uplink.addresses.iter().map(IpAddr::is_ipv4))
            .collect();
        for registration in xtr.registrations {
            let state = serde_json::to_value(&registration.state).unwrap_or_default();
            let text = |key: &str| state.get(key).and_then(|value| value.as_str()).map(str::to_owned);
            status.registrations.push(Registration {
                map_server: registration.map_server.to_string(),
                eid_prefix: registration.prefix.to_string(),
                state: text("state").unwrap_or_default(),
                reason: text("reason"),
                acknowledged_ago: registration.acknowledged_ago.map(|ago| ago.as_secs_f64()),
                reachable: families.contains(&registration.map_server.is_ipv4()),
            });
        }
        let used = match self.packets.as_ref().filter(|_| self.connected) {
            Some(packets) => match packets.ask(Query::Mappings).await {
                Answer::Mappings(used) => used,
                _ => Vec::new(),
            },
            None => Vec::new(),
        };
        let known: BTreeMap<_, _> = xtr
            .map_cache
            .iter()
            .map(|entry| (entry.mapping.prefix, entry))
            .collect();
        for (prefix, mapping) in &self.mappings {
            let entry = known.get(prefix);
            let use_ = used.iter().find(|status| status.mapping.prefix == *prefix);
            let (state, rlocs) = match &mapping.target {
                MappingTarget::Locators(locators) => (
                    "mapped".to_owned(),
                    locators.iter().map(|locator| locator.rloc.to_string()).collect(),
                ),
                MappingTarget::Negative(action) => (action.to_string(), Vec::new()),
            };
            status.map_cache.push(MapCacheEntry {
                eid_prefix: prefix.to_string(),
                state,
                node: mapping.node.map(|node| node.to_string()),
                rlocs,
                age: entry.map(|entry| entry.age.as_secs_f64()),
                expires_in: entry.map(|entry| entry.expires_in.as_secs_f64()),
                packets: use_.map_or(0, |status| status.packets),
                bytes: use_.map_or(0, |status| status.bytes),
            });
        }
        for locator in xtr.locators {
            let (up, state) = reachability(locator.state, locator.heard_ago);
            status.locators.push(Locator {
                rloc: locator.rloc.to_string(),
                up,
                state: state.to_owned(),
                rtt_ms: locator.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
                heard_ago: locator.heard_ago.map(|ago| ago.as_secs_f64()),
            });
        }
        status.xtr = numbers(&serde_json::to_value(xtr.counters).unwrap_or_default());
    }

    async fn add_map_servers(&self, status: &mut Status) {
        for (name, server) in self.map_servers.status().await {
            let registrations = server.registrations.iter().map(|registration| MapServerRegistration {
                eid_prefix: registration.prefix.to_string(),
                site: registration.site.clone(),
                from: registration.from.to_string(),
                rlocs: registration
                    .record
                    .locators
                    .iter()
                    .filter_map(|locator| locator.rloc.ip())
                    .map(|address| address.to_string())
                    .collect(),
                superseded: registration.superseded,
                expires_in: registration.expires_in.as_secs_f64(),
                refreshed_ago: registration.refreshed_ago.as_secs_f64(),
            });
            status.map_servers.push(MapServer {
                registrations: registrations.collect(),
                listening: server.listening.iter().map(ToString::to_string).collect(),
                counters: server
                    .counters
                    .iter()
                    .filter(|(_, value)| *value > 0)
                    .map(|(word, value)| (word.to_owned(), value))
                    .collect(),
                name,
            });
        }
    }
}

/// Whether a counter is of packets that ended early: by a decision, or because the machine did not send them.
fn ended_early(counter: &str) -> bool {
    let unsent = |end: &str| counter.starts_with("uplink.") && counter.ends_with(end);
    counter.starts_with("drop.") || unsent(".failed") || unsent(".tx_no_room")
}

/// Whether a locator is up, and its state in a word. A locator that nobody sends to is probed seldom or not at all: what
/// was heard of it once is not said of it for longer than [`TRUE_FOR`].
fn reachability(state: Reachability, heard_ago: Option<Duration>) -> (bool, &'static str) {
    match state {
        Reachability::Up if heard_ago.is_some_and(|ago| ago <= TRUE_FOR) => (true, "up"),
        Reachability::Up => (false, "idle"),
        Reachability::Unknown => (false, "unknown"),
        Reachability::Down => (false, "down"),
        Reachability::NoUplink => (false, "no-uplink"),
    }
}

/// The numbers of a structure by their names, without zeros.
fn numbers(value: &serde_json::Value) -> BTreeMap<String, u64> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .filter_map(|(name, value)| Some((name.replace('_', "-"), value.as_u64().filter(|value| *value > 0)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_means_heard_of_lately() {
        let ago = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(reachability(Reachability::Up, ago(0)), (true, "up"));
        assert_eq!(reachability(Reachability::Up, ago(3)), (true, "up"));
        assert_eq!(reachability(Reachability::Up, ago(4)), (false, "idle"));
        assert_eq!(reachability(Reachability::Up, None), (false, "idle"));
        assert_eq!(reachability(Reachability::Unknown, None), (false, "unknown"));
        assert_eq!(reachability(Reachability::Down, ago(1)), (false, "down"));
        assert_eq!(reachability(Reachability::NoUplink, None), (false, "no-uplink"));
    }

    #[test]
    fn what_an_uplink_could_not_send_has_ended_early() {
        for counter in ["drop.no-policy", "uplink.wan0.failed", "uplink.wan0.tx_no_room"] {
            assert!(ended_early(counter), "{counter}");
        }
        for counter in ["uplink.wan0.times_full", "guest_port.a/eth0.failed", "doors.closed"] {
            assert!(!ended_early(counter), "{counter}");
        }
    }

    #[test]
    fn counters_are_words_without_zeros() {
        let counters = serde_json::json!({"map_register_sent": 3, "smr_sent": 0, "text": "x"});
        assert_eq!(
            numbers(&counters),
            BTreeMap::from([("map-register-sent".to_owned(), 3)])
        );
    }

    #[test]
    fn a_mesh_in_clear_and_a_network_without_policy_are_warned_about() {
        let mut intent = Intent::default();
        let mesh = crate::intent::Mesh {
            instance_id: lisp::InstanceId::DEFAULT,
            encryption: Encryption::None,
            prefixes: Vec::new(),
            node_addresses: Vec::new(),
        };
        let network = crate::intent::Network {
            kind: NetworkKind::Mesh(mesh),
            domain: "plant.weft".into(),
            names: BTreeMap::new(),
            mtu: None,
            ipv4: None,
        };
        intent.networks.insert("plant".into(), network);
        let warnings = warnings(&intent);
        assert!(
            warnings
                .iter()
                .any(|text| text.contains("encryption: none") && text.contains("plant")),
            "{warnings:?}"
        );
        assert!(warnings.iter().any(|text| text.contains("no Policy")), "{warnings:?}");
    }
}
