//! `kill -9` of every process of the product, one after the other: what must go on, goes on. Needs root.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use weft_tests::net::{
    Fabric, Heartbeat, Lab, LabError, Result, SiteKind, Tap, Transport, counter, dissect, files, holds_for, scenario,
    udp_from, until,
};

const BEAT: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a beat between the guests of two sites.
fn beat(fabric: &Fabric<'_>, transport: Transport, from: usize, to: usize) -> Result<Heartbeat> {
    let target: Ipv6Addr = format!("fd07::{to}")
        .parse()
        .map_err(|_| LabError::Unexpected("an EID".into()))?;
    let beat = Heartbeat::start(
        transport,
        fabric.guest(from).namespace(),
        fabric.guest(to).namespace(),
        SocketAddr::from((target, 7000)),
        BEAT,
        PATIENCE,
    )?;
    beat.more(20, PATIENCE)?;
    Ok(beat)
}

#[test]
fn killing_the_map_server_stops_no_known_traffic() {
    scenario(|lab| {
        let mut fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::Dual, SiteKind::Dual])?;
        fabric.until_connected(1, 2)?;
        let tap = Tap::start(&fabric.map_server_site.namespace, "wan0", "udp port 4342")?;
        // A further guest makes node 1 register at once; that Map-Register will be replayed later.
        let further = files::guest_on_tap("guest-9", "plant", "tap9", "", &["fd07::1:9"]);
        fabric
            .node(1)
            .apply("further.yaml", &further.replace(", netns: , as: eth0", ""))?;
        let register = until("a Map-Register passes", PATIENCE, || {
            Ok(dissect(tap.file(), "lisp.type == 3")?
                .into_iter()
                .next()
                .and_then(|p| p.first("udp.payload")))
        })?;
        tap.stop()?;

        let udp = beat(&fabric, Transport::Udp, 1, 2)?;
        let started = Instant::now();
        fabric.map_server.kill();
        udp.more(100, PATIENCE)?;
        assert!(
            !fabric.guest(1).reaches("fd07::3")?,
            "there is nobody to ask for a new mapping"
        );
        fabric.map_server.map_server(&["ms.yaml"])?;
        let returned = Instant::now();
        fabric.guest(1).until_reaches("fd07::3", Duration::from_secs(5))?;
        let lookup = returned.elapsed();
        udp.more(50, PATIENCE)?;
        let ended = Instant::now();
        let beats = udp.stop()?;
        let gap = beats.longest_gap_between(started, ended);
        println!("longest silence {gap:?}; a new look-up worked {lookup:?} after the Map-Server's return");
        assert!(gap < Duration::from_millis(200), "known traffic stopped for {gap:?}");
        assert!(lookup < Duration::from_secs(2), "a new look-up took {lookup:?}");

        // The captured Map-Register, sent again by somebody on the wire after the restart.
        let before = replays(&fabric)?;
        let bytes = hex(&register)?;
        let to = SocketAddr::from((fabric.map_server_site.ipv4.unwrap(), 4342));
        udp_from(&fabric.sites[2].namespace, "0.0.0.0:0".parse().unwrap(), to, &bytes)?;
        until("the replay is refused and counted", Duration::from_secs(3), || {
            Ok((replays(&fabric)? > before).then_some(()))
        })?;
        assert!(fabric.guest(1).reaches("fd07::2")?);
        Ok(())
    });
}

#[test]
fn killing_control_stops_no_packet_and_it_comes_back_to_its_intent() {
    scenario(|lab| {
        let mut fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::Dual])?;
        fabric.until_connected(1, 2)?;
        let intent = fabric.node(1).json(&["get", "guest"])?;
        let dataplane = fabric.node(1).dataplane_pid()?;
        let (udp, tcp) = (
            beat(&fabric, Transport::Udp, 1, 2)?,
            beat(&fabric, Transport::Tcp, 1, 2)?,
        );
        let started = Instant::now();
        fabric.node(1).kill();
        udp.more(200, PATIENCE)?;
        // Nobody tells it anything: no file is named.
        fabric.node(1).up(&[])?;
        udp.more(200, PATIENCE)?;
        tcp.more(100, PATIENCE)?;
        let ended = Instant::now();
        assert!(tcp.alive());
        let (udp, tcp) = (udp.stop()?, tcp.stop()?);
        let gap = udp.longest_gap_between(started, ended);
        println!(
            "longest silence {gap:?} (TCP {:?})",
            tcp.longest_gap_between(started, ended)
        );
        assert!(gap < Duration::from_millis(200), "packets stopped for {gap:?}");
        assert_eq!(fabric.node(1).dataplane_pid()?, dataplane, "the dataplane lived on");
        assert_eq!(
            fabric.node(1).json(&["get", "guest"])?,
            intent,
            "the intent is the applied one"
        );
        Ok(())
    });
}

