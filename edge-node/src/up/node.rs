//! The control process: one loop owns all state; sockets, timers, the packet path, the machine's interfaces and the
//! control API feed it.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use dataplane::{
    control::{Answer, CapturedPacket, Generation, MappingConfig, MappingStatus, MappingTarget, PathHealth, Query},
    link,
};
use lisp::{Eid, EidPrefix, Rloc, XtrId, mesh::Suite};
use rtnetlink::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use xtr::{Command, LookupAnswer, LookupError};

use super::{
    descriptors::Descriptors,
    desired::Desired,
    map_servers::MapServers,
    names,
    packets::{FromPackets, Packets},
    preflight,
    reconcile::needs_packets,
    sealed::SealedState,
    secrets::{self, Secrets},
    shell::{Datagram, Shell},
    store,
    uplinks::{self, Interfaces},
};
use crate::{
    api::Request,
    cli::Directories,
    document::StoredIntent,
    error::Report,
    intent::{Attach, Intent},
    keyring::Keyring,
    read::{self, Source},
    validate,
};

/// A mapping of an adopted packet path that the mapping system does not confirm goes after this.
const UNCONFIRMED: Duration = Duration::from_secs(180);
/// Seconds between two looks for secrets that are missing.
const SECRETS_INTERVAL: u64 = 5;

/// A node.
#[derive(Debug)]
pub struct Node {
    pub(super) directories: Directories,
    pub(super) stored: StoredIntent,
    pub(super) intent: Intent,
    pub(super) secrets: Secrets,
    pub(super) generation: Generation,
    pub(super) interfaces: watch::Receiver<Interfaces>,
    pub(super) handle: Handle,
    pub(super) packets: Option<Packets>,
    packet_events: Option<mpsc::Receiver<FromPackets>>,
    pub(super) connected: bool,
    pub(super) packet_path: PacketPath,
    pub(super) desired: Desired,
    pub(super) descriptors: Descriptors,
    pub(super) resolvers: Vec<SocketAddr>,
    pub(super) shell: Shell,
    datagrams: mpsc::Receiver<Datagram>,
    pub(super) xtr_id: XtrId,
    pub(super) map_servers: MapServers,
    pub(super) mappings: BTreeMap<EidPrefix, MappingConfig>,
    pub(super) unconfirmed: BTreeMap<EidPrefix, Instant>,
    pub(super) health: BTreeMap<Rloc, PathHealth>,
    pub(super) path_mtus: BTreeMap<Rloc, Instant>,
    pub(super) failures: Vec<String>,
    /// Secrets that are not to be had, and why. They are tried again.
    pub(super) without: Vec<secrets::Unavailable>,
    pub(super) lookups: BTreeMap<u64, oneshot::Sender<Result<LookupAnswer, LookupError>>>,
    pub(super) next_lookup: u64,
    pub(super) capture: Option<mpsc::Sender<CapturedPacket>>,
    pub(super) started: Instant,
    used: mpsc::Receiver<Vec<MappingStatus>>,
    pub(super) use_sender: mpsc::Sender<Vec<MappingStatus>>,
    pub(super) packets_by: BTreeMap<EidPrefix, u64>,
    pub(super) seconds: u64,
    pub(super) failed_lately: bool,
    pub(super) sealed: SealedState,
    pub(super) keyring: Keyring,
    /// The intent with the addresses that are hashes of keys: what everything but plans and keys goes by.
    pub(super) complete: Intent,
    /// Suites, the fastest on this machine first.
    pub(super) suites: Vec<Suite>,
    /// Prefixes of ours that another node registered, and when that was told last.
    pub(super) moved: BTreeMap<EidPrefix, Instant>,
}

/// What is known of the packet path's process.
#[derive(Clone, Debug, Default)]
pub struct PacketPath {
    pub pid: Option<u32>,
    pub since: Option<Instant>,
    pub starts: u64,
    pub last_end: Option<String>,
}

