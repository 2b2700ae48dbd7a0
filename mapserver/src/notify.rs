//! Map-Notify (RFC 9301 §5.7): the acknowledgment of a Map-Register, and the unsolicited one that tells a former
//! registrant that a prefix moved, repeated until a Map-Notify-Ack comes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use lisp::wire::{
    AuthAlgorithm, Authentication, EidRecord, MapNotify, MapNotifyAck, MapRegister, Purpose, sign, verify,
};
use lisp::{CONTROL_PORT, Nonce};

use crate::{
    Event, MapServer, NotifyPort, NotifyRetransmission, Transmit,
    clock::millis,
    counters::Count,
    prefix_key::PrefixKey,
    registration::{Registrant, Registration, RegistrationKey, SiteTag, WallMillis},
};

/// Who is told of what, and has not answered.
#[derive(Debug, Default)]
pub(crate) struct Notifies {
    pending: BTreeMap<Registrant, Pending>,
    by_nonce: BTreeMap<u64, Registrant>,
    /// When each of `pending` is repeated.
    due: BTreeSet<(WallMillis, Registrant)>,
    last_nonce: u64,
}

/// One registrant. There is one Map-Notify to it in flight at a time; news meanwhile makes a new one, with a greater
/// nonce, that holds what the last one held too. An xTR that drops old nonces then misses nothing.
#[derive(Debug)]
struct Pending {
    address: Address,
    prefixes: BTreeSet<PrefixKey>,
    /// The part of `prefixes` that the message in flight names.
    told: Vec<PrefixKey>,
    nonce: u64,
    payload: Vec<u8>,
    transmissions: u32,
    next: WallMillis,
}

/// Where a registrant is, and what it can verify.
#[derive(Clone, Copy, Debug)]
struct Address {
    site: SiteTag,
    key_id: u8,
    algorithm_id: u8,
    destination: SocketAddr,
    local: IpAddr,
}

impl MapServer {
    /// Answers a Map-Register with M=1. Records that were refused are left out.
    pub(crate) fn acknowledge(&mut self, from: SocketAddr, to: IpAddr, message: &MapRegister, records: Vec<EidRecord>) {
        let prefix = message.records.first().and_then(|record| record.prefix().ok());
        let key_id = message.authentication.key_id;
        let Some(prefix) = prefix else { return };
        let Ok((_, key)) = self.directory.owner(&PrefixKey::from(&prefix), key_id) else {
            return;
        };
        let Some(algorithm) = AuthAlgorithm::from_id(message.authentication.algorithm_id) else {
            return;
        };
        let payload = signed(message.nonce, key_id, algorithm, key.secret.expose(), records);
        let destination = self.notify_destination(from);
        let Some(payload) = payload else { return };
        self.count(Count::map_notify_sent);
        let source = self.source_for(to, destination.ip());
        self.send_after_commit(Transmit {
            source,
            destination,
            payload,
        });
    }

    /// Tells each former registrant which of its prefixes moved.
    pub(crate) fn tell_of_moves(&mut self, wall: WallMillis, moves: Vec<(RegistrationKey, Registration)>) {
        let mut told = BTreeSet::new();
        for (key, former) in moves {
            let full = self.notifies.pending.len() >= self.config.limits.pending_notifies;
            if full && !self.notifies.pending.contains_key(&key.registrant) {
                self.count(Count::table_full);
                continue;
            }
            let address = Address {
                site: former.site,
                key_id: former.key_id,
                algorithm_id: former.algorithm_id,
                destination: self.notify_destination(former.source),
                local: former.local,
            };
            let pending = self.notifies.pending.entry(key.registrant).or_insert_with(|| Pending {
                address,
                prefixes: BTreeSet::new(),
                told: Vec::new(),
                nonce: 0,
                payload: Vec::new(),
                transmissions: 0,
                next: WallMillis::MAX,
            });
            pending.address = address;
            pending.prefixes.insert(key.prefix);
            told.insert((key.registrant, key.prefix));
        }
        let registrants: BTreeSet<Registrant> = told.iter().map(|(registrant, _)| *registrant).collect();
        for registrant in registrants {
            let fresh = told
                .iter()
                .filter(|(who, _)| *who == registrant)
                .map(|(_, prefix)| *prefix)
                .collect();
            self.start_notify(wall, registrant, fresh);
        }
    }

