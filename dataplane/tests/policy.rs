//! Default deny, stateful; tables that change under open connections; control that comes back.

mod common;

use std::time::Duration;

use common::*;
use dataplane::control::{
    Answer, CaptureFilter, Change, Event, Generation, NetworkId, PathHealth, PortId, Query, Service,
};
use etherparse::TcpHeader;
use lisp::{InstanceId, Rloc};

fn node() -> (Node, Guest, Guest) {
    let mut node = Node::new(&["192.0.2.1"]);
    node.mesh(1, 7);
    let one = node.port(1, 1, &["10.7.0.1", "fd00::1"]);
    let two = node.port(2, 1, &["10.7.0.2", "fd00::2"]);
    (node, one, two)
}

fn tcp(source: u16, destination: u16, flags: &str) -> TcpHeader {
    let mut tcp = TcpHeader::new(source, destination, 1, 1000);
    tcp.syn = flags.contains('S');
    tcp.ack = flags.contains('A');
    tcp.rst = flags.contains('R');
    tcp.fin = flags.contains('F');
    tcp
}

fn passes(node: &mut Node, guest: &Guest, frame: &[u8]) -> bool {
    node.send(guest, frame).to_ports.len() == 1
}

#[test]
fn rules_decide_in_order_and_answers_pass() {
    let (mut node, one, two) = node();
    node.allow(1, vec![]);
    let to_two = Spec::new(&one, "10.7.0.1", "10.7.0.2");
    let to_one = Spec::new(&two, "10.7.0.2", "10.7.0.1");
    assert!(!passes(&mut node, &one, &to_two.udp(1, 53, b"x")), "no rule, no packet");
    node.allow(
        1,
        vec![
            rule("no-telnet", &[], &[], Service::Tcp(vec![23..=23]), false),
            rule(
                "web",
                &["10.7.0.1/32"],
                &["10.7.0.2/32"],
                Service::Tcp(vec![20..=30, 80..=80]),
                true,
            ),
            rule("dns", &["10.7.0.0/24"], &[], Service::Udp(vec![53..=53]), true),
            rule("ping", &["10.7.0.1/32"], &[], Service::Icmp, true),
            rule("gre", &[], &[], Service::Protocol(47), true),
        ],
    );
    assert!(passes(&mut node, &one, &to_two.tcp(&tcp(1000, 80, "S"), &[])));
    assert!(passes(&mut node, &one, &to_two.tcp(&tcp(1000, 22, "S"), &[])));
    assert!(
        !passes(&mut node, &one, &to_two.tcp(&tcp(1000, 23, "S"), &[])),
        "the first that fits decides"
    );
    assert!(!passes(&mut node, &one, &to_two.tcp(&tcp(1000, 81, "S"), &[])));
    assert!(!passes(&mut node, &one, &to_two.udp(1000, 80, b"x")));
    assert!(passes(&mut node, &one, &to_two.udp(1000, 53, b"x")));
    assert!(passes(&mut node, &one, &to_two.echo(true, 5)));
    assert!(passes(&mut node, &one, &to_two.frame(47, &[0; 8])));
    // Answers, and nothing but answers.
    assert!(passes(&mut node, &two, &to_one.tcp(&tcp(80, 1000, "SA"), &[])));
    assert!(
        !passes(&mut node, &two, &to_one.tcp(&tcp(80, 1000, "S"), &[])),
        "a SYN backwards is no answer"
    );
    assert!(!passes(&mut node, &two, &to_one.tcp(&tcp(80, 1001, "SA"), &[])));
    assert!(passes(&mut node, &two, &to_one.udp(53, 1000, b"x")));
    assert!(!passes(&mut node, &two, &to_one.udp(53, 1001, b"x")));
    assert!(passes(&mut node, &two, &to_one.echo(false, 5)));
    assert!(!passes(&mut node, &two, &to_one.echo(false, 6)));
    assert!(!passes(&mut node, &two, &to_one.echo(true, 5)));
}

