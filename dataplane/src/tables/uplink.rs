//! The node's attachments to underlays, as the ITR chooses among them.

use std::net::IpAddr;

use crate::{
    control::{UplinkConfig, UplinkId},
    parse::Family,
    tables::Retired,
};

/// One uplink.
#[derive(Clone, Debug)]
pub struct Uplink {
    /// What control said.
    pub config: UplinkConfig,
}

/// All uplinks, in order of their numbers. Replaced whole.
#[derive(Debug, Default)]
pub struct Uplinks {
    /// The uplinks.
    pub list: Vec<Uplink>,
    /// Raised when they are replaced.
    pub retired: Retired,
}

impl Uplinks {
    /// The first uplink with an address of `family`, and that address. Same choice for the same `hash`.
    pub fn towards(&self, family: Family, hash: u32) -> Option<(&Uplink, IpAddr)> {
        let fits = |uplink: &&Uplink| {
            uplink
                .config
                .addresses
                .iter()
                .any(|address| Family::of(*address) == family)
        };
        let count = self.list.iter().filter(fits).count();
        // Flows spread evenly over what there is; cost, priority and weight of uplinks come with path policies.
        let index = (hash as usize).checked_rem(count)?;
        let uplink = self.list.iter().filter(fits).nth(index)?;
        let address = uplink
            .config
            .addresses
            .iter()
            .copied()
            .find(|address| Family::of(*address) == family)?;
        Some((uplink, address))
    }

    /// One uplink by number.
    pub fn get(&self, id: UplinkId) -> Option<&Uplink> {
        self.list.iter().find(|uplink| uplink.config.id == id)
    }
}
