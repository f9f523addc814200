//! The load of the interchangeable objects of a route: a request goes to the less loaded of two random ones. That is
//! nearly as even as comparing all of them, and requests do not all go to the same one at once (the power of two
//! choices).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Weight of a new response time in the moving average: one in this many.
const SMOOTHING: u32 = 4;
/// Range of response times, in microseconds: an object without any counts as fast, so that it gets requests.
const LATENCY_US: std::ops::RangeInclusive<u32> = 100..=60_000_000;

/// The objects of one route.
#[derive(Debug)]
pub(crate) struct Loads(Box<[Load]>);

#[derive(Debug, Default)]
struct Load {
    in_flight: AtomicU32,
    /// Moving average of the response time, in microseconds.
    latency_us: AtomicU32,
}

impl Loads {
    pub(crate) fn new(count: u32) -> Arc<Self> {
        Arc::new(Self((0..count.max(1)).map(|_| Load::default()).collect()))
    }

    /// How many objects they are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Chooses an object, and counts a request to it while the result lives.
    pub(crate) fn choose(self: &Arc<Self>) -> LoadGuard {
        let draw = || fastrand::usize(0..self.0.len());
        let (one, two) = (draw(), draw());
        let index = if self.0[two].score() < self.0[one].score() { two } else { one };
        self.0[index].in_flight.fetch_add(1, Relaxed);
        LoadGuard { loads: Arc::clone(self), index, since: Instant::now() }
    }
}

impl Load {
    fn score(&self) -> u64 {
        let latency = self.latency_us.load(Relaxed).clamp(*LATENCY_US.start(), *LATENCY_US.end());
        (u64::from(self.in_flight.load(Relaxed)) + 1) * u64::from(latency)
    }
}

/// One request's share of an object's load, while it lives.
#[derive(Debug)]
pub(crate) struct LoadGuard {
    loads: Arc<Loads>,
    index: usize,
    since: Instant,
}

impl LoadGuard {
    /// The index of the object.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The response has begun.
    pub(crate) fn answered(&self) {
        self.note(self.since.elapsed());
    }

    fn note(&self, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).min(*LATENCY_US.end());
        let smoothed = &self.loads.0[self.index].latency_us;
        // A concurrent update may be lost: the average need not be exact.
        let before = smoothed.load(Relaxed);
        let after = if before == 0 { took } else { before - before / SMOOTHING + took / SMOOTHING };
        smoothed.store(after, Relaxed);
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.loads.0[self.index].in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_object_gets_fewer_requests_than_an_idle_one() {
        let loads = Loads::new(2);
        let mut held: Vec<LoadGuard> = Vec::new();
        while held.iter().filter(|guard| guard.index() == 0).count() < 20 {
            held.push(loads.choose());
        }
        held.retain(|guard| guard.index() == 0);
        let to_busy = (0..400).filter(|_| loads.choose().index() == 0).count();
        // Only if both draws hit the busy one, which is one time in four.
        assert!((50..150).contains(&to_busy), "{to_busy} of 400");
    }

    #[test]
    fn a_slow_object_gets_fewer_requests_than_a_fast_one() {
        let loads = Loads::new(2);
        for _ in 0..100 {
            let guard = loads.choose();
            guard.note(if guard.index() == 0 { Duration::from_millis(90) } else { Duration::from_millis(3) });
        }
        let to_slow = (0..400).filter(|_| loads.choose().index() == 0).count();
        assert!((50..150).contains(&to_slow), "{to_slow} of 400");
    }

    #[test]
    fn no_load_is_left_when_all_requests_have_ended() {
        let loads = Loads::new(3);
        drop((0..100).map(|_| loads.choose()).collect::<Vec<_>>());
        assert!(loads.0.iter().all(|load| load.in_flight.load(Relaxed) == 0));
    }
}
