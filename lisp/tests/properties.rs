//! Round trips for any value that has an encoding, and no surprise for any bytes.

mod common;
#[path = "../../tests/fuzz/src/lib.rs"]
mod parsers;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use lisp::wire::{
    AfiAddress, Authentication, DataHeader, Ecm, EcmSecurity, EidAd, EidAdRecords, EidRecord, ElpHop, EncryptionKeyId,
    InfoReply, InfoRequest, Lcaf, MapNotify, MapNotifyAck, MapReferral, MapRegister, MapReply, MapReplySecurity,
    MapRequest, Message, PacketAd, ReferralAction, ReferralRecord, ReferralSignature, RequestRecord, RlocRecord,
};
use lisp::{Eid, EidPrefix, InstanceId, Locator, Mapping, NegativeAction, Nonce, Rloc, SiteId, Ttl, XtrId};
use proptest::{collection::vec, option, prelude::*};

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=most)
}

fn leaf() -> impl Strategy<Value = AfiAddress> {
    prop_oneof![
        Just(AfiAddress::None),
        any::<Ipv4Addr>().prop_map(AfiAddress::from),
        any::<Ipv6Addr>().prop_map(AfiAddress::from),
        (prop_oneof![Just(6u16), Just(16389)], any::<[u8; 6]>())
            .prop_map(|(afi, address)| AfiAddress::Mac { afi, address }),
        vec(1..=u8::MAX, 0..20).prop_map(AfiAddress::Name),
        (any::<[u8; 4]>(), bytes(20))
            .prop_filter(
                "a type that is known",
                |([.., kind], _)| !matches!(kind, 0..=7 | 10..=16 | 255)
            )
            .prop_map(|([rsvd1, flags, rsvd2, kind], body)| Lcaf::Unknown {
                rsvd1,
                flags,
                kind,
                rsvd2,
                body
            }
            .into()),
        (any::<u8>(), any::<u16>(), bytes(20)).prop_map(|(fields, wildcard, key)| Lcaf::OpaqueKey {
            fields,
            wildcard,
            key
        }
        .into()),
        (any::<[u8; 3]>(), bytes(20)).prop_map(|(oui, data)| Lcaf::Vendor { oui, data }.into()),
    ]
}

fn around(inner: impl Strategy<Value = AfiAddress> + Clone + 'static) -> impl Strategy<Value = AfiAddress> {
    let one = || inner.clone();
    let degrees = || (0..0x8000u16, any::<u8>(), any::<u8>());
    let hop = (any::<[bool; 3]>(), one()).prop_map(|([lookup, probe, strict], address)| ElpHop {
        lookup,
        probe,
        strict,
        address,
    });
    prop_oneof![
        vec(one(), 0..4).prop_map(Lcaf::AfiList),
        (any::<u8>(), any::<u32>(), one()).prop_map(|(mask_len, instance_id, address)| Lcaf::InstanceId {
            mask_len,
            instance_id,
            address
        }),
        (any::<u32>(), one()).prop_map(|(asn, address)| Lcaf::AsNumber { asn, address }),
        (
            any::<[u8; 3]>(),
            any::<u8>(),
            any::<(u16, u16)>(),
            any::<(u16, u16)>(),
            one()
        )
            .prop_map(
                |(tos_tc_flow, protocol, local_ports, remote_ports, address)| Lcaf::Application {
                    tos_tc_flow,
                    protocol,
                    local_ports,
                    remote_ports,
                    address,
                }
            ),
        (any::<[bool; 2]>(), degrees(), degrees(), any::<i32>(), one()).prop_map(
            |([north, east], latitude, longitude, altitude, address)| Lcaf::Geo {
                north,
                latitude,
                east,
                longitude,
                altitude,
                address,
            }
        ),
        (any::<[u16; 2]>(), one(), one(), one(), vec(one(), 0..3)).prop_map(
            |([ms_port, etr_port], global_etr, ms, private_etr, rtrs)| Lcaf::NatTraversal {
                ms_port,
                etr_port,
                global_etr,
                ms,
                private_etr,
                rtrs,
            }
        ),
        vec(hop, 0..4).prop_map(Lcaf::ExplicitLocatorPath),
        (any::<u8>(), any::<bool>(), vec(bytes(40), 0..4), one()).prop_map(|(cipher_suite, revoke, keys, address)| {
            Lcaf::SecurityKey {
                cipher_suite,
                revoke,
                keys,
                address,
            }
        }),
        (any::<[u8; 2]>(), one(), one()).prop_map(|([source_mask, dest_mask], source, dest)| Lcaf::SourceDest {
            source_mask,
            dest_mask,
            source,
            dest
        }),
        vec((any::<u8>(), one()), 0..4).prop_map(Lcaf::ReplicationList),
        (any::<bool>(), bytes(40), option::of(one())).prop_map(|(binary, json, address)| Lcaf::Json {
            binary,
            json,
            address
        }),
        (one(), one()).prop_map(|(key, value)| Lcaf::KeyValue { key, value }),
        (any::<u8>(), one()).prop_map(|(formats, address)| Lcaf::Encapsulation { formats, address }),
        Just(Lcaf::Null),
    ]
    .prop_map(AfiAddress::from)
}

