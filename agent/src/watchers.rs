//! The subscribers to reports about an edge's instances. A watcher that does not keep up is dropped: it connects again
//! and gets all states anew, which is cheaper than an unbounded queue.

use std::cell::RefCell;

use berth_common::ids::EdgeId;
use berth_common::wire::call::{Answer, InstanceStatus};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Updates that may be queued for a watcher. An instance has five at most, so this is many instances' whole lives.
const WATCH_QUEUE: usize = 1024;

/// A subscription.
pub(crate) struct Watch {
    /// The state of all of the edge's instances.
    pub(crate) now: Vec<InstanceStatus>,
    /// Whether the node refuses new instances. An edge may have been told otherwise when it connected.
    pub(crate) draining: bool,
    /// Later changes.
    pub(crate) updates: mpsc::Receiver<Answer>,
    /// Cancelled when the watcher was too slow and is dropped.
    pub(crate) behind: CancellationToken,
}

struct Watcher {
    owner: EdgeId,
    updates: mpsc::Sender<Answer>,
    _behind: DropGuard,
}

/// All watchers of all edges.
#[derive(Default)]
pub(crate) struct Watchers {
    all: RefCell<Vec<Watcher>>,
}

impl Watchers {
    /// Adds a watcher, which gets `now` and then each change.
    pub(crate) fn add(&self, owner: &EdgeId, now: Vec<InstanceStatus>, draining: bool) -> Watch {
        let (sender, updates) = mpsc::channel(WATCH_QUEUE);
        let behind = CancellationToken::new();
        let watcher = Watcher { owner: owner.clone(), updates: sender, _behind: behind.clone().drop_guard() };
        let mut all = self.all.borrow_mut();
        all.retain(|watcher| !watcher.updates.is_closed());
        all.push(watcher);
        Watch { now, draining, updates, behind }
    }

    /// Sends a status to its owner's watchers. One that is gone, or whose queue is full, is dropped.
    pub(crate) fn report(&self, owner: &EdgeId, status: &InstanceStatus) {
        self.send(|watcher| watcher.owner == *owner, &Answer::Update(status.clone()));
    }

    /// Tells all watchers whether the node refuses new instances.
    pub(crate) fn report_draining(&self, draining: bool) {
        self.send(|_| true, &Answer::Draining(draining));
    }

    fn send(&self, which: impl Fn(&Watcher) -> bool, what: &Answer) {
        let keeps_up = |watcher: &Watcher| !which(watcher) || watcher.updates.try_send(what.clone()).is_ok();
        self.all.borrow_mut().retain(|watcher| !watcher.updates.is_closed() && keeps_up(watcher));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_common::ids::{Generation, InstanceId, ObjectId};
    use berth_common::wire::call::Phase;

    fn status(generation: usize) -> InstanceStatus {
        InstanceStatus {
            instance: InstanceId::from_bytes([1; 16]),
            object: ObjectId::from_bytes([2; 16]),
            generation: Generation(u64::try_from(generation).unwrap()),
            phase: Phase::Starting,
            frozen: false,
            metered: None,
        }
    }

    #[test]
    fn a_watcher_that_falls_behind_is_dropped() {
        let (watchers, owner) = (Watchers::default(), "e".parse().unwrap());
        let mut slow = watchers.add(&owner, Vec::new(), false);
        for round in 0..WATCH_QUEUE {
            watchers.report(&owner, &status(round));
        }
        assert!(!slow.behind.is_cancelled());
        watchers.report(&owner, &status(WATCH_QUEUE));
        assert!(slow.behind.is_cancelled());
        for round in 0..WATCH_QUEUE {
            assert_eq!(slow.updates.try_recv().unwrap(), Answer::Update(status(round)));
        }
        assert!(slow.updates.try_recv().is_err());
    }

    #[test]
    fn watchers_that_are_gone_leave_nothing_behind() {
        let (watchers, owner) = (Watchers::default(), "e".parse().unwrap());
        for _ in 0..10 {
            drop(watchers.add(&owner, Vec::new(), false));
        }
        let _last = watchers.add(&owner, Vec::new(), false);
        assert_eq!(watchers.all.borrow().len(), 1);
    }

    #[test]
    fn edges_get_reports_of_their_own_instances_only() {
        let (watchers, owner) = (Watchers::default(), "e".parse().unwrap());
        let mut strangers = watchers.add(&"f".parse().unwrap(), Vec::new(), false);
        let mut own = watchers.add(&owner, Vec::new(), false);
        watchers.report(&owner, &status(1));
        assert_eq!(own.updates.try_recv().unwrap(), Answer::Update(status(1)));
        assert!(strangers.updates.try_recv().is_err());
        watchers.report_draining(true);
        assert_eq!(strangers.updates.try_recv().unwrap(), Answer::Draining(true));
    }
}
