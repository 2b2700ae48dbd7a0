//! Sealed meshes: what they need to be one.

use super::tests::{broken_in, errors_of, judge};
use crate::intent::{Encryption, MemberId, Network, Selector};
use lisp::mesh::{Signer as _, SoftwareKey};

fn public(n: u8) -> String {
    SoftwareKey::from_bytes(&[n; 32])
        .expect("a key")
        .public_key()
        .to_string()
}

/// A sealed mesh in which every address is the hash of a key.
fn good() -> String {
    let (site_a, site_b) = (public(1), public(2));
    format!(
        r#"apiVersion: weft.dev/v1
kind: Secret
metadata: {{name: guest-key}}
spec: {{file: guest.key}}
---
apiVersion: weft.dev/v1
kind: Node
metadata: {{name: site-a}}
spec: {{}}
---
apiVersion: weft.dev/v1
kind: Network
metadata: {{name: plant}}
spec:
  mesh:
    instanceId: 7
    prefixes: ["fd00::/8", "10.7.0.0/16"]
    members:
      - {{name: site-a, node: "{site_a}", labels: {{role: office}}}}
      - {{name: site-b, node: "{site_b}"}}
      - {{name: meter, eid: "fd12::5", labels: {{role: meter}}}}
  names: {{}}
---
apiVersion: weft.dev/v1
kind: Guest
metadata: {{name: guest-a}}
spec:
  nics:
    - {{name: eth0, network: plant, attach: {{veth: {{interface: va}}}}}}
    - {{name: eth1, network: plant, attach: {{veth: {{interface: vb}}}}, key: guest-key}}
---
apiVersion: weft.dev/v1
kind: Policy
metadata: {{name: meters}}
spec:
  network: plant
  rules:
    - {{from: [{{name: guest-a}}], to: [{{label: role=meter}}], services: [tcp/502], action: allow}}
    - {{from: [{{node: site-b}}], to: [{{name: guest-a}}], services: [icmp], action: allow}}
  tests:
    - {{from: {{name: guest-a}}, to: {{name: meter}}, service: tcp/502, expect: allow}}
    - {{from: {{node: site-b}}, to: {{name: guest-a}}, service: icmp, expect: allow}}
    - {{from: {{node: site-b}}, to: {{name: meter}}, service: icmp, expect: deny}}
"#
    )
}

#[test]
fn a_mesh_is_sealed_when_nothing_else_is_said() {
    let intent = judge(&good()).unwrap_or_else(|errors| panic!("{}", crate::error::Report(errors)));
    let (mesh, sealed) = intent.networks["plant"].sealed().expect("sealed");
    assert!(mesh.node_eid_is_hash());
    assert!(
        intent.guests["guest-a"]
            .nics
            .iter()
            .all(|nic| mesh.nic_eid_is_hash(nic))
    );
    assert_eq!(intent.guests["guest-a"].nics[1].key.as_deref(), Some("guest-key"));
    assert_eq!(sealed.members.len(), 3);
    assert!(matches!(sealed.members[1].who, MemberId::Node(key) if key.to_string() == public(2)));
    assert!(matches!(intent.policies["meters"].rules[1].from[0], Selector::Node(key) if key.to_string() == public(2)));
    let clear = good().replace("instanceId: 7", "instanceId: 7\n    encryption: none");
    let clear = clear
        .lines()
        .filter(|line| !line.contains("p256:") && !line.contains("members:") && !line.contains("{name: meter, eid"))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(judge(&clear).is_err(), "its NICs have no address");
}

#[test]
fn the_authority_speaks_for_what_is_no_hash() {
    let authority = format!("instanceId: 7\n    authority: \"{}\"", public(9));
    let with = good().replace("instanceId: 7", &authority).replace(
        "  names: {}",
        "  ipv4: {prefix: 10.7.0.0/16, gateway: 10.7.0.1, slice: 10.7.1.0/24}",
    );
    let intent = judge(&with).unwrap_or_else(|errors| panic!("{}", crate::error::Report(errors)));
    assert!(matches!(
        &intent.networks["plant"],
        Network { kind: crate::intent::NetworkKind::Mesh(mesh), .. }
            if matches!(&mesh.encryption, Encryption::Sealed(sealed) if sealed.authority.is_some())
    ));
    assert_eq!(intent.guests["guest-a"].nics[0].addresses.len(), 1, "of the slice");
    // With one, no member needs to be listed.
    let text = with
        .lines()
        .filter(|line| !line.contains("members:") && !line.contains("      - {name: "))
        .collect::<Vec<_>>();
    let text = text.join("\n");
    let rest = text
        .split("---\napiVersion: weft.dev/v1\nkind: Policy")
        .next()
        .unwrap_or_default();
    assert!(judge(rest).is_ok());
}

