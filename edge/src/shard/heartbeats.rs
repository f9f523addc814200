//! Heartbeats: each shard sends one every second, and the health check looks at the age of the last one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Interval of heartbeats: a small part of any watchdog's timeout.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Silence after which a shard counts as stuck: several heartbeats, as the machine may be busy.
const SILENCE: Duration = Duration::from_secs(10);

/// The last heartbeat of each shard.
#[derive(Debug)]
pub(crate) struct Heartbeats {
    start: Instant,
    /// In milliseconds after the start.
    last_ms: Box<[AtomicU64]>,
}

impl Heartbeats {
    /// For this many shards, all of which count as alive now.
    pub(crate) fn new(shards: usize) -> Self {
        Self { start: Instant::now(), last_ms: (0..shards).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Records a heartbeat of this shard.
    pub(crate) fn beat(&self, shard: usize) {
        if let Some(last) = self.last_ms.get(shard) {
            last.store(self.now_ms(), Relaxed);
        }
    }

    /// Checks all shards; the error is the first one that is stuck.
    pub(crate) fn check(&self) -> Result<(), usize> {
        self.check_at(self.now_ms())
    }

    fn check_at(&self, now_ms: u64) -> Result<(), usize> {
        let silence_ms = u64::try_from(SILENCE.as_millis()).unwrap_or(u64::MAX);
        let silent = |last: &AtomicU64| now_ms.saturating_sub(last.load(Relaxed)) > silence_ms;
        self.last_ms.iter().position(silent).map_or(Ok(()), Err)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_that_is_silent_is_found() {
        let heartbeats = Heartbeats::new(2);
        assert_eq!(heartbeats.check_at(10_000), Ok(()));
        assert_eq!(heartbeats.check_at(10_001), Err(0));
        heartbeats.last_ms[0].store(9_000, Relaxed);
        assert_eq!(heartbeats.check_at(10_001), Err(1));
        heartbeats.last_ms[1].store(9_000, Relaxed);
        assert_eq!(heartbeats.check_at(10_001), Ok(()));
    }
}