    /// A Map-Notify-Ack: ends the repetition when its authentication fits the Map-Notify it answers.
    pub(crate) fn map_notify_ack(&mut self, wall: WallMillis, from: SocketAddr, bytes: &[u8]) {
        let Ok(MapNotifyAck(ack)) = MapNotifyAck::decode(bytes) else {
            return self.count(Count::malformed);
        };
        let found = self.notifies.by_nonce.get(&ack.nonce.0).copied();
        let found = found.and_then(|registrant| Some((registrant, self.notifies.pending.get(&registrant)?.address)));
        let Some((registrant, address)) = found else {
            return self.count(Count::map_notify_ack_unexpected);
        };
        let key = self
            .directory
            .site(address.site)
            .and_then(|site| site.key(ack.authentication.key_id));
        let authentic = ack.authentication.key_id == address.key_id
            && key
                .is_some_and(|key| verify(bytes, Purpose::MapNotifyAck, key.secret.expose(), &key.algorithms).is_ok());
        if !authentic {
            self.count(Count::map_notify_ack_refused);
            return self.event(Event::Refused {
                reason: Count::map_notify_ack_refused.word(),
                from,
            });
        }
        self.count(Count::map_notify_ack);
        self.notifies.by_nonce.remove(&ack.nonce.0);
        let Some(pending) = self.notifies.pending.get_mut(&registrant) else {
            return;
        };
        for prefix in std::mem::take(&mut pending.told) {
            pending.prefixes.remove(&prefix);
        }
        if pending.prefixes.is_empty() {
            self.notifies.forget(registrant);
        } else {
            self.start_notify(wall, registrant, Vec::new());
        }
    }

    /// Repeats what is due, gives up what was repeated enough.
    pub(crate) fn repeat_notifies(&mut self, wall: WallMillis) {
        while let Some(registrant) = self.notifies.pop_due(wall) {
            let schedule = self.config.map_notify;
            let Some(pending) = self.notifies.pending.get_mut(&registrant) else {
                continue;
            };
            if pending.transmissions > schedule.steady.saturating_add(schedule.doubling) {
                let destination = pending.address.destination;
                self.notifies.forget(registrant);
                self.count(Count::map_notify_unanswered);
                self.event(Event::NotifyUnanswered { destination });
                continue;
            }
            pending.transmissions = pending.transmissions.saturating_add(1);
            pending.next = wall.saturating_add(wait(&schedule, pending.transmissions));
            self.notifies.due.insert((pending.next, registrant));
            let (address, payload) = (pending.address, pending.payload.clone());
            self.count(Count::map_notify_retransmitted);
            self.transmit_notify(address, payload);
        }
    }

    /// Makes a new message of what `registrant` has to be told, `fresh` first, and sends it.
    fn start_notify(&mut self, wall: WallMillis, registrant: Registrant, fresh: Vec<PrefixKey>) {
        let Some(pending) = self.notifies.pending.get(&registrant) else {
            return;
        };
        let address = pending.address;
        let rest = pending.prefixes.iter().filter(|prefix| !fresh.contains(prefix));
        let order: Vec<PrefixKey> = fresh.iter().chain(rest).copied().collect();
        let (told, records, obsolete) = self.news(wall, registrant, &order);
        let algorithm = AuthAlgorithm::from_id(address.algorithm_id);
        let key = self
            .directory
            .site(address.site)
            .and_then(|site| site.key(address.key_id));
        let nonce = self
            .notifies
            .last_nonce
            .saturating_add(1)
            .max(wall.saturating_mul(1_000_000));
        let payload = algorithm
            .zip(key)
            .filter(|_| !told.is_empty())
            .and_then(|(algorithm, key)| signed(Nonce(nonce), address.key_id, algorithm, key.secret.expose(), records));
        let Some(payload) = payload else {
            // Nothing is left to tell, or the key is gone from the configuration.
            return self.notifies.forget(registrant);
        };
        let first = wait(&self.config.map_notify, 1);
        let Some(pending) = self.notifies.pending.get_mut(&registrant) else {
            return;
        };
        for prefix in obsolete {
            pending.prefixes.remove(&prefix);
        }
        self.notifies.due.remove(&(pending.next, registrant));
        self.notifies.by_nonce.remove(&pending.nonce);
        self.notifies.by_nonce.insert(nonce, registrant);
        self.notifies.last_nonce = nonce;
        pending.told = told;
        pending.nonce = nonce;
        pending.payload.clone_from(&payload);
        pending.transmissions = 1;
        pending.next = wall.saturating_add(first);
        self.notifies.due.insert((pending.next, registrant));
        self.count(Count::map_notify_unsolicited);
        self.transmit_notify(address, payload);
    }

