//! What users call things, looked up in the intent: networks, guests, nodes, addresses.

use std::net::IpAddr;

use lisp::{Eid, EidPrefix, InstanceId};

use crate::intent::{Guest, Intent, Network, NetworkKind, Nic};

/// What is wrong with a name, and what to do about it.
pub type Unknown = (String, String);

/// A network and an address in it, by what the user typed: an address, `[7]fd07::1`, a guest's, a node's or another
/// name of a network, with or without its domain.
///
/// # Errors
/// Nothing, or more than one thing, is called that.
pub fn destination(intent: &Intent, text: &str, network: Option<&str>) -> Result<(String, IpAddr), Unknown> {
    let networks: Vec<(&String, &Network)> = match network {
        Some(name) => vec![
            intent
                .networks
                .get_key_value(name)
                .ok_or_else(|| unknown_network(intent, name))?,
        ],
        None => intent.networks.iter().collect(),
    };
    if let Some((instance_id, address)) = eid(text) {
        let fits = networks
            .iter()
            .filter(|(_, network)| match (&network.kind, instance_id) {
                (NetworkKind::Mesh(mesh), Some(instance_id)) => mesh.instance_id == instance_id,
                (NetworkKind::Mesh(mesh), None) => {
                    mesh.prefixes.is_empty() || mesh.prefixes.iter().any(|net| net.contains(&address))
                }
                (NetworkKind::Local(_), instance_id) => {
                    instance_id.is_none()
                        && network
                            .ipv4
                            .as_ref()
                            .is_some_and(|ipv4| matches!(address, IpAddr::V4(v4) if ipv4.prefix.contains(&v4)))
                }
            });
        return one(text, fits.map(|(name, _)| ((*name).clone(), address)).collect());
    }
    let mut found = Vec::new();
    for (name, network) in networks {
        let bare = text.strip_suffix(&format!(".{}", network.domain)).unwrap_or(text);
        let guest = intent.guests.get(bare).into_iter().flat_map(|guest| &guest.nics);
        let mut addresses: Vec<IpAddr> = guest
            .filter(|nic| nic.network == *name)
            .flat_map(|nic| nic.addresses.clone())
            .collect();
        addresses.extend(network.names.get(bare).into_iter().flatten());
        if let (Some(node), NetworkKind::Mesh(mesh)) = (&intent.node, &network.kind)
            && node.name == bare
        {
            addresses.extend(&mesh.node_addresses);
        }
        addresses.sort_by_key(|address| !address.is_ipv6());
        found.extend(addresses.first().map(|address| (name.clone(), *address)));
    }
    one(text, found)
}

fn one(text: &str, mut found: Vec<(String, IpAddr)>) -> Result<(String, IpAddr), Unknown> {
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err((
            format!("nothing is called `{text}` here"),
            "give an EID, a guest of this node, or a name of a network".to_owned(),
        )),
        _ => {
            let names: Vec<String> = found.into_iter().map(|(name, _)| name).collect();
            Err((
                format!("`{text}` is in more than one network"),
                format!("add `--network` with one of {}", names.join(", ")),
            ))
        }
    }
}

/// `fd07::1`, `[7]fd07::1`.
fn eid(text: &str) -> Option<(Option<InstanceId>, IpAddr)> {
    if let Ok(address) = text.parse() {
        return Some((None, address));
    }
    let prefix: EidPrefix = text.parse().ok()?;
    let host = prefix.net().prefix_len() == prefix.net().max_prefix_len();
    (host && text.starts_with('[')).then(|| (Some(prefix.instance_id()), prefix.net().addr()))
}

/// The EID that the user typed; an Instance-ID is taken from the network where none is given.
///
/// # Errors
/// As [`destination`]; or the network is no mesh.
pub fn lookup(intent: &Intent, text: &str, network: Option<&str>) -> Result<Eid, Unknown> {
    if let Some((Some(instance_id), address)) = eid(text) {
        return Ok(Eid::new(instance_id, address));
    }
    if let (Some((None, address)), None) = (eid(text), network) {
        // Any address may be asked for where only one mesh could be meant.
        let meshes = intent.networks.values().filter_map(|network| match &network.kind {
            NetworkKind::Mesh(mesh) => Some(mesh.instance_id),
            NetworkKind::Local(_) => None,
        });
        let meshes: Vec<InstanceId> = meshes.collect();
        if let [only] = meshes.as_slice() {
            return Ok(Eid::new(*only, address));
        }
    }
    let (name, address) = destination(intent, text, network)?;
    match intent.networks.get(&name).map(|network| &network.kind) {
        Some(NetworkKind::Mesh(mesh)) => Ok(Eid::new(mesh.instance_id, address)),
        _ => Err((
            format!("network `{name}` is no mesh"),
            "name a mesh with `--network`".to_owned(),
        )),
    }
}

