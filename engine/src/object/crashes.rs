//! The failures of an object's instances in a row, and the backoff before the next start.
//!
//! ```text
//!            fails                  fails                         fails
//!  (none) ──────────▶ 1: at once ──────────▶ 2: after first_ms ──────────▶ 3: twice as long ... max_ms
//!     ▲                    │                        │                            │
//!     └────────────────────┴────────────────────────┴────────────────────────────┘
//!        an instance ends as ordered, another version is deployed, or nothing happens for forget_ms
//! ```
//!
//! What fails, and what happens then:
//! * The edge restarts: the failures are forgotten, they are only in memory; the next instance starts at once.
//! * A request cannot wait until the next start: it is refused with the time of that start (`CrashLoop`).

use berth_common::ids::Version;
use berth_common::outcome::{ExitReason, Outcome};

use crate::context::Backoff;
use crate::input::Now;
use crate::refused::Refused;
use crate::view::CrashLoop;

/// A failure after the instance was healthy for this long, in milliseconds, counts as the first one.
const STABLE_MS: u64 = 60_000;

/// Failures in a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crashes {
    count: u32,
    version: Version,
    retry_ms: u64,
    forget_ms: u64,
    /// `retry_ms` in wall-clock time, for people.
    retry_wall_ms: u64,
}

/// Whether an instance with this outcome has failed.
pub(super) fn failed(outcome: &Outcome, starting: bool) -> bool {
    match outcome.reason {
        ExitReason::Exit => starting || outcome.code != Some(0),
        ExitReason::Signal | ExitReason::Oom | ExitReason::StartFailed => true,
        _ => false,
    }
}

impl Crashes {
    /// One more failure, of an instance that was healthy since then, if ever.
    pub(super) fn after(
        earlier: Option<Self>,
        version: Version,
        healthy_since_ms: Option<u64>,
        backoff: &Backoff,
        now: Now,
    ) -> Self {
        let stable = healthy_since_ms.is_some_and(|since| now.mono_ms.saturating_sub(since) >= STABLE_MS);
        let count = earlier.filter(|_| !stable).map_or(0, |earlier| earlier.count).saturating_add(1);
        // No delay after a single failure: most are not repeated.
        let pause_ms = match count.checked_sub(2) {
            None => 0,
            Some(doubled) => backoff.first_ms.saturating_mul(1 << doubled.min(30)).min(backoff.max_ms),
        };
        let retry_ms = now.mono_ms.saturating_add(pause_ms);
        let forget_ms = retry_ms.saturating_add(backoff.forget_ms);
        Self { count, version, retry_ms, forget_ms, retry_wall_ms: now.wall_ms.saturating_add(pause_ms) }
    }

    /// When an instance of this version may be started, if not now.
    pub(super) fn wait_until_ms(&self, version: Version, now_ms: u64) -> Option<u64> {
        (self.version == version && self.retry_ms > now_ms).then_some(self.retry_ms)
    }

    pub(super) fn forget_ms(&self) -> u64 {
        self.forget_ms
    }

    pub(super) fn refusal(&self, now_ms: u64) -> Refused {
        Refused::CrashLoop { failures: self.count, retry_ms: self.retry_ms.saturating_sub(now_ms) }
    }

    /// What users see; a single failure is no crash loop.
    pub(super) fn view(&self) -> Option<CrashLoop> {
        (self.count > 1).then_some(CrashLoop { failures: self.count, next_try_ms: self.retry_wall_ms })
    }
}
