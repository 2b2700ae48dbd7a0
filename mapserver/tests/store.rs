//! One suite for every store engine, and what only the durable ones promise.

mod common;

use std::path::Path;
use std::time::Duration;

use common::*;
use mapserver::store::{Change, Changes, Durability, FjallStore, MemoryStore, Store, StoreError, Upsert};
use mapserver::{KeyTag, NonceKey, PrefixKey, Registrant, Registration, RegistrationKey, Secret, SiteTag};

fn key_of(text: &str, who: u8) -> RegistrationKey {
    RegistrationKey {
        prefix: PrefixKey::from(&prefix(text)),
        registrant: Registrant([who; 8]),
    }
}

fn registration(version: u64, expires: u64) -> Registration {
    Registration {
        site: SiteTag::of("plant"),
        proxy_reply: false,
        merge: false,
        superseded: false,
        key_id: 1,
        algorithm_id: 2,
        expires,
        version,
        source: "192.0.2.1:4342".parse().unwrap(),
        local: ip(SERVER),
        xtr: None,
        record: vec![1, 2, 3].into(),
    }
}

fn nonce_key(who: u8) -> NonceKey {
    NonceKey::of_xtr(
        KeyTag::of(1, &Secret::new(*b"s")),
        lisp::XtrId([who; 16]),
        lisp::SiteId(0),
    )
}

/// Runs a test on every engine. The folder lives as long as the test.
macro_rules! on_every_engine {
    ($($name:ident)+) => { $(
        mod $name {
            #[test]
            fn memory() {
                super::suite::$name(&mut super::MemoryStore::default());
            }
            #[test]
            fn fjall() {
                let folder = tempfile::tempdir().unwrap();
                super::suite::$name(&mut super::open(folder.path()));
            }
        }
    )+ };
}

fn open(path: &Path) -> FjallStore {
    FjallStore::open(path, Durability::Process).unwrap()
}

on_every_engine! {
    an_upsert_is_seen_at_once
    an_older_version_does_not_replace_a_newer
    a_deletion_is_seen_at_once
    nonces_only_rise
    longest_match_and_neighbours
    run_out_registrations_are_swept_not_matched
    counts_follow_what_is_stored
    changes_name_each_key_once_with_its_newest_state
    a_follower_that_is_too_far_behind_is_told_so
    snapshot_plus_changes_is_the_state
}

mod suite {
    use super::*;

    pub fn an_upsert_is_seen_at_once(store: &mut dyn Store) {
        let key = key_of("[1]10.0.0.0/8", 1);
        assert_eq!(
            store.upsert_if_newer(key, registration(5, 100)).unwrap(),
            Upsert::Stored
        );
        assert_eq!(store.table().get(&key), Some(registration(5, 100)));
        store.commit().unwrap();
        assert_eq!(store.table().get(&key), Some(registration(5, 100)));
    }

    pub fn an_older_version_does_not_replace_a_newer(store: &mut dyn Store) {
        let key = key_of("[1]10.0.0.0/8", 1);
        store.upsert_if_newer(key, registration(5, 100)).unwrap();
        assert_eq!(store.upsert_if_newer(key, registration(5, 200)).unwrap(), Upsert::Stale);
        assert_eq!(store.upsert_if_newer(key, registration(4, 200)).unwrap(), Upsert::Stale);
        assert_eq!(
            store.upsert_if_newer(key, registration(6, 300)).unwrap(),
            Upsert::Stored
        );
        assert_eq!(store.table().get(&key).unwrap().expires, 300);
        assert_eq!(store.table().len(), 1);
    }

    pub fn a_deletion_is_seen_at_once(store: &mut dyn Store) {
        let key = key_of("[1]10.0.0.0/8", 1);
        assert!(!store.delete(&key).unwrap());
        store.upsert_if_newer(key, registration(5, 100)).unwrap();
        store.commit().unwrap();
        assert!(store.delete(&key).unwrap());
        assert_eq!(store.table().get(&key), None);
        store.commit().unwrap();
        assert!(store.table().is_empty());
    }

