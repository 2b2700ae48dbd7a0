//! What the intent asks of this machine, checked before anything is changed: interfaces, namespaces, credentials,
//! programs, addresses.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
};

use dataplane::port::uplink_sockets::DATA_PORT;
use lisp::CONTROL_PORT;

use super::{
    interfaces::namespace_path,
    secrets::{self, Secrets},
    uplinks::Interfaces,
};
use crate::{
    document::{self, Document},
    error::{IntentError, Report},
    intent::{Attach, Intent, NetworkKind},
    kind::KindName,
    nearest,
};

/// Checks `desired` against the machine. What `current` has in use already is not asked for again; with
/// `packet_path_runs` a packet path of an earlier control process may hold the data port.
///
/// # Errors
/// Everything that the machine does not have.
pub fn check(
    documents: &[Document],
    current: &Intent,
    desired: &Intent,
    interfaces: &Interfaces,
    packet_path_runs: bool,
) -> Result<Secrets, Report> {
    let mut faults = Vec::new();
    let mut fault = |kind, name: &str, path: &str, message: String, help: String| {
        faults.push(document::error_at(documents, kind, name, path, message, help));
    };
    let missing = |interface: &str| {
        let help = nearest::suggestion(interface, interfaces.keys().map(String::as_str));
        (format!("there is no interface `{interface}` on this machine"), help)
    };
    if let Some(node) = &desired.node {
        let known: BTreeSet<&str> = current
            .node
            .iter()
            .flat_map(|node| &node.uplinks)
            .map(|uplink| uplink.interface.as_str())
            .collect();
        for (index, uplink) in node.uplinks.iter().enumerate() {
            if !interfaces.contains_key(&uplink.interface) && !known.contains(uplink.interface.as_str()) {
                let (message, help) = missing(&uplink.interface);
                fault(
                    KindName::Node,
                    &node.name,
                    &format!("spec.uplinks[{index}].interface"),
                    message,
                    help,
                );
            }
        }
    }
    for (name, guest) in &desired.guests {
        for (index, nic) in guest.nics.iter().enumerate() {
            let before = current
                .guests
                .get(name)
                .and_then(|guest| guest.nics.iter().find(|old| old.name == nic.name));
            if before.is_some_and(|old| old.attach == nic.attach) {
                continue;
            }
            let path = format!("spec.nics[{index}].attach");
            match &nic.attach {
                Attach::Veth { interface } if !interfaces.contains_key(interface) => {
                    let (message, help) = missing(interface);
                    fault(KindName::Guest, name, &format!("{path}.veth.interface"), message, help);
                }
                Attach::Tap {
                    netns: Some(namespace), ..
                } if !namespace_path(&namespace.name).exists() => {
                    let message = format!("there is no network namespace `{}`", namespace.name);
                    let help = format!("make it with `ip netns add {}`, or correct the name", namespace.name);
                    fault(KindName::Guest, name, &format!("{path}.tap.netns"), message, help);
                }
                Attach::Tap { interface, .. } if interfaces.contains_key(interface) && !is_tap(interface) => {
                    let message = format!("interface `{interface}` is there already and is no TAP");
                    let help = "choose another name, or attach it as `veth`".to_owned();
                    fault(KindName::Guest, name, &format!("{path}.tap.interface"), message, help);
                }
                _ => {}
            }
        }
    }
    let ours = rlocs(current, interfaces);
    let rlocs = rlocs(desired, interfaces);
    if let Some(node) = &desired.node {
        for (index, uplink) in node.uplinks.iter().enumerate() {
            let addresses = interfaces
                .get(&uplink.interface)
                .map(|interface| interface.addresses.as_slice());
            for address in addresses
                .unwrap_or_default()
                .iter()
                .filter(|address| !ours.contains(address))
            {
                for (port, what) in [(DATA_PORT, "data"), (CONTROL_PORT, "control")] {
                    let expected = packet_path_runs && port == DATA_PORT;
                    if !expected && busy(SocketAddr::new(*address, port)) {
                        let message =
                            format!("UDP port {port} of {address} (LISP {what}) is in use by another program");
                        let help = format!("`ss -lunp sport = :{port}` says which: end it, or name another uplink");
                        fault(
                            KindName::Node,
                            &node.name,
                            &format!("spec.uplinks[{index}].interface"),
                            message,
                            help,
                        );
                    }
                }
            }
        }
    }
    for (name, server) in &desired.map_servers {
        for (index, address) in server.listen.iter().enumerate() {
            let mut listen = |message: String, help: String| {
                fault(
                    KindName::MapServer,
                    name,
                    &format!("spec.listen[{index}]"),
                    message,
                    help,
                );
            };
            if address.port() == CONTROL_PORT && rlocs.contains(&address.ip()) {
                listen(
                    format!(
                        "{} is an RLOC of this node, whose xTR listens on port {CONTROL_PORT} of it",
                        address.ip()
                    ),
                    "give the Map-Server an address of its own, on an interface that is no uplink, such as lo"
                        .to_owned(),
                );
                continue;
            }
            if current.map_servers.values().any(|old| old.listen.contains(address)) {
                continue;
            }
            let local = address.ip().is_unspecified()
                || address.ip().is_loopback()
                || interfaces
                    .values()
                    .any(|interface| interface.addresses.contains(&address.ip()));
            if !local {
                let known = interfaces.values().flat_map(|interface| &interface.addresses);
                let known: Vec<String> = known.map(ToString::to_string).collect();
                listen(
                    format!("{} is no address of this machine", address.ip()),
                    format!("its addresses are {}", known.join(", ")),
                );
            } else if busy(*address) {
                listen(
                    format!("UDP {address} is in use by another program"),
                    format!(
                        "`ss -lunp sport = :{}` says which: end it, or listen elsewhere",
                        address.port()
                    ),
                );
            }
        }
    }
    for (name, network) in &desired.networks {
        if matches!(network.kind, NetworkKind::Local(_)) && !program("nft") {
            let message = "a local network needs the program `nft`, which is not there".to_owned();
            fault(
                KindName::Network,
                name,
                "spec.local",
                message,
                "install the package nftables".to_owned(),
            );
        }
    }
    let (secrets, unavailable) = secrets::load(desired);
    for (name, message, help) in unavailable {
        fault(KindName::Secret, &name, "spec", message, help);
    }
    if faults.is_empty() {
        Ok(secrets)
    } else {
        Err(Report::from(faults))
    }
}

/// Addresses that the node's xTR has, or will have.
fn rlocs(intent: &Intent, interfaces: &Interfaces) -> BTreeSet<IpAddr> {
    let uplinks = intent.node.iter().flat_map(|node| &node.uplinks);
    uplinks
        .filter_map(|uplink| interfaces.get(&uplink.interface))
        .flat_map(|interface| interface.addresses.clone())
        .collect()
}

fn busy(address: SocketAddr) -> bool {
    UdpSocket::bind(address).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn is_tap(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).join("tun_flags").exists()
}

fn program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(name).is_file())
}

/// A failure that is about no file.
pub fn failure(message: impl Into<String>, help: impl Into<String>) -> Report {
    Report::from(IntentError::whole("this node", message, help))
}