#[test]
fn a_connection_ends_when_it_has_ended() {
    let (mut node, one, two) = node();
    node.allow(1, vec![rule("web", &["10.7.0.1/32"], &[], Service::Any, true)]);
    let there = Spec::new(&one, "10.7.0.1", "10.7.0.2");
    let back = Spec::new(&two, "10.7.0.2", "10.7.0.1");
    let state = |node: &mut Node| {
        let Some(Answer::Connections(all)) = node.engine.query(node.now, &Query::Connections) else {
            panic!()
        };
        all.iter()
            .map(|c| format!("{} > {} {}", c.source, c.destination, c.state))
            .collect::<Vec<_>>()
    };
    passes(&mut node, &one, &there.tcp(&tcp(1000, 80, "S"), &[]));
    assert_eq!(state(&mut node), ["10.7.0.1:1000 > 10.7.0.2:80 opening"]);
    passes(&mut node, &two, &back.tcp(&tcp(80, 1000, "SA"), &[]));
    assert_eq!(state(&mut node), ["10.7.0.1:1000 > 10.7.0.2:80 established"]);
    node.tick(Duration::from_secs(3600));
    assert!(passes(
        &mut node,
        &two,
        &back.tcp(&tcp(80, 1000, "A"), b"still here after an hour")
    ));
    passes(&mut node, &one, &there.tcp(&tcp(1000, 80, "FA"), &[]));
    passes(&mut node, &two, &back.tcp(&tcp(80, 1000, "FA"), &[]));
    assert_eq!(state(&mut node), ["10.7.0.1:1000 > 10.7.0.2:80 closing"]);
    assert!(
        passes(&mut node, &one, &there.tcp(&tcp(1000, 80, "A"), &[])),
        "the last ACK"
    );
    node.tick(Duration::from_secs(11));
    assert_eq!(state(&mut node), [""; 0]);
    assert!(!passes(&mut node, &two, &back.tcp(&tcp(80, 1000, "A"), &[])));
    assert_eq!(node.counters()["connection.closed"], 1);
    // UDP: a minute for an answer, five when there was one.
    passes(&mut node, &one, &there.udp(1, 53, b"x"));
    node.tick(Duration::from_secs(61));
    assert!(!passes(&mut node, &two, &back.udp(53, 1, b"late")));
    passes(&mut node, &one, &there.udp(1, 53, b"x"));
    passes(&mut node, &two, &back.udp(53, 1, b"x"));
    node.tick(Duration::from_secs(200));
    assert!(passes(&mut node, &two, &back.udp(53, 1, b"x")));
}

#[test]
fn a_new_policy_is_asked_about_open_connections() {
    let (mut node, one, two) = node();
    let web = || rule("web", &["10.7.0.1/32"], &[], Service::Tcp(vec![80..=80]), true);
    let ssh = || rule("ssh", &["10.7.0.1/32"], &[], Service::Tcp(vec![22..=22]), true);
    node.allow(1, vec![web(), ssh()]);
    let there = Spec::new(&one, "10.7.0.1", "10.7.0.2");
    let back = Spec::new(&two, "10.7.0.2", "10.7.0.1");
    for port in [80, 22] {
        passes(&mut node, &one, &there.tcp(&tcp(1000, port, "S"), &[]));
        passes(&mut node, &two, &back.tcp(&tcp(port, 1000, "SA"), &[]));
    }
    node.allow(1, vec![ssh()]);
    assert!(passes(
        &mut node,
        &two,
        &back.tcp(&tcp(22, 1000, "A"), b"allowed still")
    ));
    assert!(!passes(&mut node, &two, &back.tcp(&tcp(80, 1000, "A"), b"no more")));
    assert!(!passes(&mut node, &one, &there.tcp(&tcp(1000, 80, "A"), b"no more")));
    assert_eq!(node.counters()["connection.closed"], 1);
    assert_eq!(node.counters()["connection.opened"], 2);
    // The same policy again is no new policy.
    node.skip();
    node.allow(1, vec![ssh()]);
    assert!(passes(&mut node, &two, &back.tcp(&tcp(22, 1000, "A"), b"x")));
    assert_eq!(
        node.moved()
            .iter()
            .find(|(name, _)| name == "flow.hits")
            .map(|(_, by)| *by),
        Some(1)
    );
}

