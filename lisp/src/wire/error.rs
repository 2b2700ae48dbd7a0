//! What is wrong with bytes that are no valid message.

/// Why bytes are no valid LISP message. Says where (byte offset) and what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The message ends before `field` is complete.
    #[error("truncated at byte {offset}: {field} needs {needed} more bytes")]
    Truncated {
        /// Byte offset from the start of the message.
        offset: usize,
        /// Which field.
        field: &'static str,
        /// How many bytes are missing.
        needed: usize,
    },
    /// An address family this decoder must not pass over (RFC 9301 §5: drop the whole message).
    #[error("unrecognised AFI {afi} at byte {offset}")]
    UnknownAfi {
        /// Byte offset of the AFI.
        offset: usize,
        /// The AFI.
        afi: u16,
    },
    /// Another type than the one asked for.
    #[error("message type {found}, expected {expected}")]
    WrongType {
        /// High nibble of byte 0.
        found: u8,
        /// What the decoder reads.
        expected: u8,
    },
    /// A type code no decoder knows.
    #[error("unknown message type {0}")]
    UnknownType(u8),
    /// A field holds a value it may not have.
    #[error("{field} at byte {offset}: {reason}")]
    Invalid {
        /// Byte offset of the field.
        offset: usize,
        /// Which field.
        field: &'static str,
        /// What it says and what it may say.
        reason: String,
    },
    /// LCAFs nested deeper than the limit.
    #[error("LCAFs nested deeper than {limit} at byte {offset}")]
    TooDeep {
        /// Byte offset of the innermost LCAF read.
        offset: usize,
        /// The limit.
        limit: usize,
    },
    /// Bytes after the end of what the counts announce.
    #[error("{count} bytes left over at byte {offset}")]
    Trailing {
        /// Byte offset.
        offset: usize,
        /// How many.
        count: usize,
    },
}

/// Why a value has no encoding. Returned by every `try_encode`; the `encode` of the same type leaves out what does
/// not fit instead, and writes the counts of what it wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// More than the count field can say.
    #[error("{count} {what}, at most {max} fit one message")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many fit.
        max: usize,
    },
    /// More bytes than the length field can say.
    #[error("{what} of {len} bytes, at most {max} fit")]
    TooLong {
        /// Of what.
        what: &'static str,
        /// How many there are.
        len: usize,
        /// How many fit.
        max: usize,
    },
    /// A number wider than its field.
    #[error("{what} {value} is greater than {max}")]
    TooLarge {
        /// Which field.
        what: &'static str,
        /// Its value.
        value: u32,
        /// The greatest that fits.
        max: u32,
    },
    /// A value that no receiver could read back.
    #[error("{what}: {reason}")]
    Invalid {
        /// Which field.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}
