//! The control process: one loop owns all state; sockets, timers, the packet path, the machine's interfaces and the
//! control API feed it.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use dataplane::{
    control::{
        Answer, CaptureFilter, CapturedPacket, Change, Event as PacketEvent, Generation, MappingConfig, MappingStatus,
        MappingTarget, PathHealth, PathLocator, Query,
    },
    link,
    port::uplink_sockets::path_mtu,
};
use lisp::{Eid, EidPrefix, Mapping, Rloc, XtrId};
use rtnetlink::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use xtr::{Command, Event, LookupAnswer, LookupError};

use super::{
    descriptors::Descriptors,
    desired::Desired,
    exit,
    map_servers::MapServers,
    names,
    packets::{FromPackets, Packets},
    preflight,
    reconcile::needs_packets,
    secrets::{self, Secrets},
    shell::{Datagram, Shell},
    store,
    uplinks::{self, Interfaces},
};
use crate::{
    api::{Applied, Request},
    cli::Directories,
    document::{Document, StoredIntent},
    error::Report,
    intent::{Attach, Intent},
    kind::KindName,
    plan,
    read::{self, Source},
    validate,
};

/// A mapping of an adopted packet path that the mapping system does not confirm goes after this.
const UNCONFIRMED: Duration = Duration::from_secs(180);
/// A path MTU that the kernel told us is believed for this long (RFC 8201 §4).
const PATH_MTU_LIFE: Duration = Duration::from_secs(600);
/// Seconds between two looks at how much mappings are used.
const USE_INTERVAL: u64 = 5;

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
    pub(super) shell: Shell,
    datagrams: mpsc::Receiver<Datagram>,
    pub(super) xtr_id: XtrId,
    pub(super) map_servers: MapServers,
    pub(super) mappings: BTreeMap<EidPrefix, MappingConfig>,
    unconfirmed: BTreeMap<EidPrefix, Instant>,
    pub(super) health: BTreeMap<Rloc, PathHealth>,
    path_mtus: BTreeMap<Rloc, Instant>,
    pub(super) failures: Vec<String>,
    lookups: BTreeMap<u64, oneshot::Sender<Result<LookupAnswer, LookupError>>>,
    next_lookup: u64,
    capture: Option<mpsc::Sender<CapturedPacket>>,
    pub(super) started: Instant,
    used: mpsc::Receiver<Vec<MappingStatus>>,
    use_sender: mpsc::Sender<Vec<MappingStatus>>,
    packets_by: BTreeMap<EidPrefix, u64>,
    seconds: u64,
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
            descriptors: Descriptors::default(),
            shell,
            datagrams,
            xtr_id,
            map_servers: MapServers::default(),
            mappings: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            health: BTreeMap::new(),
            path_mtus: BTreeMap::new(),
            failures: Vec::new(),
            lookups: BTreeMap::new(),
            next_lookup: 0,
            capture: None,
            started: Instant::now(),
            used,
            use_sender,
            packets_by: BTreeMap::new(),
            seconds: 0,
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
        let interfaces = self.interfaces.borrow().clone();
        let socket = self.packet_socket();
        let secrets = if sources.is_empty() {
            // Nobody is there to mend it: what can run shall run.
            let (secrets, unavailable) = secrets::load(&intent);
            for (name, message, help) in unavailable {
                self.failures.push(format!("Secret/{name}: {message}; {help}"));
            }
            secrets
        } else {
            preflight::check(&all, &Intent::default(), &intent, &interfaces, link::connect(&socket).is_ok())?
        };
        if needs_packets(&intent) {
            self.ensure_packets();
            self.first_connection().await;
        }
        if merged != self.stored || self.generation == Generation(0) {
            self.generation = Generation(self.generation.0.saturating_add(1));
        }
        let failures = self.carry_out(intent, secrets).await;
        self.failures.extend(failures);
        if self.connected {
            self.send_everything().await;
        }
        self.flush_xtr();
        if !sources.is_empty() {
            store::keep(&self.directories.state_dir, &merged)
                .map_err(|error| preflight::failure(format!("the intent cannot be kept: {error}"), "check --state-dir"))?;
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
                Ok(Some(FromPackets::Connected { hello, descriptors, starts })) => {
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
                }
                Ok(Some(_)) => {}
                _ => return,
            }
        }
    }

    /// A packet path that kept running knows where everybody was: that stays until the mapping system says otherwise.
    async fn adopt_mappings(&mut self) {
        let Some(packets) = self.packets.clone() else { return };
        let Answer::Mappings(held) = packets.ask(Query::Mappings).await else { return };
        let until = Instant::now() + UNCONFIRMED;
        for status in held {
            if matches!(status.mapping.target, MappingTarget::Locators(_)) {
                self.unconfirmed.insert(status.mapping.prefix, until);
                self.mappings.insert(status.mapping.prefix, status.mapping);
            }
        }
    }

    fn greet(&mut self, hello: &dataplane::control::Hello, starts: u64) {
        self.connected = true;
        self.packet_path.pid = Some(hello.pid);
        self.packet_path.since = Some(Instant::now());
        self.packet_path.starts = starts;
        tracing::info!(pid = hello.pid, generation = hello.generation.0, "packet path connected");
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
                _ = second.tick() => self.second(),
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
        if self.desired.exit.is_some() {
            exit::close();
        }
        self.descriptors = Descriptors::default();
        let _ = std::fs::remove_file(self.packet_socket());
    }

    async fn packet_event(&mut self, event: FromPackets) {
        match event {
            FromPackets::Connected { hello, descriptors, starts } => {
                self.greet(&hello, starts);
                self.descriptors.adopt(&hello, descriptors, &self.interfaces.borrow());
                self.send_everything().await;
            }
            FromPackets::Lost(reason) => {
                self.connected = false;
                self.packet_path.pid = None;
                self.packet_path.last_end = Some(reason);
                self.capture = None;
            }
            FromPackets::Event(event) => self.heard(event),
        }
    }

    fn heard(&mut self, event: PacketEvent) {
        match event {
            PacketEvent::MapCacheMiss { eid, source } => {
                self.shell.command(Command::Resolve { eid, source: Some(source) });
            }
            PacketEvent::UnservedEid { eid, from } => {
                self.shell.command(Command::SolicitMapRequest { eid, to: Rloc::new(from.address) });
            }
            PacketEvent::TrafficSent(rlocs) => self.shell.command(Command::TrafficSent { rlocs }),
            PacketEvent::ControlInData { from, payload } => self.shell.data_datagram(from, &payload),
            PacketEvent::PathTooSmall { rloc, size } => self.path_too_small(rloc, size),
            PacketEvent::PortFailed(id, reason) => {
                // Not served any more, and so not registered any more; it comes back with its interface.
                self.descriptors.port_failed(id);
                if let Some(port) = self.desired.ports.remove(&id) {
                    tracing::error!(guest = port.name, reason, "a guest port failed");
                    self.failures.push(format!("guest port {}: {reason}", port.name));
                    self.send(vec![Change::RemovePort(id)]);
                    let more = self.tell_xtr();
                    self.failures.extend(more);
                }
            }
            PacketEvent::UplinkFailed(id, reason) => {
                self.descriptors.uplink_failed(id);
                if let Some(uplink) = self.desired.uplinks.remove(&id) {
                    tracing::error!(uplink = uplink.name, reason, "an uplink failed");
                    self.failures.push(format!("uplink {}: {reason}", uplink.name));
                    self.send(vec![Change::RemoveUplink(id)]);
                    let more = self.tell_xtr();
                    self.failures.extend(more);
                }
            }
            PacketEvent::Captured(packet) => {
                if let Some(capture) = &self.capture
                    && capture.try_send(packet).is_err_and(|error| matches!(error, mpsc::error::TrySendError::Closed(_)))
                {
                    self.end_capture();
                }
            }
            PacketEvent::Descriptors(_) => {}
        }
    }

    fn path_too_small(&mut self, rloc: Rloc, size: u32) {
        let local = self.desired.uplinks.values().flat_map(|uplink| &uplink.addresses);
        let local: Option<&IpAddr> = local.into_iter().find(|address| address.is_ipv4() == rloc.address.is_ipv4());
        let Some(local) = local else { return };
        let Ok(mtu) = path_mtu(*local, rloc.address) else { return };
        if mtu >= size {
            return;
        }
        let before = self.health.get(&rloc).copied();
        let health = PathHealth { rloc, up: before.is_none_or(|health| health.up), mtu: Some(mtu) };
        self.path_mtus.insert(rloc, Instant::now() + PATH_MTU_LIFE);
        self.set_health(health);
    }

    fn set_health(&mut self, health: PathHealth) {
        if self.health.insert(health.rloc, health) != Some(health) {
            self.send(vec![Change::PutPathHealth(health)]);
        }
    }

    pub(super) fn send(&self, changes: Vec<Change>) {
        if let Some(packets) = &self.packets
            && self.connected
        {
            packets.send(changes);
        }
    }

    /// Carries out what the xTR has to say.
    pub(super) fn flush_xtr(&mut self) {
        let mut changes = Vec::new();
        for event in self.shell.flush() {
            match event {
                Event::MappingInstalled { mapping, .. } => {
                    let config = mapping_config(&mapping);
                    self.unconfirmed.remove(&config.prefix);
                    self.mappings.insert(config.prefix, config.clone());
                    changes.push(Change::PutMapping(config));
                }
                Event::MappingRemoved(prefix) => {
                    self.unconfirmed.remove(&prefix);
                    self.mappings.remove(&prefix);
                    changes.push(Change::RemoveMapping(prefix));
                }
                Event::LocatorState { rloc, reachable, .. } => {
                    let mtu = self.health.get(&rloc).and_then(|health| health.mtu);
                    self.set_health(PathHealth { rloc, up: reachable, mtu });
                }
                Event::LookupDone { id, result } => {
                    if let Some(waiter) = self.lookups.remove(&id) {
                        let _ = waiter.send(result);
                    }
                }
                Event::Moved { prefix, map_server, .. } => {
                    tracing::warn!(eid = %prefix, %map_server, "another node registered this prefix, which is served here");
                }
                Event::Registration { map_server, prefix, state } => {
                    tracing::debug!(eid = %prefix, %map_server, ?state, "registration");
                }
                Event::ResolveFailed { eid, .. } => tracing::debug!(%eid, "nobody answers for this EID"),
                Event::NonceAdvanced(_) => {}
            }
        }
        self.send(changes);
    }

    async fn interfaces_changed(&mut self) {
        let interfaces = self.interfaces.borrow_and_update().clone();
        let desired = Desired::new(&self.intent, &interfaces);
        let returned = self.waiting_for_interface(&interfaces);
        if desired.uplinks != self.desired.uplinks || returned {
            tracing::info!(returned, "interfaces changed");
            let (intent, secrets) = (self.intent.clone(), self.secrets.clone());
            self.failures = self.carry_out(intent, secrets).await;
        }
    }

    /// Whether a guest is not attached whose interface is there now.
    fn waiting_for_interface(&self, interfaces: &Interfaces) -> bool {
        self.intent.guests.iter().any(|(guest, spec)| {
            spec.nics.iter().any(|nic| match &nic.attach {
                Attach::Veth { interface } => {
                    interfaces.contains_key(interface) && !self.desired.ports.contains_key(&names::port(guest, &nic.name))
                }
                // Making it is an attempt of its own, and would tell of a change again.
                Attach::Tap { .. } => false,
            })
        })
    }

    /// Asks which mappings packets matched lately: their use keeps them from eviction, and has them refreshed in time.
    fn ask_for_use(&self) {
        if let Some(packets) = self.packets.clone().filter(|_| self.connected) {
            let sender = self.use_sender.clone();
            tokio::spawn(async move {
                if let Answer::Mappings(held) = packets.ask(Query::Mappings).await {
                    let _ = sender.send(held).await;
                }
            });
        }
    }

    fn mappings_used(&mut self, held: &[MappingStatus]) {
        let before = std::mem::take(&mut self.packets_by);
        let mut used = Vec::new();
        for status in held {
            let prefix = status.mapping.prefix;
            // A packet path that was started anew counts from zero.
            let seen = before.get(&prefix).copied().filter(|seen| *seen <= status.packets).unwrap_or(0);
            let fresh = status.packets.saturating_sub(seen);
            if fresh > 0 {
                used.push((prefix, fresh));
            }
            self.packets_by.insert(prefix, status.packets);
        }
        if !used.is_empty() {
            self.shell.command(Command::MappingsUsed(used));
        }
    }

    fn second(&mut self) {
        self.seconds = self.seconds.wrapping_add(1);
        if self.seconds.is_multiple_of(USE_INTERVAL) {
            self.ask_for_use();
        }
        let now = Instant::now();
        let stale: Vec<EidPrefix> =
            self.unconfirmed.iter().filter(|(_, until)| **until <= now).map(|(prefix, _)| *prefix).collect();
        for prefix in stale {
            self.unconfirmed.remove(&prefix);
            self.mappings.remove(&prefix);
            self.send(vec![Change::RemoveMapping(prefix)]);
        }
        let old: Vec<Rloc> = self.path_mtus.iter().filter(|(_, until)| **until <= now).map(|(rloc, _)| *rloc).collect();
        for rloc in old {
            self.path_mtus.remove(&rloc);
            if let Some(health) = self.health.get(&rloc).copied() {
                self.set_health(PathHealth { mtu: None, ..health });
            }
        }
        if self.capture.as_ref().is_some_and(mpsc::Sender::is_closed) {
            self.end_capture();
        }
    }

    fn end_capture(&mut self) {
        self.capture = None;
        if let Some(packets) = self.packets.clone() {
            tokio::spawn(async move { packets.ask(Query::Capture(None)).await });
        }
    }

    async fn request(&mut self, request: Request) {
        match request {
            Request::Plan(sources, answer) => {
                let prepared = self.prepare(&sources).await;
                let _ = answer.send(prepared.map(|prepared| prepared.applied(self.generation, false)));
            }
            Request::Apply(sources, answer) => {
                let result = match self.prepare(&sources).await {
                    Ok(prepared) => self.apply(prepared).await,
                    Err(report) => Err(report),
                };
                let _ = answer.send(result);
            }
            Request::Delete(objects, answer) => {
                let result = match self.without(&objects).await {
                    Ok(prepared) => self.apply(prepared).await,
                    Err(report) => Err(report),
                };
                let _ = answer.send(result);
            }
            Request::Objects(answer) => {
                let _ = answer.send(self.stored.clone());
            }
            Request::Status(answer) => {
                let _ = answer.send(self.status().await);
            }
            Request::Intent(answer) => {
                let _ = answer.send(self.intent.clone());
            }
            Request::Ask(query, answer) => match self.packets.clone().filter(|_| self.connected) {
                Some(packets) => {
                    tokio::spawn(async move { answer.send(packets.ask(query).await) });
                }
                None => {
                    let _ = answer.send(Answer::Refused("no packet path runs on this node".to_owned()));
                }
            },
            Request::Lookup(eid, resolver, answer) => {
                self.next_lookup += 1;
                self.lookups.insert(self.next_lookup, answer);
                self.shell.command(Command::Lookup { id: self.next_lookup, eid, resolver });
            }
            Request::Capture(filter, packets, answer) => {
                let _ = answer.send(self.begin_capture(filter, packets));
            }
        }
    }

    fn begin_capture(&mut self, filter: CaptureFilter, sink: mpsc::Sender<CapturedPacket>) -> Result<(), String> {
        if self.capture.as_ref().is_some_and(|running| !running.is_closed()) {
            return Err("another capture runs on this node".to_owned());
        }
        let packets = self.packets.clone().filter(|_| self.connected).ok_or("no packet path runs on this node")?;
        self.capture = Some(sink);
        tokio::spawn(async move { packets.ask(Query::Capture(Some(filter))).await });
        Ok(())
    }

    /// Reads and checks a change; nothing is changed.
    async fn prepare(&self, sources: &[Source]) -> Result<Prepared, Report> {
        let documents = read::parse(sources)?;
        let all = self.stored.documents_with(&documents)?;
        self.judge(self.stored.merged(&documents), &all).await
    }

    async fn without(&self, objects: &[(KindName, String)]) -> Result<Prepared, Report> {
        let mut stored = self.stored.clone();
        for (kind, name) in objects {
            stored = stored.without(*kind, name).ok_or_else(|| {
                let known: Vec<&str> = self.stored.of_kind(*kind).map(|object| object.name.as_str()).collect();
                let help = if known.is_empty() { "there is none of this kind".to_owned() } else { format!("there is {}", known.join(", ")) };
                preflight::failure(format!("there is no {kind} `{name}`"), help)
            })?;
        }
        let all = stored.documents_with(&[])?;
        self.judge(stored, &all).await
    }

    async fn judge(&self, stored: StoredIntent, all: &[Document]) -> Result<Prepared, Report> {
        let intent = validate::intent_after(all, &self.intent).map_err(Report::from)?;
        // Read anew: the watch lags a little behind a cable that was plugged in just now.
        let interfaces = uplinks::read(&self.handle).await;
        let interfaces = interfaces.unwrap_or_else(|_| self.interfaces.borrow().clone());
        let secrets = preflight::check(all, &self.intent, &intent, &interfaces, false)?;
        let actions = plan::diff(&self.intent, &intent);
        Ok(Prepared { stored, intent, secrets, actions })
    }

    async fn apply(&mut self, prepared: Prepared) -> Result<Applied, Report> {
        let (before, before_secrets, before_generation) = (self.intent.clone(), self.secrets.clone(), self.generation);
        let unchanged = prepared.actions.is_empty() && prepared.secrets == self.secrets;
        if !prepared.actions.is_empty() {
            self.generation = Generation(self.generation.0.saturating_add(1));
        }
        // What failed earlier is tried again even if nothing is asked for that is new.
        let failures = if unchanged && self.failures.is_empty() {
            Vec::new()
        } else {
            self.carry_out(prepared.intent.clone(), prepared.secrets.clone()).await
        };
        if failures.is_empty() {
            match store::keep(&self.directories.state_dir, &prepared.stored) {
                Ok(()) => {
                    tracing::info!(generation = self.generation.0, actions = prepared.actions.len(), "applied");
                    self.failures.clear();
                    self.stored = prepared.stored.clone();
                    return Ok(prepared.applied(self.generation, true));
                }
                Err(error) => {
                    let message = format!("the intent cannot be kept: {error}");
                    self.generation = before_generation;
                    self.failures = self.carry_out(before, before_secrets).await;
                    return Err(preflight::failure(message, "check the state directory; nothing was changed"));
                }
            }
        }
        tracing::error!(reasons = failures.join("; "), "not applied; going back to the last good intent");
        self.generation = before_generation;
        let remaining = self.carry_out(before, before_secrets).await;
        let failed = failures.iter().map(|failure| format!("the last apply failed and was undone: {failure}"));
        self.failures = failed.chain(remaining).collect();
        let help = "the node is as it was before; mend this and apply again";
        Err(Report(failures.into_iter().flat_map(|failure| preflight::failure(failure, help).0).collect()))
    }
}

/// A change that has been checked.
struct Prepared {
    stored: StoredIntent,
    intent: Intent,
    secrets: Secrets,
    actions: Vec<plan::Action>,
}

impl Prepared {
    fn applied(&self, generation: Generation, done: bool) -> Applied {
        Applied { generation: generation.0, done, actions: self.actions.clone(), warnings: super::status::warnings(&self.intent) }
    }
}

fn mapping_config(mapping: &Mapping) -> MappingConfig {
    let target = if mapping.is_negative() {
        MappingTarget::Negative(mapping.action)
    } else {
        let locators = mapping.locators.iter().map(|locator| PathLocator {
            rloc: locator.rloc,
            priority: locator.priority,
            weight: locator.weight,
            reachable: locator.reachable,
        });
        MappingTarget::Locators(locators.collect())
    };
    MappingConfig { prefix: mapping.prefix, target }
}

fn empty_xtr(xtr_id: XtrId) -> xtr::Config {
    xtr::Config {
        xtr_id,
        site_id: lisp::SiteId(0),
        map_servers: Vec::new(),
        locators: Vec::new(),
        timers: xtr::Timers::default(),
        limits: xtr::Limits::default(),
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
