//! Where a packet goes, and everything that sending it there needs.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    control::UplinkId,
    tables::{LocalExit, Mapping, Port, Uplinks},
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
            Self::Mesh(hop) => !hop.mapping.retired.is_raised() && !hop.uplinks.retired.is_raised(),
            Self::Local(exit) => !exit.retired.is_raised(),
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
