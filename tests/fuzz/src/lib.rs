//! What must hold for any bytes, one function for each parser. The fuzz targets call them with what libFuzzer
//! invents; `lisp/tests/corpus.rs` calls them with every file of the corpus, so that a crash stays a test.
//!
//! The property is the same everywhere: reading never panics, and what was read can be written and read again
//! without a difference.

use std::{fmt::Debug, hint::black_box};

use lisp::mesh::{
    Binding, Label, Membership, PLACEHOLDER, Payload, Signer, SoftwareKey, sign_message, vendor_payload, verify_message,
};
use lisp::wire::{
    AfiAddress, AuthAlgorithm, AuthScope, DataHeader, Ecm, EidRecord, EncodeError, InfoReply, InfoRequest, MapNotify,
    MapNotifyAck, MapReferral, MapRegister, MapReply, MapRequest, Message, Purpose, TrailingIds, WireError, sign,
    verify, verify_scoped,
};

/// A parser's name, which is that of its target and of its folder in the corpus, and its property.
pub type Parser = (&'static str, fn(&[u8]));

/// All of them.
pub const PARSERS: [Parser; 16] = [
    ("address", address),
    ("auth", auth),
    ("data_header", data_header),
    ("ecm", ecm),
    ("info", info),
    ("map_notify", map_notify),
    ("map_referral", map_referral),
    ("map_register", map_register),
    ("map_reply", map_reply),
    ("map_request", map_request),
    ("mesh_binding", mesh_binding),
    ("mesh_membership", mesh_membership),
    ("mesh_payload", mesh_payload),
    ("mesh_signing", mesh_signing),
    ("message", message),
    ("record", record),
];

/// What was read is written without a fault, and read again as the same.
fn stable<T: PartialEq + Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, WireError>,
    encode: impl Fn(&T) -> Result<Vec<u8>, EncodeError>,
) -> Option<T> {
    let value = match decode(bytes) {
        Ok(value) => value,
        Err(error) => {
            black_box(error.to_string());
            return None;
        }
    };
    let written = encode(&value).expect("what was read can be written");
    assert!(
        written.len() <= bytes.len(),
        "what was read needs no more bytes than it had"
    );
    assert_eq!(decode(&written).as_ref(), Ok(&value), "what was written reads the same");
    Some(value)
}

/// `bytes` as a message of type `code`: the type in the first four bits, the rest as it is.
fn typed(bytes: &[u8], code: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x0f) | code << 4;
    }
    bytes
}

fn look_at_address(address: &AfiAddress) {
    black_box((address.to_string(), address.ip(), address.afi()));
    if let Some(eid) = address.to_eid() {
        assert_eq!(AfiAddress::from_eid(&eid).to_eid(), Some(eid));
    }
}

fn look_at_record(record: &EidRecord) {
    look_at_address(&record.eid);
    record
        .locators
        .iter()
        .for_each(|locator| look_at_address(&locator.rloc));
    let mut sorted = record.clone();
    sorted.sort_locators();
    if let Ok(mapping) = record.to_mapping() {
        assert_eq!(EidRecord::from_mapping(&mapping).to_mapping(), Ok(mapping));
    }
}

/// An AFI and its address, all LCAFs included.
pub fn address(bytes: &[u8]) {
    if let Some(address) = stable(bytes, AfiAddress::decode, AfiAddress::try_encode) {
        look_at_address(&address);
    }
}

/// A MAC is right only when it was made with the secret, whatever the message looks like.
pub fn auth(bytes: &[u8]) {
    const ALL: [AuthAlgorithm; 3] = [
        AuthAlgorithm::HmacSha1,
        AuthAlgorithm::HmacSha256_128,
        AuthAlgorithm::HmacSha256_128HkdfSha256,
    ];
    let Some(purpose) = Purpose::of(bytes) else { return };
    black_box(verify(bytes, purpose, b"secret", &ALL)).ok();
    black_box(verify_scoped(bytes, purpose, b"secret", &ALL, AuthScope::LastRecord)).ok();
    let mut signed = bytes.to_vec();
    if sign(&mut signed, purpose, b"secret").is_ok() {
        assert_eq!(verify(&signed, purpose, b"secret", &ALL), Ok(()));
        assert!(verify(&signed, purpose, b"secre7", &ALL).is_err());
        assert!(verify(&signed, purpose, b"secret", &[]).is_err());
        let mut other = signed.clone();
        if let Some(last) = other.last_mut() {
            *last ^= 1;
        }
        assert!(verify(&other, purpose, b"secret", &ALL).is_err());
    }
}

