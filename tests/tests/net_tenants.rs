//! Two tenants with the same addresses on the same nodes: no packet of one ever reaches the other, and every packet on
//! the wire is what RFC 9300 and 9301 say, judged by tshark. Needs root.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use weft_tests::net::{
    Guest, Lab, Namespace, Node, Result, Site, Tap, Underlay, dissect, files, scenario, until, weft,
};

const TENANTS: [(&str, u32); 2] = [("red", 7), ("blue", 8)];

struct Tenants<'lab> {
    guests: Vec<(String, Guest)>,
    _nodes: Vec<Node>,
    sites: Vec<Site>,
    underlay: Underlay<'lab>,
}

/// Sites 1 and 2; on each a guest of either tenant, with equal addresses: `fd07::<site>` and `10.7.<site>.10`.
fn build(lab: &Lab) -> Result<Tenants<'_>> {
    let underlay = Underlay::new(lab)?;
    let ms = underlay.site("ms", true, true)?;
    let prefixes = [
        vec![
            (7, "fd07::1/128"),
            (7, "10.7.1.0/24"),
            (8, "fd07::1/128"),
            (8, "10.7.1.0/24"),
        ],
        vec![
            (7, "fd07::2/128"),
            (7, "10.7.2.0/24"),
            (8, "fd07::2/128"),
            (8, "10.7.2.0/24"),
            (8, "fd07::3/128"),
        ],
    ];
    let listed: Vec<files::MapServerSite<'_>> = ["site-1", "site-2"]
        .iter()
        .zip(&prefixes)
        .zip(1u8..)
        .map(|((name, prefixes), key_id)| files::MapServerSite {
            name,
            key_id,
            prefixes,
            proxy_reply: false,
        })
        .collect();
    let blocks = ["[7]fd07::/16", "[7]10.7.0.0/16", "[8]fd07::/16", "[8]10.7.0.0/16"];
    let yaml = files::documents(&[
        files::secret("site-1"),
        files::secret("site-2"),
        files::map_server(&ms.addresses(), &blocks, &listed),
    ]);
    let keys = [files::key_file("site-1"), files::key_file("site-2")];
    let mut nodes = Vec::new();
    let mut map_server = Node::prepare(
        &ms.namespace,
        &weft(),
        &[("ms.yaml", &yaml), (&keys[0].0, &keys[0].1), (&keys[1].0, &keys[1].1)],
    )?;
    map_server.map_server(&["ms.yaml"])?;
    nodes.push(map_server);

    let (mut sites, mut guests) = (Vec::new(), Vec::new());
    for number in 1..=2u8 {
        let site = underlay.site(&format!("s{number}"), true, true)?;
        let name = format!("site-{number}");
        let mut parts = vec![
            files::secret(&name),
            files::node(&name, number.into(), number, IpAddr::V4(ms.ipv4.unwrap())),
        ];
        for (tenant, instance_id) in TENANTS {
            let slice = format!("10.7.{number}.0/24");
            parts.push(
                files::Mesh {
                    name: tenant,
                    instance_id,
                    prefixes: &["fd07::/16", "10.7.0.0/16"],
                    ipv4: ("10.7.0.0/16", "10.7.0.1", &slice),
                    node_addresses: &[],
                    names: &[],
                }
                .yaml(),
            );
            parts.push(files::allow_all(tenant));
            let (v6, v4) = (format!("fd07::{number}"), format!("10.7.{number}.10"));
            let guest = Guest::new(lab.namespace(&format!("{tenant}-{number}"))?);
            parts.push(files::guest_on_tap(
                &format!("{tenant}-{number}"),
                tenant,
                &format!("tap-{tenant}"),
                guest.namespace().name(),
                &[&v6, &v4],
            ));
            guests.push((format!("{tenant}-{number}"), guest));
        }
        let key = files::key_file(&name);
        let yaml = files::documents(&parts);
        let mut node = Node::prepare(&site.namespace, &weft(), &[("node.yaml", &yaml), (&key.0, &key.1)])?;
        node.up(&["node.yaml"])?;
        sites.push(site);
        nodes.push(node);
    }
    for (_, guest) in &guests {
        guest.power_on()?;
        guest.router_advertised()?;
        guest.dhcp6()?;
        guest.dhcp4()?;
    }
    Ok(Tenants {
        guests,
        _nodes: nodes,
        sites,
        underlay,
    })
}

impl Tenants<'_> {
    fn guest(&self, name: &str) -> &Guest {
        self.guests
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, guest)| guest)
            .expect("a guest of that name")
    }
}

/// A service that tells its tenant, once for every datagram, until the lab ends.
fn tell(guest: &Guest, word: &'static str) -> Result<()> {
    for address in ["[::]:9000", "0.0.0.0:9000"] {
        let address: SocketAddr = address.parse().expect("an address");
        let socket = guest
            .namespace()
            .within(move || {
                // An IPv6 wildcard would take the IPv4 port too.
                if address.is_ipv6() {
                    bind_v6_only(address)
                } else {
                    UdpSocket::bind(address)
                }
            })?
            .expect("a free port");
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a timeout");
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(word.as_bytes(), from);
            }
        });
    }
    Ok(())
}

