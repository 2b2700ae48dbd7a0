//! A sealed mesh whose outer addresses change under a running transfer, and nodes with many guests. Needs root.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use weft_tests::net::{
    Fabric, Guest, Heartbeat, LabError, Result, SiteKind, Tap, Transport, counter, dissect, files, holds_for, scenario,
};

const BEAT: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a beat from the guest of site `from` to that of site `to`.
fn beat(fabric: &Fabric<'_>, transport: Transport, from: usize, to: usize) -> Result<Heartbeat> {
    beat_at(fabric, transport, from, to, 7000)
}

/// The same to this port.
fn beat_at(fabric: &Fabric<'_>, transport: Transport, from: usize, to: usize, port: u16) -> Result<Heartbeat> {
    let target = SocketAddr::from((fabric.eid(to), port));
    let (source, sink) = (fabric.guest(from).namespace(), fabric.guest(to).namespace());
    let beat = Heartbeat::start(transport, source, sink, target, BEAT, PATIENCE)?;
    beat.more(20, PATIENCE)?;
    Ok(beat)
}

#[test]
fn an_outer_address_changes_mid_transfer() {
    scenario(|lab| {
        let fabric = Fabric::sealed(lab, &[SiteKind::V4, SiteKind::V4])?;
        fabric.until_connected(1, 2)?;
        fabric.until_connected(2, 1)?;
        let there = beat(&fabric, Transport::Udp, 1, 2)?;
        let back = beat(&fabric, Transport::Udp, 2, 1)?;
        let tcp = beat(&fabric, Transport::Tcp, 1, 2)?;
        let started = Instant::now();
        let outside = change_address(&fabric)?;
        for beat in [&there, &back, &tcp] {
            beat.more(300, Duration::from_secs(20))?;
        }
        let ended = Instant::now();
        assert!(tcp.alive(), "the TCP connection lives");
        let beats = [there.stop()?, back.stop()?, tcp.stop()?];
        let [there, back, tcp] = beats.map(|beats| beats.longest_gap_between(started, ended));
        println!("longest silence there {there:?}, back {back:?}, TCP {tcp:?}; without any address for {outside:?}");
        let most = Duration::from_secs(1);
        assert!(
            there <= most && back <= most && tcp <= most,
            "there {there:?}, back {back:?}, TCP {tcp:?}"
        );
        let peer = fabric.nodes[1].json(&["status"])?;
        assert_eq!(counter(&peer["drops"], "sealed-bad-tag"), 0);
        holds_for("it is stable", Duration::from_secs(1), || {
            fabric.guest(2).reaches(&fabric.eid(1).to_string())
        })
    });
}

/// Nothing that the moved site sends for its guests could tell the other where it is now.
#[test]
fn the_address_of_a_site_changes_that_only_receives() {
    scenario(|lab| {
        let fabric = Fabric::sealed(lab, &[SiteKind::V4, SiteKind::V4])?;
        fabric.until_connected(2, 1)?;
        let back = beat(&fabric, Transport::Udp, 2, 1)?;
        let started = Instant::now();
        change_address(&fabric)?;
        back.more(300, Duration::from_secs(20))?;
        let gap = back.stop()?.longest_gap_between(started, Instant::now());
        println!("longest silence {gap:?}");
        assert!(gap <= Duration::from_secs(1), "traffic was away for {gap:?}");
        Ok(())
    });
}

/// Site 1 loses the address that it has and gets another, of another provider. Gives how long it had none.
fn change_address(fabric: &Fabric<'_>) -> Result<Duration> {
    let site = &fabric.sites[0];
    let old = site
        .ipv4
        .ok_or_else(|| LabError::Unexpected("a site with IPv4".into()))?;
    let router = fabric.underlay.router();
    router.ip(&format!("address add 203.0.113.2/30 dev {}", site.router_interface))?;
    let started = Instant::now();
    site.namespace.ip(&format!("address delete {old}/30 dev wan0"))?;
    site.namespace.ip("address add 203.0.113.1/30 dev wan0")?;
    site.namespace.ip("route replace default via 203.0.113.2")?;
    Ok(started.elapsed())
}