/// A guest's NIC by name; the only one when no name is given.
///
/// # Errors
/// There is none, or more than one.
pub fn nic<'a>(intent: &'a Intent, guest: &str, nic: Option<&str>) -> Result<(&'a Guest, &'a Nic), Unknown> {
    let (guest, nic) = match guest.split_once('/') {
        Some((guest, name)) => (guest, Some(name)),
        None => (guest, nic),
    };
    let spec = intent.guests.get(guest).ok_or_else(|| {
        let help = crate::nearest::suggestion(guest, intent.guests.keys().map(String::as_str));
        (format!("there is no guest `{guest}` on this node"), help)
    })?;
    let known = || {
        spec.nics
            .iter()
            .map(|nic| nic.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let found = match nic {
        Some(name) => spec.nics.iter().find(|nic| nic.name == name),
        None => spec.nics.first().filter(|_| spec.nics.len() == 1),
    };
    found.map(|nic| (spec, nic)).ok_or_else(|| {
        (
            format!("which NIC of guest `{guest}`?"),
            format!("add `--nic` with one of {}", known()),
        )
    })
}

fn unknown_network(intent: &Intent, name: &str) -> Unknown {
    let help = crate::nearest::suggestion(name, intent.networks.keys().map(String::as_str));
    (format!("there is no network `{name}` on this node"), help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{read, validate};

    const TWO: &str = r#"
apiVersion: weft.dev/v1
kind: Node
metadata: {name: site-a}
spec:
  uplinks: [{interface: wan0}]
---
apiVersion: weft.dev/v1
kind: Network
metadata: {name: plant}
spec:
  mesh: {instanceId: 7, encryption: none, prefixes: ["fd07::/16"], nodeAddresses: ["fd07::a:1"]}
  names: {guest-b: ["fd07::b"]}
---
apiVersion: weft.dev/v1
kind: Network
metadata: {name: office}
spec:
  mesh: {instanceId: 8, encryption: none, prefixes: ["fd07::/16"]}
  names: {printer: ["fd07::99"]}
---
apiVersion: weft.dev/v1
kind: Guest
metadata: {name: guest-a}
spec:
  nics:
    - {name: eth0, network: plant, attach: {tap: {interface: t0}}, addresses: ["fd07::a"]}
    - {name: eth1, network: office, attach: {tap: {interface: t1}}, addresses: ["fd07::a"]}
"#;

    fn intent() -> Intent {
        let source = read::Source {
            name: "node.yaml".into(),
            base: "/".into(),
            text: TWO.into(),
        };
        validate::intent(&read::parse(&[source]).expect("YAML")).expect("an intent")
    }

    fn found(text: &str, network: Option<&str>) -> Result<(String, String), String> {
        destination(&intent(), text, network)
            .map(|(network, address)| (network, address.to_string()))
            .map_err(|(message, _)| message)
    }

    fn at(network: &str, address: &str) -> Result<(String, String), String> {
        Ok((network.to_owned(), address.to_owned()))
    }

    #[test]
    fn names_lead_to_a_network_and_an_address() {
        assert_eq!(found("guest-b", None), at("plant", "fd07::b"));
        assert_eq!(found("guest-b.plant.weft", None), at("plant", "fd07::b"));
        assert_eq!(found("site-a", None), at("plant", "fd07::a:1"));
        assert_eq!(found("printer", None), at("office", "fd07::99"));
    }

    #[test]
    fn what_is_in_two_tenants_has_to_be_said_more_exactly() {
        assert!(found("guest-a", None).expect_err("two").contains("more than one"));
        assert_eq!(found("guest-a", Some("office")), at("office", "fd07::a"));
        assert!(found("fd07::5", None).expect_err("two").contains("more than one"));
        assert_eq!(found("[8]fd07::5", None), at("office", "fd07::5"));
        assert_eq!(found("fd07::5", Some("plant")), at("plant", "fd07::5"));
    }

    #[test]
    fn what_is_nowhere_is_told() {
        assert!(found("nobody", None).is_err());
        assert!(found("guest-b", Some("plnt")).expect_err("no network").contains("plnt"));
        assert!(found("[9]fd07::5", None).is_err());
        assert!(found("192.0.2.1", None).is_err());
    }

    #[test]
    fn a_look_up_may_be_for_any_tenant() {
        let eid = |text: &str, network| lookup(&intent(), text, network).map(|eid| eid.to_string());
        assert_eq!(eid("[9]fd09::1", None).as_deref(), Ok("[9]fd09::1"));
        assert_eq!(eid("guest-b", None).as_deref(), Ok("[7]fd07::b"));
        assert!(eid("fd07::5", None).is_err());
        assert_eq!(eid("fd07::5", Some("office")).as_deref(), Ok("[8]fd07::5"));
    }

    #[test]
    fn a_nic_is_named_where_there_are_several() {
        let intent = intent();
        assert!(nic(&intent, "guest-a", None).is_err());
        assert_eq!(nic(&intent, "guest-a/eth1", None).expect("there").1.network, "office");
        assert_eq!(nic(&intent, "guest-a", Some("eth0")).expect("there").1.network, "plant");
        assert!(nic(&intent, "guest-x", None).expect_err("none").1.contains("guest-a"));
    }
}
