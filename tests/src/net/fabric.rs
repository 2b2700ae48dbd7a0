//! The fabric most scenarios are played on: a Map-Server and some sites on one underlay, one mesh, one guest a site.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use super::{Guest, Lab, LabError, Node, Result, Site, Underlay, files, until, weft};

/// MAC address of the guest of every site (each is alone on its wire).
pub const GUEST_MAC: &str = "02:00:00:00:00:0e";

/// What a site is connected by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteKind {
    /// IPv4 and IPv6.
    Dual,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// By what a node takes part in the sealed network, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has the authority's key and signs its membership itself.
    Member,
    /// It knows the authority, which has signed nothing for it.
    NoMembership,
    /// It has an authority of its own, whose statements are worth nothing to the others.
    OwnAuthority,
}

/// A Map-Server, sites 1, 2, … with a node each, and a guest behind each node: `fd07::<n>` (in a sealed network: the
/// hash of its key) and `10.7.<n>.10`.
pub struct Fabric<'lab> {
    /// IPv6 EIDs of the guests by site.
    pub eids: Vec<Ipv6Addr>,
    /// Guests by site.
    pub guests: Vec<Guest>,
    /// Nodes by site.
    pub nodes: Vec<Node>,
    /// The Map-Server.
    pub map_server: Node,
    /// Where the Map-Server is.
    pub map_server_site: Site,
    /// Sites.
    pub sites: Vec<Site>,
    /// The underlay.
    pub underlay: Underlay<'lab>,
}

impl<'lab> Fabric<'lab> {
    /// Builds it and waits until every guest has its addresses.
    ///
    /// # Errors
    /// With the words of what did not work.
    pub fn new(lab: &'lab Lab, kinds: &[SiteKind]) -> Result<Self> {
        Self::with_policy(lab, kinds, &files::allow_all("plant"))
    }

    /// The same with a policy of its own.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_policy(lab: &'lab Lab, kinds: &[SiteKind], policy: &str) -> Result<Self> {
        let underlay = Underlay::new(lab)?;
        let map_server_site = underlay.site("ms", true, true)?;
        let names: Vec<String> = (1..=kinds.len()).map(|n| format!("site-{n}")).collect();
        let slices: Vec<(String, String)> = (1..=kinds.len())
            .map(|n| (format!("fd07::{n}/128"), format!("10.7.{n}.0/24")))
            .collect();
        let node_prefixes: Vec<String> = (1..=kinds.len()).map(|n| format!("fd07::{n}:0/112")).collect();
        let prefixes: Vec<Vec<(u32, &str)>> = slices
            .iter()
            .zip(&node_prefixes)
            .map(|((v6, v4), node)| vec![(7, v6.as_str()), (7, v4.as_str()), (7, node.as_str())])
            .collect();
        let sites_of_map_server: Vec<files::MapServerSite<'_>> = names
            .iter()
            .zip(&prefixes)
            .zip(1u8..)
            .map(|((name, prefixes), key_id)| files::MapServerSite {
                name,
                key_id,
                prefixes,
                proxy_reply: true,
            })
            .collect();
        let mut parts: Vec<String> = names.iter().map(|name| files::secret(name)).collect();
        parts.push(files::map_server(
            &map_server_site.addresses(),
            &["[7]fd07::/16", "[7]10.7.0.0/16"],
            &sites_of_map_server,
        ));
        let mut map_server = prepare(&map_server_site, "ms.yaml", &parts, &names)?;
        map_server.map_server(&["ms.yaml"])?;

