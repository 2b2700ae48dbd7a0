//! What people get wrong: one message each, at its exact place, with a remedy. And that what is right is accepted.

use std::path::PathBuf;

use super::*;
use crate::{
    document::StoredIntent,
    error::{IntentError, Report},
    intent::{Attach, NetworkKind, SecretSource},
    kind::KindName,
    read::{self, Source},
};

/// An intent of everything, in which nothing is wrong. Cases replace one piece of it.
const GOOD: &str = include_str!("testdata/good.yaml");

fn source(text: &str) -> Source {
    Source {
        name: "good.yaml".into(),
        base: PathBuf::from("/etc/weft"),
        text: text.into(),
    }
}

pub(super) fn judge(text: &str) -> Result<Intent, Vec<IntentError>> {
    let documents = read::parse(&[source(text)]).map_err(|Report(errors)| errors)?;
    intent(&documents)
}

/// Replaces `from`, which stands in the good intent exactly once; gives the errors, each with the text it points at.
fn broken(from: &str, to: &str) -> Vec<(IntentError, String)> {
    errors(&GOOD.replace(from, to))
}

/// As [`errors`], for other files of tests.
pub(super) fn errors_of(text: &str) -> Vec<(IntentError, String)> {
    errors(text)
}

/// How many errors there are.
pub(super) fn broken_in(text: &str) -> usize {
    errors(text).len()
}

fn errors(text: &str) -> Vec<(IntentError, String)> {
    let errors = judge(text).err().unwrap_or_default();
    let pointed = |error: &IntentError| {
        let line = text.lines().nth(error.line.saturating_sub(1)).unwrap_or_default();
        line.chars()
            .skip(error.column.saturating_sub(1))
            .take(error.length)
            .collect()
    };
    errors
        .into_iter()
        .map(|error| (error.clone(), pointed(&error)))
        .collect()
}

#[test]
fn what_is_right_is_accepted() {
    let intent = match judge(GOOD) {
        Ok(intent) => intent,
        Err(errors) => panic!("{}", Report(errors)),
    };
    let node = intent.node.as_ref().expect("a node");
    assert_eq!(node.map_servers[0].address.to_string(), "192.0.2.1:4342");
    assert_eq!(node.uplinks[0].source_ports, 8);
    assert_eq!(intent.networks["plant"].domain, "plant.weft");
    assert!(matches!(&intent.networks["plant"].kind, NetworkKind::Mesh(mesh) if mesh.instance_id.get() == 7));
    assert_eq!(
        intent.secrets["site-a-key"],
        SecretSource::File("/etc/weft/site-a.key".into())
    );
    let guest = &intent.guests["guest-a"].nics[0];
    assert_eq!(guest.mac, [2, 0, 0, 0, 0, 0x0a]);
    assert!(matches!(&guest.attach, Attach::Tap { netns: Some(netns), .. } if netns.interface == "eth0"));
    assert_eq!(
        intent.map_servers["ms"].sites[0].prefixes[0].prefix.to_string(),
        "[7]fd07::/16"
    );
    assert_eq!(intent.policies["machines"].rules[0].services.len(), 5);
}

