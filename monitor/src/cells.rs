//! Lock-free counters, gauges and histograms without allocation. Each is read separately, so related values may briefly
//! differ by one.
//!
//! Own code, because the histogram of the metrics library has a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets of durations, in milliseconds: from a request that is answered at once to a container
/// that takes half a minute to start.
pub const BOUNDS_MS: [u16; 14] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000];
/// Number of buckets, with one for longer durations.
const BUCKETS: usize = BOUNDS_MS.len() + 1;

/// A counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn count(&self) {
        self.add(1);
    }

    /// Adds this many.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A gauge. One thread may increment it and another decrement its own, so only the sum over threads is meaningful.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// Adds one.
    pub fn enter(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Subtracts one that entered before.
    pub fn leave(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Durations {
    /// Adds a duration.
    pub fn note(&self, took: Duration) {
        let bucket = BOUNDS_MS.iter().position(|bound| took <= Duration::from_millis(u64::from(*bound)));
        self.buckets[bucket.unwrap_or(BUCKETS - 1)].fetch_add(1, Relaxed);
        // Overflows only after centuries.
        self.sum_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The current values.
    pub fn read(&self) -> Histogram {
        Histogram {
            buckets: std::array::from_fn(|index| self.buckets[index].load(Relaxed)),
            sum: Duration::from_nanos(self.sum_ns.load(Relaxed)),
        }
    }
}

/// A snapshot of a histogram.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    sum: Duration,
}

impl Histogram {
    /// How many.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all durations, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum.as_secs_f64()
    }

    /// Upper bounds in seconds, each with the number of durations in its bucket (not cumulative).
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS_MS.iter().map(|bound| f64::from(*bound) / 1000.0).chain([f64::INFINITY]);
        bounds.zip(self.buckets).collect()
    }
}

impl std::ops::AddAssign for Histogram {
    fn add_assign(&mut self, other: Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += more;
        }
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_first_bucket_that_has_room() {
        let durations = Durations::default();
        for ms in [0, 1, 3, 30_000, 30_001] {
            durations.note(Duration::from_millis(ms));
        }
        let read = durations.read();
        assert_eq!((read.count(), read.sum_s()), (5, 60.005));
        let filled: Vec<_> = read.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.001, 2), (0.005, 1), (30.0, 1), (f64::INFINITY, 1)]);
        let mut both = read.clone();
        both += read;
        assert_eq!((both.count(), both.sum_s()), (10, 120.01));
    }

    #[test]
    fn what_one_thread_enters_another_may_leave() {
        let (one, other) = (Level::default(), Level::default());
        one.enter();
        one.enter();
        other.leave();
        assert_eq!(one.get().wrapping_add(other.get()), 1);
    }
}
