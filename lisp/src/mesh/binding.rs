//! Bindings: "this node speaks for this EID-prefix", signed by the EID's own key or by the network's authority.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{KeyId, PublicKey, Signature, Signer, bytes::Fields, crypto_eid::is_crypto_eid_of};
use crate::{Eid, EidPrefix, InstanceId};

const LABEL: &[u8] = b"weft mesh binding 1\0";
/// First byte of the issuer field.
const BY_EID_KEY: u8 = 1;
const BY_AUTHORITY: u8 = 2;

/// Who signed a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// The key that the EID is the hash of. The prefix is that one address.
    EidKey(PublicKey),
    /// The network's authority, for EIDs that are no hash: an IPv4 address, a prefix, a configured IPv6 address.
    Authority,
}

/// The part of a binding that travels where prefix and node key are known from elsewhere in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The highest epoch ever seen for a prefix wins, and is remembered: a former host cannot take a guest back.
    pub epoch: u64,
    /// Seconds since the Unix epoch; not valid at that instant any more.
    pub not_after: u64,
    /// Who signed.
    pub issuer: Issuer,
    /// Over prefix, node key, epoch and not-after.
    pub signature: Signature,
}

/// "This node speaks for this EID-prefix."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// What it speaks for.
    pub prefix: EidPrefix,
    /// Which node.
    pub node: PublicKey,
    /// Since when, until when, and who says so.
    pub statement: Statement,
}

/// Why a binding is not believed. Each is a counter's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// Past its not-after.
    #[error("the binding has expired")]
    Expired,
    /// The EID is not the hash of the key that signed.
    #[error("the EID is not the hash of the key that signed the binding")]
    NotTheHash,
    /// Only the network's authority can sign for such a prefix, and none is known.
    #[error("the network has no authority key that could sign for this prefix")]
    NoAuthority,
    /// The signature is not the issuer's over these words.
    #[error("the binding's signature does not verify")]
    BadSignature,
}

impl Binding {
    /// Bytes of a binding on its own: what a statement file holds.
    pub const MAX_LEN: usize = 4 + 1 + 1 + 16 + PublicKey::LEN + Statement::MAX_LEN;

    /// Signs one with the EID's own key. The prefix is the EID that the key hashes to in `instance_id`. `None` when the
    /// key is no point of the curve.
    pub fn by_eid_key(
        instance_id: InstanceId,
        key: &dyn Signer,
        node: PublicKey,
        epoch: u64,
        not_after: u64,
    ) -> Option<Self> {
        let public = key.public_key();
        let prefix = super::crypto_eid(instance_id, &public)?.host_prefix();
        Some(Self::sign(prefix, node, epoch, not_after, Issuer::EidKey(public), key))
    }

    /// Signs one with the network's authority key.
    pub fn by_authority(
        prefix: EidPrefix,
        authority: &dyn Signer,
        node: PublicKey,
        epoch: u64,
        not_after: u64,
    ) -> Self {
        Self::sign(prefix, node, epoch, not_after, Issuer::Authority, authority)
    }

    fn sign(
        prefix: EidPrefix,
        node: PublicKey,
        epoch: u64,
        not_after: u64,
        issuer: Issuer,
        signer: &dyn Signer,
    ) -> Self {
        let signature = signer.sign(&words(&prefix, &node, epoch, not_after));
        let statement = Statement {
            epoch,
            not_after,
            issuer,
            signature,
        };
        Self {
            prefix,
            node,
            statement,
        }
    }

    /// Whether it holds at `now` (seconds since the Unix epoch) in a network with this authority. The hash of the key is
    /// computed anew each time.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(&self, authority: Option<&PublicKey>, now: u64) -> Result<(), BindingError> {
        let Statement {
            epoch,
            not_after,
            issuer,
            signature,
        } = &self.statement;
        if now >= *not_after {
            return Err(BindingError::Expired);
        }
        let key = match issuer {
            Issuer::EidKey(key) => {
                let eid = self.prefix.first_eid();
                if self.prefix != eid.host_prefix() || !is_crypto_eid_of(&eid, key) {
                    return Err(BindingError::NotTheHash);
                }
                key
            }
            Issuer::Authority => authority.ok_or(BindingError::NoAuthority)?,
        };
        if key.verify(&words(&self.prefix, &self.node, *epoch, *not_after), signature) {
            Ok(())
        } else {
            Err(BindingError::BadSignature)
        }
    }

    /// The name of the node. `None` when its key is no point of the curve.
    pub fn node_id(&self) -> Option<KeyId> {
        self.node.id()
    }

    /// As a statement file or a sealed control message holds it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = prefix_bytes(&self.prefix);
        bytes.extend_from_slice(self.node.as_bytes());
        self.statement.write(&mut bytes);
        bytes
    }

    /// Reads one from the front of `bytes`; gives what stands behind it.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut fields = Fields(bytes);
        let prefix = read_prefix(&mut fields)?;
        let node = PublicKey::from_bytes(fields.array()?);
        let statement = Statement::read(&mut fields)?;
        let binding = Self {
            prefix,
            node,
            statement,
        };
        Some((binding, fields.rest()))
    }
}

