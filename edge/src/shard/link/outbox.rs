//! The orders that one node has still to be sent, and the starts that it has not replied to, as other tasks of the
//! shard see them. `berth_protocol` decides what is sent when.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_common::ids::InstanceId;
use berth_common::wire::call::{Call, Start, Stop};
pub(super) use berth_protocol::edge::PendingCall;

/// The starts that were given to a link and that its node has not replied to, wherever they are on the way. Clones
/// share the set.
///
/// A node's report of all its instances says nothing about these: it may be older than they are.
#[derive(Debug, Clone, Default)]
pub(super) struct Unsettled(Arc<Mutex<HashSet<InstanceId>>>);

impl Unsettled {
    pub(super) fn begin(&self, instance: InstanceId) {
        self.lock().insert(instance);
    }

    fn settle(&self, settled: Vec<InstanceId>) {
        let mut unsettled = self.lock();
        for instance in settled {
            unsettled.remove(&instance);
        }
    }

    pub(super) fn all(&self) -> HashSet<InstanceId> {
        self.lock().clone()
    }

    /// The lock is held only to look or to change.
    fn lock(&self) -> MutexGuard<'_, HashSet<InstanceId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The orders that are still to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    orders: berth_protocol::edge::Outbox,
    unsettled: Unsettled,
}

impl Outbox {
    /// An empty outbox that shares this set.
    pub(super) fn new(unsettled: Unsettled) -> Self {
        Self { orders: berth_protocol::edge::Outbox::default(), unsettled }
    }

    /// Changes the orders, and updates the set of unsettled starts before the result is used.
    fn with<T>(&mut self, act: impl FnOnce(&mut berth_protocol::edge::Outbox) -> T) -> T {
        let done = act(&mut self.orders);
        let settled = self.orders.take_settled();
        if !settled.is_empty() {
            self.unsettled.settle(settled);
        }
        done
    }

    pub(super) fn start(&mut self, start: Box<Start>) {
        self.with(|orders| orders.start(start));
    }

    /// Takes a stop. Returns the start that it makes unnecessary, if that was never sent.
    pub(super) fn stop(&mut self, stop: Stop) -> Option<Box<Start>> {
        self.with(|orders| orders.stop(stop))
    }

    pub(super) fn forget(&mut self, instance: InstanceId) {
        self.with(|orders| orders.forget(instance));
    }

    /// The next call to send, if there is one.
    pub(super) fn next(&mut self) -> Option<(PendingCall, Call)> {
        self.with(berth_protocol::edge::Outbox::next_call)
    }

    /// The node has replied to a call. Returns the start, if that was one.
    pub(super) fn answered(&mut self, asked: &PendingCall) -> Option<Box<Start>> {
        self.with(|orders| orders.answered(asked))
    }

    /// The node has reported an instance: its start, if not replied to yet, has arrived.
    pub(super) fn reported(&mut self, instance: InstanceId) {
        self.with(|orders| orders.reported(instance));
    }

    /// The node is given up: nothing of this is sent any more.
    pub(super) fn clear(&mut self) {
        // Not those that are still on their way here: they are for the time after.
        self.unsettled.settle(self.orders.starting().into_iter().collect());
        self.orders = berth_protocol::edge::Outbox::default();
    }

    /// The connection is lost, and all missing replies with it.
    pub(super) fn lost(&mut self) {
        self.with(berth_protocol::edge::Outbox::lost);
    }

    /// On a new connection all instances, these, were reported. Returns the starts that never reached the node and are not sent
    /// again. `lost`: since the last connection the node has lost its instances.
    pub(super) fn synced(&mut self, lost: bool, reported: &HashSet<InstanceId>) -> Vec<Start> {
        self.with(|orders| orders.synced(lost, reported))
    }

    /// The instances whose starts have not arrived yet.
    pub(super) fn starting(&self) -> HashSet<InstanceId> {
        self.orders.starting()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_to_be_sent_to_a_lost_node_is_void() {
        let unsettled = Unsettled::default();
        let mut outbox = Outbox::new(unsettled.clone());
        let later = InstanceId::from_bytes([9; 16]);
        outbox.forget(later);
        unsettled.begin(later);
        outbox.clear();
        assert!(outbox.next().is_none());
        assert_eq!(unsettled.all(), HashSet::from([later]), "its start is on its way here");
    }

    #[test]
    fn a_start_is_unsettled_until_the_node_has_replied() {
        let unsettled = Unsettled::default();
        let [pending, answered] = [1, 2].map(|byte| InstanceId::from_bytes([byte; 16]));
        unsettled.begin(pending);
        unsettled.begin(answered);
        assert_eq!(unsettled.all(), HashSet::from([pending, answered]));
        unsettled.settle(vec![answered]);
        assert_eq!(unsettled.all(), HashSet::from([pending]));
    }
}