/// The header of data packets.
pub fn data_header(bytes: &[u8]) {
    let Ok(header) = DataHeader::decode(bytes) else {
        assert!(bytes.len() < DataHeader::LEN);
        return;
    };
    assert_eq!(DataHeader::decode(&header.encode()), Ok(header));
}

/// An ECM, also with its inner checksums put right, which no fuzzer guesses.
pub fn ecm(bytes: &[u8]) {
    let bytes = typed(bytes, 8);
    stable(&bytes, Ecm::decode, Ecm::try_encode);
    if let Some(repaired) = with_checksums(&bytes) {
        stable(&repaired, Ecm::decode, Ecm::try_encode);
    }
}

/// Info-Request and Info-Reply.
pub fn info(bytes: &[u8]) {
    let bytes = typed(bytes, 7);
    stable(&bytes, InfoRequest::decode, InfoRequest::try_encode);
    stable(&bytes, InfoReply::decode, InfoReply::try_encode);
}

/// Map-Notify and Map-Notify-Ack.
pub fn map_notify(bytes: &[u8]) {
    if let Some(notify) = stable(&typed(bytes, 4), MapNotify::decode, MapNotify::try_encode) {
        notify.records.iter().for_each(look_at_record);
    }
    stable(&typed(bytes, 5), MapNotifyAck::decode, MapNotifyAck::try_encode);
}

/// Map-Referral.
pub fn map_referral(bytes: &[u8]) {
    stable(&typed(bytes, 6), MapReferral::decode, MapReferral::try_encode);
}

/// Map-Register.
pub fn map_register(bytes: &[u8]) {
    if let Some(register) = stable(&typed(bytes, 3), MapRegister::decode, MapRegister::try_encode) {
        register.records.iter().for_each(look_at_record);
    }
}

/// Map-Reply, with LISP-SEC's authentication data.
pub fn map_reply(bytes: &[u8]) {
    if let Some(reply) = stable(&typed(bytes, 2), MapReply::decode, MapReply::try_encode) {
        reply.records.iter().for_each(look_at_record);
    }
}

/// Map-Request, in both readings of what stands at its end.
pub fn map_request(bytes: &[u8]) {
    let bytes = typed(bytes, 1);
    black_box(MapRequest::decode_with(&bytes, TrailingIds::XtrOnly)).ok();
    if let Some(request) = stable(&bytes, MapRequest::decode, MapRequest::try_encode) {
        request.records.iter().for_each(|record| {
            black_box(record.prefix()).ok();
        });
        request.map_reply_record.iter().for_each(look_at_record);
    }
}

/// A key that nothing was ever signed with.
fn strange_key() -> SoftwareKey {
    SoftwareKey::from_bytes(&[0x5a; 32]).expect("a private key")
}

/// A binding, as a sealed control message has several behind each other: what was read takes exactly the bytes that it
/// is written as.
pub fn mesh_binding(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((binding, behind)) = Binding::read(rest) {
        let length = rest.len() - behind.len();
        assert_eq!(rest.get(..length), Some(&binding.to_bytes()[..]), "one encoding");
        assert!(length <= Binding::MAX_LEN);
        let strange = strange_key();
        assert!(binding.verify(None, binding.statement.not_after).is_err(), "expired");
        // What was signed is not known to the fuzzer: by an authority that never signed it is not believed.
        assert!(binding.prefix.length() == 128 || binding.verify(Some(&strange.public_key()), 0).is_err());
        black_box(binding.verify(None, 0)).ok();
        rest = behind;
    }
}

/// A membership: one encoding, nothing behind it, and not believed of an authority that never signed it.
pub fn mesh_membership(bytes: &[u8]) {
    if let Some(membership) = Membership::decode(bytes) {
        assert_eq!(membership.to_bytes(), bytes);
        assert!(!membership.verify(&strange_key().public_key(), 0));
        assert!(!membership.verify(&membership.node, membership.permit.not_after));
        black_box(membership.verify(&membership.node, 0));
    }
}

/// The data of a Vendor LCAF with our OUI: one encoding.
pub fn mesh_payload(bytes: &[u8]) {
    match Payload::decode(bytes) {
        // 31 ITR-RLOCs stand before the Vendor LCAF at most; an offer that counts more fits no Map-Request and is not written.
        Ok(Payload::Offer(offer)) if offer.locators.len() >= MapRequest::MAX_ITR_RLOCS => {}
        Ok(payload) => {
            assert_eq!(payload.encode(), bytes);
            assert_eq!(vendor_payload(&payload.to_address()), Some(Ok(payload)));
        }
        Err(error) => drop(black_box(error.to_string())),
    }
}