impl Node {
    /// Reads the state directory and the machine; nothing runs yet.
    ///
    /// # Errors
    /// Which part of the state or of the machine cannot be used.
    pub async fn new(directories: Directories) -> io::Result<Self> {
        let (handle, interfaces) = uplinks::watch().await?;
        let state: &PathBuf = &directories.state_dir;
        let stored = store::intent(state)?;
        let xtr_id = super::shell::xtr_id(state)?;
        let (shell, datagrams) = Shell::new(empty_xtr(xtr_id), state)?;
        let (use_sender, used) = mpsc::channel(1);
        Ok(Self {
            stored,
            intent: Intent::default(),
            secrets: Secrets::new(),
            generation: Generation(0),
            interfaces,
            handle,
            packets: None,
            packet_events: None,
            connected: false,
            packet_path: PacketPath::default(),
            desired: Desired::default(),
            descriptors: Descriptors::new(&directories.runtime_dir),
            resolvers: Vec::new(),
            shell,
            datagrams,
            xtr_id,
            map_servers: MapServers::default(),
            mappings: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            health: BTreeMap::new(),
            path_mtus: BTreeMap::new(),
            failures: Vec::new(),
            without: Vec::new(),
            lookups: BTreeMap::new(),
            next_lookup: 0,
            capture: None,
            started: Instant::now(),
            used,
            use_sender,
            packets_by: BTreeMap::new(),
            seconds: 0,
            failed_lately: false,
            moved: BTreeMap::new(),
            sealed: SealedState::new(&directories.state_dir)?,
            keyring: Keyring::default(),
            complete: Intent::default(),
            suites: super::sealed::suites(),
            directories,
        })
    }

    /// Brings the node up with what it applied last and `sources` on top. What the machine cannot do now is told about
    /// in the status; faults in the sources are errors.
    ///
    /// # Errors
    /// Everything that is wrong with the sources.
    pub async fn start(&mut self, sources: &[Source]) -> Result<(), Report> {
        let documents = read::parse(sources)?;
        let merged = self.stored.merged(&documents);
        let all = self.stored.documents_with(&documents)?;
        let intent = validate::intent(&all).map_err(Report::from)?;
        self.begin_sealed();
        let interfaces = self.interfaces.borrow().clone();
        let socket = self.packet_socket();
        let secrets = if sources.is_empty() {
            // Nobody is there to mend it: what can run shall run.
            let (secrets, unavailable) = secrets::load(&intent);
            self.without = unavailable;
            secrets
        } else {
            preflight::check(
                &all,
                &Intent::default(),
                &intent,
                &interfaces,
                link::connect(&socket).is_ok(),
            )?
        };
        if needs_packets(&intent) {
            preflight::rights()?;
            self.ensure_packets();
            self.first_connection().await;
        }
        if merged != self.stored || self.generation == Generation(0) {
            self.generation = Generation(self.generation.0.saturating_add(1));
        }
        let failures = self.carry_out(intent, secrets).await;
        self.failures.extend(failures);
        for failure in self.all_failures() {
            tracing::error!(failure, "not as it was asked for");
        }
        if self.connected {
            self.send_everything().await;
        }
        self.flush_xtr();
        if !sources.is_empty() {
            store::keep(&self.directories.state_dir, &merged).map_err(|error| {
                preflight::failure(format!("the intent cannot be kept: {error}"), "check --state-dir")
            })?;
            self.stored = merged;
        }
        Ok(())
    }

    /// Starts the packet path's supervisor when it is not there.
    pub(super) fn ensure_packets(&mut self) {
        if self.packets.is_none() {
            let (packets, events) = Packets::start(self.packet_socket());
            self.packets = Some(packets);
            self.packet_events = Some(events);
        }
    }

    fn packet_socket(&self) -> PathBuf {
        self.directories.runtime_dir.join("dataplane.sock")
    }

    /// Hears out the packet path before the intent is carried out: what it holds must not be opened anew.
    async fn first_connection(&mut self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !self.connected {
            let Some(events) = &mut self.packet_events else { return };
            match tokio::time::timeout_at(deadline, events.recv()).await {
                Ok(Some(FromPackets::Connected {
                    hello,
                    descriptors,
                    starts,
                })) => {
                    self.greet(&hello, starts);
                    self.generation = hello.generation;
                    for port in &hello.ports {
                        self.desired.ports.insert(port.id, port.clone());
                    }
                    for uplink in &hello.uplinks {
                        self.desired.uplinks.insert(uplink.id, uplink.clone());
                    }
                    self.desired.exit.clone_from(&hello.local_exit);
                    self.descriptors.adopt(&hello, descriptors, &self.interfaces.borrow());
                    self.adopt_mappings().await;
                    self.adopt_bindings().await;
                    self.greet_sealed(&hello, starts);
                }
                Ok(Some(_)) => {}
                _ => return,
            }
        }
    }

