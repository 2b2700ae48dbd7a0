//! Where a packet goes, and everything that sending it there needs.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use crate::{
    control::UplinkId,
    tables::{
        LocalExit, Mapping, Port, Uplinks,
        node::{Tenure, Whereabouts},
    },
};

/// Where a packet goes. Cloud tunnels and switch ports join when they come.
#[derive(Clone, Debug)]
pub enum NextHop {
    /// A guest of this node.
    Guest(Arc<Port>),
    /// The node's own host in the network.
    Host,
    /// Another node of the mesh.
    Mesh(MeshHop),
    /// The host's network, behind NAT.
    Local(Arc<LocalExit>),
}

impl NextHop {
    /// Whether what it was made from is still in force.
    #[inline]
    pub fn is_current(&self) -> bool {
        match self {
            Self::Guest(port) => !port.retired.is_raised(),
            Self::Host => true,
            Self::Mesh(hop) => {
                let seal = hop.seal.as_ref();
                !hop.mapping.retired.is_raised()
                    && !hop.uplinks.retired.is_raised()
                    && seal.is_none_or(|seal| !seal.tenure.retired.is_raised() && !seal.place.retired.is_raised())
            }
            Self::Local(exit) => !exit.retired.is_raised(),
        }
    }

    /// Whether `packets` may be sent there now: time and the limit of what is sealed under one pair of SAs.
    #[inline]
    pub fn takes(&self, packets: usize, now: Instant) -> bool {
        match self {
            Self::Mesh(MeshHop { seal: Some(seal), .. }) => seal.tenure.pair.may_seal(now, packets),
            _ => true,
        }
    }
}

/// A mesh node's locator, an uplink towards it, and the headers that go in front.
#[derive(Clone, Debug)]
pub struct MeshHop {
    /// The entry that named the locator.
    pub mapping: Arc<Mapping>,
    /// The uplinks among which one was chosen.
    pub uplinks: Arc<Uplinks>,
    /// Outer addresses.
    pub to: Destination,
    /// The LISP data header.
    pub header: [u8; lisp::wire::DataHeader::LEN],
    /// Bytes of the largest inner packet that fits the path: `S = L - H` (RFC 9300 §7.1).
    pub limit: usize,
    /// How its packets are sealed; `None`: the network is one in clear.
    pub seal: Option<Sealing>,
}

/// How packets to a node are sealed.
#[derive(Clone, Debug)]
pub struct Sealing {
    /// The pair of SAs, as the one that is sealed under.
    pub tenure: Arc<Tenure>,
    /// For which of the node's workers.
    pub channel: usize,
    /// Where the node was when the way was chosen.
    pub place: Arc<Whereabouts>,
}

/// The underlay side of a run of datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Out of which uplink.
    pub uplink: UplinkId,
    /// Source address.
    pub local: IpAddr,
    /// Destination address and port.
    pub remote: SocketAddr,
    /// Chooses the source port.
    pub flow_hash: u32,
}
