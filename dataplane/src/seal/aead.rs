//! One key of one direction and one receiving worker: seals and opens a datagram in place.

#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

use std::fmt;

use lisp::{
    mesh::{Suite, TrafficKey},
    wire::DataHeader,
};
use ring::{
    aead::{self, Aad, LessSafeKey, Nonce, UnboundKey},
    digest,
};

use super::{Layout, iv};

/// Bytes of the tag, both suites.
pub const TAG: usize = 16;
/// Bytes of the AEAD's nonce, both suites.
const NONCE: usize = 12;

/// Names a key without telling it: the head of a hash.
pub type Fingerprint = [u8; 16];

/// A key with its salt. "Less safe" is ring's word for a key whose nonces the caller is responsible for: see
/// [`super::SaPair::reserve`], and `unique.rs`, which watches in debug builds.
pub struct Aead {
    key: LessSafeKey,
    salt: TrafficKey,
    layout: Layout,
    fingerprint: Fingerprint,
}

impl Aead {
    /// `None` when the key does not fit the suite, which a [`TrafficKey`] does.
    pub fn new(suite: Suite, key: &TrafficKey) -> Option<Self> {
        let algorithm = match suite {
            Suite::Aes128Gcm => &aead::AES_128_GCM,
            Suite::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        };
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"weft traffic key");
        context.update(&[suite.id()]);
        context.update(key.key(suite));
        context.update(key.salt());
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.key(suite)).ok()?),
            salt: TrafficKey::new([0; 32], *key.salt()),
            layout: Layout::of(suite),
            fingerprint: *context.finish().as_ref().first_chunk()?,
        })
    }

    /// Names the key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Seals what stands between header with IV and tag of a whole datagram, and writes both. Never twice with the
    /// same worker and counter. `None` when the datagram is too short for its own layout.
    #[inline]
    pub fn seal(&self, datagram: &mut [u8], worker: u8, counter: u64) -> Option<()> {
        let (front, body) = datagram.split_at_mut_checked(DataHeader::LEN + self.layout.before)?;
        iv::write(front.get_mut(DataHeader::LEN..)?, worker, counter)?;
        let (text, tag) = body.split_last_chunk_mut::<TAG>()?;
        #[cfg(debug_assertions)]
        super::unique::check(self.fingerprint, worker, counter);
        let nonce = self.nonce(front.get(DataHeader::LEN..)?);
        let made = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(&*front), text)
            .ok()?;
        tag.copy_from_slice(made.as_ref().first_chunk::<TAG>()?);
        Some(())
    }

    /// Opens a whole datagram in place and gives what was inside; `None` when the tag does not fit, and its bytes are
    /// worth nothing then.
    #[inline]
    pub fn open<'a>(&self, datagram: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (front, body) = datagram.split_at_mut_checked(DataHeader::LEN + self.layout.before)?;
        let nonce = self.nonce(front.get(DataHeader::LEN..)?);
        self.key.open_in_place(nonce, Aad::from(&*front), body).ok()
    }

    /// A shorter IV stands at the end, zeros in front of it.
    #[inline]
    fn nonce(&self, iv: &[u8]) -> Nonce {
        let mut nonce = [0; NONCE];
        for (to, from) in nonce.iter_mut().rev().zip(iv.iter().rev()) {
            *to = *from;
        }
        for (to, salt) in nonce.iter_mut().zip(self.salt.salt()) {
            *to ^= salt;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

impl fmt::Debug for Aead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aead(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let text: String = text.split_whitespace().collect();
        (0..text.len() / 2)
            .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn the_nonce_is_salt_and_iv_with_a_short_iv_at_the_end() {
        let salt: [u8; 12] = std::array::from_fn(|at| at as u8 + 1);
        let key = TrafficKey::new([9; 32], salt);
        let nonce = |suite, iv: &[u8]| *Aead::new(suite, &key).unwrap().nonce(iv).as_ref();
        assert_eq!(
            nonce(Suite::ChaCha20Poly1305, &[0x80, 0, 0, 0, 0, 0, 0, 1])[..],
            hex("01 02 03 04 85 06 07 08 09 0a 0b 0d")
        );
        assert_eq!(
            nonce(Suite::Aes128Gcm, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])[..],
            hex("81 02 03 04 05 06 07 08 09 0a 0b 0d")
        );
    }

    #[test]
    fn a_datagram_is_what_the_ciphers_own_interface_makes_of_it() {
        for (suite, algorithm) in [
            (Suite::Aes128Gcm, &aead::AES_128_GCM),
            (Suite::ChaCha20Poly1305, &aead::CHACHA20_POLY1305),
        ] {
            let key = TrafficKey::new(std::array::from_fn(|at| (at as u8) ^ suite.id()), [3; 12]);
            let sealer = Aead::new(suite, &key).unwrap();
            let front = DataHeader::LEN + suite.iv_len();
            let mut datagram = vec![0; front];
            datagram[..8].copy_from_slice(&hex("89 00 00 05 00 00 07 00"));
            datagram.extend(b"inner packet");
            datagram.extend([0; TAG]);
            sealer.seal(&mut datagram, 2, 77).unwrap();
            // By hand: nonce, associated data, ciphertext and tag.
            let mut nonce = [0; NONCE];
            nonce[NONCE - suite.iv_len()..].copy_from_slice(&datagram[8..front]);
            nonce.iter_mut().for_each(|byte| *byte ^= 3);
            let mut expected = b"inner packet".to_vec();
            LessSafeKey::new(UnboundKey::new(algorithm, key.key(suite)).unwrap())
                .seal_in_place_append_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(&datagram[..front]),
                    &mut expected,
                )
                .unwrap();
            assert_eq!(datagram[front..], expected);
            assert_eq!(sealer.open(&mut datagram.clone()).unwrap(), b"inner packet");
            for at in 0..datagram.len() {
                let mut flipped = datagram.clone();
                flipped[at] ^= 1;
                assert!(sealer.open(&mut flipped).is_none(), "byte {at}");
            }
            for length in 0..datagram.len() {
                assert!(sealer.open(&mut datagram[..length].to_vec()).is_none());
            }
            assert_eq!(format!("{sealer:?}"), "Aead(..)");
        }
    }

    #[test]
    #[should_panic(expected = "sealed twice")]
    fn a_second_use_of_a_nonce_is_caught_also_through_another_copy_of_the_key() {
        let key = TrafficKey::new([0x77; 32], [1; 12]);
        let mut datagram = [0; 64];
        for _ in 0..2 {
            let _ = Aead::new(Suite::Aes128Gcm, &key).unwrap().seal(&mut datagram, 0, 1);
        }
    }
}