    /// A packet path that kept running knows where everybody was: that stays until the mapping system says otherwise.
    async fn adopt_mappings(&mut self) {
        let Some(packets) = self.packets.clone() else { return };
        let Answer::Mappings(held) = packets.ask(Query::Mappings).await else {
            return;
        };
        let until = Instant::now() + UNCONFIRMED;
        for status in held {
            if matches!(status.mapping.target, MappingTarget::Locators(_)) {
                self.unconfirmed.insert(status.mapping.prefix, until);
                self.mappings.insert(status.mapping.prefix, status.mapping);
            }
        }
    }

    pub(super) fn greet(&mut self, hello: &dataplane::control::Hello, starts: u64) {
        self.connected = true;
        self.packet_path.pid = Some(hello.pid);
        self.packet_path.since = Some(Instant::now());
        self.packet_path.starts = starts;
        tracing::info!(
            pid = hello.pid,
            generation = hello.generation.0,
            "packet path connected"
        );
    }

    /// Runs until `stop` says so.
    pub async fn run(&mut self, mut requests: mpsc::Receiver<Request>, mut stop: watch::Receiver<bool>) {
        let unconfirmed: Vec<EidPrefix> = self.unconfirmed.keys().copied().collect();
        for prefix in unconfirmed {
            let eid = Eid::new(prefix.instance_id(), prefix.net().addr());
            self.shell.command(Command::Resolve { eid, source: None });
        }
        self.flush_xtr();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            let deadline = self.shell.deadline();
            tokio::select! {
                _ = stop.changed() => break,
                Some(event) = next(&mut self.packet_events) => self.packet_event(event).await,
                Some(datagram) = self.datagrams.recv() => {
                    self.shell.datagram(&datagram);
                    while let Ok(datagram) = self.datagrams.try_recv() {
                        self.shell.datagram(&datagram);
                    }
                }
                () = until(deadline) => self.shell.tick(),
                Some(request) = requests.recv() => self.request(request).await,
                Ok(()) = self.interfaces.changed() => self.interfaces_changed().await,
                Some(held) = self.used.recv() => self.mappings_used(&held),
                _ = second.tick() => {
                    self.second();
                    self.try_failed_again().await;
                }
            }
            self.flush_xtr();
        }
        self.stop().await;
    }

    /// Ends what a start that failed has begun. A packet path that was adopted lives on.
    pub async fn abandon(&mut self) {
        if self.packet_path.starts > 0 {
            self.stop().await;
        }
    }

    /// Ends everything that this node started.
    async fn stop(&mut self) {
        tracing::info!("stopping");
        self.map_servers.stop_all().await;
        if let Some(packets) = self.packets.take() {
            packets.quit().await;
        }
        self.descriptors.end();
        let _ = std::fs::remove_file(self.packet_socket());
    }

    async fn interfaces_changed(&mut self) {
        let interfaces = self.interfaces.borrow_and_update().clone();
        let desired = Desired::new(&self.complete, &interfaces, &self.resolvers, &self.bound());
        let gone = !self.descriptors.stale(&self.intent, &desired, &interfaces).is_empty();
        if gone || desired.uplinks != self.desired.uplinks || self.waiting_for_interface(&interfaces) {
            tracing::info!("interfaces changed");
            self.carry_out_again().await;
        }
    }

    /// Tries once more what the packet path said has failed, and what lacked a secret that is there now.
    async fn try_failed_again(&mut self) {
        let found = !self.without.is_empty()
            && self.seconds.is_multiple_of(SECRETS_INTERVAL)
            && secrets::load_missing(&self.intent, &self.secrets).1.len() < self.without.len();
        if std::mem::take(&mut self.failed_lately) || found {
            self.carry_out_again().await;
        }
    }

    async fn carry_out_again(&mut self) {
        let intent = self.intent.clone();
        let (secrets, unavailable) = secrets::load_missing(&intent, &self.secrets);
        self.without = unavailable;
        self.failures = self.carry_out(intent, secrets).await;
        for failure in self.all_failures() {
            tracing::error!(failure, "not as it was asked for");
        }
    }

    /// Everything that is not as it was asked to be, secrets included.
    pub(super) fn all_failures(&self) -> Vec<String> {
        let without = self.without.iter();
        let without = without.map(|(name, message, help)| format!("Secret/{name}: {message}; {help}"));
        without.chain(self.failures.iter().cloned()).collect()
    }

    /// Whether a guest is not attached whose interface is there now.
    fn waiting_for_interface(&self, interfaces: &Interfaces) -> bool {
        self.intent.guests.iter().any(|(guest, spec)| {
            spec.nics.iter().any(|nic| match &nic.attach {
                Attach::Veth { interface } => {
                    interfaces.contains_key(interface)
                        && !self.desired.ports.contains_key(&names::port(guest, &nic.name))
                }
                // Making it is an attempt of its own, and would tell of a change again.
                Attach::Tap { .. } => false,
            })
        })
    }
}

