//! The control plane as it goes over the wire: captured, judged by tshark, and read back by `weft decode`. Needs root.

use std::{collections::BTreeMap, net::Ipv6Addr, time::Duration};

use serde_json::Value;
use weft_tests::net::{
    Dissected, Fabric, Heartbeat, LabError, SiteKind, Tap, Transport, dissect, files, scenario, until,
};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn control_messages_on_the_wire_are_as_the_rfc_says() {
    scenario(|lab| {
        let mut fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::Dual])?;
        let tap = Tap::start(fabric.underlay.router(), "any", "outbound and udp port 4342")?;
        // The router sees each packet come and go; once is enough.
        // Every kind of message: register, notify, ECM, request, reply, probe; then a withdrawal, and the SMR after it.
        let further = files::guest_on_tap("guest-9", "plant", "tap9", "", &["fd07::2:9"]);
        fabric
            .node(2)
            .apply("further.yaml", &further.replace(", netns: , as: eth0", ""))?;
        fabric.until_connected(1, 2)?;
        fabric.guest(1).until_reaches("fd07::2:1", PATIENCE)?;
        let beat = Heartbeat::start(
            Transport::Udp,
            fabric.guest(1).namespace(),
            fabric.guest(2).namespace(),
            (Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 2), 7000).into(),
            Duration::from_millis(10),
            PATIENCE,
        )?;
        fabric.node(2).weft(&["delete", "guest", "guest-9", "guest-2"])?;
        let seen = |filter: &str| dissect(tap.file(), filter);
        until("an SMR passes", PATIENCE, || {
            Ok((!seen("lisp.mreq.flags.smr == 1")?.is_empty()).then_some(()))
        })?;
        until("the withdrawal is acknowledged", PATIENCE, || {
            Ok((!seen("lisp.type == 4 && lisp.mapping.ttl == 0")?.is_empty()).then_some(()))
        })?;
        beat.stop()?;
        let file = tap.stop()?;

        let packets = dissect(&file, "lisp")?;
        for packet in &packets {
            assert_eq!(packet.complaints(), Vec::<String>::new(), "{}", packet.layers);
            assert_ne!(
                packet.first("udp.checksum").as_deref(),
                Some("0x0000"),
                "RFC 9301 §5: a checksum"
            );
            assert!(
                length(packet) <= 1280 - 40,
                "RFC 9301 §5: {} bytes of UDP",
                length(packet)
            );
        }
        let registers = dissect(&file, "lisp.type == 3")?;
        assert!(registers.len() >= 2, "{} Map-Registers", registers.len());
        for packet in &registers {
            assert!(set(packet, "lisp.mreg.flags.wmn"), "a Map-Notify is wanted");
            assert!(set(packet, "lisp.mreg.flags.xtrid"), "RFC 9301 §5.6: the I-bit");
            assert!(packet.first("lisp.xtrid").is_some() && packet.first("lisp.siteid").is_some());
            assert_eq!(packet.first("lisp.authlen").as_deref(), Some("16"), "algorithm 3");
            assert!(
                !set(packet, "lisp.loc.flags.probe"),
                "RFC 9301 §5.4: no p-bit in a Map-Register"
            );
        }
        for packet in dissect(&file, "lisp.type == 1")? {
            assert!(
                packet.first("lisp.mreq.itr_rloc.afi").is_some(),
                "RFC 9301 §5.3: an ITR-RLOC"
            );
            assert!(
                !set(&packet, "lisp.loc.flags.probe"),
                "RFC 9301 §5.4: no p-bit in a Map-Request"
            );
            let probe = set(&packet, "lisp.mreq.flags.probe");
            assert!(
                !(probe && packet.protocols().contains("lisp:ip")),
                "RFC 9301 §5.8: no probe in an ECM"
            );
        }

        // The same file, read by ourselves with the keys: nothing to complain about, every MAC verifies.
        let key = |n: u8| format!("{n}:{}", files::key(&format!("site-{n}")));
        let text = fabric.nodes[0].weft(&[
            "decode",
            &file.to_string_lossy(),
            "--key",
            &key(1),
            "--key",
            &key(2),
            "-o",
            "json",
        ])?;
        let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
        for line in text.lines() {
            let value: Value =
                serde_json::from_str(line).map_err(|error| LabError::Unexpected(format!("{error}: {line}")))?;
            let message = value["message"].as_str().unwrap_or_default().to_owned();
            assert_eq!(value["problems"], Value::Array(Vec::new()), "{line}");
            let expected = match message.as_str() {
                "Map-Register" | "Map-Notify" | "Map-Notify-Ack" => "ok",
                _ => "none",
            };
            assert_eq!(value["auth"], expected, "{line}");
            *kinds.entry(message).or_default() += 1;
        }
        println!("{kinds:?}");
        for kind in ["Map-Register", "Map-Notify", "Map-Request", "Map-Reply"] {
            assert!(kinds.contains_key(kind), "{kind}: {kinds:?}");
        }
        for (key, told) in [("2:wrong", "\"auth\":\"bad\""), ("9:absent", "\"auth\":\"no-key\"")] {
            let text = fabric.nodes[0].weft(&["decode", &file.to_string_lossy(), "--key", key, "-o", "json"])?;
            assert!(
                text.contains(told) && !text.contains("\"auth\":\"ok\""),
                "{key}: {text}"
            );
        }
        Ok(())
    });
}

fn length(packet: &Dissected) -> u64 {
    packet
        .first("udp.length")
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

fn set(packet: &Dissected, flag: &str) -> bool {
    packet
        .all(flag)
        .iter()
        .any(|value| matches!(value.as_str(), "1" | "true" | "True"))
}
