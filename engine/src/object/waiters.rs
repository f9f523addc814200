//! The requests that wait for one object, in order of arrival, and their first deadline.

use std::collections::VecDeque;
use std::sync::Arc;

use berth_common::spec::ClassSpec;

use super::ms;
use crate::ids::WaiterId;

/// The requests that wait for one object.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    queue: VecDeque<Waiter>,
    /// The smallest deadline in the queue, cached so that a new request does not scan the queue.
    first_deadline_ms: Option<u64>,
}

#[derive(Debug)]
struct Waiter {
    id: WaiterId,
    class: Arc<ClassSpec>,
    /// From when on its time counts.
    from_ms: u64,
    deadline_ms: u64,
}

impl Waiters {
    pub(super) fn push(&mut self, id: WaiterId, class: Arc<ClassSpec>, from_ms: u64, deadline_ms: u64) {
        self.first_deadline_ms =
            Some(self.first_deadline_ms.map_or(deadline_ms, |first| first.min(deadline_ms)));
        self.queue.push_back(Waiter { id, class, from_ms, deadline_ms });
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn first_deadline_ms(&self) -> Option<u64> {
        self.first_deadline_ms
    }

    /// The class of the first request that may start an instance.
    pub(super) fn class(&self) -> Option<&Arc<ClassSpec>> {
        self.queue.iter().map(|waiter| &waiter.class).find(|class| !class.manual_start)
    }

    /// All of them, each with whether it may start an instance.
    pub(super) fn all(&self) -> impl Iterator<Item = (WaiterId, bool)> {
        self.queue.iter().map(|waiter| (waiter.id, !waiter.class.manual_start))
    }

    pub(super) fn cancel(&mut self, id: WaiterId) {
        self.queue.retain(|waiter| waiter.id != id);
        self.find_first();
    }

    /// Sets the deadline of all.
    pub(super) fn set_deadline(&mut self, deadline_ms: u64) {
        for waiter in &mut self.queue {
            waiter.deadline_ms = deadline_ms;
        }
        self.find_first();
    }

    /// Gives each this much time in all, if it has less.
    pub(super) fn prolong(&mut self, in_all_ms: u64) {
        for waiter in &mut self.queue {
            waiter.deadline_ms = waiter.deadline_ms.max(waiter.from_ms.saturating_add(in_all_ms));
        }
        self.find_first();
    }

    /// Sets the deadline of all, but gives none more than a turn and its start in all.
    pub(super) fn start_by(&mut self, deadline_ms: u64, max_turn_ms: u64) {
        for waiter in &mut self.queue {
            let most_ms = max_turn_ms.saturating_add(ms(waiter.class.start_timeout));
            waiter.deadline_ms = deadline_ms.min(waiter.from_ms.saturating_add(most_ms));
        }
        self.find_first();
    }

    /// Gives each the time of a start in all, and no more.
    pub(super) fn shorten(&mut self) {
        for waiter in &mut self.queue {
            waiter.deadline_ms = waiter.from_ms.saturating_add(ms(waiter.class.start_timeout));
        }
        self.find_first();
    }

    pub(super) fn take_all(&mut self) -> impl Iterator<Item = WaiterId> {
        self.first_deadline_ms = None;
        self.queue.drain(..).map(|waiter| waiter.id)
    }

    /// Takes those whose deadline has come.
    pub(super) fn take_late(&mut self, now_ms: u64) -> Vec<WaiterId> {
        let mut late = Vec::new();
        self.queue.retain(|waiter| {
            let in_time = waiter.deadline_ms > now_ms;
            if !in_time {
                late.push(waiter.id);
            }
            in_time
        });
        self.find_first();
        late
    }

    fn find_first(&mut self) {
        self.first_deadline_ms = self.queue.iter().map(|waiter| waiter.deadline_ms).min();
    }
}
