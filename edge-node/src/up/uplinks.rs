//! What the machine's interfaces are like now, watched by rtnetlink: addresses, MTU, link.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection,
    packet_route::{
        address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope},
        link::{LinkAttribute, LinkFlags},
    },
};
use tokio::sync::watch;

/// Changes that come within this time are seen as one.
const SETTLE: Duration = Duration::from_millis(30);

/// An interface of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Bytes.
    pub mtu: u32,
    /// Whether it is up and has carrier.
    pub running: bool,
    /// Addresses that may be RLOCs: global, not tentative, not deprecated.
    pub addresses: Vec<IpAddr>,
}

/// All of them by name.
pub type Interfaces = BTreeMap<String, Interface>;

/// Reads the interfaces and watches them from now on. The watch ends when the receiver is dropped.
///
/// # Errors
/// The kernel gives no netlink socket, or does not answer.
pub async fn watch() -> io::Result<(Handle, watch::Receiver<Interfaces>)> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ];
    let (connection, handle, mut changes) = new_multicast_connection(&groups)?;
    tokio::spawn(connection);
    let (sender, receiver) = watch::channel(read(&handle).await?);
    let reader = handle.clone();
    tokio::spawn(async move {
        while changes.next().await.is_some() {
            tokio::time::sleep(SETTLE).await;
            while futures::FutureExt::now_or_never(changes.next()).flatten().is_some() {}
            match read(&reader).await {
                Ok(now) => {
                    sender.send_if_modified(|before| {
                        let changed = *before != now;
                        *before = now;
                        changed
                    });
                }
                Err(error) => tracing::warn!(%error, "interfaces cannot be read"),
            }
            if sender.is_closed() {
                return;
            }
        }
    });
    Ok((handle, receiver))
}

/// The interfaces as they are now.
///
/// # Errors
/// The kernel does not answer.
pub async fn read(handle: &Handle) -> io::Result<Interfaces> {
    let mut names: BTreeMap<u32, (String, Interface)> = BTreeMap::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await.map_err(io::Error::other)? {
        let (mut name, mut mtu) = (String::new(), 0);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name.clone_from(text),
                LinkAttribute::Mtu(bytes) => mtu = *bytes,
                _ => {}
            }
        }
        let running = link.header.flags.contains(LinkFlags::Up | LinkFlags::Running);
        let index = link.header.index;
        names.insert(
            index,
            (
                name,
                Interface {
                    index,
                    mtu,
                    running,
                    addresses: Vec::new(),
                },
            ),
        );
    }
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await.map_err(io::Error::other)? {
        if let Some(address) = rloc(&message)
            && let Some((_, interface)) = names.get_mut(&message.header.index)
            && !interface.addresses.contains(&address)
        {
            interface.addresses.push(address);
        }
    }
    Ok(names
        .into_values()
        .map(|(name, mut interface)| {
            interface.addresses.sort();
            (name, interface)
        })
        .collect())
}

/// The address of a message, when it may be an RLOC.
fn rloc(message: &AddressMessage) -> Option<IpAddr> {
    let bad = AddressHeaderFlags::Tentative | AddressHeaderFlags::Deprecated | AddressHeaderFlags::Dadfailed;
    if message.header.scope != AddressScope::Universe || message.header.flags.intersects(bad) {
        return None;
    }
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(flags)
                if flags.intersects(AddressFlags::Tentative | AddressFlags::Deprecated | AddressFlags::Dadfailed) =>
            {
                return None;
            }
            _ => {}
        }
    }
    local.or(address).filter(|ip| match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !is_link_local(v6) && !v6.is_unspecified(),
    })
}

fn is_link_local(address: &Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(address: &str) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.scope = AddressScope::Universe;
        message
            .attributes
            .push(AddressAttribute::Address(address.parse().expect("an address")));
        message
    }

    #[test]
    fn global_addresses_are_rlocs_and_private_ones_too() {
        for address in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00::1"] {
            assert_eq!(rloc(&message(address)), address.parse().ok());
        }
    }

    #[test]
    fn link_local_and_loopback_addresses_are_none() {
        for address in ["169.254.1.1", "127.0.0.1", "fe80::1", "febf::1", "::1", "0.0.0.0", "::"] {
            assert_eq!(rloc(&message(address)), None, "{address}");
        }
        let mut host = message("192.0.2.1");
        host.header.scope = AddressScope::Host;
        assert_eq!(rloc(&host), None);
    }

    #[test]
    fn what_is_not_yet_or_not_any_more_to_be_used_is_none() {
        for flag in [
            AddressHeaderFlags::Tentative,
            AddressHeaderFlags::Deprecated,
            AddressHeaderFlags::Dadfailed,
        ] {
            let mut old = message("2001:db8::1");
            old.header.flags = flag;
            assert_eq!(rloc(&old), None, "{flag:?}");
        }
        let mut old = message("2001:db8::1");
        old.attributes.push(AddressAttribute::Flags(AddressFlags::Deprecated));
        assert_eq!(rloc(&old), None);
    }

    #[test]
    fn the_own_end_of_a_point_to_point_link_is_meant() {
        let mut link = message("192.0.2.2");
        link.attributes
            .push(AddressAttribute::Local("192.0.2.1".parse().expect("an address")));
        assert_eq!(rloc(&link), "192.0.2.1".parse().ok());
    }
}
