//! What implementers of RFC 9301 get wrong, a test for each.

mod common;

use common::{IDS_HEX, NONCE, hex, ids, in_instance, ip, local, mac, messages, record};
use lisp::{
    DATA_PORT, Eid, EidPrefix, InstanceId, Locator, Mapping, NegativeAction, Rloc, Ttl,
    wire::{
        AfiAddress, AuthAlgorithm, AuthError, Ecm, EidRecord, EncodeError, InfoReply, InfoRequest, Lcaf, MapNotify,
        MapRegister, MapReply, MapRequest, Message, Purpose, RequestRecord, RlocRecord, TrailingIds, WireError, verify,
    },
};

fn sample(name: &str) -> Vec<u8> {
    messages::samples()
        .into_iter()
        .find(|(found, ..)| *found == name)
        .unwrap()
        .1
}

fn request() -> MapRequest {
    messages::encapsulated()
}

fn reply(records: Vec<EidRecord>) -> MapReply {
    MapReply {
        probe: false,
        echo_nonce: false,
        nonce: NONCE,
        records,
        security: None,
    }
}

fn prefix(text: &str) -> EidPrefix {
    text.parse().unwrap()
}

fn rloc(text: &str) -> Rloc {
    Rloc::new(text.parse().unwrap())
}

mod unknown_afi {
    use super::*;

    /// RFC 9301 §5: the whole message is dropped, because nobody knows where the next field begins.
    fn dropped(message: &str) {
        let bytes = hex(message);
        assert!(
            matches!(Message::decode(&bytes), Err(WireError::UnknownAfi { afi: 8, .. })),
            "{message}"
        );
    }

    #[test]
    fn as_source_eid_drops_the_message() {
        dropped("10000001 0102030405060708 0008 0a070001 0001 c0000201 00 20 0001 0a070101");
    }

    #[test]
    fn as_itr_rloc_drops_the_message() {
        dropped("10000001 0102030405060708 0000 0008 c0000201 00 20 0001 0a070101");
    }

    #[test]
    fn as_eid_drops_the_message() {
        dropped("20000001 0102030405060708 0000000f 00 08 2000 0000 0008 0a000000");
    }

    #[test]
    fn as_locator_drops_the_message() {
        dropped("20000001 0102030405060708 000005a0 01 10 1000 0000 0001 0a070000 01 64 ff 00 0005 0008 c0000201");
    }

    #[test]
    fn inside_an_lcaf_drops_the_message() {
        dropped(
            "20000001 0102030405060708 0000000f 00 08 2000 0000
             4003 00 00 02 00 000a 00000007 0008 0a000000",
        );
    }

    #[test]
    fn is_reported_with_its_place() {
        let error = AfiAddress::decode(&hex("4003 00 00 02 00 000a 00000007 0008 0a000000"));
        assert_eq!(error, Err(WireError::UnknownAfi { offset: 12, afi: 8 }));
    }
}

mod lcaf {
    use super::*;

    /// AFI-lists around one another, `depth` of them.
    fn nested(depth: usize) -> Vec<u8> {
        (0..depth).fold(hex("0001 c0000201"), |inner, _| {
            let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
            [hex("4003 00 00 01 00").as_slice(), &length, &inner].concat()
        })
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(AfiAddress::decode(&nested(8)).is_ok());
        assert!(matches!(
            AfiAddress::decode(&nested(9)),
            Err(WireError::TooDeep { limit: 8, .. })
        ));
        assert!(matches!(
            AfiAddress::decode(&nested(5000)),
            Err(WireError::TooDeep { offset: 64, limit: 8 })
        ));
    }

    #[test]
    fn nesting_that_nobody_reads_is_not_written() {
        let deep = (0..9).fold(ip("192.0.2.1"), |inner, _| Lcaf::AfiList(vec![inner]).into());
        assert!(matches!(
            deep.try_encode(),
            Err(EncodeError::Invalid { what: "LCAF", .. })
        ));
        assert!(
            AfiAddress::decode(&deep.encode()).is_ok(),
            "what encode leaves out leaves a valid address"
        );
    }

