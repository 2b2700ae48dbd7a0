//! The sealed mesh, where the xTR and the packet path meet: the words of one become those of the other, and the highest
//! epochs that were seen are kept on disk.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use dataplane::control::{Answer, BindingConfig, Change, Event as PacketEvent, Hello, Query, SaConfig};
use ipnet::IpNet;
use lisp::{
    EidPrefix, Nonce,
    mesh::{KeyId, PublicKey, Suite},
};
use xtr::{AdoptedSa, Command, Event, Identity, Limits, SaParameters, SealedMesh, SealedNetwork, Timers};
use zeroize::Zeroizing;

use super::{names, node::Node, secrets::Secrets, status, store};
use crate::{
    intent::{Intent, MemberId, Rule, Selector},
    keyring::Keyring,
    policy,
};

/// A binding of an adopted packet path that nobody proves anew goes after this.
const UNPROVEN: Duration = Duration::from_secs(180);
/// Seconds between two looks at the wall clock.
const CLOCK_INTERVAL: u64 = 10;
/// Seconds between two looks at statements that may have to be renewed.
const RENEW_INTERVAL: u64 = 60;
/// How long suites are compared.
const MEASURE: Duration = Duration::from_millis(20);

/// What of the sealed mesh the control process keeps for the packet path, and for its own next start.
#[derive(Debug, Default)]
pub struct SealedState {
    /// Which node speaks for what.
    pub bindings: BTreeMap<EidPrefix, BindingConfig>,
    /// Bindings of an adopted packet path that were not proven to this process yet, and until when they are kept.
    pub unproven: BTreeMap<EidPrefix, Instant>,
    epochs: Epochs,
    /// How often the packet path was started when its SAs were last heard of.
    starts: Option<u64>,
}

/// The highest epochs that were seen, in a file.
#[derive(Debug, Default)]
struct Epochs {
    file: PathBuf,
    seen: BTreeMap<EidPrefix, (u64, KeyId)>,
    changed: bool,
}

impl Epochs {
    /// One line for each prefix: prefix, epoch, node.
    fn read(file: &Path) -> io::Result<Self> {
        let mut seen = BTreeMap::new();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        for line in text.lines() {
            let parsed = (|| {
                let mut words = line.split(' ');
                let prefix: EidPrefix = words.next()?.parse().ok()?;
                let epoch: u64 = words.next()?.parse().ok()?;
                Some((prefix, (epoch, words.next()?.parse::<KeyId>().ok()?)))
            })();
            let Some((prefix, epoch)) = parsed else {
                let message = format!(
                    "{} holds the line `{line}`, which is no epoch: former hosts could take guests back",
                    file.display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            };
            seen.insert(prefix, epoch);
        }
        Ok(Self {
            file: file.to_owned(),
            seen,
            changed: false,
        })
    }

    fn write(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let lines = self
            .seen
            .iter()
            .map(|(prefix, (epoch, node))| format!("{prefix} {epoch} {node}\n"));
        let text: String = lines.collect();
        if let Err(error) = store::replace(&self.file, text.as_bytes()) {
            tracing::error!(%error, file = %self.file.display(), "epochs cannot be stored");
            self.changed = true;
        }
    }
}

impl SealedState {
    /// What the last life of this node remembered.
    ///
    /// # Errors
    /// The file is there and cannot be understood.
    pub fn new(state: &Path) -> io::Result<Self> {
        Ok(Self {
            epochs: Epochs::read(&state.join("epochs"))?,
            ..Self::default()
        })
    }
}

/// Seconds since the Unix epoch.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// An SA as the packet path takes it.
fn sa_config(parameters: SaParameters) -> SaConfig {
    SaConfig {
        node: parameters.node,
        suite: parameters.suite,
        inbound: parameters.inbound,
        outbound: parameters.outbound,
        initiator: parameters.initiator,
        life: Timers::default().sa_life,
        // Replaced at a quarter of it, by the xTR.
        packet_limit: Limits::default().sa_packets.saturating_mul(4),
    }
}

/// Suites, the fastest on this machine first. Both ends of an SA announce theirs.
pub fn suites() -> Vec<Suite> {
    let mut measured = dataplane::seal::measure(MEASURE);
    measured.sort_by_key(|(_, nanoseconds)| *nanoseconds);
    for (suite, nanoseconds) in &measured {
        tracing::debug!(%suite, nanoseconds, "sealing 1,400 bytes");
    }
    measured.into_iter().map(|(suite, _)| suite).collect()
}

impl Node {
    /// Loads keys and statements for an intent. What is wrong with them is told of; networks without them stay silent.
    pub(super) fn load_keys(&mut self, intent: &Intent, secrets: &Secrets) -> Vec<String> {
        let secret = |name: &str| match secrets.get(name) {
            Some(credential) => Ok(Zeroizing::new(credential.expose().to_vec())),
            None => Err(format!("Secret {name} could not be read")),
        };
        let now = Duration::from_secs(unix_now());
        let loaded = Keyring::load(intent, secret, &self.directories.state_dir, now);
        let (keyring, failures) = match loaded {
            Ok(keyring) => (keyring, Vec::new()),
            Err(failures) => (Keyring::default(), failures),
        };
        self.keyring = keyring;
        self.complete = intent.clone();
        self.keyring.complete(&mut self.complete);
        failures
    }

