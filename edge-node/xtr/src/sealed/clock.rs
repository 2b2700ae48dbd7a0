//! The wall clock as the shell tells it: bindings and memberships end by it.

use std::time::Instant;

/// Seconds since the Unix epoch, told once in a while and carried on by `now`.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    told: Option<(Instant, u64)>,
}

impl Clock {
    /// It is `unix` seconds after the Unix epoch.
    pub(crate) fn tell(&mut self, now: Instant, unix: u64) {
        self.told = Some((now, unix));
    }

    /// Seconds since the Unix epoch. `None`: nobody has told yet, and no statement can be said to be valid.
    pub(crate) fn unix(&self, now: Instant) -> Option<u64> {
        let (at, unix) = self.told?;
        Some(unix.saturating_add(now.saturating_duration_since(at).as_secs()))
    }
}
