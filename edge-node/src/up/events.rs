//! What happens to a node: events of the packet path, of the xTR, of the clock; each turned into what the others need
//! to know.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use dataplane::{
    control::{
        Answer, Change, Event as PacketEvent, MappingConfig, MappingStatus, MappingTarget, PathHealth, PathLocator,
        Query,
    },
    port::uplink_sockets::path_mtu,
};
use lisp::{EidPrefix, Mapping, Rloc};
use tokio::sync::mpsc;
use xtr::{Command, Event};

use super::{node::Node, packets::FromPackets, shell::Outgoing};

/// A path MTU that the kernel told us is believed for this long (RFC 8201 §4).
const PATH_MTU_LIFE: Duration = Duration::from_secs(600);
/// How long status tells that another node registered a prefix of ours; it is told anew each time.
const MOVED_LATELY: Duration = Duration::from_secs(120);
/// Seconds between two looks at how much mappings are used.
const USE_INTERVAL: u64 = 5;

impl Node {
    /// The packet path says something.
    pub(super) async fn packet_event(&mut self, event: FromPackets) {
        match event {
            FromPackets::Connected {
                hello,
                descriptors,
                starts,
            } => {
                self.greet(&hello, starts);
                self.descriptors.adopt(&hello, descriptors, &self.interfaces.borrow());
                self.send_everything().await;
                self.greet_sealed(&hello, starts);
            }
            FromPackets::Lost(reason) => {
                self.connected = false;
                self.packet_path.pid = None;
                self.packet_path.last_end = Some(reason);
                self.capture = None;
            }
            FromPackets::Event(event) => self.heard(event),
        }
    }

    fn heard(&mut self, event: PacketEvent) {
        let Some(event) = self.heard_sealed(event) else { return };
        match event {
            PacketEvent::MapCacheMiss { eid, source } => {
                self.shell.command(Command::Resolve {
                    eid,
                    source: Some(source),
                });
            }
            PacketEvent::UnservedEid { eid, from, node } => {
                self.shell.command(Command::SolicitMapRequest {
                    eid,
                    to: Rloc::new(from.address),
                    node,
                });
            }
            PacketEvent::TrafficSent(rlocs) => self.shell.command(Command::TrafficSent { rlocs }),
            PacketEvent::ControlInData { from, payload } => self.shell.data_datagram(from, &payload),
            PacketEvent::PathTooSmall { rloc, size } => self.path_too_small(rloc, size),
            PacketEvent::PortFailed(id, reason) => {
                // Not served any more, and so not registered any more; it comes back with its interface.
                self.failed_lately = true;
                self.descriptors.port_failed(id);
                if let Some(port) = self.desired.ports.remove(&id) {
                    tracing::error!(guest = port.name, reason, "a guest port failed");
                    self.failures.push(format!("guest port {}: {reason}", port.name));
                    self.send(vec![Change::RemovePort(id)]);
                    let more = self.tell_xtr();
                    self.failures.extend(more);
                }
            }
            PacketEvent::UplinkFailed(id, reason) => {
                self.failed_lately = true;
                self.descriptors.uplink_failed(id);
                if let Some(uplink) = self.desired.uplinks.remove(&id) {
                    tracing::error!(uplink = uplink.name, reason, "an uplink failed");
                    self.failures.push(format!("uplink {}: {reason}", uplink.name));
                    self.send(vec![Change::RemoveUplink(id)]);
                    let more = self.tell_xtr();
                    self.failures.extend(more);
                }
            }
            PacketEvent::Captured(packet) => {
                if let Some(capture) = &self.capture
                    && capture
                        .try_send(packet)
                        .is_err_and(|error| matches!(error, mpsc::error::TrySendError::Closed(_)))
                {
                    self.end_capture();
                }
            }
            PacketEvent::Descriptors(_) => {}
            other => tracing::debug!(?other, "an event that nobody waits for"),
        }
    }

    fn path_too_small(&mut self, rloc: Rloc, size: u32) {
        let local = self.desired.uplinks.values().flat_map(|uplink| &uplink.addresses);
        let local: Option<&IpAddr> = local
            .into_iter()
            .find(|address| address.is_ipv4() == rloc.address.is_ipv4());
        let Some(local) = local else { return };
        let Ok(mtu) = path_mtu(*local, rloc.address) else {
            return;
        };
        if mtu >= size {
            return;
        }
        let before = self.health.get(&rloc).copied();
        let health = PathHealth {
            rloc,
            up: before.is_none_or(|health| health.up),
            mtu: Some(mtu),
        };
        self.path_mtus.insert(rloc, Instant::now() + PATH_MTU_LIFE);
        self.set_health(health);
    }

