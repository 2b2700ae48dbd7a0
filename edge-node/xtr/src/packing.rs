//! Many records into as few messages as fit the path.

use lisp::wire::EidRecord;
use lisp::{EidPrefix, Nonce};

use crate::{Config, MapServerPeer, compose};

/// Records that one message can count.
const RECORDS: usize = 255;

/// Parts that each fit one packet on an unknown path (§5).
pub(crate) fn split(
    peer: &MapServerPeer,
    config: &Config,
    records: Vec<(EidPrefix, EidRecord)>,
) -> Vec<Vec<(EidPrefix, EidRecord)>> {
    let any_sealed = records.iter().any(|(prefix, _)| config.is_sealed(prefix.instance_id()));
    let seal = if any_sealed {
        compose::seal_locator(config)
    } else {
        None
    };
    let most = compose::largest_payload(peer.address.ip()).saturating_sub(seal.map_or(0, |seal| seal.encoded_len()));
    let mut probe = compose::map_register(peer, config, Nonce(0));
    let head = probe.encode().len();
    let mut parts: Vec<Vec<(EidPrefix, EidRecord)>> = Vec::new();
    let mut used = usize::MAX;
    for (prefix, record) in records {
        probe.records = vec![record];
        let size = probe.encode().len().saturating_sub(head);
        let Some(record) = probe.records.pop() else { continue };
        match parts.last_mut() {
            Some(part) if used.saturating_add(size) <= most && part.len() < RECORDS => {
                used = used.saturating_add(size);
                part.push((prefix, record));
            }
            _ => {
                used = head.saturating_add(size);
                parts.push(vec![(prefix, record)]);
            }
        }
    }
    parts
}
