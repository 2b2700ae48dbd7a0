//! Control inside an SA (Instance-ID 0xFFFFFF): one byte that says what it is, then what it says.
//!
//! ```text
//! 1 probe        ‖ nonce (8)
//! 2 probe answer ‖ nonce (8)
//! 3 message      ‖ anything, for the other side's control
//! ```

#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

/// Longest message, bytes.
pub const MESSAGE: usize = 1_200;

/// What is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside<'a> {
    /// "Are you there?"
    Probe(u64),
    /// "Yes."
    Answer(u64),
    /// For control.
    Message(&'a [u8]),
}

impl<'a> Inside<'a> {
    /// Reads one. Other kinds and lengths are `None`.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let nonce = || rest.try_into().ok().map(u64::from_be_bytes);
        match kind {
            1 => nonce().map(Self::Probe),
            2 => nonce().map(Self::Answer),
            3 if rest.len() <= MESSAGE => Some(Self::Message(rest)),
            _ => None,
        }
    }

    /// Bytes of it.
    pub fn size(&self) -> usize {
        match self {
            Self::Probe(_) | Self::Answer(_) => 9,
            Self::Message(message) => 1 + message.len(),
        }
    }

    /// Writes it into `to`, which is as long as it.
    pub fn encode(&self, to: &mut [u8]) -> Option<()> {
        let (kind, rest) = to.split_first_mut()?;
        let nonce: [u8; 8];
        let (number, from) = match self {
            Self::Probe(value) => {
                nonce = value.to_be_bytes();
                (1, &nonce[..])
            }
            Self::Answer(value) => {
                nonce = value.to_be_bytes();
                (2, &nonce[..])
            }
            Self::Message(message) => (3, *message),
        };
        *kind = number;
        rest.get_mut(..from.len())?.copy_from_slice(from);
        (rest.len() == from.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for inside in [Inside::Probe(7), Inside::Answer(u64::MAX), Inside::Message(b"hello")] {
            let mut bytes = vec![0; inside.size()];
            inside.encode(&mut bytes).unwrap();
            assert_eq!(Inside::decode(&bytes), Some(inside));
        }
        for foreign in [&[][..], &[0], &[1], &[1; 8], &[2; 10], &[4, 0], &[3; 1_202]] {
            assert_eq!(Inside::decode(foreign), None);
        }
    }
}