    /// Who this node is in sealed networks, for the xTR.
    pub(super) fn sealed_mesh(&self) -> SealedMesh {
        let networks = self.complete.networks.iter().filter_map(|(name, network)| {
            let (mesh, sealed) = network.sealed()?;
            let mut told = SealedNetwork {
                authority: sealed.authority,
                permit: self.keyring.membership(name).map(|membership| membership.permit),
                ..SealedNetwork::default()
            };
            for member in &sealed.members {
                match member.who {
                    MemberId::Node(key) => drop(told.nodes.insert(key)),
                    MemberId::Eid(address) => drop(told.eids.insert(address)),
                }
            }
            Some((mesh.instance_id, told))
        });
        SealedMesh {
            identity: self.keyring.node().map(Identity::new),
            networks: networks.collect(),
            suites: self.suites.clone(),
            workers: 1,
        }
    }

    /// What is known to be bound to which node, for policies that speak of nodes.
    pub(super) fn bound(&self) -> impl Fn(&PublicKey) -> Vec<IpNet> + use<> {
        let mut of_node: BTreeMap<KeyId, Vec<IpNet>> = BTreeMap::new();
        for binding in self.sealed.bindings.values() {
            of_node.entry(binding.node).or_default().push(binding.prefix.net());
        }
        let own = self.keyring.node().and_then(|signer| signer.public_key().id());
        if let Some(own) = own {
            let bound = self.keyring.bindings();
            of_node
                .entry(own)
                .or_default()
                .extend(bound.iter().map(|binding| binding.prefix.net()));
        }
        move |key| key.id().and_then(|id| of_node.get(&id).cloned()).unwrap_or_default()
    }

    /// Policies that speak of nodes mean what is bound to them: when that changed, the packet path is told.
    pub(super) fn bindings_changed(&mut self) {
        let speaks_of_nodes = |rule: &Rule| {
            let mut selectors = rule.from.iter().chain(&rule.to);
            selectors.any(|selector| matches!(selector, Selector::Node(_)))
        };
        if !self
            .complete
            .policies
            .values()
            .any(|policy| policy.rules.iter().any(speaks_of_nodes))
        {
            return;
        }
        let bound = self.bound();
        let mut changes = Vec::new();
        for name in self.complete.networks.keys() {
            let id = names::network(name);
            let config = policy::config(&self.complete, name, id, &bound);
            if self.desired.policies.get(&id) != Some(&config) {
                self.desired.policies.insert(id, config.clone());
                changes.push(Change::PutPolicy(config));
            }
        }
        self.send(changes);
    }

