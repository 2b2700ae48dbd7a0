//! tshark judges what we emit: every message, every LCAF, and data packets, in one capture. Nothing may be
//! malformed, nothing unexpected, and the fields it finds must be those that we meant.

mod common;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use common::{NONCE, lcafs, local, messages, pcap, record};
use lisp::{
    CONTROL_PORT, DATA_PORT, InstanceId,
    wire::{AfiAddress, DataHeader, MapReply},
};

/// What tshark says about each frame, by field.
type Frames = Vec<BTreeMap<String, String>>;

/// `PI_WARN` of Wireshark's expert information; `PI_ERROR` is greater.
const WARN: u32 = 0x0060_0000;
/// What tshark admits not to know is no fault of ours: LCAF types 6, 8, 11, 14 and 16, and vendors' data.
const ITS_OWN_LIMITS: [&str; 2] = ["Not dissected yet", "Look up the vendor's OUI"];
/// Samples with a part that tshark 4.0 shows as plain data: the IDs of RFC 9437, LISP-SEC, DDT signatures, and the
/// whole of a Map-Notify-Ack, whose type it does not have.
const SHOWN_AS_DATA: [&str; 6] = [
    "map-request-subscribe",
    "map-reply-lisp-sec",
    "map-notify-ack",
    "map-notify-ack-ids",
    "map-referral",
    "ecm-lisp-sec",
];

fn capture(name: &str, packets: &[Vec<u8>]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, pcap::file(packets)).unwrap();
    path
}

fn tshark(capture: &Path, fields: &[&str]) -> Frames {
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(capture)
        .args(["-n", "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=|"]);
    command.args(["-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("this test needs tshark (Debian: apt-get install tshark): {error}"));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark: {complaints}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| {
            fields
                .iter()
                .map(|f| (*f).to_owned())
                .zip(line.split('\t').map(str::to_owned))
                .collect()
        })
        .collect()
}

/// Fails on anything that tshark finds wrong with a frame, its own gaps apart.
fn assert_clean(name: &str, frame: &BTreeMap<String, String>) {
    assert!(frame["_ws.malformed"].is_empty(), "{name} is malformed: {frame:?}");
    let severities = frame["_ws.expert.severity"].split('|').filter(|text| !text.is_empty());
    let complaints = frame["_ws.expert.message"].split('|');
    for (severity, complaint) in severities.zip(complaints) {
        let ours = !ITS_OWN_LIMITS.iter().any(|limit| complaint.starts_with(limit));
        assert!(
            !(ours && severity.parse::<u32>().unwrap() >= WARN),
            "{name}: {complaint}"
        );
    }
    assert_ne!(
        frame["udp.checksum.status"].split('|').next(),
        Some("0"),
        "{name}: UDP checksum"
    );
    for status in frame["ip.checksum.status"]
        .split('|')
        .filter(|status| !status.is_empty())
    {
        assert_eq!(status, "1", "{name}: inner or outer IP checksum");
    }
}

const JUDGEMENT: [&str; 6] = [
    "_ws.malformed",
    "_ws.expert.severity",
    "_ws.expert.message",
    "udp.checksum.status",
    "ip.checksum.status",
    "data.len",
];