    /// What stands behind is found by the outer length, and what was not understood is carried untouched.
    #[test]
    fn bytes_that_a_known_type_does_not_define_are_carried_and_what_follows_is_found() {
        let odd = hex("4003 00 00 02 00 000c 00000007 0001 0a070000 beef");
        let address = AfiAddress::decode(&odd).unwrap();
        assert!(matches!(&address, AfiAddress::Lcaf(lcaf) if matches!(**lcaf, Lcaf::Unknown { kind: 2, .. })));
        assert_eq!(address.to_eid(), None, "it is no EID that we understand");
        assert_eq!(address.encode(), odd);
        let list = [hex("4003 00 00 01 00 001a"), odd, hex("0001 c0000201")].concat();
        let AfiAddress::Lcaf(lcaf) = AfiAddress::decode(&list).unwrap() else {
            panic!()
        };
        let Lcaf::AfiList(items) = *lcaf else {
            panic!("{lcaf:?}")
        };
        assert_eq!(items, [address, ip("192.0.2.1")]);
    }

    #[test]
    fn an_inner_address_that_overruns_the_outer_length_is_an_error() {
        // The IPv4 address would need four bytes, the LCAF ends after two; bytes do follow.
        let bytes = hex("4003 00 00 02 00 0008 00000007 0001 0a07 0000 0000");
        assert!(matches!(
            AfiAddress::decode(&bytes),
            Err(WireError::Truncated { needed: 2, .. })
        ));
    }

    #[test]
    fn unknown_types_go_through_byte_by_byte() {
        for kind in [8u8, 9, 17, 18, 100, 254] {
            let bytes = [hex("4003 a5 5a"), vec![kind], hex("c3 0003 010203")].concat();
            let address = AfiAddress::decode(&bytes).unwrap();
            assert!(matches!(&address, AfiAddress::Lcaf(lcaf) if lcaf.kind() == kind));
            assert_eq!(address.encode(), bytes);
        }
    }

    #[test]
    fn instance_id_0_in_an_lcaf_is_the_plain_address() {
        assert_eq!(in_instance(0, "10.7.0.1").to_eid(), ip("10.7.0.1").to_eid());
        let eid = ip("10.7.0.1").to_eid().unwrap();
        assert_eq!(AfiAddress::from_eid(&eid), ip("10.7.0.1"), "and is sent plain");
    }

    #[test]
    fn an_instance_id_beyond_24_bits_is_no_eid() {
        assert_eq!(in_instance(0x0100_0000, "10.7.0.1").to_eid(), None);
        assert!(in_instance(0x00ff_ffff, "10.7.0.1").to_eid().is_some());
    }

    #[test]
    fn the_same_address_in_two_instances_is_two_eids() {
        let (a, b) = (in_instance(1, "10.7.0.1").to_eid(), in_instance(2, "10.7.0.1").to_eid());
        assert_ne!(a, b);
        assert_ne!(in_instance(1, "10.7.0.1").encode(), in_instance(2, "10.7.0.1").encode());
    }

    /// Sending straight to a hop would go around the path, to a member around the list.
    #[test]
    fn a_path_or_a_replication_list_is_no_single_address() {
        let path = Lcaf::ReplicationList(vec![(0, ip("192.0.2.1"))]);
        assert_eq!(AfiAddress::from(path).ip(), None);
    }

    #[test]
    fn decorated_addresses_are_found() {
        let list = Lcaf::AfiList(vec![AfiAddress::Name(b"a".to_vec()), ip("192.0.2.1"), ip("192.0.2.2")]);
        assert_eq!(AfiAddress::from(list).ip(), Some("192.0.2.1".parse().unwrap()));
        let key = Lcaf::SecurityKey {
            cipher_suite: 5,
            revoke: false,
            keys: vec![vec![1]],
            address: ip("192.0.2.3"),
        };
        assert_eq!(AfiAddress::from(key).ip(), Some("192.0.2.3".parse().unwrap()));
    }

    #[test]
    fn a_length_that_cannot_be_written_leaves_no_broken_lcaf() {
        let long: AfiAddress = Lcaf::Vendor {
            oui: [0xfe, 0, 1],
            data: vec![0; 70_000],
        }
        .into();
        assert_eq!(
            long.try_encode(),
            Err(EncodeError::TooLong {
                what: "LCAF body",
                len: 70_004,
                max: 65_535
            })
        );
        assert_eq!(long.encode(), hex("0000"));
        let json: AfiAddress = Lcaf::Json {
            binary: false,
            json: vec![b' '; 70_000],
            address: None,
        }
        .into();
        assert!(json.try_encode().is_err());
        assert_eq!(json.encode(), hex("0000"));
    }

