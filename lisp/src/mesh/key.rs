//! P-256 keys and ECDSA signatures (RFC 6979, SHA-256, low S).

use std::{fmt, str::FromStr};

use p256::ecdsa::{self, SigningKey, VerifyingKey, signature::Signer as _};
use ring::digest;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// DER of a P-256 SubjectPublicKeyInfo up to the uncompressed point (RFC 5480 §2).
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// How a public key is written: `p256:` and 66 hex digits.
const TEXT_PREFIX: &str = "p256:";

/// A P-256 public key in compressed form (SEC 1 §2.3.3). Whether it is a point of the curve is checked when it verifies
/// something, and by [`PublicKey::check`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; Self::LEN]);

/// The name of a node or of a key holder: the first 16 bytes of SHA-256 of its SubjectPublicKeyInfo.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyId(pub [u8; 16]);

/// r and s, 32 bytes each, s in the lower half of the order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; Self::LEN]);

/// Why a key or a signature is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form `p256:` and 66 hex digits.
    #[error("a public key is written p256: and 66 hex digits, as `weft key show` prints it")]
    Syntax,
    /// Not a point of the curve.
    #[error("not a point of P-256")]
    NotAPoint,
    /// Not a private key of the curve.
    #[error("not a P-256 private key: 64 hex digits, as `weft key new` writes them")]
    NotAPrivateKey,
}

impl PublicKey {
    /// Bytes of the compressed point.
    pub const LEN: usize = 33;

    /// From the compressed point, unchecked.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The compressed point.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Whether it is a point of the curve.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self) -> Result<(), KeyError> {
        self.point().map(drop)
    }

    /// DER of its SubjectPublicKeyInfo (RFC 5480). `None` when it is no point of the curve.
    pub fn spki(&self) -> Option<Vec<u8>> {
        let point = self.point().ok()?.to_sec1_point(false);
        let mut spki = SPKI_HEAD.to_vec();
        spki.extend_from_slice(point.as_bytes());
        Some(spki)
    }

    /// The name that it gives its holder. `None` when it is no point of the curve.
    pub fn id(&self) -> Option<KeyId> {
        let hash = digest::digest(&digest::SHA256, &self.spki()?);
        hash.as_ref().first_chunk().map(|head| KeyId(*head))
    }

    /// Whether `signature` is this key's over `message`. A signature with a high s is refused: it would be a second
    /// valid signature over the same message, made by somebody without the key.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let (Ok(key), Ok(parsed)) = (self.point(), ecdsa::Signature::from_slice(&signature.0)) else {
            return false;
        };
        // Verifying needs no randomness that would have to be seeded: ring does it three times as fast.
        let point = key.to_sec1_point(false);
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point.as_bytes());
        parsed.normalize_s() == parsed && key.verify(message, &signature.0).is_ok()
    }

    fn point(&self) -> Result<VerifyingKey, KeyError> {
        // One key has one encoding: SEC 1 also has a "compact" one of the same length.
        match self.0 {
            [2 | 3, ..] => VerifyingKey::from_sec1_bytes(&self.0).map_err(|_| KeyError::NotAPoint),
            _ => Err(KeyError::NotAPoint),
        }
    }
}

/// Who can sign: a key in memory now, a TPM later.
pub trait Signer: fmt::Debug + Send + Sync {
    /// Whose signatures they are.
    fn public_key(&self) -> PublicKey;
    /// Signs `message` (SHA-256, low S).
    fn sign(&self, message: &[u8]) -> Signature;
}

/// A private key in memory, wiped when dropped. Signs deterministically (RFC 6979).
pub struct SoftwareKey {
    key: SigningKey,
    public: PublicKey,
}

