//! What the packet path shall look like: a pure function of the intent and of what the machine's interfaces are.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use dataplane::control::{
    Attachment, Change, GatewayConfig, LocalExitConfig, NetworkConfig, NetworkId, NetworkKind, PolicyConfig,
    PortConfig, PortId, Protection, UplinkConfig, UplinkId,
};

use super::{names, uplinks::Interfaces};
use crate::{
    intent::{self, Attach, Encryption, Intent},
    policy,
};

/// MAC of every gateway: locally administered, and the same on every node, so that a guest may move.
pub const GATEWAY_MAC: [u8; 6] = [0x02, 0x57, 0x65, 0x66, 0x74, 0x01];
/// Link-local address of every gateway.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Life of leases and of the router in RAs.
const LEASE: Duration = Duration::from_secs(1800);
/// Bytes of the vnet header that the ports are opened with.
pub const VNET_HEADER: u8 = dataplane::port::vnet::HEADER;
/// Bytes in front of an inner packet on an IPv6 underlay: IPv6, UDP and LISP headers.
const OVERHEAD: u32 = 40 + 8 + 8;
/// Kept free in guests' MTU for what a sealed packet needs more, so that sealing a network changes no guest.
const RESERVE: u32 = 28;
/// Least MTU of IPv6.
const MIN_MTU: u32 = 1280;
/// Interface of the exit to the host's network.
pub const EXIT_INTERFACE: &str = "weft-exit";

/// The state of a packet path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// Networks.
    pub networks: BTreeMap<NetworkId, NetworkConfig>,
    /// Uplinks that have an RLOC.
    pub uplinks: BTreeMap<UplinkId, UplinkConfig>,
    /// The exit to the host's network.
    pub exit: Option<LocalExitConfig>,
    /// Guest ports.
    pub ports: BTreeMap<PortId, PortConfig>,
    /// Policies; one for each network.
    pub policies: BTreeMap<NetworkId, PolicyConfig>,
}

impl Desired {
    /// From the intent, the interfaces, the machine's DNS resolvers, and what is known to be bound to which node.
    pub fn new(intent: &Intent, interfaces: &Interfaces, resolvers: &[SocketAddr], bound: policy::Bound<'_>) -> Self {
        let mut desired = Self {
            uplinks: uplinks(intent, interfaces),
            ..Self::default()
        };
        let underlay = desired.uplinks.values().map(|uplink| uplink.mtu).min().unwrap_or(1500);
        for (name, network) in &intent.networks {
            let id = names::network(name);
            desired.networks.insert(id, self::network(intent, name, network));
            desired.policies.insert(id, policy::config(intent, name, id, bound));
        }
        for (guest, spec) in &intent.guests {
            for nic in &spec.nics {
                let Some(network) = intent.networks.get(&nic.network) else {
                    continue;
                };
                let port = port(guest, nic, network, underlay, resolvers);
                desired.ports.insert(port.id, port);
            }
        }
        let local = intent
            .networks
            .values()
            .any(|network| matches!(network.kind, intent::NetworkKind::Local(_)));
        desired.exit = local.then(super::exit::config);
        desired
    }

    /// Forgets what was closed.
    pub fn forget(&mut self, closed: &[Change]) {
        for change in closed {
            match change {
                Change::RemovePort(id) => drop(self.ports.remove(id)),
                Change::RemoveUplink(id) => drop(self.uplinks.remove(id)),
                Change::RemoveLocalExit => self.exit = None,
                _ => {}
            }
        }
    }

    /// What leads from `before` to this.
    pub fn changes_from(&self, before: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let gone = |id: &PortId| !self.ports.contains_key(id);
        changes.extend(
            before
                .ports
                .keys()
                .filter(|id| gone(id))
                .map(|id| Change::RemovePort(*id)),
        );
        put(&self.networks, &before.networks, &mut changes, Change::PutNetwork);
        put(&self.uplinks, &before.uplinks, &mut changes, Change::PutUplink);
        if self.exit != before.exit {
            changes.push(self.exit.clone().map_or(Change::RemoveLocalExit, Change::PutLocalExit));
        }
        put(&self.policies, &before.policies, &mut changes, Change::PutPolicy);
        put(&self.ports, &before.ports, &mut changes, Change::PutPort);
        let gone = |id: &UplinkId| !self.uplinks.contains_key(id);
        changes.extend(
            before
                .uplinks
                .keys()
                .filter(|id| gone(id))
                .map(|id| Change::RemoveUplink(*id)),
        );
        let gone = |id: &NetworkId| !self.networks.contains_key(id);
        changes.extend(
            before
                .networks
                .keys()
                .filter(|id| gone(id))
                .map(|id| Change::RemoveNetwork(*id)),
        );
        changes
    }
}

fn put<K: Ord, V: Clone + PartialEq>(
    now: &BTreeMap<K, V>,
    before: &BTreeMap<K, V>,
    changes: &mut Vec<Change>,
    change: impl Fn(V) -> Change,
) {
    changes.extend(
        now.iter()
            .filter(|(id, value)| before.get(id) != Some(value))
            .map(|(_, value)| change(value.clone())),
    );
}

