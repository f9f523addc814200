//! What one node has still to be told, and which starts it has not answered, as other tasks of the shard see it. What is
//! sent when is decided by `berth_protocol`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_common::ids::InstanceId;
use berth_common::wire::call::{Call, Start, Stop};
pub(super) use berth_protocol::edge::PendingCall;

/// The starts that were told to a link and that its node has not answered, wherever they are on the way. Clones are the same.
///
/// What a node has told of all its instances is no news of these: it may be older than they are.
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

    /// Held to look or change only.
    fn lock(&self) -> MutexGuard<'_, HashSet<InstanceId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has still to be told.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    orders: berth_protocol::edge::Outbox,
    unsettled: Unsettled,
}

impl Outbox {
    /// An empty one that shares this.
    pub(super) fn new(unsettled: Unsettled) -> Self {
        Self { orders: berth_protocol::edge::Outbox::default(), unsettled }
    }

    /// Does something to the orders. Which starts are settled by that is known before anybody is told of it.
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

    /// Takes a stop. Gives back the start that it makes needless, if that was never sent.
    pub(super) fn stop(&mut self, stop: Stop) -> Option<Box<Start>> {
        self.with(|orders| orders.stop(stop))
    }

    pub(super) fn forget(&mut self, instance: InstanceId) {
        self.with(|orders| orders.forget(instance));
    }

    /// The next call to send, if any waits.
    pub(super) fn next(&mut self) -> Option<(PendingCall, Call)> {
        self.with(berth_protocol::edge::Outbox::next_call)
    }

    /// The node has answered a call, with whatever. Gives back the start, where one was answered.
    pub(super) fn answered(&mut self, asked: &PendingCall) -> Option<Box<Start>> {
        self.with(|orders| orders.answered(asked))
    }

    /// The node has told of an instance: its start, if it was not answered yet, has arrived.
    pub(super) fn told_of(&mut self, instance: InstanceId) {
        self.with(|orders| orders.reported(instance));
    }

    /// The connection is lost, and with it every answer that had not come.
    pub(super) fn lost(&mut self) {
        self.with(berth_protocol::edge::Outbox::lost);
    }

    /// A new connection has told of everything that there is. Gives back the starts that never began and are not sent
    /// again. `lost`: since it was heard last the node has lost what it had.
    pub(super) fn synced(&mut self, lost: bool) -> Vec<Start> {
        self.with(|orders| orders.synced(lost))
    }

    /// The instances whose starts are still to arrive.
    pub(super) fn starting(&self) -> HashSet<InstanceId> {
        self.orders.starting()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_unsettled_from_the_moment_it_is_told_until_it_is_settled() {
        let unsettled = Unsettled::default();
        let [told, answered] = [1, 2].map(|byte| InstanceId::from_bytes([byte; 16]));
        unsettled.begin(told);
        unsettled.begin(answered);
        assert_eq!(unsettled.all(), HashSet::from([told, answered]));
        unsettled.settle(vec![answered]);
        assert_eq!(unsettled.all(), HashSet::from([told]));
    }
}