    #[test]
    fn a_name_ends_at_its_nul() {
        let name = AfiAddress::Name(b"a\0b".to_vec());
        assert!(name.try_encode().is_err());
        assert_eq!(name.encode(), hex("0011 61 00"));
    }
}

mod counts {
    use super::*;

    #[test]
    fn records_beyond_255_are_refused_or_left_out_but_never_miscounted() {
        let one = record(ip("10.7.0.0"), 24, vec![]);
        let fits = reply(vec![one.clone(); 255]);
        assert_eq!(MapReply::decode(&fits.try_encode().unwrap()).unwrap(), fits);
        let many = reply(vec![one; 256]);
        let refused = Err(EncodeError::TooMany {
            what: "records",
            count: 256,
            max: 255,
        });
        assert_eq!(many.try_encode(), refused);
        assert_eq!(many.encode(), fits.encode());
    }

    #[test]
    fn locators_beyond_255_are_refused_or_left_out_but_never_miscounted() {
        let many = reply(vec![record(
            ip("10.7.0.0"),
            24,
            vec![local(ip("192.0.2.1"), 1, 1); 300],
        )]);
        let refused = Err(EncodeError::TooMany {
            what: "locators",
            count: 300,
            max: 255,
        });
        assert_eq!(many.try_encode(), refused);
        assert_eq!(MapReply::decode(&many.encode()).unwrap().records[0].locators.len(), 255);
    }

    #[test]
    fn itr_rlocs_beyond_32_are_refused_or_left_out_but_never_miscounted() {
        let fits = MapRequest {
            itr_rlocs: vec![ip("192.0.2.1"); 32],
            ..request()
        };
        let bytes = fits.try_encode().unwrap();
        assert_eq!(bytes[2] & 0x1f, 31, "the field says one less than there are");
        assert_eq!(MapRequest::decode(&bytes).unwrap(), fits);
        let many = MapRequest {
            itr_rlocs: vec![ip("192.0.2.1"); 33],
            ..request()
        };
        assert_eq!(
            many.try_encode(),
            Err(EncodeError::TooMany {
                what: "ITR-RLOCs",
                count: 33,
                max: 32
            })
        );
        assert_eq!(many.encode(), bytes);
    }

    #[test]
    fn a_request_without_itr_rlocs_cannot_be_written() {
        let none = MapRequest {
            itr_rlocs: vec![],
            ..request()
        };
        assert!(none.try_encode().is_err());
        assert_eq!(
            MapRequest::decode(&none.encode()).unwrap().itr_rlocs,
            [AfiAddress::None]
        );
    }

    #[test]
    fn a_request_without_records_is_refused_both_ways() {
        let none = MapRequest {
            records: vec![],
            ..request()
        };
        assert!(none.try_encode().is_err());
        let field = "Record Count";
        assert!(matches!(MapRequest::decode(&none.encode()), Err(WireError::Invalid { field: f, .. }) if f == field));
    }

    #[test]
    fn a_receiver_takes_many_records() {
        let one = RequestRecord {
            notify: false,
            mask_len: 32,
            eid: ip("10.7.1.1"),
        };
        let many = MapRequest {
            records: vec![one; 3],
            ..request()
        };
        assert_eq!(MapRequest::decode(&many.encode()).unwrap(), many);
    }

    /// A count is no promise: memory is taken for what is there.
    #[test]
    fn counts_that_the_message_does_not_keep_are_errors() {
        for message in [
            "200000ff 0102030405060708",
            "100000ff 0102030405060708 0000 0000",
            "600000ff 0102030405060708",
        ] {
            assert!(
                matches!(Message::decode(&hex(message)), Err(WireError::Truncated { .. })),
                "{message}"
            );
        }
    }

    #[test]
    fn values_wider_than_their_field_are_refused_or_cut() {
        let mut wide = record(ip("10.7.0.0"), 24, vec![]);
        wide.version = 0x1000;
        let refused = Err(EncodeError::TooLarge {
            what: "Map-Version",
            value: 0x1000,
            max: 0xfff,
        });
        assert_eq!(reply(vec![wide.clone()]).try_encode(), refused);
        assert_eq!(
            MapReply::decode(&reply(vec![wide]).encode()).unwrap().records[0].version,
            0
        );
    }
}

mod masks {
    use super::*;

