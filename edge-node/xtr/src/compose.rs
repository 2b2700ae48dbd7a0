//! Every message that this xTR writes is put together here, whole, so that what the sealed mesh adds to Map-Requests
//! and Map-Replies (key material, a signature over the message) finds one place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lisp::mesh::{Label, Membership, PLACEHOLDER, Payload, Proof, Seal, sign_message};
use lisp::wire::{
    AfiAddress, Authentication, Ecm, EidRecord, MapRegister, MapReply, MapRequest, Purpose, RequestRecord, RlocRecord,
    sign,
};
use lisp::{CONTROL_PORT, Eid, EidPrefix, InstanceId, Mapping, Nonce, Ttl};

use crate::{Config, DatabaseMapping, MapServerPeer, sealed::vendor_locator};

/// IRC is five bits, one more than it says (RFC 9301 §5.2).
const ITR_RLOCS_MAX: usize = 32;

impl Config {
    /// Whether the network of this Instance-ID is sealed.
    pub(crate) fn is_sealed(&self, instance_id: InstanceId) -> bool {
        self.mesh.networks.contains_key(&instance_id)
    }

    /// Whether a prefix of ours may be registered and answered for: in a sealed network, when it is bound to this node.
    pub(crate) fn may_announce(&self, mapping: &DatabaseMapping) -> bool {
        mapping.binding.is_some() || !self.is_sealed(mapping.prefix.instance_id())
    }

    /// Whether this node has a locator of the family of `address`.
    pub(crate) fn speaks(&self, address: IpAddr) -> bool {
        self.locators
            .iter()
            .any(|locator| locator.rloc.address.is_ipv4() == address.is_ipv4())
    }

    /// Our membership in a sealed network, when it admits by memberships.
    pub(crate) fn own_membership(&self, instance_id: InstanceId) -> Option<Membership> {
        Some(Membership {
            instance_id,
            node: self.mesh.identity.as_ref()?.public_key(),
            permit: self.mesh.networks.get(&instance_id)?.permit?,
        })
    }

    /// Whether `address` is a locator of ours.
    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        self.locators.iter().any(|locator| locator.rloc.address == address)
    }

    /// Where answers may come to: our locators, those that can be reached unless none can.
    pub(crate) fn itr_rlocs(&self) -> Vec<AfiAddress> {
        let usable = |any: bool| {
            let mut addresses: Vec<IpAddr> = self
                .locators
                .iter()
                .filter(|l| any || l.reachable)
                .map(|l| l.rloc.address)
                .collect();
            addresses.sort();
            addresses.dedup();
            addresses.truncate(ITR_RLOCS_MAX);
            addresses
        };
        let reachable = usable(false);
        let chosen = if reachable.is_empty() { usable(true) } else { reachable };
        chosen.into_iter().map(AfiAddress::Ip).collect()
    }
}

/// The first address of a prefix, as the EID that stands for all of it.
pub(crate) fn first_eid(prefix: &EidPrefix) -> Eid {
    Eid::new(prefix.instance_id(), prefix.net().addr())
}

/// A request's record for a whole prefix.
fn record_for(prefix: &EidPrefix) -> RequestRecord {
    RequestRecord {
        notify: false,
        mask_len: prefix.length(),
        eid: AfiAddress::from_eid(&first_eid(prefix)),
    }
}

/// A Map-Request for `eid` (RFC 9301 §5.3).
pub(crate) fn map_request(config: &Config, nonce: Nonce, source: Option<Eid>, eid: Eid, smr_invoked: bool) -> Vec<u8> {
    let source_eid = source.map_or(AfiAddress::None, |source| AfiAddress::from_eid(&source));
    let mut request = MapRequest::new(nonce, source_eid, config.itr_rlocs(), RequestRecord::for_eid(&eid));
    request.smr_invoked = smr_invoked;
    request.encode()
}

/// A Map-Request in the envelope that a Map-Resolver opens (§5.8): the inner destination is the EID asked for.
pub(crate) fn through_mapping_system(config: &Config, request: Vec<u8>, source: Option<Eid>, eid: Eid) -> Vec<u8> {
    let same_family = |address: &IpAddr| address.is_ipv4() == eid.address.is_ipv4();
    let inner_source = source
        .map(|source| source.address)
        .filter(same_family)
        .or_else(|| {
            config
                .locators
                .iter()
                .map(|locator| locator.rloc.address)
                .find(same_family)
        })
        .unwrap_or(match eid.address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        });
    Ecm {
        ddt: false,
        to_etr: false,
        to_ms: false,
        security: None,
        source: SocketAddr::new(inner_source, CONTROL_PORT),
        destination: SocketAddr::new(eid.address, CONTROL_PORT),
        payload: request,
    }
    .encode()
}

