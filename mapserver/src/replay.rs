//! What a nonce is remembered by (RFC 9301 §5.6: "for each ETR xTR-ID and key pair").

use lisp::{EidPrefix, SiteId, XtrId};

use crate::{Secret, prefix_key::PrefixKey, registration::short_digest};

/// A pre-shared key in eight bytes. Another secret under the same Key-ID is another key: its nonces start anew,
/// which is what RFC 9301 asks of an ETR that lost its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyTag(pub [u8; 8]);

impl KeyTag {
    /// The tag of a key.
    pub fn of(key_id: u8, secret: &Secret) -> Self {
        Self(short_digest(&[b"key", &[key_id], secret.expose()]))
    }
}

/// Whose last nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NonceKey {
    /// The key.
    pub key: KeyTag,
    /// Who used it.
    pub who: [u8; 16],
}

impl NonceKey {
    /// Bytes of a key on disk.
    pub const SIZE: usize = 24;

    /// The counter of an xTR that names itself.
    pub fn of_xtr(key: KeyTag, xtr: XtrId, site: SiteId) -> Self {
        Self {
            key,
            who: short_digest(&[b"xtr", &xtr.0, &site.0.to_be_bytes()]),
        }
    }

    /// The counter of a prefix, for xTRs that do not name themselves. The source address would not do: the MAC does
    /// not cover it, and a replay from another address would meet a fresh counter.
    pub fn of_prefix(key: KeyTag, prefix: &EidPrefix) -> Self {
        Self {
            key,
            who: short_digest(&[b"prefix", &PrefixKey::from(prefix).to_bytes()]),
        }
    }

    /// As it stands on disk.
    pub fn to_bytes(self) -> Vec<u8> {
        [&self.key.0[..], &self.who[..]].concat()
    }

    /// From disk.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (key, who) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            key: KeyTag(*key),
            who: who.try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_secret_is_a_new_counter() {
        let (old, new) = (
            KeyTag::of(1, &Secret::new(*b"old")),
            KeyTag::of(1, &Secret::new(*b"new")),
        );
        assert_ne!(old, new);
        let prefix = "[1]10.0.0.0/8".parse().unwrap();
        assert_ne!(NonceKey::of_prefix(old, &prefix), NonceKey::of_prefix(new, &prefix));
        let key = NonceKey::of_xtr(old, XtrId([3; 16]), SiteId(4));
        assert_eq!(NonceKey::from_bytes(&key.to_bytes()), Some(key));
    }
}
