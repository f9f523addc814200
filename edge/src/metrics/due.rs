//! The counters of what the edge does by itself: events posted to hooks, and actions of alarms, schedules and crons.

use berth_monitor::Page;
use berth_monitor::cells::Counter;

/// What became of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tried {
    Done,
    /// It is tried again later, or given up.
    Failed,
    /// No node was there for it; it does not count as a try.
    PutOff,
}

/// Tries by what became of them.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    done: Counter,
    failed: Counter,
    put_off: Counter,
}

/// All of these counters.
#[derive(Debug, Default)]
pub(crate) struct DueCounts {
    pub(crate) hooks: Tries,
    pub(crate) actions: Tries,
    /// Events that were set aside.
    pub(crate) set_aside: Counter,
}

impl Tries {
    pub(crate) fn count(&self, tried: Tried) {
        match tried {
            Tried::Done => self.done.count(),
            Tried::Failed => self.failed.count(),
            Tried::PutOff => self.put_off.count(),
        }
    }
}

impl DueCounts {
    pub(super) fn add_to(&self, page: &mut Page) {
        let hooks =
            page.counter("berth_edge_hook_tries_total", "Posts of events to hooks, by what became of them");
        hooks.with(&[("result", "done")], self.hooks.done.get());
        hooks.with(&[("result", "failed")], self.hooks.failed.get());
        page.counter(
            "berth_edge_hook_events_set_aside_total",
            "Events that were tried often enough and set aside",
        )
        .is(self.set_aside.get());
        let actions = page.counter(
            "berth_edge_due_actions_total",
            "Actions of alarms, schedules and crons, by what became of them",
        );
        actions.with(&[("result", "done")], self.actions.done.get());
        actions.with(&[("result", "failed")], self.actions.failed.get());
        actions.with(&[("result", "put_off")], self.actions.put_off.get());
    }
}
