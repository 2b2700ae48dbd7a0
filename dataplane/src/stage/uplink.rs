//! Which locator, out of which uplink: health, then priority, then weight by flow hash (RFC 9300 §11, RFC 9301 §5.4).
//!
//! Health comes from RLOC-probes, which the other node's control process answers: while that one restarts its packet
//! path works on. So where every locator seems down they are used all the same: nothing better is known, and what is
//! down for real loses nothing by it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use lisp::wire::DataHeader;

use crate::{
    next_hop::{Destination, MeshHop},
    parse::Family,
    seal::Layout,
    tables::{Mapping, Path, Uplink, Uplinks, node::Away},
    verdict::DropReason,
};

/// Priority that forbids use.
const NEVER: u8 = 255;
/// UDP and LISP headers.
const UDP_AND_LISP: u32 = 8 + DataHeader::LEN as u32;

/// Chooses a locator of `mapping` for the flow, and an uplink towards it.
pub fn choose(
    mapping: &Arc<Mapping>,
    uplinks: &Arc<Uplinks>,
    header: [u8; DataHeader::LEN],
    layout: Layout,
    flow_hash: u32,
) -> Result<MeshHop, DropReason> {
    let usable =
        |path: &&Path| path.locator.reachable && path.locator.priority != NEVER && path.locator.rloc.is_usable();
    let attached = |path: &&Path| {
        let address = path.locator.rloc.address;
        let ours = uplinks
            .list
            .iter()
            .any(|uplink| uplink.config.addresses.contains(&address));
        !ours && uplinks.towards(Family::of(address), flow_hash).is_some()
    };
    let reachable = || mapping.paths.iter().filter(usable).filter(attached);
    let all_down = !reachable().any(|path| path.up);
    let candidates = || reachable().filter(|path| path.up || all_down);
    let Some(best) = candidates().map(|path| path.locator.priority).min() else {
        let any = mapping.paths.iter().any(|path| usable(&path));
        return Err(if any {
            DropReason::NoUplink
        } else {
            DropReason::NoLocator
        });
    };
    let equals = || candidates().filter(|path| path.locator.priority == best);
    let path = by_weight(equals, flow_hash).ok_or(DropReason::NoLocator)?;
    let rloc = path.locator.rloc;
    let way = uplinks
        .towards(Family::of(rloc.address), flow_hash)
        .ok_or(DropReason::NoUplink)?;
    let to = destination(way, rloc.data_address(), flow_hash);
    Ok(MeshHop {
        mapping: Arc::clone(mapping),
        uplinks: Arc::clone(uplinks),
        to,
        header,
        limit: limit(way.0, path.mtu, to.remote, layout),
        seal: None,
    })
}

/// The way to a node that is not at its locators: back to where it is heard from, out of the uplink and from the address
/// that it comes to, as long as these are ours. `mtu` is the path's, when it is known.
pub fn follow(
    mapping: &Arc<Mapping>,
    uplinks: &Arc<Uplinks>,
    header: [u8; DataHeader::LEN],
    layout: Layout,
    flow_hash: u32,
    (away, mtu): (&Away, Option<u32>),
) -> Result<MeshHop, DropReason> {
    let way = back(uplinks, away, flow_hash)?;
    let to = destination(way, away.remote, flow_hash);
    Ok(MeshHop {
        mapping: Arc::clone(mapping),
        uplinks: Arc::clone(uplinks),
        to,
        header,
        limit: limit(way.0, mtu, to.remote, layout),
        seal: None,
    })
}

/// The way to an address, whoever is there.
pub fn towards(uplinks: &Uplinks, remote: SocketAddr, flow_hash: u32) -> Result<Destination, DropReason> {
    let way = uplinks
        .towards(Family::of(remote.ip()), flow_hash)
        .ok_or(DropReason::NoUplink)?;
    Ok(destination(way, remote, flow_hash))
}

/// The way back to where something came from.
pub fn answer(uplinks: &Uplinks, away: &Away, flow_hash: u32) -> Result<Destination, DropReason> {
    Ok(destination(back(uplinks, away, flow_hash)?, away.remote, flow_hash))
}

fn back<'a>(uplinks: &'a Uplinks, away: &Away, flow_hash: u32) -> Result<(&'a Uplink, IpAddr), DropReason> {
    match uplinks.get(away.uplink) {
        Some(uplink) if uplink.config.addresses.contains(&away.local) => Ok((uplink, away.local)),
        _ => uplinks
            .towards(Family::of(away.remote.ip()), flow_hash)
            .ok_or(DropReason::NoUplink),
    }
}

fn destination((uplink, local): (&Uplink, IpAddr), remote: SocketAddr, flow_hash: u32) -> Destination {
    Destination {
        uplink: uplink.config.id,
        local,
        remote,
        flow_hash,
    }
}

/// Bytes of the largest inner packet: `S = L - H` (RFC 9300 §7.1).
fn limit(uplink: &Uplink, mtu: Option<u32>, remote: SocketAddr, layout: Layout) -> usize {
    let link = uplink.config.mtu.min(mtu.unwrap_or(u32::MAX));
    let outer = if remote.is_ipv4() { 20 } else { 40 };
    (link.saturating_sub(outer + UDP_AND_LISP) as usize).saturating_sub(layout.overhead())
}

/// Spreads flows over equals by weight; all weights 0 means that the sender chooses (evenly, here).
fn by_weight<'a, I: Iterator<Item = &'a Path>>(equals: impl Fn() -> I, hash: u32) -> Option<&'a Path> {
    // The low bits choose the uplink and the source port.
    let hash = u64::from(hash.rotate_left(16));
    let total: u64 = equals().map(|path| u64::from(path.locator.weight)).sum();
    if total == 0 {
        let count = equals().count() as u64;
        return equals().nth(hash.checked_rem(count)? as usize);
    }
    let mut at = hash % total;
    equals().find(|path| {
        let weight = u64::from(path.locator.weight);
        let chosen = at < weight;
        at = at.saturating_sub(weight);
        chosen
    })
}
