//! The configuration files of the mesh demo, as an operator would write them.

use std::net::IpAddr;

use lisp::{
    InstanceId,
    mesh::{PublicKey, Signer as _, SoftwareKey, crypto_eid},
};

use crate::{
    keyring,
    lab::{LabError, Result, Site},
};

/// The tenant of the demo.
const INSTANCE_ID: u32 = 7;

/// The keys of the demo: the network's authority, and one for each guest, whose EID is its hash.
#[derive(Debug)]
pub(super) struct Keys {
    authority: SoftwareKey,
    guest_a: SoftwareKey,
    guest_b: SoftwareKey,
    /// EID of the guest at A.
    pub(super) eid_a: IpAddr,
    /// EID of the guest that moves.
    pub(super) eid_b: IpAddr,
}

impl Keys {
    /// New ones.
    pub(super) fn new() -> Result<Self> {
        let key = || keyring::generate().map_err(LabError::unexpected);
        let (guest_a, guest_b) = (key()?, key()?);
        let eid = |key: &SoftwareKey| {
            let instance_id = InstanceId::new(INSTANCE_ID).unwrap_or_default();
            let eid = crypto_eid(instance_id, &key.public_key());
            eid.map(|eid| eid.address)
                .ok_or_else(|| LabError::unexpected("a key without an EID"))
        };
        Ok(Self {
            eid_a: eid(&guest_a)?,
            eid_b: eid(&guest_b)?,
            authority: key()?,
            guest_a,
            guest_b,
        })
    }

    fn authority(&self) -> PublicKey {
        self.authority.public_key()
    }
}

/// Files of the Map-Server: one site "plant" with a key for each of its three nodes.
pub(super) fn map_server(site: &Site, keys_of: &Keys) -> Vec<(String, String)> {
    let listen: Vec<String> = site
        .addresses()
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect();
    let mut files: Vec<(String, String)> = ["a", "b", "c"].iter().map(|node| key(node)).collect();
    let keys: String = ["a", "b", "c"]
        .iter()
        .enumerate()
        .map(|(index, node)| {
            format!(
                "        - {{id: {}, algorithms: [hmac-sha256-128-hkdf-sha256], secret: site-{node}-key}}\n",
                index + 1
            )
        })
        .collect();
    let secrets: String = ["a", "b", "c"]
        .iter()
        .map(|node| secret(&format!("site-{node}")))
        .collect();
    let yaml = format!(
        "{secrets}apiVersion: weft.dev/v1
kind: MapServer
metadata: {{name: ms}}
spec:
  listen: [{}]
  store: disk
  blocks: [\"[7]fd00::/8\", \"[7]10.7.0.0/16\"]
  authorities:
    - {{instanceId: 7, authority: \"{authority}\"}}
  sites:
    - name: plant
      keys:
{keys}      prefixes:
        - {{instanceId: 7, prefix: \"fd00::/8\", acceptMoreSpecifics: true}}
        - {{instanceId: 7, prefix: \"10.7.0.0/16\", acceptMoreSpecifics: true}}
",
        listen.join(", "),
        authority = keys_of.authority()
    );
    files.push(("mapserver.yaml".into(), yaml));
    files
}

/// Files of the node of site `name` (`a`, `b` or `c`), which asks the Map-Server at `map_server`.
pub(super) fn node(name: &str, map_server: &str, keys: &Keys) -> Vec<(String, String)> {
    let number = match name {
        "a" => 1,
        "b" => 2,
        _ => 3,
    };
    let yaml = format!(
        "{secret}apiVersion: weft.dev/v1
kind: Node
metadata: {{name: site-{name}}}
spec:
  siteId: {number}
  mapServers:
    - address: \"{map_server}\"
      key: {{id: {number}, algorithm: hmac-sha256-128-hkdf-sha256, secret: site-{name}-key}}
  uplinks:
    - {{interface: wan0}}
---
apiVersion: weft.dev/v1
kind: Network
metadata: {{name: plant}}
spec:
  mesh:
    instanceId: 7
    prefixes: [\"fd00::/8\", \"10.7.0.0/16\"]
    authority: \"{authority}\"
    authorityKey: authority-key
  ipv4: {{prefix: 10.7.0.0/16, gateway: 10.7.0.1, slice: 10.7.{number}.0/24}}
  names: {{guest-a: [\"{eid_a}\", \"10.7.1.10\"], guest-b: [\"{eid_b}\", \"10.7.2.10\"]}}
---
apiVersion: weft.dev/v1
kind: Policy
metadata: {{name: plant}}
spec:
  network: plant
  rules:
    - from: [{{prefix: \"fd00::/8\"}}, {{prefix: \"10.7.0.0/16\"}}]
      to: [{{prefix: \"fd00::/8\"}}, {{prefix: \"10.7.0.0/16\"}}]
      services: [icmp, tcp/5201, tcp/7000, udp/7000]
      action: allow
",
        secret = [
            secret(&format!("site-{name}")),
            secret("authority"),
            secret("guest-a"),
            secret("guest-b")
        ]
        .concat(),
        authority = keys.authority(),
        eid_a = keys.eid_a,
        eid_b = keys.eid_b,
    );
    let private = |name: &str, key: &SoftwareKey| (format!("{name}.key"), key.to_text().to_string());
    vec![
        key(name),
        private("authority", &keys.authority),
        private("guest-a", &keys.guest_a),
        private("guest-b", &keys.guest_b),
        ("node.yaml".into(), yaml),
    ]
}

/// The guest at A, on a TAP that Weft makes and moves into the guest's namespace.
pub(super) fn guest_a(namespace: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1
kind: Guest
metadata: {{name: guest-a}}
spec:
  nics:
    - name: eth0
      network: plant
      attach: {{tap: {{interface: tapa, netns: {namespace}, as: eth0}}}}
      key: guest-a-key
      addresses: [\"10.7.1.10\"]
"
    )
}

/// The guest at B, and after its move at C: the same words on either node.
pub(super) fn guest_b() -> String {
    format!(
        "apiVersion: weft.dev/v1
kind: Guest
metadata: {{name: guest-b}}
spec:
  nics:
    - name: eth0
      network: plant
      attach: {{veth: {{interface: cable-b}}}}
      mac: \"{GUEST_B_MAC}\"
      key: guest-b-key
      addresses: [\"10.7.2.10\"]
"
    )
}

/// MAC address of the guest that moves.
pub(super) const GUEST_B_MAC: &str = "02:00:00:00:00:0b";

fn secret(whose: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1
kind: Secret
metadata: {{name: {whose}-key}}
spec: {{file: {whose}.key}}
---
"
    )
}

fn key(node: &str) -> (String, String) {
    (
        format!("site-{node}.key"),
        format!("the key of site {node} in the demo\n"),
    )
}
