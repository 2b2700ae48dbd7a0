//! The one writer: turns [`Change`]s into what workers read. Idempotent; objects that a change does not touch stay
//! the same objects, so that nothing that was made from them notices.

mod sweep;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use lisp::{EidPrefix, Rloc};

use self::sweep::Named;
use crate::{
    control::{
        BindingConfig, Change, Generation, LocalExitConfig, MappingConfig, MeshNode, NetworkConfig, NetworkId,
        NetworkKind, PathHealth, PolicyConfig, PortConfig, PortId, SaStatus, SaUse, UplinkConfig, UplinkId,
    },
    tables::{
        LocalExit, Mapping, Network, Policy, Port, Retired, Snapshot, Tables, Uplink, Uplinks, mapping::Usage,
        mesh_writer::MeshWriter,
    },
};

/// What a change took away, for those who keep state of their own about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Guest ports.
    pub ports: Vec<PortId>,
    /// Networks.
    pub networks: Vec<NetworkId>,
}

/// What a change did beyond its own table.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What it took away.
    pub gone: Gone,
    /// A node that may be sealed for now.
    pub ready: Option<MeshNode>,
}

/// The writer's own copy of what control said.
#[derive(Debug)]
pub struct Writer {
    tables: Arc<Tables>,
    networks: BTreeMap<NetworkId, NetworkConfig>,
    policies: BTreeMap<NetworkId, (PolicyConfig, Arc<Policy>)>,
    ports: BTreeMap<PortId, Arc<Port>>,
    uplinks: BTreeMap<UplinkId, UplinkConfig>,
    health: HashMap<Rloc, PathHealth>,
    /// Which mappings use a locator.
    users: HashMap<Rloc, BTreeSet<EidPrefix>>,
    mesh: MeshWriter,
    resync: Option<Named>,
    generation: Generation,
    policy_versions: u64,
}

impl Writer {
    /// The writer of `tables`. There may be one only.
    pub fn new(tables: Arc<Tables>) -> Self {
        Self {
            tables,
            networks: BTreeMap::new(),
            policies: BTreeMap::new(),
            ports: BTreeMap::new(),
            uplinks: BTreeMap::new(),
            health: HashMap::new(),
            users: HashMap::new(),
            mesh: MeshWriter::default(),
            resync: None,
            generation: Generation::default(),
            policy_versions: 0,
        }
    }

    /// Generation last committed.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Ports in order of their numbers.
    pub fn ports(&self) -> impl Iterator<Item = &PortConfig> {
        self.ports.values().map(|port| &port.config)
    }

    /// Uplinks in order of their numbers.
    pub fn uplinks(&self) -> impl Iterator<Item = &UplinkConfig> {
        self.uplinks.values()
    }

    /// Makes `change` true at `now`. The error is for the operator, and nothing has changed then.
    pub fn apply(&mut self, now: Instant, change: &Change) -> Result<Applied, String> {
        let mut gone = Gone::default();
        let mut ready = None;
        match change {
            Change::Resync => self.resync = Some(Named::default()),
            Change::PutNetwork(config) => self.put_network(config)?,
            Change::RemoveNetwork(id) => self.remove_network(*id, &mut gone),
            Change::PutPort(config) => self.put_port(config)?,
            Change::RemovePort(id) => self.remove_port(*id, &mut gone),
            Change::PutUplink(config) => self.put_uplink(config),
            Change::RemoveUplink(id) => {
                if self.uplinks.remove(id).is_some() {
                    self.publish_uplinks();
                }
            }
            Change::PutLocalExit(config) => self.put_exit(Some(config)),
            Change::RemoveLocalExit => self.put_exit(None),
            Change::PutPolicy(config) => self.put_policy(config)?,
            Change::PutMapping(config) => self.put_mapping(config, now),
            Change::RemoveMapping(prefix) => self.remove_mapping(prefix),
            Change::PutPathHealth(health) => self.put_health(*health),
            Change::PutSa(config) => ready = self.mesh.put_sa(&self.tables, config, now)?,
            Change::RemoveSa(index) => self.mesh.remove_sa(&self.tables, *index, now),
            Change::PutBinding(config) => {
                if let Some(named) = &mut self.resync {
                    named.bindings.insert(config.prefix);
                }
                MeshWriter::put_binding(&self.tables, config);
            }
            Change::RemoveBinding(prefix) => {
                self.tables.bindings.remove(prefix);
            }
            Change::Commit(generation) => {
                if let Some(named) = self.resync.take() {
                    self.sweep(&named, &mut gone);
                }
                self.generation = *generation;
            }
        }
        Ok(Applied { gone, ready })
    }

