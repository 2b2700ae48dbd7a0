//! The node's keys, and the signed statements that it shows in sealed networks: who it is, that it may join, and what it
//! speaks for. No clock: `now` is the time since the Unix epoch, as the caller knows it.
//!
//! | file | what |
//! |---|---|
//! | `files.rs` | key files: made, read, refused when others may read them |
//! | `statements.rs` | statement files: what was signed elsewhere |
//! | `epochs.rs` | since when this node speaks for a prefix |
//! | `network.rs` | one sealed network: what is served in it, and the statements about that |

mod epochs;
mod files;
mod network;
mod statements;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use lisp::{
    EidPrefix, InstanceId,
    mesh::{Binding, Membership, PublicKey, Signer, SoftwareKey, crypto_eid},
};
use zeroize::Zeroizing;

use crate::intent::{Intent, Name, NetworkKind};
use epochs::Epochs;
pub use files::{generate, key, private_folder, read as read_key, read_or_make, read_private, write_new};
use network::Ring;
pub use network::Standing;
pub use statements::{Statements, binding_line, membership_line};

/// Life of statements that this node signs itself; renewed when less than half is left.
pub const LIFE: Duration = Duration::from_secs(24 * 3600);
/// Statements that were signed elsewhere are warned about when less than this is left.
pub const WARN_BEFORE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Keys and statements of this node.
#[derive(Debug, Default)]
pub struct Keyring {
    node: Option<Arc<SoftwareKey>>,
    networks: BTreeMap<Name, Ring>,
    nics: BTreeMap<(Name, Name), IpAddr>,
    /// What was wrong when it was loaded.
    faults: Vec<String>,
    now: u64,
}

impl Keyring {
    /// Loads the keys and statements that the intent speaks of, makes the keys that it leaves to the node (in
    /// `state_dir`/keys), and signs what can be signed here. `secret` gives the bytes of a `Secret` by its name. `intent`
    /// is the one that was validated, not one that [`Keyring::complete`] has added to. Without a sealed network nothing
    /// is read and nothing is made.
    ///
    /// # Errors
    /// In words, when the node has no key of its own. Everything else that is wrong concerns a part only:
    /// [`Keyring::warnings`], [`Keyring::unbound`].
    pub fn load(
        intent: &Intent,
        secret: impl Fn(&str) -> Result<Zeroizing<Vec<u8>>, String>,
        state_dir: &Path,
        now: Duration,
    ) -> Result<Self, Vec<String>> {
        let mut ring = Self::default();
        if !intent.networks.values().any(|network| network.sealed().is_some()) {
            return Ok(ring);
        }
        let keys = state_dir.join("keys");
        let named = |name: &str| -> Result<SoftwareKey, String> {
            let bytes = secret(name)?;
            key(&bytes).map_err(|error| format!("Secret {name}: {error}"))
        };
        let node = match intent.node.as_ref().and_then(|node| node.key.as_ref()) {
            Some(name) => named(name),
            None => read_or_make(&keys.join("node.key")),
        };
        let node = Arc::new(node.map_err(|error| vec![format!("the node's key: {error}")])?);
        for (name, network) in &intent.networks {
            let Some((mesh, sealed)) = network.sealed() else {
                continue;
            };
            let mut found = Ring::new(name, mesh, sealed, &node);
            found.read_secrets(sealed, &secret, &mut ring.faults);
            ring.networks.insert(name.clone(), found);
        }
        for (guest, spec) in &intent.guests {
            for nic in &spec.nics {
                let Some(mesh) = intent.networks.get(&nic.network).and_then(|network| network.mesh()) else {
                    continue;
                };
                let Some(found) = ring.networks.get_mut(&nic.network) else {
                    continue;
                };
                found.serve_nic(nic);
                if !mesh.nic_eid_is_hash(nic) {
                    continue;
                }
                let key = match &nic.key {
                    Some(name) => named(name),
                    // `_` is in no name: two NICs cannot come to share a file.
                    None => read_or_make(&keys.join(format!("eid-{guest}_{}.key", nic.name))),
                };
                match key {
                    Ok(key) => {
                        if let Some(address) = found.serve_key(key) {
                            ring.nics.insert((guest.clone(), nic.name.clone()), address);
                        }
                    }
                    Err(error) => {
                        let fault = format!(
                            "guest {guest}, NIC {}: no address is made of its key: {error}",
                            nic.name
                        );
                        ring.faults.push(fault);
                    }
                }
            }
        }
        let (mut epochs, warning) = Epochs::read(&keys.join("epochs.json"));
        ring.faults.extend(warning);
        let served: BTreeSet<EidPrefix> = ring.networks.values().flat_map(Ring::served).collect();
        ring.faults.extend(epochs.serve(&served, now).err());
        for found in ring.networks.values_mut() {
            found.take_epochs(&epochs);
        }
        ring.node = Some(node);
        ring.renew(now);
        Ok(ring)
    }