    /// The records for one message: what is now registered for the prefixes, as many as fit, and the prefixes of
    /// which there is nothing to tell any more.
    fn news(
        &self,
        wall: WallMillis,
        registrant: Registrant,
        order: &[PrefixKey],
    ) -> (Vec<PrefixKey>, Vec<EidRecord>, Vec<PrefixKey>) {
        let mut room = self.config.limits.notify_bytes.saturating_sub(48);
        let (mut told, mut records, mut obsolete) = (Vec::new(), Vec::new(), Vec::new());
        for prefix in order {
            let current = self.current(*prefix, wall);
            let Some(current) = current.filter(|current| !current.registrants.contains(&registrant)) else {
                obsolete.push(*prefix);
                continue;
            };
            let left = room.checked_sub(current.encoded_len);
            if records.len() >= 255 || (left.is_none() && !records.is_empty()) {
                break;
            }
            room = left.unwrap_or(0);
            told.push(*prefix);
            records.push(current.record);
        }
        (told, records, obsolete)
    }

    fn transmit_notify(&mut self, address: Address, payload: Vec<u8>) {
        let source = self.source_for(address.local, address.destination.ip());
        self.send_after_commit(Transmit {
            source,
            destination: address.destination,
            payload,
        });
    }

    fn notify_destination(&self, registered_from: SocketAddr) -> SocketAddr {
        match self.config.notify_port {
            NotifyPort::Observed => registered_from,
            NotifyPort::Control => SocketAddr::new(registered_from.ip(), CONTROL_PORT),
        }
    }
}

impl Notifies {
    /// When the next repetition is due.
    pub(crate) fn next(&self) -> Option<WallMillis> {
        self.due.first().map(|(next, _)| *next)
    }

    fn pop_due(&mut self, wall: WallMillis) -> Option<Registrant> {
        let first = *self.due.first().filter(|(next, _)| *next <= wall)?;
        self.due.remove(&first);
        Some(first.1)
    }

    fn forget(&mut self, registrant: Registrant) {
        if let Some(pending) = self.pending.remove(&registrant) {
            self.by_nonce.remove(&pending.nonce);
            self.due.remove(&(pending.next, registrant));
        }
    }
}

/// Milliseconds to wait after transmission number `transmissions`: RFC 9301 §5.7 has three repetitions at 3 s, then
/// three more with the interval doubling each time.
fn wait(schedule: &NotifyRetransmission, transmissions: u32) -> u64 {
    let doublings = transmissions.saturating_sub(schedule.steady).min(16);
    millis(schedule.interval).saturating_mul(1 << doublings)
}

fn signed(
    nonce: Nonce,
    key_id: u8,
    algorithm: AuthAlgorithm,
    secret: &[u8],
    records: Vec<EidRecord>,
) -> Option<Vec<u8>> {
    let authentication = Authentication::unsigned(key_id, algorithm);
    let mut payload = MapNotify {
        nonce,
        authentication,
        records,
        xtr: None,
    }
    .encode();
    sign(&mut payload, Purpose::MapNotify, secret).ok()?;
    Some(payload)
}
