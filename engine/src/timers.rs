//! The next deadline of each object and what it is for, ordered by time. One entry per object, its first timer.

use std::collections::{BTreeSet, HashMap};

use berth_common::ids::ObjectId;

/// What a deadline is for. Of two at the same time, the one about the instance comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The instance must be running.
    Start,
    /// Its port must answer.
    Port,
    /// It may have been idle long enough to sleep.
    Idle,
    /// The hook that decides whether it may sleep must have answered.
    Decide,
    /// The next instance may be started after failures.
    Backoff,
    /// Failures are forgotten.
    Forget,
    /// A failed write is retried.
    StoreRetry,
    /// The first waiting request must be answered.
    Waiter,
}

/// Deadlines of objects, in milliseconds on the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(u64, ObjectId, Timer)>,
    by_object: HashMap<ObjectId, (u64, Timer)>,
}

impl Timers {
    /// Sets, moves or (with `None`) clears an object's deadline.
    pub(crate) fn set(&mut self, object: ObjectId, deadline: Option<(u64, Timer)>) {
        let before = match deadline {
            Some(deadline) => self.by_object.insert(object, deadline),
            None => self.by_object.remove(&object),
        };
        if before == deadline {
            return;
        }
        if let Some((at, timer)) = before {
            self.by_time.remove(&(at, object, timer));
        }
        if let Some((at, timer)) = deadline {
            self.by_time.insert((at, object, timer));
        }
    }

    /// The first deadline.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.by_time.first().map(|(at, ..)| *at)
    }

    /// Takes an object whose deadline has come.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Option<(ObjectId, Timer)> {
        let (_, object, timer) = *self.by_time.first().filter(|(at, ..)| *at <= now_ms)?;
        self.set(object, None);
        Some((object, timer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ObjectId {
        ObjectId::from_bytes([n; 16])
    }

    #[test]
    fn deadlines_come_in_order_and_can_be_moved() {
        let mut timers = Timers::default();
        timers.set(id(1), Some((10, Timer::Idle)));
        timers.set(id(2), Some((5, Timer::Waiter)));
        timers.set(id(1), Some((3, Timer::Start)));
        assert_eq!(timers.next_ms(), Some(3));
        assert_eq!(timers.take_due(4), Some((id(1), Timer::Start)));
        assert_eq!(timers.take_due(4), None);
        timers.set(id(2), None);
        assert_eq!(timers.next_ms(), None);
    }

    #[test]
    fn a_timer_changes_its_name_at_the_same_time() {
        let mut timers = Timers::default();
        timers.set(id(1), Some((7, Timer::Start)));
        timers.set(id(1), Some((7, Timer::Waiter)));
        assert_eq!(timers.take_due(7), Some((id(1), Timer::Waiter)));
        assert_eq!(timers.take_due(u64::MAX), None);
    }
}