    /// Signs anew what is half through its life, and lets go of what has expired. Whether anything changed. Cheap when
    /// nothing is due: every few minutes is right.
    pub fn renew(&mut self, now: Duration) -> bool {
        self.now = now.as_secs();
        let Some(node) = &self.node else {
            return false;
        };
        let mut changed = false;
        for ring in self.networks.values_mut() {
            changed |= ring.renew(node.public_key(), self.now);
        }
        changed
    }

    /// The node's key; none: there is no sealed network.
    #[must_use]
    pub fn node(&self) -> Option<Arc<dyn Signer>> {
        let node = self.node.clone()?;
        Some(node)
    }

    /// This node's own membership of a sealed network, where it has a valid one.
    #[must_use]
    pub fn membership(&self, network: &str) -> Option<&Membership> {
        self.networks.get(network)?.membership()
    }

    /// By what this node may join a sealed network.
    #[must_use]
    pub fn standing(&self, network: &str) -> Option<Standing> {
        let node = self.node.as_ref()?.public_key();
        Some(self.networks.get(network)?.standing(&node))
    }

    /// Valid bindings of everything that this node serves in sealed networks, at most one for a prefix.
    #[must_use]
    pub fn bindings(&self) -> Vec<Binding> {
        self.networks.values().flat_map(Ring::bindings).copied().collect()
    }

    /// The binding of one prefix.
    #[must_use]
    pub fn binding(&self, prefix: &EidPrefix) -> Option<&Binding> {
        self.networks
            .values()
            .flat_map(Ring::bindings)
            .find(|binding| binding.prefix == *prefix)
    }

    /// What this node would serve in sealed networks and has no valid binding for, with the reason: not to be
    /// registered.
    #[must_use]
    pub fn unbound(&self) -> BTreeMap<EidPrefix, String> {
        self.networks.values().flat_map(Ring::unbound).collect()
    }

    /// The EID of a NIC that is the hash of its key.
    #[must_use]
    pub fn eid_of(&self, guest: &str, nic: &str) -> Option<IpAddr> {
        self.nics.get(&(guest.to_owned(), nic.to_owned())).copied()
    }

    /// This node's own EID in a sealed network, where that is the hash of its key.
    #[must_use]
    pub fn node_eid(&self, network: &str) -> Option<IpAddr> {
        self.networks.get(network)?.node_eid
    }

    /// Adds the addresses that are hashes of keys to an intent: what everything but the keyring itself goes by.
    pub fn complete(&self, intent: &mut Intent) {
        for (name, guest) in &mut intent.guests {
            for nic in &mut guest.nics {
                if let Some(eid) = self.eid_of(name, &nic.name)
                    && !nic.addresses.contains(&eid)
                {
                    nic.addresses.insert(0, eid);
                }
            }
        }
        for (name, network) in &mut intent.networks {
            if let (Some(eid), NetworkKind::Mesh(mesh)) = (self.node_eid(name), &mut network.kind)
                && !mesh.node_addresses.contains(&eid)
            {
                mesh.node_addresses.insert(0, eid);
            }
        }
    }

    /// What the operator should know: files that could not be used, statements that end soon, networks that this node
    /// may not join.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.faults.clone();
        if let Some(node) = &self.node {
            for ring in self.networks.values() {
                ring.warnings(&node.public_key(), self.now, &mut warnings);
            }
        }
        warnings
    }
}

/// The address that is the hash of a key.
fn address_of(instance_id: InstanceId, key: &PublicKey) -> Option<IpAddr> {
    crypto_eid(instance_id, key).map(|eid| eid.address)
}
