//! Map-Notify (RFC 9301 §5.7): verified before anything else, then either an acknowledgment of a Map-Register or
//! unsolicited news, which is acknowledged by a Map-Notify-Ack.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use lisp::wire::{Authentication, EidRecord, MapNotify, MapNotifyAck, Purpose, sign, verify};
use lisp::{CONTROL_PORT, EidPrefix, Locator, Nonce};

use crate::{Config, Event, MapServerPeer, database::Database, outbox::Outbox};

/// What is remembered of unsolicited Map-Notifies: the highest nonce obeyed, for each Map-Server.
#[derive(Debug, Default)]
pub(crate) struct Notifies {
    last: BTreeMap<SocketAddr, Nonce>,
}

/// The configured Map-Server that signed `bytes`: one that the datagram came from, or any with this Key-ID (a
/// Map-Server may answer from another of its addresses). The MAC is compared in constant time.
pub(crate) fn signer<'a>(
    config: &'a Config,
    from: SocketAddr,
    notify: &MapNotify,
    bytes: &[u8],
) -> Option<&'a MapServerPeer> {
    let with_key = || {
        config
            .map_servers
            .iter()
            .filter(|peer| peer.key_id == notify.authentication.key_id)
    };
    with_key()
        .filter(|peer| peer.address.ip() == from.ip())
        .chain(with_key())
        .find(|peer| verify(bytes, Purpose::MapNotify, peer.secret.expose(), &[peer.algorithm]).is_ok())
}

/// How a datagram came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// From whom.
    pub(crate) from: SocketAddr,
    /// To which address of ours.
    pub(crate) to: IpAddr,
}

impl Notifies {
    /// An authentic Map-Notify that answers nothing came. Acknowledges it, and says which of our prefixes moved.
    pub(crate) fn unsolicited(
        &mut self,
        config: &Config,
        database: &Database,
        peer: &MapServerPeer,
        way: Way,
        notify: &MapNotify,
        out: &mut Outbox,
    ) -> Vec<EidPrefix> {
        let last = self.last.get(&peer.address).copied();
        if last.is_some_and(|last| notify.nonce < last) {
            out.counters.map_notify_replayed = out.counters.map_notify_replayed.saturating_add(1);
            return Vec::new();
        }
        acknowledge(config, peer, way, notify, out);
        if last == Some(notify.nonce) {
            // Repeated because our Map-Notify-Ack was lost: acknowledged again, obeyed once.
            out.counters.map_notify_replayed = out.counters.map_notify_replayed.saturating_add(1);
            return Vec::new();
        }
        self.last.insert(peer.address, notify.nonce);
        out.counters.map_notify_unsolicited = out.counters.map_notify_unsolicited.saturating_add(1);
        let mut moved = Vec::new();
        for record in &notify.records {
            let Some((prefix, locators)) = elsewhere(config, database, record) else {
                continue;
            };
            out.counters.map_notify_moved = out.counters.map_notify_moved.saturating_add(1);
            out.event(Event::Moved {
                map_server: peer.address,
                prefix,
                locators,
            });
            moved.push(prefix);
        }
        moved
    }
}

/// Whether the record places a prefix of ours at locators none of which is ours.
fn elsewhere(config: &Config, database: &Database, record: &EidRecord) -> Option<(EidPrefix, Vec<Locator>)> {
    let mapping = record.to_mapping().ok()?;
    let ours = database.table.longest_cover(&mapping.prefix).is_some();
    let with_us = mapping
        .locators
        .iter()
        .any(|locator| config.is_own(locator.rloc.address));
    (ours && !mapping.is_negative() && !with_us).then_some((mapping.prefix, mapping.locators))
}

/// Repeats the Map-Notify as a Map-Notify-Ack, signed anew, from and to port 4342.
fn acknowledge(config: &Config, peer: &MapServerPeer, way: Way, notify: &MapNotify, out: &mut Outbox) {
    let mut ack = notify.clone();
    ack.authentication = Authentication::unsigned(peer.key_id, peer.algorithm);
    let mut payload = MapNotifyAck(ack).encode();
    if sign(&mut payload, Purpose::MapNotifyAck, peer.secret.expose()).is_err() {
        return;
    }
    out.counters.map_notify_ack_sent = out.counters.map_notify_ack_sent.saturating_add(1);
    let source = config.is_own(way.to).then_some(way.to);
    out.send(source, SocketAddr::new(way.from.ip(), CONTROL_PORT), payload);
}
