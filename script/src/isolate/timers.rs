//! Timers in the order in which they are due. Does not know what they are for.

use std::collections::{BTreeMap, HashMap};

/// A set of timers that each have something with them.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    due: BTreeMap<(u64, u64), T>,
    /// When each is due.
    ids: HashMap<u64, u64>,
    last: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), ids: HashMap::new(), last: 0 }
    }
}

impl<T> Timers<T> {
    /// Sets a timer for a moment; its id, from 1.
    pub(crate) fn set(&mut self, due_us: u64, with: T) -> u64 {
        self.last += 1;
        self.ids.insert(self.last, due_us);
        self.due.insert((due_us, self.last), with);
        self.last
    }

    /// Takes a timer away.
    pub(crate) fn clear(&mut self, id: u64) -> Option<T> {
        let due_us = self.ids.remove(&id)?;
        self.due.remove(&(due_us, id))
    }

    /// Takes the first that is due at this moment and was set before that one.
    pub(crate) fn take_due(&mut self, now_us: u64, before: u64) -> Option<T> {
        let next = self.due.range(..=(now_us, u64::MAX)).find(|((_, id), _)| *id < before);
        let id = next.map(|((_, id), _)| *id)?;
        self.clear(id)
    }

    /// The id that the next timer will have.
    pub(crate) fn next_id(&self) -> u64 {
        self.last + 1
    }

    /// When the first is due.
    pub(crate) fn next_due_us(&self) -> Option<u64> {
        self.due.keys().next().map(|(due_us, _)| *due_us)
    }

    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether there is one like this.
    pub(crate) fn any(&self, like: impl Fn(&T) -> bool) -> bool {
        self.due.values().any(like)
    }

    /// Takes away all that are not to be kept.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let ids = &mut self.ids;
        self.due.retain(|(_, id), with| {
            let kept = keep(with);
            if !kept {
                ids.remove(id);
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_due_comes_first_and_equal_ones_in_their_order() {
        let mut timers = Timers::default();
        for (due, name) in [(5, "c"), (1, "a"), (5, "d"), (3, "b"), (9, "e")] {
            timers.set(due, name);
        }
        assert_eq!(timers.next_due_us(), Some(1));
        let due: Vec<_> = std::iter::from_fn(|| timers.take_due(5, u64::MAX)).collect();
        assert_eq!(due, ["a", "b", "c", "d"]);
        assert_eq!((timers.len(), timers.next_due_us()), (1, Some(9)));
    }

    #[test]
    fn a_cleared_timer_does_not_come() {
        let mut timers = Timers::default();
        let id = timers.set(1, "a");
        assert_eq!(timers.clear(id), Some("a"));
        assert_eq!(timers.clear(id), None);
        assert_eq!(timers.take_due(10, u64::MAX), None);
        timers.set(1, "b");
        timers.retain(|name| *name != "b");
        assert_eq!((timers.len(), timers.next_due_us()), (0, None));
    }

    #[test]
    fn timers_that_are_set_meanwhile_wait_for_the_next_round() {
        let mut timers = Timers::default();
        timers.set(1, "a");
        let before = timers.next_id();
        timers.set(1, "b");
        assert_eq!(timers.take_due(1, before), Some("a"));
        assert_eq!(timers.take_due(1, before), None);
        assert_eq!(timers.take_due(1, timers.next_id()), Some("b"));
    }
}
