//! Project Wycheproof's vectors, which are made to trip implementations, through what the sealed mesh computes with:
//! X25519, ECDSA, and the AEADs of both suites as data packets use them. What is refused although the mathematics would
//! take it is counted: each rule of ours is to be the only reason.

mod common;

use common::mesh::sealing_key;
use lisp::mesh::{KeyExchangeError, PublicKey, Signature, Suite, x25519};
use ring::aead::{Aad, Nonce};
use wycheproof::{TestResult, aead, ecdsa, xdh};

#[test]
fn x25519_and_low_order_values() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let (mut shared, mut refused) = (0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let of = test.tc_id;
        // A value of another length never comes here: LCAF 11's key is 32 bytes, or no key.
        let (Ok(private), Ok(public)) = (
            <[u8; 32]>::try_from(&test.private_key[..]),
            <[u8; 32]>::try_from(&test.public_key[..]),
        ) else {
            assert_eq!(test.result, TestResult::Invalid, "{of}");
            continue;
        };
        match x25519(&private, &public) {
            Ok(secret) => {
                assert_eq!(secret[..], test.shared_secret[..], "{of}");
                assert_ne!(test.result, TestResult::Invalid, "{of}");
                shared += 1;
            }
            Err(KeyExchangeError::LowOrder) => {
                assert!(test.shared_secret.iter().all(|byte| *byte == 0), "{of}");
                refused += 1;
            }
        }
        let zero = test.flags.contains(&xdh::TestFlag::ZeroSharedSecret);
        assert_eq!(
            zero,
            x25519(&private, &public).is_err(),
            "{of}: low order, and only that, is refused"
        );
    }
    assert!(shared > 400 && refused > 10, "{shared} shared, {refused} refused");
}

/// The order of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The order less `s`, which is below it.
fn negated(s: &[u8]) -> [u8; 32] {
    let (mut out, mut borrow) = ([0; 32], 0);
    for at in (0..32).rev() {
        let digit = i32::from(ORDER[at]) - i32::from(s[at]) - borrow;
        borrow = i32::from(digit < 0);
        out[at] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    out
}

#[test]
fn ecdsa_and_the_low_s_rule() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    let (mut low, mut high, mut refused) = (0, 0, 0);
    for group in &set.test_groups {
        let point: [u8; 65] = group.key.key[..].try_into().unwrap();
        let mut compressed = [0; 33];
        compressed[0] = 2 | (point[64] & 1);
        compressed[1..].copy_from_slice(&point[1..33]);
        let key = PublicKey::from_bytes(compressed);
        assert_eq!(key.check(), Ok(()));
        for test in &group.tests {
            let of = test.tc_id;
            // Another length is no signature field of ours.
            let Ok(signature) = <[u8; 64]>::try_from(&test.sig[..]) else {
                assert_eq!(test.result, TestResult::Invalid, "{of}");
                continue;
            };
            let takes = |signature| key.verify(&test.msg, &Signature(signature));
            match test.result {
                TestResult::Invalid => {
                    assert!(!takes(signature), "{of}: invalid");
                    refused += 1;
                }
                _ => {
                    let mut other = signature;
                    other[32..].copy_from_slice(&negated(&signature[32..]));
                    let (lower, upper) = if signature[32..] < other[32..] {
                        low += 1;
                        (signature, other)
                    } else {
                        high += 1;
                        (other, signature)
                    };
                    assert!(takes(lower), "{of}: valid, with the lower s");
                    assert!(!takes(upper), "{of}: valid, with the higher s");
                }
            }
        }
    }
    assert!(
        low > 50 && high > 50 && refused > 60,
        "{low} low, {high} high, {refused} refused"
    );
}

#[test]
fn the_aeads_of_both_suites() {
    for (suite, name) in [
        (Suite::Aes128Gcm, aead::TestName::AesGcm),
        (Suite::ChaCha20Poly1305, aead::TestName::ChaCha20Poly1305),
    ] {
        let set = aead::TestSet::load(name).unwrap();
        let (mut opened, mut refused) = (0, 0);
        let ours = |group: &&aead::TestGroup| {
            // Wycheproof counts bits. Nonces of 96 and tags of 128 are what the protocol has.
            (group.key_size, group.nonce_size, group.tag_size) == (suite.key_len() * 8, 96, 128)
        };
        for test in set.test_groups.iter().filter(ours).flat_map(|group| &group.tests) {
            let of = test.tc_id;
            let key = sealing_key(suite, &test.key);
            let nonce = || Nonce::try_assume_unique_for_key(&test.nonce).unwrap();
            let mut sealed = [&test.ct[..], &test.tag[..]].concat();
            let result = key.open_in_place(nonce(), Aad::from(&test.aad[..]), &mut sealed);
            if test.result == TestResult::Invalid {
                assert!(result.is_err(), "{suite} {of}");
                refused += 1;
                continue;
            }
            assert_eq!(result.unwrap(), &test.pt[..], "{suite} {of}");
            let mut made = test.pt.to_vec();
            key.seal_in_place_append_tag(nonce(), Aad::from(&test.aad[..]), &mut made)
                .unwrap();
            assert_eq!(made, [&test.ct[..], &test.tag[..]].concat(), "{suite} {of}");
            opened += 1;
        }
        assert!(
            opened > 30 && refused > 20,
            "{suite}: {opened} opened, {refused} refused"
        );
    }
}