impl Statement {
    /// Bytes of the longest one.
    pub const MAX_LEN: usize = 8 + 8 + 1 + PublicKey::LEN + Signature::LEN;

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.not_after.to_be_bytes());
        match &self.issuer {
            Issuer::EidKey(key) => {
                bytes.push(BY_EID_KEY);
                bytes.extend_from_slice(key.as_bytes());
            }
            Issuer::Authority => bytes.push(BY_AUTHORITY),
        }
        bytes.extend_from_slice(&self.signature.0);
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (epoch, not_after) = (fields.u64()?, fields.u64()?);
        let issuer = match fields.u8()? {
            BY_EID_KEY => Issuer::EidKey(PublicKey::from_bytes(fields.array()?)),
            BY_AUTHORITY => Issuer::Authority,
            _ => return None,
        };
        Some(Self {
            epoch,
            not_after,
            issuer,
            signature: Signature(fields.array()?),
        })
    }
}

/// What is signed.
fn words(prefix: &EidPrefix, node: &PublicKey, epoch: u64, not_after: u64) -> Vec<u8> {
    let mut words = LABEL.to_vec();
    words.extend(prefix_bytes(prefix));
    words.extend_from_slice(node.as_bytes());
    words.extend_from_slice(&epoch.to_be_bytes());
    words.extend_from_slice(&not_after.to_be_bytes());
    words
}

/// Instance-ID (4), address family 4 or 6 (1), mask length (1), address (4 or 16).
fn prefix_bytes(prefix: &EidPrefix) -> Vec<u8> {
    let mut bytes = prefix.instance_id().get().to_be_bytes().to_vec();
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
    bytes
}

fn read_prefix(fields: &mut Fields<'_>) -> Option<EidPrefix> {
    let instance_id = InstanceId::new(u32::from_be_bytes(fields.array()?))?;
    let (family, length) = (fields.u8()?, fields.u8()?);
    let address: IpAddr = match family {
        4 => Ipv4Addr::from(fields.array::<4>()?).into(),
        6 => Ipv6Addr::from(fields.array::<16>()?).into(),
        _ => return None,
    };
    let prefix = EidPrefix::from_parts(instance_id, address, length).ok()?;
    // One encoding for one prefix.
    (prefix.first_eid() == Eid::new(instance_id, address)).then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::SoftwareKey;

    fn key(n: u8) -> SoftwareKey {
        SoftwareKey::from_bytes(&[n; 32]).unwrap()
    }

    fn instance() -> InstanceId {
        InstanceId::new(7).unwrap()
    }

    #[test]
    fn the_eid_key_binds_its_hash_and_nothing_else() {
        let binding = Binding::by_eid_key(instance(), &key(1), key(9).public_key(), 5, 100).unwrap();
        assert_eq!(binding.verify(None, 99), Ok(()));
        assert_eq!(binding.verify(None, 100), Err(BindingError::Expired));
        let mut other = binding;
        other.prefix = "[7]fd00::1".parse().unwrap();
        assert_eq!(other.verify(None, 0), Err(BindingError::NotTheHash));
        let mut other = binding;
        other.statement.issuer = Issuer::EidKey(key(2).public_key());
        assert_eq!(other.verify(None, 0), Err(BindingError::NotTheHash));
        for change in [
            |binding: &mut Binding| binding.node = key(8).public_key(),
            |binding: &mut Binding| binding.statement.epoch = 6,
            |binding: &mut Binding| binding.statement.not_after = 101,
        ] {
            let mut other = binding;
            change(&mut other);
            assert_eq!(other.verify(None, 0), Err(BindingError::BadSignature));
        }
    }

    #[test]
    fn an_address_that_is_no_hash_is_the_authoritys_to_bind() {
        let prefix = "[7]10.7.2.0/24".parse().unwrap();
        let binding = Binding::by_authority(prefix, &key(3), key(9).public_key(), 5, 100);
        assert_eq!(binding.verify(Some(&key(3).public_key()), 0), Ok(()));
        assert_eq!(binding.verify(None, 0), Err(BindingError::NoAuthority));
        assert_eq!(
            binding.verify(Some(&key(4).public_key()), 0),
            Err(BindingError::BadSignature)
        );
        // An EID key cannot speak for one, whatever it signs.
        let forged = Binding::sign(
            prefix,
            key(9).public_key(),
            5,
            100,
            Issuer::EidKey(key(1).public_key()),
            &key(1),
        );
        assert_eq!(
            forged.verify(Some(&key(3).public_key()), 0),
            Err(BindingError::NotTheHash)
        );
    }

    #[test]
    fn bytes_are_read_back_and_what_is_short_is_none() {
        let hash = Binding::by_eid_key(instance(), &key(1), key(9).public_key(), 5, 100).unwrap();
        let slice = Binding::by_authority("[7]10.7.2.0/24".parse().unwrap(), &key(3), key(9).public_key(), 5, 100);
        for binding in [hash, slice] {
            let mut bytes = binding.to_bytes();
            assert!(bytes.len() <= Binding::MAX_LEN);
            for short in 0..bytes.len() {
                assert_eq!(Binding::read(&bytes[..short]), None);
            }
            bytes.push(1);
            assert_eq!(Binding::read(&bytes), Some((binding, &[1][..])));
        }
        let mut host_bits = slice.to_bytes();
        host_bits[9] = 1;
        assert_eq!(Binding::read(&host_bits), None, "a prefix has one encoding");
    }
}
