//! Captures made here, and what is said about them.

use std::net::{IpAddr, SocketAddr};

use lisp::{
    Eid, InstanceId, Locator, Mapping, Nonce, Rloc, SiteId, Ttl, XtrId,
    wire::{
        AfiAddress, AuthAlgorithm, Authentication, DataHeader, Ecm, EidRecord, EncryptionKeyId, MapNotify, MapRegister,
        MapReply, MapRequest, Purpose, RequestRecord, sign,
    },
};
use serde_json::Value;

use super::*;

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

fn eid(text: &str) -> Eid {
    Eid::new(InstanceId::new(7).expect("24 bits"), text.parse().expect("an address"))
}

/// An IP packet with a UDP datagram.
fn udp(from: &str, to: &str, payload: &[u8], checksum: bool) -> Vec<u8> {
    let (from, to) = (socket(from), socket(to));
    let builder = match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            etherparse::PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            etherparse::PacketBuilder::ipv6(source.octets(), destination.octets(), 64)
        }
        _ => panic!("one family"),
    };
    let mut packet = Vec::new();
    builder
        .udp(from.port(), to.port())
        .write(&mut packet, payload)
        .expect("it fits");
    if !checksum {
        let at = packet.len() - payload.len() - 2;
        packet[at..at + 2].fill(0);
    }
    packet
}

/// A capture of raw IP packets; of each, as many bytes as are given, and its length.
fn capture(packets: &[(Vec<u8>, usize)]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0002_0004, 0, 0, 65535, 101] {
        file.extend(word.to_be_bytes());
    }
    for (bytes, length) in packets {
        for word in [1_795_527_649, 5, bytes.len() as u32, *length as u32] {
            file.extend(word.to_be_bytes());
        }
        file.extend(bytes);
    }
    file
}

fn whole(packets: Vec<Vec<u8>>) -> Vec<u8> {
    let packets: Vec<_> = packets
        .into_iter()
        .map(|packet| (packet.clone(), packet.len()))
        .collect();
    capture(&packets)
}

fn read(file: &[u8], keys: &[&str]) -> (Vec<Item>, Totals) {
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    let mut items = Vec::new();
    let totals = decode(file, Keys::parse(&keys).expect("keys"), &mut |item| {
        items.push(item.clone());
        Ok(())
    });
    (items, totals.expect("a vector takes everything"))
}

fn one(packet: Vec<u8>, keys: &[&str]) -> Item {
    let (mut items, _) = read(&whole(vec![packet]), keys);
    assert_eq!(items.len(), 1, "{items:#?}");
    items.remove(0)
}

/// The problems of a packet that is all the capture holds.
fn problems(packet: Vec<u8>) -> Vec<String> {
    one(packet, &[]).problems
}

#[track_caller]
fn only(problems: &[String], words: &str) {
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].contains(words), "{problems:#?}");
}

fn record(address: &str) -> EidRecord {
    let rloc = Rloc::new("192.0.2.1".parse().expect("an address"));
    let mut mapping = Mapping::new(eid(address).host_prefix(), Ttl(1440), vec![Locator::new(rloc, 1, 100)]);
    mapping.authoritative = true;
    EidRecord::from_mapping(&mapping)
}

fn register(nonce: u64, secret: &[u8]) -> Vec<u8> {
    let message = MapRegister {
        proxy_reply: true,
        security_capable: false,
        eid_notify: false,
        use_ttl: false,
        merge: false,
        mobile_node: false,
        want_map_notify: true,
        nonce: Nonce(nonce),
        authentication: Authentication::unsigned(1, AuthAlgorithm::HmacSha256_128HkdfSha256),
        records: vec![record("fd07::a")],
        xtr: Some((XtrId([9; 16]), SiteId(1))),
    };
    let mut bytes = message.encode();
    sign(&mut bytes, Purpose::MapRegister, secret).expect("signed");
    bytes
}

const NODE: &str = "192.0.2.1:4342";
const SERVER: &str = "192.0.2.9:4342";

fn request() -> MapRequest {
    MapRequest::new(
        Nonce(0x1122_3344_5566_7788),
        AfiAddress::from_eid(&eid("fd07::a")),
        vec![AfiAddress::Ip("192.0.2.1".parse().expect("an address"))],
        RequestRecord::for_eid(&eid("fd07::b")),
    )
}

fn ecm(payload: Vec<u8>) -> Vec<u8> {
    Ecm {
        ddt: false,
        to_etr: false,
        to_ms: false,
        security: None,
        source: socket("[fd07::a]:4342"),
        destination: socket("[fd07::b]:4342"),
        payload,
    }
    .encode()
}

