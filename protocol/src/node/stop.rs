//! Orders to end an instance, and how a later one is merged with an earlier one.

use std::time::Duration;

use berth_common::wire::call::{Refusal, RefusalCode, Stop};

use crate::Moment;

/// Longest time between a signal to end and SIGKILL. Bounds what an edge may ask for, so that sums of times do not
/// overflow.
const MAX_GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// Signals that Linux has.
pub const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// An order to end an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopOrder {
    /// The signal to send.
    pub signal: i32,
    /// When SIGKILL follows.
    pub deadline: Moment,
    /// Whether the node's drain ordered it.
    pub drained: bool,
}

impl StopOrder {
    /// An edge's order. Refused if there is no such signal.
    pub(super) fn of_edge(stop: &Stop, now: Moment) -> Result<Self, Refusal> {
        if !SIGNALS.contains(&stop.signal) {
            let message = format!("{} is not the number of a signal", stop.signal);
            return Err(Refusal { code: RefusalCode::Invalid, message });
        }
        let grace = Duration::from_millis(stop.grace_ms).min(MAX_GRACE);
        Ok(Self { signal: stop.signal, deadline: now.after(grace), drained: false })
    }

    /// The order of a node's drain: SIGTERM, and SIGKILL after the grace.
    pub(super) fn of_drain(grace: Duration, now: Moment) -> Self {
        Self { signal: SIGTERM, deadline: now.after(grace.min(MAX_GRACE)), drained: true }
    }

    /// The end of an instance that stayed frozen for too long.
    pub(super) fn of_frozen(now: Moment) -> Self {
        Self { signal: SIGKILL, deadline: now, drained: false }
    }

    /// This order merged with an earlier one: the grace is only ever shortened.
    pub(super) fn merged_with(self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        let signal = if earlier.signal == SIGKILL { SIGKILL } else { self.signal };
        Self {
            signal,
            deadline: self.deadline.min(earlier.deadline),
            drained: self.drained || earlier.drained,
        }
    }
}