    pub fn nonces_only_rise(store: &mut dyn Store) {
        assert_eq!(store.table().last_nonce(&nonce_key(1)), None);
        assert!(store.raise_nonce(nonce_key(1), 7).unwrap());
        assert!(!store.raise_nonce(nonce_key(1), 7).unwrap());
        assert!(!store.raise_nonce(nonce_key(1), 6).unwrap());
        assert!(store.raise_nonce(nonce_key(2), 1).unwrap());
        assert!(store.raise_nonce(nonce_key(1), u64::MAX).unwrap());
        assert_eq!(store.table().last_nonce(&nonce_key(1)), Some(u64::MAX));
    }

    pub fn longest_match_and_neighbours(store: &mut dyn Store) {
        for text in [
            "[1]10.0.0.0/8",
            "[1]10.1.0.0/16",
            "[1]10.3.0.0/16",
            "[2]10.1.2.0/24",
            "[1]fd00::/8",
        ] {
            store.upsert_if_newer(key_of(text, 1), registration(1, 100)).unwrap();
        }
        let key = |text: &str| PrefixKey::from(&prefix(text));
        let table = store.table();
        assert_eq!(table.longest_match(&key("[1]10.1.2.3"), 0), Some(key("[1]10.1.0.0/16")));
        assert_eq!(table.longest_match(&key("[1]10.2.2.3"), 0), Some(key("[1]10.0.0.0/8")));
        assert_eq!(table.longest_match(&key("[3]10.2.2.3"), 0), None);
        assert_eq!(table.longest_match(&key("[1]fd00::1"), 0), Some(key("[1]fd00::/8")));
        let inside = table.inside(key("[1]10.0.0.0/8"), 0, 9);
        assert_eq!(inside, [key("[1]10.1.0.0/16"), key("[1]10.3.0.0/16")]);
        let around = table.neighbours(&key("[1]10.2.0.1"), 0);
        assert_eq!(around, [Some(key("[1]10.1.0.0/16")), Some(key("[1]10.3.0.0/16"))]);
        assert_eq!(
            table.neighbours(&key("[2]10.2.0.1"), 0),
            [Some(key("[2]10.1.2.0/24")), None]
        );
    }

    pub fn run_out_registrations_are_swept_not_matched(store: &mut dyn Store) {
        let (short, long) = (key_of("[1]10.1.0.0/16", 1), key_of("[1]10.0.0.0/8", 1));
        store.upsert_if_newer(long, registration(1, 900)).unwrap();
        store.upsert_if_newer(short, registration(1, 100)).unwrap();
        assert_eq!(store.table().earliest_expiry(), Some(100));
        let target = PrefixKey::from(&prefix("[1]10.1.2.3"));
        assert_eq!(store.table().longest_match(&target, 99), Some(short.prefix));
        assert_eq!(store.table().longest_match(&target, 100), Some(long.prefix));
        assert_eq!(store.sweep(99), []);
        assert_eq!(store.sweep(100), [short]);
        assert_eq!(store.table().earliest_expiry(), Some(900));
    }

    pub fn counts_follow_what_is_stored(store: &mut dyn Store) {
        let key = key_of("[1]10.0.0.0/8", 1);
        let count = |store: &dyn Store, site: &str| store.table().count_of_site(SiteTag::of(site));
        store.upsert_if_newer(key, registration(1, 100)).unwrap();
        store.upsert_if_newer(key, registration(2, 100)).unwrap();
        store
            .upsert_if_newer(key_of("[1]11.0.0.0/8", 1), registration(1, 100))
            .unwrap();
        assert_eq!(count(store, "plant"), 2);
        let office = Registration {
            site: SiteTag::of("office"),
            ..registration(3, 100)
        };
        store.upsert_if_newer(key, office).unwrap();
        assert_eq!((count(store, "plant"), count(store, "office")), (1, 1));
        store.delete(&key).unwrap();
        assert_eq!((count(store, "plant"), count(store, "office")), (1, 0));
        store.raise_nonce(nonce_key(1), 1).unwrap();
        store.raise_nonce(nonce_key(1), 2).unwrap();
        store.raise_nonce(nonce_key(2), 2).unwrap();
        assert_eq!(store.table().count_of_key(nonce_key(1).key), 2);
    }