#[test]
fn killing_the_dataplane_costs_a_second_at_most() {
    scenario(|lab| {
        let mut fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::Dual])?;
        fabric.until_connected(1, 2)?;
        let (udp, tcp) = (
            beat(&fabric, Transport::Udp, 1, 2)?,
            beat(&fabric, Transport::Tcp, 1, 2)?,
        );
        let started = Instant::now();
        let old = fabric.node(1).kill_dataplane()?;
        udp.more(100, PATIENCE)?;
        tcp.more(100, Duration::from_secs(20))?;
        let ended = Instant::now();
        assert!(tcp.alive(), "the TCP connection lives");
        assert_ne!(fabric.node(1).dataplane_pid()?, old);
        let (udp, tcp) = (udp.stop()?, tcp.stop()?);
        let gap = udp.longest_gap_between(started, ended);
        println!(
            "longest silence {gap:?} (TCP {:?})",
            tcp.longest_gap_between(started, ended)
        );
        assert!(gap <= Duration::from_secs(1), "traffic was away for {gap:?}");
        Ok(())
    });
}

#[test]
fn killing_both_processes_of_a_node_is_survived() {
    scenario(|lab| {
        let mut fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::Dual])?;
        fabric.until_connected(1, 2)?;
        fabric.node(1).kill();
        fabric.node(1).kill_dataplane()?;
        fabric.node(1).up(&[])?;
        fabric.until_connected(1, 2)?;
        holds_for("it is stable", Duration::from_secs(1), || {
            fabric.guest(1).reaches("fd07::2")
        })
    });
}

/// What the packet path holds is tied to an interface that is no more, and has the name and the addresses of one that is.
#[test]
fn an_uplink_made_anew_while_control_is_dead_is_used() {
    scenario(|lab| {
        let mut fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::Dual])?;
        fabric.until_connected(1, 2)?;
        fabric.node(1).kill();
        remake_uplink(lab, &fabric)?;
        fabric.node(1).up(&[])?;
        fabric.until_connected(1, 2)?;
        fabric.until_connected(2, 1)?;
        holds_for("it is stable", Duration::from_secs(1), || {
            fabric.guest(1).reaches("fd07::2")
        })
    });
}

/// Takes the uplink of site 1 away and makes it anew, as it was.
fn remake_uplink(lab: &Lab, fabric: &Fabric<'_>) -> Result<()> {
    let (site, router) = (&fabric.sites[0], fabric.underlay.router());
    let (Some(v4), Some(v6)) = (site.ipv4, site.ipv6) else {
        return Err(LabError::Unexpected("a site of both families".into()));
    };
    // The router is the next address of the subnet, as `Underlay::site` has it.
    let gateway_v4 = Ipv4Addr::from(v4.to_bits() + 1);
    let gateway_v6 = Ipv6Addr::from(v6.to_bits() + 1);
    site.namespace.ip("link delete wan0")?;
    lab.cable((&site.namespace, "wan0"), (router, &site.router_interface))?;
    site.namespace.sysctl(&["net.ipv6.conf.wan0.accept_ra=0"])?;
    router.configure(
        &site.router_interface,
        &[&format!("{gateway_v4}/30"), &format!("{gateway_v6}/64")],
    )?;
    site.namespace
        .configure("wan0", &[&format!("{v4}/30"), &format!("{v6}/64")])?;
    site.namespace.default_route(gateway_v4.into())?;
    site.namespace.default_route(gateway_v6.into())
}

/// How many replayed Map-Registers the Map-Server has refused.
fn replays(fabric: &Fabric<'_>) -> Result<u64> {
    Ok(counter(&fabric.map_server.json(&["status"])?, "replayed-nonce"))
}

fn hex(text: &str) -> Result<Vec<u8>> {
    text.split(':')
        .map(|byte| u8::from_str_radix(byte, 16).map_err(|_| LabError::Unexpected(format!("not hex: {text}"))))
        .collect()
}