fn empty_xtr(xtr_id: XtrId) -> xtr::Config {
    xtr::Config {
        xtr_id,
        site_id: lisp::SiteId(0),
        map_servers: Vec::new(),
        locators: Vec::new(),
        timers: xtr::Timers::default(),
        limits: xtr::Limits::default(),
        mesh: xtr::SealedMesh::default(),
    }
}

async fn next(events: &mut Option<mpsc::Receiver<FromPackets>>) -> Option<FromPackets> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::intent::SecretSource;

    async fn node(directory: &std::path::Path) -> Node {
        let directories = Directories {
            state_dir: directory.join("state"),
            runtime_dir: directory.join("run"),
        };
        std::fs::create_dir_all(&directories.state_dir).expect("made");
        std::fs::create_dir_all(&directories.runtime_dir).expect("made");
        Node::new(directories).await.expect("a node")
    }

    #[tokio::test]
    async fn health_that_says_nothing_of_anybody_is_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut node = node(directory.path()).await;
        let health = |last: u8, up, mtu| {
            let rloc = Rloc::new(std::net::IpAddr::from([192, 0, 2, last]));
            PathHealth { rloc, up, mtu }
        };
        let (used, unused) = (health(1, true, None), health(2, true, None));
        let (down, small) = (health(3, false, None), health(4, true, Some(1400)));
        for health in [used, unused, down, small] {
            node.health.insert(health.rloc, health);
        }
        let prefix: EidPrefix = "[7]fd07::2/128".parse().expect("a prefix");
        let locator = dataplane::control::PathLocator {
            rloc: used.rloc,
            priority: 1,
            weight: 100,
            reachable: true,
        };
        let target = MappingTarget::Locators(vec![locator]);
        let config = MappingConfig {
            prefix,
            target,
            node: None,
        };
        node.mappings.insert(prefix, config);
        node.second();
        let left: Vec<Rloc> = node.health.keys().copied().collect();
        assert_eq!(left, [used.rloc, down.rloc, small.rloc]);
    }

    #[tokio::test]
    async fn a_secret_that_is_missing_is_told_of_until_it_is_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut node = node(directory.path()).await;
        let key = directory.path().join("site.key");
        node.intent
            .secrets
            .insert("site".into(), SecretSource::File(key.clone()));
        // Interfaces change: everything is carried out again, twice.
        for _ in 0..2 {
            node.carry_out_again().await;
            let failures = node.status().await.failures;
            assert!(
                failures.iter().any(|failure| failure.starts_with("Secret/site: ")),
                "{failures:?}"
            );
        }
        std::fs::write(&key, "s3cret").expect("written");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        node.try_failed_again().await;
        assert_eq!(node.status().await.failures, Vec::<String>::new());
        assert_eq!(node.secrets["site"].expose(), b"s3cret");
    }
}