    fn set_health(&mut self, health: PathHealth) {
        if self.health.insert(health.rloc, health) != Some(health) {
            self.send(vec![Change::PutPathHealth(health)]);
        }
    }

    pub(super) fn send(&self, changes: Vec<Change>) {
        if let Some(packets) = &self.packets
            && self.connected
        {
            packets.send(changes);
        }
    }

    /// Carries out what the xTR has to say.
    pub(super) fn flush_xtr(&mut self) {
        let (mut changes, mut queries) = (Vec::new(), Vec::new());
        let mut answered = Vec::new();
        for event in self.shell.events() {
            let Some(event) = self.said_sealed(event, &mut changes, &mut queries) else {
                continue;
            };
            match event {
                Event::MappingInstalled { mapping, node, .. } => {
                    let config = MappingConfig {
                        node,
                        ..mapping_config(&mapping)
                    };
                    answered.push(config.prefix);
                    self.unconfirmed.remove(&config.prefix);
                    self.mappings.insert(config.prefix, config.clone());
                    changes.push(Change::PutMapping(config));
                }
                Event::MappingRemoved(prefix) => {
                    self.unconfirmed.remove(&prefix);
                    self.mappings.remove(&prefix);
                    changes.push(Change::RemoveMapping(prefix));
                }
                Event::LocatorState { rloc, reachable, .. } => {
                    let mtu = self.health.get(&rloc).and_then(|health| health.mtu);
                    self.set_health(PathHealth {
                        rloc,
                        up: reachable,
                        mtu,
                    });
                }
                Event::LookupDone { id, result } => {
                    if let Some(waiter) = self.lookups.remove(&id) {
                        let _ = waiter.send(result);
                    }
                }
                Event::Moved { prefix, map_server, .. } => {
                    tracing::warn!(eid = %prefix, %map_server, "another node registered this prefix, which is served here");
                    self.moved.insert(prefix, Instant::now());
                }
                Event::Registration {
                    map_server,
                    prefix,
                    state,
                } => {
                    tracing::debug!(eid = %prefix, %map_server, ?state, "registration");
                }
                Event::ResolveFailed { eid, .. } => tracing::debug!(%eid, "nobody answers for this EID"),
                other => tracing::debug!(?other, "an event that nobody waits for"),
            }
        }
        for prefix in outlived(&mut self.unconfirmed, &answered) {
            self.mappings.remove(&prefix);
            changes.push(Change::RemoveMapping(prefix));
        }
        if changes
            .iter()
            .any(|change| matches!(change, Change::PutBinding(_) | Change::RemoveBinding(_)))
        {
            self.bindings_changed();
        }
        let outgoing = self.shell.outgoing();
        let send = move || outgoing.into_iter().for_each(Outgoing::send);
        match self.packets.as_ref().filter(|_| self.connected) {
            // Whoever is answered may send at once: what he sends must be opened.
            Some(packets) if changes.iter().any(|change| matches!(change, Change::PutSa(_))) => {
                packets.send_then(changes, send);
            }
            Some(packets) => {
                packets.send(changes);
                send();
            }
            None => send(),
        }
        if let Some(packets) = self.packets.as_ref().filter(|_| self.connected) {
            queries.into_iter().for_each(|query| packets.post(query));
        }
    }

    /// Asks which mappings packets matched lately: their use keeps them from eviction, and has them refreshed in time.
    fn ask_for_use(&self) {
        if let Some(packets) = self.packets.clone().filter(|_| self.connected) {
            let sender = self.use_sender.clone();
            tokio::spawn(async move {
                if let Answer::Mappings(held) = packets.ask(Query::Mappings).await {
                    let _ = sender.send(held).await;
                }
            });
        }
    }

    /// What the packet path says of their use.
    pub(super) fn mappings_used(&mut self, held: &[MappingStatus]) {
        let before = std::mem::take(&mut self.packets_by);
        let mut used = Vec::new();
        for status in held {
            let prefix = status.mapping.prefix;
            // A packet path that was started anew counts from zero.
            let seen = before
                .get(&prefix)
                .copied()
                .filter(|seen| *seen <= status.packets)
                .unwrap_or(0);
            let fresh = status.packets.saturating_sub(seen);
            if fresh > 0 {
                used.push((prefix, fresh));
            }
            self.packets_by.insert(prefix, status.packets);
        }
        if !used.is_empty() {
            self.shell.command(Command::MappingsUsed(used));
        }
    }

