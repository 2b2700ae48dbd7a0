//! A network on this node: its policy and who of it is here.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use lisp::{Eid, InstanceId};

use crate::{
    control::{NetworkConfig, NetworkKind, Protection},
    tables::{Policy, Port, Retired},
};

/// Who of a network is on this node.
#[derive(Clone, Debug)]
pub enum Local {
    /// A guest port.
    Port(Arc<Port>),
    /// The node's own host.
    Host,
}

/// A network on this node. Replaced whole when its configuration, its policy or one of its ports changes.
#[derive(Debug)]
pub struct Network {
    /// What control said.
    pub config: NetworkConfig,
    /// Who may talk to whom.
    pub policy: Arc<Policy>,
    /// Its guest ports, in order of their numbers.
    pub ports: Vec<Arc<Port>>,
    /// Host addresses and guests' own addresses.
    addresses: HashMap<IpAddr, Local>,
    /// Prefixes behind guests, longest first.
    routed: Vec<(IpNet, Arc<Port>)>,
    /// Raised when it is replaced or removed.
    pub retired: Retired,
}

impl Network {
    /// A network of these parts.
    pub fn new(config: NetworkConfig, policy: Arc<Policy>, ports: Vec<Arc<Port>>) -> Self {
        let mut addresses: HashMap<IpAddr, Local> = config
            .host_addresses
            .iter()
            .map(|address| (*address, Local::Host))
            .collect();
        let mut routed = Vec::new();
        for port in &ports {
            addresses.extend(
                port.config
                    .addresses
                    .iter()
                    .map(|address| (*address, Local::Port(Arc::clone(port)))),
            );
            routed.extend(port.config.routed.iter().map(|net| (net.trunc(), Arc::clone(port))));
        }
        routed.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        Self {
            config,
            policy,
            ports,
            addresses,
            routed,
            retired: Retired::default(),
        }
    }

    /// Who on this node has `address`.
    pub fn local(&self, address: IpAddr) -> Option<Local> {
        if let Some(local) = self.addresses.get(&address) {
            return Some(local.clone());
        }
        self.routed
            .iter()
            .find(|(net, _)| net.contains(&address))
            .map(|(_, port)| Local::Port(Arc::clone(port)))
    }

    /// Whether `address` is on this node.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.addresses.contains_key(&address) || self.routed.iter().any(|(net, _)| net.contains(&address))
    }

    /// The tenant, for a mesh.
    pub fn instance_id(&self) -> Option<InstanceId> {
        match self.config.kind {
            NetworkKind::Mesh { instance_id, .. } => Some(instance_id),
            NetworkKind::Local { .. } => None,
        }
    }

    /// `address` as an EID; in a network that is no mesh, of the default instance (for messages only).
    pub fn eid(&self, address: IpAddr) -> Eid {
        Eid::new(self.instance_id().unwrap_or_default(), address)
    }

    /// Whether packets of this network may not travel in clear.
    pub fn is_sealed(&self) -> bool {
        matches!(
            self.config.kind,
            NetworkKind::Mesh {
                protection: Protection::Sealed,
                ..
            }
        )
    }
}