    #[test]
    fn a_mask_longer_than_the_address_is_an_error() {
        for (eid, most) in [
            ("0001 0a070000", 32),
            ("4003 00 00 02 00 000a 00000007 0001 0a070000", 32),
        ] {
            for (mask, valid) in [(most, true), (most + 1, false), (255, false)] {
                let head = format!("20000001 0102030405060708 0000000f 00 {mask:02x} 2000 0000");
                let bytes = [hex(&head), hex(eid)].concat();
                assert_eq!(Message::decode(&bytes).is_ok(), valid, "{eid} {mask}");
            }
        }
        let long = reply(vec![record(ip("10.0.0.0"), 33, vec![])]);
        assert_eq!(
            long.try_encode(),
            Err(EncodeError::TooLarge {
                what: "EID mask-len",
                value: 33,
                max: 32
            })
        );
        assert!(MapReply::decode(&long.encode()).is_ok());
    }

    #[test]
    fn host_bits_are_cleared() {
        let sloppy = record(in_instance(7, "10.7.3.9"), 16, vec![]);
        assert_eq!(sloppy.prefix(), Ok(prefix("[7]10.7.0.0/16")));
    }

    #[test]
    fn a_prefix_of_another_kind_is_told_so() {
        let named = record(AfiAddress::Name(b"node-a".to_vec()), 0, vec![]);
        assert!(matches!(
            named.prefix(),
            Err(WireError::Invalid {
                field: "EID-prefix",
                ..
            })
        ));
    }
}

mod locators {
    use super::*;

    /// RFC 9301 §5.4, RFC 8060 §3: IPv4, then IPv6, ascending, then LCAFs by type. Locator-Status-Bits count so.
    #[test]
    fn are_sorted_by_family_and_address() {
        let key = |address| Lcaf::SecurityKey {
            cipher_suite: 5,
            revoke: false,
            keys: vec![],
            address,
        };
        let mut record = record(
            ip("10.7.0.0"),
            16,
            vec![
                local(key(ip("192.0.2.0")).into(), 1, 1),
                local(ip("2001:db8::2"), 1, 1),
                local(Lcaf::AfiList(vec![]).into(), 1, 1),
                local(ip("2001:db8::1"), 1, 1),
                local(ip("203.0.113.1"), 1, 1),
                local(ip("9.0.0.1"), 1, 1),
            ],
        );
        record.sort_locators();
        let order: Vec<_> = record.locators.iter().map(|locator| locator.rloc.to_string()).collect();
        assert_eq!(
            order,
            [
                "9.0.0.1",
                "203.0.113.1",
                "2001:db8::1",
                "2001:db8::2",
                "LCAF type 1",
                "LCAF type 11"
            ]
        );
    }

    #[test]
    fn of_a_mapping_go_out_sorted_whatever_their_order_was() {
        let mut mapping = Mapping::new(prefix("10.7.0.0/16"), Ttl::DAY, vec![]);
        mapping.locators = ["2001:db8::1", "192.0.2.9", "192.0.2.1"]
            .map(|text| Locator::new(rloc(text), 1, 100))
            .to_vec();
        let sent = EidRecord::from_mapping(&mapping);
        let order: Vec<_> = sent.locators.iter().map(|locator| locator.rloc.to_string()).collect();
        assert_eq!(order, ["192.0.2.1", "192.0.2.9", "2001:db8::1"]);
    }

    /// RFC 9301 §5.4: the receiver selects the first p-bit locator.
    #[test]
    fn only_the_first_p_bit_counts() {
        let mut probed = local(ip("192.0.2.1"), 1, 1);
        probed.probed = true;
        let mut second = local(ip("192.0.2.2"), 1, 1);
        second.probed = true;
        let mapping = record(ip("10.7.0.0"), 16, vec![probed, second]).to_mapping().unwrap();
        assert_eq!(
            mapping
                .locators
                .iter()
                .map(|locator| locator.probed)
                .collect::<Vec<_>>(),
            [true, false]
        );
    }

    #[test]
    fn priority_255_and_r_0_are_not_used() {
        let never = Locator::new(rloc("192.0.2.1"), 255, 100);
        let unreachable = Locator {
            reachable: false,
            ..Locator::new(rloc("192.0.2.1"), 1, 100)
        };
        assert!(!never.is_usable() && !unreachable.is_usable());
        let back = RlocRecord::from(&unreachable).to_locator().unwrap();
        assert_eq!(back, unreachable);
    }

