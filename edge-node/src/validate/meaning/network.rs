//! Kind `Network`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};
use lisp::InstanceId;

use super::{Place, Reader, exactly_one, sealed, text};
use crate::{
    document::Document,
    intent::{Ipv4Subnet, Local, Mesh, Network, NetworkKind},
    kind::{self, KindName, NetworkSpec},
    tree::{Path, shorten},
};

/// Least MTU of IPv6 (RFC 8200 §5).
const IPV6_MTU: u16 = 1280;

pub(super) fn read<'a>(reader: &mut Reader<'a>, document: &'a Document) {
    let Some(object) = reader.object::<NetworkSpec>(document) else {
        return;
    };
    let spec = object.spec;
    let path = Path::parse("spec");
    if let Err(message) = exactly_one(&[("mesh", spec.mesh.is_some()), ("local", spec.local.is_some())]) {
        return reader.fail(
            document,
            &path,
            message,
            "say what is on the other side, once: `mesh: {…}` or `local: {…}`",
        );
    }
    let slice = spec.ipv4.as_ref().and_then(|ipv4| ipv4.slice.as_deref());
    let kind = match (&spec.mesh, &spec.local) {
        (Some(mesh), _) => {
            let mesh = self::mesh(reader, document, &path.then("mesh"), mesh);
            sealed::slice(reader, document, &path.then("ipv4").then("slice"), &mesh, slice);
            NetworkKind::Mesh(mesh)
        }
        (_, local) => NetworkKind::Local(Local {
            nat44: local.as_ref().is_none_or(|local| local.nat44),
            nat66: local.as_ref().is_none_or(|local| local.nat66),
        }),
    };
    let prefixes = match &kind {
        NetworkKind::Mesh(mesh) => Some(mesh.prefixes.as_slice()),
        NetworkKind::Local(_) => None,
    };
    let ipv4 = spec
        .ipv4
        .as_ref()
        .and_then(|ipv4| subnet(reader, document, &path.then("ipv4"), ipv4, prefixes));
    // A subnet that lies outside of the mesh has had its message; names inside of it need none of their own.
    let wider: Option<Vec<IpNet>> = prefixes.map(|prefixes| {
        prefixes
            .iter()
            .copied()
            .chain(ipv4.as_ref().map(|ipv4| ipv4.prefix.into()))
            .collect()
    });
    let names = names(reader, document, &path.then("names"), &spec.names, wider.as_deref());
    let domain = match &spec.domain {
        Some(domain) => reader.parse(document, &path.then("domain"), domain, text::domain),
        None => Some(format!("{}.weft", document.name)),
    };
    if let Some(mtu) = spec.mtu
        && mtu < IPV6_MTU
        && prefixes.is_none_or(|prefixes| prefixes.iter().any(|prefix| matches!(prefix, IpNet::V6(_))))
    {
        reader.fail(
            document,
            &path.then("mtu"),
            format!("an MTU of {mtu} bytes is too small for IPv6"),
            format!("write {IPV6_MTU} or more"),
        );
    }
    reader.intent.networks.insert(
        document.name.clone(),
        Network {
            kind,
            domain: domain.unwrap_or_default(),
            names,
            mtu: spec.mtu,
            ipv4,
        },
    );
}

fn mesh(reader: &mut Reader<'_>, document: &Document, path: &Path, mesh: &kind::Mesh) -> Mesh {
    let instance_id = InstanceId::new(mesh.instance_id).unwrap_or(InstanceId::DEFAULT);
    let other = reader
        .intent
        .networks
        .iter()
        .find_map(|(name, network)| match &network.kind {
            NetworkKind::Mesh(other) if other.instance_id == instance_id => Some(name.clone()),
            _ => None,
        });
    if let Some(other) = other {
        let path = path.then("instanceId");
        let first = reader
            .document(KindName::Network, &other)
            .map_or(other, |first| Place::new(first, &path).from(document));
        reader.fail(
            document,
            &path,
            format!("Instance-ID {instance_id} is that of {first} already: their EIDs would overlap"),
            "give each mesh an Instance-ID of its own, or put the guests into the one network",
        );
    }
    let mut prefixes: Vec<IpNet> = Vec::new();
    for (index, prefix) in mesh.prefixes.iter().enumerate() {
        let path = path.then("prefixes").then(index);
        let Some(net) = reader.parse(document, &path, prefix, text::prefix) else {
            continue;
        };
        if let Some(other) = prefixes
            .iter()
            .find(|other| other.contains(&net) || net.contains(*other))
        {
            let message = format!("prefix {net} overlaps prefix {other}");
            reader.fail(document, &path, message, "keep the larger of the two");
            continue;
        }
        prefixes.push(net);
    }
    let mut node_addresses = Vec::new();
    for (index, address) in mesh.node_addresses.iter().enumerate() {
        let path = path.then("nodeAddresses").then(index);
        let Some(address) = reader.parse(document, &path, address, text::address) else {
            continue;
        };
        if node_addresses.contains(&address) {
            reader.fail(
                document,
                &path,
                format!("{address} stands here twice"),
                "take one of the two out",
            );
        } else if inside(reader, document, &path, address, Some(&prefixes)) {
            node_addresses.push(address);
        }
    }
    let encryption = sealed::read(reader, document, path, mesh, &prefixes);
    let read = Mesh {
        instance_id,
        encryption,
        prefixes,
        node_addresses,
    };
    sealed::node_addresses(reader, document, &path.then("nodeAddresses"), &read);
    read
}