/// A signed message of any bytes: no signature that stands in it is that of a key that signed nothing; and what is
/// signed here is verified, until a byte changes.
pub fn mesh_signing(bytes: &[u8]) {
    let strange = strange_key();
    let public = strange.public_key();
    let labels = [Label::MapRequest, Label::MapReply, Label::MapRegister];
    for address in vendor_addresses(bytes) {
        let (signature, node) = match vendor_payload(&address) {
            Some(Ok(Payload::Offer(offer))) => (offer.signature, offer.node),
            Some(Ok(Payload::Answer(answer))) => (answer.signature, answer.node),
            Some(Ok(Payload::Seal(seal))) => (seal.signature, seal.node),
            _ => continue,
        };
        for label in labels {
            black_box(verify_message(label, None, bytes, &signature, &node));
            assert!(!verify_message(label, None, bytes, &signature, &public));
        }
    }
    for label in labels {
        // A Map-Register's authentication data, when it is as long as it says, stands before the place.
        let mut message = [bytes, &PLACEHOLDER.0].concat();
        let Ok(signature) = sign_message(label, Some(&[7; 32]), &mut message, &strange) else {
            continue;
        };
        assert!(verify_message(label, Some(&[7; 32]), &message, &signature, &public));
        assert!(!verify_message(label, Some(&[8; 32]), &message, &signature, &public));
        assert!(!verify_message(label, None, &message, &signature, &public));
        message.push(0);
        assert!(!verify_message(label, Some(&[7; 32]), &message, &signature, &public));
    }
}

/// Every address of a message that could be a Vendor LCAF.
fn vendor_addresses(bytes: &[u8]) -> Vec<AfiAddress> {
    let of_records = |records: Vec<EidRecord>| {
        let locators = records.into_iter().flat_map(|record| record.locators);
        locators.map(|locator| locator.rloc).collect()
    };
    match Message::decode(bytes) {
        Ok(Message::MapRequest(request)) => request.itr_rlocs,
        Ok(Message::MapReply(reply)) => of_records(reply.records),
        Ok(Message::MapRegister(register)) => of_records(register.records),
        _ => Vec::new(),
    }
}

/// Whatever comes from port 4342.
pub fn message(bytes: &[u8]) {
    if let Some(message) = stable(bytes, Message::decode, Message::try_encode) {
        assert_eq!(message.encode(), message.try_encode().expect("it was written before"));
        black_box((message.name(), format!("{message:?}")));
    }
}

/// An EID-record and its RLOC-records.
pub fn record(bytes: &[u8]) {
    if let Some(record) = stable(bytes, EidRecord::decode, EidRecord::try_encode) {
        look_at_record(&record);
    }
}

/// The ECM with the checksums of its inner headers recomputed; `None` when they are not where they would be.
fn with_checksums(bytes: &[u8]) -> Option<Vec<u8>> {
    const IP: usize = 4;
    let mut bytes = bytes.to_vec();
    *bytes.first_mut()? &= !0x08;
    let first = *bytes.get(IP)?;
    let (addresses, udp) = match first >> 4 {
        4 => {
            let udp = IP + usize::from(first & 0x0f) * 4;
            bytes.get_mut(IP + 10..IP + 12)?.fill(0);
            let sum = checksum(bytes.get(IP..udp)?).to_be_bytes();
            bytes.get_mut(IP + 10..IP + 12)?.copy_from_slice(&sum);
            (IP + 12..IP + 20, udp)
        }
        6 => (IP + 8..IP + 40, IP + 40),
        _ => return None,
    };
    bytes.get_mut(udp + 6..udp + 8)?.fill(0);
    let datagram = bytes.get(udp..)?;
    let length = u32::try_from(datagram.len()).ok()?.to_be_bytes();
    let pseudo = [bytes.get(addresses)?, &[0, 0, 0, 17], &length, datagram].concat();
    let sum = match checksum(&pseudo) {
        0 => u16::MAX,
        sum => sum,
    };
    bytes.get_mut(udp + 6..udp + 8)?.copy_from_slice(&sum.to_be_bytes());
    Some(bytes)
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = bytes.chunks(2).fold(0u64, |sum, pair| {
        sum + (u64::from(pair[0]) << 8) + u64::from(pair.get(1).copied().unwrap_or(0))
    });
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
