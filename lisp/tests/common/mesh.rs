//! The vectors of the sealed mesh, `docs/mesh-security/vectors.json`.

use lisp::mesh::{SoftwareKey, Suite};
use ring::aead::{AES_128_GCM, CHACHA20_POLY1305, LessSafeKey, UnboundKey};

pub use serde_json::Value as Json;

/// All of them.
pub fn vectors() -> Json {
    serde_json::from_str(include_str!("../../../docs/mesh-security/vectors.json")).unwrap()
}

/// A string.
pub fn text(value: &Json) -> &str {
    value.as_str().unwrap()
}

/// A number.
pub fn number(value: &Json) -> u64 {
    value.as_u64().unwrap()
}

/// Bytes.
pub fn bytes(value: &Json) -> Vec<u8> {
    super::hex(text(value))
}

/// `N` bytes.
pub fn fixed<const N: usize>(value: &Json) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// The private key of that name.
pub fn key(vectors: &Json, name: &str) -> SoftwareKey {
    SoftwareKey::from_bytes(&fixed(&vectors["keys"][name]["private"])).unwrap()
}

/// A key of the AEAD that data packets of a suite are sealed with.
pub fn sealing_key(suite: Suite, key: &[u8]) -> LessSafeKey {
    let algorithm = match suite {
        Suite::Aes128Gcm => &AES_128_GCM,
        Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
    };
    LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap())
}
