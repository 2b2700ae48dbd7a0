//! Who may join a sealed network. An EID proves identity, not permission.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use lisp::{
    InstanceId,
    mesh::{Membership, Permit, PublicKey},
};

use super::{Refusal, SealedNetwork};
use crate::{Config, rate::Bucket};

/// Nodes whose membership was verified, and the price of verifying.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// Memberships that verified, until when (seconds since the Unix epoch), under which authority.
    verified: BTreeMap<(InstanceId, PublicKey), (u64, PublicKey)>,
    unknown: Option<Bucket>,
    known: Option<Bucket>,
}

/// What is known of a node before anything is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Listed, or with a membership that verified before.
    Member,
    /// It claims a membership that has to be verified.
    Claims,
}

impl Admission {
    /// How `node`, speaking for `eid`, stands in `network`, without computing anything.
    pub(crate) fn standing(
        &self,
        instance_id: InstanceId,
        network: &SealedNetwork,
        node: &PublicKey,
        eid: IpAddr,
        permit: Option<&Permit>,
        unix: u64,
    ) -> Result<Standing, Refusal> {
        if network.nodes.contains(node) || network.eids.contains(&eid) {
            return Ok(Standing::Member);
        }
        let authority = network.authority.ok_or(Refusal::NotAMember)?;
        let verified = self.verified.get(&(instance_id, *node));
        if verified.is_some_and(|(until, by)| unix < *until && *by == authority) {
            return Ok(Standing::Member);
        }
        match permit {
            Some(permit) if unix < permit.not_after => Ok(Standing::Claims),
            _ => Err(Refusal::NotAMember),
        }
    }

    /// Whether the signatures of one more message may be verified.
    pub(crate) fn afford(&mut self, now: Instant, config: &Config, standing: Standing) -> Result<(), Refusal> {
        let (bucket, rate) = match standing {
            Standing::Member => (&mut self.known, config.limits.verifications_known),
            Standing::Claims => (&mut self.unknown, config.limits.verifications_unknown),
        };
        let bucket = bucket.get_or_insert_with(|| Bucket::full(now, rate));
        if bucket.take(now, rate, rate) {
            Ok(())
        } else {
            Err(Refusal::OverBudget)
        }
    }

    /// Verifies a claimed membership, and remembers that it did.
    pub(crate) fn admit(
        &mut self,
        config: &Config,
        instance_id: InstanceId,
        network: &SealedNetwork,
        node: &PublicKey,
        permit: Option<&Permit>,
        unix: u64,
    ) -> Result<(), Refusal> {
        let (Some(authority), Some(permit)) = (network.authority, permit) else {
            return Err(Refusal::NotAMember);
        };
        let membership = Membership {
            instance_id,
            node: *node,
            permit: *permit,
        };
        if !membership.verify(&authority, unix) {
            return Err(Refusal::NotAMember);
        }
        self.verified.retain(|_, (until, _)| unix < *until);
        if self.verified.len() >= config.limits.nodes {
            return Err(Refusal::TooMany);
        }
        self.verified
            .insert((instance_id, *node), (permit.not_after, authority));
        Ok(())
    }

    /// Whether `node` was admitted to the network before, by list or by membership.
    pub(crate) fn is_member(
        &self,
        instance_id: InstanceId,
        network: &SealedNetwork,
        node: &PublicKey,
        unix: u64,
    ) -> bool {
        network.nodes.contains(node)
            || self
                .verified
                .get(&(instance_id, *node))
                .is_some_and(|(until, by)| unix < *until && Some(*by) == network.authority)
    }
}

/// How long a Map-Reply is kept to answer copies of its Map-Request with.
pub(crate) const REPLY_KEPT: Duration = Duration::from_secs(10);