    /// What time does.
    pub fn tick(&mut self, now: Instant) {
        self.mesh.expire(&self.tables, now);
    }

    /// All pairs of mesh SAs, in order of node and age.
    pub fn sa_status(&self, now: Instant) -> Vec<SaStatus> {
        self.mesh.status(&self.tables, now)
    }

    /// The bindings, in order of their prefixes.
    pub fn bindings(&self) -> Vec<BindingConfig> {
        let all = self.tables.bindings.all();
        all.iter().map(|binding| binding.config.clone()).collect()
    }

    /// Use of the mesh SAs that were used since the last call.
    pub fn sa_use(&mut self) -> Vec<SaUse> {
        self.mesh.used()
    }

    /// Mappings that name this node.
    pub fn mappings_of(&self, node: MeshNode) -> impl Iterator<Item = Arc<Mapping>> {
        self.mesh
            .prefixes(node)
            .filter_map(|prefix| self.tables.mappings.get(prefix))
    }

    fn put_network(&mut self, config: &NetworkConfig) -> Result<(), String> {
        if let NetworkKind::Mesh { instance_id, .. } = config.kind
            && let Some(other) = self.networks.values().find(|other| {
                other.id != config.id
                    && matches!(other.kind, NetworkKind::Mesh { instance_id: theirs, .. } if theirs == instance_id)
            })
        {
            return Err(format!(
                "network `{}` already has Instance-ID {instance_id}",
                other.name
            ));
        }
        if let Some(named) = &mut self.resync {
            named.networks.insert(config.id);
        }
        if self.networks.get(&config.id) != Some(config) {
            self.networks.insert(config.id, config.clone());
            self.publish_network(config.id);
        }
        Ok(())
    }

    fn remove_network(&mut self, id: NetworkId, gone: &mut Gone) {
        let ports: Vec<PortId> = self
            .ports
            .values()
            .filter(|p| p.config.network == id)
            .map(|p| p.config.id)
            .collect();
        for port in ports {
            self.remove_port(port, gone);
        }
        self.policies.remove(&id);
        let Some(config) = self.networks.remove(&id) else {
            return;
        };
        if let NetworkKind::Mesh { instance_id, .. } = config.kind {
            for mapping in self.tables.mappings.all() {
                if mapping.config.prefix.instance_id() == instance_id {
                    self.remove_mapping(&mapping.config.prefix);
                }
            }
            for binding in self.tables.bindings.all() {
                if binding.config.prefix.instance_id() == instance_id {
                    self.tables.bindings.remove(&binding.config.prefix);
                }
            }
        }
        self.publish_network(id);
        gone.networks.push(id);
    }

