//! `docs/mesh-security/vectors.json`, which a Python script computes from the protocol's page without any of our code:
//! every value of it comes out of `lisp::mesh` as well, and every message of it is read as meant.

mod common;

use std::{path::Path, process::Command};

use common::{hex, ip, local, mesh, record};
use lisp::{
    Eid, EidPrefix, InstanceId, Nonce, SiteId, XtrId,
    mesh::{
        Answer, Binding, Direction, Issuer, KeyId, Label, Membership, Offer, PLACEHOLDER, Payload, Proof, PublicKey,
        SaIndex, Seal, Signature, Signer, Suite, crypto_eid, digest, is_crypto_eid_of, sign_message, traffic_keys,
        transcript, vendor_payload, verify_message, x25519, x25519_public,
    },
    wire::{
        AfiAddress, AuthAlgorithm, Authentication, DataHeader, Ecm, EidRecord, EncryptionKeyId, Lcaf, MapRegister,
        MapReply, MapRequest, Purpose, RequestRecord, RlocRecord, verify,
    },
};
use mesh::{Json, bytes, fixed, key, number, sealing_key, text, vectors};
use ring::aead::{Aad, Nonce as AeadNonce};

const NOW: u64 = 1_800_000_000;

fn node(of: &Json) -> PublicKey {
    PublicKey::from_bytes(fixed(&of["node"]))
}

fn signature(of: &Json) -> Signature {
    Signature(fixed(&of["signature"]))
}

fn prefix(of: &Json) -> EidPrefix {
    format!("[{}]{}", number(&of["instance_id"]), text(&of["prefix"]))
        .parse()
        .unwrap()
}

fn instance(of: &Json) -> InstanceId {
    InstanceId::new(u32::try_from(number(&of["instance_id"])).unwrap()).unwrap()
}

/// The binding of that name, read from its bytes.
fn binding(vectors: &Json, name: &str) -> Binding {
    Binding::read(&bytes(&vectors["bindings"][name]["bytes"])).unwrap().0
}

fn membership(vectors: &Json, name: &str) -> Membership {
    Membership::decode(&bytes(&vectors["memberships"][name]["bytes"])).unwrap()
}

fn eid(vectors: &Json, index: usize) -> Eid {
    let address = text(&vectors["crypto_eids"][index]["eid"]).parse().unwrap();
    Eid::new(instance(vectors), address)
}

fn indices(numbers: [u32; 2]) -> Vec<SaIndex> {
    numbers.map(|number| SaIndex::new(number).unwrap()).to_vec()
}

/// An LCAF of type 11 as the messages have it.
fn key_material(suite: Suite, value: &Json, address: &str) -> AfiAddress {
    Lcaf::SecurityKey {
        cipher_suite: suite.id(),
        revoke: false,
        keys: vec![bytes(value)],
        address: ip(address),
    }
    .into()
}

/// An RLOC-record that only carries a payload.
fn carrier(payload: &Payload) -> RlocRecord {
    RlocRecord {
        local: false,
        reachable: false,
        ..local(payload.to_address(), 255, 0)
    }
}

#[test]
fn the_script_computes_what_is_committed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mesh-security");
    // Another Python than Debian's may stand before it in the path.
    let python = ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        let output = Command::new(python).args(["-c", "import cryptography"]).output();
        output.is_ok_and(|output| output.status.success())
    });
    let Some(python) = python else {
        // `tests/setup.sh test`, which CI runs first, installs it and fails when it cannot.
        eprintln!("not checked: this needs python3-cryptography (Debian: apt-get install python3-cryptography)");
        return;
    };
    let run = |argument: &str| {
        let output = Command::new(python)
            .arg(folder.join("vectors.py"))
            .arg(argument)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run("check");
    let page = std::fs::read_to_string(folder.join("../mesh-security.md")).unwrap();
    assert!(
        page.contains(&run("sizes")),
        "the table of sizes: python3 docs/mesh-security/vectors.py sizes"
    );
}

