//! The place of sealing: after the inner packet is written and before the run leaves. Nothing is sealed yet; a
//! network that demands it ([`crate::control::Protection::Sealed`]) has its packets dropped by name, both ways.
//!
//! A seal works in place: [`Layout`] says how many bytes it wants around each inner packet, and
//! [`crate::segment`] leaves them free in every datagram of a run.

/// Bytes that a seal needs around each inner packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Between the LISP header and the inner packet: the IV.
    pub before: usize,
    /// After the inner packet: the tag.
    pub after: usize,
}

impl Layout {
    /// In clear.
    pub const CLEAR: Self = Self { before: 0, after: 0 };

    /// Bytes of both.
    pub const fn overhead(self) -> usize {
        self.before + self.after
    }
}
