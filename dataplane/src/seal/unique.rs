//! Debug builds only: no (key, nonce) pair is ever used twice in this process, whoever made the copies of the key.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use super::aead::Fingerprint;

/// The last counter of each key and sending worker.
static LAST: LazyLock<Mutex<HashMap<(Fingerprint, u8), u64>>> = LazyLock::new(Mutex::default);

/// # Panics
/// When this counter, or a later one, was used before.
pub(super) fn check(key: Fingerprint, worker: u8, counter: u64) {
    let last = LAST
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert((key, worker), counter);
    assert!(
        last.unwrap_or_default() < counter,
        "sealed twice under one nonce: worker {worker}, counter {counter} after {last:?}"
    );
}
