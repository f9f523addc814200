//! The calls that are going on, and when each is done. Does not know JavaScript.

use std::collections::HashMap;

use super::objects::Instance;
use crate::message::EventId;

/// A call of a handler.
#[derive(Debug, Default)]
pub(crate) struct Call {
    /// Whether what the handler comes to is an answer.
    pub(crate) answers: bool,
    /// Whether the handler has come to its end.
    pub(crate) settled: bool,
    /// Promises that it wants to have waited for.
    pub(crate) waits: u32,
    /// Bodies that it makes.
    pub(crate) bodies: u32,
    /// What it has used of its CPU time.
    pub(crate) cpu_us: u64,
    /// CPU time that it used and that was not told yet.
    pub(crate) untold_us: u64,
    /// Whether it has a moment at which it ends whatever it waits for.
    pub(crate) ends: bool,
    pub(crate) log_lines: u16,
    pub(crate) subrequests: u32,
    /// Whether it is one of the worker's own, and none of an object.
    pub(crate) worker: bool,
    /// Whether its handler was called.
    pub(crate) begun: bool,
    /// Whether nobody waited for its answer any more before it was.
    pub(crate) aborted: bool,
    /// Whether nobody waits for its answer any more: only promises that it wants to have waited for keep it.
    pub(crate) gone: bool,
    /// WebSocketPairs that it has made.
    pub(crate) pairs: u32,
    /// The object that it is of, once it has reached it.
    pub(crate) instance: Option<Instance>,
    /// Whether it stands for an object's life: it lasts as long as that.
    pub(crate) life: bool,
    /// When the alarm was due that it is the handler of.
    pub(crate) alarm: Option<u64>,
    /// Whether its answer has left.
    pub(crate) told: bool,
}

impl Call {
    /// Whether its answer is given, or nobody waits for it, and only promises are waited for.
    pub(crate) fn only_waits(&self) -> bool {
        !self.life && self.waits > 0 && (self.gone || self.settled && self.bodies == 0)
    }

    fn done(&self) -> bool {
        !self.life && self.waits == 0 && (self.gone || self.settled && self.bodies == 0)
    }
}

/// All calls, and those among them that may be done.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    calls: HashMap<EventId, Call>,
    changed: Vec<EventId>,
}

impl Calls {
    pub(crate) fn begin(&mut self, event: EventId, answers: bool) {
        self.calls.insert(event, Call { answers, ..Call::default() });
    }

    /// Begins what stands for an object's life.
    pub(crate) fn begin_life(&mut self, event: EventId, instance: Instance) {
        self.calls.insert(event, Call { life: true, instance: Some(instance), ..Call::default() });
    }

    /// Whether a call waits for its object.
    pub(crate) fn is_before_its_beginning(&self, event: EventId) -> bool {
        self.calls.get(&event).is_some_and(|call| !call.worker && !call.begun)
    }

    /// What one event of an object may use, it may use from now on.
    pub(crate) fn refresh(&mut self, life: EventId) {
        if let Some(call) = self.calls.get_mut(&life) {
            (call.cpu_us, call.subrequests, call.log_lines, call.pairs) = (0, 0, 0, 0);
        }
    }

    /// The calls that go on in an object, in their order.
    pub(crate) fn of(&self, instance: Instance) -> Vec<EventId> {
        let own = self.calls.iter().filter(|(_, call)| call.instance == Some(instance) && !call.life);
        let mut events: Vec<EventId> = own.map(|(event, _)| *event).collect();
        events.sort_unstable();
        events
    }

    /// A call, as long as it goes on.
    pub(crate) fn get(&mut self, event: EventId) -> Option<&mut Call> {
        self.calls.get_mut(&event)
    }

    /// Changes a call, which may be done by that.
    pub(crate) fn change(&mut self, event: EventId, change: impl FnOnce(&mut Call)) {
        if let Some(call) = self.calls.get_mut(&event) {
            change(call);
            self.changed.push(event);
        }
    }

    /// Takes the CPU time that was not told, of all.
    pub(crate) fn take_untold(&mut self) -> u64 {
        self.calls.values_mut().map(|call| std::mem::take(&mut call.untold_us)).sum()
    }

    /// Ends a call whatever it still waits for.
    pub(crate) fn end(&mut self, event: EventId) -> Option<Call> {
        self.calls.remove(&event)
    }

    /// Calls that have changed since the last time, those that are done among them with what they used.
    pub(crate) fn take_changed(&mut self) -> Vec<(EventId, Option<Call>)> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        let with_ends = changed.into_iter().map(|event| {
            let done = self.calls.get(&event).is_some_and(Call::done);
            (event, if done { self.calls.remove(&event) } else { None })
        });
        with_ends.collect()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_done_when_nothing_of_it_is_left() {
        let mut calls = Calls::default();
        let event = EventId(1);
        calls.begin(event, true);
        calls.change(event, |call| call.waits += 1);
        calls.change(event, |call| call.bodies += 1);
        calls.change(event, |call| call.settled = true);
        assert!(matches!(&calls.take_changed()[..], [(EventId(1), None)]));
        calls.change(event, |call| call.bodies -= 1);
        assert!(matches!(&calls.take_changed()[..], [(EventId(1), None)]));
        calls.change(event, |call| call.waits -= 1);
        assert!(matches!(&calls.take_changed()[..], [(EventId(1), Some(_))]));
        assert_eq!(calls.len(), 0);
        calls.change(event, |call| call.waits -= 1);
        assert!(calls.take_changed().is_empty());
        // Nobody waits for the answer: a promise still is.
        calls.begin(event, true);
        calls.change(event, |call| (call.waits, call.bodies, call.gone) = (1, 1, true));
        assert!(matches!(&calls.take_changed()[..], [(EventId(1), None)]));
        calls.change(event, |call| call.waits -= 1);
        assert!(matches!(&calls.take_changed()[..], [(EventId(1), Some(_))]));
    }
}
