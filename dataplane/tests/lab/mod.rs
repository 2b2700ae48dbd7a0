//! Two nodes in network namespaces, each with its packet path and a control that is nothing but this file: no LISP
//! control plane, every mapping is put by hand. Needs root.
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait, start processes and look into files"
)]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    fs::File,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use dataplane::{
    control::{
        Answer, Attachment, Change, Down, Event, GatewayConfig, Generation, Held, Hello, LocalExitConfig,
        MappingConfig, MappingTarget, NetworkConfig, NetworkId, NetworkKind, PathLocator, PolicyConfig, PolicyRule,
        PortConfig, PortId, Protection, Query, Service, Up, UplinkConfig, UplinkId,
    },
    link::{self, Link, Local, NOBODY, Spawn},
    port::{packet::open_packet, tap::open_tap, uplink_sockets::open_uplink, vnet},
};
use lisp::{InstanceId, Rloc};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

pub const PATIENCE: Duration = Duration::from_secs(10);
pub const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const SOURCE_PORTS: u8 = 4;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Network namespaces and what is in them; gone when it is dropped.
pub struct Lab {
    prefix: String,
    namespaces: Vec<String>,
    pub directory: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test needs root: it makes network namespaces and TAPs"
        );
        let prefix = format!("wdp{}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Self {
            prefix,
            namespaces: Vec::new(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn namespace(&mut self, name: &str) -> String {
        let full = format!("{}{name}", self.prefix);
        run(&["ip", "netns", "add", &full]);
        self.namespaces.push(full.clone());
        inside(&full, &["ip", "link", "set", "lo", "up"]);
        // No unasked-for packets: what a test counts is what it sent.
        inside(&full, &["sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"]);
        inside(
            &full,
            &["sysctl", "-qw", "net.ipv6.conf.default.router_solicitations=0"],
        );
        full
    }

    /// Underlay hosts `a` and `b`, joined by a veth with both families.
    pub fn underlay(&mut self) -> [String; 2] {
        let [a, b] = [self.namespace("ua"), self.namespace("ub")];
        inside(
            &a,
            &[
                "ip", "link", "add", "wan", "type", "veth", "peer", "name", "wan", "netns", &b,
            ],
        );
        for (host, v4, v6) in [(&a, RLOC4[0], RLOC6[0]), (&b, RLOC4[1], RLOC6[1])] {
            inside(host, &["ip", "addr", "add", &format!("{v4}/24"), "dev", "wan"]);
            inside(host, &["ip", "addr", "add", &format!("{v6}/64"), "dev", "wan", "nodad"]);
            inside(host, &["ip", "link", "set", "wan", "up"]);
        }
        for rloc in [RLOC4[1], RLOC6[1]] {
            until("the underlay is there", || ping(&a, rloc));
        }
        [a, b]
    }

    pub fn underlay_hosts(&self) -> [String; 2] {
        ["ua", "ub"].map(|name| format!("{}{name}", self.prefix))
    }

    /// A guest's namespace with a TAP of the host `host` as its `eth0`.
    pub fn tap_guest(&mut self, host: &str, index: usize) -> (String, OwnedFd) {
        let guest = self.namespace(&format!("g{index}"));
        let tap = within(host, || open_tap("tap0", false)).unwrap();
        inside(host, &["ip", "link", "set", "tap0", "netns", &guest, "name", "eth0"]);
        inside(&guest, &["ip", "link", "set", "eth0", "gso_max_size", "59000"]);
        configure_guest(&guest, index);
        (guest, tap)
    }

    /// A guest's namespace at the end of a veth, of which the other end `nic` stays in the host.
    pub fn veth_guest(&mut self, host: &str, index: usize) -> (String, OwnedFd) {
        let guest = self.namespace(&format!("g{index}"));
        inside(
            host,
            &[
                "ip", "link", "add", "nic", "type", "veth", "peer", "name", "eth0", "netns", &guest,
            ],
        );
        inside(host, &["sysctl", "-qw", "net.ipv6.conf.nic.disable_ipv6=1"]);
        inside(host, &["ip", "link", "set", "nic", "up"]);
        inside(&guest, &["ip", "link", "set", "eth0", "gso_max_size", "59000"]);
        configure_guest(&guest, index);
        (guest, within(host, || open_packet("nic")).unwrap())
    }

    pub fn socket(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

pub const RLOC4: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
pub const RLOC6: [&str; 2] = ["2001:db8::1", "2001:db8::2"];
pub const EID4: [&str; 3] = ["10.1.0.10", "10.1.0.20", "10.1.0.30"];
pub const EID6: [&str; 3] = ["fd00::a", "fd00::b", "fd00::c"];
pub const HOST4: [&str; 2] = ["10.1.9.1", "10.1.9.2"];

pub fn mac(index: usize) -> [u8; 6] {
    [2, 0, 0, 0, 1, index as u8]
}

fn configure_guest(guest: &str, index: usize) {
    let mac = mac(index).map(|byte| format!("{byte:02x}")).join(":");
    inside(
        guest,
        &["ip", "link", "set", "eth0", "address", &mac, "mtu", "1400", "up"],
    );
    inside(
        guest,
        &["ip", "addr", "add", &format!("{}/32", EID4[index]), "dev", "eth0"],
    );
    inside(
        guest,
        &[
            "ip",
            "addr",
            "add",
            &format!("{}/128", EID6[index]),
            "dev",
            "eth0",
            "nodad",
        ],
    );
    inside(
        guest,
        &[
            "ip", "route", "add", "default", "via", "10.1.0.1", "dev", "eth0", "onlink",
        ],
    );
    inside(
        guest,
        &["ip", "route", "add", "default", "via", "fe80::1", "dev", "eth0"],
    );
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Runs a command that must succeed.
#[track_caller]
pub fn run(command: &[&str]) -> String {
    let output = try_run(command);
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn try_run(command: &[&str]) -> Output {
    Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

#[track_caller]
pub fn inside(namespace: &str, command: &[&str]) -> String {
    run(&[&["ip", "netns", "exec", namespace], command].concat())
}

pub fn start_inside(namespace: &str, command: &[&str]) -> Child {
    Command::new("ip")
        .args(["netns", "exec", namespace])
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs `work` on a thread inside of a network namespace.
pub fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(Path::new("/run/netns").join(namespace)).unwrap();
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            })
            .join()
            .unwrap()
    })
}

/// Whether one ping comes back within a second.
pub fn ping(guest: &str, to: &str) -> bool {
    try_run(&["ip", "netns", "exec", guest, "ping", "-c1", "-W1", "-n", to])
        .status
        .success()
}

#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain waited for: {what}");
    }
}

