//! The log of an app's programs: what they write and what became of their failures. The last lines are kept in memory, and as much
//! as a disk bears goes to the edge's own log, under the target `script`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_common::clock::wall_ms;
use berth_common::shown::shown_lines;
use berth_script::message::Level;
use tokio::sync::broadcast;

use crate::script::VersionKey;

/// Lines of one app that are kept, and their bytes together.
const KEPT_LINES: usize = 1_000;
const KEPT_BYTES: usize = 1 << 20;

/// Lines that a reader may be behind.
const BEHIND: usize = 256;

/// Lines of one app that go to the edge's log in one window: what a person can read.
const TOLD_LINES: u32 = 50;
const WINDOW: Duration = Duration::from_secs(1);

/// A line of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProgramLine {
    pub(crate) time_ms: u64,
    pub(crate) level: Level,
    pub(crate) text: String,
}

/// The log of one app.
pub(crate) struct AppLog {
    state: Mutex<State>,
    fresh: broadcast::Sender<ProgramLine>,
}

#[derive(Default)]
struct State {
    kept: VecDeque<ProgramLine>,
    bytes: usize,
    window: Option<Instant>,
    told: u32,
}

impl Default for AppLog {
    fn default() -> Self {
        Self { state: Mutex::default(), fresh: broadcast::Sender::new(BEHIND) }
    }
}

impl AppLog {
    /// Takes a line. Does not block.
    pub(crate) fn write(&self, version: &VersionKey, level: Level, text: String) {
        let line = ProgramLine { time_ms: wall_ms(), level, text };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.may_tell(Instant::now()) {
            tell(version, &line);
        }
        state.keep(line.clone());
        // Under the lock, so that a reader gets each line once. Without one nobody follows.
        let _ = self.fresh.send(line);
    }

    /// The lines that are kept, oldest first, and those that come from now on.
    pub(crate) fn read(&self) -> (Vec<ProgramLine>, broadcast::Receiver<ProgramLine>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.kept.iter().cloned().collect(), self.fresh.subscribe())
    }
}

impl State {
    fn keep(&mut self, line: ProgramLine) {
        self.bytes += line.text.len();
        self.kept.push_back(line);
        while self.kept.len() > KEPT_LINES || self.bytes > KEPT_BYTES {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= oldest.text.len();
        }
    }

    fn may_tell(&mut self, now: Instant) -> bool {
        if self.window.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            (self.window, self.told) = (Some(now), 0);
        }
        self.told += 1;
        self.told <= TOLD_LINES
    }
}

fn tell(VersionKey { app, version }: &VersionKey, line: &ProgramLine) {
    let text = shown_lines(&line.text);
    match line.level {
        Level::Error => tracing::error!(target: "script", app, version, "{text}"),
        Level::Warn => tracing::warn!(target: "script", app, version, "{text}"),
        Level::Debug => tracing::debug!(target: "script", app, version, "{text}"),
        Level::Log | Level::Info => tracing::info!(target: "script", app, version, "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_new_ones_followed() {
        let log = AppLog::default();
        let version = VersionKey { app: "a".to_owned(), version: 1 };
        for n in 0..KEPT_LINES + 5 {
            log.write(&version, Level::Log, n.to_string());
        }
        let (kept, mut fresh) = log.read();
        assert_eq!((kept.len(), kept[0].text.as_str()), (KEPT_LINES, "5"));
        log.write(&version, Level::Error, "x".repeat(KEPT_BYTES));
        assert_eq!(fresh.try_recv().unwrap().level, Level::Error);
        assert_eq!(log.read().0.len(), 1);
        log.write(&version, Level::Log, "y".to_owned());
        assert_eq!(log.read().0.iter().map(|line| line.text.len()).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn the_edges_log_takes_so_many_lines_in_a_second() {
        let (mut state, now) = (State::default(), Instant::now());
        assert_eq!((0..1_000).filter(|_| state.may_tell(now)).count(), 50);
        assert!(state.may_tell(now + WINDOW));
    }
}
