//! From two messages and an X25519 secret to traffic keys: the counter-mode KDF of RFC 8061 §4.3 (after NIST SP 800-108),
//! with a hash of both messages in the place of the ITR's nonce, so that a key belongs to exactly one exchange.

use std::fmt;

use ring::{digest, hmac};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Bytes of an X25519 value.
pub const X25519_LEN: usize = 32;
/// Most receiving workers of a node, and most sending ones: a data packet names each in 4 bits or a byte.
pub const MAX_WORKERS: usize = 16;
/// Bytes of the whole key stream: two directions, 16 workers, 64 bytes each.
const STREAM_LEN: u32 = 2 * MAX_WORKERS as u32 * KEY_BLOCK as u32;
/// Bytes of the stream for one direction and worker: key (32, or its first 16), salt (12), unused.
const KEY_BLOCK: usize = 64;
/// What RFC 8061 §4.3 puts in front.
const CONTEXT: &[u8] = b"lisp-crypto";

/// A cipher suite of RFC 8061 §6 that Weft speaks. The others are not: CBC and MODP groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    /// 5: X25519, AES-128-GCM, IV of 12 bytes.
    Aes128Gcm,
    /// 6: X25519, ChaCha20-Poly1305, IV of 8 bytes.
    ChaCha20Poly1305,
}

impl Suite {
    /// Number in LCAF 11.
    pub const fn id(self) -> u8 {
        match self {
            Self::Aes128Gcm => 5,
            Self::ChaCha20Poly1305 => 6,
        }
    }

    /// From the number in LCAF 11.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            5 => Some(Self::Aes128Gcm),
            6 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    /// Bytes of the IV on the wire.
    pub const fn iv_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 12,
            Self::ChaCha20Poly1305 => 8,
        }
    }

    /// Bytes of the key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::ChaCha20Poly1305 => 32,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes128Gcm => "aes-128-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        })
    }
}

/// The receiver's name for a mesh SA: the 24-bit Nonce field of a data header. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SaIndex(u32);

impl SaIndex {
    /// `None` for 0 and for what does not fit 24 bits.
    pub const fn new(value: u32) -> Option<Self> {
        if value == 0 || value > 0x00ff_ffff {
            None
        } else {
            Some(Self(value))
        }
    }

    /// 1 to 0xffffff.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Which way traffic goes, seen from the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the sender of the Map-Request to the sender of the Map-Reply.
    ToResponder,
    /// The other way.
    ToInitiator,
}

/// Key and salt of one direction and one receiving worker. Wiped when dropped, shown by nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficKey {
    /// The first [`Suite::key_len`] bytes of it are the key.
    key: Zeroizing<[u8; 32]>,
    /// XORed with the IV.
    salt: Zeroizing<[u8; 12]>,
}

impl TrafficKey {
    /// From its parts, for tests and vectors.
    pub fn new(key: [u8; 32], salt: [u8; 12]) -> Self {
        Self {
            key: Zeroizing::new(key),
            salt: Zeroizing::new(salt),
        }
    }

    /// The key, for an AEAD and nothing else.
    pub fn key(&self, suite: Suite) -> &[u8] {
        self.key.get(..suite.key_len()).unwrap_or_default()
    }

    /// The salt, for the nonces of an AEAD and nothing else.
    pub fn salt(&self) -> &[u8; 12] {
        &self.salt
    }
}

impl fmt::Debug for TrafficKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrafficKey(..)")
    }
}

/// Why there is no shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyExchangeError {
    /// The other side's value is of low order (RFC 7748 §6.1): the secret would be known to everybody.
    #[error("the X25519 value is of low order")]
    LowOrder,
}

/// The public value of a secret.
pub fn x25519_public(secret: &[u8; X25519_LEN]) -> [u8; X25519_LEN] {
    x25519_dalek::x25519(*secret, x25519_dalek::X25519_BASEPOINT_BYTES)
}