/// Single-stream TCP for `seconds` from one guest to another, in Gbit/s.
pub fn iperf(from: &str, to: &str, address: &str, seconds: u32, more: &[&str]) -> f64 {
    let server = start_inside(to, &["iperf3", "-s", "-1", "-B", address]);
    until("iperf3 listens", || inside(to, &["ss", "-lnt"]).contains(":5201"));
    let seconds = seconds.to_string();
    let client = ["iperf3", "-J", "-c", address, "-t", &seconds];
    let report = inside(from, &[&client, more].concat());
    wait(server);
    let bits = report
        .split("\"sum_received\"")
        .nth(1)
        .and_then(|rest| rest.split("\"bits_per_second\":").nth(1))
        .and_then(|rest| rest.split([',', '\n']).next())
        .and_then(|number| number.trim().parse::<f64>().ok());
    bits.unwrap_or_else(|| panic!("no figure in {report}")) / 1e9
}

pub fn wait(mut child: Child) {
    child.wait().unwrap();
}

/// What a control of one node does.
pub struct Control {
    pub link: Link,
    sequence: u64,
    query: u64,
    pub events: Vec<Event>,
    acks: Vec<(u64, Result<(), String>)>,
    answers: Vec<(u64, Answer)>,
    pub hello: Option<Hello>,
    pub held: Vec<(Held, Vec<OwnedFd>)>,
}

