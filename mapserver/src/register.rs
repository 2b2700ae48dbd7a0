//! Map-Register (RFC 9301 §5.6, §8.2): nothing changes before everything about the message has been checked.
//!
//! In order: it decodes; the most specific configured prefix names the site, the Key-ID its secret; the algorithm is
//! one that this key accepts; the MAC verifies; every record belongs to a site with the same secret; in a sealed network
//! the node's signature and the bindings hold (`sealed.rs`); the nonce is greater than the last one; the tables have room. Then the records are stored one by one, and the Map-Notify waits
//! until the store has committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lisp::wire::{AuthAlgorithm, AuthError, EidRecord, MapRegister, Purpose, RlocRecord, verify};
use lisp::{EidPrefix, Ttl};

use crate::{
    Event, MapServer,
    clock::millis,
    counters::Count,
    directory::Ownership,
    prefix_key::PrefixKey,
    registration::{Registrant, Registration, RegistrationKey, SiteTag, WallMillis, encode_record},
    replay::{KeyTag, NonceKey},
    sealed::{Bound, epoch_key, is_seal},
    store::{StoreError, Upsert},
};

/// A record that may be stored.
struct Checked {
    prefix: EidPrefix,
    key: RegistrationKey,
    site: SiteTag,
    record: EidRecord,
    /// In a sealed network: what its binding says, or why it is not believed.
    bound: Result<Option<Bound>, Count>,
}

/// A Map-Register that may be obeyed.
struct Authentic {
    message: MapRegister,
    records: Vec<Checked>,
    nonces: Vec<NonceKey>,
}

/// Where a message came from, and when.
#[derive(Clone, Copy)]
struct Arrival {
    wall: WallMillis,
    from: SocketAddr,
    to: IpAddr,
}

/// What became of one record.
enum Outcome {
    Accepted,
    /// The prefix moved to another xTR and was not taken back since.
    Superseded,
    /// Its binding is not believed.
    Refused(Count),
}

impl MapServer {
    pub(crate) fn map_register(&mut self, wall: WallMillis, from: SocketAddr, to: IpAddr, bytes: &[u8]) {
        let authentic = match self.check_register(wall, from, bytes) {
            Ok(authentic) => authentic,
            Err(reason) => {
                self.count(reason);
                self.event(Event::Refused {
                    reason: reason.word(),
                    from,
                });
                return;
            }
        };
        self.count(Count::map_register);
        if let Err(error) = self.obey(Arrival { wall, from, to }, authentic) {
            self.store_failed(&error);
        }
    }

    fn check_register(&self, wall: WallMillis, from: SocketAddr, bytes: &[u8]) -> Result<Authentic, Count> {
        let message = MapRegister::decode(bytes).map_err(|_| Count::malformed)?;
        let key_id = message.authentication.key_id;
        let first = message.records.first().ok_or(Count::no_records)?;
        let first = first.prefix().map_err(|_| Count::prefix_not_owned)?;
        let (_, key) = self
            .directory
            .owner(&PrefixKey::from(&first), key_id)
            .map_err(refusal)?;
        authenticate(bytes, &message, key.secret.expose(), &key.algorithms)?;
        let tag = KeyTag::of(key_id, &key.secret);

        let mut records = Vec::with_capacity(message.records.len());
        for record in &message.records {
            let prefix = record.prefix().map_err(|_| Count::prefix_not_owned)?;
            let prefix_key = PrefixKey::from(&prefix);
            let (site, its) = self
                .directory
                .owner(&prefix_key, key_id)
                .map_err(|reason| match reason {
                    // It is authentic, so the xTR has a key, but not one of this prefix's site.
                    Ownership::UnknownKeyId => Count::prefix_not_owned,
                    other => refusal(other),
                })?;
            if its.secret != key.secret {
                return Err(Count::prefix_not_owned);
            }
            let site = SiteTag::of(&site.name);
            let key = RegistrationKey {
                prefix: prefix_key,
                registrant: Registrant::of(site, message.xtr, from.ip()),
            };
            records.push(Checked {
                prefix,
                key,
                site,
                record: normalised(record),
                bound: Ok(None),
            });
        }

        let nonces = match message.xtr {
            Some((xtr, site)) => vec![NonceKey::of_xtr(tag, xtr, site)],
            None => records
                .iter()
                .map(|checked| NonceKey::of_prefix(tag, &checked.prefix))
                .collect(),
        };
        let table = self.store.table();
        let last = |key: &NonceKey| table.last_nonce(key);
        if nonces
            .iter()
            .any(|key| last(key).is_some_and(|last| message.nonce.0 <= last))
        {
            return Err(Count::replayed_nonce);
        }
        let new_nonces = nonces.iter().filter(|key| last(key).is_none()).count();
        if table.count_of_key(tag).saturating_add(new_nonces) > self.config.limits.nonces_per_key {
            return Err(Count::table_full);
        }
        self.room_for(&records)?;
        // Signatures last: a copy of an old message costs none.
        self.check_bindings(wall, &message, bytes, &mut records)?;
        Ok(Authentic {
            message,
            records,
            nonces,
        })
    }

