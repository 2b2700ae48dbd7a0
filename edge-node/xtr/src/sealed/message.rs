//! What two nodes' control parts say to each other inside an SA. Authentic by where it comes from; each message but the
//! acknowledgment is acknowledged by its number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lisp::{
    EidPrefix, InstanceId,
    mesh::{Binding, Membership},
};

const BINDINGS: u8 = 1;
const ACKNOWLEDGMENT: u8 = 2;
const WITHDRAWN: u8 = 3;
const WANTED: u8 = 4;

/// Most bytes of one message.
pub(crate) const LARGEST: usize = 1100;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// "I speak for these too": ahead of the first packet from them; with my memberships in their networks.
    Bindings {
        number: u32,
        memberships: Vec<Membership>,
        bindings: Vec<Binding>,
    },
    /// "I have that."
    Acknowledgment { number: u32 },
    /// "These are no longer here: ask the mapping system."
    Withdrawn { number: u32, prefixes: Vec<EidPrefix> },
    /// "Packets come from these, and I know of no binding to you."
    Wanted { number: u32, prefixes: Vec<EidPrefix> },
}

impl Message {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, number) = match self {
            Self::Bindings { number, .. } => (BINDINGS, number),
            Self::Acknowledgment { number } => (ACKNOWLEDGMENT, number),
            Self::Withdrawn { number, .. } => (WITHDRAWN, number),
            Self::Wanted { number, .. } => (WANTED, number),
        };
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&number.to_be_bytes());
        match self {
            Self::Bindings {
                memberships, bindings, ..
            } => {
                bytes.push(u8::try_from(memberships.len()).unwrap_or_default());
                memberships
                    .iter()
                    .for_each(|membership| bytes.extend(membership.to_bytes()));
                bindings.iter().for_each(|binding| bytes.extend(binding.to_bytes()));
            }
            Self::Withdrawn { prefixes, .. } | Self::Wanted { prefixes, .. } => {
                prefixes.iter().for_each(|prefix| write_prefix(&mut bytes, prefix));
            }
            Self::Acknowledgment { .. } => {}
        }
        bytes
    }

    /// `None`: it is no message.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (number, mut rest) = rest.split_first_chunk::<4>()?;
        let number = u32::from_be_bytes(*number);
        match *kind {
            BINDINGS => {
                let (count, behind) = rest.split_first()?;
                rest = behind;
                let mut memberships = Vec::new();
                for _ in 0..*count {
                    let (membership, behind) = rest.split_at_checked(Membership::LEN)?;
                    memberships.push(Membership::decode(membership)?);
                    rest = behind;
                }
                let mut bindings = Vec::new();
                while !rest.is_empty() {
                    let (binding, behind) = Binding::read(rest)?;
                    bindings.push(binding);
                    rest = behind;
                }
                Some(Self::Bindings {
                    number,
                    memberships,
                    bindings,
                })
            }
            ACKNOWLEDGMENT if rest.is_empty() => Some(Self::Acknowledgment { number }),
            WITHDRAWN | WANTED => {
                let mut prefixes = Vec::new();
                while !rest.is_empty() {
                    let (prefix, behind) = read_prefix(rest)?;
                    prefixes.push(prefix);
                    rest = behind;
                }
                Some(if *kind == WITHDRAWN {
                    Self::Withdrawn { number, prefixes }
                } else {
                    Self::Wanted { number, prefixes }
                })
            }
            _ => None,
        }
    }
}

/// Instance-ID (4), family 4 or 6 (1), mask length (1), address.
fn write_prefix(bytes: &mut Vec<u8>, prefix: &EidPrefix) {
    bytes.extend_from_slice(&prefix.instance_id().get().to_be_bytes());
    match prefix.net().addr() {
        IpAddr::V4(address) => {
            bytes.extend_from_slice(&[4, prefix.length()]);
            bytes.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            bytes.extend_from_slice(&[6, prefix.length()]);
            bytes.extend_from_slice(&address.octets());
        }
    }
}

fn read_prefix(bytes: &[u8]) -> Option<(EidPrefix, &[u8])> {
    let (instance_id, rest) = bytes.split_first_chunk::<4>()?;
    let instance_id = InstanceId::new(u32::from_be_bytes(*instance_id))?;
    let ([family, length], rest) = rest.split_first_chunk::<2>()?;
    let (address, rest): (IpAddr, _) = match family {
        4 => rest
            .split_first_chunk::<4>()
            .map(|(a, rest)| (Ipv4Addr::from(*a).into(), rest))?,
        6 => rest
            .split_first_chunk::<16>()
            .map(|(a, rest)| (Ipv6Addr::from(*a).into(), rest))?,
        _ => return None,
    };
    Some((EidPrefix::from_parts(instance_id, address, *length).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use lisp::mesh::{Signer, SoftwareKey};

    use super::*;

    #[test]
    fn messages_are_read_back_and_what_is_cut_is_none() {
        let key = SoftwareKey::from_bytes(&[1; 32]).unwrap();
        let prefixes: Vec<EidPrefix> = vec!["[7]10.0.0.0/8".parse().unwrap(), "[7]fd00::1".parse().unwrap()];
        let bindings = prefixes
            .iter()
            .map(|prefix| Binding::by_authority(*prefix, &key, key.public_key(), 1, 2))
            .collect();
        for message in [
            Message::Bindings {
                number: 7,
                memberships: vec![Membership::sign(prefixes[0].instance_id(), key.public_key(), 9, &key)],
                bindings,
            },
            Message::Acknowledgment { number: 8 },
            Message::Withdrawn {
                number: 9,
                prefixes: prefixes.clone(),
            },
            Message::Wanted { number: 10, prefixes },
        ] {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes), Some(message.clone()));
            let cut = Message::decode(&bytes[..bytes.len() - 1]);
            assert_ne!(cut, Some(message));
        }
        assert_eq!(Message::decode(&[]), None);
        assert_eq!(Message::decode(&[9, 0, 0, 0, 1]), None);
        assert_eq!(Message::decode(&[2, 0, 0, 0, 1, 0]), None);
    }
}