fn bind_v6_only(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None)?;
    socket.set_only_v6(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Asks the service at `to` from within `from`; `None` when no answer comes within a second.
fn ask(from: &Namespace, to: &str) -> Result<Option<String>> {
    let to: SocketAddr = to.parse().expect("an address");
    from.within(move || {
        let any: SocketAddr = if to.is_ipv6() {
            ([0u16; 8], 0).into()
        } else {
            ([0u8; 4], 0).into()
        };
        let socket = UdpSocket::bind(any).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        socket.send_to(b"who are you?", to).ok()?;
        let mut buffer = [0; 64];
        let (length, _) = socket.recv_from(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}

#[test]
fn tenants_with_equal_addresses_never_meet() {
    scenario(|lab| {
        let tenants = build(lab)?;
        let tap = Tap::start(tenants.underlay.router(), &tenants.sites[0].router_interface, "udp")?;
        tell(tenants.guest("red-2"), "red")?;
        tell(tenants.guest("blue-2"), "blue")?;
        for (tenant, _) in TENANTS {
            let asker = tenants.guest(&format!("{tenant}-1"));
            for target in ["[fd07::2]:9000", "10.7.2.10:9000"] {
                let answer = until(
                    &format!("{tenant} gets an answer from {target}"),
                    Duration::from_secs(10),
                    || ask(asker.namespace(), target),
                )?;
                assert_eq!(answer, tenant, "who answered {tenant} at {target}");
                for _ in 0..20 {
                    assert_eq!(ask(asker.namespace(), target)?.as_deref(), Some(tenant));
                }
            }
        }
        // A TTL and a DSCP to recognise on the wire.
        tenants
            .guest("red-1")
            .namespace()
            .run("ping -n -c 3 -i 0.05 -W 2 -t 33 -Q 0x28 10.7.2.10")?;
        tenants
            .guest("blue-1")
            .namespace()
            .run("ping -n -c 3 -i 0.05 -W 2 -t 44 -Q 0x28 fd07::2")?;

        let file = tap.stop()?;
        let packets = dissect(&file, "")?;
        assert!(packets.len() > 150, "{} packets on the wire", packets.len());
        for packet in &packets {
            assert_eq!(packet.complaints(), Vec::<String>::new(), "{}", packet.layers);
        }
        let data = dissect(&file, "lisp-data")?;
        assert!(data.len() > 150, "{} data packets", data.len());
        for packet in &data {
            assert_eq!(
                packet.first("udp.dstport").as_deref(),
                Some("4341"),
                "RFC 9300 §5.3: port 4341"
            );
            for (flag, value) in [("nonce", "0"), ("lsb", "0"), ("enr", "0"), ("mv", "0"), ("iid", "1")] {
                let name = format!("lisp-data.flags.{flag}");
                assert_eq!(
                    truth(packet.first(&name)),
                    Some(value.to_owned()),
                    "RFC 9300 §4.1: {name}"
                );
            }
            let iid = packet.first("lisp-data.iid");
            assert!(matches!(iid.as_deref(), Some("7" | "8")), "Instance-ID {iid:?}");
            assert_eq!(packet.first("lisp-data.lsb8").and_then(|l| number(&l)).unwrap_or(0), 0);
        }
        for (filter, iid) in [("icmp.type == 8", "7"), ("icmpv6.type == 128", "8")] {
            let echoes = dissect(&file, &format!("lisp-data && {filter}"))?;
            assert!(echoes.len() >= 3, "{filter}: {}", echoes.len());
            for packet in echoes {
                assert_eq!(packet.first("lisp-data.iid").as_deref(), Some(iid), "{filter}");
                let ttls: Vec<String> = [packet.all("ip.ttl"), packet.all("ipv6.hlim")].concat();
                assert!(
                    ttls.windows(2).all(|pair| pair[0] == pair[1]),
                    "RFC 9300 §5.3: TTL copied outwards: {ttls:?}"
                );
                let dscp: Vec<String> = [packet.all("ip.dsfield.dscp"), packet.all("ipv6.tclass.dscp")].concat();
                assert!(
                    dscp.iter().all(|value| value == "10"),
                    "RFC 9300 §5.3: DSCP copied outwards: {dscp:?}"
                );
            }
        }
        let fragments = dissect(
            &file,
            "lisp-data && ip.version == 4 && ip.flags.df == 0 && frame.protocols contains \"ip:udp:lisp-data\"",
        )?;
        for packet in fragments {
            assert_ne!(
                truth(packet.first("ip.flags.df")),
                Some("0".into()),
                "RFC 9300 §7.1: outer DF"
            );
        }
        Ok(())
    });
}

#[test]
fn an_eid_of_one_tenant_is_unknown_to_the_other() {
    scenario(|lab| {
        let tenants = build(lab)?;
        tenants
            .guest("red-1")
            .until_reaches("fd07::2", Duration::from_secs(10))?;
        // Only blue has fd07::3.
        let extra = files::guest_on_tap(
            "blue-3",
            "blue",
            "tap-blue3",
            tenants.guest("blue-1").namespace().name(),
            &["fd07::3"],
        )
        .replace("as: eth0", "as: eth3");
        tenants._nodes[2].apply("blue-3.yaml", &extra)?;
        tenants.guest("blue-1").namespace().ip("link set eth3 up")?;
        let target = "fd07::3";
        assert!(
            !tenants.guest("red-1").reaches(target)?,
            "red reaches an EID that only blue has"
        );
        assert!(
            !tenants.guest("red-2").reaches(target)?,
            "red reaches it on the very node that serves it"
        );
        Ok(())
    });
}

fn truth(value: Option<String>) -> Option<String> {
    value.map(|text| match text.as_str() {
        "true" | "True" => "1".into(),
        "false" | "False" => "0".into(),
        _ => text,
    })
}

fn number(text: &str) -> Option<u64> {
    text.strip_prefix("0x")
        .map_or_else(|| text.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok())
}
