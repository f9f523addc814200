//! Signs of life: each shard gives one every second, and whoever wants to know looks when the last one was.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often a shard gives a sign of life: a small part of any watchdog's patience.
pub(crate) const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Silence after which a shard counts as stuck: several signs, for a machine that is busy.
const SILENCE: Duration = Duration::from_secs(10);

/// The last sign of life of each shard.
#[derive(Debug)]
pub(crate) struct Beats {
    start: Instant,
    /// In milliseconds after the start.
    last_ms: Box<[AtomicU64]>,
}

impl Beats {
    /// So many shards, all of which live now.
    pub(crate) fn new(shards: usize) -> Self {
        Self { start: Instant::now(), last_ms: (0..shards).map(|_| AtomicU64::new(0)).collect() }
    }

    /// This shard lives.
    pub(crate) fn beat(&self, shard: usize) {
        if let Some(last) = self.last_ms.get(shard) {
            last.store(self.now_ms(), Relaxed);
        }
    }

    /// The shards that live; the first of the others, if there is one.
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
        let beats = Beats::new(2);
        assert_eq!(beats.check_at(10_000), Ok(()));
        assert_eq!(beats.check_at(10_001), Err(0));
        beats.last_ms[0].store(9_000, Relaxed);
        assert_eq!(beats.check_at(10_001), Err(1));
        beats.last_ms[1].store(9_000, Relaxed);
        assert_eq!(beats.check_at(10_001), Ok(()));
    }
}
