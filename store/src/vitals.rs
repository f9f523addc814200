//! The state of the store's writer: its counters, its queue, and whether it can write.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_monitor::cells::{Counter, Durations, Level};

use super::StoreError;

/// How long a failed write makes the store count as not writable: after that another write may succeed.
const REMEMBER: Duration = Duration::from_secs(30);

/// The state of a store's writer.
#[derive(Debug, Default)]
pub struct Vitals {
    /// Writes that are durable.
    pub writes: Counter,
    /// Writes that were refused or failed.
    pub failures: Counter,
    /// Batches, with the time that each took until it was durable or failed.
    pub batches: Durations,
    /// Writes that wait.
    pub waiting: Level,
    /// The last failure since the last success. The lock is held only for a look; only the writer changes it.
    last_failure: Mutex<Option<LastFailure>>,
}

#[derive(Debug)]
struct LastFailure {
    error: StoreError,
    since: Instant,
}

impl Vitals {
    /// Counts a batch with this many writes. One without any, as when the store is closed, does not count.
    pub(super) fn note(&self, writes: usize, took: Duration, result: &Result<(), StoreError>) {
        if writes == 0 {
            return;
        }
        self.batches.note(took);
        match result {
            Ok(()) => self.writes.add(writes as u64),
            Err(_) => self.failures.add(writes as u64),
        }
        let last_failure = result.as_ref().err();
        *self.last_failure() =
            last_failure.map(|error| LastFailure { error: error.clone(), since: Instant::now() });
    }

    /// Whether the store can write, as far as is known; the error is the reason.
    pub fn check(&self) -> Result<(), String> {
        match &*self.last_failure() {
            Some(LastFailure { error: error @ StoreError::Broken(_), .. }) => Err(error.to_string()),
            Some(LastFailure { error, since }) if since.elapsed() < REMEMBER => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    fn last_failure(&self) -> MutexGuard<'_, Option<LastFailure>> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_until_the_next_success() {
        let vitals = Vitals::default();
        assert_eq!(vitals.check(), Ok(()));
        vitals.note(3, Duration::ZERO, &Err(StoreError::Full { free: 1, needed: 2 }));
        assert!(vitals.check().is_err_and(|why| why.contains("as good as full")));
        vitals.note(2, Duration::ZERO, &Ok(()));
        assert_eq!(vitals.check(), Ok(()));
        assert_eq!((vitals.writes.get(), vitals.failures.get(), vitals.batches.read().count()), (2, 3, 2));
    }

    #[test]
    fn a_failure_is_forgotten_unless_the_store_is_broken() {
        let vitals = Vitals::default();
        let long_ago = |error| LastFailure { error, since: Instant::now().checked_sub(REMEMBER).unwrap() };
        *vitals.last_failure() = Some(long_ago(StoreError::Io("x".to_owned())));
        assert_eq!(vitals.check(), Ok(()));
        *vitals.last_failure() = Some(long_ago(StoreError::Broken("x".to_owned())));
        assert!(vitals.check().is_err());
    }
}