/// Whether an address lies in the mesh's EID space; complains when not.
pub(super) fn inside(
    reader: &mut Reader<'_>,
    document: &Document,
    path: &Path,
    address: IpAddr,
    prefixes: Option<&[IpNet]>,
) -> bool {
    let Some(prefixes) = prefixes else {
        return true;
    };
    // Where no prefix could be read, that is the message.
    if prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.contains(&address)) {
        return true;
    }
    let all: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
    reader.fail(
        document,
        path,
        format!("{address} lies outside of the mesh's prefixes"),
        format!(
            "use an address inside {}, or add its prefix to the mesh, on every node",
            all.join(" or ")
        ),
    );
    false
}

fn subnet(
    reader: &mut Reader<'_>,
    document: &Document,
    path: &Path,
    ipv4: &kind::Ipv4,
    prefixes: Option<&[IpNet]>,
) -> Option<Ipv4Subnet> {
    let prefix_path = path.then("prefix");
    let prefix = reader.parse(document, &prefix_path, &ipv4.prefix, text::prefix4);
    let gateway = reader.parse(document, &path.then("gateway"), &ipv4.gateway, gateway);
    let slice_path = path.then("slice");
    let slice = ipv4
        .slice
        .as_ref()
        .map(|slice| reader.parse(document, &slice_path, slice, text::prefix4));
    let (prefix, gateway) = (prefix?, gateway?);
    if prefix.prefix_len() > 30 {
        reader.fail(
            document,
            &prefix_path,
            format!("{prefix} has no room for a gateway and a guest"),
            "use a length of 30 or less",
        );
        return None;
    }
    if let Some(prefixes) = prefixes
        && !prefixes.is_empty()
        && !prefixes.iter().any(|outer| outer.contains(&IpNet::V4(prefix)))
    {
        reader.fail(
            document,
            &prefix_path,
            format!("subnet {prefix} lies outside of the mesh's prefixes"),
            format!("add \"{prefix}\" to `mesh.prefixes`, on every node, or use a part of one that stands there"),
        );
    }
    if !is_host(prefix, gateway) {
        reader.fail(
            document,
            &path.then("gateway"),
            format!("gateway {gateway} is no host of {prefix}"),
            format!(
                "use one of {prefix}, such as {}",
                prefix.hosts().next().unwrap_or(gateway)
            ),
        );
    }
    let slice = match slice {
        Some(slice) => {
            let slice = slice?;
            if !prefix.contains(&slice) {
                reader.fail(
                    document,
                    &slice_path,
                    format!("slice {slice} lies outside of the subnet {prefix}"),
                    "use a part of it that no other node uses",
                );
            }
            Some(slice)
        }
        // Nobody else hands out addresses of a network that ends at this node.
        None if prefixes.is_none() => Some(prefix),
        None => None,
    };
    Some(Ipv4Subnet { prefix, gateway, slice })
}

fn gateway(text: &str) -> Result<Ipv4Addr, text::Wrong> {
    match text::address(text)? {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(text::Wrong {
            message: format!("gateway {text} is IPv6, this is about IPv4"),
            help: "leave IPv6 out: guests learn their IPv6 gateway by router advertisements".into(),
        }),
    }
}

/// Whether an address of a subnet is neither its first nor its last.
pub(super) fn is_host(prefix: Ipv4Net, address: Ipv4Addr) -> bool {
    prefix.contains(&address) && address != prefix.network() && address != prefix.broadcast()
}

fn names(
    reader: &mut Reader<'_>,
    document: &Document,
    path: &Path,
    names: &BTreeMap<String, Vec<String>>,
    prefixes: Option<&[IpNet]>,
) -> BTreeMap<String, Vec<IpAddr>> {
    let mut found = BTreeMap::new();
    for (name, addresses) in names {
        let path = path.then(name);
        if text::domain(name).is_err() {
            reader.fail(
                document,
                &path,
                format!("`{}` cannot be a name in the DNS", shorten(name)),
                "use lower case letters, digits and `-`; the network's domain is added",
            );
            continue;
        }
        if addresses.is_empty() {
            reader.fail(
                document,
                &path,
                format!("name `{name}` has no address"),
                "write its addresses, or take it out",
            );
        }
        let mut read = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            let path = path.then(index);
            if let Some(address) = reader.parse(document, &path, address, text::address)
                && inside(reader, document, &path, address, prefixes)
            {
                read.push(address);
            }
        }
        found.insert(name.clone(), read);
    }
    found
}
