//! The engine on disk: fjall, a log-structured store. Writes are collected and go out as one atomic batch at
//! [`Store::commit`], so that a group of Map-Registers costs one synchronisation with the disk.

use std::{collections::BTreeSet, path::Path};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{
    MemoryStore, Snapshot, Store, StoreError, Table, Upsert,
    changes::{ChangeLog, Changes},
};
use crate::{
    registration::{Registration, RegistrationKey, WallMillis},
    replay::NonceKey,
};

/// What a commit outlives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Power failures: each commit is synchronised with the disk.
    #[default]
    Power,
    /// The end of the process, by `kill -9` too, but not of the machine: each commit reaches the kernel.
    Process,
}

/// Registrations and nonces on disk, with the whole of it in memory for look-ups.
pub struct FjallStore {
    memory: MemoryStore,
    database: Database,
    registrations: Keyspace,
    nonces: Keyspace,
    meta: Keyspace,
    durability: Durability,
    changed_registrations: BTreeSet<RegistrationKey>,
    changed_nonces: BTreeSet<NonceKey>,
}

/// Format of keys and values on disk.
const FORMAT: u8 = 1;
/// Changes that a later life of the store leaves out, so that its numbers are greater than any that an earlier life
/// handed out without committing.
const SEQUENCE_GAP: u64 = 1 << 20;
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

impl FjallStore {
    /// Opens the store in folder `path`, or makes it. Reads everything into memory.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .worker_threads(1)
            .open()
            .map_err(engine)?;
        let keyspace = |name| database.keyspace(name, KeyspaceCreateOptions::default).map_err(engine);
        let (registrations, nonces, meta) = (keyspace("registrations")?, keyspace("nonces")?, keyspace("meta")?);
        match meta.get("format").map_err(engine)?.as_deref() {
            None => meta.insert("format", [FORMAT]).map_err(engine)?,
            Some([FORMAT]) => {}
            Some(found) => {
                return Err(StoreError::Format {
                    found: found.first().copied().unwrap_or(0),
                    expected: FORMAT,
                });
            }
        }
        let sequence = meta.get("sequence").map_err(engine)?;
        let sequence = sequence
            .as_deref()
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_be_bytes);
        let table = load(&registrations, &nonces)?;
        let memory = MemoryStore {
            table,
            log: ChangeLog::starting_at(sequence.saturating_add(SEQUENCE_GAP)),
        };
        Ok(Self {
            memory,
            database,
            registrations,
            nonces,
            meta,
            durability,
            changed_registrations: BTreeSet::new(),
            changed_nonces: BTreeSet::new(),
        })
    }
}

fn load(registrations: &Keyspace, nonces: &Keyspace) -> Result<Table, StoreError> {
    let mut table = Table::default();
    for guard in registrations.iter() {
        let (key, value) = guard.into_inner().map_err(engine)?;
        let entry = RegistrationKey::from_bytes(&key).zip(Registration::decode(&value));
        let Some((key, registration)) = entry else {
            tracing::warn!(key = ?&*key, "a registration on disk cannot be read and is left out");
            continue;
        };
        table.insert(key, &registration);
    }
    for guard in nonces.iter() {
        let (key, value) = guard.into_inner().map_err(engine)?;
        let entry = NonceKey::from_bytes(&key).zip(value.as_ref().try_into().ok());
        let Some((key, nonce)) = entry else {
            // Without it a replay would be obeyed: better to say so than to go on.
            return Err(StoreError::Engine(format!(
                "the nonce under {:02x?} cannot be read",
                &*key
            )));
        };
        table.raise_nonce(key, u64::from_be_bytes(nonce));
    }
    Ok(table)
}

impl Store for FjallStore {
    fn table(&self) -> &Table {
        self.memory.table()
    }

    fn upsert_if_newer(&mut self, key: RegistrationKey, registration: Registration) -> Result<Upsert, StoreError> {
        let done = self.memory.upsert_if_newer(key, registration)?;
        if done == Upsert::Stored {
            self.changed_registrations.insert(key);
        }
        Ok(done)
    }

    fn delete(&mut self, key: &RegistrationKey) -> Result<bool, StoreError> {
        let there = self.memory.delete(key)?;
        if there {
            self.changed_registrations.insert(*key);
        }
        Ok(there)
    }

    fn raise_nonce(&mut self, key: NonceKey, nonce: u64) -> Result<bool, StoreError> {
        let raised = self.memory.raise_nonce(key, nonce)?;
        if raised {
            self.changed_nonces.insert(key);
        }
        Ok(raised)
    }

    fn sweep(&mut self, now: WallMillis) -> Vec<RegistrationKey> {
        self.memory.sweep(now)
    }

    fn snapshot(&self) -> Snapshot {
        self.memory.snapshot()
    }

    fn changes_since(&self, sequence: u64) -> Changes {
        self.memory.changes_since(sequence)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        if self.changed_registrations.is_empty() && self.changed_nonces.is_empty() {
            return Ok(());
        }
        // Each key once, with its newest value: all writes of a batch have one sequence number inside fjall.
        let mut batch = self.database.batch().durability(Some(match self.durability {
            Durability::Power => PersistMode::SyncData,
            Durability::Process => PersistMode::Buffer,
        }));
        for key in &self.changed_registrations {
            match self.memory.table.get_bytes(key) {
                Some(bytes) => batch.insert(&self.registrations, key.to_bytes(), bytes),
                None => batch.remove(&self.registrations, key.to_bytes()),
            }
        }
        for key in &self.changed_nonces {
            if let Some(nonce) = self.memory.table.last_nonce(key) {
                batch.insert(&self.nonces, key.to_bytes(), nonce.to_be_bytes());
            }
        }
        batch.insert(&self.meta, "sequence", self.memory.log.sequence().to_be_bytes());
        batch.commit().map_err(engine)?;
        self.changed_registrations.clear();
        self.changed_nonces.clear();
        Ok(())
    }
}

fn engine(error: fjall::Error) -> StoreError {
    StoreError::Engine(error.to_string())
}