    /// RFC 9306 §3: unrecognised LCAFs are ignored; none left is the same as a locator count of 0.
    #[test]
    fn that_are_not_understood_are_left_out_of_the_mapping_but_stay_in_the_record() {
        let vendor: AfiAddress = Lcaf::Vendor {
            oui: [0xfe, 0, 1],
            data: vec![1],
        }
        .into();
        let record = record(ip("10.7.0.0"), 16, vec![local(vendor, 1, 1)]);
        assert!(record.to_mapping().unwrap().is_negative());
        let bytes = reply(vec![record.clone()]).encode();
        assert_eq!(MapReply::decode(&bytes).unwrap().records, [record]);
    }

    #[test]
    fn behind_a_nat_keep_their_port() {
        let natted = Locator::new(
            Rloc {
                address: "198.51.100.1".parse().unwrap(),
                port: 54321,
            },
            1,
            100,
        );
        let record = RlocRecord::from(&natted);
        assert!(matches!(&record.rloc, AfiAddress::Lcaf(lcaf) if lcaf.kind() == 7));
        assert_eq!(record.to_locator(), Some(natted));
        let plain = Locator::new(rloc("198.51.100.1"), 1, 100);
        assert_eq!(RlocRecord::from(&plain).rloc, ip("198.51.100.1"));
        assert_eq!(plain.rloc.port, DATA_PORT);
    }
}

mod map_request {
    use super::*;

    /// RFC 9437 appends xTR-ID and Site-ID; lispers.net the xTR-ID alone, which is a matter of configuration.
    #[test]
    fn the_xtr_id_alone_is_read_only_when_asked_for() {
        let whole = MapRequest {
            xtr: Some(ids()),
            ..request()
        }
        .encode();
        let short = &whole[..whole.len() - 8];
        assert!(matches!(
            MapRequest::decode(short),
            Err(WireError::Truncated { field: "Site-ID", .. })
        ));
        let read = MapRequest::decode_with(short, TrailingIds::XtrOnly).unwrap();
        assert_eq!(read.xtr.map(|(xtr, site)| (xtr, site.0)), Some((ids().0, 0)));
    }

    /// RFC 9437 §5: no longer interested.
    #[test]
    fn an_unsubscription_has_a_single_itr_rloc_of_afi_0() {
        let mut leave = MapRequest {
            itr_rlocs: vec![AfiAddress::None],
            xtr: Some(ids()),
            ..request()
        };
        leave.records[0].notify = true;
        assert_eq!(MapRequest::decode(&leave.try_encode().unwrap()).unwrap(), leave);
    }

    #[test]
    fn reserved_bits_are_ignored_and_not_sent_on() {
        let clean = sample("map-request-plain");
        let mut dirty = clean.clone();
        dirty[1] |= 0x2f;
        dirty[2] |= 0x80;
        let read = MapRequest::decode(&dirty).unwrap();
        assert_eq!(read.encode(), clean);
    }

    #[test]
    fn a_host_record_asks_for_the_whole_address() {
        let eid = Eid::new(InstanceId::new(7).unwrap(), "fd00::1".parse().unwrap());
        let record = RequestRecord::for_eid(&eid);
        assert_eq!((record.mask_len, record.prefix()), (128, Ok(prefix("[7]fd00::1/128"))));
    }
}

mod map_reply {
    use super::*;

    #[test]
    fn ttl_0_and_all_ones_are_carried() {
        for ttl in [Ttl::ZERO, Ttl::RECEIVERS_CHOICE] {
            let mut record = record(ip("10.7.0.0"), 16, vec![]);
            record.ttl = ttl;
            let read = MapReply::decode(&reply(vec![record]).encode()).unwrap();
            assert_eq!(read.records[0].ttl, ttl);
        }
    }

    #[test]
    fn every_action_survives_also_unassigned_ones() {
        for code in 0..8 {
            let mut record = record(ip("10.7.0.0"), 16, vec![]);
            record.action = NegativeAction::from_code(code);
            let bytes = reply(vec![record]).encode();
            assert_eq!(MapReply::decode(&bytes).unwrap().records[0].action.code(), code);
        }
    }

    /// RFC 9301 §5.4: P set and a record without A: silently discarded.
    #[test]
    fn a_probe_reply_that_is_not_authoritative_is_not_acceptable() {
        let mut answer = reply(vec![record(ip("10.7.0.0"), 16, vec![]); 2]);
        answer.probe = true;
        assert!(answer.is_acceptable_probe());
        answer.records[1].authoritative = false;
        assert!(!answer.is_acceptable_probe());
    }