impl SoftwareKey {
    /// From 32 bytes, big-endian.
    ///
    /// # Errors
    /// When they are 0 or not below the order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_slice(bytes).map_err(|_| KeyError::NotAPrivateKey)?;
        let point = key.verifying_key().to_sec1_point(true);
        let public = point.as_bytes().first_chunk().copied();
        public
            .map(|public| Self {
                key,
                public: PublicKey(public),
            })
            .ok_or(KeyError::NotAPrivateKey)
    }

    /// From 64 hex digits, white space around them ignored: what a key file holds.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(unhex(text.trim()).ok_or(KeyError::NotAPrivateKey)?);
        Self::from_bytes(&bytes)
    }

    /// 64 hex digits: what a key file holds. For `weft key new` and `weft key export`.
    pub fn to_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(<[u8; 32]>::from(self.key.to_bytes()));
        Zeroizing::new(hex(&bytes[..]))
    }
}

impl Signer for SoftwareKey {
    fn public_key(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Signature {
        let signature: ecdsa::Signature = self.key.sign(message);
        Signature(signature.normalize_s().to_bytes().into())
    }
}

impl fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoftwareKey({})", self.public)
    }
}

impl Signature {
    /// Bytes of r and s.
    pub const LEN: usize = 64;
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", hex(&self.0))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TEXT_PREFIX}{}", hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads `p256:` and 66 hex digits, and checks that they are a point of the curve.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digits = text.trim().strip_prefix(TEXT_PREFIX).ok_or(KeyError::Syntax)?;
        let key = Self(unhex(digits).ok_or(KeyError::Syntax)?);
        key.check()?;
        Ok(key)
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    /// Reads 32 hex digits.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        unhex(text).map(Self).ok_or(KeyError::Syntax)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> SoftwareKey {
        SoftwareKey::from_bytes(&[n; 32]).unwrap()
    }

    #[test]
    fn a_signature_is_of_one_key_over_one_message() {
        let signature = key(1).sign(b"message");
        assert!(key(1).public_key().verify(b"message", &signature));
        assert!(!key(1).public_key().verify(b"massage", &signature));
        assert!(!key(2).public_key().verify(b"message", &signature));
        assert_eq!(key(1).sign(b"message"), signature, "RFC 6979: deterministic");
    }

    #[test]
    fn the_other_signature_with_a_high_s_is_refused() {
        let signature = key(1).sign(b"message");
        let low = ecdsa::Signature::from_slice(&signature.0).unwrap();
        let high = ecdsa::Signature::from_scalars(low.r(), -low.s()).unwrap();
        use p256::ecdsa::signature::Verifier as _;
        let key = VerifyingKey::from_sec1_bytes(key(1).public_key().as_bytes()).unwrap();
        assert!(key.verify(b"message", &high).is_ok(), "ECDSA itself takes both");
        assert!(
            !self::key(1)
                .public_key()
                .verify(b"message", &Signature(high.to_bytes().into()))
        );
    }

    #[test]
    fn keys_are_written_and_read_back() {
        let public = key(7).public_key();
        assert_eq!(public.to_string().parse(), Ok(public));
        assert_eq!("p256:00".parse::<PublicKey>(), Err(KeyError::Syntax));
        let nowhere = format!("p256:05{}", "00".repeat(32));
        assert_eq!(nowhere.parse::<PublicKey>(), Err(KeyError::NotAPoint));
        let private = key(7).to_text();
        assert_eq!(SoftwareKey::from_text(&private).unwrap().public_key(), public);
        assert!(SoftwareKey::from_bytes(&[0; 32]).is_err() && SoftwareKey::from_bytes(&[0xff; 32]).is_err());
    }

    #[test]
    fn nothing_shows_a_private_key() {
        let text = format!("{:?}", key(7));
        assert!(!text.contains(&"07".repeat(8)), "{text}");
    }

    #[test]
    fn a_subject_public_key_info_is_91_bytes_and_names_the_holder() {
        let public = key(7).public_key();
        assert_eq!(public.spki().unwrap().len(), 91);
        assert_ne!(public.id(), key(8).public_key().id());
        assert_eq!(PublicKey::from_bytes([5; 33]).id(), None);
    }
}