#[test]
fn keys_and_their_names() {
    let vectors = vectors();
    let mut count = 0;
    for (name, of) in vectors["keys"].as_object().unwrap() {
        let public = key(&vectors, name).public_key();
        assert_eq!(public.as_bytes()[..], bytes(&of["public"]), "{name}");
        assert_eq!(public.spki(), Some(bytes(&of["spki"])), "{name}");
        assert_eq!(public.id(), Some(KeyId(fixed(&of["key_id"]))), "{name}");
        count += 1;
    }
    assert_eq!(count, 5);
}

#[test]
fn eids_are_the_hashes_of_their_keys() {
    let vectors = vectors();
    for (index, of) in vectors["crypto_eids"].as_array().unwrap().iter().enumerate() {
        let public = key(&vectors, text(&of["key"])).public_key();
        let eid = eid(&vectors, index);
        assert_eq!(crypto_eid(instance(&vectors), &public), Some(eid));
        assert!(is_crypto_eid_of(&eid, &public));
    }
}

#[test]
fn bindings_by_eid_key_and_by_authority() {
    let vectors = vectors();
    let authority = key(&vectors, "authority");
    let mut count = 0;
    for (name, of) in vectors["bindings"].as_object().unwrap() {
        let (epoch, not_after) = (number(&of["epoch"]), number(&of["not_after"]));
        let by_eid_key = text(&of["issuer"]) == "eid-key";
        let made = if by_eid_key {
            let signer = key(&vectors, &format!("{name}_eid"));
            Binding::by_eid_key(instance(of), &signer, node(of), epoch, not_after).unwrap()
        } else {
            Binding::by_authority(prefix(of), &authority, node(of), epoch, not_after)
        };
        assert_eq!(made.prefix, prefix(of), "{name}");
        assert_eq!(made.statement.signature, signature(of), "{name}: RFC 6979, low S");
        assert_eq!(made.to_bytes(), bytes(&of["bytes"]), "{name}");
        assert_eq!(binding(&vectors, name), made, "{name}");
        assert_eq!(made.verify(Some(&authority.public_key()), NOW), Ok(()), "{name}");
        let signer = match made.statement.issuer {
            Issuer::EidKey(key) => key,
            Issuer::Authority => authority.public_key(),
        };
        assert!(signer.verify(&bytes(&of["words"]), &signature(of)), "{name}: the words");
        count += 1;
    }
    assert_eq!(count, 4);
}

#[test]
fn memberships() {
    let vectors = vectors();
    let authority = key(&vectors, "authority");
    for (name, of) in vectors["memberships"].as_object().unwrap() {
        let made = Membership::sign(instance(of), node(of), number(&of["not_after"]), &authority);
        assert_eq!(made.permit.signature, signature(of), "{name}");
        assert_eq!(made.to_bytes(), bytes(&of["bytes"]), "{name}");
        assert_eq!(membership(&vectors, name), made, "{name}");
        assert!(made.verify(&authority.public_key(), NOW), "{name}");
        assert!(
            authority.public_key().verify(&bytes(&of["words"]), &signature(of)),
            "{name}"
        );
    }
}

fn offer(vectors: &Json, signature: Signature) -> Offer {
    Offer {
        suites: vec![5, 6],
        capabilities: 0,
        indices: indices([0xa1_0000, 0xa1_0001]),
        counter: 0x0000_018b_cfe5_6800,
        node: key(vectors, "initiator_node").public_key(),
        source: (128, binding(vectors, "initiator").statement),
        permit: Some(membership(vectors, "initiator").permit),
        locators: vec![(1, 100), (2, 50)],
        signature,
    }
}

fn answer(vectors: &Json, signature: Signature) -> Answer {
    Answer {
        suite: Suite::ChaCha20Poly1305,
        capabilities: 0,
        indices: indices([0xb2_0010, 0xb2_0011]),
        node: key(vectors, "responder_node").public_key(),
        target: binding(vectors, "responder").statement,
        permit: Some(membership(vectors, "responder").permit),
        signature,
    }
}