fn address() -> impl Strategy<Value = AfiAddress> {
    leaf().prop_recursive(4, 12, 3, around)
}

/// A mask that fits `eid`, from any byte.
fn mask_for(eid: &AfiAddress, wanted: u8) -> u8 {
    match eid.to_eid().map(|eid| eid.address.is_ipv4()) {
        Some(true) => wanted % 33,
        Some(false) => wanted % 129,
        // Still an IP address in an Instance-ID beyond 24 bits.
        None => wanted % 33,
    }
}

fn ids() -> impl Strategy<Value = Option<(XtrId, SiteId)>> {
    option::of(any::<([u8; 16], u64)>().prop_map(|(xtr, site)| (XtrId(xtr), SiteId(site))))
}

fn rloc_record() -> impl Strategy<Value = RlocRecord> {
    (any::<[u8; 4]>(), any::<[bool; 3]>(), address()).prop_map(
        |([priority, weight, m_priority, m_weight], [local, probed, reachable], rloc)| RlocRecord {
            priority,
            weight,
            m_priority,
            m_weight,
            local,
            probed,
            reachable,
            rloc,
        },
    )
}

fn eid_record() -> impl Strategy<Value = EidRecord> {
    (
        any::<u32>(),
        any::<u8>(),
        0..8u8,
        any::<bool>(),
        0..0x1000u16,
        address(),
        vec(rloc_record(), 0..4),
    )
        .prop_map(|(ttl, mask, action, authoritative, version, eid, locators)| EidRecord {
            ttl: Ttl(ttl),
            mask_len: mask_for(&eid, mask),
            action: NegativeAction::from_code(action),
            authoritative,
            version,
            eid,
            locators,
        })
}

fn records() -> impl Strategy<Value = Vec<EidRecord>> {
    vec(eid_record(), 0..3)
}

fn authentication() -> impl Strategy<Value = Authentication> {
    (any::<u8>(), any::<u8>(), bytes(40)).prop_map(|(key_id, algorithm_id, mac)| Authentication {
        key_id,
        algorithm_id,
        mac,
    })
}

fn eid_ad() -> impl Strategy<Value = EidAd> {
    let records = (
        any::<bool>(),
        any::<u16>(),
        vec((any::<u8>(), address()), 0..3),
        bytes(20),
    )
        .prop_map(|(etr_cant_sign, hmac_id, prefixes, hmac)| EidAdRecords {
            etr_cant_sign,
            hmac_id,
            prefixes,
            hmac,
        });
    (any::<u16>(), option::of(records)).prop_map(|(kdf_id, records)| EidAd { kdf_id, records })
}

fn nonce() -> impl Strategy<Value = Nonce> {
    any::<u64>().prop_map(Nonce)
}

fn map_request() -> impl Strategy<Value = Message> {
    let record = (any::<bool>(), any::<u8>(), address()).prop_map(|(notify, mask, eid)| RequestRecord {
        notify,
        mask_len: mask_for(&eid, mask),
        eid,
    });
    let rest = (option::of(eid_record()), ids());
    (
        any::<[bool; 7]>(),
        nonce(),
        address(),
        vec(address(), 1..5),
        vec(record, 1..4),
        rest,
    )
        .prop_map(
            |(flags, nonce, source_eid, itr_rlocs, records, (map_reply_record, xtr))| {
                let [authoritative, probe, smr, pitr, smr_invoked, local, dont_reply] = flags;
                Message::MapRequest(MapRequest {
                    authoritative,
                    probe,
                    smr,
                    pitr,
                    smr_invoked,
                    local,
                    dont_reply,
                    nonce,
                    source_eid,
                    itr_rlocs,
                    records,
                    map_reply_record,
                    xtr,
                })
            },
        )
}