/// An RLOC-probe: P=1, never encapsulated, no Source-EID (§5.2, §7.1).
pub(crate) fn probe(config: &Config, nonce: Nonce, prefix: &EidPrefix) -> Vec<u8> {
    let mut request = MapRequest::new(nonce, AfiAddress::None, config.itr_rlocs(), record_for(prefix));
    request.probe = true;
    request.encode()
}

/// An SMR: S=1, straight to the RLOC, no reply wanted; the Source-EID is what changed (§6.1).
pub(crate) fn smr(config: &Config, nonce: Nonce, changed: &EidPrefix) -> Vec<u8> {
    let source = AfiAddress::from_eid(&first_eid(changed));
    let mut request = MapRequest::new(nonce, source, config.itr_rlocs(), record_for(changed));
    request.smr = true;
    request.dont_reply = true;
    request.encode()
}

/// A Map-Reply of ours (§5.4).
pub(crate) fn map_reply(nonce: Nonce, probe: bool, records: Vec<EidRecord>) -> Vec<u8> {
    MapReply {
        probe,
        echo_nonce: false,
        nonce,
        records,
        security: None,
    }
    .encode()
}

/// Bytes of UDP payload that fit an unknown path: IP packets of 576 bytes for IPv4, 1280 for IPv6 (§5).
pub(crate) const fn largest_payload(destination: IpAddr) -> usize {
    match destination {
        IpAddr::V4(_) => 576 - 20 - 8,
        IpAddr::V6(_) => 1280 - 40 - 8,
    }
}

/// The record that registers a prefix, or withdraws it (TTL 0).
pub(crate) fn registration_record(config: &Config, prefix: EidPrefix, mapping: Option<DatabaseMapping>) -> EidRecord {
    let mut locators = config.locators.clone();
    for locator in &mut locators {
        locator.local = true;
        // §5.4: MUST NOT be set in a Map-Register.
        locator.probed = false;
    }
    let ttl = mapping.map_or(Ttl::ZERO, |mapping| mapping.ttl);
    let mut record = EidRecord::from_mapping(&Mapping::new(prefix, ttl, locators));
    let binding = mapping
        .and_then(|mapping| mapping.binding)
        .filter(|_| config.is_sealed(prefix.instance_id()));
    if let Some(binding) = binding {
        let proof = Payload::Proof(Proof(binding.statement));
        record.locators.push(vendor_locator(proof.to_address()));
    }
    record
}

/// The place of the node's signature in a Map-Register with a record of a sealed network. `None`: it needs none.
pub(crate) fn seal_locator(config: &Config) -> Option<RlocRecord> {
    let identity = config.mesh.identity.as_ref()?;
    let seal = Payload::Seal(Seal {
        node: identity.public_key(),
        signature: PLACEHOLDER,
    });
    Some(vendor_locator(seal.to_address()))
}

/// Signs a Map-Register in place, the node's signature first and the MAC over it. `None`: it cannot be.
pub(crate) fn sign_register(config: &Config, peer: &MapServerPeer, mut register: MapRegister) -> Option<Vec<u8>> {
    let is_sealed = register.records.iter().any(|record| {
        let announces = record.ttl != Ttl::ZERO;
        announces
            && record
                .prefix()
                .is_ok_and(|prefix| config.is_sealed(prefix.instance_id()))
    });
    let seal = if is_sealed { seal_locator(config) } else { None };
    if let Some(seal) = seal.clone() {
        register.records.first_mut()?.locators.push(seal);
    }
    let mut payload = register.encode();
    if let (Some(_), Some(identity)) = (seal, &config.mesh.identity) {
        sign_message(Label::MapRegister, None, &mut payload, identity.signer()).ok()?;
    }
    sign(&mut payload, Purpose::MapRegister, peer.secret.expose()).ok()?;
    Some(payload)
}

/// A Map-Register without records.
pub(crate) fn map_register(peer: &MapServerPeer, config: &Config, nonce: Nonce) -> MapRegister {
    MapRegister {
        proxy_reply: peer.proxy_reply,
        security_capable: false,
        eid_notify: false,
        use_ttl: false,
        merge: false,
        mobile_node: false,
        want_map_notify: peer.want_map_notify,
        nonce,
        authentication: Authentication::unsigned(peer.key_id, peer.algorithm),
        records: Vec::new(),
        xtr: Some((config.xtr_id, config.site_id)),
    }
}