impl Control {
    /// Over a fresh connection; returns when everything held has been handed over.
    pub fn new(link: Link) -> Self {
        let mut control = Self {
            link,
            sequence: 0,
            query: 0,
            events: Vec::new(),
            acks: Vec::new(),
            answers: Vec::new(),
            hello: None,
            held: Vec::new(),
        };
        control.listen_until("hello", |control| {
            control.hello.as_ref().is_some_and(|hello| {
                let expected = hello.ports.len() + hello.uplinks.len() + usize::from(hello.local_exit.is_some());
                control.held.len() == expected
            })
        });
        control.sequence = control.hello.as_ref().map_or(0, |hello| hello.sequence);
        control
    }

    #[track_caller]
    pub fn listen_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Looks after each message: the end of the link may come right behind the last one.
            while !done(self) {
                let Some((up, descriptors)) = self.link.receive().unwrap() else {
                    break;
                };
                match up {
                    Up::Hello(hello) => self.hello = Some(hello),
                    Up::Event(Event::Descriptors(held)) => self.held.push((held, descriptors)),
                    Up::Event(event) => self.events.push(event),
                    Up::Ack(number, result) => self.acks.push((number, result)),
                    Up::Answer(number, answer) => self.answers.push((number, answer)),
                }
            }
            if done(self) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "in vain waited for {what}; events: {:?}", self.events);
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: 100_000_000,
            };
            let flags = if self.link.flush().unwrap() {
                PollFlags::IN
            } else {
                PollFlags::IN | PollFlags::OUT
            };
            rustix::event::poll(&mut [PollFd::new(&self.link, flags)], Some(&timeout)).unwrap();
        }
    }

    pub fn try_change(&mut self, change: Change, descriptors: &[BorrowedFd<'_>]) -> Result<(), String> {
        self.sequence += 1;
        let number = self.sequence;
        self.link.send(&Down::Change(number, change), descriptors).unwrap();
        self.listen_until("acknowledgement", |control| !control.acks.is_empty());
        let (acked, result) = self.acks.remove(0);
        assert_eq!(acked, number, "acknowledged in order");
        result
    }

    #[track_caller]
    pub fn change(&mut self, change: Change, descriptors: &[BorrowedFd<'_>]) {
        let named = format!("{change:?}");
        self.try_change(change, descriptors)
            .unwrap_or_else(|error| panic!("{named}: {error}"));
    }

    pub fn ask(&mut self, query: Query) -> Answer {
        self.query += 1;
        let number = self.query;
        self.link.send(&Down::Query(number, query), &[]).unwrap();
        self.listen_until("answer", |control| !control.answers.is_empty());
        let (answered, answer) = self.answers.remove(0);
        assert_eq!(answered, number);
        answer
    }

    pub fn counter(&mut self, name: &str) -> u64 {
        let Answer::Counters(all) = self.ask(Query::Counters) else {
            panic!()
        };
        all.iter()
            .find(|(found, _)| found == name)
            .unwrap_or_else(|| panic!("no {name} in {all:#?}"))
            .1
    }

    pub fn counters(&mut self) -> Vec<(String, u64)> {
        let Answer::Counters(all) = self.ask(Query::Counters) else {
            panic!()
        };
        all.into_iter().filter(|(_, value)| *value != 0).collect()
    }
}

/// A node: its packet path, its control, and the descriptors that control keeps.
pub struct Node {
    pub control: Control,
    pub path: PacketPath,
    pub guest: String,
    pub index: usize,
    port: OwnedFd,
    attachment: Attachment,
    uplink: Vec<OwnedFd>,
    underlay: &'static [&'static str; 2],
}

