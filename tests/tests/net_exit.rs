//! What the exit of local networks opens, and what it does not: guests leave by the uplinks and nowhere else, the node's
//! own services stay closed to them, and nobody else is routed because of them. Needs root.

use std::{
    net::{IpAddr, TcpListener},
    time::Duration,
};

use weft_tests::net::{Guest, LabError, Namespace, Node, Result, Tap, Underlay, dissect, files, scenario, until, weft};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_secs(10);

/// Switches of a host that decide what it forwards and which routes it learns.
fn switches(host: &Namespace) -> Result<Vec<String>> {
    let text = host.run("sysctl -a --pattern (forwarding|accept_ra|ip_forward)$")?;
    let lines = text.lines().filter(|line| !line.contains("weft-exit"));
    Ok(lines.map(str::to_owned).collect())
}

/// Sends pings that may be lost, one of each family.
fn knock(from: &Namespace, addresses: &[IpAddr]) -> Result<()> {
    for address in addresses {
        from.attempt(&format!("ping -n -c 2 -i 0.2 -W 1 {address}"), SHORT)?;
    }
    Ok(())
}

/// Whether a TCP connection to `address` comes about.
fn connects(from: &Namespace, address: IpAddr, port: u16) -> Result<bool> {
    from.within(move || std::net::TcpStream::connect_timeout(&(address, port).into(), Duration::from_secs(1)).is_ok())
}

fn pings(tap: &Tap) -> Result<Vec<String>> {
    let seen = dissect(tap.file(), "icmp.type == 8 || icmpv6.type == 128")?;
    let source = |p: &weft_tests::net::Dissected| p.first("ip.src").or_else(|| p.first("ipv6.src"));
    Ok(seen.iter().filter_map(source).collect())
}

#[test]
fn local_networks_make_no_open_router_of_the_host() {
    scenario(|lab| {
        let underlay = Underlay::new(lab)?;
        let site = underlay.site("s1", true, true)?;
        let web = underlay.site("web", true, true)?;
        let guest = Guest::new(lab.namespace("g1")?);
        // A network of the host that is no uplink, with somebody in it who takes the host for a router.
        let third = lab.namespace("third")?;
        lab.cable((&site.namespace, "lan0"), (&third, "eth0"))?;
        site.namespace.configure("lan0", &["10.99.0.1/24", "fd99::1/64"])?;
        third.configure("eth0", &["10.99.0.2/24", "fd99::2/64"])?;
        third.default_route("10.99.0.1".parse().unwrap())?;
        third.default_route("fd99::1".parse().unwrap())?;
        let (ours, theirs): (Vec<IpAddr>, Vec<IpAddr>) = (site.addresses(), web.addresses());
        let inside: Vec<IpAddr> = vec!["10.99.0.2".parse().unwrap(), "fd99::2".parse().unwrap()];
        // The underlay takes the host for a router too.
        let router = underlay.router();
        router.ip(&format!("route add 10.99.0.0/24 via {}", site.ipv4.unwrap()))?;
        router.ip(&format!("-6 route add fd99::/64 via {}", site.ipv6.unwrap()))?;
        knock(&third, &["10.99.0.1".parse().unwrap(), "fd99::1".parse().unwrap()])?;
        let before = switches(&site.namespace)?;

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
        for address in &theirs {
            guest.until_reaches(&address.to_string(), PATIENCE)?;
        }

        let at_third = Tap::start(&third, "eth0", "icmp or icmp6")?;
        let at_web = Tap::start(&web.namespace, "wan0", "icmp or icmp6")?;
        // Guests do not come into the host's other networks; strangers are not routed, from either side.
        knock(guest.namespace(), &inside)?;
        knock(&third, &theirs)?;
        knock(&web.namespace, &inside)?;
        // The host itself still is in both, and so are the captures.
        knock(&site.namespace, &inside)?;
        knock(&site.namespace, &theirs)?;
        until("the captures see the host's own pings", PATIENCE, || {
            Ok((pings(&at_third)?.len() >= 4 + 4 && pings(&at_web)?.len() >= 4 + 4).then_some(()))
        })?;
        let mut strangers: Vec<String> = pings(&at_third)?;
        strangers.retain(|from| !["10.99.0.1", "fd99::1", "10.99.0.2", "fd99::2"].contains(&from.as_str()));
        assert!(strangers.is_empty(), "into the host's other network: {strangers:?}");
        let from_third: Vec<String> = pings(&at_web)?
            .into_iter()
            .filter(|from| from.starts_with("10.99.") || from.starts_with("fd99:"))
            .collect();
        assert!(
            from_third.is_empty(),
            "routed out of the host's other network: {from_third:?}"
        );

        // What listens on the host is there for the underlay, and not for guests; pings are answered.
        let _listener = site
            .namespace
            .within(|| TcpListener::bind(("::", 8080)))?
            .map_err(|error| LabError::Unexpected(error.to_string()))?;
        for address in &ours {
            assert!(connects(&web.namespace, *address, 8080)?, "{address} from outside");
            guest.until_reaches(&address.to_string(), PATIENCE)?;
            assert!(!connects(guest.namespace(), *address, 8080)?, "{address} from a guest");
        }

        // `kill -9` leaves the host as it was made; the next one knows what was the host's own, and puts it back.
        node.kill();
        node.up(&[])?;
        guest.until_reaches(&theirs[0].to_string(), PATIENCE)?;
        node.stop()?;
        assert_eq!(switches(&site.namespace)?, before);
        assert!(!site.namespace.run("nft list tables")?.contains("weft"));
        Ok(())
    });
}
