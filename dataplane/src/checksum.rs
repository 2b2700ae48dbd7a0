//! The Internet checksum (RFC 1071): sums, incremental change (RFC 1624), pseudo-headers.

use crate::{
    buffer::Offload,
    bytes::{be8, be16, put16},
    parse::Family,
};

/// Folds a sum of 16-bit words to 16 bits (ones' complement addition).
#[inline]
pub const fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Sum of `bytes` as big-endian 16-bit words (an odd last byte counts as the high half), folded.
///
/// Summed in native order, in lanes that the compiler turns into vector code: ones' complement addition does not
/// mind the byte order as long as the result is swapped at the end.
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    let mut lanes = [0u64; 8];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = lane.wrapping_add(u64::from(u32::from_ne_bytes(*word)));
        }
    }
    // A packet has fewer than 2^16 bytes, so that no lane can wrap.
    let mut total: u64 = lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane));
    let (pairs, last) = rest.as_chunks::<2>();
    for pair in pairs {
        total = total.wrapping_add(u64::from(u16::from_ne_bytes(*pair)));
    }
    if let [last] = last {
        total = total.wrapping_add(u64::from(u16::from_ne_bytes([*last, 0])));
    }
    u16::from_be_bytes(fold(total).to_ne_bytes())
}

/// Sum of the pseudo-header without its length: addresses and protocol (RFC 9293 §3.1, RFC 8200 §8.1).
#[inline]
pub fn pseudo_header(family: Family, source: u128, destination: u128, protocol: u8) -> u64 {
    let words = |address: u128| match family {
        Family::V4 => u64::from(sum(&(address as u32).to_be_bytes())),
        Family::V6 => u64::from(sum(&address.to_be_bytes())),
    };
    words(source) + words(destination) + u64::from(protocol)
}

/// The field's value for a complete sum: its complement, with 0 sent as `0xffff` where 0 means "none" (UDP).
#[inline]
pub const fn finish(sum: u64, zero_means_none: bool) -> u16 {
    let value = !fold(sum);
    if zero_means_none && value == 0 { 0xffff } else { value }
}

/// The checksum field after one 16-bit word that it covers went from `from` to `to` (RFC 1624 §3, equation 3).
#[inline]
pub const fn adjust(field: u16, from: u16, to: u16) -> u16 {
    !fold((!field) as u64 + (!from) as u64 + to as u64)
}

/// Writes the IPv4 header checksum of the header `at..at + length`.
pub fn write_ipv4(bytes: &mut [u8], at: usize, length: usize) -> Option<()> {
    put16(bytes, at.checked_add(10)?, 0)?;
    let value = !sum(bytes.get(at..at.checked_add(length)?)?);
    put16(bytes, at + 10, value)
}

/// Completes a partial checksum in place, up to `end`, and marks it as done. `None` when its offsets lie outside.
pub fn complete(bytes: &mut [u8], end: usize, offload: &mut Offload, zero_means_none: bool) -> Option<()> {
    let Some((start, offset)) = offload.checksum else {
        return Some(());
    };
    let start = usize::from(start);
    let field = start.checked_add(usize::from(offset))?;
    // The field holds the pseudo-header sum, so that it is summed with the rest as it stands.
    let value = finish(u64::from(sum(bytes.get(start..end)?)), zero_means_none);
    if field.checked_add(2)? > end {
        return None;
    }
    put16(bytes, field, value)?;
    offload.checksum = None;
    Some(())
}

/// Decrements the TTL of the IPv4 header, or the hop limit of the IPv6 header, at `at`, and mends the checksum.
pub fn decrement_ttl(bytes: &mut [u8], at: usize, family: Family) -> Option<()> {
    let field = at.checked_add(match family {
        Family::V4 => 8,
        Family::V6 => 7,
    })?;
    let ttl = be8(bytes, field)?;
    set_ttl(bytes, at, family, ttl.saturating_sub(1))
}

/// Sets the TTL or hop limit of the header at `at`, and mends the checksum.
pub fn set_ttl(bytes: &mut [u8], at: usize, family: Family, ttl: u8) -> Option<()> {
    match family {
        Family::V4 => {
            let before = be16(bytes, at.checked_add(8)?)?;
            let after = u16::from(ttl) << 8 | before & 0xff;
            put16(bytes, at + 8, after)?;
            let field = be16(bytes, at.checked_add(10)?)?;
            put16(bytes, at + 10, adjust(field, before, after))
        }
        Family::V6 => {
            *bytes.get_mut(at.checked_add(7)?)? = ttl;
            Some(())
        }
    }
}

/// Sets the two ECN bits of the header at `at`, and mends the checksum.
pub fn set_ecn(bytes: &mut [u8], at: usize, family: Family, ecn: u8) -> Option<()> {
    let before = be16(bytes, at)?;
    match family {
        Family::V4 => {
            let after = before & !3 | u16::from(ecn & 3);
            put16(bytes, at, after)?;
            let field = be16(bytes, at.checked_add(10)?)?;
            put16(bytes, at + 10, adjust(field, before, after))
        }
        Family::V6 => put16(bytes, at, before & !0x30 | u16::from(ecn & 3) << 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u64::from(*b));
        }
        fold(sum)
    }

    #[test]
    fn sums_like_the_definition() {
        let bytes: Vec<u8> = (0..70_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        for length in (0..200).chain([1_399, 1_400, 1_401, 65_535, 70_000]) {
            assert_eq!(sum(&bytes[..length]), slow(&bytes[..length]), "{length} bytes");
        }
        assert_eq!(sum(&vec![0xff; 65_536]), 0xffff);
    }

    #[test]
    fn rfc_1071_example() {
        // RFC 1071 §3: 0001 f203 f4f5 f6f7 sums to ddf2.
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn incremental_change_equals_a_new_sum() {
        let mut header = *b"\x45\x00\x05\x78\x12\x34\x40\x00\x40\x06\x00\x00\x0a\x07\x00\x01\x0a\x07\x00\x02";
        write_ipv4(&mut header, 0, 20).unwrap();
        assert_eq!(sum(&header), 0xffff);
        decrement_ttl(&mut header, 0, Family::V4).unwrap();
        assert_eq!((header[8], sum(&header)), (63, 0xffff));
        set_ecn(&mut header, 0, Family::V4, 3).unwrap();
        assert_eq!((header[1], sum(&header)), (3, 0xffff));
    }

    #[test]
    fn completion_refuses_offsets_beyond_the_end() {
        let mut bytes = [0u8; 40];
        for checksum in [(38, 1), (39, 0), (41, 0), (u16::MAX, u16::MAX), (20, 19)] {
            let mut offload = Offload {
                checksum: Some(checksum),
                ..Offload::default()
            };
            assert_eq!(complete(&mut bytes, 40, &mut offload, false), None, "{checksum:?}");
        }
    }
}
