//! Guests' interfaces: TAPs made, brought up, moved into namespaces; veths opened.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
};

use dataplane::port::{packet::open_packet, tap::open_tap};
use futures::TryStreamExt as _;
use rtnetlink::{Handle, LinkUnspec, new_connection, packet_route::link::LinkAttribute};

use crate::intent::{Attach, Nic, TapNamespace};

/// Bytes of the longest super-packet that guests send: 64 segments of an uplink's MTU do not get longer.
const SUPER_PACKET: u32 = 59_000;

/// Opens what a NIC is attached by and brings it up; a TAP goes into its namespace when it has one. With the
/// descriptor comes the index of the veth that it is tied to.
///
/// # Errors
/// With what the kernel refused, in words for the operator.
pub async fn open(handle: &Handle, nic: &Nic, mtu: u16) -> Result<(OwnedFd, Option<u32>), String> {
    match &nic.attach {
        Attach::Tap { interface, netns } => {
            let fd = open_tap(interface, false).map_err(|error| explain("make the TAP", interface, &error))?;
            let index = index_of(handle, interface)
                .await
                .map_err(|error| explain("find the TAP", interface, &error))?
                .ok_or_else(|| format!("the TAP `{interface}` is not there right after it was made"))?;
            // Then one super-packet of the guest is one send of an uplink. Older kernels do not know the attribute.
            let segments =
                LinkUnspec::new_with_index(index).append_extra_attribute(LinkAttribute::GsoMaxSize(SUPER_PACKET));
            if let Err(error) = set(handle, segments.build()).await {
                tracing::debug!(interface, %error, "gso_max_size was not set");
            }
            // The other end of a TAP is the guest's NIC itself.
            let mac = LinkUnspec::new_with_index(index).address(nic.mac.to_vec()).build();
            set(handle, mac)
                .await
                .map_err(|error| explain("set the MAC of", interface, &error))?;
            let up = LinkUnspec::new_with_index(index).mtu(u32::from(mtu)).up().build();
            match netns {
                None => set(handle, up)
                    .await
                    .map_err(|error| explain("bring up", interface, &error))?,
                Some(namespace) => into(handle, index, interface, namespace, mtu).await?,
            }
            Ok((fd, None))
        }
        Attach::Veth { interface } => {
            let index = index_of(handle, interface)
                .await
                .map_err(|error| explain("find", interface, &error))?
                .ok_or_else(|| format!("interface `{interface}` is not there"))?;
            silence(interface);
            let message = LinkUnspec::new_with_index(index).up().build();
            set(handle, message)
                .await
                .map_err(|error| explain("bring up", interface, &error))?;
            let fd = open_packet(interface).map_err(|error| explain("open", interface, &error))?;
            Ok((fd, Some(index)))
        }
    }
}

/// The host's own IP stack sees what comes in on our end of the veth too: it shall have no say there.
fn silence(interface: &str) {
    let switches = [
        (format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1"),
        // No ARP for any address.
        (format!("/proc/sys/net/ipv4/conf/{interface}/arp_ignore"), "8"),
    ];
    for (switch, value) in switches {
        if let Err(error) = fs::write(&switch, value) {
            tracing::warn!(switch, %error, "the host's own stack may answer the guest");
        }
    }
}

/// Index of an interface; `None` when there is none of that name.
pub async fn index_of(handle: &Handle, interface: &str) -> io::Result<Option<u32>> {
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await.map_err(io::Error::other)? {
        let named = link
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, LinkAttribute::IfName(name) if name == interface));
        if named {
            return Ok(Some(link.header.index));
        }
    }
    Ok(None)
}

/// Sets a link's properties.
pub async fn set(handle: &Handle, message: rtnetlink::packet_route::link::LinkMessage) -> io::Result<()> {
    handle.link().change(message).execute().await.map_err(io::Error::other)
}

/// Where `ip netns` keeps a namespace.
pub fn namespace_path(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

async fn into(handle: &Handle, index: u32, interface: &str, namespace: &TapNamespace, mtu: u16) -> Result<(), String> {
    let path = namespace_path(&namespace.name);
    let file = File::open(&path).map_err(|error| format!("namespace `{}`: {error}", namespace.name))?;
    let message = LinkUnspec::new_with_index(index)
        .name(&namespace.interface)
        .setns_by_fd(file.as_raw_fd())
        .build();
    set(handle, message)
        .await
        .map_err(|error| explain(&format!("move into namespace `{}`", namespace.name), interface, &error))?;
    let target = namespace.interface.clone();
    let inside = tokio::task::spawn_blocking(move || bring_up_inside(&file, &target, mtu));
    match inside.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(explain("bring up", &namespace.interface, &error)),
        Err(error) => Err(format!("bringing up `{}` ended early: {error}", namespace.interface)),
    }
}

/// On a thread of its own, since it changes that thread's namespace for good.
fn bring_up_inside(namespace: &File, interface: &str, mtu: u16) -> io::Result<()> {
    std::thread::scope(|scope| {
        let work = scope.spawn(|| -> io::Result<()> {
            rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(namespace),
                Some(rustix::thread::LinkNameSpaceType::Network),
            )?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (connection, handle, _) = new_connection()?;
                let driver = tokio::spawn(connection);
                let index = index_of(&handle, interface).await?;
                let index = index.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it did not arrive"))?;
                set(
                    &handle,
                    LinkUnspec::new_with_index(index).mtu(u32::from(mtu)).up().build(),
                )
                .await?;
                driver.abort();
                Ok(())
            })
        });
        work.join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}

fn explain(what: &str, interface: &str, error: &io::Error) -> String {
    format!("cannot {what} `{interface}`: {error}")
}