    pub fn changes_name_each_key_once_with_its_newest_state(store: &mut dyn Store) {
        let start = store.snapshot().sequence;
        let (a, b) = (key_of("[1]10.0.0.0/8", 1), key_of("[1]11.0.0.0/8", 1));
        store.upsert_if_newer(a, registration(1, 100)).unwrap();
        store.upsert_if_newer(b, registration(1, 100)).unwrap();
        store.upsert_if_newer(a, registration(2, 200)).unwrap();
        store.delete(&b).unwrap();
        let expected = vec![
            Change {
                sequence: start + 3,
                key: a,
                registration: Some(registration(2, 200)),
            },
            Change {
                sequence: start + 4,
                key: b,
                registration: None,
            },
        ];
        assert_eq!(store.changes_since(start), Changes::Since(expected.clone()));
        assert_eq!(store.changes_since(start + 3), Changes::Since(expected[1..].to_vec()));
        assert_eq!(store.changes_since(start + 4), Changes::Since(vec![]));
        assert_eq!(
            store.changes_since(start + 5),
            Changes::TooOld,
            "the number of another life"
        );
    }

    pub fn a_follower_that_is_too_far_behind_is_told_so(store: &mut dyn Store) {
        let start = store.snapshot().sequence;
        let key = key_of("[1]10.0.0.0/8", 1);
        for version in 1..=5000 {
            store.upsert_if_newer(key, registration(version, 100)).unwrap();
        }
        assert_eq!(store.changes_since(start), Changes::TooOld);
        let Changes::Since(changes) = store.changes_since(start + 4000) else {
            panic!()
        };
        assert_eq!(changes.len(), 1);
    }

    pub fn snapshot_plus_changes_is_the_state(store: &mut dyn Store) {
        let keys: Vec<_> = (0..20).map(|n| key_of(&format!("[1]10.{n}.0.0/16"), 1)).collect();
        for (n, key) in keys.iter().enumerate() {
            store.upsert_if_newer(*key, registration(n as u64 + 1, 100)).unwrap();
        }
        let snapshot = store.snapshot();
        for key in &keys[..7] {
            store.delete(key).unwrap();
        }
        store.upsert_if_newer(keys[9], registration(99, 900)).unwrap();
        let Changes::Since(changes) = store.changes_since(snapshot.sequence) else {
            panic!()
        };
        let mut replica: std::collections::BTreeMap<_, _> = snapshot.registrations.into_iter().collect();
        for change in changes {
            match change.registration {
                Some(registration) => replica.insert(change.key, registration),
                None => replica.remove(&change.key),
            };
        }
        assert_eq!(replica.into_iter().collect::<Vec<_>>(), store.snapshot().registrations);
    }
}

/// The files as a `kill -9` at this moment would leave them: a copy, while the store is open.
fn killed(path: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy(path, folder.path());
    folder
}