#[test]
fn payloads_of_the_vendor_lcafs() {
    let vectors = vectors();
    let of = |name: &str| signature(&vectors["messages"][name]);
    let expected = [
        ("offer", Payload::Offer(offer(&vectors, of("map_request")))),
        ("answer", Payload::Answer(answer(&vectors, of("map_reply")))),
        (
            "proof",
            Payload::Proof(Proof(binding(&vectors, "initiator_ipv4").statement)),
        ),
        (
            "seal",
            Payload::Seal(Seal {
                node: key(&vectors, "initiator_node").public_key(),
                signature: of("map_register"),
            }),
        ),
    ];
    for (name, payload) in expected {
        let data = bytes(&vectors["payloads"][name]);
        assert_eq!(payload.encode(), data, "{name}");
        assert_eq!(Payload::decode(&data), Ok(payload), "{name}");
    }
}

/// Signs `unsigned`; it must come out as the vector, be verified, and its digest be right.
fn assert_signed(of: &Json, label: Label, prior: Option<&[u8; 32]>, unsigned: &[u8], signer: &dyn Signer) {
    let mut made = unsigned.to_vec();
    let signature = sign_message(label, prior, &mut made, signer).unwrap();
    let message = bytes(&of["bytes"]);
    assert_eq!(signature, self::signature(of), "{label:?}");
    assert_eq!(digest(&message)[..], bytes(&of["sha256"]), "{label:?}");
    assert!(
        signer.public_key().verify(&bytes(&of["words"]), &signature),
        "{label:?}: the words"
    );
    assert!(verify_message(label, prior, &message, &signature, &signer.public_key()));
    if label != Label::MapRegister {
        assert_eq!(made, message, "{label:?}");
    }
}

fn request(vectors: &Json, signature: Signature) -> MapRequest {
    let rlocs = vec![
        key_material(Suite::Aes128Gcm, &vectors["exchange"]["initiator_public"], "192.0.2.1"),
        ip("2001:db8::1"),
        Payload::Offer(offer(vectors, signature)).to_address(),
    ];
    MapRequest::new(
        Nonce(0x0102_0304_0506_0708),
        AfiAddress::from_eid(&eid(vectors, 0)),
        rlocs,
        RequestRecord::for_eid(&eid(vectors, 1)),
    )
}

#[test]
fn a_signed_map_request_and_its_ecm_within_576_bytes() {
    let vectors = vectors();
    let of = &vectors["messages"]["map_request"];
    let unsigned = request(&vectors, PLACEHOLDER).try_encode().unwrap();
    assert_signed(of, Label::MapRequest, None, &unsigned, &key(&vectors, "initiator_node"));
    let message = bytes(&of["bytes"]);
    let read = MapRequest::decode(&message).unwrap();
    assert_eq!(read, request(&vectors, signature(of)));
    assert_eq!(
        vendor_payload(read.itr_rlocs.last().unwrap()),
        Some(Ok(Payload::Offer(offer(&vectors, signature(of)))))
    );
    let ecm = Ecm {
        ddt: false,
        to_etr: false,
        to_ms: false,
        security: None,
        source: (eid(&vectors, 0).address, 4342).into(),
        destination: (eid(&vectors, 1).address, 4342).into(),
        payload: message,
    };
    let encapsulated = bytes(&vectors["messages"]["map_request_in_ecm"]["bytes"]);
    assert_eq!(ecm.try_encode().unwrap(), encapsulated);
    assert_eq!(Ecm::decode(&encapsulated), Ok(ecm));
    // Two workers, two locators of different families, a membership, an IPv6 EID. Outer IPv6 and UDP: 48 bytes.
    assert!(encapsulated.len() + 48 <= 576, "{}", encapsulated.len());
}

fn reply(vectors: &Json, signature: Signature) -> MapReply {
    let first = key_material(
        Suite::ChaCha20Poly1305,
        &vectors["exchange"]["responder_public"],
        "203.0.113.2",
    );
    let locators = vec![
        carrier(&Payload::Answer(answer(vectors, signature))),
        local(first, 1, 100),
        local(ip("2001:db8:2::2"), 2, 50),
    ];
    let mut record = record(AfiAddress::from_eid(&eid(vectors, 1)), 128, locators);
    record.sort_locators();
    MapReply {
        probe: false,
        echo_nonce: false,
        nonce: Nonce(0x0102_0304_0506_0708),
        records: vec![record],
        security: None,
    }
}

