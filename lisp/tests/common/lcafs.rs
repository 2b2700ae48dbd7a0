//! One sample for each LCAF type, and the plain AFIs.

use lisp::wire::{AfiAddress, ElpHop, Lcaf};

use super::{hex, in_instance, ip};

/// Name, bytes, meaning.
pub fn samples() -> Vec<(&'static str, Vec<u8>, AfiAddress)> {
    let list: Vec<(&'static str, &str, AfiAddress)> = vec![
        ("afi-0", "0000", AfiAddress::None),
        ("ipv4", "0001 c0000201", ip("192.0.2.1")),
        ("ipv6", "0002 20010db8000000000000000000000001", ip("2001:db8::1")),
        (
            "mac-6",
            "0006 020000000001",
            AfiAddress::Mac {
                afi: 6,
                address: [2, 0, 0, 0, 0, 1],
            },
        ),
        (
            "mac-16389",
            "4005 020000000001",
            AfiAddress::Mac {
                afi: 16389,
                address: [2, 0, 0, 0, 0, 1],
            },
        ),
        ("name", "0011 6e6f64652d61 00", AfiAddress::Name(b"node-a".to_vec())),
        ("lcaf-0-null", "4003 00 00 00 00 0000", Lcaf::Null.into()),
        (
            "lcaf-1-afi-list",
            "4003 00 00 01 00 0018   ; AFI-list of 24 bytes
             0001 c0000201
             0002 20010db8000000000000000000000001",
            Lcaf::AfiList(vec![ip("192.0.2.1"), ip("2001:db8::1")]).into(),
        ),
        (
            "lcaf-2-instance-id",
            "4003 00 00 02 00 000a   ; Instance-ID, IID mask-len 0
             00000007                ; 7
             0001 0a070000",
            in_instance(7, "10.7.0.0"),
        ),
        (
            "lcaf-2-instance-id-range",
            "4003 00 00 02 10 0006   ; IID mask-len 16
             00070000                ; the range 0x00070000/16
             0000",
            Lcaf::InstanceId {
                mask_len: 16,
                instance_id: 0x0007_0000,
                address: AfiAddress::None,
            }
            .into(),
        ),
        (
            "lcaf-3-as-number",
            "4003 00 00 03 00 000a
             0000fde9                ; AS 65001
             0001 c0000201",
            Lcaf::AsNumber {
                asn: 65001,
                address: ip("192.0.2.1"),
            }
            .into(),
        ),
        (
            "lcaf-4-application",
            "4003 00 00 04 00 0012
             00002e 06               ; traffic class 0x2e, TCP
             0400 ffff 01bb 01bb     ; local 1024-65535, remote 443
             0001 c0000201",
            Lcaf::Application {
                tos_tc_flow: [0, 0, 0x2e],
                protocol: 6,
                local_ports: (1024, 65535),
                remote_ports: (443, 443),
                address: ip("192.0.2.1"),
            }
            .into(),
        ),
        (
            "lcaf-5-geo",
            "4003 00 00 05 00 0012
             8034 1f 0c              ; N 52 31 12
             000d 18 12              ; W 13 24 18
             00000022                ; 34 m
             0001 c0000201",
            Lcaf::Geo {
                north: true,
                latitude: (52, 31, 12),
                east: false,
                longitude: (13, 24, 18),
                altitude: 34,
                address: ip("192.0.2.1"),
            }
            .into(),
        ),
        (
            "lcaf-6-opaque-key",
            "4003 00 00 06 00 0007
             01 0002 deadbeef        ; two fields, the second is a wildcard",
            Lcaf::OpaqueKey {
                fields: 1,
                wildcard: 2,
                key: vec![0xde, 0xad, 0xbe, 0xef],
            }
            .into(),
        ),
        (
            "lcaf-7-nat",
            "4003 00 00 07 00 001c
             10f6 d431               ; Map-Server port 4342, ETR port 54321
             0001 c6336401           ; global ETR RLOC
             0001 c0000202           ; Map-Server RLOC
             0001 0a000002           ; private ETR RLOC
             0001 cb007101           ; an RTR",
            Lcaf::NatTraversal {
                ms_port: 4342,
                etr_port: 54321,
                global_etr: ip("198.51.100.1"),
                ms: ip("192.0.2.2"),
                private_etr: ip("10.0.0.2"),
                rtrs: vec![ip("203.0.113.1")],
            }
            .into(),
        ),
        (
            "lcaf-10-elp",
            "4003 00 00 0a 00 0010
             0003 0001 c0000201      ; P and S
             0004 0001 c0000202      ; L",
            Lcaf::ExplicitLocatorPath(vec![
                ElpHop {
                    lookup: false,
                    probe: true,
                    strict: true,
                    address: ip("192.0.2.1"),
                },
                ElpHop {
                    lookup: true,
                    probe: false,
                    strict: false,
                    address: ip("192.0.2.2"),
                },
            ])
            .into(),
        ),
        (
            "lcaf-11-security-key",
            "4003 00 00 0b 00 0012
             02 00 05 00             ; two keys, cipher suite 5
             0003 aabbcc
             0001 dd
             0001 c0000201
             ",
            Lcaf::SecurityKey {
                cipher_suite: 5,
                revoke: false,
                keys: vec![vec![0xaa, 0xbb, 0xcc], vec![0xdd]],
                address: ip("192.0.2.1"),
            }
            .into(),
        ),
        (
            "lcaf-12-source-dest",
            "4003 00 00 0c 00 0010
             0000 18 10              ; /24, /16
             0001 c0000200
             0001 0a070000",
            Lcaf::SourceDest {
                source_mask: 24,
                dest_mask: 16,
                source: ip("192.0.2.0"),
                dest: ip("10.7.0.0"),
            }
            .into(),
        ),
        (
            "lcaf-13-replication-list",
            "4003 00 00 0d 00 0014
             000000 00 0001 c0000201
             000000 80 0001 c0000202 ; level 128, signal-free multicast",
            Lcaf::ReplicationList(vec![(0, ip("192.0.2.1")), (128, ip("192.0.2.2"))]).into(),
        ),
        (
            "lcaf-14-json",
            "4003 00 00 0e 00 0011
             0009 7b226b223a2276227d ; {\"k\":\"v\"}
             0001 c0000201",
            Lcaf::Json {
                binary: false,
                json: b"{\"k\":\"v\"}".to_vec(),
                address: Some(ip("192.0.2.1")),
            }
            .into(),
        ),
        (
            "lcaf-14-json-binary-bare",
            "4003 00 00 0e 01 0005   ; B
             0003 010203",
            Lcaf::Json {
                binary: true,
                json: vec![1, 2, 3],
                address: None,
            }
            .into(),
        ),
        (
            "lcaf-15-key-value",
            "4003 00 00 0f 00 000f
             0001 c0000201
             0011 6e6f64652d61 00",
            Lcaf::KeyValue {
                key: ip("192.0.2.1"),
                value: AfiAddress::Name(b"node-a".to_vec()),
            }
            .into(),
        ),
        (
            "lcaf-16-encapsulation",
            "4003 00 00 10 00 000a
             000000 05               ; L and V: LISP and VXLAN
             0001 c0000201",
            Lcaf::Encapsulation {
                formats: 5,
                address: ip("192.0.2.1"),
            }
            .into(),
        ),
        (
            "lcaf-255-vendor",
            "4003 00 00 ff 00 0007
             00 fe0102               ; OUI
             c0ffee",
            Lcaf::Vendor {
                oui: [0xfe, 1, 2],
                data: vec![0xc0, 0xff, 0xee],
            }
            .into(),
        ),
        (
            "lcaf-8-nonce-locator-unknown",
            "4003 01 02 08 03 000a
             00 123456
             0001 c0000201",
            Lcaf::Unknown {
                rsvd1: 1,
                flags: 2,
                kind: 8,
                rsvd2: 3,
                body: hex("00 123456 0001 c0000201"),
            }
            .into(),
        ),
        (
            "lcaf-nested",
            "4003 00 00 01 00 0024   ; AFI-list of
             4003 00 00 02 00 0016   ;   Instance-ID 7 of
             00000007
             0002 fd000000000000000000000000000001
             0001 c0000201",
            Lcaf::AfiList(vec![in_instance(7, "fd00::1"), ip("192.0.2.1")]).into(),
        ),
    ];
    list.into_iter()
        .map(|(name, bytes, value)| (name, hex(bytes), value))
        .collect()
}
