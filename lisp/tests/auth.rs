//! Authentication (RFC 9301 §5.6): vectors of an independent implementation (`tests/vectors/auth.py`), and every way
//! to get past it that deployed code has left open.

mod common;

use common::{hex, ids, mac, messages};
use lisp::wire::{
    AuthAlgorithm::{self, HmacSha1, HmacSha256_128, HmacSha256_128HkdfSha256},
    AuthError, AuthScope, Authentication, MapRegister, Message, Purpose, sign, verify, verify_scoped,
};

const ALL: [AuthAlgorithm; 3] = [HmacSha1, HmacSha256_128, HmacSha256_128HkdfSha256];
const SECRET: &[u8] = b"the secret of site A";

struct Vector {
    name: String,
    purpose: Purpose,
    whole: bool,
    secret: Vec<u8>,
    message: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("vectors/auth.txt");
    let vectors: Vec<Vector> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let [name, purpose, scope, secret, message] = fields[..] else {
                panic!("{line}")
            };
            Vector {
                name: name.to_owned(),
                purpose: match purpose {
                    "map-register" => Purpose::MapRegister,
                    "map-notify" => Purpose::MapNotify,
                    "map-notify-ack" => Purpose::MapNotifyAck,
                    "info-request" => Purpose::InfoRequest,
                    "info-reply" => Purpose::InfoReply,
                    other => panic!("{other}"),
                },
                whole: scope == "whole",
                secret: hex(secret),
                message: hex(message),
            }
        })
        .collect();
    assert_eq!(vectors.len(), 40);
    vectors
}

fn algorithm(message: &[u8]) -> AuthAlgorithm {
    AuthAlgorithm::from_id(message[13]).unwrap()
}

fn mac_len(message: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([message[14], message[15]]))
}

fn register(algorithm: AuthAlgorithm) -> Vec<u8> {
    let sample = messages::samples()
        .into_iter()
        .find(|(name, ..)| *name == "map-register-full")
        .unwrap();
    let Message::MapRegister(mut register) = sample.2 else {
        panic!()
    };
    register.authentication = Authentication::unsigned(3, algorithm);
    let mut bytes = register.encode();
    sign(&mut bytes, Purpose::MapRegister, SECRET).unwrap();
    bytes
}

#[test]
fn vectors_of_another_implementation_verify() {
    for Vector {
        name,
        purpose,
        whole,
        secret,
        message,
    } in vectors()
    {
        let accepted = [algorithm(&message)];
        let expected = if whole { Ok(()) } else { Err(AuthError::BadMac) };
        assert_eq!(verify(&message, purpose, &secret, &accepted), expected, "{name}");
        assert_eq!(Purpose::of(&message), Some(purpose), "{name}");
        assert!(Message::decode(&message).is_ok(), "{name}");
    }
}

#[test]
fn vectors_of_another_implementation_are_what_we_sign() {
    for Vector {
        name,
        purpose,
        secret,
        message,
        ..
    } in vectors().into_iter().filter(|vector| vector.whole)
    {
        let mut ours = message.clone();
        ours[16..16 + mac_len(&message)].fill(0xff);
        sign(&mut ours, purpose, &secret).unwrap();
        assert_eq!(ours, message, "{name}");
    }
}

/// RFC 9301 ends the MAC before the xTR-ID; taken only when asked for, and told apart.
#[test]
fn the_rfcs_scope_is_accepted_only_when_configured() {
    for Vector {
        name,
        purpose,
        whole,
        secret,
        message,
    } in vectors()
    {
        let accepted = [algorithm(&message)];
        let scoped = |scope| verify_scoped(&message, purpose, &secret, &accepted, scope);
        if whole {
            assert_eq!(scoped(AuthScope::WholePayload), Ok(AuthScope::WholePayload), "{name}");
            assert_eq!(scoped(AuthScope::LastRecord), Ok(AuthScope::WholePayload), "{name}");
        } else {
            assert_eq!(scoped(AuthScope::WholePayload), Err(AuthError::BadMac), "{name}");
            assert_eq!(scoped(AuthScope::LastRecord), Ok(AuthScope::LastRecord), "{name}");
        }
        assert_eq!(
            verify_scoped(&message, purpose, b"another", &accepted, AuthScope::LastRecord),
            Err(AuthError::BadMac),
            "{name}"
        );
    }
}

#[test]
fn every_flipped_bit_of_a_signed_message_is_noticed() {
    for algorithm in ALL {
        let good = register(algorithm);
        assert_eq!(verify(&good, Purpose::MapRegister, SECRET, &ALL), Ok(()));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 0x80 >> (bit % 8);
            // The Key-ID chooses the secret; here it is the MAC that must notice.
            assert!(
                verify(&bad, Purpose::MapRegister, SECRET, &ALL).is_err(),
                "{algorithm:?}, bit {bit}"
            );
        }
    }
}

/// The xTR-ID names the replay state: whoever could rewrite it could replay.
#[test]
fn the_xtr_id_cannot_be_rewritten() {
    let mut bytes = register(HmacSha256_128);
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    assert_ne!(MapRegister::decode(&bytes).unwrap().xtr, Some(ids()));
    assert_eq!(
        verify(&bytes, Purpose::MapRegister, SECRET, &ALL),
        Err(AuthError::BadMac)
    );
}

