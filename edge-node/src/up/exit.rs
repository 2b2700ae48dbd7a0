//! The exit of local networks to the host's own network: a TUN with an address of its own, forwarding switched on where
//! it is needed, and an nftables table that lets the host's routes and addresses do the rest, for guests only.

mod firewall;
mod forwarding;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    path::Path,
};

use dataplane::{control::LocalExitConfig, port::tap::open_local_exit};
use rtnetlink::{Handle, LinkUnspec};

use self::forwarding::{Forwarding, Switched};
use super::{desired::EXIT_INTERFACE, desired::VNET_HEADER, interfaces};

/// Our end of the TUN, which NAT44 translates to; from RFC 3927's range, which nobody routes.
const INSIDE_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 87, 2);
const HOST_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 87, 1);
const INSIDE_V6: Ipv6Addr = Ipv6Addr::new(0xfd57, 0x6566, 0x7400, 0, 0, 0, 0, 2);
const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd57, 0x6566, 0x7400, 0, 0, 0, 0, 1);
const MTU: u32 = 1500;

/// File of the runtime directory that says which switches of the host were turned.
const RECORD: &str = "forwarding.json";

/// What the packet path is told of it.
pub fn config() -> LocalExitConfig {
    LocalExitConfig {
        interface: EXIT_INTERFACE.to_owned(),
        vnet_header: VNET_HEADER,
        ipv4: Some(INSIDE_V4),
        ipv6: Some(INSIDE_V6),
        mtu: MTU,
    }
}

/// The exit, with what was done to the host for it.
#[derive(Debug)]
pub struct Exit {
    tun: Option<OwnedFd>,
    forwarding: Forwarding,
    /// The table in force, as far as it was put there by this process.
    table: String,
}

impl Exit {
    /// Nothing is done yet; what an earlier process did to the host is known from `runtime_dir`.
    pub fn new(runtime_dir: &Path) -> Self {
        Self {
            tun: None,
            forwarding: Forwarding::new(runtime_dir.join(RECORD)),
            table: String::new(),
        }
    }

    /// The TUN, when it is open.
    pub fn tun(&self) -> Option<&OwnedFd> {
        self.tun.as_ref()
    }

    /// Takes the TUN over that a packet path holds.
    pub fn adopt(&mut self, tun: Option<OwnedFd>) {
        self.tun = self.tun.take().or(tun);
    }

    /// Makes the TUN when it is not there, and lets what comes out of it leave by `uplinks`. To be called again when
    /// these or the machine's `resolvers` change.
    ///
    /// # Errors
    /// What the kernel or `nft` refused, in words for the operator.
    pub async fn open<'a>(
        &mut self,
        handle: &Handle,
        uplinks: impl Iterator<Item = &'a str>,
        resolvers: &[SocketAddr],
    ) -> Result<(), String> {
        let uplinks: BTreeSet<String> = uplinks.map(str::to_owned).collect();
        let fresh = match &self.tun {
            Some(_) => None,
            None => {
                let tun = open_local_exit(EXIT_INTERFACE)
                    .map_err(|error| format!("cannot make the TUN `{EXIT_INTERFACE}`: {error}"))?;
                prepare(handle)
                    .await
                    .map_err(|error| format!("cannot set up `{EXIT_INTERFACE}`: {error}"))?;
                Some(tun)
            }
        };
        let interfaces = uplinks.iter().map(String::as_str);
        let needed = self.forwarding.needed(interfaces.chain([EXIT_INTERFACE]));
        // Nothing is forwarded before the table says what may be.
        let table = firewall::table(&uplinks, resolvers, &needed);
        if table != self.table {
            firewall::put(&table)?;
            self.table = table;
        }
        self.forwarding.on(needed)?;
        self.tun = self.tun.take().or(fresh);
        Ok(())
    }

    /// Closes it and takes back what was done to the host, if anything was. The TUN itself goes with its last
    /// descriptor.
    pub fn close(&mut self) {
        let untouched = self.table.is_empty() && *self.forwarding.switched() == Switched::default();
        if self.tun.take().is_none() && untouched {
            return;
        }
        // In this order: what is still forwarded is still judged.
        self.forwarding.back();
        firewall::remove();
        self.table.clear();
    }
}

async fn prepare(handle: &Handle) -> io::Result<()> {
    let index = interfaces::index_of(handle, EXIT_INTERFACE).await?;
    let index = index.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the TUN is not there"))?;
    interfaces::set(handle, LinkUnspec::new_with_index(index).mtu(MTU).up().build()).await?;
    for (address, length) in [(IpAddr::V4(HOST_V4), 30), (IpAddr::V6(HOST_V6), 126)] {
        let added = handle.address().add(index, address, length).replace().execute().await;
        added.map_err(io::Error::other)?;
    }
    Ok(())
}