fn uplinks(intent: &Intent, interfaces: &Interfaces) -> BTreeMap<UplinkId, UplinkConfig> {
    let mut uplinks = BTreeMap::new();
    for uplink in intent.node.iter().flat_map(|node| &node.uplinks) {
        let Some(interface) = interfaces.get(&uplink.interface) else {
            continue;
        };
        if !interface.running || interface.addresses.is_empty() {
            continue;
        }
        let id = names::uplink(&uplink.interface);
        let config = UplinkConfig {
            id,
            name: uplink.interface.clone(),
            addresses: interface.addresses.clone(),
            source_ports: uplink.source_ports,
            mtu: interface.mtu,
        };
        uplinks.insert(id, config);
    }
    uplinks
}

fn network(intent: &Intent, name: &str, network: &intent::Network) -> NetworkConfig {
    let (kind, host_addresses) = match &network.kind {
        intent::NetworkKind::Mesh(mesh) => {
            let protection = match mesh.encryption {
                Encryption::None => Protection::Clear,
                Encryption::Sealed(_) => Protection::Sealed,
            };
            let kind = NetworkKind::Mesh {
                instance_id: mesh.instance_id,
                protection,
                eid_prefixes: mesh.prefixes.clone(),
            };
            (kind, mesh.node_addresses.clone())
        }
        intent::NetworkKind::Local(local) => (
            NetworkKind::Local {
                nat44: local.nat44,
                nat66: local.nat66,
            },
            Vec::new(),
        ),
    };
    let mut known: BTreeMap<String, Vec<IpAddr>> = network.names.clone();
    for (guest, spec) in &intent.guests {
        let addresses = spec
            .nics
            .iter()
            .filter(|nic| nic.network == name)
            .flat_map(|nic| nic.addresses.clone());
        let addresses: Vec<IpAddr> = addresses.collect();
        if !addresses.is_empty() {
            known.insert(guest.clone(), addresses);
        }
    }
    if let Some(node) = &intent.node
        && !host_addresses.is_empty()
    {
        known.insert(node.name.clone(), host_addresses.clone());
    }
    let names = known
        .into_iter()
        .map(|(name, addresses)| (format!("{name}.{}", network.domain).to_lowercase(), addresses))
        .collect();
    NetworkConfig {
        id: names::network(name),
        name: name.to_owned(),
        kind,
        names,
        domain: network.domain.clone(),
        host_addresses,
    }
}

/// MTU of guests in a network, given the smallest MTU of the uplinks; bytes of IP packet.
pub fn guest_mtu(network: &intent::Network, underlay: u32) -> u16 {
    if let Some(mtu) = network.mtu {
        return mtu;
    }
    let mtu = match network.kind {
        intent::NetworkKind::Mesh(_) => underlay.saturating_sub(OVERHEAD + RESERVE),
        intent::NetworkKind::Local(_) => underlay,
    };
    u16::try_from(mtu.max(MIN_MTU)).unwrap_or(u16::MAX)
}

