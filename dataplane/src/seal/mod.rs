//! Sealing (mesh-security.md, "Data packets"; RFC 8061 for the framing): in place, after the inner packet is written and
//! before its run leaves; opened in place before anything else looks at it.
//!
//! ```text
//! LISP header (N=1, I=1, KK=1, Nonce: the receiver's SA index) ‖ IV ‖ ciphertext ‖ tag (16)
//! IV: sending worker (1) ‖ counter, from 1;   associated data: LISP header ‖ IV;   AEAD nonce: salt XOR IV
//! ```
//!
//! | file | what |
//! |---|---|
//! | `aead.rs` | one key: seals and opens a datagram in place |
//! | `iv.rs` | what the IV says |
//! | `replay.rs` | the window of counters that came |
//! | `sa.rs` | a pair of SAs with one node: its indices, counters, limits |
//! | `inside.rs` | control inside an SA: Instance-ID 0xFFFFFF |
//! | `measure.rs` | what each suite costs on this machine |
//!
//! Keys come down once ([`crate::control::Change::PutSa`]) and leave by no way; nothing here prints them.

pub mod aead;
pub mod inside;
pub mod iv;
pub mod measure;
pub mod replay;
pub mod sa;
#[cfg(debug_assertions)]
mod unique;

use lisp::{
    InstanceId,
    mesh::{SaIndex, Suite},
    wire::{DataHeader, EncryptionKeyId},
};

pub use aead::{Aead, TAG};
pub use measure::measure;
pub use sa::{SaError, SaPair};

/// KK of sealed data packets.
pub const KEY_ID: EncryptionKeyId = EncryptionKeyId(1);

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

    /// Sealed under `suite`.
    pub const fn of(suite: Suite) -> Self {
        Self {
            before: suite.iv_len(),
            after: TAG,
        }
    }

    /// Bytes of both.
    pub const fn overhead(self) -> usize {
        self.before + self.after
    }
}

/// The data header of a sealed packet for the receiver's SA `index`.
pub const fn header(instance_id: InstanceId, index: SaIndex) -> [u8; DataHeader::LEN] {
    DataHeader {
        nonce: Some(index.get()),
        key_id: KEY_ID,
        ..DataHeader::clear(instance_id)
    }
    .encode()
}
