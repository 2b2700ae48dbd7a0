//! Guests of one node among each other, the policy, and a local network behind NAT44 and NAT66 with a host that plays
//! the internet. Needs root.

use std::time::Duration;

use weft_tests::net::{
    Fabric, Guest, Heartbeat, Node, SiteKind, Transport, Underlay, files, holds_for, scenario, until, weft,
};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn policy_allows_what_it_says_and_nothing_else() {
    scenario(|lab| {
        let mut fabric = Fabric::with_policy(
            lab,
            &[SiteKind::Dual, SiteKind::Dual],
            &files::allow("plant", "icmp, udp/7000"),
        )?;
        fabric.until_connected(1, 2)?;
        let target: std::net::Ipv6Addr = "fd07::2".parse().unwrap();
        let beat = |transport, port| {
            Heartbeat::start(
                transport,
                fabric.guest(1).namespace(),
                fabric.guest(2).namespace(),
                (target, port).into(),
                Duration::from_millis(10),
                Duration::from_secs(2),
            )
        };
        let allowed = beat(Transport::Udp, 7000)?;
        assert!(beat(Transport::Udp, 7001).is_err(), "UDP to another port is denied");
        assert!(beat(Transport::Tcp, 7000).is_err(), "TCP is denied");
        let denied = |node: &Node| {
            node.json(&["status"])
                .map(|status| status.to_string().contains("policy-denied"))
        };
        assert!(
            denied(&fabric.nodes[0])? || denied(&fabric.nodes[1])?,
            "the denial is counted under its name"
        );

        // Taking a rule away ends what it allowed; nothing else is disturbed.
        allowed.more(10, PATIENCE)?;
        for number in [1, 2] {
            fabric
                .node(number)
                .apply("policy.yaml", &files::allow("plant", "icmp"))?;
        }
        let stopped = allowed.received();
        until("the forbidden beat falls silent", PATIENCE, || {
            let before = allowed.received();
            holds_for("time passes", Duration::from_millis(200), || Ok(true))?;
            Ok((allowed.received() == before).then_some(()))
        })?;
        assert!(allowed.received() < stopped + 200);
        assert!(fabric.guest(1).reaches("fd07::2")?, "what is still allowed goes on");
        Ok(())
    });
}

#[test]
fn guests_of_one_node_talk_without_the_wire() {
    scenario(|lab| {
        let mut fabric = Fabric::new(lab, &[SiteKind::Dual])?;
        let second = Guest::new(lab.namespace("g1b")?);
        let yaml = files::guest_on_tap(
            "guest-1b",
            "plant",
            "tap1b",
            second.namespace().name(),
            &["fd07::1:b", "10.7.1.11"],
        );
        fabric.node(1).apply("second.yaml", &yaml)?;
        second.power_on()?;
        second.router_advertised()?;
        second.dhcp6()?;
        second.dhcp4()?;
        // Without an underlay it still works: nothing leaves the node.
        fabric.underlay.cable_up(&fabric.sites[0], false)?;
        second.until_reaches("fd07::1", PATIENCE)?;
        second.ping("fd07::1", 5)?;
        second.ping("10.7.1.10", 5)?;
        fabric.guest(1).ping("fd07::1:b", 5)?;
        // The gateway answers too, and the guest's own node under its address.
        second.ping("10.7.0.1", 2)?;
        second.ping("fd07::1:1", 2)?;
        Ok(())
    });
}

#[test]
fn names_of_guests_and_nodes_resolve() {
    scenario(|lab| {
        let fabric = Fabric::new(lab, &[SiteKind::Dual])?;
        let guest = fabric.guest(1).namespace();
        let answer = guest.run("dig +short +time=2 +tries=2 guest-1.plant.weft AAAA @10.7.0.1")?;
        assert_eq!(answer.trim(), "fd07::1");
        let answer = guest.run("dig +short +time=2 +tries=2 guest-1.plant.weft A @10.7.0.1")?;
        assert_eq!(answer.trim(), "10.7.1.10");
        let answer = guest.run("dig +short +time=2 +tries=2 site-1.plant.weft AAAA @10.7.0.1")?;
        assert_eq!(answer.trim(), "fd07::1:1");
        let answer = guest.run("dig +time=2 +tries=2 nobody.plant.weft AAAA @10.7.0.1")?;
        assert!(answer.contains("NXDOMAIN"), "{answer}");
        Ok(())
    });
}

#[test]
fn local_network_is_translated_to_the_uplink() {
    scenario(|lab| {
        let underlay = Underlay::new(lab)?;
        let site = underlay.site("s1", true, true)?;
        let internet = underlay.site("web", true, true)?;
        let guest = Guest::new(lab.namespace("g1")?);
        let yaml = files::documents(&[
            "apiVersion: weft.dev/v1\nkind: Node\nmetadata: {name: site-1}\nspec:\n  uplinks:\n    - {interface: wan0}\n"
                .to_owned(),
            "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: lan}\nspec:\n  local: {nat44: true, nat66: true}\n  ipv4: {prefix: 192.168.50.0/24, gateway: 192.168.50.1}\n"
                .to_owned(),
            files::allow_all("lan"),
            files::guest_on_tap("guest-1", "lan", "tap1", guest.namespace().name(), &["fd50::10", "192.168.50.10"]),
        ]);
        let mut node = Node::prepare(&site.namespace, &weft(), &[("node.yaml", &yaml)])?;
        node.up(&["node.yaml"])?;
        guest.power_on()?;
        guest.router_advertised()?;
        guest.dhcp4()?;
        guest.dhcp6()?;
        let (v4, v6) = (internet.ipv4.unwrap().to_string(), internet.ipv6.unwrap().to_string());
        guest.until_reaches(&v4, PATIENCE)?;
        guest.until_reaches(&v6, PATIENCE)?;
        guest.ping(&v4, 5)?;
        guest.ping(&v6, 5)?;

        // The internet has no road back to the guest's own addresses: it saw those of the site.
        let tap = weft_tests::net::Tap::start(&internet.namespace, "wan0", "icmp or icmp6 or tcp")?;
        guest.ping(&v4, 2)?;
        guest.ping(&v6, 2)?;
        for (address, ours) in [
            (
                std::net::IpAddr::V4(internet.ipv4.unwrap()),
                site.ipv4.unwrap().to_string(),
            ),
            (
                std::net::IpAddr::V6(internet.ipv6.unwrap()),
                site.ipv6.unwrap().to_string(),
            ),
        ] {
            let beat = Heartbeat::start(
                Transport::Tcp,
                guest.namespace(),
                &internet.namespace,
                (address, 7000).into(),
                Duration::from_millis(10),
                PATIENCE,
            )?;
            beat.more(50, PATIENCE)?;
            beat.stop()?;
            let field = if address.is_ipv4() { "ip.src" } else { "ipv6.src" };
            let seen = weft_tests::net::dissect(tap.file(), "tcp.dstport == 7000")?;
            let sources: std::collections::BTreeSet<String> = seen.iter().filter_map(|p| p.first(field)).collect();
            assert_eq!(sources, std::collections::BTreeSet::from([ours]));
        }
        Ok(())
    });
}