#[test]
fn one_guest_cannot_fill_the_table_for_all() {
    let (mut node, one, two) = node();
    let per_port = dataplane::connection::PER_PORT as usize;
    let spec = Spec::new(&one, "10.7.0.1", "10.7.0.2");
    let mut left = per_port + 10;
    for destination in 1..u16::MAX {
        let burst: Vec<_> = (0..100u16.min(left as u16))
            .map(|source| dataplane::buffer::PacketBuf::from_frame(&spec.udp(source + 1, destination, b"x")))
            .collect();
        left -= burst.len();
        let out = node.outbound(one.port, burst);
        for (_, frame) in out.to_ports {
            node.pool.recycle_packet(frame);
        }
        if left == 0 {
            break;
        }
    }
    assert_eq!(node.counters()["drop.connection-table-full"], 10);
    assert!(passes(
        &mut node,
        &two,
        &Spec::new(&two, "10.7.0.2", "10.7.0.1").udp(7, 7, b"x")
    ));
}

#[test]
fn the_nodes_own_host_sends_and_is_pinged_without_a_rule() {
    let (mut node, one, _) = node();
    node.allow(1, vec![]);
    let mut config = mesh(1, 7, dataplane::control::Protection::Clear);
    config.host_addresses = vec![ip("10.7.0.100"), ip("fd00::100")];
    node.apply(&Change::PutNetwork(config));
    node.skip();
    let out = node.send(&one, &Spec::new(&one, "10.7.0.1", "10.7.0.100").echo(true, 5));
    assert_eq!(out.to_host.len(), 1);
    assert_eq!(out.to_host[0].0, NetworkId(1));
    assert_checksums(out.to_host[0].1.bytes());
    assert_silent(&node.send(&one, &Spec::new(&one, "10.7.0.1", "10.7.0.100").udp(5, 5, b"x")));
    // The host's answer, and a ping of its own; another source it may not use.
    let mut from_host = |source: &str, request: bool, id: u16| {
        let frame = Spec::new(&one, source, "10.7.0.1").echo(request, id);
        let mut packets = vec![dataplane::buffer::PacketBuf::from_frame(&frame[14..])];
        let mut out = dataplane::engine::Output::default();
        node.engine
            .from_host(node.now, NetworkId(1), &mut packets, &mut node.pool, &mut out);
        out
    };
    for (request, id) in [(false, 5), (true, 6)] {
        let out = from_host("10.7.0.100", request, id);
        let (port, frame) = one_frame(&out);
        assert_eq!((port, &frame[..6]), (one.port, &one.mac[..]));
        assert_checksums(&frame[14..]);
    }
    assert_silent(&from_host("10.7.0.101", true, 7));
    let out = node.send(&one, &Spec::new(&one, "10.7.0.1", "10.7.0.100").echo(false, 6));
    assert_eq!(out.to_host.len(), 1);
    assert_eq!(node.counters()["drop.spoofed-source"], 1);
}

