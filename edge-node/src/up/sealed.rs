//! The sealed mesh, where the xTR and the packet path meet: the words of one become those of the other, and the highest
//! epochs that were seen are kept on disk.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use dataplane::control::{Answer, BindingConfig, Change, Event as PacketEvent, Hello, Query, SaConfig};
use lisp::{EidPrefix, Nonce, mesh::KeyId};
use xtr::{AdoptedSa, Command, Event, Limits, SaParameters, Timers};

use super::{node::Node, store};

/// A binding of an adopted packet path that nobody proves anew goes after this.
const UNPROVEN: Duration = Duration::from_secs(180);
/// Between two looks at the wall clock.
const CLOCK_INTERVAL: u64 = 10;

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

impl Node {
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
