//! The exit of local networks to the host's own network: a TUN with an address of its own, forwarding switched on, and
//! an nftables table that lets the host's routes and addresses do the rest.

use std::{
    fs, io,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use dataplane::{control::LocalExitConfig, port::tap::open_local_exit};
use rtnetlink::{Handle, LinkUnspec};

use super::{desired::EXIT_INTERFACE, desired::VNET_HEADER, interfaces};

/// Our end of the TUN, which NAT44 translates to; from RFC 3927's range, which nobody routes.
const INSIDE_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 87, 2);
const HOST_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 87, 1);
const INSIDE_V6: Ipv6Addr = Ipv6Addr::new(0xfd57, 0x6566, 0x7400, 0, 0, 0, 0, 2);
const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd57, 0x6566, 0x7400, 0, 0, 0, 0, 1);
const MTU: u32 = 1500;

/// Switches that make the host forward.
const FORWARDING: [&str; 2] = [
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv6/conf/all/forwarding",
];

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

/// Makes the TUN and tells the host to forward and masquerade what comes out of it. `uplinks` are interfaces that learn
/// their routes from the underlay.
///
/// # Errors
/// What the kernel or `nft` refused, in words for the operator.
pub async fn open<'a>(handle: &Handle, uplinks: impl Iterator<Item = &'a str>) -> Result<OwnedFd, String> {
    let fd =
        open_local_exit(EXIT_INTERFACE).map_err(|error| format!("cannot make the TUN `{EXIT_INTERFACE}`: {error}"))?;
    prepare(handle)
        .await
        .map_err(|error| format!("cannot set up `{EXIT_INTERFACE}`: {error}"))?;
    masquerade()?;
    for uplink in uplinks {
        keep_router_advertisements(uplink);
    }
    for switch in FORWARDING {
        fs::write(switch, "1").map_err(|error| format!("cannot switch forwarding on in {switch}: {error}"))?;
    }
    Ok(fd)
}

/// A host that forwards does not listen to router advertisements any more unless it is told to (`accept_ra` 2): the
/// uplink would lose its routes and addresses.
fn keep_router_advertisements(uplink: &str) {
    let switch = format!("/proc/sys/net/ipv6/conf/{uplink}/accept_ra");
    if fs::read_to_string(&switch).is_ok_and(|value| value.trim() == "1")
        && let Err(error) = fs::write(&switch, "2")
    {
        tracing::warn!(uplink, %error, "router advertisements will not be heard any more");
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

fn masquerade() -> Result<(), String> {
    let rules = format!(
        "table inet weft\ndelete table inet weft\ntable inet weft {{\n\
         \tchain from-guests {{\n\t\ttype nat hook postrouting priority srcnat;\n\
         \t\tip saddr {INSIDE_V4} oifname != \"{EXIT_INTERFACE}\" masquerade\n\
         \t\tip6 saddr {INSIDE_V6} oifname != \"{EXIT_INTERFACE}\" masquerade\n\t}}\n}}\n"
    );
    nft(&["-f", "-"], &rules)
}

/// Takes the table away again. The TUN goes with its last descriptor.
pub fn close() {
    if let Err(error) = nft(&["delete", "table", "inet", "weft"], "") {
        tracing::debug!(error, "the nftables table was not removed");
    }
}

fn nft(arguments: &[&str], input: &str) -> Result<(), String> {
    let child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| format!("`nft` does not start: {error}; install the package nftables"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // What `nft` did not read it complains about itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| format!("`nft` failed: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "`nft` refused: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
