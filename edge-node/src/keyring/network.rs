//! One sealed network: what this node serves in it, and the statements that it has about that.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use lisp::{
    Eid, EidPrefix, InstanceId,
    mesh::{Binding, Membership, PublicKey, Signer as _, SoftwareKey},
};
use zeroize::Zeroizing;

use super::{LIFE, WARN_BEFORE, address_of, epochs::Epochs, files, statements::Statements};
use crate::intent::{MemberId, Mesh, Name, Nic, SealedMesh};

/// By what a node may join a sealed network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its key, or an EID that it is bound to, is listed.
    Listed,
    /// It has a membership, until this second of the Unix epoch.
    Membership(u64),
    /// By nothing that this node has: others do not answer it.
    None,
}

#[derive(Debug)]
pub(super) struct Ring {
    name: Name,
    instance_id: InstanceId,
    pub(super) node_eid: Option<IpAddr>,
    authority: Option<PublicKey>,
    members: Vec<MemberId>,
    authority_key: Option<Arc<SoftwareKey>>,
    /// Keys by the address that is their hash.
    keys: BTreeMap<IpAddr, Arc<SoftwareKey>>,
    /// Signed elsewhere.
    statements: Statements,
    /// What is served, with its epoch.
    served: BTreeMap<EidPrefix, u64>,
    bindings: BTreeMap<EidPrefix, Binding>,
    membership: Option<Membership>,
}

impl Ring {
    pub(super) fn new(name: &str, mesh: &Mesh, sealed: &SealedMesh, node: &Arc<SoftwareKey>) -> Self {
        let mut ring = Self {
            name: name.to_owned(),
            instance_id: mesh.instance_id,
            node_eid: None,
            authority: sealed.authority,
            members: sealed.members.iter().map(|member| member.who).collect(),
            authority_key: None,
            keys: BTreeMap::new(),
            statements: Statements::default(),
            served: BTreeMap::new(),
            bindings: BTreeMap::new(),
            membership: None,
        };
        if let Some(address) = address_of(mesh.instance_id, &node.public_key()) {
            ring.keys.insert(address, Arc::clone(node));
            ring.node_eid = mesh.node_eid_is_hash().then_some(address);
        }
        for address in mesh.node_addresses.iter().copied().chain(ring.node_eid) {
            ring.serve(address.into());
        }
        ring
    }

    fn serve(&mut self, net: IpNet) {
        self.served.insert(EidPrefix::new(self.instance_id, net), 0);
    }

    /// What a NIC says that it has.
    pub(super) fn serve_nic(&mut self, nic: &Nic) {
        for net in nic
            .addresses
            .iter()
            .copied()
            .map(IpNet::from)
            .chain(nic.routed.iter().copied())
        {
            self.serve(net);
        }
    }

    /// The address that is the hash of a key.
    pub(super) fn serve_key(&mut self, key: SoftwareKey) -> Option<IpAddr> {
        let address = address_of(self.instance_id, &key.public_key())?;
        self.keys.insert(address, Arc::new(key));
        self.serve(address.into());
        Some(address)
    }

    pub(super) fn served(&self) -> impl Iterator<Item = EidPrefix> {
        self.served.keys().copied()
    }

    pub(super) fn take_epochs(&mut self, epochs: &Epochs) {
        for (prefix, epoch) in &mut self.served {
            *epoch = epochs.of(prefix).unwrap_or_default();
        }
    }

    /// The authority's key and what was signed elsewhere. What cannot be used is told of and left out.
    pub(super) fn read_secrets(
        &mut self,
        sealed: &SealedMesh,
        secret: &impl Fn(&str) -> Result<Zeroizing<Vec<u8>>, String>,
        faults: &mut Vec<String>,
    ) {
        let place = format!("network {}", self.name);
        if let Some(name) = &sealed.authority_key {
            let key = secret(name).and_then(|bytes| files::key(&bytes));
            match key {
                Ok(key) if Some(key.public_key()) == self.authority => self.authority_key = Some(Arc::new(key)),
                Ok(key) => faults.push(format!(
                    "{place}: Secret {name} is not the private half of `authority` but of {}: write that there, or use the \
                     other key",
                    key.public_key()
                )),
                Err(error) => faults.push(format!("{place}: Secret {name}: {error}")),
            }
        }
        for name in sealed.membership.iter().chain(&sealed.bindings) {
            let read = secret(name).and_then(|bytes| {
                let text = std::str::from_utf8(&bytes).map_err(|_| "not text".to_owned())?;
                Statements::read(text)
            });
            match read {
                Ok(statements) => {
                    self.statements.bindings.extend(statements.bindings);
                    self.statements.memberships.extend(statements.memberships);
                }
                Err(error) => faults.push(format!("{place}: Secret {name}: {error}")),
            }
        }
    }

    /// Whether anything changed.
    pub(super) fn renew(&mut self, node: PublicKey, now: u64) -> bool {
        let bindings: BTreeMap<EidPrefix, Binding> = self
            .served
            .iter()
            .filter_map(|(prefix, epoch)| Some((*prefix, self.bind(prefix, *epoch, node, now)?)))
            .collect();
        let membership = self.join(node, now);
        let changed = bindings != self.bindings || membership != self.membership;
        self.bindings = bindings;
        self.membership = membership;
        changed
    }

