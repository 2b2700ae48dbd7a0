//! The ITR's question: where is this EID? (RFC 9300 §4)

use std::{net::IpAddr, sync::Arc};

use lisp::NegativeAction;

use crate::{
    control::{MappingTarget, NetworkKind},
    parse::{Family, FlowKey},
    tables::{LocalExit, Mapping, Mappings, Network, Port, Snapshot, network::Local},
    verdict::DropReason,
};

/// Where a destination is.
#[derive(Clone, Debug)]
pub enum Route {
    /// A guest of this node.
    Guest(Arc<Port>),
    /// The node's own host.
    Host,
    /// At the locators of this mapping.
    Mapped(Arc<Mapping>),
    /// Out to the host's network.
    Exit(Arc<LocalExit>),
    /// No mapping yet.
    Miss,
    /// Nowhere.
    Nowhere(DropReason),
}

/// Finds the way of a packet in `network`: guests of this node first, then the mapping table, or the local exit.
pub fn route(snapshot: &Snapshot, mappings: &Mappings, network: &Network, key: &FlowKey) -> Route {
    let destination = key.destination_address();
    if !is_forwardable(destination) {
        return Route::Nowhere(DropReason::NoRoute);
    }
    match network.local(destination) {
        // Back out of the port that it came from: a guest that routes for a prefix behind it, in a loop.
        Some(Local::Port(port)) if port.owns(key.source_address()) => return Route::Nowhere(DropReason::NoRoute),
        Some(Local::Port(port)) => return Route::Guest(port),
        Some(Local::Host) => return Route::Host,
        None => {}
    }
    match &network.config.kind {
        NetworkKind::Mesh { eid_prefixes, .. } => {
            if !eid_prefixes.is_empty() && !eid_prefixes.iter().any(|net| net.contains(&destination)) {
                return Route::Nowhere(DropReason::NoRoute);
            }
            match mappings.lookup(network.eid(destination)) {
                None => Route::Miss,
                Some(mapping) => match &mapping.config.target {
                    MappingTarget::Negative(action) => Route::Nowhere(negative(*action)),
                    MappingTarget::Locators(_) => Route::Mapped(mapping),
                },
            }
        }
        NetworkKind::Local { nat44, nat66 } => {
            let translated = if key.family == Family::V4 { *nat44 } else { *nat66 };
            match &snapshot.exit {
                Some(exit) if translated => Route::Exit(Arc::clone(exit)),
                _ => Route::Nowhere(DropReason::NoLocalExit),
            }
        }
    }
}

/// The name under which a negative mapping drops (RFC 9301 §5.4). "Natively-Forward" says that it is no LISP EID;
/// it never means "in clear".
pub const fn negative(action: NegativeAction) -> DropReason {
    match action {
        NegativeAction::NoAction => DropReason::NegativeNoAction,
        NegativeAction::NativelyForward => DropReason::NegativeNativelyForward,
        NegativeAction::SendMapRequest => DropReason::NegativeSendMapRequest,
        NegativeAction::Drop => DropReason::NegativeDrop,
        NegativeAction::DropPolicyDenied => DropReason::NegativePolicyDenied,
        NegativeAction::DropAuthFailure => DropReason::NegativeAuthFailure,
        NegativeAction::Unassigned(_) => DropReason::NegativeUnassigned,
    }
}

/// Whether an address may be where an overlay packet goes at all.
pub const fn is_forwardable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            !a.is_unspecified() && !a.is_loopback() && !a.is_multicast() && !a.is_link_local() && a.octets()[0] < 240
        }
        IpAddr::V6(a) => !a.is_unspecified() && !a.is_loopback() && !a.is_multicast() && !a.is_unicast_link_local(),
    }
}
