//! Builds messages. A count on the wire is always the count of what was written: what does not fit its field is left
//! out, and the first such fault is kept, so that `try_encode` can refuse what `encode` would shorten.

use super::{EncodeError, MessageType};

/// An output buffer, and the first thing that did not fit.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
    fault: Option<EncodeError>,
}

impl Writer {
    /// The message without what does not fit the wire.
    pub(crate) fn clamped(write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut writer = Self::default();
        write(&mut writer);
        writer.out
    }

    /// The message, or what of it does not fit the wire.
    pub(crate) fn checked(write: impl FnOnce(&mut Self)) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Self::default();
        write(&mut writer);
        writer.fault.map_or(Ok(writer.out), Err)
    }

    /// Remembers the first fault.
    pub(crate) fn fault(&mut self, fault: EncodeError) {
        self.fault.get_or_insert(fault);
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// The first word of a control message: type, the flags that are set, and `low` (counts).
    pub(crate) fn first_word(&mut self, kind: MessageType, flags: &[(bool, u32)], low: u32) {
        let flags = flags
            .iter()
            .filter(|(set, _)| *set)
            .fold(0, |word, (_, bit)| word | bit);
        self.u32(u32::from(kind as u8) << 28 | flags | low);
    }

    /// One byte.
    pub(crate) fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// Two bytes.
    pub(crate) fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Four bytes.
    pub(crate) fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Eight bytes.
    pub(crate) fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// As many of `items` as a count field holds; more is a fault.
    pub(crate) fn fit<'t, T>(&mut self, items: &'t [T], max: usize, what: &'static str) -> &'t [T] {
        if let Some(kept) = items.get(..max) {
            if items.len() > max {
                self.fault(EncodeError::TooMany {
                    what,
                    count: items.len(),
                    max,
                });
            }
            kept
        } else {
            items
        }
    }

    /// As many of `items` as an 8-bit count holds, and that count.
    pub(crate) fn fit_u8<'t, T>(&mut self, items: &'t [T], what: &'static str) -> (u8, &'t [T]) {
        let kept = self.fit(items, usize::from(u8::MAX), what);
        (u8::try_from(kept.len()).unwrap_or(u8::MAX), kept)
    }

    /// A length that fits 16 bits; `None`, and a fault, for a greater one.
    pub(crate) fn fit_len(&mut self, len: usize, what: &'static str) -> Option<u16> {
        let fitting = u16::try_from(len).ok();
        if fitting.is_none() {
            self.fault(EncodeError::TooLong {
                what,
                len,
                max: usize::from(u16::MAX),
            });
        }
        fitting
    }

    /// A value that fits `bits` bits; the low ones are kept of one that does not, which is a fault.
    pub(crate) fn fit_bits(&mut self, value: u32, bits: u32, what: &'static str) -> u32 {
        let mask = 1u32.checked_shl(bits).map_or(u32::MAX, |bit| bit.wrapping_sub(1));
        if value & !mask != 0 {
            self.fault(EncodeError::TooLarge { what, value, max: mask });
        }
        value & mask
    }

    /// A 16-bit length and what `write` writes after it. Too much for the length is a fault, and nothing of it stays.
    /// Returns whether it fitted.
    pub(crate) fn length_prefixed(&mut self, what: &'static str, write: impl FnOnce(&mut Self)) -> bool {
        self.u16(0);
        let start = self.out.len();
        write(self);
        let len = self.out.len().saturating_sub(start);
        let Some(fitting) = self.fit_len(len, what) else {
            self.out.truncate(start);
            return false;
        };
        self.patch(start.saturating_sub(2), &fitting.to_be_bytes());
        true
    }

    /// Overwrites what was written at `at`.
    pub(crate) fn patch(&mut self, at: usize, bytes: &[u8]) {
        let end = at.saturating_add(bytes.len());
        if let Some(place) = self.out.get_mut(at..end) {
            place.copy_from_slice(bytes);
        }
    }

    /// Takes back everything from `at` on.
    pub(crate) fn truncate(&mut self, at: usize) {
        self.out.truncate(at);
    }

    /// What was written from `at` on.
    pub(crate) fn written(&self, at: usize) -> &[u8] {
        self.out.get(at..).unwrap_or_default()
    }
}