/// `(what, replaced, by, the text that is pointed at, words of the message, words of the remedy)`
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Shapes.
    ("an unknown field", "siteId: 1", "siteID: 1", "siteID", "unknown field `siteID` in `spec`", "did you mean `siteId`?"),
    ("an unknown field, far from any", "siteId: 1", "banana: 1", "banana", "unknown field `banana`", "known are key, mapServers, siteId, uplinks"),
    ("an unknown field deep inside", "{interface: wan0, priority: 1", "{interface: wan0, prioritty: 1", "prioritty", "in `spec.uplinks[0]`", "`priority`"),
    ("an unknown kind", "kind: Guest\nmetadata: {name: guest-c}", "kind: Gest\nmetadata: {name: guest-c}", "Gest", "there is no kind `Gest`", "did you mean `Guest`?"),
    ("another version", "apiVersion: weft.dev/v1\nkind: Policy", "apiVersion: weft.dev/v2\nkind: Policy", "weft.dev/v2", "apiVersion is the text `weft.dev/v2`", "weft.dev/v1"),
    ("a name with capitals", "{name: guest-a, labels", "{name: Guest_A, labels", "Guest_A", "cannot be the name", "lower case"),
    ("no name", "metadata: {name: guest-a, labels: {role: machine}}", "metadata: {labels: {role: machine}}", "metadata", "no name", "metadata: {name: NAME}"),
    ("text for a number", "mtu: 1420", "mtu: 1420 bytes", "1420 bytes", "whole number from 576 to 65535", "the unit is always bytes: write the number alone, such as 1420"),
    ("a number in quotes", "mtu: 1420", "mtu: \"1420\"", "\"1420\"", "wants a whole number", "write 1420 without quotes"),
    ("out of range", "mtu: 1420", "mtu: 90000", "90000", "90000 is out of the range", "from 576 to 65535"),
    ("a weight out of range", "weight: 100", "weight: 1000", "1000", "out of the range of `spec.uplinks[0].weight`", "from 0 to 255"),
    ("a negative number", "priority: 1,", "priority: -1,", "-1", "out of the range", "from 0 to 255"),
    ("a number for text", "{name: guest-b}, service: icmp", "{name: 7}, service: icmp", "7", "wants text", "quotes"),
    ("text for a list", "listen: [\"192.0.2.1\", \"2001:db8::1\"]", "listen: 192.0.2.1", "192.0.2.1", "wants a list", "write a list"),
    ("an empty list", "listen: [\"192.0.2.1\", \"2001:db8::1\"]", "listen: []", "listen", "is empty", "at least 1"),
    ("yes for true", "proxyReply: true", "proxyReply: jup", "jup", "wants true or false", "true or false"),
    ("an unknown word", "store: disk", "store: dsik", "dsik", "`dsik` is no value of `spec.store`", "did you mean `disk`?"),
    ("an unknown algorithm", "algorithms: [hmac-sha256-128-hkdf-sha256]", "algorithms: [hmac-sha256]", "hmac-sha256", "is no value", "did you mean `hmac-sha256-128`?"),
    ("a missing field", "{tap: {interface: tapa, netns: guest-a, as: eth0}}", "{tap: {netns: guest-a}}", "tap", "has no `interface`", "Interface name"),
    ("no encryption said", "    encryption: none\n", "", "mesh", "nobody may join this sealed mesh", "list nodes or EIDs in `members`"),
    ("another encryption", "encryption: none", "encryption: aes-gcm", "aes-gcm", "`aes-gcm` is no value", "`encryption: sealed`"),
    ("members of a mesh that seals nothing", "encryption: none", "encryption: none\n    members: [{eid: \"fd07::a\"}]", "members", "means nothing in a mesh with `encryption: none`", "take `encryption: none` out"),
    ("a key for an address that needs none", "addresses: [\"fd07::c\"]", "addresses: [\"fd07::c\"]\n      key: site-a-key", "site-a-key", "no sealed mesh", "take `key` out"),
    ("a node of a mesh without members", "{name: guest-b}, service", "{node: site-b}, service", "site-b", "no member called `site-b`", "mesh.members"),
    ("a node's key that is absent", "siteId: 1", "siteId: 1\n  key: site-a-kye", "site-a-kye", "there is no Secret `site-a-kye`", "did you mean `site-a-key`?"),
    ("an authority that is no key", "store: disk", "store: disk\n  authorities: [{instanceId: 7, authority: \"p256:00\"}]", "\"p256:00\"", "no public key", "`weft key show FILE`"),
    ("an Instance-ID with two authorities", "store: disk", "store: disk\n  authorities: [{instanceId: 7}, {instanceId: 7}]", "7", "stands here twice", "keep one"),
    ("no spec", "spec: {file: site-a.key}\n", "", "site-a-key", "has no `spec`", "write `spec:`"),
    ("nothing where a map is wanted", "spec: {file: site-a.key}", "spec:", "spec", "wants a map, here is nothing", "write a map"),

    // Addresses.
    ("no address", "\"10.7.1.10\"]\n      routed", "\"10.7.1.500\"]\n      routed", "\"10.7.1.500\"", "is no IP address", "write an IPv4 address"),
    ("a prefix for an address", "\"10.7.1.10\"]\n      routed", "\"10.7.1.10/24\"]\n      routed", "\"10.7.1.10/24\"", "is a prefix", "write 10.7.1.10 without /24"),
    ("a multicast address", "\"10.7.1.10\"]\n      routed", "\"224.0.0.5\"]\n      routed", "\"224.0.0.5\"", "no address of one host", "unicast"),
    ("an EID outside of the mesh", "[\"fd07::a\", \"10.7.1.10\"]\n      routed", "[\"fd08::a\", \"10.7.1.10\"]\n      routed", "\"fd08::a\"", "outside of the mesh's prefixes", "inside fd07::/16 or 10.7.0.0/16"),
    ("an IPv4 address outside of the subnet", "\"10.7.1.10\"]\n      routed", "\"10.8.1.10\"]\n      routed", "\"10.8.1.10\"", "no host of the subnet 10.7.0.0/16", "inside 10.7.1.0/24"),
    ("the subnet's broadcast address", "\"10.7.1.10\"]\n      routed", "\"10.7.255.255\"]\n      routed", "\"10.7.255.255\"", "no host of the subnet", "inside"),
    ("the gateway's address", "\"10.7.1.10\"]\n      routed", "\"10.7.0.1\"]\n      routed", "\"10.7.0.1\"", "is that of Network plant (line 51) already", "an address of its own"),
    ("a guest's address twice", "\"fd07::c\"", "\"fd07::a\"", "\"fd07::a\"", "is that of Guest guest-a (line 69) already", "an address of its own"),
    ("the node's own address", "\"fd07::c\"", "\"fd07::a:1\"", "\"fd07::a:1\"", "is that of Network plant", "an address of its own"),
    ("a prefix with host bits", "prefix: 10.7.0.0/16,", "prefix: 10.7.1.0/16,", "10.7.1.0/16", "has bits behind its length", "write 10.7.0.0/16 for the block"),
    ("a prefix without a length", "slice: 10.7.1.0/24", "slice: 10.7.1.0", "10.7.1.0", "has no length", "10.7.1.0/32"),
    ("a subnet outside of the mesh", "prefixes: [\"fd07::/16\", \"10.7.0.0/16\"]\n    nodeAddresses", "prefixes: [\"fd07::/16\"]\n    nodeAddresses", "10.7.0.0/16", "lies outside of the mesh's prefixes", "add \"10.7.0.0/16\" to `mesh.prefixes`"),
    ("a gateway outside of the subnet", "gateway: 10.7.0.1", "gateway: 10.8.0.1", "10.8.0.1", "is no host of 10.7.0.0/16", "such as 10.7.0.1"),
    ("a slice outside of the subnet", "slice: 10.7.1.0/24", "slice: 10.8.1.0/24", "10.8.1.0/24", "outside of the subnet", "a part of it"),
    ("mesh prefixes that overlap", "prefixes: [\"fd07::/16\", \"10.7.0.0/16\"]\n    nodeAddresses", "prefixes: [\"fd07::/16\", \"10.7.0.0/16\", \"fd07:1::/32\"]\n    nodeAddresses", "\"fd07:1::/32\"", "overlaps prefix fd07::/16", "keep the larger"),
    ("a small MTU", "mtu: 1420", "mtu: 1000", "1000", "too small for IPv6", "1280"),
    ("a routed prefix that holds another guest", "routed: []", "routed: [\"fd07::/64\"]", "\"fd07::/64\"", "overlaps fd07::a:1 of Network plant", "one guest only"),
    ("a routed prefix outside of the mesh", "routed: []", "routed: [\"fd09::/64\"]", "\"fd09::/64\"", "outside of the mesh", "mesh.prefixes"),
    ("a name in the DNS", "guest-b: [\"fd07::b\", \"10.7.2.10\"]", "guest_b: [\"fd07::b\", \"10.7.2.10\"]", "guest_b", "cannot be a name in the DNS", "lower case"),
    ("a name without an address", "guest-b: [\"fd07::b\", \"10.7.2.10\"]", "guest-b: []", "guest-b", "has no address", "write its addresses"),

    // MACs, interfaces, attachments.
    ("a multicast MAC", "\"02:00:00:00:00:0a\"", "\"03:00:00:00:00:0a\"", "\"03:00:00:00:00:0a\"", "is a multicast MAC address", "\"02:00:00:00:00:0a\""),
    ("no MAC", "\"02:00:00:00:00:0a\"", "\"02:00:00:00:00\"", "\"02:00:00:00:00\"", "is no MAC address", "six bytes"),
    ("an interface used twice", "{veth: {interface: vc}}", "{veth: {interface: wan0}}", "wan0", "`wan0` is in use already, by Node site-a (line 16)", "an interface of its own"),
    ("a long interface name", "{veth: {interface: vc}}", "{veth: {interface: a-name-of-20-letters}}", "a-name-of-20-letters", "cannot be the name of an interface", "15"),
    ("both TAP and veth", "{veth: {interface: vc}}", "{veth: {interface: vc}, tap: {interface: tc}}", "attach", "`tap` and `veth` exclude each other", "once"),
    ("neither TAP nor veth", "{veth: {interface: vc}}", "{}", "attach", "none of tap, veth", "once"),
    ("a name inside of nowhere", "{tap: {interface: tapa, netns: guest-a, as: eth0}}", "{tap: {interface: tapa, as: eth0}}", "eth0", "none is given", "netns"),

    // References.
    ("an absent network", "      network: plant\n      attach: {veth", "      network: plnt\n      attach: {veth", "plnt", "there is no Network `plnt`", "did you mean `plant`?"),
    ("an absent secret", "algorithm: hmac-sha256-128-hkdf-sha256, secret: site-a-key}", "algorithm: hmac-sha256-128-hkdf-sha256, secret: site-a-kye}", "site-a-kye", "there is no Secret `site-a-kye`", "did you mean `site-a-key`?"),
    ("a policy for an absent network", "spec:\n  network: plant\n  rules", "spec:\n  network: office\n  rules", "office", "there is no Network `office`", "known are plant, lan"),
    ("a policy about nobody", "to: {name: guest-b}, service", "to: {name: guest-z}, service", "guest-z", "knows nobody called `guest-z`", "did you mean"),
    ("a second node", "kind: Node\nmetadata: {name: site-a", "kind: Node\nmetadata: {name: site-b}\nspec: {}\n---\napiVersion: weft.dev/v1\nkind: Node\nmetadata: {name: site-a", "site-a", "is Node site-b (line 8) already", "weft delete node site-b"),

    // Map-Server.
    ("one Map-Server twice", "  uplinks:\n", "    - {address: \"192.0.2.1:4342\", key: {secret: site-a-key}}\n  uplinks:\n", "\"192.0.2.1:4342\"", "stands in mapServers[0] already", "take one"),
    ("a Map-Server by name", "address: \"192.0.2.1\"", "address: ms.example.org", "ms.example.org", "is no address", "names are not looked up"),
    ("a Key-ID twice", "{id: 2, secret: site-b-key}", "{id: 2, secret: site-b-key}, {id: 2, secret: site-a-key}", "2", "Key-ID 2 stands in keys[0] already", "another id"),
    ("no Instance-ID", "blocks: [\"[7]fd07::/16\"", "blocks: [\"[x]fd07::/16\"", "\"[x]fd07::/16\"", "is no Instance-ID", "16777214"),

    // Policies.
    ("an unknown service", "services: [icmp, tcp/5201", "services: [imcp, tcp/5201", "imcp", "`imcp` is no service", "did you mean `icmp`?"),
    ("a port out of range", "udp/53", "udp/70000", "udp/70000", "has no good port", "1 to 65535"),
    ("a label without a value", "{label: role=machine}", "{label: machine}", "machine", "is no label", "KEY=VALUE"),
    ("a selector of two things", "[{label: role=machine}]", "[{label: role=machine, name: guest-a}]", "{", "exclude each other", "several list items"),
    ("a test that fails by default deny", "expect: allow}", "expect: deny}", "deny", "is allowed, by machines/rule[0]", "change machines/rule[0]"),

    // Credentials.
    ("nowhere", "spec: {file: site-a.key}", "spec: {}", "spec", "none of file, env, systemdCredential", "once"),
    ("two places", "spec: {file: site-a.key}", "spec: {file: site-a.key, env: WEFT_KEY}", "spec", "exclude each other", "once"),
];

