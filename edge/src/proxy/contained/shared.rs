//! What those who look after containers have together: whose turn it is with an object, and how many signals of an app are under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use berth_common::ids::{AppName, ObjectId};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Signals of one app's objects that are under way at once, further ones wait: each waits for a node or for the store, which others
/// need too.
const SIGNALS_PER_APP: usize = 8;

#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// Of each object whose container is looked after: what is cancelled when the object comes back.
    turns: HashMap<ObjectId, CancellationToken>,
    signals: HashMap<AppName, Weak<Semaphore>>,
}

impl Shared {
    /// Begins to look after an object's container. Whoever kept it for an earlier life of the object stops that.
    pub(super) fn begin(&self, object: ObjectId) -> Turn {
        let over = CancellationToken::new();
        if let Some(before) = self.inner().turns.insert(object, over.clone()) {
            before.cancel();
        }
        Turn { shared: self.clone(), object, over }
    }

    /// The app's share of signals.
    pub(super) fn signals(&self, app: &AppName) -> Arc<Semaphore> {
        let mut inner = self.inner();
        if let Some(share) = inner.signals.get(app).and_then(Weak::upgrade) {
            return share;
        }
        inner.signals.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(SIGNALS_PER_APP));
        inner.signals.insert(app.clone(), Arc::downgrade(&share));
        share
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time in which one looks after an object's container.
pub(super) struct Turn {
    shared: Shared,
    object: ObjectId,
    over: CancellationToken,
}

impl Turn {
    /// Returns when the object has come back.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut inner = self.shared.inner();
        // Once it is over, the entry is another's.
        if !self.over.is_cancelled() {
            inner.turns.remove(&self.object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_comes_back_ends_the_turn_before_and_nothing_is_left_at_last() {
        let (shared, object) = (Shared::default(), ObjectId::from_bytes([1; 16]));
        let first = shared.begin(object);
        let second = shared.begin(object);
        assert!(first.over.is_cancelled() && !second.over.is_cancelled());
        drop(first);
        let third = shared.begin(object);
        assert!(second.over.is_cancelled());
        drop((second, third));
        assert!(shared.inner().turns.is_empty());
    }

    #[test]
    fn each_app_has_a_share_of_signals_as_long_as_it_has_objects() {
        let shared = Shared::default();
        let (a, b): (AppName, AppName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let share = shared.signals(&a);
        let taken = share.try_acquire_many(8).unwrap();
        assert!(shared.signals(&a).try_acquire().is_err() && shared.signals(&b).try_acquire().is_ok());
        drop(taken);
        drop(share);
        drop(shared.signals(&b));
        assert_eq!(shared.inner().signals.len(), 1);
    }
}
