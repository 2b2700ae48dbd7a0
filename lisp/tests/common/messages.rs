//! One sample or more for each message.

use lisp::wire::{
    AfiAddress, Ecm, EcmSecurity, EidAd, EidAdRecords, InfoReply, InfoRequest, Lcaf, MapNotify, MapNotifyAck,
    MapReferral, MapRegister, MapReply, MapReplySecurity, MapRequest, Message, PacketAd, ReferralAction,
    ReferralRecord, ReferralSignature, RequestRecord,
};
use lisp::{NegativeAction, Ttl};

use super::{IDS_HEX, NONCE, hex, ids, in_instance, ip, local, mac, record};

/// Name, bytes, meaning.
pub type Sample = (&'static str, Vec<u8>, Message);

/// All of them.
pub fn samples() -> Vec<Sample> {
    [
        requests(),
        replies(),
        registers(),
        notifies(),
        referrals(),
        infos(),
        ecms(),
    ]
    .concat()
}

fn requests() -> Vec<Sample> {
    let plain = MapRequest::new(
        NONCE,
        in_instance(7, "10.7.0.1"),
        vec![ip("192.0.2.1")],
        RequestRecord {
            notify: false,
            mask_len: 32,
            eid: in_instance(7, "10.7.1.1"),
        },
    );
    let probe = MapRequest {
        probe: true,
        ..MapRequest::new(
            NONCE,
            AfiAddress::None,
            vec![ip("192.0.2.1"), ip("2001:db8::1")],
            RequestRecord {
                notify: false,
                mask_len: 64,
                eid: ip("fd00:0:0:1::"),
            },
        )
    };
    let smr = MapRequest {
        smr: true,
        dont_reply: true,
        ..MapRequest::new(
            NONCE,
            ip("10.7.0.1"),
            vec![ip("192.0.2.1")],
            RequestRecord {
                notify: false,
                mask_len: 24,
                eid: ip("10.7.1.0"),
            },
        )
    };
    let subscribe = MapRequest {
        authoritative: true,
        pitr: true,
        smr_invoked: true,
        local: true,
        map_reply_record: Some(record(ip("10.7.0.0"), 24, vec![local(ip("192.0.2.1"), 1, 100)])),
        xtr: Some(ids()),
        ..MapRequest::new(
            NONCE,
            ip("10.7.0.1"),
            vec![ip("192.0.2.1")],
            RequestRecord {
                notify: true,
                mask_len: 32,
                eid: ip("10.7.1.1"),
            },
        )
    };
    vec![
        (
            "map-request-plain",
            hex("10000001                          ; type 1, IRC 0, one record
                 0102030405060708
                 4003 00 00 02 00 000a 00000007 0001 0a070001   ; source EID
                 0001 c0000201                     ; ITR-RLOC
                 00 20 4003 00 00 02 00 000a 00000007 0001 0a070101"),
            Message::MapRequest(plain),
        ),
        (
            "map-request-probe",
            hex("12000101                          ; P, IRC 1: two ITR-RLOCs
                 0102030405060708
                 0000                              ; no source EID
                 0001 c0000201
                 0002 20010db8000000000000000000000001
                 00 40 0002 fd000000000000010000000000000000"),
            Message::MapRequest(probe),
        ),
        (
            "map-request-smr",
            hex("11002001                          ; S and D
                 0102030405060708
                 0001 0a070001
                 0001 c0000201
                 00 18 0001 0a070100"),
            Message::MapRequest(smr),
        ),
        (
            "map-request-subscribe",
            [
                hex("1cd04001                      ; A M p s I L
                     0102030405060708
                     0001 0a070001
                     0001 c0000201
                     80 20 0001 0a070101           ; N
                     000005a0 01 18 1000 0000 0001 0a070000
                     01 64 ff 00 0005 0001 c0000201"),
                hex(IDS_HEX),
            ]
            .concat(),
            Message::MapRequest(subscribe),
        ),
    ]
}

fn replies() -> Vec<Sample> {
    let positive = MapReply {
        probe: true,
        echo_nonce: true,
        nonce: NONCE,
        records: vec![{
            let mut one = local(ip("192.0.2.1"), 1, 50);
            one.probed = true;
            let mut two = local(ip("2001:db8::1"), 1, 50);
            (two.local, two.reachable) = (false, false);
            let mut record = record(in_instance(7, "10.7.0.0"), 16, vec![one, two]);
            record.version = 0xabc;
            record
        }],
        security: None,
    };
    let negative = MapReply {
        probe: false,
        echo_nonce: false,
        nonce: NONCE,
        records: vec![{
            let mut record = record(ip("10.0.0.0"), 8, vec![]);
            (record.ttl, record.authoritative) = (Ttl(15), false);
            record.action = NegativeAction::NativelyForward;
            record
        }],
        security: None,
    };
    let secured = MapReply {
        probe: false,
        echo_nonce: false,
        nonce: NONCE,
        records: vec![record(ip("10.7.0.0"), 16, vec![local(ip("192.0.2.1"), 1, 100)])],
        security: Some(MapReplySecurity {
            eid_ad: EidAd {
                kdf_id: 2,
                records: Some(EidAdRecords {
                    etr_cant_sign: false,
                    hmac_id: 2,
                    prefixes: vec![(16, ip("10.7.0.0"))],
                    hmac: vec![0xe1; 16],
                }),
            },
            packet_ad: PacketAd {
                hmac_id: 2,
                hmac: vec![0x9a; 16],
            },
        }),
    };
    vec![
        (
            "map-reply-positive",
            hex("2c000001                          ; P E
                 0102030405060708
                 000005a0 02 10 1000 0abc 4003 00 00 02 00 000a 00000007 0001 0a070000
                 01 32 ff 00 0007 0001 c0000201    ; L p R
                 01 32 ff 00 0000 0002 20010db8000000000000000000000001"),
            Message::MapReply(positive),
        ),
        (
            "map-reply-negative",
            hex("20000001
                 0102030405060708
                 0000000f 00 08 2000 0000 0001 0a000000   ; ACT 1, 15 minutes"),
            Message::MapReply(negative),
        ),
        (
            "map-reply-lisp-sec",
            hex("22000001                          ; S
                 0102030405060708
                 000005a0 01 10 1000 0000 0001 0a070000
                 01 64 ff 00 0005 0001 c0000201
                 01 000000                         ; MR AD type 1
                 0020 0002                         ; EID-AD of 32 bytes, KDF 2
                 01 00 0002                        ; one record, HMAC 2
                 00 10 0001 0a070000
                 e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1
                 0014 0002                         ; PKT-AD of 20 bytes, HMAC 2
                 9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a"),
            Message::MapReply(secured),
        ),
    ]
}

fn registers() -> Vec<Sample> {
    let full = MapRegister {
        proxy_reply: true,
        security_capable: true,
        eid_notify: true,
        use_ttl: true,
        merge: true,
        mobile_node: true,
        want_map_notify: true,
        nonce: NONCE,
        authentication: mac(3, 2, 32),
        records: vec![
            record(in_instance(7, "10.7.0.0"), 24, vec![local(ip("192.0.2.1"), 1, 100)]),
            record(
                in_instance(7, "fd00:7::"),
                32,
                vec![local(ip("192.0.2.1"), 1, 100), local(ip("2001:db8::1"), 2, 100)],
            ),
        ],
        xtr: Some(ids()),
    };
    let plain = MapRegister {
        proxy_reply: false,
        security_capable: false,
        eid_notify: false,
        use_ttl: false,
        merge: false,
        mobile_node: false,
        want_map_notify: true,
        nonce: NONCE,
        authentication: mac(0, 1, 20),
        records: vec![record(ip("10.7.0.0"), 24, vec![local(ip("192.0.2.1"), 1, 100)])],
        xtr: None,
    };
    let hkdf = MapRegister {
        authentication: mac(1, 3, 16),
        records: vec![],
        xtr: Some(ids()),
        ..plain.clone()
    };
    vec![
        (
            "map-register-full",
            [
                hex("3e001f02                      ; P S I, E T a R M, two records
                     0102030405060708
                     03 02 0020
                     000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f
                     000005a0 01 18 1000 0000 4003 00 00 02 00 000a 00000007 0001 0a070000
                     01 64 ff 00 0005 0001 c0000201
                     000005a0 02 20 1000 0000
                       4003 00 00 02 00 0016 00000007 0002 fd000007000000000000000000000000
                     01 64 ff 00 0005 0001 c0000201
                     02 64 ff 00 0005 0002 20010db8000000000000000000000001"),
                hex(IDS_HEX),
            ]
            .concat(),
            Message::MapRegister(full),
        ),
        (
            "map-register-sha1-plain",
            hex("30000101                          ; M
                 0102030405060708
                 0001 0014                         ; RFC 6833 reads these two bytes as Key ID 1
                 000102030405060708090a0b0c0d0e0f10111213
                 000005a0 01 18 1000 0000 0001 0a070000
                 01 64 ff 00 0005 0001 c0000201"),
            Message::MapRegister(plain),
        ),
        (
            "map-register-hkdf-empty",
            [
                hex("32000100 0102030405060708 01 03 0010 000102030405060708090a0b0c0d0e0f"),
                hex(IDS_HEX),
            ]
            .concat(),
            Message::MapRegister(hkdf),
        ),
    ]
}

fn notifies() -> Vec<Sample> {
    let plain = MapNotify {
        nonce: NONCE,
        authentication: mac(3, 2, 16),
        records: vec![record(ip("10.7.0.0"), 24, vec![local(ip("192.0.2.1"), 1, 100)])],
        xtr: None,
    };
    let with_ids = MapNotify {
        xtr: Some(ids()),
        ..plain.clone()
    };
    let body = "0102030405060708
                03 02 0010 000102030405060708090a0b0c0d0e0f
                000005a0 01 18 1000 0000 0001 0a070000
                01 64 ff 00 0005 0001 c0000201";
    vec![
        (
            "map-notify",
            [hex("40000001"), hex(body)].concat(),
            Message::MapNotify(plain.clone()),
        ),
        (
            "map-notify-ids",
            [hex("48000001"), hex(body), hex(IDS_HEX)].concat(),
            Message::MapNotify(with_ids.clone()),
        ),
        (
            "map-notify-ack",
            [hex("50000001"), hex(body)].concat(),
            Message::MapNotifyAck(MapNotifyAck(plain)),
        ),
        (
            "map-notify-ack-ids",
            [hex("58000001"), hex(body), hex(IDS_HEX)].concat(),
            Message::MapNotifyAck(MapNotifyAck(with_ids)),
        ),
    ]
}

fn referrals() -> Vec<Sample> {
    let referral = MapReferral {
        nonce: NONCE,
        records: vec![ReferralRecord {
            ttl: Ttl::DAY,
            mask_len: 8,
            action: ReferralAction::MsReferral,
            authoritative: true,
            incomplete: true,
            version: 1,
            eid: ip("10.0.0.0"),
            referrals: vec![local(ip("192.0.2.1"), 1, 100)],
            signatures: vec![ReferralSignature {
                original_ttl: Ttl::DAY,
                expiration: 0x7000_0000,
                inception: 0x6000_0000,
                key_tag: 9,
                algorithm: 2,
                signature: vec![0x5a; 4],
            }],
        }],
    };
    vec![(
        "map-referral",
        hex("60000001
             0102030405060708
             000005a0 01 08 3800 1001 0001 0a000000   ; ACT 1, A, I; one signature, version 1
             01 64 ff 00 0005 0001 c0000201
             000005a0 70000000 60000000 0009 0004 02 00 0000 5a5a5a5a"),
        Message::MapReferral(referral),
    )]
}

fn infos() -> Vec<Sample> {
    let request = InfoRequest {
        nonce: NONCE,
        authentication: mac(3, 2, 32),
        ttl: Ttl::DAY,
        mask_len: 32,
        eid: ip("10.7.0.1"),
    };
    // What lispers.net sends: no authentication at all, a host name for an EID.
    let unauthenticated = InfoRequest {
        nonce: NONCE,
        authentication: mac(0, 0, 0),
        ttl: Ttl(0),
        mask_len: 0,
        eid: AfiAddress::Name(b"host-a".to_vec()),
    };
    let nat = Lcaf::NatTraversal {
        ms_port: 4342,
        etr_port: 54321,
        global_etr: ip("198.51.100.1"),
        ms: ip("192.0.2.2"),
        private_etr: ip("10.0.0.2"),
        rtrs: vec![ip("203.0.113.1"), ip("203.0.113.2")],
    };
    let reply = InfoReply {
        nonce: NONCE,
        authentication: mac(3, 2, 32),
        ttl: Ttl::DAY,
        mask_len: 32,
        eid: ip("10.7.0.1"),
        nat: nat.into(),
    };
    vec![
        (
            "info-request",
            hex("70000000 0102030405060708
                 03 02 0020 000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f
                 000005a0 00 20 0001 0a070001
                 0000"),
            Message::InfoRequest(request),
        ),
        (
            "info-request-lispers",
            hex("70000000 0102030405060708 00 00 0000 00000000 00 00 0011 686f73742d61 00 0000"),
            Message::InfoRequest(unauthenticated),
        ),
        (
            "info-reply",
            hex("78000000 0102030405060708         ; R
                 03 02 0020 000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f
                 000005a0 00 20 0001 0a070001
                 4003 00 00 07 00 0022 10f6 d431
                 0001 c6336401 0001 c0000202 0001 0a000002 0001 cb007101 0001 cb007102"),
            Message::InfoReply(reply),
        ),
    ]
}

/// The Map-Request inside the ECM samples.
pub fn encapsulated() -> MapRequest {
    MapRequest::new(
        NONCE,
        AfiAddress::None,
        vec![ip("192.0.2.1")],
        RequestRecord {
            notify: false,
            mask_len: 32,
            eid: ip("10.7.1.1"),
        },
    )
}

const ENCAPSULATED_HEX: &str = "10000001 0102030405060708 0000 0001 c0000201 00 20 0001 0a070101";

fn ecms() -> Vec<Sample> {
    let payload = hex(ENCAPSULATED_HEX);
    let four = Ecm {
        ddt: false,
        to_etr: false,
        to_ms: false,
        security: None,
        source: "10.7.0.1:4342".parse().unwrap(),
        destination: "10.7.1.1:4342".parse().unwrap(),
        payload: payload.clone(),
    };
    let six = Ecm {
        ddt: true,
        to_etr: true,
        to_ms: true,
        source: "[fd00::1]:50000".parse().unwrap(),
        destination: "[fd00::2]:4342".parse().unwrap(),
        ..four.clone()
    };
    let secured = Ecm {
        security: Some(EcmSecurity {
            requested_hmac_id: 2,
            key_id: 5,
            wrap_id: 2,
            preamble: [0xa1; 8],
            otk: vec![0x0d; 16],
            eid_ad: EidAd {
                kdf_id: 2,
                records: None,
            },
        }),
        ..four.clone()
    };
    // The inner checksums come from Python's arithmetic, see tests/vectors/checksums.py.
    vec![
        (
            "ecm-ipv4",
            [
                hex("80000000
                     45000038 00004000 401125a6 0a070001 0a070101   ; IPv4, 56 bytes, TTL 64, UDP
                     10f610f6 0024 db69"),
                payload.clone(),
            ]
            .concat(),
            Message::Ecm(four),
        ),
        (
            "ecm-ipv6",
            [
                hex("87000000                      ; D E M
                     60000000 0024 11 40
                     fd000000000000000000000000000001 fd000000000000000000000000000002
                     c350 10f6 0024 441a"),
                payload.clone(),
            ]
            .concat(),
            Message::Ecm(six),
        ),
        (
            "ecm-lisp-sec",
            [
                hex("88000000                      ; S
                     01 00 0002                    ; AD type 1, HMAC 2
                     0018 05 02                    ; OTK-AD of 24 bytes, key 5, wrapping 2
                     a1a1a1a1a1a1a1a1 0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d
                     0004 0002                     ; EID-AD of 4 bytes, KDF 2
                     45000038 00004000 401125a6 0a070001 0a070101
                     10f610f6 0024 db69"),
                payload,
            ]
            .concat(),
            Message::Ecm(secured),
        ),
    ]
}
