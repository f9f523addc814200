//! Whether a node was lost so often of late that it should take new instances last. Pure.
//!
//! ```text
//! steady ──LOSSES within WITHIN──▶ unsteady ──its time is over──▶ steady
//!   ▲                                                               │ lost as often again soon: for twice as long
//!   └───────────────────── steady for LONGEST: the next time is short again ◀──┘
//! ```

use std::collections::VecDeque;
use std::time::Duration;

/// So many losses ...
const LOSSES: usize = 3;
/// ... within this time make a node unsteady.
const WITHIN: Duration = Duration::from_secs(10 * 60);
/// How long it is so at first, and at last.
const TIMES: (Duration, Duration) = (Duration::from_secs(10 * 60), Duration::from_secs(60 * 60));

/// The losses of one node. Times are milliseconds of the clock of `NodeTerm`.
#[derive(Debug, Default)]
pub struct Steadiness {
    losses: VecDeque<u64>,
    /// Until when it is unsteady.
    until_ms: Option<u64>,
    /// How long it was unsteady last, and until when.
    last: Option<(Duration, u64)>,
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Steadiness {
    /// The node was lost. True if that makes it unsteady.
    pub fn lost(&mut self, now_ms: u64) -> bool {
        self.losses.push_back(now_ms);
        self.losses.retain(|at_ms| now_ms.saturating_sub(*at_ms) <= ms(WITHIN));
        if self.losses.len() < LOSSES {
            return false;
        }
        self.losses.clear();
        let is_soon = |(_, until_ms): &(Duration, u64)| now_ms.saturating_sub(*until_ms) <= ms(TIMES.1);
        let time = self.last.filter(is_soon).map_or(TIMES.0, |(last, _)| (last * 2).min(TIMES.1));
        let until_ms = now_ms.saturating_add(ms(time));
        (self.until_ms, self.last) = (Some(until_ms), Some((time, until_ms)));
        true
    }

    /// Looks whether its time is over. True if it is steady from now on.
    pub fn recovers(&mut self, now_ms: u64) -> bool {
        let is_over = self.until_ms.is_some_and(|until_ms| until_ms <= now_ms);
        if is_over {
            self.until_ms = None;
        }
        is_over
    }

    /// Until when it is unsteady, if it is.
    pub fn unsteady_until_ms(&self) -> Option<u64> {
        self.until_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: u64 = 60_000;

    #[test]
    fn three_losses_within_ten_minutes_make_it_unsteady_for_ten() {
        let mut node = Steadiness::default();
        assert!(
            !node.lost(0) && !node.lost(6 * MINUTE_MS) && !node.lost(11 * MINUTE_MS),
            "the first is long ago"
        );
        assert!(node.lost(12 * MINUTE_MS));
        assert_eq!(node.unsteady_until_ms(), Some(22 * MINUTE_MS));
        assert!(!node.recovers(22 * MINUTE_MS - 1) && node.recovers(22 * MINUTE_MS));
        assert!(!node.recovers(23 * MINUTE_MS), "once");
        assert_eq!(node.unsteady_until_ms(), None);
    }

    #[test]
    fn each_time_is_twice_as_long_up_to_an_hour_unless_it_was_steady_for_one() {
        let (mut node, mut now_ms) = (Steadiness::default(), 0);
        let mut flap = |pause_ms: u64| {
            now_ms += pause_ms;
            assert!(!node.lost(now_ms) && !node.lost(now_ms) && node.lost(now_ms));
            let time_ms = node.unsteady_until_ms().unwrap() - now_ms;
            now_ms += time_ms;
            assert!(node.recovers(now_ms));
            time_ms / MINUTE_MS
        };
        assert_eq!([flap(0), flap(1), flap(1), flap(1), flap(1)], [10, 20, 40, 60, 60]);
        assert_eq!([flap(61 * MINUTE_MS), flap(1)], [10, 20]);
    }
}