/// How the packet path runs.
pub enum PacketPath {
    /// A process of its own, in its sandbox.
    Process { child: Child, socket: PathBuf },
    /// A thread of this process.
    Thread(Local),
}

impl PacketPath {
    pub fn pid(&self) -> u32 {
        match self {
            Self::Process { child, .. } => child.id(),
            Self::Thread(_) => std::process::id(),
        }
    }
}

impl Drop for PacketPath {
    fn drop(&mut self) {
        if let Self::Process { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn spawn(socket: PathBuf) -> PacketPath {
    let child = link::spawn(&Spawn {
        binary: env!("CARGO_BIN_EXE_weft-dataplane").into(),
        arguments: Vec::new(),
        socket: socket.clone(),
        uid: NOBODY,
        gid: NOBODY,
    })
    .unwrap();
    PacketPath::Process { child, socket }
}

/// How a guest is attached.
#[derive(Clone, Copy, Debug)]
pub enum By {
    Tap,
    Veth,
}

/// Two nodes with a guest each, over an underlay of one family.
pub fn two_nodes(lab: &mut Lab, by: By, underlay: &'static [&'static str; 2]) -> [Node; 2] {
    let hosts = lab.underlay();
    let mut nodes = [0, 1].map(|index| {
        let host = &hosts[index];
        let ((guest, port), attachment) = match by {
            By::Tap => (
                lab.tap_guest(host, index),
                Attachment::Tap {
                    interface: "tap0".into(),
                    vnet_header: vnet::HEADER,
                },
            ),
            By::Veth => (
                lab.veth_guest(host, index),
                Attachment::Packet {
                    interface: "nic".into(),
                    vnet_header: vnet::HEADER,
                },
            ),
        };
        let address = ip(underlay[index]);
        let uplink = within(host, || open_uplink(&[address], SOURCE_PORTS, Some("wan"))).unwrap();
        let socket = lab.socket(&format!("dataplane{index}.sock"));
        let path = spawn(socket.clone());
        let control = Control::new(link::connect(&socket).unwrap());
        Node {
            control,
            path,
            guest,
            index,
            port,
            attachment,
            uplink,
            underlay,
        }
    });
    for node in &mut nodes {
        node.put_everything(true);
    }
    nodes
}

impl Node {
    pub fn socket(&self) -> PathBuf {
        match &self.path {
            PacketPath::Process { socket, .. } => socket.clone(),
            PacketPath::Thread(_) => panic!("a thread has no socket"),
        }
    }

    /// The full state, with or without descriptors.
    pub fn put_everything(&mut self, with_descriptors: bool) {
        let port = self.port_config();
        let control = &mut self.control;
        control.change(Change::Resync, &[]);
        control.change(Change::PutNetwork(mesh(self.index)), &[]);
        control.change(Change::PutPolicy(allow_all()), &[]);
        let uplink = UplinkConfig {
            id: UplinkId(1),
            name: "wan".into(),
            addresses: vec![ip(self.underlay[self.index])],
            source_ports: SOURCE_PORTS,
            mtu: 1500,
        };
        let sockets: Vec<BorrowedFd<'_>> = if with_descriptors {
            self.uplink.iter().map(AsFd::as_fd).collect()
        } else {
            Vec::new()
        };
        control.change(Change::PutUplink(uplink), &sockets);
        let port_descriptor: &[BorrowedFd<'_>] = if with_descriptors { &[self.port.as_fd()] } else { &[] };
        control.change(Change::PutPort(port), port_descriptor);
        let other = 1 - self.index;
        for eid in [EID4[other], EID6[other], HOST4[other]] {
            control.change(Change::PutMapping(mapping(eid, self.underlay[other])), &[]);
        }
        control.change(Change::Commit(Generation(1)), &[]);
    }
}

impl Node {
    pub fn port_config(&self) -> PortConfig {
        PortConfig {
            id: PortId(1),
            name: format!("guest{}/eth0", self.index),
            network: NetworkId(1),
            attachment: self.attachment.clone(),
            mac: mac(self.index),
            addresses: vec![ip(EID4[self.index]), ip(EID6[self.index])],
            routed: Vec::new(),
            gateway: gateway(),
            host_name: format!("guest{}", self.index),
        }
    }

    /// The same network, sealed, with these SAs.
    pub fn seal(&mut self, sa: dataplane::control::SaConfig) {
        let (node, other) = (sa.node, 1 - self.index);
        let mut network = mesh(self.index);
        if let NetworkKind::Mesh { protection, .. } = &mut network.kind {
            *protection = Protection::Sealed;
        }
        self.control.change(Change::PutNetwork(network), &[]);
        for eid in [EID4[other], EID6[other], HOST4[other]] {
            let mapping = MappingConfig {
                node: Some(node),
                ..mapping(eid, self.underlay[other])
            };
            let prefix = mapping.prefix;
            let binding = dataplane::control::BindingConfig { prefix, node };
            self.control.change(Change::PutMapping(mapping), &[]);
            self.control.change(Change::PutBinding(binding), &[]);
        }
        self.control.change(Change::PutSa(sa), &[]);
    }

    pub fn try_put_port_without_descriptor(&mut self) -> Result<(), String> {
        self.control.change(Change::PutNetwork(mesh(self.index)), &[]);
        let config = self.port_config();
        self.control.try_change(Change::PutPort(config), &[])
    }

    /// Takes over what the packet path has handed out, as a control that was started anew.
    pub fn adopt_held(&mut self) {
        for (held, mut descriptors) in std::mem::take(&mut self.control.held) {
            match held {
                Held::Port(_) => self.port = descriptors.pop().unwrap(),
                Held::Uplink(_) => self.uplink = descriptors,
                Held::LocalExit => {}
            }
        }
    }
}

pub fn mesh(index: usize) -> NetworkConfig {
    NetworkConfig {
        id: NetworkId(1),
        name: "mesh".into(),
        kind: NetworkKind::Mesh {
            instance_id: InstanceId::new(7).unwrap(),
            protection: Protection::Clear,
            eid_prefixes: Vec::new(),
        },
        names: Vec::new(),
        domain: "mesh.test".into(),
        host_addresses: vec![ip(HOST4[index])],
    }
}

pub fn allow_all() -> PolicyConfig {
    let rule = PolicyRule {
        name: "all".into(),
        from: Vec::new(),
        to: Vec::new(),
        service: Service::Any,
        allow: true,
    };
    PolicyConfig {
        network: NetworkId(1),
        rules: vec![rule],
    }
}

pub fn gateway() -> GatewayConfig {
    GatewayConfig {
        mac: GATEWAY_MAC,
        ipv4: Some(("10.1.0.1".parse().unwrap(), "10.1.0.0/16".parse().unwrap())),
        ipv6: "fe80::1".parse().unwrap(),
        mtu: 1400,
        lease: Duration::from_secs(600),
        dns_upstream: Vec::new(),
    }
}

pub fn mapping(eid: &str, rloc: &str) -> MappingConfig {
    let length = if ip(eid).is_ipv4() { 32 } else { 128 };
    let prefix = lisp::EidPrefix::new(InstanceId::new(7).unwrap(), format!("{eid}/{length}").parse().unwrap());
    let locator = PathLocator {
        rloc: Rloc::new(ip(rloc)),
        priority: 1,
        weight: 100,
        reachable: true,
    };
    MappingConfig {
        prefix,
        target: MappingTarget::Locators(vec![locator]),
        node: None,
    }
}

pub fn local_exit() -> LocalExitConfig {
    LocalExitConfig {
        interface: "exit".into(),
        vnet_header: vnet::HEADER,
        ipv4: Some("198.18.0.2".parse().unwrap()),
        ipv6: None,
        mtu: 1500,
    }
}