/// A data packet with an ICMPv6 echo inside; its header can be changed.
fn data(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut inner = Vec::new();
    etherparse::PacketBuilder::ipv6(
        "fd07::a".parse::<std::net::Ipv6Addr>().expect("an address").octets(),
        "fd07::b".parse::<std::net::Ipv6Addr>().expect("an address").octets(),
        63,
    )
    .icmpv6_echo_request(1, 2)
    .write(&mut inner, b"hello")
    .expect("it fits");
    let mut payload = DataHeader::clear(InstanceId::new(7).expect("24 bits"))
        .encode()
        .to_vec();
    payload.extend(inner);
    change(&mut payload);
    udp("192.0.2.1:50000", "192.0.2.2:4341", &payload, false)
}

#[test]
fn a_line_of_json_has_exactly_the_agreed_fields() {
    let item = one(udp(NODE, SERVER, &register(5, b"secret"), true), &["1:secret"]);
    let json: Value = serde_json::to_value(&item).expect("JSON");
    let names: Vec<&String> = json.as_object().expect("an object").keys().collect();
    assert_eq!(
        names,
        ["auth", "fields", "from", "message", "packet", "problems", "time", "to"]
    );
    assert_eq!(json["packet"], 1);
    assert_eq!(json["time"], "2026-11-24T13:40:49.000005000Z");
    assert_eq!(json["from"], NODE);
    assert_eq!(json["to"], SERVER);
    assert_eq!(json["message"], "Map-Register");
    assert_eq!(json["auth"], "ok");
    assert_eq!(json["problems"], serde_json::json!([]));
    assert_eq!(json["fields"]["nonce"], "0000000000000005");
    assert_eq!(json["fields"]["want_map_notify"], true);
    assert_eq!(json["fields"]["records"][0]["prefix"], "[7]fd07::a/128");
    assert_eq!(json["fields"]["records"][0]["locators"][0]["address"], "192.0.2.1");
    let text = text::render(&item);
    for words in [
        "Map-Register",
        "authentication ok",
        "[7]fd07::a/128, TTL 1440 min, authoritative",
        "192.0.2.1 priority 1",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn authentication_is_judged_with_the_keys_given() {
    let packet = || udp(NODE, SERVER, &register(5, b"secret"), true);
    assert_eq!(one(packet(), &[]).auth, Auth::NoKey);
    assert_eq!(one(packet(), &["2:secret"]).auth, Auth::NoKey);
    assert_eq!(one(packet(), &["1:wrong", "1:secret"]).auth, Auth::Ok);
    let bad = one(packet(), &["1:wrong"]);
    assert_eq!(bad.auth, Auth::Bad);
    only(&bad.problems, "does not fit the key of Key-ID 1");
    let mut changed = register(5, b"secret");
    let last = changed.len() - 40;
    changed[last] ^= 1;
    assert_eq!(one(udp(NODE, SERVER, &changed, true), &["1:secret"]).auth, Auth::Bad);
    let mut without = register(5, b"secret");
    without[13] = 0;
    let item = one(udp(NODE, SERVER, &without, true), &["1:secret"]);
    assert_eq!(item.auth, Auth::Bad);
    only(&item.problems, "Algorithm-ID 0");
}

#[test]
fn keys_come_from_the_command_line_or_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    std::fs::write(&path, "secret\n").expect("written");
    let key = format!("1:@{}", path.display());
    assert_eq!(
        one(udp(NODE, SERVER, &register(5, b"secret"), true), &[&key]).auth,
        Auth::Ok
    );
    for wrong in ["hunter2", "x:hunter2", "300:hunter2", "1:", "1:@/no/such/file"] {
        let error = Keys::parse(&[wrong.to_owned()]).err().expect(wrong);
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn replays_and_nonces_that_come_again_are_named() {
    let packet = |nonce| udp(NODE, SERVER, &register(nonce, b"secret"), true);
    let (items, totals) = read(&whole(vec![packet(5), packet(6), packet(6), packet(5)]), &["1:secret"]);
    assert_eq!(items[0].problems, [""; 0]);
    assert_eq!(items[1].problems, [""; 0]);
    only(&items[2].problems, "the very bytes of packet 2 again");
    only(&items[3].problems, "not above 0000000000000006 of packet 2");
    assert_eq!((totals.packets, totals.lisp, totals.with_problems), (4, 4, 2));
    let mut other = request();
    other.records = vec![RequestRecord::for_eid(&eid("fd07::c"))];
    let packet = |request: &MapRequest| udp("192.0.2.1:4342", "192.0.2.9:4342", &ecm(request.encode()), true);
    let (items, _) = read(
        &whole(vec![packet(&request()), packet(&request()), packet(&other)]),
        &[],
    );
    assert_eq!(items[1].problems, [""; 0]);
    only(
        &items[2].problems,
        "inner Map-Request: its nonce is that of another Map-Request, packet 1",
    );
}

#[test]
fn an_ecm_shows_the_message_inside() {
    let item = one(udp(NODE, SERVER, &ecm(request().encode()), true), &[]);
    assert_eq!(item.message, "Encapsulated-Control-Message");
    assert_eq!(item.fields["inner"]["message"], "Map-Request");
    assert_eq!(item.fields["inner"]["fields"]["nonce"], "1122334455667788");
    assert_eq!(item.fields["inner"]["fields"]["records"][0]["prefix"], "[7]fd07::b/128");
    assert_eq!(item.fields["payload"], Value::Null);
    assert_eq!(item.problems, [""; 0]);
    let text = text::render(&item);
    assert!(
        text.contains("inside: Map-Request") && text.contains("who is [7]fd07::b/128?"),
        "{text}"
    );
    let nested = one(udp(NODE, SERVER, &ecm(register(5, b"secret")), true), &["1:secret"]);
    assert_eq!(nested.auth, Auth::Ok);
}

#[test]
fn requests_and_replies_that_break_the_rules_are_named() {
    let mut probe = request();
    probe.probe = true;
    only(
        &problems(udp(NODE, SERVER, &ecm(probe.encode()), true)),
        "an RLOC-probe inside an ECM",
    );
    let mut smr = request();
    smr.smr = true;
    assert_eq!(problems(udp(NODE, SERVER, &smr.encode(), true)), [""; 0]);
    only(
        &problems(udp(NODE, SERVER, &ecm(smr.encode()), true)),
        "an SMR inside an ECM",
    );
    let mut invoked = request();
    invoked.smr_invoked = true;
    assert_eq!(problems(udp(NODE, SERVER, &ecm(invoked.encode()), true)), [""; 0]);
    only(
        &problems(udp(NODE, SERVER, &invoked.encode(), true)),
        "not sent through the mapping system",
    );
    only(
        &problems(udp(NODE, "192.0.2.9:5000", &request().encode(), true)),
        "it goes to 5000",
    );

    let mut reply = MapReply {
        probe: true,
        echo_nonce: false,
        nonce: Nonce(1),
        records: vec![record("fd07::a")],
        security: None,
    };
    assert_eq!(problems(udp(NODE, SERVER, &reply.encode(), true)), [""; 0]);
    only(
        &problems(udp("192.0.2.1:5000", SERVER, &reply.encode(), true)),
        "it comes from 5000",
    );
    reply.records[0].authoritative = false;
    only(&problems(udp(NODE, SERVER, &reply.encode(), true)), "without the A-bit");
    reply.records[0].authoritative = true;
    reply.records[0].mask_len = 64;
    only(
        &problems(udp(NODE, SERVER, &reply.encode(), true)),
        "[7]fd07::a/64 has bits behind its length",
    );
}

#[test]
fn checksums_of_control_messages_must_be_there_and_right() {
    let bytes = request().encode();
    only(&problems(udp(NODE, SERVER, &bytes, false)), "the UDP checksum is zero");
    let mut wrong = udp(NODE, SERVER, &bytes, true);
    let last = wrong.len() - 1;
    wrong[last] ^= 0x10;
    assert!(
        problems(wrong)
            .iter()
            .any(|problem| problem.contains("the UDP checksum is wrong"))
    );
    let mut header = udp(NODE, SERVER, &bytes, true);
    header[10] ^= 1;
    only(&problems(header), "outer IPv4 header is wrong");
    // As a NIC with checksum offload gets it: the sum over the pseudo-header alone.
    let mut offloaded = udp("[2001:db8::1]:4342", "[2001:db8::9]:4342", &bytes, true);
    let length = (offloaded.len() - 40) as u64;
    let mut sum: u64 = 17 + length;
    for pair in offloaded[8..40].chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    offloaded[46..48].copy_from_slice(&(sum as u16).to_be_bytes());
    assert_eq!(problems(offloaded), [""; 0]);
}

#[test]
fn reserved_bits_are_found_by_their_byte() {
    let mut bytes = request().encode();
    bytes[2] |= 0x80;
    only(
        &problems(udp(NODE, SERVER, &bytes, true)),
        "reserved bits are set in byte 2",
    );
    let mut bytes = ecm(request().encode());
    bytes[3] = 1;
    only(
        &problems(udp(NODE, SERVER, &bytes, true)),
        "reserved bits of the ECM header",
    );
    // A Map-Notify with xTR-ID and Site-ID but without the bit is what deployed code sends.
    let notify = MapNotify {
        nonce: Nonce(5),
        authentication: Authentication::unsigned(1, AuthAlgorithm::HmacSha256_128),
        records: vec![record("fd07::a")],
        xtr: Some((XtrId([9; 16]), SiteId(1))),
    };
    let mut bytes = notify.encode();
    bytes[0] &= !0x08;
    assert_eq!(problems(udp(NODE, SERVER, &bytes, true)), [""; 0]);
}

#[test]
fn what_is_malformed_names_the_byte() {
    let bytes = request().encode();
    let item = one(udp(NODE, SERVER, &bytes[..20], true), &[]);
    assert_eq!(item.message, "Map-Request");
    only(&item.problems, "malformed: truncated at byte");
    only(
        &problems(udp(NODE, SERVER, &[0xf0, 0, 0, 0], true)),
        "unknown message type 15",
    );
    only(
        &problems(udp(NODE, SERVER, &[], true)),
        "malformed: truncated at byte 0",
    );
    let item = one(udp("192.0.2.1:50000", "192.0.2.2:4341", &[8, 0, 0], false), &[]);
    assert_eq!(item.message, "Data");
    only(&item.problems, "too few for a LISP header");
}

#[test]
fn a_data_packet_shows_the_packet_inside() {
    let item = one(data(|_| {}), &[]);
    assert_eq!((item.message.as_str(), item.auth), ("Data", Auth::None));
    assert_eq!(item.problems, [""; 0]);
    assert_eq!(item.fields["instance_id"], 7);
    let inner = &item.fields["inner"];
    assert_eq!(inner["source"], "fd07::a");
    assert_eq!(inner["destination"], "fd07::b");
    assert_eq!(inner["protocol"], "icmpv6");
    assert_eq!(
        (&inner["length"], &inner["ttl"], &inner["ecn"]),
        (&53.into(), &63.into(), &0.into())
    );
    assert_eq!(inner["icmp_type"], 128);
    let text = text::render(&item);
    assert!(
        text.contains("fd07::a → fd07::b icmpv6 type 128 code 0, 53 bytes, ttl 63, ecn 0"),
        "{text}"
    );
}

#[test]
fn data_headers_that_break_the_rules_are_named() {
    let with = |flags: u8| move |bytes: &mut [u8]| bytes[0] = flags;
    only(&problems(data(with(0x98))), "N and V are both set");
    only(&problems(data(with(0x28))), "E is set without N");
    only(&problems(data(|bytes| bytes[3] = 1)), "the nonce field is not zero");
    only(
        &problems(data(|bytes| bytes[7] = 1)),
        "Locator-Status-Bits are not zero",
    );
    only(&problems(data(with(0x18))), "Map-Version of 0");
    only(&problems(data(|bytes| bytes[8] = 0x75)), "begins with version 7");
    let sealed = one(data(with(0x09)), &[]);
    assert_eq!(sealed.fields["sealed_bytes"], 53);
    assert_eq!(sealed.problems, [""; 0]);
    assert_eq!(
        DataHeader::decode(&[0x09; 8]).expect("eight bytes").key_id,
        EncryptionKeyId(1)
    );
}

#[test]
fn congestion_outside_that_cannot_be_told_inside_is_named() {
    let mut packet = data(|_| {});
    packet[1] |= 3;
    let checksum = etherparse::Ipv4HeaderSlice::from_slice(&packet)
        .expect("a header")
        .to_header()
        .calc_header_checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    only(&problems(packet), "not ECN-capable inside");
}

#[test]
fn control_messages_in_data_headers_and_on_data_ports() {
    let mut payload = DataHeader::clear(InstanceId::CONTROL).encode().to_vec();
    payload.extend(register(5, b"secret"));
    let item = one(udp("192.0.2.1:4342", "192.0.2.2:4341", &payload, false), &["1:secret"]);
    assert_eq!((item.message.as_str(), item.auth), ("Data", Auth::Ok));
    assert_eq!(item.fields["inner"]["message"], "Map-Register");
    let item = one(
        udp("192.0.2.1:4342", "192.0.2.2:4341", &register(5, b"secret"), true),
        &["1:secret"],
    );
    assert_eq!(item.message, "Map-Register");
    assert!(
        item.problems.iter().any(|problem| problem.contains("on the data port")),
        "{:?}",
        item.problems
    );
}

#[test]
fn super_packets_are_counted_and_other_leftovers_named() {
    let first = data(|_| {});
    let payload = first[28..].to_vec();
    let many = udp("192.0.2.1:50000", "192.0.2.2:4341", &payload.repeat(3), false);
    let item = one(many, &[]);
    assert_eq!(item.fields["segments"], 3);
    assert_eq!(item.problems, [""; 0]);
    let more = [&payload[..], b"xyz"].concat();
    only(
        &problems(udp("192.0.2.1:50000", "192.0.2.2:4341", &more, false)),
        "3 bytes behind the packet inside",
    );
    let less = &payload[..payload.len() - 2];
    only(
        &problems(udp("192.0.2.1:50000", "192.0.2.2:4341", less, false)),
        "wants 53 bytes, here are 51",
    );
}

#[test]
fn what_the_capture_cut_is_no_fault_of_the_sender() {
    let packet = udp(NODE, SERVER, &register(5, b"secret"), true);
    let (items, _) = read(&capture(&[(packet[..60].to_vec(), packet.len())]), &["1:secret"]);
    assert_eq!(items[0].message, "Map-Register");
    only(
        &items[0].problems,
        &format!("the capture kept 60 of {} bytes", packet.len()),
    );
    let packet = data(|_| {});
    let (items, _) = read(&capture(&[(packet[..80].to_vec(), packet.len())]), &[]);
    assert_eq!(items[0].fields["inner"]["source"], "fd07::a");
    only(&items[0].problems, "the capture kept 80");
}

#[test]
fn fragments_are_noted() {
    let packet = udp(NODE, SERVER, &register(5, b"secret"), true);
    let fragment = |payload: &[u8], offset: u16, more: bool| {
        let mut header = etherparse::Ipv4HeaderSlice::from_slice(&packet)
            .expect("a header")
            .to_header();
        header.set_payload_len(payload.len()).expect("it fits");
        header.identification = 77;
        header.dont_fragment = false;
        header.more_fragments = more;
        header.fragment_offset = etherparse::IpFragOffset::try_new(offset / 8).expect("an offset");
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], payload].concat()
    };
    let (a, b) = (fragment(&packet[20..68], 0, true), fragment(&packet[68..], 48, false));
    let (items, _) = read(&whole(vec![a, b]), &["1:secret"]);
    assert_eq!(
        (items[0].message.as_str(), items[1].message.as_str()),
        ("Map-Register", "Fragment")
    );
    only(&items[0].problems, "a first fragment");
    only(&items[1].problems, "not to be fragmented");
    assert_eq!(items[1].fields["first"], 1);
    assert_eq!(items[1].fields["offset"], 48);
    assert_eq!(items[1].from, NODE);
}

#[test]
fn other_packets_are_passed_over() {
    let dns = udp("192.0.2.1:50000", "192.0.2.2:53", b"who?", true);
    let (items, totals) = read(&whole(vec![dns, vec![0x45], vec![]]), &[]);
    assert!(items.is_empty());
    assert_eq!((totals.packets, totals.lisp), (3, 0));
    let (_, totals) = read(b"this is a text, and no capture at all", &[]);
    assert!(matches!(totals.error, Some(FileError::NotACapture(_))));
}

#[test]
fn damaged_captures_never_panic() {
    let good = whole(vec![
        udp(NODE, SERVER, &register(5, b"secret"), true),
        udp(
            "[2001:db8::1]:4342",
            "[2001:db8::9]:4342",
            &ecm(request().encode()),
            true,
        ),
        data(|_| {}),
    ]);
    let mut state = 11u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for _ in 0..3000 {
        let mut damaged = good.clone();
        for _ in 0..=next() % 4 {
            let at = next() % damaged.len();
            damaged[at] = next() as u8;
        }
        damaged.truncate(next() % (damaged.len() + 1));
        let (items, _) = read(&damaged, &["1:secret"]);
        for item in items {
            assert!(!text::render(&item).is_empty());
            assert!(serde_json::to_string(&item).is_ok());
        }
    }
}

#[test]
fn an_unknown_link_type_is_told_of_beside_the_objects() {
    let totals = Totals {
        packets: 2,
        unknown_links: BTreeMap::from([(105, 2)]),
        ..Totals::default()
    };
    let note = "2 packets of link type 105, which is not known here, are left out\n";
    let (end, beside) = last_words(DecodeFormat::Text, &totals);
    assert!(end.ends_with(note) && beside.is_empty(), "{end}");
    let (end, beside) = last_words(DecodeFormat::Json, &totals);
    assert_eq!((end.as_str(), beside.as_str()), ("", note));
}
