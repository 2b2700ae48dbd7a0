//! Numbers that the packet path knows things by. They are derived from names, so that a restarted control names the
//! same port the same way, and are never reused for another NIC while the node lives.

use dataplane::control::{NetworkId, PortId, UplinkId};
use ring::digest;

/// Number of a guest's NIC.
pub fn port(guest: &str, nic: &str) -> PortId {
    PortId(number(&["port", guest, nic]))
}

/// Number of a network.
pub fn network(name: &str) -> NetworkId {
    // The packet path keeps the highest number for the host's own network.
    NetworkId(number(&["network", name]) & 0x7fff_ffff)
}

/// Number of an uplink.
pub fn uplink(interface: &str) -> UplinkId {
    UplinkId(number(&["uplink", interface]))
}

fn number(parts: &[&str]) -> u32 {
    let hash = digest::digest(&digest::SHA256, parts.join("\0").as_bytes());
    let mut first = [0; 4];
    first.copy_from_slice(&hash.as_ref()[..4]);
    u32::from_be_bytes(first)
}

/// How a NIC is called in traces, captures and counters.
pub fn nic(guest: &str, nic: &str) -> String {
    format!("{guest}/{nic}")
}