    /// What `status` tells of sealed networks.
    pub(super) async fn sealed_status(&self) -> Option<status::Sealed> {
        let key = self.keyring.node()?.public_key();
        let held = match self.packets.as_ref().filter(|_| self.connected) {
            Some(packets) => match packets.ask(Query::Sas).await {
                Answer::Sas(held) => held,
                _ => Vec::new(),
            },
            None => Vec::new(),
        };
        let xtr = self.shell.status();
        let associations = held.iter().map(|sa| status::Association {
            node: sa.node.to_string(),
            index: sa.index.get(),
            suite: sa.suite.to_string(),
            age: sa.age.as_secs_f64(),
            state: match (sa.current, sa.confirmed) {
                (true, _) => "current",
                (false, true) => "confirmed",
                (false, false) => "waiting",
            }
            .to_owned(),
            sealed_packets: sa.sealed,
            opened_packets: sa.opened,
            roamed_to: sa.roamed_to.map(|rloc| rloc.to_string()),
        });
        let bindings = xtr.bindings.iter().map(|(prefix, node, epoch)| status::Binding {
            eid_prefix: prefix.to_string(),
            node: node.to_string(),
            epoch: *epoch,
        });
        let refusals = xtr.refusals.into_iter().map(|refusal| status::Refusal {
            eid: refusal.eid,
            node: refusal.node.map(|node| node.to_string()),
            by: refusal.by.to_owned(),
            reason: refusal.words,
            ago: refusal.ago.as_secs_f64(),
            times: refusal.times,
        });
        let unbound = self.keyring.unbound();
        Some(status::Sealed {
            node_key: Some(key.to_string()),
            node: key.id().map(|id| id.to_string()),
            associations: associations.collect(),
            bindings: bindings.collect(),
            unbound: unbound
                .into_iter()
                .map(|(prefix, why)| (prefix.to_string(), why))
                .collect(),
            refusals: refusals.collect(),
        })
    }

    /// Tells the xTR what it has to know before anything else: the time, and the epochs.
    pub(super) fn begin_sealed(&mut self) {
        self.shell.command(Command::Clock(unix_now()));
        let epochs = self.sealed.epochs.seen.iter();
        let epochs = epochs.map(|(prefix, (epoch, node))| (*prefix, *epoch, *node)).collect();
        self.shell.command(Command::RememberEpochs(epochs));
    }

    /// Once a second.
    pub(super) fn sealed_second(&mut self) {
        if self.seconds.is_multiple_of(CLOCK_INTERVAL) {
            self.shell.command(Command::Clock(unix_now()));
        }
        self.sealed.epochs.write();
        if self.seconds.is_multiple_of(RENEW_INTERVAL) && self.keyring.renew(Duration::from_secs(unix_now())) {
            let failures = self.tell_xtr();
            self.failures.extend(failures);
        }
        let now = Instant::now();
        let stale: Vec<EidPrefix> = self
            .sealed
            .unproven
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(prefix, _)| *prefix)
            .collect();
        for prefix in stale {
            self.sealed.unproven.remove(&prefix);
            self.sealed.bindings.remove(&prefix);
            self.send(vec![Change::RemoveBinding(prefix)]);
        }
    }

    /// A packet path is there. One that kept running has its SAs still; of one that was started anew they are gone.
    pub(super) fn greet_sealed(&mut self, hello: &Hello, starts: u64) {
        let known = self.sealed.starts.replace(starts);
        let adopted = hello.sas.iter().map(|sa| AdoptedSa {
            index: sa.index,
            node: sa.node,
            age: sa.age,
            confirmed: sa.current || sa.confirmed,
        });
        let adopted: Vec<AdoptedSa> = adopted.collect();
        match known {
            None => self.shell.command(Command::AdoptSas(adopted)),
            Some(before) if before != starts => self.shell.command(Command::SasLost),
            Some(_) => {}
        }
    }

