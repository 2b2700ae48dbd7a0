//! What an operator gets wrong: one message each with file, line, column and a remedy, and a node that goes on as it
//! was. Needs root.

use std::time::Duration;

use weft_tests::net::{Fabric, Heartbeat, Result, SiteKind, Transport, files, scenario};

/// A wrong document, where it is wrong (line), and words that the message must have.
struct Case {
    name: &'static str,
    yaml: String,
    line: Option<usize>,
    words: &'static [&'static str],
}

fn cases() -> Vec<Case> {
    let lan = |ipv4: &str| {
        format!(
            "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {{name: lan}}\nspec:\n  local: {{nat44: true, nat66: false}}\n  ipv4: {ipv4}\n"
        )
    };
    vec![
        Case {
            name: "broken YAML",
            yaml: "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: lan\nspec: {}\n".into(),
            line: None,
            words: &[],
        },
        Case {
            name: "unknown field",
            yaml: lan("{prefix: 192.168.50.0/24, gateway: 192.168.50.1}").replace("nat66", "nat67"),
            line: Some(5),
            words: &["nat67", "nat66"],
        },
        Case {
            name: "wrong unit",
            yaml: lan("{prefix: 192.168.50.0/24, gateway: 192.168.50.1}") + "  mtu: 9000 bytes\n",
            line: Some(7),
            words: &["mtu"],
        },
        Case {
            name: "a prefix that overlaps",
            yaml: lan("{prefix: 10.7.0.0/24, gateway: 10.7.0.1}")
                .replace("name: lan", "name: copy")
                .replace(
                    "local: {nat44: true, nat66: false}",
                    "mesh: {instanceId: 7, encryption: none, prefixes: [\"10.7.0.0/16\"]}",
                ),
            line: Some(5),
            words: &["overlap"],
        },
        Case {
            name: "an interface that is not there",
            yaml: files::guest_on_veth("guest-x", "plant", "no-such0", "02:00:00:00:00:77", &["fd07::1:7"]),
            line: Some(8),
            words: &["no-such0"],
        },
        Case {
            name: "an unknown kind",
            yaml: "apiVersion: weft.dev/v1\nkind: Netwerk\nmetadata: {name: lan}\nspec: {}\n".into(),
            line: Some(2),
            words: &["Netwerk", "Network"],
        },
        Case {
            name: "a mesh that would be in clear without a word",
            yaml: lan("{prefix: 10.9.0.0/16, gateway: 10.9.0.1}").replace(
                "local: {nat44: true, nat66: false}",
                "mesh: {instanceId: 9, prefixes: [\"10.9.0.0/16\"]}",
            ),
            line: Some(5),
            words: &["encryption"],
        },
    ]
}

#[test]
fn bad_input_is_refused_with_its_place_and_changes_nothing() {
    scenario(|lab| {
        let fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::Dual])?;
        fabric.until_connected(1, 2)?;
        let beat = Heartbeat::start(
            Transport::Udp,
            fabric.guest(1).namespace(),
            fabric.guest(2).namespace(),
            (std::net::Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 2), 7000).into(),
            Duration::from_millis(10),
            Duration::from_secs(5),
        )?;
        let node = &fabric.nodes[0];
        let snapshot = || -> Result<String> {
            ["network", "guest", "policy", "node", "secret"]
                .iter()
                .map(|kind| node.json(&["get", kind]).map(|value| value.to_string()))
                .collect()
        };
        let before = snapshot()?;
        for case in cases() {
            let path = node.write("wrong.yaml", &case.yaml)?;
            let output = node.attempt(&["apply", "-f", &path.to_string_lossy()])?;
            let said = format!("{}{}", output.stdout, output.stderr);
            println!("--- {}\n{said}", case.name);
            assert!(!output.ok, "{}: accepted: {said}", case.name);
            assert!(
                said.contains("wrong.yaml:"),
                "{}: names no file and line: {said}",
                case.name
            );
            let place = said.split("wrong.yaml:").nth(1).unwrap_or_default();
            let numbers: Vec<usize> = place
                .split(|c: char| !c.is_ascii_digit())
                .take(2)
                .filter_map(|n| n.parse().ok())
                .collect();
            assert_eq!(numbers.len(), 2, "{}: line and column: {said}", case.name);
            if let Some(line) = case.line {
                assert_eq!(numbers[0], line, "{}: the line: {said}", case.name);
            }
            for word in case.words {
                assert!(said.contains(word), "{}: says nothing of {word}: {said}", case.name);
            }
            assert!(said.contains("help:"), "{}: no remedy: {said}", case.name);
            assert_eq!(
                said.matches("wrong.yaml:").count(),
                1,
                "{}: one message: {said}",
                case.name
            );
            assert!(!said.contains("panicked"), "{said}");
            assert_eq!(snapshot()?, before, "{}: the node changed", case.name);
        }
        // The same file handed to `plan` is refused the same way, and a right one changes nothing either.
        let path = node.write("wrong.yaml", &cases()[1].yaml)?;
        assert!(!node.attempt(&["plan", "-f", &path.to_string_lossy()])?.ok);
        let beats = beat.stop()?;
        assert!(
            beats.longest_gap < Duration::from_millis(200),
            "traffic stopped for {:?}",
            beats.longest_gap
        );
        Ok(())
    });
}

#[test]
fn a_node_does_not_start_from_a_broken_file() {
    scenario(|lab| {
        let host = lab.namespace("host")?;
        let broken = "apiVersion: weft.dev/v1\nkind: Node\nmetadata: {name: x}\nspec: {uplink: []}\n";
        let node = weft_tests::net::Node::prepare(&host, &weft_tests::net::weft(), &[("node.yaml", broken)])?;
        let path = node.conf().join("node.yaml").to_string_lossy().into_owned();
        let (state, run) = (node.state(), node.runtime());
        let output = node.attempt(&[
            "up",
            "-f",
            &path,
            "--state-dir",
            &state.to_string_lossy(),
            "--runtime-dir",
            &run.to_string_lossy(),
        ])?;
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(
            !output.ok && said.contains("node.yaml:4:") && said.contains("uplinks"),
            "{said}"
        );
        Ok(())
    });
}
