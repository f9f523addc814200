//! The time, as a value.

use std::time::Duration;

/// A point in time on a monotonic clock, as the time since that clock's start. Only moments of one clock are
/// comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// The moment this long after the clock's start.
    pub const fn at(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// The moment this much later, saturating.
    #[must_use]
    pub const fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// The time from an earlier moment to this one; zero if that one is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