#[test]
fn what_is_committed_survives_and_what_is_not_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let (kept, deleted, lost) = (
        key_of("[1]10.0.0.0/8", 1),
        key_of("[1]11.0.0.0/8", 1),
        key_of("[1]12.0.0.0/8", 1),
    );
    store.upsert_if_newer(kept, registration(5, 100)).unwrap();
    store.upsert_if_newer(deleted, registration(5, 100)).unwrap();
    store.raise_nonce(nonce_key(1), 41).unwrap();
    store.commit().unwrap();
    store.delete(&deleted).unwrap();
    store.raise_nonce(nonce_key(1), 42).unwrap();
    store.commit().unwrap();
    store.upsert_if_newer(lost, registration(5, 100)).unwrap();
    let sequence = store.snapshot().sequence;
    let copy = killed(folder.path());
    let store = open(copy.path());
    assert_eq!(store.table().get(&kept), Some(registration(5, 100)));
    assert_eq!(store.table().get(&deleted), None);
    assert_eq!(store.table().get(&lost), None);
    assert_eq!(store.table().last_nonce(&nonce_key(1)), Some(42));
    assert!(store.snapshot().sequence > sequence, "numbers are not used twice");
    assert_eq!(store.changes_since(sequence), Changes::TooOld);
}

#[test]
fn many_commits_and_openings() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=5u64 {
        let mut store = open(folder.path());
        assert_eq!(store.table().len() as u64, (round - 1) * 50);
        for n in 0..50 {
            let key = key_of(&format!("[{round}]10.{n}.0.0/16"), 1);
            store.upsert_if_newer(key, registration(round, 100)).unwrap();
            store.raise_nonce(nonce_key(1), round * 100 + n).unwrap();
            store.commit().unwrap();
        }
    }
    let store = open(folder.path());
    assert_eq!(store.table().len(), 250);
    assert_eq!(store.table().last_nonce(&nonce_key(1)), Some(549));
}

#[test]
fn a_folder_of_something_else_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), b"x").unwrap();
    let result = FjallStore::open(&folder.path().join("file"), Durability::Process);
    assert!(matches!(result.err(), Some(StoreError::Engine(_))));
}

// ---- the machine on a durable store ----

const WALL: Duration = Duration::from_secs(1_700_000_000);

fn plant(store: FjallStore, wall: Duration) -> Server {
    Server::with_store(config(vec![site("plant", &["10.0.0.0/8"])]), Box::new(store), wall)
}

#[test]
fn after_kill_9_a_replay_is_refused_and_registrations_live_on_as_long_as_they_had_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = plant(open(folder.path()), WALL);
    let mut xtr = Xtr::new(1);
    let old = xtr.register(&["10.1.0.0/16"]);
    assert_eq!(
        server.deliver(&xtr.from(), &old).len(),
        1,
        "acknowledged, so it is on disk"
    );
    let copy = killed(folder.path());

    let mut server = plant(open(copy.path()), WALL + Duration::from_secs(100));
    assert_eq!(server.registered(), ["[0]10.1.0.0/16"]);
    assert_eq!(server.deliver(&xtr.from(), &old), []);
    server.counted(&[("replayed-nonce", 1)]);
    let sent = server.deliver(ITR, &ask("10.1.2.3"));
    assert_eq!(sent[0].destination, xtr.address, "looked up without a new Map-Register");
    server.pass(Duration::from_secs(79));
    assert_eq!(server.registered().len(), 1);
    server.pass(Duration::from_secs(1));
    assert!(server.registered().is_empty(), "three minutes in all");
    let new = xtr.register(&["10.1.0.0/16"]);
    assert_eq!(server.deliver(&xtr.from(), &new).len(), 1);
}

#[test]
fn nothing_is_acknowledged_before_it_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = plant(open(folder.path()), WALL);
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["10.1.0.0/16"]);
    server
        .machine
        .handle_datagram(server.now, xtr.address, ip(SERVER), &bytes);
    let before = open(killed(folder.path()).path());
    assert!(
        before.table().is_empty(),
        "handled, but neither durable nor acknowledged"
    );
    assert!(server.machine.poll_transmit().is_some());
    let after = open(killed(folder.path()).path());
    assert_eq!(after.table().len(), 1);
}

