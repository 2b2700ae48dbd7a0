//! The sealed mesh at work: a guest that knows nothing but IPv4, and `kill -9` of every process. Needs root.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use edge_node::lab::Eavesdropper;
use weft_tests::net::{
    Fabric, Guest, Heartbeat, Result, SiteKind, Tap, Transport, counter, dissect, files, holds_for, scenario, until,
};

const BEAT: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(10);
const TWO: [SiteKind; 2] = [SiteKind::Dual, SiteKind::Dual];

/// Starts a beat between the guests of two sites.
fn beat(fabric: &Fabric<'_>, transport: Transport, from: usize, to: usize) -> Result<Heartbeat> {
    let beat = Heartbeat::start(
        transport,
        fabric.guest(from).namespace(),
        fabric.guest(to).namespace(),
        SocketAddr::from((fabric.eid(to), 7000)),
        BEAT,
        PATIENCE,
    )?;
    beat.more(20, PATIENCE)?;
    Ok(beat)
}

#[test]
fn a_guest_with_only_ipv4_talks_sealed() {
    scenario(|lab| {
        let mut fabric = Fabric::sealed(lab, &TWO)?;
        let legacy = Guest::new(lab.namespace("legacy")?);
        let namespace = legacy.namespace();
        namespace.sysctl(&[
            "net.ipv6.conf.all.disable_ipv6=1",
            "net.ipv6.conf.default.disable_ipv6=1",
        ])?;
        let tap = Tap::start(fabric.underlay.router(), &fabric.sites[0].router_interface, "udp")?;
        let document = files::guest_on_tap("legacy", "plant", "tap-legacy", namespace.name(), &["10.7.1.20"]);
        fabric.node(1).apply("legacy.yaml", &document)?;
        until("the legacy guest has its NIC", PATIENCE, || {
            Ok(namespace.ip("link set eth0 up").ok())
        })?;
        assert_eq!(legacy.dhcp4()?.to_string(), "10.7.1.20");
        let stack = namespace.ip("-6 address show")?;
        assert_eq!(stack.trim(), "", "there is no IPv6 in it");

        legacy.until_reaches("10.7.2.10", PATIENCE)?;
        legacy.ping("10.7.2.10", 20)?;
        fabric.guest(2).until_reaches("10.7.1.20", PATIENCE)?;
        fabric.guest(2).ping("10.7.1.20", 20)?;
        let target = SocketAddr::new(IpAddr::from([10, 7, 2, 10]), 7000);
        let far = fabric.guest(2).namespace();
        let tcp = Heartbeat::start(Transport::Tcp, namespace, far, target, BEAT, PATIENCE)?;
        tcp.more(50, PATIENCE)?;
        assert!(tcp.alive());
        tcp.stop()?;

        let file = tap.stop()?;
        let data = dissect(&file, "udp.dstport == 4341")?;
        assert!(data.len() > 130, "{} data packets", data.len());
        for packet in &data {
            assert_eq!(packet.complaints(), Vec::<String>::new(), "{}", packet.layers);
            let bytes = hex(&packet.first("udp.payload").unwrap_or_default());
            let flags = bytes.first().copied().unwrap_or_default();
            assert_ne!(flags & 0b11, 0, "KK of a data packet: {}", packet.layers);
            assert_eq!(flags & 0b1000_1000, 0b1000_1000, "N and I: {}", packet.layers);
            let protocols = packet.protocols();
            assert!(!protocols.contains("icmp") && !protocols.contains("tcp"), "{protocols}");
        }
        // What a sealed Map-Request says beside an ordinary one stands in its list of ITR-RLOCs, in LCAFs, which
        // tshark knows in records only; it has no other complaint.
        for packet in dissect(&file, "udp.port == 4342")? {
            let mut complaints = packet.complaints();
            complaints.retain(|text| text != "Unexpected ITR-RLOC-AFI (16387), cannot decode");
            assert_eq!(complaints, Vec::<String>::new(), "{}", packet.layers);
        }
        println!("{} data packets, all sealed", data.len());
        Ok(())
    });
}