#[test]
fn control_comes_back_and_nothing_is_disturbed() {
    let (mut node, one, two) = node();
    node.map("[7]10.9.0.0/16", &["192.0.2.2"]);
    node.map("[7]10.10.0.0/16", &["192.0.2.2"]);
    let far = Spec::new(&one, "10.7.0.1", "10.9.0.1").udp(1, 2, b"x");
    let near = Spec::new(&one, "10.7.0.1", "10.7.0.2").udp(1, 2, b"x");
    node.send(&one, &far);
    node.send(&one, &near);
    let everything = |with_two: bool| {
        let mut changes = vec![
            Change::PutUplink(dataplane::control::UplinkConfig {
                id: dataplane::control::UplinkId(1),
                name: "eth0".into(),
                addresses: vec![ip("192.0.2.1")],
                source_ports: 4,
                mtu: 1500,
            }),
            Change::PutNetwork(mesh(1, 7, dataplane::control::Protection::Clear)),
            Change::PutPolicy(dataplane::control::PolicyConfig {
                network: NetworkId(1),
                rules: vec![rule("all", &[], &[], Service::Any, true)],
            }),
            Change::PutPort(port(1, 1, &["10.7.0.1", "fd00::1"])),
            Change::PutMapping(mapping(
                "[7]10.9.0.0/16",
                dataplane::control::MappingTarget::Locators(vec![locator("192.0.2.2", 1, 100)]),
            )),
        ];
        if with_two {
            changes.push(Change::PutPort(port(2, 1, &["10.7.0.2", "fd00::2"])));
        }
        changes
    };
    node.apply(&Change::Resync);
    for change in everything(true) {
        node.apply(&change);
        node.skip();
        node.send(&one, &far);
        node.send(&one, &near);
        assert_eq!(
            node.moved()
                .iter()
                .find(|(name, _)| name == "flow.hits")
                .map(|(_, by)| *by),
            Some(2),
            "{change:?}"
        );
    }
    node.apply(&Change::Commit(Generation(5)));
    assert_eq!(node.engine.generation(), Generation(5));
    let mappings = |node: &mut Node| match node.engine.query(node.now, &Query::Mappings) {
        Some(Answer::Mappings(all)) => all
            .iter()
            .map(|m| (m.mapping.prefix.to_string(), m.packets))
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        mappings(&mut node),
        [("[7]10.9.0.0/16".to_owned(), 7)],
        "what was not named is gone"
    );
    // Once more, without the second guest.
    node.apply(&Change::Resync);
    for change in everything(false) {
        node.apply(&change);
    }
    assert_eq!(node.engine.ports().len(), 2, "nothing is dropped before the commit");
    node.apply(&Change::Commit(Generation(6)));
    assert_eq!(
        node.engine.ports().iter().map(|port| port.id).collect::<Vec<_>>(),
        [PortId(1)]
    );
    assert_silent(&node.outbound(two.port, vec![dataplane::buffer::PacketBuf::from_frame(&near)]));
    // What cannot be is refused, and nothing has changed.
    for change in [
        Change::PutPort(port(9, 77, &["10.7.0.9"])),
        Change::PutPort(port(9, 1, &["10.7.0.1"])),
        Change::PutNetwork(mesh(2, 7, dataplane::control::Protection::Clear)),
        Change::PutPolicy(dataplane::control::PolicyConfig {
            network: NetworkId(9),
            rules: vec![],
        }),
    ] {
        assert!(node.try_apply(&change).is_err(), "{change:?}");
    }
    node.apply(&Change::RemoveNetwork(NetworkId(1)));
    assert!(node.engine.ports().is_empty() && mappings(&mut node).is_empty());
    let Some(Answer::Connections(left)) = node.engine.query(node.now, &Query::Connections) else {
        panic!()
    };
    assert!(left.is_empty());
}

#[test]
fn trace_tells_what_would_happen_and_changes_nothing() {
    let (mut node, one, _) = node();
    node.map("[7]10.9.0.0/16", &["192.0.2.2"]);
    node.skip();
    let words = |node: &mut Node, frame: Vec<u8>| match node
        .engine
        .query(node.now, &Query::TraceOutbound { port: PortId(1), frame })
    {
        Some(Answer::Trace(steps)) => steps
            .iter()
            .map(|step| format!("{} {}", step.stage, step.verdict))
            .collect::<Vec<_>>()
            .join(", "),
        other => panic!("{other:?}"),
    };
    let spec = Spec::new(&one, "10.7.0.1", "10.9.0.1");
    let way = "parse continue, antispoof continue, gateway continue, flow miss, policy allow, itr continue, \
               uplink continue, connection open, rewrite continue, transmit encapsulated";
    assert_eq!(words(&mut node, spec.udp(1, 2, b"x")), way);
    assert_eq!(
        words(&mut node, spec.udp(1, 2, b"x")),
        way,
        "and no connection was opened by asking"
    );
    let spoofed = Spec {
        source: ip("10.7.0.2"),
        ..spec.clone()
    };
    assert_eq!(
        words(&mut node, spoofed.udp(1, 2, b"x")),
        "parse continue, antispoof drop"
    );
    let gateway = Spec::new(&one, "10.7.0.1", "10.7.0.254").echo(true, 1);
    assert_eq!(
        words(&mut node, gateway),
        "parse continue, antispoof continue, gateway hairpin"
    );
    let miss = Spec::new(&one, "10.7.0.1", "10.11.0.1").udp(1, 2, b"x");
    assert!(words(&mut node, miss).ends_with("policy allow, itr miss, itr wait"));
    let big = spec.udp(1, 2, &[0; 1500]);
    assert!(words(&mut node, big).ends_with("connection open, rewrite drop"));
    assert_eq!(words(&mut node, vec![0; 5]), "parse drop");
    let inbound = Query::TraceInbound {
        from: Rloc::new(ip("192.0.2.2")),
        node: None,
        instance_id: InstanceId::new(7).unwrap(),
        packet: Spec::new(&one, "10.9.0.1", "10.7.0.1").udp(2, 1, b"x")[14..].to_vec(),
    };
    let Some(Answer::Trace(steps)) = node.engine.query(node.now, &inbound) else {
        panic!()
    };
    let stages: Vec<&str> = steps.iter().map(|step| step.stage.as_str()).collect();
    assert_eq!(
        stages,
        ["etr", "parse", "flow", "policy", "deliver", "connection", "transmit"]
    );
    node.assert_moved(&[]);
    // The packet then does what was told.
    assert_eq!(node.send(&one, &spec.udp(1, 2, b"x")).to_uplinks.len(), 1);
    assert!(words(&mut node, spec.udp(1, 2, b"x")).contains("flow hit"));
}