#[test]
fn a_site_that_is_gone_from_the_configuration_loses_what_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = plant(open(folder.path()), WALL);
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["10.1.0.0/16"]);
    server.deliver(&xtr.from(), &bytes);
    drop(server);
    let other = config(vec![site("another", &["10.0.0.0/8"])]);
    let server = Server::with_store(other, Box::new(open(folder.path())), WALL);
    assert!(server.machine.store().table().is_empty());
}

#[test]
fn a_moved_prefix_stays_moved_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = plant(open(folder.path()), WALL);
    let (mut b, mut c) = (Xtr::new(2), Xtr::new(3));
    for xtr in [&mut b, &mut c] {
        let bytes = xtr.register(&["10.1.0.1/32"]);
        server.deliver(&xtr.from(), &bytes);
    }
    drop(server);
    let mut server = plant(open(folder.path()), WALL + Duration::from_secs(30));
    let late = b.register(&["10.1.0.1/32"]);
    server.deliver(&b.from(), &late);
    server.counted(&[
        ("map-register", 1),
        ("superseded", 1),
        ("map-notify-sent", 1),
        ("map-notify-unsolicited", 1),
    ]);
    assert_eq!(server.deliver(ITR, &ask("10.1.0.1"))[0].destination, c.address);
}

#[test]
fn a_clock_that_went_back_does_not_make_registrations_last_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = plant(open(folder.path()), WALL);
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["10.1.0.0/16"]);
    server.deliver(&xtr.from(), &bytes);
    drop(server);
    let mut server = plant(open(folder.path()), Duration::from_secs(1000));
    assert_eq!(server.registered().len(), 1);
    server.pass(Duration::from_secs(100));
    let refresh = xtr.register(&["10.1.0.0/16"]);
    assert_eq!(server.deliver(&xtr.from(), &refresh).len(), 1);
    server.counted(&[("map-register", 1), ("refreshed", 1), ("map-notify-sent", 1)]);
    drop(server);
    let mut server = plant(open(folder.path()), Duration::from_secs(500));
    assert_eq!(server.registered().len(), 1);
    server.pass(Duration::from_secs(180));
    assert!(
        server.registered().is_empty(),
        "not refreshed: the three minutes are over"
    );
}

/// An engine whose disk is full.
struct Failing(MemoryStore);

impl Store for Failing {
    fn table(&self) -> &mapserver::store::Table {
        self.0.table()
    }
    fn upsert_if_newer(&mut self, key: RegistrationKey, new: Registration) -> Result<Upsert, StoreError> {
        self.0.upsert_if_newer(key, new)
    }
    fn delete(&mut self, key: &RegistrationKey) -> Result<bool, StoreError> {
        self.0.delete(key)
    }
    fn raise_nonce(&mut self, key: NonceKey, nonce: u64) -> Result<bool, StoreError> {
        self.0.raise_nonce(key, nonce)
    }
    fn sweep(&mut self, now: u64) -> Vec<RegistrationKey> {
        self.0.sweep(now)
    }
    fn snapshot(&self) -> mapserver::store::Snapshot {
        self.0.snapshot()
    }
    fn changes_since(&self, sequence: u64) -> Changes {
        self.0.changes_since(sequence)
    }
    fn commit(&mut self) -> Result<(), StoreError> {
        Err(StoreError::Engine("disk full".into()))
    }
}

#[test]
fn a_failed_commit_is_never_acknowledged() {
    let store = Box::new(Failing(MemoryStore::default()));
    let mut server = Server::with_store(config(vec![site("plant", &["10.0.0.0/8"])]), store, WALL);
    let mut xtr = Xtr::new(1);
    let bytes = xtr.register(&["10.1.0.0/16"]);
    assert_eq!(server.deliver(&xtr.from(), &bytes), []);
    server.counted(&[
        ("map-register", 1),
        ("registered", 1),
        ("map-notify-sent", 1),
        ("store-failed", 1),
    ]);
    let failed = |event: &mapserver::Event| matches!(event, mapserver::Event::StoreFailed { .. });
    assert!(server.events().iter().any(failed));
}