#[test]
fn killing_the_map_server_stops_no_known_traffic_not_even_across_a_new_exchange() {
    scenario(|lab| {
        let mut fabric = Fabric::sealed(lab, &TWO)?;
        fabric.until_connected(1, 2)?;
        fabric.until_connected(2, 1)?;
        let udp = beat(&fabric, Transport::Udp, 1, 2)?;
        let tcp = beat(&fabric, Transport::Tcp, 1, 2)?;
        let answered = |fabric: &Fabric<'_>| -> Result<u64> {
            let mut sum = 0;
            for node in &fabric.nodes {
                sum += counter(&node.json(&["status"])?, "sealed-reply-accepted");
            }
            Ok(sum)
        };
        let ear = Eavesdropper::start(
            fabric.underlay.router(),
            &fabric.sites[0].router_interface,
            vec![("an EID".to_owned(), fabric.eid(2).octets().to_vec())],
        )?;
        let started = Instant::now();
        fabric.map_server.kill();
        udp.more(200, PATIENCE)?;
        let killed = Instant::now();
        let exchanges = answered(&fabric)?;

        // Its SAs are gone with it, and there is nobody to ask the way.
        let old = fabric.node(1).kill_dataplane()?;
        udp.more(100, PATIENCE)?;
        tcp.more(100, Duration::from_secs(20))?;
        let ended = Instant::now();
        assert!(tcp.alive(), "the TCP connection lives");
        assert_ne!(fabric.node(1).dataplane_pid()?, old);
        let after = answered(&fabric)?;
        assert!(after > exchanges, "there was a new exchange: {exchanges}, then {after}");
        let (udp, tcp) = (udp.stop()?, tcp.stop()?);
        let heard = ear.stop()?;
        assert!(heard.data_packets > 300, "{heard:?}");
        assert_eq!(
            heard.sealed, heard.data_packets,
            "nothing is ever sent in clear: {heard:?}"
        );
        assert!(heard.found.is_empty(), "{heard:?}");
        let known = udp.longest_gap_between(started, killed);
        let (anew, in_tcp) = (
            udp.longest_gap_between(killed, ended),
            tcp.longest_gap_between(killed, ended),
        );
        println!("longest silence {known:?} without a Map-Server, {anew:?} across the new exchange (TCP {in_tcp:?})");
        assert!(
            known < Duration::from_millis(200),
            "known traffic stopped for {known:?}"
        );
        assert!(anew <= Duration::from_secs(1), "traffic was away for {anew:?}");

        fabric.map_server.map_server(&["ms.yaml"])?;
        holds_for("it is stable", Duration::from_secs(1), || {
            fabric.guest(1).reaches(&fabric.eid(2).to_string())
        })
    });
}

#[test]
fn killing_control_stops_no_sealed_packet_and_its_sas_live_on() {
    scenario(|lab| {
        let mut fabric = Fabric::sealed(lab, &TWO)?;
        fabric.until_connected(1, 2)?;
        let dataplane = fabric.node(1).dataplane_pid()?;
        let udp = beat(&fabric, Transport::Udp, 1, 2)?;
        let back = Heartbeat::start(
            Transport::Udp,
            fabric.guest(2).namespace(),
            fabric.guest(1).namespace(),
            SocketAddr::from((fabric.eid(1), 7001)),
            BEAT,
            PATIENCE,
        )?;
        back.more(20, PATIENCE)?;
        let tcp = beat(&fabric, Transport::Tcp, 1, 2)?;
        let started = Instant::now();
        fabric.node(1).kill();
        udp.more(200, PATIENCE)?;
        fabric.node(1).up(&[])?;
        udp.more(300, PATIENCE)?;
        tcp.more(100, PATIENCE)?;
        let ended = Instant::now();
        assert!(tcp.alive());
        let (udp, back, tcp) = (udp.stop()?, back.stop()?, tcp.stop()?);
        let gaps = [&udp, &back, &tcp].map(|beats| beats.longest_gap_between(started, ended));
        println!(
            "longest silence there {:?}, back {:?}, TCP {:?}",
            gaps[0], gaps[1], gaps[2]
        );
        assert!(
            gaps[0] < Duration::from_millis(200),
            "packets there stopped for {:?}",
            gaps[0]
        );
        assert!(
            gaps[1] < Duration::from_millis(200),
            "packets back stopped for {:?}",
            gaps[1]
        );
        assert_eq!(fabric.node(1).dataplane_pid()?, dataplane, "the dataplane lived on");
        holds_for("it is stable", Duration::from_secs(1), || {
            fabric.guest(2).reaches(&fabric.eid(1).to_string())
        })
    });
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |digits: &str| u8::from_str_radix(digits, 16).expect("hexadecimal digits");
    text.split(':').filter(|digits| !digits.is_empty()).map(byte).collect()
}