    fn put_port(&mut self, config: &PortConfig) -> Result<(), String> {
        let network = self.networks.get(&config.network);
        let network = network.ok_or_else(|| format!("guest port `{}`: its network is not there", config.name))?;
        if let Some(address) = config
            .addresses
            .iter()
            .find(|address| network.host_addresses.contains(address))
        {
            return Err(format!("guest port `{}`: {address} is the node's own", config.name));
        }
        let clash = self.ports.values().map(|port| &port.config).find_map(|other| {
            let same = other.id != config.id && other.network == config.network;
            let address = config
                .addresses
                .iter()
                .find(|address| same && other.addresses.contains(address))?;
            Some(format!(
                "guest port `{}`: {address} belongs to `{}` already",
                config.name, other.name
            ))
        });
        if let Some(clash) = clash
            && self.resync.is_none()
        {
            return Err(clash);
        }
        if let Some(named) = &mut self.resync {
            named.ports.insert(config.id);
        }
        if self.ports.get(&config.id).is_some_and(|port| port.config == *config) {
            return Ok(());
        }
        let port = Arc::new(Port {
            config: config.clone(),
            retired: Retired::default(),
        });
        let old = self.ports.insert(config.id, port);
        self.publish_port(config.id);
        if let Some(old) = old {
            old.retired.raise();
            if old.config.network != config.network {
                self.publish_network(old.config.network);
            }
        }
        self.publish_network(config.network);
        Ok(())
    }

    fn remove_port(&mut self, id: PortId, gone: &mut Gone) {
        let Some(old) = self.ports.remove(&id) else { return };
        self.publish_port(id);
        self.publish_network(old.config.network);
        old.retired.raise();
        gone.ports.push(id);
    }

    fn put_uplink(&mut self, config: &UplinkConfig) {
        if let Some(named) = &mut self.resync {
            named.uplinks.insert(config.id);
        }
        if self.uplinks.get(&config.id) != Some(config) {
            self.uplinks.insert(config.id, config.clone());
            self.publish_uplinks();
        }
    }

    fn put_exit(&mut self, config: Option<&LocalExitConfig>) {
        if let Some(named) = &mut self.resync {
            named.exit = config.is_some();
        }
        let snapshot = self.tables.small.load_full();
        if snapshot.exit.as_ref().map(|exit| &exit.config) == config {
            return;
        }
        let exit = config.map(|config| {
            Arc::new(LocalExit {
                config: config.clone(),
                retired: Retired::default(),
            })
        });
        self.tables.small.store(Arc::new(Snapshot {
            exit,
            ..Snapshot::clone(&snapshot)
        }));
        if let Some(old) = &snapshot.exit {
            old.retired.raise();
        }
    }

    fn put_policy(&mut self, config: &PolicyConfig) -> Result<(), String> {
        if !self.networks.contains_key(&config.network) {
            return Err(format!("policy for network {}, which is not there", config.network.0));
        }
        if let Some(named) = &mut self.resync {
            named.policies.insert(config.network);
        }
        if self
            .policies
            .get(&config.network)
            .is_some_and(|(current, _)| current == config)
        {
            return Ok(());
        }
        self.policy_versions += 1;
        let policy = Arc::new(Policy::new(config, self.policy_versions));
        self.policies.insert(config.network, (config.clone(), policy));
        self.publish_network(config.network);
        Ok(())
    }

    fn put_mapping(&mut self, config: &MappingConfig, now: Instant) {
        let prefix = config.prefix;
        if let Some(named) = &mut self.resync {
            named.mappings.insert(prefix);
        }
        let old = self.tables.mappings.get(&prefix);
        if old.as_ref().is_some_and(|old| old.config == *config) {
            return;
        }
        match &old {
            Some(old) => self.forget_users(old),
            // A part of the covering entry's flows belongs to the new one: they look again, once.
            None => {
                if let Some(above) = self.tables.mappings.covering(&prefix) {
                    self.insert_mapping(above.config.clone(), Arc::clone(&above.usage));
                }
            }
        }
        let before = old.as_ref().and_then(|old| old.config.node);
        self.insert_mapping(
            config.clone(),
            old.map(|old| Arc::clone(&old.usage)).unwrap_or_default(),
        );
        self.mesh.mapped(&self.tables, prefix, config.node, now);
        if before != config.node {
            self.mesh.unmapped(&self.tables, &prefix, before);
        }
    }