#[test]
fn a_signed_map_reply() {
    let vectors = vectors();
    let of = &vectors["messages"]["map_reply"];
    let request = digest(&bytes(&vectors["messages"]["map_request"]["bytes"]));
    let unsigned = reply(&vectors, PLACEHOLDER).try_encode().unwrap();
    let signer = key(&vectors, "responder_node");
    assert_signed(of, Label::MapReply, Some(&request), &unsigned, &signer);
    let message = bytes(&of["bytes"]);
    assert_eq!(MapReply::decode(&message), Ok(reply(&vectors, signature(of))));
    let public = signer.public_key();
    let other = digest(b"another Map-Request");
    assert!(!verify_message(
        Label::MapReply,
        Some(&other),
        &message,
        &signature(of),
        &public
    ));
    // To whom knows nothing of it, it is a mapping with two locators.
    let mapping = MapReply::decode(&message).unwrap().records[0].to_mapping().unwrap();
    let usable = mapping.locators.iter().filter(|locator| locator.priority != 255);
    let mut addresses: Vec<String> = usable.map(|locator| locator.rloc.address.to_string()).collect();
    addresses.sort();
    assert_eq!(addresses, ["2001:db8:2::2", "203.0.113.2"]);
}

fn register(vectors: &Json, signature: Signature, mac: Vec<u8>) -> MapRegister {
    let proof = |name: &str| carrier(&Payload::Proof(Proof(binding(vectors, name).statement)));
    let seal = carrier(&Payload::Seal(Seal {
        node: key(vectors, "initiator_node").public_key(),
        signature,
    }));
    let with = |eid: AfiAddress, mask_len: u8, carriers: Vec<RlocRecord>| -> EidRecord {
        let mut locators = vec![local(ip("192.0.2.1"), 1, 100), local(ip("2001:db8::1"), 2, 50)];
        locators.extend(carriers);
        record(eid, mask_len, locators)
    };
    MapRegister {
        proxy_reply: false,
        security_capable: false,
        eid_notify: false,
        use_ttl: false,
        merge: false,
        mobile_node: false,
        want_map_notify: true,
        nonce: Nonce(0x1112_1314_1516_1718),
        authentication: Authentication {
            key_id: 1,
            algorithm_id: 3,
            mac,
        },
        records: vec![
            with(
                AfiAddress::from_eid(&eid(vectors, 0)),
                128,
                vec![proof("initiator"), seal],
            ),
            with(common::in_instance(7, "10.7.2.0"), 24, vec![proof("initiator_ipv4")]),
        ],
        xtr: Some((XtrId(*b"xtr-id-of-node-a"), SiteId(0x1122_3344_5566_7788))),
    }
}

#[test]
fn a_signed_map_register_and_its_mac() {
    let vectors = vectors();
    let of = &vectors["messages"]["map_register"];
    let unsigned = register(&vectors, PLACEHOLDER, vec![0; 16]).try_encode().unwrap();
    assert_signed(
        of,
        Label::MapRegister,
        None,
        &unsigned,
        &key(&vectors, "initiator_node"),
    );
    let message = bytes(&of["bytes"]);
    let whole = register(&vectors, signature(of), bytes(&of["mac"]));
    assert_eq!(whole.try_encode().unwrap(), message);
    assert_eq!(MapRegister::decode(&message), Ok(whole));
    let algorithms = [AuthAlgorithm::HmacSha256_128HkdfSha256];
    assert_eq!(
        verify(&message, Purpose::MapRegister, &bytes(&of["secret"]), &algorithms),
        Ok(())
    );
}

