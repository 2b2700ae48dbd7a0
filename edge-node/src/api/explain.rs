//! What `trace` adds from what the node believes, and does not believe, of others.

use std::net::IpAddr;

use dataplane::control::TraceStep;
use lisp::{Eid, EidPrefix, InstanceId, mesh::KeyId};

use crate::up::status::Status;

/// Which node speaks for `address`, as far as this node believes.
pub(super) fn holder(status: &Status, instance_id: InstanceId, address: IpAddr) -> Option<KeyId> {
    let eid = Eid::new(instance_id, address);
    let bindings = status.sealed.iter().flat_map(|sealed| &sealed.bindings);
    let covering = bindings.filter_map(|binding| {
        let prefix: EidPrefix = binding.eid_prefix.parse().ok()?;
        prefix.contains(&eid).then_some((prefix.length(), &binding.node))
    });
    covering.max_by_key(|(length, _)| *length)?.1.parse().ok()
}

/// Why what was said of `eid` lately was not believed, as the last steps of a trace.
pub(super) fn refusals(status: &Status, eid: Eid) -> Vec<TraceStep> {
    let name = eid.to_string();
    let all = status.sealed.iter().flat_map(|sealed| &sealed.refusals);
    all.filter(|refusal| refusal.eid == name)
        .map(|refusal| TraceStep {
            stage: "mesh".to_owned(),
            verdict: "refused".to_owned(),
            detail: format!("{} ({}, {:.0} s ago)", refusal.reason, refusal.by, refusal.ago),
        })
        .collect()
}