#[test]
fn every_message_is_dissected_without_complaint_and_as_meant() {
    let fields = [
        "lisp.type",
        "lisp.nonce",
        "lisp.records",
        "lisp.irc",
        "lisp.mreq.flags.probe",
        "lisp.mreq.flags.smr",
        "lisp.mreq.itr_rloc_ipv4",
        "lisp.mreq.record.prefix.length",
        "lisp.lcaf.iid",
        "lisp.mapping.eid.masklen",
        "lisp.mapping.act",
        "lisp.mapping.ver",
        "lisp.loc.locator",
        "lisp.loc.flags.probe",
        "lisp.mreg.flags.pmr",
        "lisp.mreg.flags.wmn",
        "lisp.keyid",
        "lisp.authlen",
        "lisp.xtrid",
        "lisp.siteid",
        "lisp.referral.sigcnt",
        "lisp.referral.incomplete",
        "lisp.info.r",
        "lisp.lcaf.natt.etrport",
        "lisp.ecm.flags.ddt",
        "udp.dstport",
        "udp.checksum.status",
    ];
    let samples = messages::samples();
    let packets: Vec<_> = samples
        .iter()
        .map(|(_, _, message)| {
            pcap::udp(
                ("192.0.2.1", CONTROL_PORT),
                ("192.0.2.2", CONTROL_PORT),
                &message.try_encode().unwrap(),
            )
        })
        .collect();
    let path = capture("messages.pcap", &packets);
    let verdicts = tshark(&path, &JUDGEMENT);
    let frames = tshark(&path, &fields);
    assert_eq!((verdicts.len(), frames.len()), (samples.len(), samples.len()));
    let mut by_name = BTreeMap::new();
    for (((name, bytes, _), verdict), frame) in samples.iter().zip(&verdicts).zip(frames) {
        assert_clean(name, verdict);
        assert_eq!(
            verdict["data.len"].is_empty(),
            !SHOWN_AS_DATA.contains(name),
            "{name}: {verdict:?}"
        );
        let kind = frame["lisp.type"].split('|').next().unwrap().to_owned();
        assert_eq!(kind, (bytes[0] >> 4).to_string(), "{name}: type");
        by_name.insert(*name, frame);
    }
    let field = |name: &str, field: &str| by_name[name][field].clone();
    let nonce = format!("0x{NONCE}");
    for name in [
        "map-request-plain",
        "map-reply-positive",
        "map-register-full",
        "map-notify",
        "map-referral",
    ] {
        assert_eq!(field(name, "lisp.nonce"), nonce, "{name}");
    }
    assert_eq!(field("map-request-plain", "lisp.lcaf.iid"), "7|7");
    assert_eq!(field("map-request-plain", "lisp.mreq.record.prefix.length"), "32");
    assert_eq!(field("map-request-plain", "lisp.mreq.itr_rloc_ipv4"), "192.0.2.1");
    assert_eq!(field("map-request-probe", "lisp.mreq.flags.probe"), "1");
    assert_eq!(field("map-request-probe", "lisp.irc"), "1");
    assert_eq!(field("map-request-smr", "lisp.mreq.flags.smr"), "1");
    assert_eq!(field("map-reply-positive", "lisp.loc.locator"), "192.0.2.1|2001:db8::1");
    assert_eq!(field("map-reply-positive", "lisp.loc.flags.probe"), "1|0");
    assert_eq!(field("map-reply-positive", "lisp.mapping.ver"), (0xabc).to_string());
    assert_eq!(field("map-reply-negative", "lisp.mapping.act"), "1");
    assert_eq!(field("map-reply-negative", "lisp.mapping.eid.masklen"), "8");
    assert_eq!(field("map-register-full", "lisp.records"), "2");
    assert_eq!(field("map-register-full", "lisp.mreg.flags.pmr"), "1");
    assert_eq!(field("map-register-full", "lisp.mreg.flags.wmn"), "1");
    assert_eq!(field("map-register-full", "lisp.authlen"), "32");
    for name in ["map-register-full", "map-register-hkdf-empty", "map-notify-ids"] {
        assert_eq!(field(name, "lisp.xtrid"), "7874722d69642d6f662d6e6f64652d61", "{name}");
        assert_eq!(field(name, "lisp.siteid"), "1122334455667788", "{name}");
    }
    assert_eq!(field("map-notify", "lisp.authlen"), "16");
    assert_eq!(field("map-notify", "lisp.xtrid"), "");
    assert_eq!(field("map-referral", "lisp.referral.sigcnt"), "1");
    assert_eq!(field("map-referral", "lisp.referral.incomplete"), "1");
    assert_eq!(field("info-request", "lisp.info.r"), "0");
    assert_eq!(field("info-reply", "lisp.info.r"), "1");
    assert_eq!(field("info-reply", "lisp.lcaf.natt.etrport"), "54321");
    assert_eq!(field("ecm-ipv4", "lisp.type"), "8|1");
    assert_eq!(field("ecm-ipv6", "lisp.type"), "8|1");
    assert_eq!(field("ecm-ipv6", "lisp.ecm.flags.ddt"), "1");
    // Checksum status 1 is "good": the outer one and the inner one.
    assert_eq!(field("ecm-ipv4", "udp.checksum.status"), "1|1");
    assert_eq!(field("ecm-ipv6", "udp.checksum.status"), "1|1");
    assert_eq!(field("ecm-ipv6", "udp.dstport"), "4342|4342");
}

