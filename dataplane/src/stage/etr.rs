//! The ETR: what a data packet must be before a guest sees any of it (RFC 9300 §5.3, §7, §8).

use std::{net::IpAddr, sync::Arc};

use lisp::{InstanceId, mesh::SaIndex, wire::DataHeader};

use crate::{
    control::MeshNode,
    parse::{FlowKey, IpPacket},
    seal,
    stage::itr::is_forwardable,
    tables::{Binding, Bindings, Network, Snapshot, network::Local},
    verdict::DropReason,
};

/// What a data header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// In clear, for this Instance-ID.
    Clear(InstanceId),
    /// Sealed, for this SA index of ours and this Instance-ID, which nobody vouches for until it has opened.
    Sealed(SaIndex, InstanceId),
}

/// Reads a data header. Of what else it may carry, Locator-Status-Bits, echo-nonce and Map-Version are not used here
/// (RFC 9300 §16 forbids them over the Internet) and are ignored, also when N and V are both set; the nonce is, where KK
/// says sealed.
pub fn read(header: &DataHeader) -> Result<Says, DropReason> {
    if header.next_protocol.is_some() {
        return Err(DropReason::LispNextProtocol);
    }
    let instance_id = header.instance_id;
    if header.key_id.0 == 0 {
        return Ok(Says::Clear(instance_id.unwrap_or(InstanceId::DEFAULT)));
    }
    let index = header.nonce.and_then(SaIndex::new);
    match (header.key_id, index, instance_id) {
        (seal::KEY_ID, Some(index), Some(instance_id)) => Ok(Says::Sealed(index, instance_id)),
        _ => Err(DropReason::LispSealed),
    }
}

/// Which network an Instance-ID is, for a packet that came sealed or in clear.
pub fn network(instance_id: InstanceId, sealed: bool, snapshot: &Snapshot) -> Result<&Arc<Network>, DropReason> {
    if instance_id == InstanceId::CONTROL {
        return Err(DropReason::ControlInData);
    }
    let network = snapshot
        .instances
        .get(&instance_id)
        .ok_or(DropReason::UnknownInstance)?;
    match (sealed, network.is_sealed()) {
        (false, true) => Err(DropReason::ClearInSealed),
        (true, false) => Err(DropReason::SealedInClear),
        _ => Ok(network),
    }
}

/// What lets `node` send with this inner source.
pub fn check_binding(
    bindings: &Bindings,
    network: &Network,
    key: &FlowKey,
    node: MeshNode,
) -> Result<Arc<Binding>, DropReason> {
    bindings
        .lookup(network.eid(key.source_address()))
        .filter(|binding| binding.config.node == node)
        .ok_or(DropReason::UnboundSource)
}

/// Whether the inner source may send into this network from outside.
pub fn check_source(network: &Network, key: &FlowKey) -> Result<(), DropReason> {
    let source = key.source_address();
    if is_forwardable(source) && !network.is_local(source) {
        Ok(())
    } else {
        Err(DropReason::InnerSource)
    }
}

/// Who of this node an inner destination is.
pub fn deliver(network: &Network, destination: IpAddr) -> Result<Local, DropReason> {
    if !is_forwardable(destination) {
        return Err(DropReason::UnservedEid);
    }
    network.local(destination).ok_or(DropReason::UnservedEid)
}

/// TTL towards the guest: never more than either header's (RFC 9300 §5.3).
pub fn ttl(ip: &IpPacket, outer: u8) -> u8 {
    ip.ttl.min(outer)
}

/// ECN towards the guest from the inner and outer fields (RFC 6040 §4.2, figure 4).
pub const fn ecn(inner: u8, outer: u8) -> Result<u8, DropReason> {
    const NOT_ECT: u8 = 0;
    const ECT1: u8 = 1;
    const ECT0: u8 = 2;
    const CE: u8 = 3;
    match (inner & 3, outer & 3) {
        (NOT_ECT, CE) => Err(DropReason::EcnNotCapable),
        (NOT_ECT, _) => Ok(NOT_ECT),
        (CE, _) | (_, CE) => Ok(CE),
        (ECT0, ECT1) => Ok(ECT1),
        (inner, _) => Ok(inner),
    }
}