#[test]
fn what_people_get_wrong_has_one_message_each_at_its_place() {
    let mut wrong = String::new();
    for (what, from, to, pointed, message, help) in CASES {
        let times = GOOD.matches(from).count();
        if times != 1 {
            wrong += &format!("== {what}: `{from}` stands in good.yaml {times} times\n");
            continue;
        }
        let errors = broken(from, to);
        let shown: String = errors.iter().map(|(error, _)| error.render(false)).collect();
        let good = match errors.as_slice() {
            [(error, at)] => {
                at == pointed
                    && error.message.contains(message)
                    && !error.help.is_empty()
                    && error.help.contains(help)
                    && shown.contains(&format!("good.yaml:{}:{}", error.line, error.column))
                    && shown.matches("good.yaml").count() == 1
            }
            _ => false,
        };
        if !good {
            wrong += &format!(
                "== {what} ({} messages; expected `{pointed}`, {message}, {help})\n{shown}",
                errors.len()
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Line and column of some, by number: what the table above finds by its text.
#[test]
fn lines_and_columns_are_those_of_an_editor() {
    let place = |from: &str, to: &str| {
        let errors = broken(from, to);
        errors.first().map(|(error, _)| (error.line, error.column))
    };
    assert_eq!(place("siteId: 1", "siteID: 1"), Some((10, 3)));
    assert_eq!(place("weight: 100", "weight: 1000"), Some((16, 46)));
    assert_eq!(place("encryption: none", "encryption: aes"), Some((45, 17)));
}

#[test]
fn broken_yaml_is_one_message_at_the_parsers_place() {
    let cases: &[(&str, usize, &str)] = &[
        (
            "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: lan\nspec: {}\n",
            0,
            "",
        ),
        ("a: b: c\n", 1, ""),
        ("a: \"b\n", 0, ""),
        ("a:\n\t- b\n", 2, ""),
        ("- a\nb: c\n", 2, ""),
        ("a: 1\na: 2\n", 2, "duplicate"),
        ("a: *nobody\n", 1, ""),
        ("text\n", 1, "an object is a map"),
        ("- a\n", 1, "an object is a map"),
        ("a: 1\n", 1, "apiVersion is missing"),
    ];
    for (text, line, words) in cases {
        let Err(Report(errors)) = read::parse(&[source(text)]) else {
            panic!("{text:?} was read");
        };
        let error = errors.first().expect("an error");
        let shown = error.render(false);
        assert!(*line == 0 || error.line == *line, "{text:?}:\n{shown}");
        assert!(error.line >= 1 && error.column >= 1, "{text:?}:\n{shown}");
        assert!(error.message.contains(words), "{text:?}:\n{shown}");
        assert!(!error.help.is_empty(), "{text:?}:\n{shown}");
        assert!(
            !error.message.contains(" at line "),
            "{text:?}: the place stands before the message\n{shown}"
        );
        assert!(
            !error.message.contains('\n') && !error.message.contains("Policy in Options"),
            "{text:?}:\n{shown}"
        );
    }
}

#[test]
fn damaged_text_is_an_error_and_never_a_panic() {
    let mut state = 7u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let characters: Vec<char> = GOOD.chars().collect();
    for _ in 0..300 {
        let mut damaged = characters.clone();
        for _ in 0..=next() % 4 {
            let at = next() % damaged.len();
            let with = *"{}[]:,-#\"'&*!|>%@`\t\n 0aé/"
                .chars()
                .collect::<Vec<_>>()
                .get(next() % 25)
                .unwrap_or(&' ');
            damaged[at] = with;
        }
        let text: String = damaged.into_iter().collect();
        for (error, _) in errors(&text) {
            assert!(error.render(false).contains("help:"), "{error}");
        }
    }
}

#[test]
fn a_credential_in_the_wrong_place_is_refused_and_not_repeated() {
    let cases = [
        ("spec: {file: site-a.key}", "spec: {value: hunter2-plain}"),
        ("spec: {file: site-a.key}", "spec: {password: hunter2-plain}"),
        ("spec: {file: site-a.key}", "spec: {env: \"hunter2-plain\"}"),
        (
            "key: {id: 1, algorithm: hmac-sha256-128-hkdf-sha256, secret: site-a-key}",
            "key: {id: 1, secret: \"hunter2-plain\"}",
        ),
        (
            "key: {id: 1, algorithm: hmac-sha256-128-hkdf-sha256, secret: site-a-key}",
            "key: {id: 1, secret: site-a-key, psk: hunter2-plain}",
        ),
        (
            "key: {id: 1, algorithm: hmac-sha256-128-hkdf-sha256, secret: site-a-key}",
            "key: {id: 1, secret: {value: hunter2-plain}}",
        ),
    ];
    for (from, to) in cases {
        let errors = broken(from, to);
        assert_eq!(errors.len(), 1, "{to}: {errors:?}");
        for (error, _) in errors {
            let shown = format!("{}{error}{error:?}", error.render(false));
            assert!(!shown.contains("hunter2"), "{to}:\n{shown}");
            assert!(error.line > 0 && !error.help.is_empty());
        }
    }
}

#[test]
fn sites_that_cannot_be_told_apart_are_refused() {
    let site = |name: &str, id: u8, secret: &str, prefix: &str| {
        format!(
            "    - {{name: {name}, keys: [{{id: {id}, secret: {secret}}}], prefixes: [{{instanceId: 7, prefix: \"{prefix}\"}}]}}\n"
        )
    };
    let intent = |sites: &str| {
        let secrets: String = ["one", "two"]
            .iter()
            .map(|name| {
                format!("apiVersion: weft.dev/v1\nkind: Secret\nmetadata: {{name: {name}}}\nspec: {{env: X}}\n---\n")
            })
            .collect();
        format!(
            "{secrets}apiVersion: weft.dev/v1\nkind: MapServer\nmetadata: {{name: ms}}\nspec:\n  listen: [192.0.2.1]\n  sites:\n{sites}"
        )
    };
    let clash = intent(&(site("a", 1, "one", "fd07::/16") + &site("b", 1, "two", "fd07:1::/32")));
    let errors = errors(&clash);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].1, "\"fd07:1::/32\"");
    assert!(
        errors[0]
            .0
            .message
            .contains("[7]fd07:1::/32 of site `b` overlaps [7]fd07::/16 of site `a`"),
        "{}",
        errors[0].0
    );
    let other_id = intent(&(site("a", 1, "one", "fd07::/16") + &site("b", 2, "two", "fd07:1::/32")));
    assert!(judge(&other_id).is_ok());
    let same_secret = intent(&(site("a", 1, "one", "fd07::/16") + &site("b", 1, "one", "fd07:1::/32")));
    assert!(judge(&same_secret).is_ok());
}

#[test]
fn all_errors_come_at_once() {
    let text = GOOD
        .replace("gateway: 10.7.0.1", "gateway: 10.8.0.1")
        .replace("\"02:00:00:00:00:0a\"", "\"03:00:00:00:00:0a\"")
        .replace("{label: role=machine}", "{label: machine}");
    assert_eq!(errors(&text).len(), 3);
    let text = GOOD
        .replace("siteId: 1", "siteID: 1")
        .replace("mtu: 1420", "mtu: big")
        .replace("store: disk", "store: d");
    assert_eq!(errors(&text).len(), 3);
}

fn merged(stored: &StoredIntent, text: &str) -> Result<Intent, Vec<IntentError>> {
    let new = read::parse(&[source(text)]).map_err(|Report(errors)| errors)?;
    let all = stored.documents_with(&new).map_err(|Report(errors)| errors)?;
    intent(&all)
}

fn stored() -> StoredIntent {
    let documents = read::parse(&[source(GOOD)]).expect("good");
    StoredIntent::default().merged(&documents)
}

#[test]
fn what_is_applied_to_a_running_intent_is_judged_with_it() {
    let network = "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: copy}\nspec:\n  mesh: {instanceId: 7, encryption: none, prefixes: [\"10.7.0.0/16\"]}\n";
    let errors = merged(&stored(), network).expect_err("the same Instance-ID");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(
        (errors[0].file.as_str(), errors[0].line, errors[0].column),
        ("good.yaml", 5, 22)
    );
    assert!(errors[0].message.contains("overlap"), "{}", errors[0]);

    let guest = "apiVersion: weft.dev/v1\nkind: Guest\nmetadata: {name: guest-x}\nspec:\n  nics:\n    - {name: eth0, network: plant, attach: {veth: {interface: vx}}, addresses: [\"fd07::a\"]}\n";
    let errors = merged(&stored(), guest).expect_err("an address that is taken");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!((errors[0].line, errors[0].column), (6, 81));
    assert!(
        errors[0].message.contains("Guest guest-a (<applied Guest/guest-a>:"),
        "{}",
        errors[0]
    );
}

#[test]
fn what_others_refer_to_cannot_go() {
    let without = stored().without(KindName::Secret, "site-a-key").expect("it is there");
    let documents = without.documents_with(&[]).expect("what was stored is readable");
    let errors = intent(&documents).expect_err("the node and the Map-Server need it");
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors.iter().all(|error| error.file.starts_with("<applied ")),
        "{errors:?}"
    );
    assert!(
        errors[0].help.contains("`weft delete node site-a` first"),
        "{}",
        errors[0]
    );
    let documents = stored()
        .without(KindName::Network, "lan")
        .expect("it is there")
        .documents_with(&[]);
    assert!(intent(&documents.expect("readable")).is_ok(), "nobody needs it");
    assert!(stored().without(KindName::Secret, "nobody").is_none());
}

#[test]
fn a_stored_intent_means_what_was_applied() {
    let documents = stored().documents_with(&[]).expect("readable");
    assert_eq!(intent(&documents).ok(), judge(GOOD).ok());
    let text = serde_json::to_string(&stored()).expect("JSON");
    let again: StoredIntent = serde_json::from_str(&text).expect("the same");
    assert_eq!(again, stored());
    // Applying the same again changes nothing.
    let same = read::parse(&[source(GOOD)]).expect("good");
    assert_eq!(stored().merged(&same), stored());
}

#[test]
fn what_is_stored_reads_back_whatever_its_texts_look_like() {
    let odd = [
        "no",
        "n",
        "yes",
        "true",
        "null",
        "~",
        "5",
        "0x10",
        "1e3",
        ".inf",
        "1_000",
        "007",
        "a: b",
        "# no comment",
        "- x",
        "{a}",
        "[a]",
        "*a",
        "&a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a`",
        "'a'",
        "\"a\"",
        "a\\b",
        " a ",
        "a\nb",
        "\t",
        "",
        "ключ",
        "a #b",
        "fd07::",
        "::",
        "12:30:45",
        "=",
        "<<",
        "2001-01-01",
    ];
    for text in odd {
        let object = crate::document::StoredObject {
            kind: KindName::Guest,
            name: "odd".into(),
            base: "/".into(),
            object: serde_json::json!({
                "apiVersion": "weft.dev/v1", "kind": "Guest", "metadata": {"name": "odd", "labels": {"x": text}},
                "spec": {"nics": [text, text], "key": {text: text}},
            }),
        };
        let stored = StoredIntent {
            objects: vec![object.clone()],
        };
        let documents = match stored.documents_with(&[]) {
            Ok(documents) => documents,
            Err(report) => panic!("{text:?}: {}{report}", object.to_yaml()),
        };
        assert_eq!(
            documents[0].root.to_json(),
            object.object,
            "{text:?}: {}",
            object.to_yaml()
        );
    }
}

fn guests(names: &[&str]) -> String {
    let guest = |name: &&str| {
        format!(
            "---\napiVersion: weft.dev/v1\nkind: Guest\nmetadata: {{name: {name}}}\nspec: {{nics: [{{name: eth0, network: lan, attach: {{veth: {{interface: v-{name}}}}}}}]}}\n"
        )
    };
    let head = "apiVersion: weft.dev/v1\nkind: Node\nmetadata: {name: n}\nspec: {}\n---\napiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: lan}\nspec: {local: {}, ipv4: {prefix: 192.168.50.0/29, gateway: 192.168.50.1}}\n";
    head.to_owned() + &names.iter().map(guest).collect::<String>()
}

fn address(intent: &Intent, guest: &str) -> String {
    intent.guests[guest].nics[0].addresses[0].to_string()
}

#[test]
fn addresses_of_the_slice_are_handed_out_and_kept() {
    let documents = |names| read::parse(&[source(&guests(names))]).expect("good");
    let first = intent(&documents(&["m", "z"])).expect("good");
    assert_eq!(
        (address(&first, "m").as_str(), address(&first, "z").as_str()),
        ("192.168.50.2", "192.168.50.3")
    );
    // A newcomer that sorts before them takes none of theirs; who goes and comes back may find another.
    let second = intent_after(&documents(&["a", "m", "z"]), &first).expect("good");
    assert_eq!(address(&second, "m"), "192.168.50.2");
    assert_eq!(address(&second, "z"), "192.168.50.3");
    assert_eq!(address(&second, "a"), "192.168.50.4");
    let full = intent(&documents(&["a", "b", "c", "d", "e", "f"])).expect_err("five fit");
    assert_eq!(full.len(), 1);
    assert!(full[0].message.contains("no free address left"), "{}", full[0]);
}

#[test]
fn a_policy_test_that_fails_names_the_rule_and_the_packet() {
    let errors = broken("action: allow}", "action: deny}");
    assert_eq!(errors.len(), 1, "{errors:?}");
    let message = &errors[0].0.message;
    assert!(
        message.contains("the test expects allow: icmp from 10.7.1.10 to 10.7.2.10 is denied"),
        "{message}"
    );
}

#[test]
fn a_map_server_alone_needs_no_node() {
    let text =
        "apiVersion: weft.dev/v1\nkind: MapServer\nmetadata: {name: ms}\nspec: {listen: [\"[2001:db8::1]:4342\"]}\n";
    assert!(judge(text).is_ok());
    let network = "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: lan}\nspec: {local: {}}\n";
    let errors = judge(network).expect_err("no node");
    assert!(errors[0].help.contains("kind: Node"), "{}", errors[0]);
}