fn map_reply() -> impl Strategy<Value = Message> {
    let security = (eid_ad(), any::<u16>(), bytes(20)).prop_map(|(eid_ad, hmac_id, hmac)| MapReplySecurity {
        eid_ad,
        packet_ad: PacketAd { hmac_id, hmac },
    });
    (any::<[bool; 2]>(), nonce(), records(), option::of(security)).prop_map(
        |([probe, echo_nonce], nonce, records, security)| {
            Message::MapReply(MapReply {
                probe,
                echo_nonce,
                nonce,
                records,
                security,
            })
        },
    )
}

fn map_register() -> impl Strategy<Value = Message> {
    (any::<[bool; 7]>(), nonce(), authentication(), records(), ids()).prop_map(
        |(flags, nonce, authentication, records, xtr)| {
            let [
                proxy_reply,
                security_capable,
                eid_notify,
                use_ttl,
                merge,
                mobile_node,
                want_map_notify,
            ] = flags;
            Message::MapRegister(MapRegister {
                proxy_reply,
                security_capable,
                eid_notify,
                use_ttl,
                merge,
                mobile_node,
                want_map_notify,
                nonce,
                authentication,
                records,
                xtr,
            })
        },
    )
}

fn map_notify() -> impl Strategy<Value = Message> {
    (any::<bool>(), nonce(), authentication(), records(), ids()).prop_map(
        |(ack, nonce, authentication, records, xtr)| {
            let notify = MapNotify {
                nonce,
                authentication,
                records,
                xtr,
            };
            if ack {
                Message::MapNotifyAck(MapNotifyAck(notify))
            } else {
                Message::MapNotify(notify)
            }
        },
    )
}

fn map_referral() -> impl Strategy<Value = Message> {
    let signature = (any::<[u32; 3]>(), any::<u16>(), any::<u8>(), bytes(20)).prop_map(
        |([original_ttl, expiration, inception], key_tag, algorithm, signature)| ReferralSignature {
            original_ttl: Ttl(original_ttl),
            expiration,
            inception,
            key_tag,
            algorithm,
            signature,
        },
    );
    let flags = (0..8u8, any::<[bool; 2]>(), 0..0x1000u16);
    let record = (
        any::<u32>(),
        any::<u8>(),
        flags,
        address(),
        vec(rloc_record(), 0..3),
        vec(signature, 0..16),
    )
        .prop_map(
            |(ttl, mask_len, (action, [authoritative, incomplete], version), eid, referrals, signatures)| {
                ReferralRecord {
                    ttl: Ttl(ttl),
                    mask_len,
                    action: ReferralAction::from_code(action),
                    authoritative,
                    incomplete,
                    version,
                    eid,
                    referrals,
                    signatures,
                }
            },
        );
    (nonce(), vec(record, 0..3)).prop_map(|(nonce, records)| Message::MapReferral(MapReferral { nonce, records }))
}

fn info() -> impl Strategy<Value = Message> {
    (
        nonce(),
        authentication(),
        any::<u32>(),
        any::<u8>(),
        address(),
        option::of(address()),
    )
        .prop_map(|(nonce, authentication, ttl, mask_len, eid, nat)| match nat {
            None => Message::InfoRequest(InfoRequest {
                nonce,
                authentication,
                ttl: Ttl(ttl),
                mask_len,
                eid,
            }),
            Some(nat) => Message::InfoReply(InfoReply {
                nonce,
                authentication,
                ttl: Ttl(ttl),
                mask_len,
                eid,
                nat,
            }),
        })
}

fn ecm() -> impl Strategy<Value = Message> {
    let security = (any::<u16>(), any::<[u8; 2]>(), any::<[u8; 8]>(), bytes(24), eid_ad()).prop_map(
        |(requested_hmac_id, [key_id, wrap_id], preamble, otk, eid_ad)| EcmSecurity {
            requested_hmac_id,
            key_id,
            wrap_id,
            preamble,
            otk,
            eid_ad,
        },
    );
    let port = || any::<u16>().prop_filter("the data port", |port| *port != 4341);
    let addresses = prop_oneof![
        any::<[Ipv4Addr; 2]>().prop_map(|pair| pair.map(Into::into)),
        any::<[Ipv6Addr; 2]>().prop_map(|pair| pair.map(Into::into)),
    ];
    (
        any::<[bool; 3]>(),
        option::of(security),
        addresses,
        port(),
        port(),
        bytes(60),
    )
        .prop_map(
            |([ddt, to_etr, to_ms], security, [source, destination], from, to, payload)| {
                Message::Ecm(Ecm {
                    ddt,
                    to_etr,
                    to_ms,
                    security,
                    source: SocketAddr::new(source, from),
                    destination: SocketAddr::new(destination, to),
                    payload,
                })
            },
        )
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        map_request(),
        map_reply(),
        map_register(),
        map_notify(),
        map_referral(),
        info(),
        ecm()
    ]
}