    /// A peer that takes authentication data for an optional extra must not be let through.
    #[test]
    fn the_s_bit_without_authentication_data_is_an_error() {
        let mut bytes = sample("map-reply-positive");
        bytes[0] |= 0x02;
        assert!(matches!(MapReply::decode(&bytes), Err(WireError::Truncated { .. })));
    }

    #[test]
    fn authentication_data_without_the_s_bit_is_left_over() {
        let mut bytes = sample("map-reply-lisp-sec");
        bytes[0] &= !0x02;
        assert!(matches!(
            MapReply::decode(&bytes),
            Err(WireError::Trailing { count: 56, .. })
        ));
    }

    #[test]
    fn authentication_data_of_another_type_is_an_error() {
        let mut bytes = sample("map-reply-lisp-sec");
        let at = bytes.len() - 56;
        bytes[at] = 2;
        let field = "authentication data type";
        assert!(matches!(MapReply::decode(&bytes), Err(WireError::Invalid { field: f, .. }) if f == field));
    }
}

mod map_register {
    use super::*;

    /// RFC 6833 had one 16-bit Key ID where RFC 9301 has Key ID and Algorithm ID: the same bytes for key 0.
    #[test]
    fn the_old_16_bit_key_id_reads_as_key_0_and_its_algorithm() {
        let register = MapRegister::decode(&sample("map-register-sha1-plain")).unwrap();
        assert_eq!(
            (register.authentication.key_id, register.authentication.algorithm_id),
            (0, 1)
        );
    }

    /// 0x2000 is "reliable transport" in one draft and encryption in lispers.net.
    #[test]
    fn bits_that_drafts_disagree_about_are_ignored() {
        let clean = sample("map-register-full");
        let mut dirty = clean.clone();
        dirty[1] |= 0xff;
        dirty[2] |= 0xe0;
        assert_eq!(MapRegister::decode(&dirty).unwrap().encode(), clean);
    }

    #[test]
    fn the_i_bit_without_ids_is_an_error_and_ids_without_the_i_bit_too() {
        let whole = sample("map-register-full");
        let without = &whole[..whole.len() - 24];
        assert!(matches!(
            MapRegister::decode(without),
            Err(WireError::Truncated { field: "xTR-ID", .. })
        ));
        let mut unmarked = whole.clone();
        unmarked[0] &= !0x02;
        assert!(matches!(
            MapRegister::decode(&unmarked),
            Err(WireError::Trailing { count: 24, .. })
        ));
    }

    #[test]
    fn an_unknown_algorithm_does_not_hide_the_records() {
        let mut register = MapRegister::decode(&sample("map-register-sha1-plain")).unwrap();
        register.authentication = mac(9, 77, 5);
        assert_eq!(MapRegister::decode(&register.encode()).unwrap(), register);
    }
}

mod map_notify {
    use super::*;

    /// RFC 9301 gives the message no I-bit, deployed code appends the IDs all the same.
    #[test]
    fn trailing_ids_are_read_without_the_i_bit() {
        let bytes = [sample("map-notify"), hex(IDS_HEX)].concat();
        assert_eq!(MapNotify::decode(&bytes).unwrap().xtr, Some(ids()));
    }

    #[test]
    fn another_number_of_trailing_bytes_is_an_error() {
        for extra in (1..60).filter(|extra| *extra != 24) {
            let mut bytes = sample("map-notify");
            bytes.extend(vec![0; extra]);
            assert!(
                matches!(MapNotify::decode(&bytes), Err(WireError::Trailing { .. })),
                "{extra}"
            );
        }
    }

    #[test]
    fn the_i_bit_of_the_draft_needs_the_ids() {
        let mut bytes = sample("map-notify");
        bytes[0] |= 0x08;
        assert!(matches!(
            MapNotify::decode(&bytes),
            Err(WireError::Truncated { field: "xTR-ID", .. })
        ));
    }

    #[test]
    fn an_ack_is_the_notify_under_another_type() {
        let (mut notify, ack) = (sample("map-notify-ids"), sample("map-notify-ack-ids"));
        notify[0] = (notify[0] & 0x0f) | 0x50;
        assert_eq!(notify, ack);
        let expected = WireError::WrongType { found: 5, expected: 4 };
        assert_eq!(MapNotify::decode(&ack), Err(expected));
    }
}

