//! Signatures over whole LISP messages: everything between the first byte and the last is covered, so that nothing can be
//! taken out, swapped or added on the way.

use ring::digest;

use super::{PublicKey, Signature, Signer};

/// What stands in the place of a signature until it is made; appears in no message otherwise.
pub const PLACEHOLDER: Signature = Signature(*b"weft: here a signature will stand once the message is complete..");

/// What a signature is for: one for a Map-Request is none for a Map-Reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// A Map-Request that offers an exchange.
    MapRequest,
    /// The Map-Reply that answers it.
    MapReply,
    /// A Map-Register. Its MAC counts as zero: it is computed later, over the signature too.
    MapRegister,
}

impl Label {
    const fn text(self) -> &'static [u8] {
        match self {
            Self::MapRequest => b"weft mesh Map-Request 1\0",
            Self::MapReply => b"weft mesh Map-Reply 1\0",
            Self::MapRegister => b"weft mesh Map-Register 1\0",
        }
    }
}

/// Why a message cannot be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// [`PLACEHOLDER`] stands in it not at all, or more than once.
    #[error("the message has no single place for a signature")]
    NoPlace,
}

/// SHA-256 of a message as it travels.
pub fn digest(message: &[u8]) -> [u8; 32] {
    let hash = digest::digest(&digest::SHA256, message);
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    out
}

/// Signs `message`, an encoded LISP message with [`PLACEHOLDER`] where the signature belongs. `prior` is the hash of the
/// message that it answers.
///
/// # Errors
/// When the place is missing or not unique.
pub fn sign_message(
    label: Label,
    prior: Option<&[u8; 32]>,
    message: &mut [u8],
    signer: &dyn Signer,
) -> Result<Signature, SignError> {
    let place = only_place(message, &PLACEHOLDER).ok_or(SignError::NoPlace)?;
    let words = words(label, prior, message, place).ok_or(SignError::NoPlace)?;
    let signature = signer.sign(&words);
    message
        .get_mut(place..place + Signature::LEN)
        .ok_or(SignError::NoPlace)?
        .copy_from_slice(&signature.0);
    Ok(signature)
}

/// Whether `signature`, which stands in `message` exactly once, is `key`'s over it.
#[must_use]
pub fn verify_message(
    label: Label,
    prior: Option<&[u8; 32]>,
    message: &[u8],
    signature: &Signature,
    key: &PublicKey,
) -> bool {
    only_place(message, signature)
        .and_then(|place| words(label, prior, message, place))
        .is_some_and(|words| key.verify(&words, signature))
}

/// What is signed: the label, the hash of the message before, and the message with its signature (and MAC) zeroed.
fn words(label: Label, prior: Option<&[u8; 32]>, message: &[u8], place: usize) -> Option<Vec<u8>> {
    let mut words = label.text().to_vec();
    if let Some(prior) = prior {
        words.extend_from_slice(prior);
    }
    let start = words.len();
    words.extend_from_slice(message);
    let copy = words.get_mut(start..)?;
    copy.get_mut(place..place + Signature::LEN)?.fill(0);
    if label == Label::MapRegister {
        // RFC 9301 §5.6: length of the authentication data at byte 14, the data from byte 16.
        let length = u16::from_be_bytes(*copy.get(14..)?.first_chunk()?);
        copy.get_mut(16..16 + usize::from(length))?.fill(0);
    }
    Some(words)
}

/// Where `signature` stands, when it does so once.
fn only_place(message: &[u8], signature: &Signature) -> Option<usize> {
    let mut places = message
        .windows(Signature::LEN)
        .enumerate()
        .filter(|(_, window)| *window == signature.0)
        .map(|(place, _)| place);
    let first = places.next()?;
    places.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::SoftwareKey;

    fn message() -> Vec<u8> {
        [&b"\x10front"[..], &PLACEHOLDER.0, b"back"].concat()
    }

    #[test]
    fn every_byte_is_covered_and_the_label_and_what_came_before() {
        let key = SoftwareKey::from_bytes(&[1; 32]).unwrap();
        let public = key.public_key();
        let mut signed = message();
        let signature = sign_message(Label::MapReply, Some(&[7; 32]), &mut signed, &key).unwrap();
        let verify = |label, prior, bytes: &[u8]| verify_message(label, prior, bytes, &signature, &public);
        assert!(verify(Label::MapReply, Some(&[7; 32]), &signed));
        assert!(!verify(Label::MapRequest, Some(&[7; 32]), &signed));
        assert!(!verify(Label::MapReply, Some(&[8; 32]), &signed));
        assert!(!verify(Label::MapReply, None, &signed));
        for at in 0..signed.len() {
            let mut other = signed.clone();
            other[at] ^= 1;
            assert!(!verify(Label::MapReply, Some(&[7; 32]), &other), "byte {at}");
        }
        let longer = [&signed[..], b"x"].concat();
        assert!(!verify(Label::MapReply, Some(&[7; 32]), &longer));
        let twice = [&signed[..], &signature.0].concat();
        assert!(!verify(Label::MapReply, Some(&[7; 32]), &twice));
    }

    #[test]
    fn a_message_without_its_place_is_not_signed() {
        let key = SoftwareKey::from_bytes(&[1; 32]).unwrap();
        for mut bytes in [b"nothing".to_vec(), [message(), message()].concat()] {
            let before = bytes.clone();
            assert_eq!(
                sign_message(Label::MapRequest, None, &mut bytes, &key),
                Err(SignError::NoPlace)
            );
            assert_eq!(bytes, before);
        }
    }

    #[test]
    fn the_mac_of_a_map_register_is_not_covered_but_its_length_is() {
        let key = SoftwareKey::from_bytes(&[1; 32]).unwrap();
        let mut register = [&[0x30, 0, 0, 1][..], &[0; 8], &[1, 3, 0, 4], &[0; 4], &PLACEHOLDER.0].concat();
        let signature = sign_message(Label::MapRegister, None, &mut register, &key).unwrap();
        register[16..20].fill(0xaa);
        let verify = |bytes: &[u8]| verify_message(Label::MapRegister, None, bytes, &signature, &key.public_key());
        assert!(verify(&register));
        register[15] = 3;
        assert!(!verify(&register));
    }
}