#[test]
fn capture_shows_each_packet_with_its_end() {
    let (mut node, one, two) = node();
    node.map("[7]10.9.0.0/16", &["192.0.2.2"]);
    let captured = |events: &[Event]| {
        events
            .iter()
            .filter_map(|event| match event {
                Event::Captured(packet) => Some(format!(
                    "{} {} {} {} of {}",
                    packet.interface,
                    if packet.outbound { "out" } else { "in" },
                    packet.verdict,
                    packet.bytes.len(),
                    packet.length
                )),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let filter = CaptureFilter {
        port: None,
        addresses: vec![ip("10.7.0.1")],
        snap_length: 40,
    };
    node.engine.query(node.now, &Query::Capture(Some(filter)));
    let out = node.send(&one, &Spec::new(&one, "10.7.0.1", "10.9.0.1").udp(1, 2, b"x"));
    assert_eq!(captured(&out.events), ["guest1/net0 out encapsulated 40 of 43"]);
    let out = node.send(&one, &Spec::new(&one, "10.7.0.1", "172.16.0.1").udp(1, 2, b"x"));
    assert_eq!(captured(&out.events), ["guest1/net0 out drop.no-route 40 of 43"]);
    let inner = Spec::new(&one, "10.9.0.1", "10.7.0.1").udp(2, 1, b"x");
    let out = node.datagram("192.0.2.2", clear(7), &inner[14..], 64, 0);
    assert_eq!(captured(&out.events), ["guest1/net0 in delivered 29 of 29"]);
    let out = node.send(&two, &Spec::new(&two, "10.7.0.2", "10.9.0.1").udp(1, 2, b"x"));
    assert_eq!(captured(&out.events), [""; 0], "other addresses");
    node.engine.query(
        node.now,
        &Query::Capture(Some(CaptureFilter {
            port: Some(PortId(2)),
            ..Default::default()
        })),
    );
    let out = node.send(&two, &Spec::new(&two, "10.7.0.2", "10.9.0.1").udp(1, 2, b"x"));
    assert_eq!(captured(&out.events), ["guest2/net0 out encapsulated 43 of 43"]);
    let out = node.datagram("192.0.2.2", clear(7), &inner[14..], 64, 0);
    assert_eq!(captured(&out.events), [""; 0], "other port");
    node.engine.query(node.now, &Query::Capture(None));
    let out = node.send(&two, &Spec::new(&two, "10.7.0.2", "10.9.0.1").udp(1, 2, b"x"));
    assert!(out.events.is_empty());
}

#[test]
fn health_of_a_locator_that_nobody_uses_changes_nothing() {
    let (mut node, one, _) = node();
    node.map("[7]10.9.0.0/16", &["192.0.2.2"]);
    node.send(&one, &Spec::new(&one, "10.7.0.1", "10.9.0.1").udp(1, 2, b"x"));
    node.skip();
    let rloc = Rloc::new(ip("198.51.100.1"));
    node.apply(&Change::PutPathHealth(PathHealth {
        rloc,
        up: false,
        mtu: None,
    }));
    node.send(&one, &Spec::new(&one, "10.7.0.1", "10.9.0.1").udp(1, 2, b"x"));
    assert_eq!(
        node.moved()
            .iter()
            .find(|(name, _)| name == "flow.hits")
            .map(|(_, by)| *by),
        Some(1)
    );
}
