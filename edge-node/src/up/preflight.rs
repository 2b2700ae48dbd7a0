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

/// Whether this process may make interfaces and the like (`CAP_NET_ADMIN`).
///
/// # Errors
/// What to do about it.
pub fn rights() -> Result<(), Report> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if may_administer(&status) {
        return Ok(());
    }
    let message = "a node makes interfaces and sockets that need the right to administer the network";
    Err(failure(
        message,
        "run `weft up` as root, or by the systemd unit that comes with Weft",
    ))
}

/// From the text of `/proc/self/status`.
fn may_administer(status: &str) -> bool {
    const NET_ADMIN: u32 = 12;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set >> NET_ADMIN & 1 == 1)
}

/// A failure that is about no file.
pub fn failure(message: impl Into<String>, help: impl Into<String>) -> Report {
    Report::from(IntentError::whole("this node", message, help))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{read, up::uplinks::Interface, validate};

    fn judged(yaml: &str, current: Option<&str>) -> Result<Secrets, Report> {
        let parse = |text: &str| {
            let source = read::Source {
                name: "node.yaml".into(),
                base: "/".into(),
                text: text.into(),
            };
            let documents = read::parse(&[source]).expect("YAML");
            let intent = validate::intent(&documents).expect("an intent");
            (documents, intent)
        };
        let loopback = Interface {
            index: 1,
            mtu: 1500,
            running: true,
            addresses: vec!["127.0.0.9".parse().expect("an address")],
        };
        let interfaces = Interfaces::from([("wan0".to_owned(), loopback.clone()), ("wan1".to_owned(), loopback)]);
        let (documents, desired) = parse(yaml);
        let current = current.map(|text| parse(text).1).unwrap_or_default();
        check(&documents, &current, &desired, &interfaces, false)
    }

    fn faults(yaml: &str) -> Vec<(usize, String, String)> {
        let report = judged(yaml, None).expect_err("refused");
        report
            .0
            .into_iter()
            .map(|error| (error.line, error.message, error.help))
            .collect()
    }

    fn node(interface: &str) -> String {
        format!(
            "apiVersion: weft.dev/v1\nkind: Node\nmetadata: {{name: a}}\nspec:\n  uplinks:\n    - {{interface: {interface}}}\n"
        )
    }

    const NETWORK: &str = "---\napiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: plant}\nspec:\n  mesh: {instanceId: 7, encryption: none, prefixes: [\"fd07::/16\"]}\n";

    fn guest(attach: &str) -> String {
        format!(
            "{}{NETWORK}---\napiVersion: weft.dev/v1\nkind: Guest\nmetadata: {{name: g}}\nspec:\n  nics:\n    - name: eth0\n      network: plant\n      attach: {attach}\n      addresses: [\"fd07::1\"]\n",
            node("wan0")
        )
    }

    #[test]
    fn an_interface_that_is_not_there_is_told_with_its_place() {
        let [(line, message, help)] = &faults(&node("wan7"))[..] else {
            panic!("one fault")
        };
        assert_eq!(*line, 6);
        assert!(message.contains("wan7") && help.contains("wan0"), "{message}; {help}");
        let [(_, message, _)] = &faults(&guest("{veth: {interface: vb}}"))[..] else {
            panic!("one fault")
        };
        assert!(message.contains("`vb`"), "{message}");
    }

    #[test]
    fn what_runs_already_is_not_asked_for_again() {
        let unplugged = node("wan7");
        assert!(
            judged(&unplugged, Some(&unplugged)).is_ok(),
            "an unplugged cable blocks no other change"
        );
        let guest = guest("{veth: {interface: vb}}");
        assert!(judged(&guest, Some(&guest)).is_ok());
    }

    #[test]
    fn a_namespace_that_is_not_there_is_told() {
        let [(_, message, help)] = &faults(&guest("{tap: {interface: t0, netns: weft-test-none, as: eth0}}"))[..]
        else {
            panic!("one fault")
        };
        assert!(
            message.contains("weft-test-none") && help.contains("ip netns add"),
            "{message}; {help}"
        );
    }

    #[test]
    fn a_tap_takes_no_name_of_another_interface() {
        let [(_, message, _)] = &faults(&guest("{tap: {interface: wan1}}"))[..] else {
            panic!("one fault")
        };
        assert!(message.contains("no TAP"), "{message}");
    }

    #[test]
    fn a_busy_port_is_told() {
        let taken = UdpSocket::bind("127.0.0.9:4341").expect("nobody listens there");
        let [(_, message, help)] = &faults(&node("wan0"))[..] else {
            panic!("one fault")
        };
        assert!(
            message.contains("4341") && help.contains("ss -lunp"),
            "{message}; {help}"
        );
        drop(taken);
    }

    fn map_server(listen: &str) -> String {
        format!(
            "apiVersion: weft.dev/v1\nkind: Secret\nmetadata: {{name: k}}\nspec: {{file: /no/such/key}}\n---\napiVersion: weft.dev/v1\nkind: MapServer\nmetadata: {{name: ms}}\nspec:\n  listen: [\"{listen}\"]\n  sites:\n    - name: x\n      keys: [{{id: 1, algorithms: [hmac-sha256-128], secret: k}}]\n      prefixes: [{{instanceId: 7, prefix: \"fd07::/16\"}}]\n"
        )
    }

    #[test]
    fn a_map_server_listens_on_addresses_of_this_machine_that_no_xtr_has() {
        let messages =
            |yaml: &str| -> Vec<String> { faults(yaml).into_iter().map(|(_, message, _)| message).collect() };
        assert!(messages(&map_server("192.0.2.77"))[0].contains("no address of this machine"));
        let both = format!("{}---\n{}", node("wan0"), map_server("127.0.0.9"));
        assert!(
            messages(&both).iter().any(|message| message.contains("RLOC")),
            "{:?}",
            messages(&both)
        );
    }

    #[test]
    fn rights_are_read_from_the_effective_set() {
        assert!(may_administer("Name:\tweft\nCapPrm:\t0\nCapEff:\t0000000000001000\n"));
        assert!(may_administer("CapEff:\t000001ffffffffff\n"));
        assert!(!may_administer(
            "CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n"
        ));
        assert!(!may_administer(""));
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let faults = faults(&map_server("192.0.2.77"));
        assert_eq!(faults.len(), 2, "the address and the secret: {faults:?}");
    }
}
