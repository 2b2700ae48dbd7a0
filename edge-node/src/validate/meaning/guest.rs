//! Kind `Guest`: first everything that is said, then the IPv4 addresses that are not.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use ring::digest;

use super::{Place, Reader, exactly_one, network, sealed, text};
use crate::{
    document::{self, Document},
    intent::{Attach, Guest, Intent, Network, NetworkKind, Nic, TapNamespace},
    kind::{self, GuestSpec, KindName},
    tree::{Path, shorten},
};

/// What is taken within one network.
#[derive(Default)]
struct Taken<'a> {
    addresses: BTreeMap<IpAddr, Place<'a>>,
    routed: Vec<(IpNet, Place<'a>)>,
    macs: BTreeMap<[u8; 6], Place<'a>>,
}

/// What is taken within the networks, and within namespaces.
#[derive(Default)]
struct Claims<'a> {
    networks: BTreeMap<String, Taken<'a>>,
    inside: BTreeMap<(String, String), Place<'a>>,
}

pub(super) fn read_all<'a>(reader: &mut Reader<'a>, previous: &Intent) {
    let mut claims = Claims::default();
    node_addresses(reader, &mut claims);
    for document in reader.of(KindName::Guest) {
        let Some(object) = reader.object::<GuestSpec>(document) else {
            continue;
        };
        let nics = nics(reader, document, &object.spec.nics, &mut claims);
        let labels = object.metadata.labels;
        reader
            .intent
            .guests
            .insert(document.name.clone(), Guest { labels, nics });
    }
    allocate(reader, previous, &claims);
}

/// The node's own addresses are nobody else's.
fn node_addresses<'a>(reader: &Reader<'a>, claims: &mut Claims<'a>) {
    for document in reader.of(KindName::Network) {
        let Some(network) = reader.intent.networks.get(&document.name) else {
            continue;
        };
        let taken = claims.networks.entry(document.name.clone()).or_default();
        if let NetworkKind::Mesh(mesh) = &network.kind {
            let path = Path::parse("spec.mesh.nodeAddresses");
            for address in &mesh.node_addresses {
                taken.addresses.insert(*address, Place::new(document, &path));
            }
        }
        if let Some(ipv4) = &network.ipv4 {
            let path = Path::parse("spec.ipv4.gateway");
            taken.addresses.insert(ipv4.gateway.into(), Place::new(document, &path));
        }
    }
}

fn nics<'a>(reader: &mut Reader<'a>, document: &'a Document, nics: &[kind::Nic], claims: &mut Claims<'a>) -> Vec<Nic> {
    let mut found: Vec<Nic> = Vec::new();
    for (index, nic) in nics.iter().enumerate() {
        let path = Path::parse("spec.nics").then(index);
        if let Err(help) = document::object_name(&nic.name) {
            reader.fail(
                document,
                &path.then("name"),
                format!("`{}` cannot be the name of a NIC", shorten(&nic.name)),
                help,
            );
        } else if found.iter().any(|other| other.name == nic.name) {
            reader.fail(
                document,
                &path.then("name"),
                format!("two NICs are called `{}`", nic.name),
                "give one of them another name, such as eth1",
            );
        }
        let network = reader.reference(document, &path.then("network"), KindName::Network, &nic.network);
        let attach = attach(reader, document, &path.then("attach"), &nic.attach, claims);
        let taken = claims.networks.entry(nic.network.clone()).or_default();
        let mac = mac(reader, document, &path, nic, taken);
        // Of a network that has had its message nothing is known for sure.
        let network = network.filter(|_| !reader.is_broken(KindName::Network, &nic.network));
        let network = network.and_then(|_| reader.intent.networks.get(&nic.network).cloned());
        let addresses = addresses(reader, document, &path, nic, network.as_ref(), taken);
        let routed = routed(reader, document, &path, nic, network.as_ref(), taken);
        let key = sealed::nic(reader, document, &path, nic, network.as_ref(), &addresses, &routed);
        if let Some(attach) = attach {
            found.push(Nic {
                name: nic.name.clone(),
                network: nic.network.clone(),
                attach,
                mac,
                key,
                addresses,
                routed,
            });
        }
    }
    found
}

