//! Who this node is in sealed networks, and who else may join them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use lisp::{
    InstanceId,
    mesh::{Permit, PublicKey, Signer, Suite},
};

/// Who this node is in sealed networks, and which those are. Instance-IDs that are not named are in clear.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedMesh {
    /// The node's key. Without one nothing is said and nothing believed in a sealed network.
    pub identity: Option<Identity>,
    /// The sealed networks.
    pub networks: BTreeMap<InstanceId, SealedNetwork>,
    /// Suites that this node speaks, the fastest here first. Never empty.
    pub suites: Vec<Suite>,
    /// Receiving workers of the packet path, 1 to 16: each SA has an index for each.
    pub workers: usize,
}

impl Default for SealedMesh {
    fn default() -> Self {
        Self {
            identity: None,
            networks: BTreeMap::new(),
            suites: vec![Suite::Aes128Gcm, Suite::ChaCha20Poly1305],
            workers: 1,
        }
    }
}

/// A sealed network, as this node is told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealedNetwork {
    /// Signs bindings for EIDs that are no hash, and memberships.
    pub authority: Option<PublicKey>,
    /// Node keys that may join.
    pub nodes: BTreeSet<PublicKey>,
    /// EIDs whose node may join.
    pub eids: BTreeSet<IpAddr>,
    /// This node's own membership.
    pub permit: Option<Permit>,
}

/// A node's key, behind whatever signs with it.
#[derive(Clone)]
pub struct Identity(Arc<dyn Signer>);

impl Identity {
    /// Wraps a signer.
    pub fn new(signer: Arc<dyn Signer>) -> Self {
        Self(signer)
    }

    /// The node's public key.
    pub fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    pub(crate) fn signer(&self) -> &dyn Signer {
        &*self.0
    }
}

/// Equal when it is the same key, wherever it is kept.
impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.public_key() == other.public_key()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public_key())
    }
}
