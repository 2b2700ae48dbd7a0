//! Making the machine what the intent says: descriptors, packet path, xTR, Map-Servers. What cannot be done is undone
//! by doing the last good intent again.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
};

use dataplane::{
    control::{Change, Generation, Held, PortId, UplinkId},
    port::uplink_sockets::open_uplink,
};
use lisp::{EidPrefix, Locator, Rloc, SiteId};
use rtnetlink::Handle;
use xtr::{Command, Config, DatabaseMapping, Limits, MapServerPeer, Secret, Timers};

use super::{
    desired::{Desired, guest_mtu},
    exit, interfaces, names,
    node::Node,
    packets::Carried,
    secrets::Secrets,
};
use crate::intent::{Intent, NetworkKind};

/// Descriptors of what the packet path works with. Control keeps them all, so that another packet path can have them.
#[derive(Debug, Default)]
pub struct Descriptors {
    ports: BTreeMap<PortId, OwnedFd>,
    uplinks: BTreeMap<UplinkId, Vec<OwnedFd>>,
    exit: Option<OwnedFd>,
}

impl Descriptors {
    /// Takes back what a running packet path holds.
    pub fn adopt(&mut self, held: Vec<(Held, Vec<OwnedFd>)>) {
        for (what, mut descriptors) in held {
            match what {
                Held::Port(id) => {
                    if let Some(fd) = descriptors.pop() {
                        self.ports.entry(id).or_insert(fd);
                    }
                }
                Held::Uplink(id) => {
                    self.uplinks.entry(id).or_insert(descriptors);
                }
                Held::LocalExit => self.exit = self.exit.take().or_else(|| descriptors.pop()),
            }
        }
    }

    fn of(&self, change: &Change) -> Vec<OwnedFd> {
        let borrowed: Vec<&OwnedFd> = match change {
            Change::PutPort(port) => self.ports.get(&port.id).into_iter().collect(),
            Change::PutUplink(uplink) => self.uplinks.get(&uplink.id).into_iter().flatten().collect(),
            Change::PutLocalExit(_) => self.exit.iter().collect(),
            _ => Vec::new(),
        };
        borrowed.into_iter().filter_map(|fd| fd.try_clone().ok()).collect()
    }

    /// Changes with the descriptors that they carry.
    pub fn carry(&self, changes: Vec<Change>) -> Vec<Carried> {
        changes
            .into_iter()
            .map(|change| {
                let descriptors = self.of(&change);
                (change, descriptors)
            })
            .collect()
    }

    /// Opens what `desired` needs and is not open as it should be. What cannot be opened is left out of `desired` and
    /// told about.
    async fn open(&mut self, handle: &Handle, intent: &Intent, before: &Desired, desired: &mut Desired) -> Vec<String> {
        let mut failures = Vec::new();
        self.open_uplinks(before, desired, &mut failures);
        let underlay = desired.uplinks.values().map(|uplink| uplink.mtu).min().unwrap_or(1500);
        for (guest, spec) in &intent.guests {
            for nic in &spec.nics {
                let id = names::port(guest, &nic.name);
                let Some(port) = desired.ports.get(&id) else { continue };
                let same = before.ports.get(&id).is_none_or(|old| old.attachment == port.attachment);
                if self.ports.contains_key(&id) && same {
                    continue;
                }
                self.ports.remove(&id);
                let Some(network) = intent.networks.get(&nic.network) else { continue };
                match interfaces::open(handle, &nic.attach, guest_mtu(network, underlay)).await {
                    Ok(fd) => {
                        self.ports.insert(id, fd);
                    }
                    Err(reason) => {
                        failures.push(format!("Guest/{guest}, NIC `{}`: {reason}", nic.name));
                        desired.ports.remove(&id);
                    }
                }
            }
        }
        if desired.exit.is_some() && self.exit.is_none() {
            match exit::open(handle).await {
                Ok(fd) => self.exit = Some(fd),
                Err(reason) => {
                    failures.push(format!("local networks: {reason}"));
                    desired.exit = None;
                }
            }
        }
        failures
    }

    fn open_uplinks(&mut self, before: &Desired, desired: &mut Desired, failures: &mut Vec<String>) {
        let mut failed = Vec::new();
        for (id, uplink) in &desired.uplinks {
            let same = before
                .uplinks
                .get(id)
                .is_some_and(|old| old.addresses == uplink.addresses && old.source_ports == uplink.source_ports);
            if same && self.uplinks.contains_key(id) {
                continue;
            }
            // The old sockets hold the port.
            self.uplinks.remove(id);
            match open_uplink(&uplink.addresses, uplink.source_ports, Some(&uplink.name)) {
                Ok(sockets) => {
                    self.uplinks.insert(*id, sockets);
                }
                Err(error) => {
                    failures.push(format!("uplink `{}`: cannot listen on UDP port 4341: {error}", uplink.name));
                    failed.push(*id);
                }
            }
        }
        for id in failed {
            desired.uplinks.remove(&id);
        }
    }