fn attach<'a>(
    reader: &mut Reader<'a>,
    document: &'a Document,
    path: &Path,
    attach: &kind::Attach,
    claims: &mut Claims<'a>,
) -> Option<Attach> {
    if let Err(message) = exactly_one(&[("tap", attach.tap.is_some()), ("veth", attach.veth.is_some())]) {
        reader.fail(
            document,
            path,
            message,
            "say how the guest is attached, once: {tap: {interface: NAME}} or {veth: {interface: NAME}}",
        );
        return None;
    }
    if let Some(veth) = &attach.veth {
        let path = path.then("veth").then("interface");
        let interface = reader.parse(document, &path, &veth.interface, text::interface)?;
        reader.claim_interface(document, &path, &interface);
        return Some(Attach::Veth { interface });
    }
    let tap = attach.tap.as_ref()?;
    let path = path.then("tap");
    let place = path.then("interface");
    let interface = reader.parse(document, &place, &tap.interface, text::interface)?;
    reader.claim_interface(document, &place, &interface);
    let netns = match (&tap.netns, &tap.name_inside) {
        (None, None) => None,
        (None, Some(_)) => {
            reader.fail(
                document,
                &path.then("as"),
                "`as` is the name in another network namespace, and none is given",
                "add `netns: NAME`, or take `as` out",
            );
            None
        }
        (Some(name), inside) => {
            let name = reader.parse(document, &path.then("netns"), name, text::namespace)?;
            let (field, inside) = match inside {
                Some(inside) => ("as", inside),
                None => ("interface", &interface),
            };
            let place = path.then(field);
            let inside = reader.parse(document, &place, inside, text::interface)?;
            let key = (name.clone(), inside.clone());
            if let Some(first) = claims.inside.get(&key) {
                let message = format!(
                    "`{inside}` in namespace `{name}` is taken already, by {}",
                    first.from(document)
                );
                reader.fail(document, &place, message, "give it another name with `as`");
            }
            claims.inside.insert(key, Place::new(document, &place));
            Some(TapNamespace {
                name,
                interface: inside,
            })
        }
    };
    Some(Attach::Tap { interface, netns })
}

fn mac<'a>(
    reader: &mut Reader<'a>,
    document: &'a Document,
    path: &Path,
    nic: &kind::Nic,
    taken: &mut Taken<'a>,
) -> [u8; 6] {
    let path = path.then("mac");
    let derived = derived_mac(&document.name, &nic.name);
    let mac = match &nic.mac {
        Some(mac) => reader.parse(document, &path, mac, text::mac).unwrap_or(derived),
        None => derived,
    };
    if let Some(first) = taken.macs.get(&mac) {
        let message = format!("this MAC address is that of {} already", first.from(document));
        reader.fail(
            document,
            &path,
            message,
            "give each NIC its own, or leave it out: one is derived from the names",
        );
    }
    taken.macs.insert(mac, Place::new(document, &path));
    mac
}

/// A MAC address that belongs to the names and to no vendor: locally administered, the same on every node and after
/// every restart.
fn derived_mac(guest: &str, nic: &str) -> [u8; 6] {
    let hash = digest::digest(&digest::SHA256, format!("weft guest MAC\0{guest}\0{nic}").as_bytes());
    let mut mac = [0x02; 6];
    for (byte, value) in mac.iter_mut().skip(1).zip(hash.as_ref()) {
        *byte = *value;
    }
    mac
}

fn addresses<'a>(
    reader: &mut Reader<'a>,
    document: &'a Document,
    path: &Path,
    nic: &kind::Nic,
    network: Option<&Network>,
    taken: &mut Taken<'a>,
) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for (index, address) in nic.addresses.iter().enumerate() {
        let path = path.then("addresses").then(index);
        let Some(address) = reader.parse(document, &path, address, text::address) else {
            continue;
        };
        if let Some(first) = taken.addresses.get(&address) {
            let message = format!("address {address} is that of {} already", first.from(document));
            reader.fail(document, &path, message, "give each guest an address of its own");
            continue;
        }
        let overlap = taken.routed.iter().find(|(net, _)| net.contains(&address));
        if let Some((net, first)) = overlap.filter(|(_, first)| first.document.name != document.name) {
            let message = format!(
                "address {address} lies in {net}, which is routed to {}",
                first.from(document)
            );
            reader.fail(document, &path, message, "use an address outside of it");
            continue;
        }
        taken.addresses.insert(address, Place::new(document, &path));
        if network.is_none_or(|network| fits(reader, document, &path, address, network, &nic.network)) {
            found.push(address);
        }
    }
    found
}