mod info {
    use super::*;

    #[test]
    fn the_r_bit_tells_request_from_reply() {
        let field = |result: Result<(), WireError>| match result {
            Err(WireError::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(InfoReply::decode(&sample("info-request")).map(drop)), "R-bit");
        assert_eq!(field(InfoRequest::decode(&sample("info-reply")).map(drop)), "R-bit");
        let mut with_address = sample("info-reply");
        with_address[0] &= !0x08;
        assert_eq!(field(InfoRequest::decode(&with_address).map(drop)), "last address");
    }

    /// lispers.net's form has no authentication: it can be shown, and never verifies.
    #[test]
    fn an_unauthenticated_info_request_is_read_but_authenticates_nobody() {
        let bytes = sample("info-request-lispers");
        assert_eq!(
            InfoRequest::decode(&bytes).unwrap().eid,
            AfiAddress::Name(b"host-a".to_vec())
        );
        let all = [1, 2, 3].map(|id| AuthAlgorithm::from_id(id).unwrap());
        let refused = Err(AuthError::AlgorithmRefused(0));
        assert_eq!(verify(&bytes, Purpose::InfoRequest, b"secret", &all), refused);
    }
}

mod ecm {
    use super::*;

    #[test]
    fn authentication_data_of_another_type_is_an_error() {
        // Type 2 is the NAT draft's key between Map-Server and RTR.
        let mut bytes = sample("ecm-lisp-sec");
        bytes[4] = 2;
        assert_eq!(reason(&bytes), "authentication data type");
    }

