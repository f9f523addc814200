//! When what keeps ending may be started again. Takes the time, and keeps none.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Ends within `WINDOW` that are taken as bad luck; with as many, starts begin to wait.
const ENDS: usize = 3;

/// How long an end counts.
const WINDOW: Duration = Duration::from_secs(60);

/// The first wait; each further end doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The ends that still count.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    ends: VecDeque<Instant>,
}

impl Backoff {
    /// Something ended that should not have.
    pub(super) fn ended(&mut self, now: Instant) {
        self.ends.push_back(now);
        // As many as the longest wait needs.
        while self.ends.len() > 16 {
            self.ends.pop_front();
        }
    }

    /// How long a start has to wait.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Duration> {
        while self.ends.front().is_some_and(|end| now.saturating_duration_since(*end) >= WINDOW) {
            self.ends.pop_front();
        }
        let beyond = u32::try_from(self.ends.len().checked_sub(ENDS)?).unwrap_or(u32::MAX);
        let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(beyond)).min(LONGEST_WAIT);
        let since = now.saturating_duration_since(*self.ends.back()?);
        wait.checked_sub(since).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ends_are_bad_luck_and_further_ones_wait_longer_each() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut backoff = Backoff::default();
        for second in 0..2 {
            backoff.ended(at(second));
            assert_eq!(backoff.wait(at(second)), None);
        }
        let mut waits = Vec::new();
        for _ in 0..8 {
            backoff.ended(at(2));
            waits.push(backoff.wait(at(2)).unwrap().as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.wait(at(3)), Some(Duration::from_secs(59)));
        assert_eq!(backoff.wait(at(62)), None);
        backoff.ended(at(63));
        assert_eq!(backoff.wait(at(63)), None);
    }
}
