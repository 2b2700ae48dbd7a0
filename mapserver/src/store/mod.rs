//! What outlives a message, and in the durable engines the process: registrations and nonces.
//!
//! Every engine keeps a [`Table`] in memory, on which look-ups run, and takes writes through [`Store`]. A write is
//! visible at once and durable after [`Store::commit`]; the machine commits before it lets any acknowledgment out.

mod changes;
mod fjall;
mod memory;
mod table;

pub use changes::{Change, Changes, Snapshot};
pub use fjall::{Durability, FjallStore};
pub use memory::MemoryStore;
pub use table::Table;

use crate::{
    registration::{Registration, RegistrationKey, WallMillis},
    replay::NonceKey,
};

/// What became of an upsert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upsert {
    /// Stored.
    Stored,
    /// What is there is as new or newer.
    Stale,
}

/// The engine could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading or writing failed.
    #[error("the store failed: {0}")]
    Engine(String),
    /// Written by another version of this program.
    #[error("the store has format {found}, this program reads {expected}; move it away to start with an empty one")]
    Format {
        /// What the files say.
        found: u8,
        /// What we write.
        expected: u8,
    },
}

/// An engine.
pub trait Store: Send {
    /// The registrations and nonces in memory.
    fn table(&self) -> &Table;

    /// Stores a registration unless the one under the same key has the same version or a later one.
    fn upsert_if_newer(&mut self, key: RegistrationKey, registration: Registration) -> Result<Upsert, StoreError>;

    /// Removes a registration. `false` when there is none.
    fn delete(&mut self, key: &RegistrationKey) -> Result<bool, StoreError>;

    /// Remembers a nonce if it is greater than the last one. `false` when it is not: a replay.
    fn raise_nonce(&mut self, key: NonceKey, nonce: u64) -> Result<bool, StoreError>;

    /// Keys of registrations that have run out. They are not removed.
    fn sweep(&mut self, now: WallMillis) -> Vec<RegistrationKey>;

    /// All registrations, and the number of the last change they contain.
    fn snapshot(&self) -> Snapshot;

    /// What changed after change number `sequence`, once for each key, or [`Changes::TooOld`]: take a snapshot.
    fn changes_since(&self, sequence: u64) -> Changes;

    /// Makes everything written so far durable.
    fn commit(&mut self) -> Result<(), StoreError>;
}
