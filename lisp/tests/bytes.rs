//! Bytes beside meaning: each message and each LCAF, written by hand, decoded and encoded.

mod common;

use common::{lcafs, messages, to_hex};
use lisp::wire::{AfiAddress, Message};

#[test]
fn every_message_decodes_to_its_meaning_and_encodes_to_its_bytes() {
    for (name, bytes, message) in messages::samples() {
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message), "{name}");
        assert_eq!(to_hex(&message.encode()), to_hex(&bytes), "{name}");
        assert_eq!(message.try_encode(), Ok(bytes), "{name}");
    }
}

#[test]
fn every_lcaf_decodes_to_its_meaning_and_encodes_to_its_bytes() {
    for (name, bytes, address) in lcafs::samples() {
        assert_eq!(AfiAddress::decode(&bytes).as_ref(), Ok(&address), "{name}");
        assert_eq!(to_hex(&address.encode()), to_hex(&bytes), "{name}");
        assert_eq!(address.try_encode(), Ok(bytes), "{name}");
    }
}

#[test]
fn all_types_that_we_promise_are_among_the_samples() {
    let mut kinds: Vec<u8> = lcafs::samples()
        .iter()
        .filter_map(|(_, _, address)| match address {
            AfiAddress::Lcaf(lcaf) => Some(lcaf.kind()),
            _ => None,
        })
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    let promised: Vec<u8> = (0..=7).chain(10..=16).chain([255]).collect();
    assert!(promised.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    let mut names: Vec<&str> = messages::samples()
        .iter()
        .map(|(_, _, message)| message.name())
        .collect();
    names.dedup();
    assert_eq!(
        names,
        [
            "Map-Request",
            "Map-Reply",
            "Map-Register",
            "Map-Notify",
            "Map-Notify-Ack",
            "Map-Referral",
            "Info-Request",
            "Info-Reply",
            "Encapsulated-Control-Message"
        ]
    );
}

/// Also of a Map-Notify with IDs, because we mark them with the draft's I-bit.
#[test]
fn every_truncation_of_every_message_is_an_error() {
    for (name, bytes, _) in messages::samples() {
        for end in 0..bytes.len() {
            let cut = Message::decode(&bytes[..end]);
            assert!(cut.is_err(), "{name} cut to {end} of {} bytes: {cut:?}", bytes.len());
        }
    }
}

#[test]
fn every_truncation_of_every_address_is_an_error() {
    for (name, bytes, _) in lcafs::samples() {
        for end in 0..bytes.len() {
            let cut = AfiAddress::decode(&bytes[..end]);
            assert!(cut.is_err(), "{name} cut to {end} of {} bytes: {cut:?}", bytes.len());
        }
    }
}

/// RFC 9301 defines no such thing, so a length that does not fit the counts is a mistake or an attack.
#[test]
fn bytes_behind_a_message_are_an_error() {
    for (name, mut bytes, _) in messages::samples() {
        bytes.push(0);
        assert!(Message::decode(&bytes).is_err(), "{name}");
    }
}

#[test]
fn every_flipped_bit_is_survived_and_read_back_as_written() {
    for (name, bytes, _) in messages::samples() {
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 0x80 >> (bit % 8);
            if let Ok(message) = Message::decode(&bytes) {
                let again = message
                    .try_encode()
                    .unwrap_or_else(|error| panic!("{name}, bit {bit}: {error}"));
                assert_eq!(Message::decode(&again), Ok(message), "{name}, bit {bit}");
            }
        }
    }
}

#[test]
fn unknown_types_are_named() {
    use lisp::wire::WireError;
    for code in [0u8, 9, 10, 15] {
        assert_eq!(Message::decode(&[code << 4; 40]), Err(WireError::UnknownType(code)));
    }
}