    /// Closes what `desired` does not need.
    fn close(&mut self, desired: &Desired) {
        self.ports.retain(|id, _| desired.ports.contains_key(id));
        self.uplinks.retain(|id, _| desired.uplinks.contains_key(id));
        if desired.exit.is_none() && self.exit.take().is_some() {
            exit::close();
        }
    }
}

impl Node {
    /// Makes the machine what `intent` says, as far as it can be; what cannot is told about.
    pub(super) async fn carry_out(&mut self, intent: Intent, secrets: Secrets) -> Vec<String> {
        let mut failures = Vec::new();
        if let Err(reason) = self.map_servers.set(&intent.map_servers, &secrets, &self.directories.state_dir).await {
            failures.push(reason);
        }
        let interfaces = self.interfaces.borrow().clone();
        let mut desired = Desired::new(&intent, &interfaces);
        if self.packets.is_none() && !needs_packets(&intent) {
            (self.intent, self.secrets) = (intent, secrets);
            return failures;
        }
        self.ensure_packets();
        let opened = self.descriptors.open(&self.handle, &intent, &self.desired, &mut desired).await;
        failures.extend(opened);
        let mut changes = desired.changes_from(&self.desired);
        // Sockets were opened anew for an uplink whose description is the same: the packet path has to get them.
        self.generation = Generation(self.generation.0 + 1);
        changes.push(Change::Commit(self.generation));
        let carried = self.descriptors.carry(changes);
        if let Some(packets) = self.packets.clone()
            && self.connected
            && let Err(refusals) = packets.apply(carried).await
        {
            failures.extend(refusals);
        }
        self.descriptors.close(&desired);
        (self.desired, self.intent, self.secrets) = (desired, intent, secrets);
        failures.extend(self.tell_xtr());
        failures
    }

    /// Tells the xTR who we are, what we serve and where we are.
    fn tell_xtr(&mut self) -> Vec<String> {
        let Some(node) = &self.intent.node else { return Vec::new() };
        let addresses: Vec<_> = self.desired.uplinks.values().flat_map(|uplink| uplink.addresses.clone()).collect();
        let mut locators = Vec::new();
        for uplink in &node.uplinks {
            let Some(config) = self.desired.uplinks.get(&names::uplink(&uplink.interface)) else { continue };
            for address in &config.addresses {
                let mut locator = Locator::new(Rloc::new(*address), uplink.priority, uplink.weight);
                locator.local = true;
                locators.push(locator);
            }
        }
        let map_servers = node.map_servers.iter().map(|peer| MapServerPeer {
            address: peer.address,
            key_id: peer.key_id,
            secret: Secret::new(self.secrets.get(&peer.secret).cloned().unwrap_or_default()),
            algorithm: peer.algorithm,
            proxy_reply: peer.proxy_reply,
            want_map_notify: true,
        });
        let config = Config {
            xtr_id: self.xtr_id,
            site_id: SiteId(node.site_id),
            map_servers: map_servers.collect(),
            locators,
            timers: Timers::default(),
            limits: Limits::default(),
        };
        let failed = self.shell.listen(&addresses);
        self.shell.command(Command::Configure(config));
        self.shell.command(Command::SetDatabase(database(&self.intent, &self.desired)));
        failed.into_iter().map(|(address, reason)| format!("RLOC {address}: {reason}")).collect()
    }

    /// Sends everything to a packet path that has just connected.
    pub(super) async fn send_everything(&mut self) {
        let Some(packets) = self.packets.clone() else { return };
        let mut changes = vec![Change::Resync];
        changes.extend(self.desired.changes_from(&Desired::default()));
        changes.extend(self.mappings.values().cloned().map(Change::PutMapping));
        changes.extend(self.health.values().copied().map(Change::PutPathHealth));
        changes.push(Change::Commit(self.generation));
        if let Err(refusals) = packets.apply(self.descriptors.carry(changes)).await {
            tracing::error!(reasons = refusals.join("; "), "the packet path did not take the state");
            self.failures.extend(refusals);
        }
    }
}

/// Whether anything of the intent needs a packet path.
pub fn needs_packets(intent: &Intent) -> bool {
    intent.node.is_some()
}

/// What this node registers: its own and its guests' addresses in meshes. A NIC that could not be attached is not here.
fn database(intent: &Intent, desired: &Desired) -> Vec<DatabaseMapping> {
    let mut prefixes: BTreeSet<EidPrefix> = BTreeSet::new();
    for network in intent.networks.values() {
        if let NetworkKind::Mesh(mesh) = &network.kind {
            prefixes.extend(mesh.node_addresses.iter().map(|address| EidPrefix::new(mesh.instance_id, (*address).into())));
        }
    }
    for (guest, spec) in &intent.guests {
        for nic in &spec.nics {
            let Some(NetworkKind::Mesh(mesh)) = intent.networks.get(&nic.network).map(|network| &network.kind) else {
                continue;
            };
            if !desired.ports.contains_key(&names::port(guest, &nic.name)) {
                continue;
            }
            let hosts = nic.addresses.iter().map(|address| (*address).into());
            prefixes.extend(hosts.chain(nic.routed.iter().copied()).map(|net| EidPrefix::new(mesh.instance_id, net)));
        }
    }
    prefixes.into_iter().map(DatabaseMapping::new).collect()
}
