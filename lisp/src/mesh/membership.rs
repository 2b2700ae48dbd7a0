//! Memberships: "this node may join this network", signed by the network's authority. An EID proves identity, not
//! permission: anybody can mint one.

use super::{PublicKey, Signature, Signer, bytes::Fields};
use crate::InstanceId;

const LABEL: &[u8] = b"weft mesh membership 1\0";

/// The part of a membership that travels where Instance-ID and node key are known from elsewhere in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Seconds since the Unix epoch; not valid at that instant any more.
    pub not_after: u64,
    /// The authority's.
    pub signature: Signature,
}

/// "This node may join this network."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Which network.
    pub instance_id: InstanceId,
    /// Which node.
    pub node: PublicKey,
    /// Until when, and the signature.
    pub permit: Permit,
}

impl Membership {
    /// Bytes of one on its own: what a statement file holds.
    pub const LEN: usize = 4 + PublicKey::LEN + Permit::LEN;

    /// Signs one.
    pub fn sign(instance_id: InstanceId, node: PublicKey, not_after: u64, authority: &dyn Signer) -> Self {
        let signature = authority.sign(&words(instance_id, &node, not_after));
        let permit = Permit { not_after, signature };
        Self {
            instance_id,
            node,
            permit,
        }
    }

    /// Whether it holds at `now` (seconds since the Unix epoch).
    #[must_use]
    pub fn verify(&self, authority: &PublicKey, now: u64) -> bool {
        let Permit { not_after, signature } = &self.permit;
        now < *not_after && authority.verify(&words(self.instance_id, &self.node, *not_after), signature)
    }

    /// As a statement file holds it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.instance_id.get().to_be_bytes().to_vec();
        bytes.extend_from_slice(self.node.as_bytes());
        self.permit.write(&mut bytes);
        bytes
    }

    /// Reads one; nothing may stand behind it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let membership = Self {
            instance_id: InstanceId::new(u32::from_be_bytes(fields.array()?))?,
            node: PublicKey::from_bytes(fields.array()?),
            permit: Permit::read(&mut fields)?,
        };
        fields.is_empty().then_some(membership)
    }
}

impl Permit {
    /// Bytes of one.
    pub const LEN: usize = 8 + Signature::LEN;

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.not_after.to_be_bytes());
        bytes.extend_from_slice(&self.signature.0);
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            not_after: fields.u64()?,
            signature: Signature(fields.array()?),
        })
    }
}

fn words(instance_id: InstanceId, node: &PublicKey, not_after: u64) -> Vec<u8> {
    let mut words = LABEL.to_vec();
    words.extend_from_slice(&instance_id.get().to_be_bytes());
    words.extend_from_slice(node.as_bytes());
    words.extend_from_slice(&not_after.to_be_bytes());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::SoftwareKey;

    #[test]
    fn a_membership_is_for_one_node_in_one_network_until_its_end() {
        let key = |n: u8| SoftwareKey::from_bytes(&[n; 32]).unwrap();
        let (authority, node) = (key(3), key(9).public_key());
        let seven = InstanceId::new(7).unwrap();
        let membership = Membership::sign(seven, node, 100, &authority);
        assert!(membership.verify(&authority.public_key(), 99));
        assert!(!membership.verify(&authority.public_key(), 100));
        assert!(!membership.verify(&key(4).public_key(), 0));
        let mut other = membership;
        other.instance_id = InstanceId::new(8).unwrap();
        assert!(!other.verify(&authority.public_key(), 0));
        let mut other = membership;
        other.node = key(8).public_key();
        assert!(!other.verify(&authority.public_key(), 0));
        let bytes = membership.to_bytes();
        assert_eq!(bytes.len(), Membership::LEN);
        assert_eq!(Membership::decode(&bytes), Some(membership));
        assert_eq!(Membership::decode(&bytes[1..]), None);
    }
}
