//! The configuration files of the mesh demo, as an operator would write them.

use crate::lab::Site;

/// Files of the Map-Server: one site "plant" with a key for each of its three nodes.
pub(super) fn map_server(site: &Site) -> Vec<(String, String)> {
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
    let secrets: String = ["a", "b", "c"].iter().map(|node| secret(node)).collect();
    let yaml = format!(
        "{secrets}apiVersion: weft.dev/v1
kind: MapServer
metadata: {{name: ms}}
spec:
  listen: [{}]
  store: disk
  blocks: [\"[7]fd07::/16\", \"[7]10.7.0.0/16\"]
  sites:
    - name: plant
      keys:
{keys}      prefixes:
        - {{instanceId: 7, prefix: \"fd07::/16\", acceptMoreSpecifics: true}}
        - {{instanceId: 7, prefix: \"10.7.0.0/16\", acceptMoreSpecifics: true}}
",
        listen.join(", ")
    );
    files.push(("mapserver.yaml".into(), yaml));
    files
}

/// Files of the node of site `name` (`a`, `b` or `c`), which asks the Map-Server at `map_server`.
pub(super) fn node(name: &str, map_server: &str) -> Vec<(String, String)> {
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
    encryption: none
    prefixes: [\"fd07::/16\", \"10.7.0.0/16\"]
    nodeAddresses: [\"fd07::{name}:1\"]
  ipv4: {{prefix: 10.7.0.0/16, gateway: 10.7.0.1, slice: 10.7.{number}.0/24}}
  names: {{guest-a: [\"fd07::a\", \"10.7.1.10\"], guest-b: [\"fd07::b\", \"10.7.2.10\"]}}
---
apiVersion: weft.dev/v1
kind: Policy
metadata: {{name: plant}}
spec:
  network: plant
  rules:
    - from: [{{prefix: \"fd07::/16\"}}, {{prefix: \"10.7.0.0/16\"}}]
      to: [{{prefix: \"fd07::/16\"}}, {{prefix: \"10.7.0.0/16\"}}]
      services: [icmp, tcp/5201, tcp/7000, udp/7000]
      action: allow
",
        secret = secret(name)
    );
    vec![key(name), ("node.yaml".into(), yaml)]
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
      addresses: [\"fd07::a\", \"10.7.1.10\"]
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
      addresses: [\"fd07::b\", \"10.7.2.10\"]
"
    )
}

/// MAC address of the guest that moves.
pub(super) const GUEST_B_MAC: &str = "02:00:00:00:00:0b";

fn secret(node: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1
kind: Secret
metadata: {{name: site-{node}-key}}
spec: {{file: site-{node}.key}}
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
