//! tshark judges the messages and packets of the sealed mesh, as `docs/mesh-security/vectors.json` has them: to a
//! dissector that knows the RFCs and nothing of us they are LISP without a fault, and say what any LISP node may know.

mod common;

use std::{path::Path, process::Command};

use common::{NONCE, ip, local, mesh, pcap, record};
use lisp::{
    CONTROL_PORT, DATA_PORT,
    wire::{MapReply, MapRequest},
};

/// `PI_WARN` of Wireshark's expert information.
const WARN: u32 = 0x0060_0000;
/// What tshark admits not to know: LCAF 11, vendors' data, and LCAFs among the ITR-RLOCs, which RFC 8061 section 4.1 has
/// there. At such a one it gives up a Map-Request and shows the rest as data.
const ITS_OWN_LIMITS: [&str; 3] = [
    "Not dissected yet",
    "Look up the vendor's OUI",
    "Unexpected ITR-RLOC-AFI (16387), cannot decode",
];

/// A line for each packet, its fields in order.
fn tshark(name: &str, packets: &[Vec<u8>], fields: &[&str]) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, pcap::file(packets)).unwrap();
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(&path)
        .args(["-n", "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=|"]);
    command.args(["-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]);
    fields.iter().for_each(|field| {
        command.args(["-e", field]);
    });
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("this test needs tshark (Debian: apt-get install tshark): {error}"));
    assert!(
        output.status.success(),
        "tshark: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

#[test]
fn signed_messages_are_dissected_without_complaint_and_as_meant() {
    const NAMES: [&str; 4] = ["map_request", "map_reply", "map_register", "map_request_in_ecm"];
    let vectors = mesh::vectors();
    let packets = NAMES.map(|name| {
        let message = mesh::bytes(&vectors["messages"][name]["bytes"]);
        pcap::udp(("192.0.2.1", CONTROL_PORT), ("203.0.113.2", CONTROL_PORT), &message)
    });
    let judgement = [
        "_ws.malformed",
        "_ws.expert.severity",
        "_ws.expert.message",
        "data.len",
        "udp.checksum.status",
    ];
    for (name, frame) in NAMES.iter().zip(tshark("mesh-messages.pcap", &packets, &judgement)) {
        assert_eq!(frame[0], "", "{name} is malformed");
        let severities = frame[1].split('|').filter(|text| !text.is_empty());
        for (severity, complaint) in severities.zip(frame[2].split('|')) {
            let its_own = ITS_OWN_LIMITS.iter().any(|limit| complaint.starts_with(limit));
            assert!(
                its_own || severity.parse::<u32>().unwrap() < WARN,
                "{name}: {complaint}"
            );
        }
        let given_up = frame[2].contains("Unexpected ITR-RLOC-AFI");
        assert_eq!(given_up, name.starts_with("map_request"), "{name}");
        assert_eq!(
            frame[3].is_empty(),
            !given_up,
            "{name}: nothing is left over that is no LISP"
        );
        assert!(frame[4].split('|').all(|status| status == "1"), "{name}: checksums");
    }
    let fields = [
        "lisp.type",
        "lisp.irc",
        "lisp.mreq.itr_rloc_ipv6",
        "lisp.mreq.record.prefix.length",
        "lisp.mapping.loccnt",
        "lisp.loc.locator",
        "lisp.loc.priority",
        "lisp.lcaf.type",
        "lisp.records",
    ];
    let frames = tshark("mesh-messages.pcap", &packets, &fields);
    let field = |name: &str, field: &str| {
        let (row, column) = (
            NAMES.iter().position(|n| *n == name),
            fields.iter().position(|f| *f == field),
        );
        frames[row.unwrap()][column.unwrap()].clone()
    };
    assert_eq!(NAMES.map(|name| field(name, "lisp.type")), ["1", "2", "3", "8|1"]);
    // One less than there are: the last of three ITR-RLOCs is the Vendor LCAF.
    assert_eq!(field("map_request", "lisp.irc"), "2");
    assert_eq!(field("map_request", "lisp.records"), "1");
    assert_eq!(field("map_request", "lisp.lcaf.type"), "2");
    assert_eq!(field("map_reply", "lisp.mapping.loccnt"), "3");
    assert!(field("map_reply", "lisp.loc.locator").starts_with("2001:db8:2::2"));
    assert_eq!(field("map_reply", "lisp.loc.priority"), "2|1|255");
    assert_eq!(field("map_reply", "lisp.lcaf.type"), "2|11|255");
    assert_eq!(field("map_register", "lisp.records"), "2");
    assert_eq!(field("map_register", "lisp.mapping.loccnt"), "4|3");
    assert_eq!(field("map_register", "lisp.loc.priority"), "1|2|255|255|1|2|255");
    assert_eq!(field("map_register", "lisp.lcaf.type"), "2|255|255|2|255");
}

/// What tshark does not look at where it stands, it does as locators.
#[test]
fn the_itr_rlocs_of_a_signed_map_request_are_well_formed_addresses() {
    let message = mesh::bytes(&mesh::vectors()["messages"]["map_request"]["bytes"]);
    let mut rlocs = MapRequest::decode(&message).unwrap().itr_rlocs;
    rlocs.push(ip("203.0.113.77"));
    let locators = rlocs.into_iter().map(|rloc| local(rloc, 1, 1)).collect();
    let reply = MapReply {
        probe: false,
        echo_nonce: false,
        nonce: NONCE,
        records: vec![record(ip("10.7.0.0"), 16, locators)],
        security: None,
    };
    let payload = reply.try_encode().unwrap();
    let packet = pcap::udp(("192.0.2.1", CONTROL_PORT), ("203.0.113.2", CONTROL_PORT), &payload);
    let fields = [
        "_ws.malformed",
        "data.len",
        "lisp.lcaf.type",
        "lisp.mapping.loccnt",
        "lisp.loc.locator",
    ];
    let frames = tshark("mesh-itr-rlocs.pcap", &[packet], &fields);
    assert_eq!(frames[0][..4], ["", "", "11|255", "4"]);
    assert!(frames[0][4].ends_with("203.0.113.77"), "{frames:?}");
}

#[test]
fn the_headers_of_sealed_packets_are_read_as_meant() {
    let vectors = mesh::vectors();
    let of = vectors["packets"].as_array().unwrap();
    let packets: Vec<_> = of
        .iter()
        .map(|packet| {
            let payload = mesh::bytes(&packet["packet"]);
            pcap::udp(("192.0.2.1", 61000), ("203.0.113.2", DATA_PORT), &payload)
        })
        .collect();
    let fields = ["_ws.malformed", "lisp-data.flags", "lisp-data.nonce", "lisp-data.iid"];
    let frames = tshark("mesh-packets.pcap", &packets, &fields);
    assert_eq!(frames.len(), of.len());
    for (packet, frame) in of.iter().zip(frames) {
        let name = mesh::text(&packet["name"]);
        // tshark takes what is sealed for an IP packet, whatever KK says: only the header is asked about.
        assert_eq!(frame[1], "0x89", "{name}: N, I, KK 1");
        assert_eq!(frame[2].parse(), Ok(mesh::number(&packet["index"])), "{name}");
        assert_eq!(frame[3].parse(), Ok(mesh::number(&packet["instance_id"])), "{name}");
    }
}
