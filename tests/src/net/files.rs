//! Configuration files as an operator writes them, put together from parts.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv6Addr},
};

use edge_node::keyring;
use lisp::{
    InstanceId,
    mesh::{PublicKey, Signer as _, SoftwareKey, crypto_eid},
};

use super::{LabError, Result};

/// Joins documents.
#[must_use]
pub fn documents(parts: &[String]) -> String {
    parts.join("---\n")
}

/// A `Secret` named `<who>-key` in the file `<who>.key` beside the configuration.
#[must_use]
pub fn secret(who: &str) -> String {
    format!("apiVersion: weft.dev/v1\nkind: Secret\nmetadata: {{name: {who}-key}}\nspec: {{file: {who}.key}}\n")
}

/// Name and content of that file.
#[must_use]
pub fn key_file(who: &str) -> (String, String) {
    (format!("{who}.key"), format!("{}\n", key(who)))
}

/// The shared secret itself.
#[must_use]
pub fn key(who: &str) -> String {
    format!("the shared secret of {who}")
}

/// A site of a Map-Server.
#[derive(Clone, Debug)]
pub struct MapServerSite<'a> {
    /// Name of the site and of its secret.
    pub name: &'a str,
    /// Key-ID.
    pub key_id: u8,
    /// `(Instance-ID, prefix)` it may register, and parts of them.
    pub prefixes: &'a [(u32, &'a str)],
    /// Whether the Map-Server may answer for it.
    pub proxy_reply: bool,
}

/// A `MapServer` that listens on `listen`.
#[must_use]
pub fn map_server(listen: &[IpAddr], blocks: &[&str], sites: &[MapServerSite<'_>]) -> String {
    let mut text = String::from("apiVersion: weft.dev/v1\nkind: MapServer\nmetadata: {name: ms}\nspec:\n");
    let list = |items: &[String]| items.iter().map(|i| format!("\"{i}\"")).collect::<Vec<_>>().join(", ");
    let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
    let blocks: Vec<String> = blocks.iter().map(ToString::to_string).collect();
    let _ = writeln!(
        text,
        "  listen: [{}]\n  store: disk\n  blocks: [{}]\n  sites:",
        list(&listen),
        list(&blocks)
    );
    for site in sites {
        let _ = writeln!(
            text,
            "    - name: {name}\n      keys: [{{id: {id}, algorithms: [hmac-sha256-128-hkdf-sha256], secret: {name}-key}}]\n      proxyReply: {proxy}\n      prefixes:",
            name = site.name,
            id = site.key_id,
            proxy = site.proxy_reply
        );
        for (instance_id, prefix) in site.prefixes {
            let _ = writeln!(
                text,
                "        - {{instanceId: {instance_id}, prefix: \"{prefix}\", acceptMoreSpecifics: true}}"
            );
        }
    }
    text
}

/// A `Node` with the uplink `wan0`.
#[must_use]
pub fn node(name: &str, site_id: u64, key_id: u8, map_server: IpAddr) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Node\nmetadata: {{name: {name}}}\nspec:\n  siteId: {site_id}\n  mapServers:\n    - address: \"{map_server}\"\n      key: {{id: {key_id}, algorithm: hmac-sha256-128-hkdf-sha256, secret: {name}-key}}\n  uplinks:\n    - {{interface: wan0}}\n"
    )
}

/// A `Network` of kind mesh.
#[derive(Clone, Debug)]
pub struct Mesh<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its tenant.
    pub instance_id: u32,
    /// Its EID space.
    pub prefixes: &'a [&'a str],
    /// IPv4 subnet, gateway, slice.
    pub ipv4: (&'a str, &'a str, &'a str),
    /// This node's own addresses.
    pub node_addresses: &'a [&'a str],
    /// Names.
    pub names: &'a [(&'a str, &'a [&'a str])],
}

impl Mesh<'_> {
    /// Its document.
    #[must_use]
    pub fn yaml(&self) -> String {
        let list = |items: &[&str]| items.iter().map(|i| format!("\"{i}\"")).collect::<Vec<_>>().join(", ");
        let names = self
            .names
            .iter()
            .map(|(name, addresses)| format!("{name}: [{}]", list(addresses)))
            .collect::<Vec<_>>();
        format!(
            "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {{name: {name}}}\nspec:\n  mesh:\n    instanceId: {iid}\n    encryption: none\n    prefixes: [{prefixes}]\n    nodeAddresses: [{nodes}]\n  ipv4: {{prefix: {p4}, gateway: {g4}, slice: {s4}}}\n  names: {{{names}}}\n",
            name = self.name,
            iid = self.instance_id,
            prefixes = list(self.prefixes),
            nodes = list(self.node_addresses),
            p4 = self.ipv4.0,
            g4 = self.ipv4.1,
            s4 = self.ipv4.2,
            names = names.join(", "),
        )
    }
}