/// The shared secret.
///
/// # Errors
/// When it is all zero.
pub fn x25519(
    secret: &[u8; X25519_LEN],
    theirs: &[u8; X25519_LEN],
) -> Result<Zeroizing<[u8; X25519_LEN]>, KeyExchangeError> {
    let shared = Zeroizing::new(x25519_dalek::x25519(*secret, *theirs));
    // All bytes are looked at, whatever they are.
    if shared.iter().fold(0, |all, byte| all | byte) == 0 {
        Err(KeyExchangeError::LowOrder)
    } else {
        Ok(shared)
    }
}

/// SHA-256(SHA-256(Map-Request) ‖ SHA-256(Map-Reply)), both as they travelled.
pub fn transcript(request: &[u8; 32], reply: &[u8; 32]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(request);
    context.update(reply);
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    out
}

/// The keys of one direction, one for each receiving worker.
///
/// Block `i` of the key stream is HMAC-SHA-256(secret, `i` as 2 bytes ‖ `lisp-crypto` ‖ transcript ‖ 0x4000), `i` from 1; the
/// last word is the length of the stream in bits. Direction and worker own the 64 bytes, two blocks, at number
/// 16 · direction + worker: key (32, or its first 16), salt (12).
pub fn traffic_keys(
    secret: &[u8; X25519_LEN],
    transcript: &[u8; 32],
    direction: Direction,
    workers: usize,
) -> Vec<TrafficKey> {
    let prf = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let first = match direction {
        Direction::ToResponder => 0,
        Direction::ToInitiator => MAX_WORKERS,
    };
    (first..first + workers.min(MAX_WORKERS))
        .map(|number| {
            let low = block(&prf, transcript, 2 * number + 1);
            let high = block(&prf, transcript, 2 * number + 2);
            let mut salt = Zeroizing::new([0; 12]);
            for (to, from) in salt.iter_mut().zip(high.iter()) {
                *to = *from;
            }
            TrafficKey { key: low, salt }
        })
        .collect()
}

fn block(prf: &hmac::Key, transcript: &[u8; 32], number: usize) -> Zeroizing<[u8; 32]> {
    let number = u16::try_from(number).unwrap_or(u16::MAX);
    let bits = (STREAM_LEN * 8) as u16;
    let mut context = hmac::Context::with_key(prf);
    context.update(&number.to_be_bytes());
    context.update(CONTEXT);
    context.update(transcript);
    context.update(&bits.to_be_bytes());
    let mut out = Zeroizing::new([0; 32]);
    for (to, from) in out.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_have_one_secret_and_a_low_order_value_is_refused() {
        let (a, b) = ([1; 32], [2; 32]);
        assert_eq!(x25519(&a, &x25519_public(&b)), x25519(&b, &x25519_public(&a)));
        assert_eq!(x25519(&a, &[0; 32]), Err(KeyExchangeError::LowOrder));
        let mut one = [0; 32];
        one[0] = 1;
        assert_eq!(x25519(&a, &one), Err(KeyExchangeError::LowOrder));
    }

    #[test]
    fn every_direction_worker_and_exchange_has_keys_of_its_own() {
        let mut all = Vec::new();
        for transcript in [[1; 32], [2; 32]] {
            for direction in [Direction::ToResponder, Direction::ToInitiator] {
                all.extend(traffic_keys(&[3; 32], &transcript, direction, MAX_WORKERS));
            }
        }
        assert_eq!(all.len(), 64);
        for (index, key) in all.iter().enumerate() {
            assert!(
                all.iter()
                    .skip(index + 1)
                    .all(|other| other.key(Suite::Aes128Gcm) != key.key(Suite::Aes128Gcm))
            );
            assert!(all.iter().skip(index + 1).all(|other| other.salt() != key.salt()));
        }
        assert_eq!(format!("{:?}", all[0]), "TrafficKey(..)");
    }
}
