//! The packet path as it runs in life: processes in their sandbox, TAPs, veths, UDP sockets, in network namespaces.
//! Needs root, `iproute2`, `iputils-ping`, `iperf3`.
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait, start processes and look into files"
)]

mod exchange;
mod lab;

use std::{fs, os::fd::AsFd, process::Stdio, time::Duration};

use dataplane::{
    buffer::{DatagramRun, Pool},
    control::{
        Answer, Attachment, Change, Down, Event, NetworkConfig, NetworkId, NetworkKind, PathHealth, PolicyConfig,
        PortConfig, PortId, Query, UplinkConfig, UplinkId,
    },
    link::{self, NOBODY},
    port::{TooSmall, UplinkPort, tap::open_local_exit, udp::UdpUplink, uplink_sockets::open_uplink, vnet},
};
use lab::{By, Control, EID4, EID6, HOST4, Lab, RLOC4, RLOC6, ip, iperf, ping, two_nodes, until};
use lisp::Rloc;

/// Both families inside and outside, fragments too.
#[test]
fn two_nodes_carry_pings_and_tcp() {
    for (by, underlay) in [(By::Tap, &RLOC4), (By::Tap, &RLOC6), (By::Veth, &RLOC4)] {
        let mut lab = Lab::new();
        let mut nodes = two_nodes(&mut lab, by, underlay);
        let [a, b] = nodes.each_ref().map(|node| node.guest.clone());
        for eid in [EID4[1], EID6[1]] {
            assert!(ping(&a, eid), "{by:?}, {underlay:?}: ping {eid}");
        }
        lab::inside(&a, &["ping", "-c1", "-W1", "-s", "3000", EID4[1]]);
        for (from, to, eid) in [(&a, &b, EID4[1]), (&b, &a, EID6[0])] {
            println!("{by:?} {underlay:?} {eid}: {:.2} Gbit/s", iperf(from, to, eid, 1, &[]));
        }
        for node in &mut nodes {
            let name = format!("guest_port.guest{}/eth0.rx_invalid", node.index);
            assert_eq!(node.control.counter(&name), 0);
            assert_eq!(node.control.counter("uplink.wan.failed"), 0);
            assert_eq!(node.control.counter("uplink.wan.segmentation"), 1);
        }
    }
}

/// Figures for the tuning of the packet path: `cargo test --release -p dataplane --test process -- --ignored --nocapture`.
#[test]
#[ignore = "figures, nothing asserted"]
fn figures() {
    let seconds = std::env::var("WEFT_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    for by in [By::Tap, By::Veth] {
        let mut lab = Lab::new();
        let nodes = two_nodes(&mut lab, by, &RLOC4);
        let [a, b] = nodes.each_ref().map(|node| node.guest.clone());
        let [under_a, under_b] = lab.underlay_hosts();
        println!(
            "underlay: {:.2} Gbit/s",
            iperf(&under_a, &under_b, RLOC4[1], seconds, &[])
        );
        for (from, to, eid) in [(&a, &b, EID4[1]), (&a, &b, EID6[1]), (&b, &a, EID4[0])] {
            println!("{by:?} to {eid}: {:.2} Gbit/s", iperf(from, to, eid, seconds, &[]));
        }
        for node in &nodes {
            let stat = fs::read_to_string(format!("/proc/{}/stat", node.path.pid())).unwrap();
            let times: Vec<&str> = stat.split(' ').skip(13).take(2).collect();
            println!("node {}: user and system time in 10 ms: {times:?}", node.index);
        }
    }
}

/// Figures for small packets, likewise.
#[test]
#[ignore = "figures, nothing asserted"]
fn figures_of_small_packets() {
    let seconds = std::env::var("WEFT_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    for by in [By::Tap, By::Veth] {
        let mut lab = Lab::new();
        let mut nodes = two_nodes(&mut lab, by, &RLOC4);
        let [a, b] = nodes.each_ref().map(|node| node.guest.clone());
        let [under_a, under_b] = lab.underlay_hosts();
        let more = ["-u", "-b", "0", "-l", "64"];
        let millions = |gigabits: f64| gigabits * 1e3 / 8.0 / 64.0;
        println!(
            "underlay: {:.3} Mpps",
            millions(iperf(&under_a, &under_b, RLOC4[1], seconds, &more))
        );
        println!("{by:?}: {:.3} Mpps", millions(iperf(&a, &b, EID4[1], seconds, &more)));
        for node in &mut nodes {
            println!("node {}: {:?}", node.index, node.control.counters());
        }
    }
}