/// A `Policy` that allows everything in a network.
#[must_use]
pub fn allow_all(network: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Policy\nmetadata: {{name: {network}}}\nspec:\n  network: {network}\n  rules:\n    - {{action: allow}}\n"
    )
}

/// A `Policy` that allows only these services in a network.
#[must_use]
pub fn allow(network: &str, services: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Policy\nmetadata: {{name: {network}}}\nspec:\n  network: {network}\n  rules:\n    - {{services: [{services}], action: allow}}\n"
    )
}

/// A `Guest` with one NIC on a TAP that is moved into the namespace `netns` as `eth0`.
#[must_use]
pub fn guest_on_tap(name: &str, network: &str, tap: &str, netns: &str, addresses: &[&str]) -> String {
    guest(
        name,
        network,
        &format!("tap: {{interface: {tap}, netns: {netns}, as: eth0}}"),
        "",
        addresses,
    )
}

/// A `Guest` with one NIC on one end of a veth.
#[must_use]
pub fn guest_on_veth(name: &str, network: &str, interface: &str, mac: &str, addresses: &[&str]) -> String {
    guest(
        name,
        network,
        &format!("veth: {{interface: {interface}}}"),
        &format!("      mac: \"{mac}\"\n"),
        addresses,
    )
}

fn guest(name: &str, network: &str, attach: &str, mac: &str, addresses: &[&str]) -> String {
    let addresses = addresses
        .iter()
        .map(|a| format!("\"{a}\""))
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "apiVersion: weft.dev/v1\nkind: Guest\nmetadata: {{name: {name}}}\nspec:\n  nics:\n    - name: eth0\n      network: {network}\n      attach: {{{attach}}}\n{mac}      addresses: [{addresses}]\n"
    )
}

/// A private key as a scenario deals it out.
#[derive(Debug)]
pub struct Key(SoftwareKey);

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// When the host has no randomness.
    pub fn new() -> Result<Self> {
        keyring::generate().map(Self).map_err(LabError::unexpected)
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.0.public_key()
    }

    /// The EID of tenant 7 that is its hash.
    ///
    /// # Errors
    /// Never, for a key that [`Key::new`] made.
    pub fn eid(&self) -> Result<Ipv6Addr> {
        let eid = InstanceId::new(7).and_then(|tenant| crypto_eid(tenant, &self.public()));
        match eid.map(|eid| eid.address) {
            Some(IpAddr::V6(address)) => Ok(address),
            _ => Err(LabError::Unexpected("a key without an EID".into())),
        }
    }

    /// Name and content of the file of the `Secret` `<who>-key`.
    #[must_use]
    pub fn file(&self, who: &str) -> (String, String) {
        (format!("{who}.key"), self.0.to_text().to_string())
    }
}

/// A `MapServer` of the sealed tenant 7: one site whose nodes, with a key each, may register everything in it.
#[must_use]
pub fn sealed_map_server(listen: &[IpAddr], authority: &PublicKey, nodes: &[String]) -> String {
    let listen = listen
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect::<Vec<_>>();
    let keys: String = (1..)
        .zip(nodes)
        .map(|(id, name)| {
            format!("        - {{id: {id}, algorithms: [hmac-sha256-128-hkdf-sha256], secret: {name}-key}}\n")
        })
        .collect();
    format!(
        "apiVersion: weft.dev/v1\nkind: MapServer\nmetadata: {{name: ms}}\nspec:\n  listen: [{}]\n  store: disk\n  blocks: [\"[7]fd00::/8\", \"[7]10.7.0.0/16\"]\n  authorities:\n    - {{instanceId: 7, authority: \"{authority}\"}}\n  sites:\n    - name: plant\n      keys:\n{keys}      prefixes:\n        - {{instanceId: 7, prefix: \"fd00::/8\", acceptMoreSpecifics: true}}\n        - {{instanceId: 7, prefix: \"10.7.0.0/16\", acceptMoreSpecifics: true}}\n",
        listen.join(", "),
    )
}

/// The sealed `Network` "plant" of tenant 7, as the node with the IPv4 slice `slice` has it. `signs_itself`: the node
/// has the authority's key.
#[must_use]
pub fn sealed_mesh(authority: &PublicKey, signs_itself: bool, slice: &str) -> String {
    let key = if signs_itself {
        "    authorityKey: authority-key\n"
    } else {
        ""
    };
    format!(
        "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {{name: plant}}\nspec:\n  mesh:\n    instanceId: 7\n    prefixes: [\"fd00::/8\", \"10.7.0.0/16\"]\n    authority: \"{authority}\"\n{key}  ipv4: {{prefix: 10.7.0.0/16, gateway: 10.7.0.1, slice: {slice}}}\n"
    )
}

/// Gives the NIC of a `Guest` document the key `<who>-key`, whose hash is its EID.
#[must_use]
pub fn with_key(guest: &str, who: &str) -> String {
    format!("{guest}      key: {who}-key\n")
}
