//! The engine without a disk: everything ends with the process.

use super::{
    Snapshot, Store, StoreError, Table, Upsert,
    changes::{ChangeLog, Changes},
};
use crate::{
    registration::{Registration, RegistrationKey, WallMillis},
    replay::NonceKey,
};

/// Registrations and nonces in memory. Also the front half of the engines that have a disk.
#[derive(Debug)]
pub struct MemoryStore {
    pub(super) table: Table,
    pub(super) log: ChangeLog,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            table: Table::default(),
            log: ChangeLog::starting_at(0),
        }
    }
}

impl Store for MemoryStore {
    fn table(&self) -> &Table {
        &self.table
    }

    fn upsert_if_newer(&mut self, key: RegistrationKey, registration: Registration) -> Result<Upsert, StoreError> {
        if !self.table.is_newer(&key, registration.version) {
            return Ok(Upsert::Stale);
        }
        self.table.insert(key, &registration);
        self.log.push(key);
        Ok(Upsert::Stored)
    }

    fn delete(&mut self, key: &RegistrationKey) -> Result<bool, StoreError> {
        let there = self.table.remove(key);
        if there {
            self.log.push(*key);
        }
        Ok(there)
    }

    fn raise_nonce(&mut self, key: NonceKey, nonce: u64) -> Result<bool, StoreError> {
        Ok(self.table.raise_nonce(key, nonce))
    }

    fn sweep(&mut self, now: WallMillis) -> Vec<RegistrationKey> {
        self.table.sweep(now)
    }

    fn snapshot(&self) -> Snapshot {
        let registrations = self
            .table
            .iter()
            .map(|(key, registration)| (*key, registration))
            .collect();
        Snapshot {
            sequence: self.log.sequence(),
            registrations,
        }
    }

    fn changes_since(&self, sequence: u64) -> Changes {
        self.log.since(sequence, &self.table)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
