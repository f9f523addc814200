//! Who is told what happens to an edge's instances. A watcher that does not keep up is dropped: it connects again and
//! is told everything anew, which is cheaper than to remember it all.

use std::cell::RefCell;

use berth_common::ids::EdgeId;
use berth_common::wire::call::{Answer, InstanceStatus};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Updates that a watcher may be behind. An instance has five at most, so this is many instances' whole lives.
const WATCH_QUEUE: usize = 1024;

/// What one watcher is told.
pub(crate) struct Watch {
    /// The state of all of the edge's instances.
    pub(crate) now: Vec<InstanceStatus>,
    /// What happened to them since.
    pub(crate) updates: mpsc::Receiver<Answer>,
    /// Cancelled when it was too slow and is told nothing more.
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
    /// Adds a watcher, which is told what happens after `now`.
    pub(crate) fn add(&self, owner: &EdgeId, now: Vec<InstanceStatus>) -> Watch {
        let (sender, updates) = mpsc::channel(WATCH_QUEUE);
        let behind = CancellationToken::new();
        let watcher = Watcher { owner: owner.clone(), updates: sender, _behind: behind.clone().drop_guard() };
        let mut all = self.all.borrow_mut();
        all.retain(|watcher| !watcher.updates.is_closed());
        all.push(watcher);
        Watch { now, updates, behind }
    }

    /// Tells an edge's watchers. One that is gone, or has no room, is told nothing more.
    pub(crate) fn tell(&self, owner: &EdgeId, status: &InstanceStatus) {
        self.tell_those(|watcher| watcher.owner == *owner, &Answer::Update(status.clone()));
    }

    /// Tells everybody whether the node takes new instances.
    pub(crate) fn tell_draining(&self, draining: bool) {
        self.tell_those(|_| true, &Answer::Draining(draining));
    }

    fn tell_those(&self, which: impl Fn(&Watcher) -> bool, what: &Answer) {
        let told = |watcher: &Watcher| !which(watcher) || watcher.updates.try_send(what.clone()).is_ok();
        self.all.borrow_mut().retain(|watcher| !watcher.updates.is_closed() && told(watcher));
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
            metered: None,
        }
    }

    #[test]
    fn a_watcher_that_falls_behind_is_told_nothing_more() {
        let (watchers, owner) = (Watchers::default(), "e".parse().unwrap());
        let mut slow = watchers.add(&owner, Vec::new());
        for round in 0..WATCH_QUEUE {
            watchers.tell(&owner, &status(round));
        }
        assert!(!slow.behind.is_cancelled());
        watchers.tell(&owner, &status(WATCH_QUEUE));
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
            drop(watchers.add(&owner, Vec::new()));
        }
        let _last = watchers.add(&owner, Vec::new());
        assert_eq!(watchers.all.borrow().len(), 1);
    }

    #[test]
    fn edges_are_told_of_their_own_instances_only() {
        let (watchers, owner) = (Watchers::default(), "e".parse().unwrap());
        let mut strangers = watchers.add(&"f".parse().unwrap(), Vec::new());
        let mut own = watchers.add(&owner, Vec::new());
        watchers.tell(&owner, &status(1));
        assert_eq!(own.updates.try_recv().unwrap(), Answer::Update(status(1)));
        assert!(strangers.updates.try_recv().is_err());
        watchers.tell_draining(true);
        assert_eq!(strangers.updates.try_recv().unwrap(), Answer::Draining(true));
    }
}