#[test]
#[rustfmt::skip]
fn what_a_sealed_mesh_lacks_is_told_at_its_place() {
    let nic = "attach: {veth: {interface: va}}";
    let cases: &[(&str, &str, &str, &str, &str, &str)] = &[
        ("a slice", "  names: {}", "  ipv4: {prefix: 10.7.0.0/16, gateway: 10.7.0.1, slice: 10.7.1.0/24}", "10.7.1.0/24", "no key can speak for slice 10.7.1.0/24", "`authority`"),
        ("a node address", "instanceId: 7", "instanceId: 7\n    nodeAddresses: [\"fd07::1\"]", "\"fd07::1\"", "fd07::1", "made from a key"),
        ("a guest's address", nic, "attach: {veth: {interface: va}}, addresses: [\"FD07::b\"]", "\"FD07::b\"", "no key of this intent can speak for fd07::b", "`authority`"),
        ("a routed prefix", nic, "attach: {veth: {interface: va}}, routed: [\"fd07:1::/64\"]", "\"fd07:1::/64\"", "no key can speak for fd07:1::/64", "`authority`"),
        ("an authority that is a private key", "instanceId: 7", "instanceId: 7\n    authority: \"0101010101010101010101010101010101010101010101010101010101010101\"", "•", "no public key", "weft key show"),
        ("a key without its public half", "instanceId: 7", "instanceId: 7\n    authorityKey: guest-key", "guest-key", "without the authority's public key", "add `authority"),
        ("a membership of nobody", "instanceId: 7", "instanceId: 7\n    membership: guest-key", "guest-key", "without the authority's public key", "add `authority"),
        ("a binding that is absent", "instanceId: 7", "instanceId: 7\n    bindings: [guest-kye]", "guest-kye", "there is no Secret `guest-kye`", "guest-key"),
        ("a member that is nobody", "{name: meter, eid: \"fd12::5\",", "{name: meter,", "{", "none of node, eid", "once"),
        ("a member that is two", "{name: meter, eid: \"fd12::5\",", "{name: meter, eid: \"fd12::5\", node: \"p256:00\",", "{", "exclude each other", "once"),
        ("a member twice", "{name: meter, eid: \"fd12::5\"", "{eid: \"fd12::5\"}\n      - {name: meter, eid: \"fd12::5\"", "\"fd12::5\"", "members[2] already", "take one"),
        ("two members of one name", "{name: meter, eid: \"fd12::5\"", "{name: site-b, eid: \"fd12::6\"}\n      - {name: meter, eid: \"fd12::5\"", "site-b", "two members are called", "label"),
        ("a member outside of the mesh", "eid: \"fd12::5\"", "eid: \"fc12::5\"", "\"fc12::5\"", "outside of the mesh's prefixes", "inside fd00::/8"),
        ("no room for hashes", "\"fd00::/8\"", "\"fd12::/16\"", "guest-key", "lies outside", "add \"fd00::/8\""),
        ("a member by EID as a node", "from: [{node: site-b}]", "from: [{node: meter}]", "meter", "is known by an EID", "{name: meter}"),
        ("a typing error in a node", "from: [{node: site-b}]", "from: [{node: site-c}]", "site-c", "no member called `site-c`", "did you mean"),
        ("a policy test that fails", "service: icmp, expect: deny", "service: icmp, expect: allow", "allow", "no rule fits", "add a rule"),
    ];
    let mut wrong = String::new();
    for (what, from, to, pointed, message, help) in cases {
        let text = good();
        assert_eq!(text.matches(from).count(), 1, "{what}: {from}");
        let errors = errors_of(&text.replace(from, to));
        let told = errors.iter().any(|(error, at)| {
            let hidden = *pointed == "•" && error.text.contains('•') && !error.text.contains("0101");
            (at == pointed || hidden) && error.message.contains(message) && error.help.contains(help)
        });
        // Where no hash fits into the mesh, the NIC that waits for one has no address either.
        let most = if *what == "no room for hashes" { 2 } else { 1 };
        if !told || errors.len() > most {
            let shown: String = errors.iter().map(|(error, _)| error.render(false)).collect();
            wrong += &format!("== {what} ({} messages)\n{shown}", errors.len());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn offline_bindings_and_given_keys_may_make_up_for_an_authority() {
    let with_binding = good().replace(
        "instanceId: 7",
        "instanceId: 7\n    bindings: [guest-key]\n    nodeAddresses: [\"fd07::1\"]",
    );
    assert!(judge(&with_binding).is_ok());
    let with_key = good().replace("key: guest-key", "key: guest-key, addresses: [\"fd07::1\"]");
    assert!(judge(&with_key).is_ok());
    let not_ipv4 = with_binding.replace("[\"fd07::1\"]", "[\"10.7.0.9\"]");
    assert_eq!(broken_in(&not_ipv4), 1);
}