    /// What is to be done once a second.
    pub(super) fn second(&mut self) {
        self.seconds = self.seconds.wrapping_add(1);
        if self.seconds.is_multiple_of(USE_INTERVAL) {
            self.ask_for_use();
        }
        self.sealed_second();
        let now = Instant::now();
        let stale: Vec<EidPrefix> = self
            .unconfirmed
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(prefix, _)| *prefix)
            .collect();
        for prefix in stale {
            self.unconfirmed.remove(&prefix);
            self.mappings.remove(&prefix);
            self.send(vec![Change::RemoveMapping(prefix)]);
        }
        let old: Vec<Rloc> = self
            .path_mtus
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(rloc, _)| *rloc)
            .collect();
        for rloc in old {
            self.path_mtus.remove(&rloc);
            if let Some(health) = self.health.get(&rloc).copied() {
                self.set_health(PathHealth { mtu: None, ..health });
            }
        }
        // A locator that is up says no more than one that nothing is known of.
        let mappings = &self.mappings;
        self.health.retain(|rloc, health| {
            !health.up || health.mtu.is_some() || mappings.values().any(|mapping| uses(mapping, *rloc))
        });
        self.moved
            .retain(|_, at| now.saturating_duration_since(*at) < MOVED_LATELY);
        if self.capture.as_ref().is_some_and(mpsc::Sender::is_closed) {
            self.end_capture();
        }
    }

    fn end_capture(&mut self) {
        self.capture = None;
        if let Some(packets) = self.packets.clone() {
            tokio::spawn(packets.ask(Query::Capture(None)));
        }
    }
}

/// Takes the adopted prefixes out of `unconfirmed` that lie inside of one that was answered now: the answer brings all
/// more-specifics that there are (RFC 9301 §5.5), and what it brought is confirmed already.
fn outlived(unconfirmed: &mut BTreeMap<EidPrefix, Instant>, answered: &[EidPrefix]) -> Vec<EidPrefix> {
    let inside = |prefix: &EidPrefix| answered.iter().any(|answered| answered.covers(prefix));
    let gone: Vec<EidPrefix> = unconfirmed.keys().filter(|prefix| inside(prefix)).copied().collect();
    for prefix in &gone {
        unconfirmed.remove(prefix);
    }
    gone
}

fn uses(mapping: &MappingConfig, rloc: Rloc) -> bool {
    match &mapping.target {
        MappingTarget::Locators(locators) => locators.iter().any(|locator| locator.rloc == rloc),
        MappingTarget::Negative(_) => false,
    }
}

fn mapping_config(mapping: &Mapping) -> MappingConfig {
    let target = if mapping.is_negative() {
        MappingTarget::Negative(mapping.action)
    } else {
        let locators = mapping.locators.iter().map(|locator| PathLocator {
            rloc: locator.rloc,
            priority: locator.priority,
            weight: locator.weight,
            reachable: locator.reachable,
        });
        MappingTarget::Locators(locators.collect())
    };
    MappingConfig {
        prefix: mapping.prefix,
        target,
        node: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_what_was_adopted_inside_of_it_and_nothing_else() {
        let prefix = |text: &str| text.parse::<EidPrefix>().expect("a prefix");
        let until = Instant::now();
        let adopted = ["[7]fd07::2/128", "[7]fd07::/64", "[8]fd07::2/128", "[7]fd07::1:0/112"];
        let mut unconfirmed: BTreeMap<EidPrefix, Instant> = adopted.iter().map(|text| (prefix(text), until)).collect();
        // The answer for fd07::2 covers it and has no longer match.
        assert_eq!(
            outlived(&mut unconfirmed, &[prefix("[7]fd07::/112")]),
            vec![prefix("[7]fd07::2/128")]
        );
        let left: Vec<EidPrefix> = unconfirmed.into_keys().collect();
        let mut expected = vec![
            prefix("[7]fd07::/64"),
            prefix("[8]fd07::2/128"),
            prefix("[7]fd07::1:0/112"),
        ];
        expected.sort();
        assert_eq!(left, expected);
    }
}