    /// Judges the records of sealed networks, each on its own: one that moved away does not hold up the others.
    fn check_bindings(
        &self,
        wall: WallMillis,
        message: &MapRegister,
        bytes: &[u8],
        records: &mut [Checked],
    ) -> Result<(), Count> {
        let plain: Vec<_> = records.iter().map(|c| (c.prefix, c.key, &c.record)).collect();
        if plain
            .iter()
            .all(|(prefix, _, _)| self.sealed_instance(prefix).is_none())
        {
            return Ok(());
        }
        let signer = match self.is_news(&plain) {
            true => Some(Self::signer(message, bytes)?),
            false => None,
        };
        for checked in records {
            checked.bound = self.check_binding(&checked.prefix, &checked.key, &checked.record, signer, wall / 1000);
        }
        Ok(())
    }

    /// Whether the sites may have as many registrations as the records would make.
    fn room_for(&self, records: &[Checked]) -> Result<(), Count> {
        let table = self.store.table();
        let mut new: BTreeMap<SiteTag, BTreeSet<RegistrationKey>> = BTreeMap::new();
        for checked in records {
            if checked.record.ttl != Ttl::ZERO && table.get_bytes(&checked.key).is_none() {
                new.entry(checked.site).or_default().insert(checked.key);
            }
        }
        let limit = self.config.limits.registrations_per_site;
        let full = new
            .iter()
            .any(|(site, keys)| table.count_of_site(*site).saturating_add(keys.len()) > limit);
        if full { Err(Count::table_full) } else { Ok(()) }
    }

    fn obey(&mut self, arrival: Arrival, authentic: Authentic) -> Result<(), StoreError> {
        let Authentic {
            message,
            records,
            nonces,
        } = authentic;
        for key in nonces {
            self.store.raise_nonce(key, message.nonce.0)?;
        }
        self.wrote();
        let mut acknowledged = Vec::with_capacity(records.len());
        let mut moves = Vec::new();
        for (checked, original) in records.into_iter().zip(&message.records) {
            match self.obey_record(arrival, &message, checked, &mut moves)? {
                Outcome::Accepted => acknowledged.push(original.clone()),
                Outcome::Superseded => self.count(Count::superseded),
                Outcome::Refused(reason) => {
                    self.count(reason);
                    self.event(Event::Refused {
                        reason: reason.word(),
                        from: arrival.from,
                    });
                }
            }
        }
        if message.want_map_notify {
            self.acknowledge(arrival.from, arrival.to, &message, acknowledged);
        }
        self.tell_of_moves(arrival.wall, moves);
        Ok(())
    }

