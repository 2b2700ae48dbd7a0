//! Watching the wire: `tcpdump` writes it down, `tshark` is the independent judge of what it saw.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::Value;

use super::{LabError, Namespace, Result, until};
use edge_node::lab::Process;

/// A running capture.
#[derive(Debug)]
pub struct Tap {
    process: Process,
    file: PathBuf,
}

impl Tap {
    /// Starts to capture what passes `interface` (`any` for all) and matches `filter`. Returns once it listens.
    ///
    /// # Errors
    /// When tcpdump does not start.
    pub fn start(namespace: &Namespace, interface: &str, filter: &str) -> Result<Self> {
        // A name of its own each time: the log of an earlier capture would say "listening" at once.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("tcpdump-{interface}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let file = namespace.directory().join(format!("{name}.pcap"));
        let line = format!(
            "tcpdump --immediate-mode -B 16384 -U -Z root -n -i {interface} -w {} {filter}",
            file.display()
        );
        let process = namespace.spawn(&name, &line)?;
        until("tcpdump listens", Duration::from_secs(5), || {
            Ok(process.log().contains("listening on").then_some(()))
        })?;
        Ok(Self { process, file })
    }

    /// Ends the capture; gives the file.
    ///
    /// # Errors
    /// When tcpdump does not end.
    pub fn stop(mut self) -> Result<PathBuf> {
        self.process.interrupt();
        self.process.wait(Duration::from_secs(5))?;
        Ok(self.file.clone())
    }

    /// The file while it is being written.
    #[must_use]
    pub fn file(&self) -> &std::path::Path {
        &self.file
    }
}

/// One packet as tshark dissected it.
#[derive(Clone, Debug)]
pub struct Dissected {
    /// `_source.layers` of tshark's JSON.
    pub layers: Value,
}

impl Dissected {
    /// The protocols, outermost first, as `frame.protocols` names them.
    #[must_use]
    pub fn protocols(&self) -> String {
        self.layers
            .pointer("/frame/frame.protocols")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    /// Every value of the field `name`, wherever it stands, outermost first.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.layers, name, &mut found);
        found
    }

    /// The first value of the field `name`.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    /// What tshark complains about: expert notes of severity "error" or "warning" that are about form.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let mut found = Vec::new();
        complaints(&self.layers, &mut found);
        found
    }
}

fn collect(value: &Value, name: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                if key == name {
                    match inner {
                        Value::String(text) => found.push(text.clone()),
                        Value::Array(items) => {
                            found.extend(items.iter().filter_map(Value::as_str).map(ToOwned::to_owned));
                        }
                        _ => {}
                    }
                }
                collect(inner, name, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, name, found)),
        _ => {}
    }
}

/// Severity "error" (0x00800000) and the group "malformed" (0x07000000) of tshark's expert notes. A checksum that
/// the sending kernel left to a device is none of them, because checksum checks are off by default.
fn complaints(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if map.contains_key("_ws.malformed") {
                found.push("malformed".into());
            }
            let number = |key: &str| {
                map.get(key)
                    .and_then(Value::as_str)
                    .and_then(|text| text.parse::<u64>().ok())
            };
            let severity = number("_ws.expert.severity").unwrap_or(0);
            let group = number("_ws.expert.group").unwrap_or(0);
            if severity >= 0x0080_0000 || group == 0x0700_0000 {
                let message = map
                    .get("_ws.expert.message")
                    .and_then(Value::as_str)
                    .unwrap_or("a complaint");
                found.push(message.to_owned());
            }
            map.values().for_each(|inner| complaints(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|item| complaints(item, found)),
        _ => {}
    }
}

/// Lets tshark dissect a capture file; only packets that match the display filter `filter` (empty: all).
///
/// # Errors
/// When tshark refuses the file or the filter.
pub fn dissect(file: &std::path::Path, filter: &str) -> Result<Vec<Dissected>> {
    let mut command = std::process::Command::new("tshark");
    command
        .args(["-r"])
        .arg(file)
        .args(["-T", "json", "--no-duplicate-keys", "-n"]);
    if !filter.is_empty() {
        command.args(["-Y", filter]);
    }
    let output = command.output().map_err(|source| LabError::Io {
        what: "run tshark".into(),
        source,
    })?;
    if !output.status.success() {
        return Err(LabError::Unexpected(format!(
            "tshark: {}",
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    let packets: Vec<Value> = serde_json::from_slice(&output.stdout)
        .map_err(|error| LabError::Unexpected(format!("tshark's JSON: {error}")))?;
    Ok(packets
        .into_iter()
        .map(|mut packet| Dissected {
            layers: packet["_source"]["layers"].take(),
        })
        .collect())
}
