//! Making the machine what the intent says: descriptors, packet path, xTR, Map-Servers. What cannot be done is undone
//! by doing the last good intent again.

use std::{collections::BTreeSet, time::Duration};

use dataplane::control::Change;
use lisp::{EidPrefix, Locator, Rloc, SiteId};
use xtr::{Command, Config, DatabaseMapping, Limits, MapServerPeer, Secret, Timers};

use super::{desired::Desired, names, node::Node, resolvers, secrets::Secrets, uplinks};
use crate::{
    intent::{Intent, NetworkKind},
    keyring::Keyring,
};

/// Between probes of a locator that is not sent to just now: `status` shall tell the truth of it within three seconds.
const PROBE_IDLE: Duration = Duration::from_secs(2);
/// Longest wait for a Map-Reply: a Map-Server that returns is asked, and has answered, within two seconds.
const REQUEST_TIMEOUT_MAX: Duration = Duration::from_millis(1500);

impl Node {
    /// Makes the machine what `intent` says, as far as it can be; what cannot is told about.
    pub(super) async fn carry_out(&mut self, intent: Intent, secrets: Secrets) -> Vec<String> {
        let mut failures = Vec::new();
        if let Err(reason) = self
            .map_servers
            .set(&intent.map_servers, &secrets, &self.directories.state_dir)
            .await
        {
            failures.push(reason);
        }
        // Read anew: the watch lags a little behind.
        let interfaces = uplinks::read(&self.handle).await;
        let interfaces = interfaces.unwrap_or_else(|_| self.interfaces.borrow().clone());
        self.resolvers = resolvers::read();
        failures.extend(self.load_keys(&intent, &secrets));
        let complete = self.complete.clone();
        let mut desired = Desired::new(&complete, &interfaces, &self.resolvers, &self.bound());
        if self.packets.is_none() && !needs_packets(&intent) {
            (self.intent, self.secrets) = (intent, secrets);
            return failures;
        }
        self.ensure_packets();
        let stale = self.descriptors.stale(&intent, &desired, &interfaces);
        if !stale.is_empty() {
            failures.extend(self.apply_to_packets(stale.clone()).await);
            self.desired.forget(&stale);
            self.descriptors.close(&stale);
        }
        failures.extend(
            self.descriptors
                .open(&self.handle, &intent, &interfaces, &self.resolvers, &mut desired)
                .await,
        );
        let mut changes = desired.changes_from(&self.desired);
        changes.push(Change::Commit(self.generation));
        failures.extend(self.apply_to_packets(changes).await);
        (self.desired, self.intent, self.secrets) = (desired, intent, secrets);
        failures.extend(self.tell_xtr());
        failures
    }

    /// Sends changes to the packet path and waits for them to be in force. Without a packet path nothing is sent: the
    /// next one gets everything.
    async fn apply_to_packets(&self, changes: Vec<Change>) -> Vec<String> {
        match self.packets.clone().filter(|_| self.connected) {
            Some(packets) => packets
                .apply(self.descriptors.carry(changes))
                .await
                .err()
                .unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// Tells the xTR who we are, what we serve and where we are.
    pub(super) fn tell_xtr(&mut self) -> Vec<String> {
        let Some(node) = &self.intent.node else {
            return Vec::new();
        };
        let addresses: Vec<_> = self
            .desired
            .uplinks
            .values()
            .flat_map(|uplink| uplink.addresses.clone())
            .collect();
        let mut locators = Vec::new();
        for uplink in &node.uplinks {
            let Some(config) = self.desired.uplinks.get(&names::uplink(&uplink.interface)) else {
                continue;
            };
            for address in &config.addresses {
                let mut locator = Locator::new(Rloc::new(*address), uplink.priority, uplink.weight);
                locator.local = true;
                locators.push(locator);
            }
        }
        // Without its secret a Map-Server is not talked to: an empty one would be known to everybody.
        let map_servers = node.map_servers.iter().filter_map(|peer| {
            Some(MapServerPeer {
                address: peer.address,
                key_id: peer.key_id,
                secret: Secret::new(self.secrets.get(&peer.secret)?.expose()),
                algorithm: peer.algorithm,
                proxy_reply: peer.proxy_reply,
                want_map_notify: true,
            })
        });
        let config = Config {
            xtr_id: self.xtr_id,
            site_id: SiteId(node.site_id),
            map_servers: map_servers.collect(),
            locators,
            timers: Timers {
                probe_idle_interval: PROBE_IDLE,
                request_timeout_max: REQUEST_TIMEOUT_MAX,
                ..Timers::default()
            },
            limits: Limits::default(),
            mesh: self.sealed_mesh(),
        };
        let failed = self.shell.listen(&addresses);
        self.shell.command(Command::Configure(config));
        self.shell.command(Command::SetDatabase(database(
            &self.complete,
            &self.desired,
            &self.keyring,
        )));
        failed
            .into_iter()
            .map(|(address, reason)| format!("RLOC {address}: {reason}"))
            .collect()
    }

    /// Sends everything to a packet path that has just connected.
    pub(super) async fn send_everything(&mut self) {
        let Some(packets) = self.packets.clone() else { return };
        let mut changes = vec![Change::Resync];
        changes.extend(self.desired.changes_from(&Desired::default()));
        changes.extend(self.mappings.values().cloned().map(Change::PutMapping));
        changes.extend(self.sealed.bindings.values().cloned().map(Change::PutBinding));
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
fn database(intent: &Intent, desired: &Desired, keyring: &Keyring) -> Vec<DatabaseMapping> {
    let mut prefixes: BTreeSet<EidPrefix> = BTreeSet::new();
    for network in intent.networks.values() {
        if let NetworkKind::Mesh(mesh) = &network.kind {
            prefixes.extend(
                mesh.node_addresses
                    .iter()
                    .map(|address| EidPrefix::new(mesh.instance_id, (*address).into())),
            );
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
            prefixes.extend(
                hosts
                    .chain(nic.routed.iter().copied())
                    .map(|net| EidPrefix::new(mesh.instance_id, net)),
            );
        }
    }
    let bound = |prefix| DatabaseMapping {
        binding: keyring.binding(&prefix).copied(),
        ..DatabaseMapping::new(prefix)
    };
    prefixes.into_iter().map(bound).collect()
}
