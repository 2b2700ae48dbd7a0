//! From a frame of any link type to the IP packet in it.

/// Ethernet.
const ETHERNET: u32 = 1;
/// BSD loopback: a family in the byte order of the machine.
const NULL: u32 = 0;
/// OpenBSD loopback: a family in network byte order.
const LOOP: u32 = 108;
/// Linux cooked.
const LINUX_SLL: u32 = 113;
/// Linux cooked, version 2.
const LINUX_SLL2: u32 = 276;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// VLAN tags: 802.1Q, 802.1ad, and what came before it.
const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// VLAN tags, and tags within tags, that are followed.
const MOST_TAGS: usize = 8;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link<'a> {
    /// An IP packet.
    Ip(&'a [u8]),
    /// Something else, such as ARP.
    Other,
    /// A link type that is not known.
    Unknown(u32),
}

/// The IP packet of a frame.
#[must_use]
pub fn unwrap(link: u32, bytes: &[u8]) -> Link<'_> {
    let found = match link {
        ETHERNET => ether_type(bytes, 12),
        LINUX_SLL => ether_type(bytes, 14),
        LINUX_SLL2 => half(bytes, 0).and_then(|kind| tagged(kind, bytes.get(20..)?)),
        NULL => family(bytes),
        LOOP => family(bytes),
        // Raw IP under its three numbers, and IPv4 and IPv6 alone.
        12 | 14 | 101 | 228 | 229 => Some(bytes),
        other => return Link::Unknown(other),
    };
    found.map_or(Link::Other, Link::Ip)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    bytes.try_into().map(u16::from_be_bytes).ok()
}

/// The packet behind an EtherType at `at`.
fn ether_type(bytes: &[u8], at: usize) -> Option<&[u8]> {
    tagged(half(bytes, at)?, bytes.get(at + 2..)?)
}

/// The packet behind an EtherType and any VLAN tags.
pub fn tagged(mut kind: u16, mut rest: &[u8]) -> Option<&[u8]> {
    for _ in 0..MOST_TAGS {
        match kind {
            IPV4 | IPV6 => return Some(rest),
            tag if VLAN.contains(&tag) => {
                kind = half(rest, 2)?;
                rest = rest.get(4..)?;
            }
            _ => return None,
        }
    }
    None
}

/// Loopback: 2 is IPv4 everywhere, IPv6 has another number on each system; the packet itself says it as well.
fn family(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.get(4..)?;
    matches!(rest.first()? >> 4, 4 | 6).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_type_leads_to_its_packet() {
        let packet = [0x45, 1, 2, 3];
        let with = |head: &[u8]| [head, &packet].concat();
        let cases = [
            (1, with(&[&[0; 12][..], &[8, 0]].concat())),
            (1, with(&[&[0; 12][..], &[0x81, 0, 0, 7, 8, 0]].concat())),
            (
                1,
                with(&[&[0; 12][..], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 8, 0]].concat()),
            ),
            (113, with(&[&[0; 14][..], &[8, 0]].concat())),
            (276, with(&[&[8, 0][..], &[0; 18]].concat())),
            (0, with(&[2, 0, 0, 0])),
            (108, with(&[0, 0, 0, 2])),
            (101, with(&[])),
            (228, with(&[])),
        ];
        for (link, bytes) in cases {
            assert_eq!(unwrap(link, &bytes), Link::Ip(&packet), "link type {link}");
            for end in 0..bytes.len() {
                let _ = unwrap(link, &bytes[..end]);
            }
        }
        assert_eq!(unwrap(1, &[&[0; 12][..], &[8, 6, 1]].concat()), Link::Other);
        assert_eq!(unwrap(9999, &[]), Link::Unknown(9999));
    }

    #[test]
    fn endless_tags_end() {
        let tags = [0x81, 0, 0, 1].repeat(100);
        assert_eq!(unwrap(1, &[&[0; 12][..], &tags].concat()), Link::Other);
    }
}
