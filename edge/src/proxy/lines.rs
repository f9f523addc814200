//! How many lines a second clients may have the edge write to its log at most: an app that fails, or somebody who guesses,
//! must not fill the disk.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lines in one window: enough to find the cause of anything.
const MAX_LINES: u32 = 20;
/// Length of a window.
const WINDOW: Duration = Duration::from_secs(1);

/// The lines of one kind. The lock is held for a look.
#[derive(Debug, Default)]
pub(crate) struct Lines(Mutex<Option<Window>>);

#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u32,
}

impl Lines {
    /// Whether one more may be written now.
    pub(crate) fn may_write(&self, now: Instant) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *window {
            Some(Window { since, lines }) if now.duration_since(*since) < WINDOW => {
                *lines += 1;
                *lines <= MAX_LINES
            }
            _ => {
                *window = Some(Window { since: now, lines: 1 });
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_lines() {
        let (lines, now) = (Lines::default(), Instant::now());
        let written = |now| (0..1000).filter(|_| lines.may_write(now)).count();
        assert_eq!(written(now), 20);
        assert_eq!(written(now + WINDOW / 2), 0);
        assert_eq!(written(now + WINDOW), 20);
    }
}