/// Sealed between two processes in their sandboxes; the SAs outlive control, which has no keys any more.
#[test]
fn a_sealed_mesh_lives_on_without_control() {
    for suite in [lisp::mesh::Suite::Aes128Gcm, lisp::mesh::Suite::ChaCha20Poly1305] {
        let mut lab = Lab::new();
        let mut nodes = two_nodes(&mut lab, By::Tap, &RLOC4);
        let (ours, theirs) = exchange::exchange(suite, 1);
        for (index, sa) in [ours, theirs].into_iter().enumerate() {
            nodes[index].seal(sa);
        }
        let [a, b] = nodes.each_ref().map(|node| node.guest.clone());
        assert!(ping(&a, EID4[1]) && ping(&b, EID6[0]));
        lab::inside(&a, &["ping", "-c1", "-W1", "-s", "3000", EID4[1]]);
        println!("{suite}: {:.2} Gbit/s", iperf(&a, &b, EID4[1], 1, &[]));
        let socket = nodes[0].socket();
        drop(std::mem::replace(&mut nodes[0].control.link, unconnected()));
        assert!(ping(&a, EID4[1]));
        let mut control = Control::new(link::connect(&socket).unwrap());
        let sas = control.hello.clone().unwrap().sas;
        assert_eq!((sas.len(), sas[0].suite, sas[0].confirmed), (1, suite, true));
        assert!(sas[0].sealed > 10 && sas[0].opened > 10);
        assert_eq!(control.counter("drop.sealed-bad-tag"), 0);
        assert_eq!(control.counter("drop.no-mesh-sa"), 0);
    }
}

/// A control that dies takes nothing along; the next one is handed everything, and its full state disturbs nothing.
#[test]
fn packets_flow_while_control_is_gone_and_a_new_one_keeps_connections() {
    let mut lab = Lab::new();
    let [mut a, b] = two_nodes(&mut lab, By::Tap, &RLOC4);
    let (guest_a, guest_b) = (a.guest.clone(), b.guest.clone());
    let mut stream = Stream::start(&guest_a, &guest_b);
    stream.echo("one");

    // Gone without a word, as by kill -9.
    let socket = a.socket();
    drop(std::mem::replace(&mut a.control.link, unconnected()));
    stream.echo("two");
    assert!(ping(&guest_a, EID4[1]), "a new connection, and nobody who decides");

    // A new one, which has nothing of what the old one had.
    let before = connections(&mut Control::new(link::connect(&socket).unwrap()));
    assert!(before >= 2, "the stream and the ping");
    let mut control = Control::new(link::connect(&socket).unwrap());
    let hello = control.hello.clone().unwrap();
    assert_eq!((hello.pid, hello.generation.0), (a.path.pid(), 1));
    assert_eq!((hello.ports.len(), hello.uplinks.len()), (1, 1));
    let descriptors: Vec<usize> = control.held.iter().map(|(_, descriptors)| descriptors.len()).collect();
    assert_eq!(descriptors, [1, 1 + usize::from(lab::SOURCE_PORTS)]);
    let sent = control.counter("uplink.wan.tx_packets");
    std::mem::swap(&mut a.control, &mut control);

    // Its full state, once without descriptors and once with those that it was handed.
    a.put_everything(false);
    stream.echo("three");
    a.adopt_held();
    a.put_everything(true);
    stream.echo("four");
    assert!(connections(&mut a.control) >= before, "connections live on");
    assert!(a.control.counter("uplink.wan.tx_packets") > sent, "counters too");

    // What is not named is dropped at the commit, and not before.
    a.control.change(Change::Resync, &[]);
    a.control.change(Change::PutNetwork(lab::mesh(0)), &[]);
    stream.echo("five");
    a.control.change(Change::Commit(dataplane::control::Generation(2)), &[]);
    assert!(!ping(&guest_a, EID4[1]));
    let hello = Control::new(link::connect(&socket).unwrap()).hello.unwrap();
    assert_eq!((hello.ports.len(), hello.uplinks.len(), hello.generation.0), (0, 0, 2));
}

/// The newest connection is the one; the older one ends.
#[test]
fn the_newest_control_wins() {
    let mut lab = Lab::new();
    let [mut a, _b] = two_nodes(&mut lab, By::Tap, &RLOC4);
    let _newer = Control::new(link::connect(&a.socket()).unwrap());
    until("the older connection ends", || a.control.link.receive().is_err());
}