/// Whether an address is one that a guest of this network can have; complains when not.
fn fits(
    reader: &mut Reader<'_>,
    document: &Document,
    path: &Path,
    address: IpAddr,
    network: &Network,
    name: &str,
) -> bool {
    if let IpAddr::V4(v4) = address {
        let Some(ipv4) = &network.ipv4 else {
            reader.fail(
                document,
                path,
                format!("Network {name} has no IPv4 subnet for {address}"),
                format!("add `ipv4: {{prefix: …, gateway: …}}` to Network {name}, or take the address out"),
            );
            return false;
        };
        if !network::is_host(ipv4.prefix, v4) {
            reader.fail(
                document,
                path,
                format!("{address} is no host of the subnet {} of Network {name}", ipv4.prefix),
                match ipv4.slice {
                    Some(slice) => {
                        format!("use an address inside {slice}, or leave it out: the next free one is taken")
                    }
                    None => format!("use an address inside {}", ipv4.prefix),
                },
            );
            return false;
        }
    }
    let prefixes = match &network.kind {
        NetworkKind::Mesh(mesh) => Some(mesh.prefixes.as_slice()),
        NetworkKind::Local(_) => None,
    };
    network::inside(reader, document, path, address, prefixes)
}

fn routed<'a>(
    reader: &mut Reader<'a>,
    document: &'a Document,
    path: &Path,
    nic: &kind::Nic,
    network: Option<&Network>,
    taken: &mut Taken<'a>,
) -> Vec<IpNet> {
    let mut found = Vec::new();
    for (index, prefix) in nic.routed.iter().enumerate() {
        let path = path.then("routed").then(index);
        let Some(net) = reader.parse(document, &path, prefix, text::prefix) else {
            continue;
        };
        let routed = taken
            .routed
            .iter()
            .find(|(other, _)| other.contains(&net) || net.contains(other));
        let address = taken
            .addresses
            .iter()
            .find(|(address, place)| net.contains(*address) && place.document.name != document.name);
        let clash = match (routed, address) {
            (Some((other, first)), _) => Some(format!("{other}, which is routed to {}", first.from(document))),
            (_, Some((other, first))) => Some(format!("{other} of {}", first.from(document))),
            _ => None,
        };
        if let Some(clash) = clash {
            reader.fail(
                document,
                &path,
                format!("routed prefix {net} overlaps {clash}"),
                "route each address to one guest only",
            );
            continue;
        }
        let outside = match network.map(|network| &network.kind) {
            Some(NetworkKind::Mesh(mesh)) => {
                !mesh.prefixes.is_empty() && !mesh.prefixes.iter().any(|m| m.contains(&net))
            }
            _ => false,
        };
        if outside {
            reader.fail(
                document,
                &path,
                format!("routed prefix {net} lies outside of the mesh's prefixes"),
                "add it to `mesh.prefixes` of the network, on every node",
            );
            continue;
        }
        taken.routed.push((net, Place::new(document, &path)));
        found.push(net);
    }
    found
}

