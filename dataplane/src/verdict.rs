//! How a packet ends: a counted word, never a string on the hot path.

/// Why a packet was dropped. Each is a counter `drop.<word>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum DropReason {
    /// No rule of the policy allows it.
    PolicyDenied,
}
