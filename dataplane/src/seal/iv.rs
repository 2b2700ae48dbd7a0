//! What the IV of a sealed packet says: which of the sender's workers sealed it, and its how manieth packet under this
//! key it is. 12 bytes for suite 5, 8 for suite 6; the counter stands at the end, big-endian.

#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

use lisp::mesh::MAX_WORKERS;

/// Counters end below this: they have 7 bytes in the shorter IV.
pub const COUNTERS: u64 = 1 << 56;

/// Writes it into `to`, which is as long as the suite's IV; `None` when that is shorter than 8 bytes or the counter
/// has no room.
#[inline]
pub fn write(to: &mut [u8], worker: u8, counter: u64) -> Option<()> {
    if counter >= COUNTERS {
        return None;
    }
    let (front, last) = to.split_last_chunk_mut::<8>()?;
    front.fill(0);
    *last = counter.to_be_bytes();
    *to.first_mut()? = worker;
    Some(())
}

/// Reads it; `None` for what [`write`] never writes: a worker beyond 15, a counter of 0 or beyond its room.
#[inline]
pub fn read(from: &[u8]) -> Option<(usize, u64)> {
    let (front, last) = from.split_last_chunk::<8>()?;
    let worker = usize::from(*from.first()?);
    let counter = match front {
        [] => u64::from_be_bytes(*last) & (COUNTERS - 1),
        [_, zeros @ ..] if zeros.iter().all(|byte| *byte == 0) => u64::from_be_bytes(*last),
        _ => return None,
    };
    (worker < MAX_WORKERS && counter != 0 && counter < COUNTERS).then_some((worker, counter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lengths_say_the_same_and_nothing_else_is_read() {
        let (mut long, mut short) = ([0xff; 12], [0xff; 8]);
        write(&mut long, 3, 0x0102_0304).unwrap();
        write(&mut short, 3, 0x0102_0304).unwrap();
        assert_eq!(long, [3, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(short, [3, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(
            (read(&long), read(&short)),
            (Some((3, 0x0102_0304)), Some((3, 0x0102_0304)))
        );
        assert_eq!(write(&mut short, 0, COUNTERS), None);
        for foreign in [
            &[16, 0, 0, 0, 0, 0, 0, 1][..],
            &[0; 8],
            &[0; 12],
            &[0, 0, 0],
            &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1],
        ] {
            assert_eq!(read(foreign), None, "{foreign:?}");
        }
    }
}