/// The packet path dies, and another is given the descriptors that control has kept: TCP does not notice.
#[test]
fn a_new_packet_path_resumes_with_the_same_descriptors() {
    let mut lab = Lab::new();
    let [mut a, b] = two_nodes(&mut lab, By::Tap, &RLOC4);
    let (guest_a, guest_b) = (a.guest.clone(), b.guest.clone());
    let mut stream = Stream::start(&guest_a, &guest_b);
    stream.echo("one");
    let socket = a.socket();
    let old = std::mem::replace(&mut a.path, lab::spawn(lab.socket("unused")));
    drop(old);
    until("control sees it", || a.control.link.receive().is_err());
    assert!(link::connect(&socket).is_err(), "nobody listens");
    a.path = lab::spawn(socket.clone());
    a.control = Control::new(link::connect(&socket).unwrap());
    assert!(
        a.control
            .hello
            .as_ref()
            .is_some_and(|hello| hello.ports.is_empty() && hello.sequence == 0)
    );
    let refused = a.try_put_port_without_descriptor();
    assert!(refused.is_err_and(|why| why.contains("descriptor")), "it has none");
    a.put_everything(true);
    stream.echo("two");
    assert!(ping(&guest_b, EID4[0]));
}

/// The process has another user, no capabilities, no new privileges, filters; and cannot open a file.
#[test]
fn the_process_has_no_rights() {
    let mut lab = Lab::new();
    let [mut a, _b] = two_nodes(&mut lab, By::Tap, &RLOC4);
    let status = fs::read_to_string(format!("/proc/{}/status", a.path.pid())).unwrap();
    let field = |name: &str| {
        let line = status
            .lines()
            .find(|line| line.starts_with(&format!("{name}:")))
            .unwrap_or_else(|| panic!("{status}"));
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    let nobody = NOBODY.to_string();
    for ids in ["Uid", "Gid"] {
        assert_eq!(field(ids), [nobody.as_str(); 4].join(" "));
    }
    assert_eq!(field("Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!((field("NoNewPrivs").as_str(), field("Seccomp").as_str()), ("1", "2"));
    assert_eq!(field("Threads"), "1");
    // The process itself refuses to run when it can still open a file or a socket (`sandbox::look_for_holes`).
    assert_eq!(a.control.counter("sandbox.seccomp"), 1);
    // What it holds: listener, epoll, control, its doors, standard streams; no file.
    let held: Vec<String> = fs::read_dir(format!("/proc/{}/fd", a.path.pid()))
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .collect();
    let expected = |target: &str| {
        [
            "socket:[",
            "anon_inode:[eventpoll]",
            "/dev/net/tun",
            "/dev/null",
            "pipe:[",
            "/dev/pts/",
        ]
        .iter()
        .any(|known| target.starts_with(known))
    };
    let surprising: Vec<&String> = held.iter().filter(|target| !expected(target)).collect();
    assert!(surprising.len() <= 1, "standard error, perhaps: {surprising:?}");
}

/// Started by hand it says what is wrong, and does not run.
#[test]
fn it_refuses_to_run_without_a_listener_or_as_root() {
    let start = |lab: &Lab, uid: &str| {
        let mut command = link::command(
            &link::Spawn {
                binary: env!("CARGO_BIN_EXE_weft-dataplane").into(),
                arguments: Vec::new(),
                socket: lab.socket("x"),
                uid: uid.parse().unwrap(),
                gid: NOBODY,
            },
            link::listen(&lab.socket("x")).unwrap(),
        );
        command.stderr(Stdio::piped());
        command
    };
    let lab = Lab::new();
    let output = start(&lab, "0").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("superuser"));
    let output = start(&lab, "65534").stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("weft up"));
}

/// Told to quit it answers, and ends in order.
#[test]
fn it_ends_when_told() {
    let mut lab = Lab::new();
    let [mut a, _b] = two_nodes(&mut lab, By::Tap, &RLOC4);
    assert_eq!(a.control.ask(Query::Quit), Answer::Ok);
    let lab::PacketPath::Process { child, .. } = &mut a.path else {
        panic!()
    };
    assert!(child.wait().unwrap().success());
}

/// The node's own host answers pings and sends them, over the mesh.
#[test]
fn hosts_ping_each_other_and_guests() {
    let mut lab = Lab::new();
    let [mut a, b] = two_nodes(&mut lab, By::Tap, &RLOC4);
    let ask = |to: &str, size| Query::Ping {
        network: NetworkId(1),
        destination: ip(to),
        sequence: 3,
        size,
        timeout: Duration::from_secs(2),
    };
    for (to, size) in [(HOST4[1], 56), (EID4[1], 1300), (EID4[0], 0)] {
        assert!(matches!(a.control.ask(ask(to, size)), Answer::Ping(Some(_))), "{to}");
    }
    assert!(ping(&b.guest, HOST4[0]));
    let Answer::Refused(why) = a.control.ask(ask(EID6[1], 56)) else {
        panic!("it has no IPv6 address")
    };
    assert!(why.contains("family"));
    assert!(matches!(a.control.ask(ask(HOST4[1], 2000)), Answer::Refused(_)));
}

/// A guest of a local network reaches the host's network through the exit, and TCP comes back.
#[test]
fn a_guest_leaves_by_the_local_exit() {
    let mut lab = Lab::new();
    let [mut a, _b] = two_nodes(&mut lab, By::Tap, &RLOC4);
    let [host, _] = lab.underlay_hosts();
    let exit = lab::within(&host, || open_local_exit("exit")).unwrap();
    lab::inside(&host, &["ip", "addr", "add", "198.18.0.1/30", "dev", "exit"]);
    lab::inside(&host, &["ip", "link", "set", "exit", "up"]);
    let network = NetworkConfig {
        id: NetworkId(2),
        kind: NetworkKind::Local {
            nat44: true,
            nat66: false,
        },
        host_addresses: Vec::new(),
        name: "local".into(),
        ..lab::mesh(0)
    };
    a.control.change(Change::PutNetwork(network), &[]);
    a.control.change(
        Change::PutPolicy(PolicyConfig {
            network: NetworkId(2),
            ..lab::allow_all()
        }),
        &[],
    );
    a.control
        .change(Change::PutLocalExit(lab::local_exit()), &[exit.as_fd()]);
    let (guest, tap) = lab.tap_guest(&host, 2);
    let port = PortConfig {
        id: PortId(2),
        name: "local/eth0".into(),
        network: NetworkId(2),
        attachment: Attachment::Tap {
            interface: "tap0".into(),
            vnet_header: vnet::HEADER,
        },
        mac: lab::mac(2),
        addresses: vec![ip(EID4[2])],
        routed: Vec::new(),
        gateway: lab::gateway(),
        host_name: "local".into(),
    };
    a.control.change(Change::PutPort(port), &[tap.as_fd()]);
    assert!(ping(&guest, "198.18.0.1"));
    println!("local exit: {:.2} Gbit/s", iperf(&guest, &host, "198.18.0.1", 1, &[]));
    a.control.change(Change::RemoveLocalExit, &[]);
    assert!(!ping(&guest, "198.18.0.1"), "no exit, no packet");
}

/// What the kernel knows of a smaller path is told.
#[test]
fn a_smaller_path_is_told() {
    let mut lab = Lab::new();
    let [mut a, _b] = two_nodes(&mut lab, By::Tap, &RLOC4);
    let [host, _] = lab.underlay_hosts();
    lab::inside(
        &host,
        &[
            "ip",
            "route",
            "add",
            &format!("{}/32", RLOC4[1]),
            "dev",
            "wan",
            "mtu",
            "1300",
        ],
    );
    assert!(!{
        let sized = [
            "ip", "netns", "exec", &a.guest, "ping", "-c1", "-W1", "-s", "1300", EID4[1],
        ];
        lab::try_run(&sized).status.success()
    });
    let rloc = Rloc::new(ip(RLOC4[1]));
    let told = |event: &Event| matches!(event, Event::PathTooSmall { rloc: told, size: 1364 } if *told == rloc);
    a.control
        .listen_until("the event", |control| control.events.iter().any(told));
    let mtu = lab::within(&host, || {
        dataplane::port::uplink_sockets::path_mtu(ip(RLOC4[0]), ip(RLOC4[1])).unwrap()
    });
    assert_eq!(mtu, 1300);
    a.control.change(
        Change::PutPathHealth(PathHealth {
            rloc,
            up: true,
            mtu: Some(mtu),
        }),
        &[],
    );
    // Now the guest is told, and its packets fit.
    until("the guest's packets fit", || {
        lab::try_run(&[
            "ip", "netns", "exec", &a.guest, "ping", "-c1", "-W1", "-s", "1300", EID4[1],
        ])
        .status
        .success()
    });
}

/// Of a run of which some datagrams are too large the others leave, and the size is told once.
#[test]
fn a_run_beyond_the_path_leaves_as_far_as_it_fits() {
    let mut lab = Lab::new();
    let [host, _] = lab.underlay();
    let config = UplinkConfig {
        id: UplinkId(1),
        name: "wan".into(),
        addresses: vec![ip(RLOC4[0])],
        source_ports: 1,
        mtu: 1500,
    };
    let sockets = lab::within(&host, || open_uplink(&config.addresses, 1, Some("wan"))).unwrap();
    let mut uplink = UdpUplink::new(config, sockets).unwrap();
    let mut run = DatagramRun::new();
    run.set_len(3 * 1473 + 100);
    run.stride = 1473;
    (run.local, run.remote) = (ip(RLOC4[0]), (ip(RLOC4[1]), 4341).into());
    let mut too_small = Vec::new();
    let sent = uplink
        .tx_burst(&mut Pool::default(), &mut vec![run], &mut too_small)
        .unwrap();
    assert_eq!(sent, 1, "the last, shorter one");
    let expected = TooSmall {
        remote: (ip(RLOC4[1]), 4341).into(),
        size: 1473 + 28,
    };
    assert_eq!(too_small, [expected]);
    assert!(uplink.has_segmentation(), "a size is no reason to give it up");
}

/// An uplink that is slower than its guests holds them back; nothing is lost between.
#[test]
fn a_slow_uplink_holds_guests_back() {
    let mut lab = Lab::new();
    let [mut a, b] = two_nodes(&mut lab, By::Tap, &RLOC4);
    let [host, _] = lab.underlay_hosts();
    let shape = [
        "tc", "qdisc", "add", "dev", "wan", "root", "tbf", "rate", "200mbit", "burst", "128kb", "limit", "64mb",
    ];
    lab::inside(&host, &shape);
    let udp = iperf(&a.guest, &b.guest, EID4[1], 2, &["-u", "-b", "2G", "-l", "1000"]);
    let tcp = iperf(&a.guest, &b.guest, EID4[1], 2, &[]);
    println!("through 200 Mbit/s: UDP {udp:.3}, TCP {tcp:.3} Gbit/s");
    assert!(a.control.counter("uplink.wan.times_full") > 0, "it was full");
    assert_eq!(a.control.counter("uplink.wan.tx_no_room"), 0);
    assert_eq!(a.control.counter("uplink.wan.failed"), 0);
    assert!(ping(&b.guest, EID4[0]));
}

/// An interface that is deleted under a port is an event, and the rest goes on.
#[test]
fn a_deleted_interface_is_an_event() {
    for by in [By::Tap, By::Veth] {
        let mut lab = Lab::new();
        let [mut a, _b] = two_nodes(&mut lab, by, &RLOC4);
        lab::inside(&a.guest, &["ip", "link", "del", "eth0"]);
        let failed = |event: &Event| matches!(event, Event::PortFailed(PortId(1), _));
        a.control
            .listen_until("the event", |control| control.events.iter().any(failed));
        assert!(a.control.counter("control.connections") > 0, "it lives");
    }
}

/// A control that asks and never reads does not hold packets up.
#[test]
fn a_slow_control_holds_nothing_up() {
    let mut lab = Lab::new();
    let [mut a, _b] = two_nodes(&mut lab, By::Tap, &RLOC4);
    for number in 0..2_000 {
        // Beyond what the socket holds this queues here, which is fine too.
        a.control.link.send(&Down::Query(number, Query::Counters), &[]).unwrap();
    }
    assert!(ping(&a.guest, EID4[1]));
}

fn connections(control: &mut Control) -> usize {
    let Answer::Connections(all) = control.ask(Query::Connections) else {
        panic!()
    };
    all.len()
}

fn unconnected() -> link::Link {
    let (link, _) = dataplane::channel::pair::<_, dataplane::control::Up>().unwrap();
    link
}

/// A TCP connection between two guests that lives as long as the test.
struct Stream {
    server: std::process::Child,
    client: std::process::Child,
    said: std::process::ChildStdin,
    heard: std::io::BufReader<std::process::ChildStdout>,
}

impl Stream {
    fn start(from: &str, to: &str) -> Self {
        let server = lab::start_inside(to, &["socat", &format!("TCP-LISTEN:7,bind={}", EID4[1]), "EXEC:cat"]);
        until("socat listens", || lab::inside(to, &["ss", "-lnt"]).contains(":7 "));
        let mut client = std::process::Command::new("ip")
            .args(["netns", "exec", from, "socat", "-", &format!("TCP:{}:7", EID4[1])])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = client.stdin.take().unwrap();
        let heard = std::io::BufReader::new(client.stdout.take().unwrap());
        Self {
            server,
            client,
            said,
            heard,
        }
    }

    /// What is said comes back.
    #[track_caller]
    fn echo(&mut self, word: &str) {
        use std::io::{BufRead, Write};
        writeln!(self.said, "{word}").unwrap();
        let mut line = String::new();
        self.heard.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), word);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        for child in [&mut self.client, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