/// lispers.net takes algorithm 0 for "no check needed".
#[test]
fn algorithm_0_and_unknown_ones_are_failures() {
    for id in (0..=u8::MAX).filter(|id| !(1..=3).contains(id)) {
        for mac_len in [0, 16, 20, 32] {
            let mut register = MapRegister::decode(&register(HmacSha256_128)).unwrap();
            register.authentication = mac(3, id, mac_len);
            let mut bytes = register.encode();
            let refused = Err(AuthError::AlgorithmRefused(id));
            assert_eq!(verify(&bytes, Purpose::MapRegister, SECRET, &ALL), refused);
            assert_eq!(sign(&mut bytes, Purpose::MapRegister, SECRET), refused);
        }
    }
}

/// What is accepted is the site's configuration; SHA-1 is in it only when somebody wrote it there.
#[test]
fn an_algorithm_that_the_site_does_not_accept_is_refused() {
    for algorithm in ALL {
        let bytes = register(algorithm);
        let others: Vec<_> = ALL.into_iter().filter(|other| *other != algorithm).collect();
        let refused = Err(AuthError::AlgorithmRefused(algorithm.id()));
        assert_eq!(verify(&bytes, Purpose::MapRegister, SECRET, &others), refused);
        assert_eq!(verify(&bytes, Purpose::MapRegister, SECRET, &[]), refused);
    }
}

/// A MAC cut shorter is easier to guess; one byte falls in 128 tries.
#[test]
fn only_the_rfcs_and_the_deployed_mac_lengths_are_accepted() {
    for (algorithm, accepted) in [
        (HmacSha1, &[12, 20][..]),
        (HmacSha256_128, &[16, 32]),
        (HmacSha256_128HkdfSha256, &[16]),
    ] {
        for len in 0..=48 {
            let mut register = MapRegister::decode(&register(algorithm)).unwrap();
            register.authentication = mac(3, algorithm.id(), len);
            let mut bytes = register.encode();
            let expected = if accepted.contains(&len) {
                Ok(())
            } else {
                Err(AuthError::BadLength(len.into()))
            };
            assert_eq!(
                sign(&mut bytes, Purpose::MapRegister, SECRET),
                expected,
                "{algorithm:?} {len}"
            );
            assert_eq!(
                verify(&bytes, Purpose::MapRegister, SECRET, &ALL),
                expected,
                "{algorithm:?} {len}"
            );
        }
    }
}

/// OOR compares with `strncmp`: a forged MAC that begins with NUL passes wherever the true one does.
#[test]
fn a_mac_that_begins_with_nul_is_compared_to_its_end() {
    let mut message = MapRegister::decode(&register(HmacSha256_128)).unwrap();
    let with_leading_nul = (0..100_000).find_map(|nonce| {
        message.nonce.0 = nonce;
        let mut bytes = message.encode();
        sign(&mut bytes, Purpose::MapRegister, SECRET).unwrap();
        (bytes[16] == 0).then_some(bytes)
    });
    let mut forged = with_leading_nul.unwrap();
    forged[17..48].fill(0);
    assert_eq!(
        verify(&forged, Purpose::MapRegister, SECRET, &ALL),
        Err(AuthError::BadMac)
    );
}

/// A Map-Notify of ours must not come back as a Map-Notify-Ack, nor anything as something else.
#[test]
fn a_message_of_another_type_is_not_authentic() {
    let bytes = register(HmacSha256_128);
    for purpose in [
        Purpose::MapNotify,
        Purpose::MapNotifyAck,
        Purpose::InfoRequest,
        Purpose::InfoReply,
    ] {
        assert_eq!(verify(&bytes, purpose, SECRET, &ALL), Err(AuthError::NotAuthenticated));
    }
    for (name, bytes, message) in messages::samples() {
        if matches!(
            message,
            Message::MapRequest(_) | Message::MapReply(_) | Message::MapReferral(_) | Message::Ecm(_)
        ) {
            assert_eq!(Purpose::of(&bytes), None, "{name}");
            assert_eq!(
                verify(&bytes, Purpose::MapRegister, SECRET, &ALL),
                Err(AuthError::NotAuthenticated),
                "{name}"
            );
        }
    }
}

/// lispers.net checks an unknown Key-ID with an empty password.
#[test]
fn an_empty_secret_authenticates_nobody() {
    let mut bytes = register(HmacSha256_128);
    assert_eq!(sign(&mut bytes, Purpose::MapRegister, b""), Err(AuthError::EmptySecret));
    assert_eq!(
        verify(&bytes, Purpose::MapRegister, b"", &ALL),
        Err(AuthError::EmptySecret)
    );
}

#[test]
fn a_message_cut_short_is_not_authentic() {
    for algorithm in ALL {
        let bytes = register(algorithm);
        for end in 0..bytes.len() {
            let cut = &bytes[..end];
            assert!(verify(cut, Purpose::MapRegister, SECRET, &ALL).is_err(), "{end}");
            assert!(
                verify_scoped(cut, Purpose::MapRegister, SECRET, &ALL, AuthScope::LastRecord).is_err(),
                "{end}"
            );
        }
    }
}

/// Algorithm 3 derives a key for each message: the same secret must not verify what another nonce signed.
#[test]
fn hkdf_binds_the_key_to_the_nonce() {
    let bytes = register(HmacSha256_128HkdfSha256);
    let mut other = bytes.clone();
    other[4] ^= 1;
    let mut resigned = other.clone();
    sign(&mut resigned, Purpose::MapRegister, SECRET).unwrap();
    assert_ne!(resigned[16..32], bytes[16..32]);
    assert_eq!(
        verify(&other, Purpose::MapRegister, SECRET, &ALL),
        Err(AuthError::BadMac)
    );
    assert_eq!(verify(&resigned, Purpose::MapRegister, SECRET, &ALL), Ok(()));
}
