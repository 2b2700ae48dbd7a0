//! Waiting for events: a condition and a deadline, never a fixed pause.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{LabError, Result, interrupted};

const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Looks until `look` gives something. An error of `look` ends the wait; "not yet" is `Ok(None)`.
///
/// # Errors
/// [`LabError::Timeout`] after `within`, [`LabError::Interrupted`] after Ctrl-C, and what `look` returns.
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_uninterrupted(what, within, || {
        if interrupted() {
            Err(LabError::Interrupted)
        } else {
            look()
        }
    })
}

/// The same, also while the process is being told to end.
pub(super) fn until_uninterrupted<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(LabError::Timeout {
                what: what.into(),
                within,
                last: None,
            });
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

/// Checks that `look` stays true for the whole of `span`: for "never stops" and "does not change".
///
/// # Errors
/// [`LabError::Unexpected`] with `what` as soon as it is false, and what `look` returns.
pub fn holds_for(what: &str, span: Duration, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + span;
    while Instant::now() < end {
        if interrupted() {
            return Err(LabError::Interrupted);
        }
        if !look()? {
            return Err(LabError::unexpected(format!("no longer so: {what}")));
        }
        thread::sleep(BETWEEN_LOOKS);
    }
    Ok(())
}
