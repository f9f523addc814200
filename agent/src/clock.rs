//! The agent's clock: moments, as the pure tables take them, and back.

use std::time::Duration;

use berth_protocol::Moment;
use tokio::time::Instant;

/// Counts from when it was made.
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

    /// How long it is until then; none where that is over.
    pub(crate) fn until(&self, moment: Moment) -> Duration {
        moment.since(self.now())
    }
}