fn prefix() -> impl Strategy<Value = EidPrefix> {
    (0..=InstanceId::MAX, any::<std::net::IpAddr>(), 0..=128u8).prop_map(|(instance_id, address, length)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        EidPrefix::from_parts(InstanceId::new(instance_id).unwrap(), address, length.min(most)).unwrap()
    })
}

fn mapping() -> impl Strategy<Value = Mapping> {
    let locator = (
        any::<std::net::IpAddr>(),
        prop_oneof![Just(4341u16), any::<u16>()],
        any::<[u8; 2]>(),
        any::<[bool; 2]>(),
    )
        .prop_map(|(address, port, [priority, weight], [reachable, local])| Locator {
            rloc: Rloc { address, port },
            priority,
            weight,
            reachable,
            local,
            probed: false,
        });
    (
        prefix(),
        any::<u32>(),
        vec(locator, 0..6),
        0..8u8,
        any::<bool>(),
        0..0x1000u16,
    )
        .prop_map(|(prefix, ttl, locators, action, authoritative, version)| {
            let mut mapping = Mapping::new(prefix, Ttl(ttl), locators);
            mapping.action = NegativeAction::from_code(action);
            (mapping.authoritative, mapping.version) = (authoritative, version);
            mapping
        })
}

fn data_header() -> impl Strategy<Value = DataHeader> {
    let field = prop_oneof![
        Just((None, None, None)),
        (0..0x0100_0000u32).prop_map(|nonce| (Some(nonce), None, None)),
        (0..0x1000u16, 0..0x1000u16).prop_map(|versions| (None, Some(versions), None)),
        any::<u8>().prop_map(|next| (None, None, Some(next))),
    ];
    (
        field,
        any::<bool>(),
        option::of(0..=InstanceId::MAX),
        option::of(any::<u32>()),
        0..4u8,
    )
        .prop_map(
            |((nonce, map_version, next_protocol), echo, instance_id, status, key_id)| DataHeader {
                nonce,
                locator_status: status.map(|status| if instance_id.is_some() { status & 0xff } else { status }),
                echo_nonce: echo && nonce.is_some(),
                map_version,
                instance_id: instance_id.and_then(InstanceId::new),
                next_protocol,
                key_id: EncryptionKeyId(key_id),
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_read_as_it_was_written(message in message()) {
        let bytes = message.try_encode().unwrap();
        prop_assert_eq!(&message.encode(), &bytes);
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
        for end in 0..bytes.len() {
            prop_assert!(Message::decode(&bytes[..end]).is_err(), "cut to {}", end);
        }
    }

    #[test]
    fn every_address_is_read_as_it_was_written(address in address()) {
        let bytes = address.try_encode().unwrap();
        prop_assert_eq!(AfiAddress::decode(&bytes), Ok(address));
    }

    #[test]
    fn every_data_header_is_read_as_it_was_written(header in data_header()) {
        prop_assert_eq!(DataHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn every_mapping_survives_its_record(mapping in mapping()) {
        let mut expected = mapping.clone();
        expected.locators.sort();
        let record = EidRecord::from_mapping(&mapping);
        prop_assert_eq!(EidRecord::decode(&record.try_encode().unwrap()).unwrap().to_mapping(), Ok(expected));
    }

    #[test]
    fn every_eid_prefix_is_parsed_as_it_is_displayed(prefix in prefix()) {
        prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
        prop_assert!(prefix.covers(&prefix) && prefix.contains(&prefix.first_eid()));
    }

    #[test]
    fn an_eid_lies_in_its_host_prefix_and_nowhere_else(a in any::<(std::net::IpAddr, u8)>(), b in any::<(std::net::IpAddr, u8)>()) {
        let [a, b] = [a, b].map(|(address, instance)| Eid::new(InstanceId::new(instance.into()).unwrap(), address));
        prop_assert!(a.host_prefix().contains(&a));
        prop_assert_eq!(a.host_prefix().contains(&b), a == b);
    }

    #[test]
    fn no_bytes_surprise_a_parser(bytes in bytes(200)) {
        for (_, parser) in parsers::PARSERS {
            parser(&bytes);
        }
    }

    #[test]
    fn no_change_to_a_sample_surprises_a_parser(
        pick in any::<prop::sample::Index>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let samples = common::messages::samples();
        let mut bytes = pick.get(&samples).1.clone();
        for (place, value) in changes {
            *place.get_mut(&mut bytes) = value;
        }
        for (_, parser) in parsers::PARSERS {
            parser(&bytes);
        }
    }
}
