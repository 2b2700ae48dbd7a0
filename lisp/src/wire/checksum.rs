//! The Internet checksum (RFC 1071), for the inner headers of an ECM.

use std::net::IpAddr;

/// A running one's complement sum.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checksum(u64);

impl Checksum {
    /// Over `bytes`, padded with a zero to an even length.
    pub(super) fn over(bytes: &[u8]) -> Self {
        Self::default().add(bytes)
    }

    /// Over a UDP datagram and its IPv4 (RFC 768) or IPv6 (RFC 8200 §8.1) pseudo-header.
    pub(super) fn udp(source: IpAddr, destination: IpAddr, datagram: &[u8]) -> Self {
        let addresses = |sum: Self, address: IpAddr| match address {
            IpAddr::V4(address) => sum.add(&address.octets()),
            IpAddr::V6(address) => sum.add(&address.octets()),
        };
        let sum = addresses(addresses(Self::default(), source), destination);
        // Both pseudo-headers add the same up: the protocol, 17, and the length.
        let sum = Self(sum.0.wrapping_add(17).wrapping_add(datagram.len() as u64));
        sum.add(datagram)
    }

    fn add(self, bytes: &[u8]) -> Self {
        let words = bytes.chunks(2).map(|chunk| match *chunk {
            [high, low] => u64::from(u16::from_be_bytes([high, low])),
            [high] => u64::from(high) << 8,
            _ => 0,
        });
        // A message has fewer than 2^16 bytes, so 64 bits cannot overflow.
        Self(words.fold(self.0, u64::wrapping_add))
    }

    /// The checksum to put on the wire; 0 when the bytes held a right one already.
    pub(super) const fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Checksum::over(&bytes).finish(), !0xddf2);
    }

    #[test]
    fn an_odd_byte_is_the_high_half_of_a_word() {
        assert_eq!(Checksum::over(&[0x12]).finish(), Checksum::over(&[0x12, 0]).finish());
    }
}
