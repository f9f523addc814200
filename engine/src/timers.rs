//! When each object wants to be looked at again. One entry an object, in the order of time.

use std::collections::{BTreeSet, HashMap};

use berth_common::ids::ObjectId;

/// Deadlines of objects, in milliseconds on the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(u64, ObjectId)>,
    by_object: HashMap<ObjectId, u64>,
}

impl Timers {
    /// Sets, moves or (with `None`) clears an object's deadline.
    pub(crate) fn set(&mut self, object: ObjectId, deadline_ms: Option<u64>) {
        let before = match deadline_ms {
            Some(at) => self.by_object.insert(object, at),
            None => self.by_object.remove(&object),
        };
        if before == deadline_ms {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, object));
        }
        if let Some(at) = deadline_ms {
            self.by_time.insert((at, object));
        }
    }

    /// The first deadline.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes an object whose deadline has come.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Option<ObjectId> {
        let (_, object) = *self.by_time.first().filter(|(at, _)| *at <= now_ms)?;
        self.set(object, None);
        Some(object)
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
        timers.set(id(1), Some(10));
        timers.set(id(2), Some(5));
        timers.set(id(1), Some(3));
        assert_eq!(timers.next_ms(), Some(3));
        assert_eq!(timers.take_due(4), Some(id(1)));
        assert_eq!(timers.take_due(4), None);
        timers.set(id(2), None);
        assert_eq!(timers.next_ms(), None);
    }
}
