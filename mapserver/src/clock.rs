//! Monotonic time of this process, told as wall time, which is what outlives it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::registration::WallMillis;

/// Wall time at one instant. A step of the wall clock while we run moves no deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    anchor: Instant,
    wall: WallMillis,
}

impl Clock {
    pub(crate) fn new(now: Instant, wall: SystemTime) -> Self {
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            anchor: now,
            wall: millis(since),
        }
    }

    pub(crate) fn wall(&self, now: Instant) -> WallMillis {
        self.wall
            .saturating_add(millis(now.saturating_duration_since(self.anchor)))
    }

    /// When it is `wall`; now when that was before we started.
    pub(crate) fn instant(&self, wall: WallMillis) -> Instant {
        let ahead = Duration::from_millis(wall.saturating_sub(self.wall));
        self.anchor.checked_add(ahead).unwrap_or(self.anchor)
    }
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