fn port(
    guest: &str,
    nic: &intent::Nic,
    network: &intent::Network,
    underlay: u32,
    resolvers: &[SocketAddr],
) -> PortConfig {
    let attachment = match &nic.attach {
        Attach::Tap { interface, .. } => Attachment::Tap {
            interface: interface.clone(),
            vnet_header: VNET_HEADER,
        },
        Attach::Veth { interface } => Attachment::Packet {
            interface: interface.clone(),
            vnet_header: VNET_HEADER,
        },
    };
    PortConfig {
        id: names::port(guest, &nic.name),
        name: names::nic(guest, &nic.name),
        network: names::network(&nic.network),
        attachment,
        mac: nic.mac,
        addresses: nic.addresses.clone(),
        routed: nic.routed.clone(),
        gateway: GatewayConfig {
            mac: GATEWAY_MAC,
            ipv4: network.ipv4.as_ref().map(|subnet| (subnet.gateway, subnet.prefix)),
            ipv6: GATEWAY_V6,
            mtu: guest_mtu(network, underlay),
            lease: LEASE,
            dns_upstream: match network.kind {
                intent::NetworkKind::Local(_) => resolvers.to_vec(),
                // The names of the world are not to be had inside a mesh.
                intent::NetworkKind::Mesh(_) => Vec::new(),
            },
        },
        host_name: guest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{read, up::uplinks::Interface, validate};

    const NODE: &str = r#"
apiVersion: weft.dev/v1
kind: Node
metadata: {name: site-a}
spec:
  uplinks: [{interface: wan0, sourcePorts: 2}, {interface: wan1}]
---
apiVersion: weft.dev/v1
kind: Network
metadata: {name: plant}
spec:
  mesh: {instanceId: 7, encryption: none, prefixes: ["fd07::/16", "10.7.0.0/16"], nodeAddresses: ["fd07::a:1"]}
  ipv4: {prefix: 10.7.0.0/16, gateway: 10.7.0.1, slice: 10.7.1.0/24}
  names: {guest-b: ["fd07::b"]}
---
apiVersion: weft.dev/v1
kind: Guest
metadata: {name: guest-a}
spec:
  nics:
    - {name: eth0, network: plant, attach: {tap: {interface: tapa}}, addresses: ["fd07::a", "10.7.1.10"]}
"#;

    fn intent() -> Intent {
        let source = read::Source {
            name: "node.yaml".into(),
            base: "/".into(),
            text: NODE.into(),
        };
        let documents = read::parse(&[source]).expect("YAML");
        validate::intent(&documents).expect("an intent")
    }

    fn interface(mtu: u32, addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Interface {
            index: 2,
            mtu,
            running: true,
            addresses,
        }
    }

    fn interfaces() -> Interfaces {
        Interfaces::from([
            ("wan0".to_owned(), interface(1500, &["192.0.2.1", "2001:db8::1"])),
            ("wan1".to_owned(), interface(1400, &["198.51.100.1"])),
        ])
    }

    fn kinds(changes: &[Change]) -> Vec<&'static str> {
        let kind = |change: &Change| match change {
            Change::PutNetwork(_) => "network",
            Change::PutUplink(_) => "uplink",
            Change::PutPolicy(_) => "policy",
            Change::PutPort(_) => "port",
            Change::RemovePort(_) => "no port",
            Change::RemoveUplink(_) => "no uplink",
            Change::RemoveNetwork(_) => "no network",
            Change::PutLocalExit(_) => "exit",
            Change::RemoveLocalExit => "no exit",
            _ => "other",
        };
        changes.iter().map(kind).collect()
    }

    #[test]
    fn what_is_referred_to_comes_first_and_goes_last() {
        let all = Desired::new(&intent(), &interfaces(), &[], &policy::nothing_known);
        let nothing = Desired::default();
        assert_eq!(
            kinds(&all.changes_from(&nothing)),
            ["network", "uplink", "uplink", "policy", "port"]
        );
        assert_eq!(
            kinds(&nothing.changes_from(&all)),
            ["no port", "no uplink", "no uplink", "no network"]
        );
        assert_eq!(all.changes_from(&all), Vec::new());
    }

    #[test]
    fn one_change_costs_one_change() {
        let before = Desired::new(&intent(), &interfaces(), &[], &policy::nothing_known);
        let mut later = interfaces();
        later.insert("wan0".to_owned(), interface(1500, &["192.0.2.1"]));
        let after = Desired::new(&intent(), &later, &[], &policy::nothing_known);
        assert_eq!(kinds(&after.changes_from(&before)), ["uplink"]);
    }

    #[test]
    fn an_uplink_without_link_or_address_is_none() {
        let mut later = interfaces();
        later.insert(
            "wan0".to_owned(),
            Interface {
                running: false,
                ..interface(1500, &["192.0.2.1"])
            },
        );
        later.insert("wan1".to_owned(), interface(1500, &[]));
        assert!(
            Desired::new(&intent(), &later, &[], &policy::nothing_known)
                .uplinks
                .is_empty()
        );
        assert!(
            Desired::new(&intent(), &Interfaces::new(), &[], &policy::nothing_known)
                .uplinks
                .is_empty()
        );
    }

    #[test]
    fn guests_fit_the_smallest_uplink_in_any_dress() {
        let desired = Desired::new(&intent(), &interfaces(), &[], &policy::nothing_known);
        let port = desired.ports.values().next().expect("a port");
        assert_eq!(u32::from(port.gateway.mtu), 1400 - OVERHEAD - RESERVE);
        let mut network = intent().networks.remove("plant").expect("a mesh");
        assert_eq!(guest_mtu(&network, 1300), 1280, "never below what IPv6 needs");
        assert_eq!(guest_mtu(&network, 1_000_000), u16::MAX);
        network.mtu = Some(1333);
        assert_eq!(guest_mtu(&network, 1500), 1333, "the operator knows better");
    }

    #[test]
    fn guests_the_node_and_others_have_names() {
        let desired = Desired::new(&intent(), &interfaces(), &[], &policy::nothing_known);
        let network = desired.networks.values().next().expect("a network");
        let names: Vec<&str> = network.names.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["guest-a.plant.weft", "guest-b.plant.weft", "site-a.plant.weft"]);
    }

    #[test]
    fn the_gateway_is_the_same_on_every_node() {
        let desired = Desired::new(&intent(), &interfaces(), &[], &policy::nothing_known);
        let port = desired.ports.values().next().expect("a port");
        assert_eq!(port.gateway.mac, GATEWAY_MAC);
        assert_eq!(port.gateway.ipv6, GATEWAY_V6);
        assert_eq!(
            port.gateway.ipv4.map(|(address, _)| address.to_string()).as_deref(),
            Some("10.7.0.1")
        );
        assert_eq!(port.name, "guest-a/eth0");
    }

    #[test]
    fn what_was_closed_is_opened_again() {
        let all = Desired::new(&intent(), &interfaces(), &[], &policy::nothing_known);
        let mut before = all.clone();
        let port = *before.ports.keys().next().expect("a port");
        before.forget(&[Change::RemovePort(port)]);
        assert_eq!(kinds(&all.changes_from(&before)), ["port"]);
    }
}
