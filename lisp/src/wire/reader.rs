//! A cursor over untrusted bytes. Everything that reads a message goes through it: it never panics, never reads past
//! the part of the message that was given to it, and its errors name the byte and the field.

use super::WireError;

/// Reads big-endian fields from a message, or from a length-delimited part of one. Offsets in errors count from the
/// start of the message, also inside a part.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Over a whole UDP payload.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0 }
    }

    /// Bytes from the start of the message to the cursor.
    pub(crate) const fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes that are left.
    pub(crate) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether nothing is left.
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left, without moving.
    pub(crate) const fn peek(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    pub(crate) fn bytes(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(WireError::Truncated {
                offset: self.offset,
                field,
                needed: count.saturating_sub(self.rest.len()),
            });
        };
        self.rest = rest;
        self.offset = self.offset.saturating_add(count);
        Ok(taken)
    }

    /// The next `N` bytes, by value.
    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let offset = self.offset;
        let taken = self.bytes(N, field)?;
        taken.try_into().map_err(|_| WireError::Truncated {
            offset,
            field,
            needed: N.saturating_sub(taken.len()),
        })
    }

    /// One byte.
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// Two bytes.
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// Eight bytes.
    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// The next `count` bytes as a part of their own, which cannot be read past its end. The cursor moves behind it,
    /// however much of it is understood.
    pub(crate) fn part(&mut self, count: usize, field: &'static str) -> Result<Self, WireError> {
        let offset = self.offset;
        Ok(Self {
            rest: self.bytes(count, field)?,
            offset,
        })
    }

    /// An error unless everything was read.
    pub(crate) fn finish(&self) -> Result<(), WireError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(WireError::Trailing {
                offset: self.offset,
                count: self.remaining(),
            })
        }
    }
}

/// The first word of a control message, after checking the type code in its high four bits (RFC 9301 §5.1).
pub(crate) fn first_word(reader: &mut Reader<'_>, expected: u8) -> Result<u32, WireError> {
    let word = reader.u32("first word")?;
    let found = (word >> 28) as u8;
    if found == expected {
        Ok(word)
    } else {
        Err(WireError::WrongType { found, expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_big_endian_and_errors_name_the_byte() {
        let mut reader = Reader::new(&[1, 0, 2, 0, 0, 0, 3, 9]);
        assert_eq!(reader.u8("a"), Ok(1));
        assert_eq!(reader.u16("b"), Ok(2));
        assert_eq!(reader.u32("c"), Ok(3));
        assert_eq!(reader.offset(), 7);
        assert_eq!(
            reader.u16("d"),
            Err(WireError::Truncated {
                offset: 7,
                field: "d",
                needed: 1
            })
        );
        assert_eq!(reader.remaining(), 1, "a failed read takes nothing");
        assert_eq!(reader.finish(), Err(WireError::Trailing { offset: 7, count: 1 }));
    }

    #[test]
    fn a_part_ends_where_it_was_cut_and_the_cursor_is_behind_it() {
        let mut reader = Reader::new(&[1, 2, 3, 4]);
        let mut part = reader.part(2, "part").unwrap();
        assert_eq!(part.u8("x"), Ok(1));
        assert_eq!(
            part.u16("y"),
            Err(WireError::Truncated {
                offset: 1,
                field: "y",
                needed: 1
            })
        );
        assert_eq!(reader.u8("z"), Ok(3));
    }
}