    /// What is signed here is signed here, for it can be renewed; else what was signed elsewhere, the newest first.
    fn bind(&self, prefix: &EidPrefix, epoch: u64, node: PublicKey, now: u64) -> Option<Binding> {
        let kept = self.bindings.get(prefix);
        if let Some(kept) = kept.filter(|kept| kept.statement.epoch == epoch && is_fresh(kept.statement.not_after, now))
        {
            return Some(*kept);
        }
        let eid = prefix.first_eid();
        let key = self.keys.get(&eid.address).filter(|_| *prefix == eid.host_prefix());
        let not_after = now.saturating_add(LIFE.as_secs());
        if let Some(key) = key {
            return Binding::by_eid_key(self.instance_id, key.as_ref(), node, epoch, not_after);
        }
        if let Some(key) = &self.authority_key {
            return Some(Binding::by_authority(*prefix, key.as_ref(), node, epoch, not_after));
        }
        let elsewhere = self.statements.bindings.iter().filter(|binding| {
            binding.prefix == *prefix && binding.node == node && binding.verify(self.authority.as_ref(), now).is_ok()
        });
        elsewhere
            .max_by_key(|binding| (binding.statement.epoch, binding.statement.not_after))
            .copied()
    }

    fn join(&self, node: PublicKey, now: u64) -> Option<Membership> {
        let authority = self.authority?;
        if let Some(key) = &self.authority_key {
            let kept = self.membership.filter(|kept| is_fresh(kept.permit.not_after, now));
            let not_after = now.saturating_add(LIFE.as_secs());
            return Some(kept.unwrap_or_else(|| Membership::sign(self.instance_id, node, not_after, key.as_ref())));
        }
        let elsewhere = self.statements.memberships.iter().filter(|membership| {
            membership.instance_id == self.instance_id && membership.node == node && membership.verify(&authority, now)
        });
        elsewhere.max_by_key(|membership| membership.permit.not_after).copied()
    }

    pub(super) fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    pub(super) fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.values()
    }

    pub(super) fn standing(&self, node: &PublicKey) -> Standing {
        let bound: BTreeSet<Eid> = self.bindings.keys().map(EidPrefix::first_eid).collect();
        let listed = self.members.iter().any(|member| match member {
            MemberId::Node(key) => key == node,
            MemberId::Eid(address) => bound.contains(&Eid::new(self.instance_id, *address)),
        });
        match (&self.membership, listed) {
            (_, true) => Standing::Listed,
            (Some(membership), false) => Standing::Membership(membership.permit.not_after),
            (None, false) => Standing::None,
        }
    }

    pub(super) fn unbound(&self) -> impl Iterator<Item = (EidPrefix, String)> {
        let missing = self.served.keys().filter(|prefix| !self.bindings.contains_key(*prefix));
        missing.map(|prefix| (*prefix, self.why_unbound(prefix)))
    }

    fn why_unbound(&self, prefix: &EidPrefix) -> String {
        let about = |binding: &&Binding| binding.prefix == *prefix;
        let instance_id = self.instance_id;
        if self.statements.bindings.iter().any(|binding| about(&binding)) {
            return format!(
                "its binding has expired, is another node's, or is not signed by whom it should be: sign one anew with `weft \
                 key bind --instance {instance_id} --prefix {}`",
                prefix.net()
            );
        }
        if self.authority.is_none() {
            return "it is the hash of no key that this node has, and the network has no authority: give its key, a binding \
                    signed by it, or an `authority`"
                .to_owned();
        }
        format!(
            "it has no binding: let the authority sign one with `weft key bind --instance {instance_id} --prefix {}` and \
             name its file in `bindings`",
            prefix.net()
        )
    }

    pub(super) fn warnings(&self, node: &PublicKey, now: u64, warnings: &mut Vec<String>) {
        let name = &self.name;
        for binding in &self.statements.bindings {
            let prefix = binding.prefix;
            if binding.node != *node {
                warnings.push(format!(
                    "network {name}: the binding of {prefix} is another node's: it is not used"
                ));
            } else if prefix.instance_id() != self.instance_id {
                warnings.push(format!(
                    "network {name}: the binding of {prefix} is of another Instance-ID: it is not used"
                ));
            } else {
                ends(
                    &format!("network {name}: the binding of {prefix}"),
                    binding.statement.not_after,
                    now,
                    warnings,
                );
            }
        }
        let own = self
            .statements
            .memberships
            .iter()
            .filter(|membership| membership.node == *node);
        for membership in own {
            ends(
                &format!("network {name}: this node's membership"),
                membership.permit.not_after,
                now,
                warnings,
            );
        }
        if self.standing(node) == Standing::None {
            warnings.push(format!(
                "network {name}: this node may not join: list {node} in `members`{}",
                match self.authority {
                    Some(_) => format!(
                        ", or let the authority sign a membership with `weft key member --instance {} --node {node}`",
                        self.instance_id
                    ),
                    None => " on every node".to_owned(),
                }
            ));
        }
        for (prefix, reason) in self.unbound() {
            warnings.push(format!("network {name}: {prefix} is not registered: {reason}"));
        }
    }
}

/// Whether half of the life of a statement of our own is left.
fn is_fresh(not_after: u64, now: u64) -> bool {
    not_after.saturating_sub(now) >= LIFE.as_secs() / 2
}

fn ends(what: &str, not_after: u64, now: u64, warnings: &mut Vec<String>) {
    let left = not_after.saturating_sub(now);
    if left == 0 {
        warnings.push(format!("{what} has expired: let it be signed anew"));
    } else if left < WARN_BEFORE.as_secs() {
        let (count, unit) = if left >= 2 * 86_400 {
            (left / 86_400, "days")
        } else {
            (left.div_ceil(3600), "hours")
        };
        warnings.push(format!("{what} ends in {count} {unit}: let it be signed anew"));
    }
}