#[test]
fn secret_transcript_and_traffic_keys() {
    let vectors = vectors();
    let of = &vectors["exchange"];
    let secrets: [[u8; 32]; 2] = [fixed(&of["initiator_secret"]), fixed(&of["responder_secret"])];
    let publics: [[u8; 32]; 2] = [fixed(&of["initiator_public"]), fixed(&of["responder_public"])];
    assert_eq!(secrets.map(|secret| x25519_public(&secret)), publics);
    let shared: [u8; 32] = fixed(&of["shared_secret"]);
    assert_eq!(*x25519(&secrets[0], &publics[1]).unwrap(), shared);
    assert_eq!(*x25519(&secrets[1], &publics[0]).unwrap(), shared);
    let messages = &vectors["messages"];
    let made = transcript(
        &digest(&bytes(&messages["map_request"]["bytes"])),
        &digest(&bytes(&messages["map_reply"]["bytes"])),
    );
    assert_eq!(made, fixed::<32>(&of["transcript"]));
    let expected = vectors["traffic_keys"].as_array().unwrap();
    assert_eq!(expected.len(), 4);
    for of in expected {
        let direction = match text(&of["direction"]) {
            "to-responder" => Direction::ToResponder,
            _ => Direction::ToInitiator,
        };
        let keys = traffic_keys(&shared, &made, direction, 2);
        let of_worker = &keys[usize::try_from(number(&of["worker"])).unwrap()];
        assert_eq!(of_worker.key(Suite::ChaCha20Poly1305), bytes(&of["key"]));
        assert_eq!(of_worker.key(Suite::Aes128Gcm), &bytes(&of["key"])[..16]);
        assert_eq!(of_worker.salt()[..], bytes(&of["salt"]));
    }
}

#[test]
fn sealed_packets_open_and_are_sealed_to_the_same_bytes() {
    let vectors = vectors();
    let packets = vectors["packets"].as_array().unwrap();
    assert_eq!(packets.len(), 5);
    for of in packets {
        let name = text(&of["name"]);
        let suite = Suite::from_id(u8::try_from(number(&of["suite"])).unwrap()).unwrap();
        let keys = vectors["traffic_keys"].as_array().unwrap();
        let traffic = keys
            .iter()
            .find(|key| key["direction"] == of["direction"] && key["worker"] == of["worker"])
            .unwrap();
        let key = sealing_key(suite, &bytes(&traffic["key"])[..suite.key_len()]);
        let packet = bytes(&of["packet"]);
        let (header, rest) = packet.split_at(DataHeader::LEN);
        let (iv, sealed) = rest.split_at(suite.iv_len());
        assert_eq!(
            DataHeader::decode(header),
            Ok(DataHeader {
                nonce: Some(u32::try_from(number(&of["index"])).unwrap()),
                key_id: EncryptionKeyId(1),
                ..DataHeader::clear(instance(of))
            }),
            "{name}"
        );
        // Sending worker, counter.
        let mut expected_iv = vec![u8::try_from(number(&of["sending_worker"])).unwrap()];
        expected_iv.resize(suite.iv_len() - 8, 0);
        let counter = number(&of["counter"]).to_be_bytes();
        match suite {
            Suite::Aes128Gcm => expected_iv.extend(counter),
            Suite::ChaCha20Poly1305 => expected_iv = [&[iv[0]][..], &counter[1..]].concat(),
        }
        assert_eq!(iv, expected_iv, "{name}");
        let mut nonce: [u8; 12] = fixed(&traffic["salt"]);
        for (byte, of_iv) in nonce.iter_mut().rev().zip(iv.iter().rev()) {
            *byte ^= of_iv;
        }
        assert_eq!(nonce[..], bytes(&of["nonce"]), "{name}");
        let aad = &packet[..DataHeader::LEN + suite.iv_len()];
        assert_eq!(aad, bytes(&of["aad"]), "{name}");
        assert_eq!(sealed, [bytes(&of["ciphertext"]), bytes(&of["tag"])].concat(), "{name}");

        let plain = bytes(&of["plaintext"]);
        let mut opened = sealed.to_vec();
        let nonce = || AeadNonce::assume_unique_for_key(nonce);
        assert_eq!(
            key.open_in_place(nonce(), Aad::from(aad), &mut opened).unwrap(),
            plain,
            "{name}"
        );
        let mut made = plain;
        key.seal_in_place_append_tag(nonce(), Aad::from(aad), &mut made)
            .unwrap();
        assert_eq!(made, sealed, "{name}");
        for at in 0..packet.len() {
            let mut other = packet.clone();
            other[at] ^= 1;
            let (aad, sealed) = other.split_at_mut(aad.len());
            assert!(
                key.open_in_place(nonce(), Aad::from(&*aad), sealed).is_err(),
                "{name}: byte {at}"
            );
        }
    }
    assert_eq!(
        hex("01"),
        bytes(&vectors["packets"][2]["plaintext"])[..1],
        "a probe is of kind 1"
    );
}