    fn insert_mapping(&mut self, config: MappingConfig, usage: Arc<Usage>) {
        let mapping = Mapping::new(config, usage, |locator| self.health.get(&locator.rloc).copied());
        for path in &mapping.paths {
            self.users
                .entry(path.locator.rloc)
                .or_default()
                .insert(mapping.config.prefix);
        }
        self.tables.mappings.insert(mapping);
    }

    fn remove_mapping(&mut self, prefix: &EidPrefix) {
        if let Some(old) = self.tables.mappings.remove(prefix) {
            self.forget_users(&old);
            self.mesh.unmapped(&self.tables, prefix, old.config.node);
        }
    }

    fn forget_users(&mut self, mapping: &Mapping) {
        for path in &mapping.paths {
            if let Some(users) = self.users.get_mut(&path.locator.rloc) {
                users.remove(&mapping.config.prefix);
                if users.is_empty() {
                    self.users.remove(&path.locator.rloc);
                }
            }
        }
    }

    fn put_health(&mut self, health: PathHealth) {
        if let Some(named) = &mut self.resync {
            named.health.insert(health.rloc);
        }
        if self.health.get(&health.rloc) == Some(&health) {
            return;
        }
        self.health.insert(health.rloc, health);
        self.tables.nodes.put_mtu(health.rloc, health.mtu);
        self.renew_users(health.rloc);
    }

    /// Entries that use `rloc` are replaced by equal ones that know its health.
    fn renew_users(&mut self, rloc: Rloc) {
        for prefix in self.users.get(&rloc).cloned().unwrap_or_default() {
            if let Some(old) = self.tables.mappings.get(&prefix) {
                self.insert_mapping(old.config.clone(), Arc::clone(&old.usage));
            }
        }
    }

    fn publish_network(&mut self, id: NetworkId) {
        let mut next = Snapshot::clone(&self.tables.small.load());
        let old = next.networks.remove(&id);
        if let Some(instance_id) = old.as_ref().and_then(|old| old.instance_id()) {
            next.instances.remove(&instance_id);
        }
        if let Some(config) = self.networks.get(&id) {
            let policy = self
                .policies
                .get(&id)
                .map(|(_, policy)| Arc::clone(policy))
                .unwrap_or_default();
            let ports = self
                .ports
                .values()
                .filter(|port| port.config.network == id)
                .map(Arc::clone)
                .collect();
            let network = Arc::new(Network::new(config.clone(), policy, ports));
            if let Some(instance_id) = network.instance_id() {
                next.instances.insert(instance_id, Arc::clone(&network));
            }
            next.networks.insert(id, network);
        }
        self.tables.small.store(Arc::new(next));
        if let Some(old) = old {
            old.retired.raise();
        }
    }

    fn publish_port(&mut self, id: PortId) {
        let mut next = Snapshot::clone(&self.tables.small.load());
        match self.ports.get(&id) {
            Some(port) => next.ports.insert(id, Arc::clone(port)),
            None => next.ports.remove(&id),
        };
        self.tables.small.store(Arc::new(next));
    }

    fn publish_uplinks(&mut self) {
        let list = self
            .uplinks
            .values()
            .map(|config| Uplink { config: config.clone() })
            .collect();
        let snapshot = self.tables.small.load_full();
        let uplinks = Arc::new(Uplinks {
            list,
            retired: Retired::default(),
        });
        self.tables.small.store(Arc::new(Snapshot {
            uplinks,
            ..Snapshot::clone(&snapshot)
        }));
        snapshot.uplinks.retired.raise();
    }

    /// Entries of the mapping table with their use, sorted by prefix.
    pub fn mapping_status(&self) -> Vec<crate::control::MappingStatus> {
        let status = |mapping: Arc<Mapping>| crate::control::MappingStatus {
            packets: mapping.usage.packets.load(Ordering::Relaxed),
            bytes: mapping.usage.bytes.load(Ordering::Relaxed),
            mapping: mapping.config.clone(),
        };
        self.tables.mappings.all().into_iter().map(status).collect()
    }
}
