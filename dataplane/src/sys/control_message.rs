//! Ancillary data of `sendmsg` and `recvmsg`, built and read as plain bytes (no pointers, hence no `unsafe`).

/// Room for the ancillary data of one message, aligned as `cmsghdr` asks.
#[repr(align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Buffer {
    /// The bytes.
    pub bytes: [u8; Self::SIZE],
}

/// Bytes of `cmsghdr`: a `size_t` and two `int`s, padded to the alignment of `size_t`.
const HEADER: usize = size_of::<libc::cmsghdr>();
const ALIGN: usize = size_of::<usize>();

impl Buffer {
    /// Enough for a GSO size, a TTL and a TOS each way.
    pub(crate) const SIZE: usize = 96;

    /// All zeroes.
    pub(crate) const EMPTY: Self = Self { bytes: [0; Self::SIZE] };

    /// Appends one item at `*used` and moves it on; does nothing when the room is used up.
    pub(crate) fn push(&mut self, used: &mut usize, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let length = HEADER + data.len();
        let Some(item) = self.bytes.get_mut(*used..*used + length.next_multiple_of(ALIGN)) else {
            return;
        };
        let (header, body) = item.split_at_mut(HEADER);
        header[..ALIGN].copy_from_slice(&length.to_ne_bytes());
        header[ALIGN..ALIGN + 4].copy_from_slice(&level.to_ne_bytes());
        header[ALIGN + 4..ALIGN + 8].copy_from_slice(&kind.to_ne_bytes());
        body[..data.len()].copy_from_slice(data);
        *used += length.next_multiple_of(ALIGN);
    }
}

/// Calls `visit(level, kind, data)` for each item in `bytes`; stops at the first that does not fit.
pub(crate) fn for_each(mut bytes: &[u8], mut visit: impl FnMut(libc::c_int, libc::c_int, &[u8])) {
    while let (Some(length), Some(level), Some(kind)) =
        (read_usize(bytes), read_int(bytes, ALIGN), read_int(bytes, ALIGN + 4))
    {
        let Some(data) = bytes.get(HEADER..length) else { return };
        visit(level, kind, data);
        let Some(rest) = bytes.get(length.next_multiple_of(ALIGN)..) else {
            return;
        };
        bytes = rest;
    }
}

/// An `int`, or a single byte (`IP_TOS` comes as one).
pub(crate) fn value(data: &[u8]) -> Option<libc::c_int> {
    read_int(data, 0).or_else(|| data.first().map(|&byte| libc::c_int::from(byte)))
}

fn read_usize(bytes: &[u8]) -> Option<usize> {
    Some(usize::from_ne_bytes(bytes.get(..ALIGN)?.try_into().ok()?))
}

fn read_int(bytes: &[u8], at: usize) -> Option<libc::c_int> {
    Some(libc::c_int::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_as_they_were_pushed() {
        let mut buffer = Buffer::EMPTY;
        let mut used = 0;
        buffer.push(&mut used, libc::SOL_UDP, libc::UDP_SEGMENT, &1400u16.to_ne_bytes());
        buffer.push(&mut used, libc::IPPROTO_IP, libc::IP_TTL, &63i32.to_ne_bytes());
        assert_eq!(used, 2 * 24);
        let mut seen = Vec::new();
        for_each(&buffer.bytes[..used], |level, kind, data| {
            seen.push((level, kind, data.to_vec()));
        });
        assert_eq!(
            seen,
            [
                (libc::SOL_UDP, libc::UDP_SEGMENT, 1400u16.to_ne_bytes().to_vec()),
                (libc::IPPROTO_IP, libc::IP_TTL, 63i32.to_ne_bytes().to_vec()),
            ]
        );
    }

    #[test]
    fn lengths_that_lie_end_the_walk() {
        for length in [0usize, 1, HEADER - 1, 97, usize::MAX] {
            let mut bytes = [0u8; 32];
            bytes[..ALIGN].copy_from_slice(&length.to_ne_bytes());
            let mut seen = 0;
            for_each(&bytes, |_, _, _| seen += 1);
            assert_eq!(seen, 0, "length {length}");
        }
    }

    #[test]
    fn more_than_fits_is_left_out() {
        let mut buffer = Buffer::EMPTY;
        let mut used = 0;
        for _ in 0..10 {
            buffer.push(&mut used, 0, 0, &[0; 4]);
        }
        assert_eq!(used, Buffer::SIZE);
    }
}