/// Gives every NIC without an IPv4 address the one it had, or else the next free one of its network's slice.
fn allocate(reader: &mut Reader<'_>, previous: &Intent, claims: &Claims<'_>) {
    let mut used: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for (name, network) in &reader.intent.networks {
        let set = used.entry(name.clone()).or_default();
        set.extend(network.names.values().flatten());
        if let Some(taken) = claims.networks.get(name) {
            set.extend(taken.addresses.keys());
        }
    }
    let mut guests = std::mem::take(&mut reader.intent.guests);
    let wanting = |nic: &Nic, networks: &BTreeMap<String, Network>| {
        let slice = networks.get(&nic.network)?.ipv4.as_ref()?.slice?;
        (!nic.addresses.iter().any(IpAddr::is_ipv4)).then_some(slice)
    };
    // Who had one keeps it, before anybody else takes it.
    for (name, guest) in &mut guests {
        for nic in &mut guest.nics {
            let Some(slice) = wanting(nic, &reader.intent.networks) else {
                continue;
            };
            let before = previous
                .guests
                .get(name)
                .and_then(|guest| guest.nics.iter().find(|n| n.name == nic.name));
            let had = before
                .filter(|before| before.network == nic.network)
                .and_then(|before| {
                    before
                        .addresses
                        .iter()
                        .find(|address| matches!(address, IpAddr::V4(v4) if slice.contains(v4)))
                });
            if let Some(address) = had
                && used.entry(nic.network.clone()).or_default().insert(*address)
            {
                nic.addresses.push(*address);
            }
        }
    }
    for (name, guest) in &mut guests {
        for (index, nic) in guest.nics.iter_mut().enumerate() {
            if reader.is_broken(KindName::Network, &nic.network) {
                continue;
            }
            let path = Path::parse("spec.nics").then(index);
            let slice = wanting(nic, &reader.intent.networks);
            if let Some(slice) = slice {
                let ipv4 = reader
                    .intent
                    .networks
                    .get(&nic.network)
                    .and_then(|network| network.ipv4.clone());
                let taken = used.entry(nic.network.clone()).or_default();
                let free = slice.hosts().find(|address| {
                    ipv4.as_ref()
                        .is_some_and(|ipv4| network::is_host(ipv4.prefix, *address))
                        && !taken.contains(&IpAddr::V4(*address))
                });
                match free {
                    Some(address) => {
                        taken.insert(address.into());
                        nic.addresses.push(address.into());
                    }
                    None => full(reader, name, &path, &nic.network, slice.network()),
                }
            }
            let said = reader.document(KindName::Guest, name);
            let hashed = reader
                .intent
                .networks
                .get(&nic.network)
                .and_then(Network::mesh)
                .is_some_and(|mesh| mesh.nic_eid_is_hash(nic));
            if nic.addresses.is_empty()
                && slice.is_none()
                && nic.key.is_none()
                && !hashed
                && let Some(document) = said.filter(|document| nothing_said(document, &path))
            {
                let network = &nic.network;
                let sealed = reader.intent.networks.get(network).and_then(Network::sealed).is_some();
                let or = if sealed {
                    ", or add \"fd00::/8\" to its `mesh.prefixes`: an address is made from a key then"
                } else {
                    ""
                };
                reader.fail(
                    document,
                    &path.then("name"),
                    format!(
                        "NIC `{}` has no address, and Network {network} has no slice to take one from",
                        nic.name
                    ),
                    format!("write `addresses: […]`, or add `ipv4: {{…, slice: …}}` to Network {network}{or}"),
                );
            }
        }
    }
    reader.intent.guests = guests;
}

/// Addresses that are there but wrong have had their message.
fn nothing_said(document: &Document, path: &Path) -> bool {
    let nic = path
        .0
        .iter()
        .try_fold(&document.root, |node, step| match (step, &node.value) {
            (crate::tree::Step::Field(name), _) => node.field(name),
            (crate::tree::Step::Index(index), crate::tree::Value::List(items)) => items.get(*index),
            _ => None,
        });
    match nic.and_then(|nic| nic.field("addresses")).map(|node| &node.value) {
        Some(crate::tree::Value::List(items)) => items.is_empty(),
        _ => true,
    }
}

fn full(reader: &mut Reader<'_>, guest: &str, path: &Path, network: &str, slice: Ipv4Addr) {
    let Some(document) = reader.document(KindName::Guest, guest) else {
        return;
    };
    reader.fail(
        document,
        &path.then("name"),
        format!("the slice of Network {network} (from {slice}) has no free address left"),
        "make the slice larger, or give the guest an address of its own",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_mac_is_a_nics_own_and_stays() {
        let mac = derived_mac("guest-a", "eth0");
        assert_eq!(mac[0], 2);
        assert_eq!(mac, derived_mac("guest-a", "eth0"));
        assert_ne!(mac, derived_mac("guest-a", "eth1"));
        assert_ne!(mac, derived_mac("guest-b", "eth0"));
    }
}
