//! The agent's clock: the source of the `Moment`s that the tables of `berth_protocol` work with.

use std::time::Duration;

use berth_protocol::Moment;
use tokio::time::Instant;

/// Measures the time since it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// One that starts now.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Now.
    pub(crate) fn now(&self) -> Moment {
        Moment::at(self.start.elapsed())
    }

    /// The time until then; zero if it has passed.
    pub(crate) fn until(&self, moment: Moment) -> Duration {
        moment.since(self.now())
    }
}
