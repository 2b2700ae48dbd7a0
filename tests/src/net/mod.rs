//! Scenarios in network namespaces: the real binary, real `ping`, `iperf3`, `tcpdump`, `tshark`. Needs root.

mod fabric;
pub mod files;
mod raw;
mod wire;

use std::{path::PathBuf, sync::Mutex};

pub use edge_node::lab::{Beats, Guest, Heartbeat, Lab, LabError, Namespace, Node, Result, Site, Transport, Underlay};
pub use edge_node::lab::{holds_for, until};
pub use fabric::{Fabric, GUEST_MAC, SiteKind, Standing};
pub use raw::{LinkSocket, ethernet, ipv6_udp, udp_from};
pub use wire::{Dissected, Tap, dissect};

/// Programs that scenarios use.
pub const TOOLS: &[&str] = &[
    "ping", "iperf3", "dhclient", "tcpdump", "tshark", "ethtool", "rdisc6", "nft", "dig",
];

/// The `weft` binary beside this test: `cargo build -p edge-node` (or `make test`) puts it there.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn weft() -> PathBuf {
    if let Some(path) = std::env::var_os("WEFT_BIN") {
        return path.into();
    }
    let mut path = std::env::current_exe().expect("this test's own file");
    path.pop();
    path.pop();
    path.push("weft");
    assert!(
        path.exists(),
        "{} is missing: run `cargo build -p edge-node --bin weft` first",
        path.display()
    );
    path
}

/// Runs a scenario in a lab of its own and checks that nothing of it is left. One at a time within a process.
///
/// # Panics
/// When the scenario fails, with its own words, or when something stays behind.
pub fn scenario(play: impl FnOnce(&Lab) -> Result<()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let lab = Lab::new(TOOLS).unwrap_or_else(|error| panic!("{error}"));
    let played = play(&lab);
    let cleaned = lab.close();
    if let Err(error) = played {
        panic!("{error}");
    }
    cleaned.unwrap_or_else(|error| panic!("{error}"));
}

/// Processes that carry the mark of the lab with this prefix.
#[must_use]
pub fn marked_processes(prefix: &str) -> Vec<u32> {
    let mark = format!("{}={prefix}", edge_node::lab::MARK).into_bytes();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == mark))
        })
        .collect()
}

/// Value of the counter `word` in a status document, wherever it stands there; 0 when it is not named. Counters of
/// several parts with the same word add up.
#[must_use]
pub fn counter(status: &serde_json::Value, word: &str) -> u64 {
    use serde_json::Value;
    match status {
        Value::Object(map) => map
            .iter()
            .map(|(key, inner)| match inner.as_u64() {
                Some(number) if key == word || key.rsplit('.').next() == Some(word) => number,
                _ => counter(inner, word),
            })
            .sum(),
        Value::Array(items) => match items.as_slice() {
            [Value::String(name), Value::Number(number)] if name == word || name.rsplit('.').next() == Some(word) => {
                number.as_u64().unwrap_or(0)
            }
            _ => items.iter().map(|item| counter(item, word)).sum(),
        },
        _ => 0,
    }
}