    fn obey_record(
        &mut self,
        arrival: Arrival,
        message: &MapRegister,
        checked: Checked,
        moves: &mut Vec<(RegistrationKey, Registration)>,
    ) -> Result<Outcome, StoreError> {
        let Checked {
            prefix,
            key,
            site,
            record,
            bound,
        } = checked;
        let bound = match bound {
            Ok(bound) => bound,
            Err(reason) => return Ok(Outcome::Refused(reason)),
        };
        if let Some(bound) = bound.filter(|bound| bound.newer) {
            self.store.raise_nonce(epoch_key(&prefix), bound.epoch)?;
        }
        let is_newer = bound.is_some_and(|bound| bound.newer);
        if record.ttl == Ttl::ZERO {
            // Ends the own registration alone: the prefix may be another xTR's by now.
            let was_live = self
                .store
                .table()
                .get(&key)
                .is_some_and(|mine| is_live(&mine, arrival.wall));
            self.store.delete(&key)?;
            self.count(Count::deregistered);
            if was_live {
                self.event(Event::Deregistered {
                    prefix,
                    site: self.site_name(site),
                    from: arrival.from,
                });
            }
            return Ok(Outcome::Accepted);
        }

        let mine = self.store.table().get(&key).filter(|mine| mine.expires > arrival.wall);
        let others: Vec<(RegistrationKey, Registration)> = self
            .store
            .table()
            .at(key.prefix)
            .filter(|(other, registration)| **other != key && is_live(registration, arrival.wall))
            .map(|(key, registration)| (*key, registration))
            .collect();
        let newest = others.iter().map(|(_, other)| other.version).max().unwrap_or(0);
        let version = self.store.table().get(&key).map_or(0, |old| old.version).max(newest);
        let mut registration = Registration {
            site,
            proxy_reply: message.proxy_reply,
            merge: message.merge,
            superseded: false,
            key_id: message.authentication.key_id,
            algorithm_id: message.authentication.algorithm_id,
            expires: arrival.wall.saturating_add(self.life(message.use_ttl, record.ttl)),
            version: version.saturating_add(1).max(arrival.wall),
            source: arrival.from,
            local: arrival.to,
            xtr: message.xtr,
            record: encode_record(&record),
        };

        let rivals: Vec<(RegistrationKey, Registration)> = others
            .into_iter()
            .filter(|(_, other)| is_rival(&registration, &record, other))
            .collect();
        // A binding of a higher epoch is the last word, whoever came first.
        if mine.as_ref().is_some_and(|mine| mine.superseded) && !rivals.is_empty() && !is_newer {
            registration.superseded = true;
            moves.push((key, registration.clone()));
            self.store.upsert_if_newer(key, registration)?;
            return Ok(Outcome::Superseded);
        }
        for (rival_key, rival) in rivals {
            self.count(Count::moved);
            self.event(Event::Moved {
                prefix,
                former: rival.source,
                current: arrival.from,
            });
            let rival = Registration {
                superseded: true,
                version: rival.version.saturating_add(1),
                ..rival
            };
            moves.push((rival_key, rival.clone()));
            self.store.upsert_if_newer(rival_key, rival)?;
        }
        let same = mine.is_some_and(|mine| mine.record == registration.record && !mine.superseded);
        if self.store.upsert_if_newer(key, registration)? == Upsert::Stored {
            self.count(if same { Count::refreshed } else { Count::registered });
            if !same {
                self.event(Event::Registered {
                    prefix,
                    site: self.site_name(site),
                    from: arrival.from,
                });
            }
        }
        Ok(Outcome::Accepted)
    }

    /// Life of a registration in milliseconds: the configured three minutes, or the Record TTL with the T-bit.
    fn life(&self, use_ttl: bool, ttl: Ttl) -> u64 {
        let usual = self.config.registration_expiry;
        let life: Duration = if use_ttl { ttl.duration_or(usual) } else { usual };
        millis(life.min(self.config.limits.longest_registration))
    }
}

/// MAC and algorithm, with the site's configuration as the only judge.
fn authenticate(bytes: &[u8], message: &MapRegister, secret: &[u8], accepted: &[AuthAlgorithm]) -> Result<(), Count> {
    let algorithm = AuthAlgorithm::from_id(message.authentication.algorithm_id);
    if !algorithm.is_some_and(|algorithm| accepted.contains(&algorithm)) {
        return Err(Count::algorithm_refused);
    }
    verify(bytes, Purpose::MapRegister, secret, accepted).map_err(|error| match error {
        AuthError::NotAuthenticated => Count::malformed,
        AuthError::AlgorithmRefused(_) => Count::algorithm_refused,
        AuthError::BadLength(_) => Count::bad_mac_length,
        AuthError::BadMac | AuthError::EmptySecret => Count::bad_mac,
    })
}

fn refusal(reason: Ownership) -> Count {
    match reason {
        Ownership::NotOwned => Count::prefix_not_owned,
        Ownership::MoreSpecific => Count::more_specific_refused,
        Ownership::UnknownKeyId => Count::unknown_key_id,
    }
}

fn is_live(registration: &Registration, wall: WallMillis) -> bool {
    registration.expires > wall && !registration.superseded
}

/// Whether `new` takes the prefix from `other`. Not when both want to be merged, nor when both name the same
/// locators: then the site's xTRs each register the whole set, as RFC 9301 §8.2 has it.
fn is_rival(new: &Registration, record: &EidRecord, other: &Registration) -> bool {
    if new.merge && other.merge {
        return false;
    }
    let Some(theirs) = other.eid_record() else { return true };
    let set = |record: &EidRecord| {
        let mut set: Vec<_> = record.locators.iter().map(|locator| locator.rloc.clone()).collect();
        set.sort_by_cached_key(|rloc| format!("{rloc:?}"));
        set
    };
    set(record) != set(&theirs)
}

/// As it is stored, without the node's signature over the message: the p-bit, which RFC 9301 §5.4 forbids here, and the A-bit, which only an ETR's own reply may
/// carry, are cleared.
fn normalised(record: &EidRecord) -> EidRecord {
    let locators = record
        .locators
        .iter()
        .filter(|locator| !is_seal(locator))
        .map(|locator| RlocRecord {
            probed: false,
            ..locator.clone()
        })
        .collect();
    EidRecord {
        authoritative: false,
        locators,
        ..record.clone()
    }
}