        let (mut sites, mut nodes, mut guests) = (Vec::new(), Vec::new(), Vec::new());
        for ((number, name), kind) in (1u8..).zip(&names).zip(kinds) {
            let site = underlay.site(&format!("s{number}"), *kind != SiteKind::V6, *kind != SiteKind::V4)?;
            let resolver = match kind {
                SiteKind::V6 => map_server_site.ipv6.map(IpAddr::V6),
                SiteKind::V4 | SiteKind::Dual => map_server_site.ipv4.map(IpAddr::V4),
            }
            .ok_or_else(|| LabError::Unexpected("the Map-Server lacks an address".into()))?;
            let guest = Guest::new(lab.namespace(&format!("g{number}"))?);
            lab.cable((guest.namespace(), "eth0"), (&site.namespace, "cable"))?;
            guest.namespace().ip(&format!("link set eth0 address {GUEST_MAC}"))?;
            let slice = format!("10.7.{number}.0/24");
            let node_address = format!("fd07::{number}:1");
            let mesh = files::Mesh {
                name: "plant",
                instance_id: 7,
                prefixes: &["fd07::/16", "10.7.0.0/16"],
                ipv4: ("10.7.0.0/16", "10.7.0.1", &slice),
                node_addresses: &[&node_address],
                names: &[],
            };
            let parts = [
                files::secret(name),
                files::node(name, u64::from(number), number, resolver),
                mesh.yaml(),
                policy.to_owned(),
                files::guest_on_veth(
                    &format!("guest-{number}"),
                    "plant",
                    "cable",
                    GUEST_MAC,
                    &[&format!("fd07::{number}"), &format!("10.7.{number}.10")],
                ),
            ];
            let mut node = prepare(&site, "node.yaml", &parts, std::slice::from_ref(name))?;
            node.up(&["node.yaml"])?;
            guest.power_on()?;
            guest.router_advertised()?;
            guest.dhcp6()?;
            guest.dhcp4()?;
            sites.push(site);
            nodes.push(node);
            guests.push(guest);
        }
        let eids = (1..)
            .take(guests.len())
            .map(|n| Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, n));
        Ok(Self {
            eids: eids.collect(),
            guests,
            nodes,
            map_server,
            map_server_site,
            sites,
            underlay,
        })
    }

    /// Builds a sealed one, of members only, and waits until every guest has its addresses.
    ///
    /// # Errors
    /// With the words of what did not work.
    pub fn sealed(lab: &'lab Lab, kinds: &[SiteKind]) -> Result<Self> {
        let sites: Vec<_> = kinds.iter().map(|kind| (*kind, Standing::Member)).collect();
        Self::sealed_of(lab, &sites)
    }

    /// The same of nodes that are members and nodes that are not.
    ///
    /// # Errors
    /// As [`Self::sealed`].
    pub fn sealed_of(lab: &'lab Lab, kinds: &[(SiteKind, Standing)]) -> Result<Self> {
        let (authority, stranger) = (files::Key::new()?, files::Key::new()?);
        let underlay = Underlay::new(lab)?;
        let map_server_site = underlay.site("ms", true, true)?;
        let names: Vec<String> = (1..=kinds.len()).map(|n| format!("site-{n}")).collect();
        let mut parts: Vec<String> = names.iter().map(|name| files::secret(name)).collect();
        parts.push(files::sealed_map_server(
            &map_server_site.addresses(),
            &authority.public(),
            &names,
        ));
        let mut map_server = prepare(&map_server_site, "ms.yaml", &parts, &names)?;
        map_server.map_server(&["ms.yaml"])?;

        let (mut sites, mut nodes, mut guests, mut eids) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((number, name), (kind, standing)) in (1u8..).zip(&names).zip(kinds) {
            let site = underlay.site(&format!("s{number}"), *kind != SiteKind::V6, *kind != SiteKind::V4)?;
            let resolver = match kind {
                SiteKind::V6 => map_server_site.ipv6.map(IpAddr::V6),
                SiteKind::V4 | SiteKind::Dual => map_server_site.ipv4.map(IpAddr::V4),
            }
            .ok_or_else(|| LabError::Unexpected("the Map-Server lacks an address".into()))?;
            let guest = Guest::new(lab.namespace(&format!("g{number}"))?);
            lab.cable((guest.namespace(), "eth0"), (&site.namespace, "cable"))?;
            guest.namespace().ip(&format!("link set eth0 address {GUEST_MAC}"))?;
            let signs_itself = *standing != Standing::NoMembership;
            let authority = if *standing == Standing::OwnAuthority {
                &stranger
            } else {
                &authority
            };
            let who = format!("guest-{number}");
            let key = files::Key::new()?;
            let address = format!("10.7.{number}.10");
            let on_veth = files::guest_on_veth(&who, "plant", "cable", GUEST_MAC, &[&address]);
            let mut parts = vec![
                files::secret(name),
                files::secret(&who),
                files::node(name, u64::from(number), number, resolver),
                files::sealed_mesh(&authority.public(), signs_itself, &format!("10.7.{number}.0/24")),
                files::allow_all("plant"),
                files::with_key(&on_veth, &who),
            ];
            let mut keys = vec![key.file(&who)];
            if signs_itself {
                parts.push(files::secret("authority"));
                keys.push(authority.file("authority"));
            }
            let mut node = prepare(&site, "node.yaml", &parts, std::slice::from_ref(name))?;
            for (name, text) in &keys {
                node.write(name, text)?;
            }
            node.up(&["node.yaml"])?;
            guest.power_on()?;
            guest.router_advertised()?;
            guest.dhcp6()?;
            guest.dhcp4()?;
            sites.push(site);
            nodes.push(node);
            guests.push(guest);
            eids.push(key.eid()?);
        }
        Ok(Self {
            eids,
            guests,
            nodes,
            map_server,
            map_server_site,
            sites,
            underlay,
        })
    }

    /// The IPv6 EID of the guest of site `number` (from 1).
    ///
    /// # Panics
    /// When there is no such site.
    #[must_use]
    pub fn eid(&self, number: usize) -> Ipv6Addr {
        self.eids[number - 1]
    }

    /// Waits until the guest of site `from` reaches that of site `to` over IPv6 (numbers from 1).
    ///
    /// # Errors
    /// When it does not within ten seconds; with the status of both nodes.
    pub fn until_connected(&self, from: usize, to: usize) -> Result<()> {
        let target = self.eid(to).to_string();
        self.guest(from)
            .until_reaches(&target, Duration::from_secs(10))
            .map_err(|error| {
                let status = |n: usize| {
                    self.nodes
                        .get(n - 1)
                        .and_then(|node| node.weft(&["status"]).ok())
                        .unwrap_or_default()
                };
                LabError::Unexpected(format!(
                    "{error}\nsite {from}:\n{}\nsite {to}:\n{}",
                    status(from),
                    status(to)
                ))
            })
    }

    /// The guest of site `number` (from 1).
    ///
    /// # Panics
    /// When there is no such site.
    #[must_use]
    pub fn guest(&self, number: usize) -> &Guest {
        &self.guests[number - 1]
    }

    /// The node of site `number` (from 1).
    ///
    /// # Panics
    /// When there is no such site.
    pub fn node(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }

    /// Waits until a counter of a node (as `weft status` names it) satisfies `test`.
    ///
    /// # Errors
    /// When it does not within five seconds.
    pub fn until_status(&self, number: usize, what: &str, test: impl Fn(&serde_json::Value) -> bool) -> Result<()> {
        until(what, Duration::from_secs(5), || {
            let status = self.nodes[number - 1].json(&["status"])?;
            Ok(test(&status).then_some(()))
        })
    }
}

/// Writes the files of a node: its documents, and the keys of `whose`.
fn prepare(site: &Site, name: &str, documents: &[String], whose: &[String]) -> Result<Node> {
    let yaml = files::documents(documents);
    let keys: Vec<(String, String)> = whose.iter().map(|who| files::key_file(who)).collect();
    let mut all: Vec<(&str, &str)> = keys.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    all.push((name, &yaml));
    Node::prepare(&site.namespace, &weft(), &all)
}