    fn reason(bytes: &[u8]) -> &'static str {
        match Ecm::decode(bytes) {
            Err(WireError::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    /// Offsets in the IPv4 and IPv6 samples: ECM header, inner IP header, inner UDP header.
    const IP: usize = 4;
    const UDP4: usize = 24;
    const UDP6: usize = 44;

    #[test]
    fn a_zero_udp_checksum_is_refused() {
        for (name, udp) in [("ecm-ipv4", UDP4), ("ecm-ipv6", UDP6)] {
            let mut bytes = sample(name);
            bytes[udp + 6..udp + 8].fill(0);
            assert_eq!(reason(&bytes), "inner UDP checksum", "{name}");
        }
    }

    #[test]
    fn a_wrong_udp_checksum_is_refused() {
        for name in ["ecm-ipv4", "ecm-ipv6"] {
            let mut bytes = sample(name);
            *bytes.last_mut().unwrap() ^= 1;
            assert_eq!(reason(&bytes), "inner UDP checksum", "{name}");
        }
    }

    #[test]
    fn a_wrong_ip_header_checksum_is_refused() {
        let mut bytes = sample("ecm-ipv4");
        bytes[IP + 8] -= 1;
        assert_eq!(reason(&bytes), "inner IPv4 header checksum");
    }

    #[test]
    fn the_data_port_is_refused_on_either_side() {
        for port in [0, 1] {
            let mut ecm = Ecm::decode(&sample("ecm-ipv6")).unwrap();
            let side = if port == 0 {
                &mut ecm.source
            } else {
                &mut ecm.destination
            };
            side.set_port(DATA_PORT);
            assert!(ecm.try_encode().is_err());
            assert_eq!(reason(&ecm.encode()), "inner UDP port");
        }
    }

    #[test]
    fn bytes_behind_the_inner_packet_are_refused() {
        let mut bytes = sample("ecm-ipv4");
        bytes.extend([0; 3]);
        assert!(matches!(Ecm::decode(&bytes), Err(WireError::Trailing { count: 3, .. })));
    }

    #[test]
    fn an_inner_packet_that_is_neither_ipv4_nor_ipv6_is_refused() {
        let mut bytes = sample("ecm-ipv4");
        bytes[IP] = 0x55;
        assert_eq!(reason(&bytes), "inner IP header");
    }

    #[test]
    fn an_inner_packet_that_is_not_udp_is_refused() {
        let mut bytes = sample("ecm-ipv6");
        bytes[IP + 6] = 6;
        assert_eq!(reason(&bytes), "inner next header");
    }

    #[test]
    fn what_is_inside_is_handed_on_untouched() {
        // A Map-Server forwards it as it came, also what this version of ours cannot read.
        let mut ecm = Ecm::decode(&sample("ecm-ipv4")).unwrap();
        ecm.payload = vec![0xff; 33];
        assert_eq!(Ecm::decode(&ecm.try_encode().unwrap()).unwrap(), ecm);
    }

    #[test]
    fn two_families_in_one_header_cannot_be_written() {
        let mut ecm = Ecm::decode(&sample("ecm-ipv4")).unwrap();
        ecm.source = "[fd00::1]:4342".parse().unwrap();
        assert!(ecm.try_encode().is_err());
        assert_eq!(
            Ecm::decode(&ecm.encode()).unwrap().source,
            "0.0.0.0:4342".parse().unwrap()
        );
    }

    #[test]
    fn an_inner_message_beyond_a_datagram_cannot_be_written() {
        let mut ecm = Ecm::decode(&sample("ecm-ipv4")).unwrap();
        ecm.payload = vec![0; 65_508];
        assert!(matches!(
            ecm.try_encode(),
            Err(EncodeError::TooLong { max: 65_507, .. })
        ));
        assert!(Ecm::decode(&ecm.encode()).unwrap().payload.is_empty());
        ecm.payload.pop();
        assert_eq!(Ecm::decode(&ecm.try_encode().unwrap()).unwrap(), ecm);
    }

    #[test]
    fn a_checksum_that_comes_out_as_zero_is_sent_as_all_ones() {
        let mut ecm = Ecm::decode(&sample("ecm-ipv4")).unwrap();
        let mut all_ones = (0..=u16::MAX).filter_map(|word| {
            ecm.payload = word.to_be_bytes().to_vec();
            let bytes = ecm.encode();
            assert_eq!(Ecm::decode(&bytes).as_ref(), Ok(&ecm));
            (bytes[UDP4 + 6..UDP4 + 8] == [0xff, 0xff]).then_some(bytes)
        });
        // The sum is right with either, so only the rule tells zero, "no checksum", from all ones.
        let mut bytes = all_ones.next().unwrap();
        bytes[UDP4 + 6..UDP4 + 8].fill(0);
        assert_eq!(reason(&bytes), "inner UDP checksum");
    }

    #[test]
    fn inner_ipv4_options_are_passed_over() {
        let bytes = sample("ecm-ipv4");
        let mut packet = bytes[IP..].to_vec();
        packet.splice(20..20, [1, 1, 1, 0]);
        packet[0] = 0x46;
        packet[3] += 4;
        // Four option bytes, a longer header and a longer packet change the sum by what they add.
        let sum: u32 = [0x0101, 0x0100, 0x0100, 0x0004].iter().sum();
        let old = u32::from(!u16::from_be_bytes([packet[10], packet[11]]));
        let new = (old + sum) % 0xffff;
        packet[10..12].copy_from_slice(&(!u16::try_from(new).unwrap()).to_be_bytes());
        let with_options = [&bytes[..IP], &packet].concat();
        assert_eq!(Ecm::decode(&with_options), Ecm::decode(&bytes));
    }

    #[test]
    fn fragments_are_refused() {
        let mut bytes = sample("ecm-ipv4");
        // More-fragments instead of don't-fragment; the checksum follows.
        bytes[IP + 6] = 0x20;
        let sum = u16::from_be_bytes([bytes[IP + 10], bytes[IP + 11]]) + 0x2000;
        bytes[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(reason(&bytes), "inner IPv4 header");
    }
}

mod mapping {
    use super::*;

    #[test]
    fn goes_to_the_wire_and_back() {
        let mut mapping = Mapping::new(
            prefix("[7]fd00:7::/48"),
            Ttl(60),
            vec![
                Locator {
                    local: true,
                    ..Locator::new(rloc("2001:db8::1"), 2, 50)
                },
                Locator {
                    probed: true,
                    ..Locator::new(rloc("192.0.2.1"), 1, 100)
                },
            ],
        );
        (mapping.authoritative, mapping.version) = (true, 7);
        let bytes = reply(vec![EidRecord::from_mapping(&mapping)]).try_encode().unwrap();
        assert_eq!(MapReply::decode(&bytes).unwrap().records[0].to_mapping(), Ok(mapping));
        let negative = Mapping::negative(prefix("10.0.0.0/8"), Ttl(15), NegativeAction::DropPolicyDenied);
        assert_eq!(EidRecord::from_mapping(&negative).to_mapping(), Ok(negative));
    }
}