/// A NAT comes between two sites and a third while they talk: both now have the NAT's address, and other ports. What
/// was not asked for does not come in, as with any NAT; so all send from one port, the one that is sent to.
#[test]
fn two_nodes_come_to_be_behind_one_nat_mid_transfer() {
    scenario(|lab| {
        let fabric = Fabric::sealed(lab, &[SiteKind::V4; 3])?;
        let map_server = fabric
            .map_server_site
            .ipv4
            .ok_or_else(|| LabError::Unexpected("IPv4".into()))?;
        for (number, node) in (1u8..).zip(&fabric.nodes) {
            let document = files::node(&format!("site-{number}"), number.into(), number, map_server.into());
            let one_port = document.replace("{interface: wan0}", "{interface: wan0, sourcePorts: 0}");
            node.apply("ports.yaml", &one_port)?;
        }
        let mut beats = Vec::new();
        for inside in [1, 2] {
            fabric.until_connected(inside, 3)?;
            fabric.until_connected(3, inside)?;
            let port = 7000 + u16::try_from(inside).unwrap_or_default();
            for (transport, from, to) in [
                (Transport::Udp, inside, 3),
                (Transport::Udp, 3, inside),
                (Transport::Tcp, inside, 3),
            ] {
                beats.push((
                    inside,
                    transport,
                    from,
                    to,
                    beat_at(&fabric, transport, from, to, port)?,
                ));
            }
        }
        let address = |site: usize| fabric.sites[site - 1].ipv4.map(|ip| ip.to_string()).unwrap_or_default();
        let inside = format!("{{ {}, {} }}", address(1), address(2));
        let outside = fabric.sites[2].router_interface.clone();
        let rules = format!(
            "table ip nat {{
    chain post {{
        type nat hook postrouting priority srcnat;
        ip saddr {inside} oifname \"{outside}\" masquerade random
    }}
    chain forward {{
        type filter hook forward priority filter;
        iifname \"{outside}\" ip daddr {inside} ct state new drop
    }}
}}
"
        );
        let router = fabric.underlay.router();
        let file = router.directory().join("nat.nft");
        std::fs::write(&file, rules).expect("a file");
        let started = Instant::now();
        router.run(&format!("nft -f {}", file.display()))?;
        let gateway = {
            let shown = router.ip(&format!("-4 address show dev {outside}"))?;
            let address = shown.split("inet ").nth(1).and_then(|rest| rest.split('/').next());
            address.unwrap_or_default().to_owned()
        };
        let tap = Tap::start(
            &fabric.sites[2].namespace,
            "wan0",
            &format!("udp dst port 4341 and dst host {}", address(3)),
        )?;
        for (.., beat) in &beats {
            beat.more(200, Duration::from_secs(20))?;
        }
        let ended = Instant::now();
        let mut worst = Duration::ZERO;
        for (inside, transport, from, to, beat) in beats {
            assert!(
                transport == Transport::Udp || beat.alive(),
                "the TCP connection of site {inside} lives"
            );
            let gap = beat.stop()?.longest_gap_between(started, ended);
            println!("{transport:?} {from} to {to}: longest silence {gap:?}");
            worst = worst.max(gap);
        }
        let arrived = dissect(&tap.stop()?, "")?;
        let sources: BTreeSet<_> = arrived.iter().flat_map(|packet| packet.first("ip.src")).collect();
        println!("the third site hears from {sources:?}; the NAT is {gateway}");
        assert!(sources.contains(&gateway), "they are behind the NAT");
        assert!(worst <= Duration::from_secs(1), "traffic was away for {worst:?}");
        Ok(())
    });
}

/// Pings every target at once, `count` times each, every 50 ms; gives how many replies each pair had.
fn ping_all(guests: &[Guest], targets: &[String], count: u32) -> Result<Vec<u32>> {
    let mut running = Vec::new();
    for guest in guests {
        for target in targets {
            let mut command = guest.namespace().command("ping");
            command.args(["-n", "-q", "-i", "0.05", "-W", "1", "-c", &count.to_string(), target]);
            command.stdout(std::process::Stdio::piped());
            let child = command.spawn();
            running.push(child.map_err(|error| LabError::Unexpected(format!("ping: {error}")))?);
        }
    }
    let mut replies = Vec::new();
    for child in running {
        let output = child.wait_with_output();
        let output = output.map_err(|error| LabError::Unexpected(format!("ping: {error}")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let received = text
            .split(" received")
            .next()
            .and_then(|before| before.split_whitespace().last());
        replies.push(received.and_then(|number| number.parse().ok()).unwrap_or(0));
    }
    Ok(replies)
}

#[test]
fn eight_guests_a_node_all_reach_each_other() {
    scenario(|lab| {
        let fabric = Fabric::sealed(lab, &[SiteKind::Dual, SiteKind::Dual])?;
        let mut guests = [vec![fabric.guest(1).clone()], vec![fabric.guest(2).clone()]];
        let mut eids = [vec![fabric.eid(1).to_string()], vec![fabric.eid(2).to_string()]];
        for site in [1, 2] {
            let mut documents = Vec::new();
            for number in 2..=8 {
                let guest = Guest::new(lab.namespace(&format!("g{site}-{number}"))?);
                documents.push(files::guest_on_tap(
                    &format!("guest-{site}-{number}"),
                    "plant",
                    &format!("tap-{number}"),
                    guest.namespace().name(),
                    &[&format!("10.7.{site}.{}", 10 + number)],
                ));
                guests[site - 1].push(guest);
            }
            fabric.nodes[site - 1].apply("further.yaml", &files::documents(&documents))?;
            for guest in &guests[site - 1][1..] {
                guest.power_on()?;
                guest.router_advertised()?;
                eids[site - 1].push(guest.dhcp6()?.to_string());
            }
        }
        let unbound = || -> Result<u64> {
            let mut sum = 0;
            for node in &fabric.nodes {
                sum += counter(&node.json(&["status"])?["drops"], "sealed-unbound-source");
            }
            Ok(sum)
        };

        // Nobody has spoken to anybody: all at once, 64 pairs, with 60 packets each in three seconds.
        let first = ping_all(&guests[0], &eids[1], 60)?;
        let least = first.iter().min().copied().unwrap_or(0);
        let early = unbound()?;
        println!(
            "first contact of {} pairs: {least} of 60 replies at least; {early} of unbound sources",
            first.len()
        );
        assert_eq!(first.len(), 64);
        assert!(least >= 40, "a pair was silent for more than a second: {first:?}");

        let again = ping_all(&guests[0], &eids[1], 20)?;
        let back = ping_all(&guests[1], &eids[0], 20)?;
        assert!(
            again.iter().chain(&back).all(|replies| *replies == 20),
            "{again:?} {back:?}"
        );
        assert_eq!(unbound()?, early, "no source is unbound for longer");
        Ok(())
    });
}