#[test]
fn every_lcaf_is_dissected_without_complaint_and_as_meant() {
    let samples = lcafs::samples();
    let packets: Vec<_> = samples
        .iter()
        .map(|(_, _, address)| {
            // A second locator behind it proves that tshark and we agree where it ends.
            let behind = local(common::ip("203.0.113.77"), 1, 1);
            let locators = vec![local(address.clone(), 1, 1), behind];
            let reply = MapReply {
                probe: false,
                echo_nonce: false,
                nonce: NONCE,
                records: vec![record(common::ip("10.7.0.0"), 16, locators)],
                security: None,
            };
            let payload = reply.try_encode().unwrap();
            pcap::udp(("2001:db8::1", CONTROL_PORT), ("2001:db8::2", CONTROL_PORT), &payload)
        })
        .collect();
    let path = capture("lcafs.pcap", &packets);
    let fields = ["lisp.loc.locator", "lisp.lcaf.type", "lisp.mapping.loccnt"];
    let frames = tshark(&path, &fields);
    let verdicts = tshark(&path, &JUDGEMENT);
    assert_eq!((verdicts.len(), frames.len()), (samples.len(), samples.len()));
    for (((name, bytes, address), verdict), frame) in samples.iter().zip(&verdicts).zip(&frames) {
        assert_clean(name, verdict);
        assert_eq!(verdict["data.len"], "", "{name}: {verdict:?}");
        assert_eq!(frame["lisp.mapping.loccnt"], "2", "{name}");
        assert!(frame["lisp.loc.locator"].ends_with("203.0.113.77"), "{name}: {frame:?}");
        if matches!(address, AfiAddress::Lcaf(_)) {
            assert_eq!(
                frame["lisp.lcaf.type"].split('|').next(),
                Some(bytes[4].to_string().as_str()),
                "{name}"
            );
        }
    }
}

#[test]
fn data_packets_are_dissected_without_complaint_and_as_meant() {
    let inner4 = pcap::udp(("10.7.0.1", 1000), ("10.7.1.1", 2000), b"weft");
    let inner6 = pcap::udp(("fd00::1", 1000), ("fd00::2", 2000), b"weft");
    let clear = DataHeader::clear(InstanceId::new(0x0012_3456).unwrap());
    let nonce = DataHeader {
        nonce: Some(0x00ab_cdef),
        echo_nonce: true,
        locator_status: Some(3),
        ..clear
    };
    let version = DataHeader {
        map_version: Some((5, 9)),
        instance_id: None,
        ..clear
    };
    let packets: Vec<_> = [(clear, &inner4), (nonce, &inner6), (version, &inner4)]
        .iter()
        .map(|(header, inner)| {
            let payload = [header.encode().as_slice(), inner].concat();
            pcap::udp(("192.0.2.1", 61000), ("192.0.2.2", DATA_PORT), &payload)
        })
        .collect();
    let path = capture("data.pcap", &packets);
    for (name, verdict) in ["clear", "nonce", "version"].iter().zip(tshark(&path, &JUDGEMENT)) {
        assert_clean(name, &verdict);
    }
    let fields = [
        "lisp-data.flags",
        "lisp-data.iid",
        "lisp-data.nonce",
        "lisp-data.lsb8",
        "lisp-data.srcmapver",
        "lisp-data.dstmapver",
        "ip.src",
        "ipv6.src",
    ];
    let frames = tshark(&path, &fields);
    assert_eq!(frames.len(), 3);
    let column = |name: &str| frames.iter().map(|frame| frame[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("lisp-data.flags"), ["0x08", "0xe8", "0x10"]);
    assert_eq!(
        column("lisp-data.iid"),
        [0x0012_3456.to_string(), 0x0012_3456.to_string(), String::new()]
    );
    assert_eq!(frames[1]["lisp-data.nonce"].parse(), Ok(0x00ab_cdef));
    assert_eq!(frames[1]["lisp-data.lsb8"].trim_start_matches("0x").parse(), Ok(3));
    assert_eq!(
        (
            frames[2]["lisp-data.srcmapver"].as_str(),
            frames[2]["lisp-data.dstmapver"].as_str()
        ),
        ("5", "9")
    );
    assert_eq!(frames[0]["ip.src"], "192.0.2.1|10.7.0.1");
    assert_eq!(frames[1]["ipv6.src"], "fd00::1");
}