    /// The bindings of a packet path that kept running stay until they are proven anew, or for a while.
    pub(super) async fn adopt_bindings(&mut self) {
        let Some(packets) = self.packets.clone() else { return };
        let Answer::Bindings(held) = packets.ask(Query::Bindings).await else {
            return;
        };
        let until = Instant::now() + UNPROVEN;
        for config in held {
            self.sealed.unproven.insert(config.prefix, until);
            self.sealed.bindings.insert(config.prefix, config);
        }
    }

    /// What the packet path says of sealed networks. `Some`: it was about something else.
    pub(super) fn heard_sealed(&mut self, event: PacketEvent) -> Option<PacketEvent> {
        let command = match event {
            PacketEvent::SaConfirmed(index) => Command::SaConfirmed(index),
            PacketEvent::SaUsed(uses) => {
                let uses = uses.iter().map(|usage| (usage.index, usage.sealed, usage.sealed_bytes));
                Command::SasUsed(uses.collect())
            }
            PacketEvent::NoSa { node, eid, source } => Command::SaMissing {
                node,
                eid,
                source: Some(source),
            },
            PacketEvent::SealedProbeAnswered { nonce, .. } => Command::SealedProbeAnswered(Nonce(nonce)),
            PacketEvent::SealedMessage { node, payload, .. } => Command::SealedMessage { node, payload },
            PacketEvent::Roamed { node, to } => {
                tracing::info!(%node, to = to.map(|rloc| rloc.to_string()), "a node is heard from another address");
                return None;
            }
            PacketEvent::UnboundSource { node, source } => {
                tracing::debug!(%node, eid = %source, "a packet came from an EID that is not known to be its node's");
                Command::UnboundSource { node, source }
            }
            other => return Some(other),
        };
        self.shell.command(command);
        None
    }

    /// What the xTR says of sealed networks. `Some`: it was about something else.
    pub(super) fn said_sealed(
        &mut self,
        event: Event,
        changes: &mut Vec<Change>,
        queries: &mut Vec<Query>,
    ) -> Option<Event> {
        match event {
            Event::SaEstablished(parameters) => changes.push(Change::PutSa(sa_config(parameters))),
            Event::BindingInstalled { prefix, node } => {
                let config = BindingConfig { prefix, node };
                self.sealed.unproven.remove(&prefix);
                self.sealed.bindings.insert(prefix, config.clone());
                changes.push(Change::PutBinding(config));
            }
            Event::BindingRemoved(prefix) => {
                self.sealed.unproven.remove(&prefix);
                self.sealed.bindings.remove(&prefix);
                changes.push(Change::RemoveBinding(prefix));
            }
            Event::EpochSeen { prefix, epoch, node } => {
                self.sealed.epochs.seen.insert(prefix, (epoch, node));
                self.sealed.epochs.changed = true;
            }
            Event::SealedProbe { node, rloc, nonce } => queries.push(Query::SealedProbe {
                node,
                rloc: Some(rloc),
                nonce: nonce.0,
            }),
            Event::SealedSend { node, payload } => queries.push(Query::SealedSend { node, payload }),
            other => return Some(other),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_kept_and_a_broken_file_is_an_error_with_its_name() {
        let state = tempfile::tempdir().expect("a directory");
        let mut kept = SealedState::new(state.path()).expect("nothing yet");
        let prefix: EidPrefix = "[7]fd07::1/128".parse().expect("a prefix");
        kept.epochs.seen.insert(prefix, (8, KeyId([3; 16])));
        kept.epochs.changed = true;
        kept.epochs.write();
        let again = SealedState::new(state.path()).expect("read back");
        assert_eq!(again.epochs.seen, kept.epochs.seen);
        std::fs::write(state.path().join("epochs"), "seven").expect("written");
        let error = SealedState::new(state.path()).expect_err("broken").to_string();
        assert!(error.contains("epochs") && error.contains("seven"), "{error}");
    }
}
