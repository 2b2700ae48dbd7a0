//! IPv6 EIDs that are the hash of a key: nobody can claim one without it, whatever a Map-Server says.

use std::net::{IpAddr, Ipv6Addr};

use ring::digest;

use super::PublicKey;
use crate::{Eid, InstanceId};

/// Every such EID begins with these 8 bits (`fd00::/8`).
pub const CRYPTO_EID_PREFIX: u8 = 0xfd;

/// `fd` and the first 120 bits of SHA-256(Instance-ID as 4 bytes ‖ `fd` ‖ SubjectPublicKeyInfo). `None` when `key` is no
/// point of the curve.
pub fn crypto_eid(instance_id: InstanceId, key: &PublicKey) -> Option<Eid> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&instance_id.get().to_be_bytes());
    context.update(&[CRYPTO_EID_PREFIX]);
    context.update(&key.spki()?);
    let hash = context.finish();
    let mut address = [CRYPTO_EID_PREFIX; 16];
    for (byte, of_hash) in address.iter_mut().skip(1).zip(hash.as_ref()) {
        *byte = *of_hash;
    }
    Some(Eid::new(instance_id, IpAddr::V6(Ipv6Addr::from(address))))
}

/// Whether `eid` is the hash of `key`. Always computed anew, never remembered.
#[must_use]
pub fn is_crypto_eid_of(eid: &Eid, key: &PublicKey) -> bool {
    crypto_eid(eid.instance_id, key).as_ref() == Some(eid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Signer, SoftwareKey};

    #[test]
    fn an_eid_is_of_one_key_in_one_instance() {
        let key = |n: u8| SoftwareKey::from_bytes(&[n; 32]).unwrap().public_key();
        let of = |instance: u32, n: u8| crypto_eid(InstanceId::new(instance).unwrap(), &key(n)).unwrap();
        assert!(is_crypto_eid_of(&of(7, 1), &key(1)));
        assert!(!is_crypto_eid_of(&of(7, 1), &key(2)));
        assert_ne!(of(7, 1).address, of(8, 1).address, "no address in two tenants");
        let IpAddr::V6(address) = of(7, 1).address else {
            panic!("IPv6")
        };
        assert_eq!(address.octets()[0], 0xfd);
    }
}
