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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_after_a_restart() {
        assert_eq!(port("guest-a", "eth0"), PortId(306_804_344));
        assert_eq!(port("guest-a", "eth0"), port("guest-a", "eth0"));
        assert_eq!(nic("guest-a", "eth0"), "guest-a/eth0");
    }

    #[test]
    fn names_that_run_together_differ() {
        assert_ne!(port("a", "bc"), port("ab", "c"));
        assert_ne!(port("a", "b").0, uplink("a").0);
    }

    #[test]
    fn the_highest_network_numbers_stay_free() {
        for name in ["plant", "lan", "a", "b", "c", "d", "e", "f"] {
            assert!(network(name).0 <= 0x7fff_ffff);
        }
    }
}
