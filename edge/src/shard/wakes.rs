//! Which objects have new events: the shards add them, and the hook delivery takes them all.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use berth_common::ids::ObjectId;
use tokio::sync::Notify;

/// The objects with new events.
#[derive(Clone, Default)]
pub(crate) struct Wakes(Arc<Woken>);

#[derive(Default)]
struct Woken {
    /// Each object at most once. The lock is held only to add one, or to take them all.
    objects: Mutex<HashSet<ObjectId>>,
    some: Notify,
}

impl Wakes {
    /// An event of this object is durable.
    pub(crate) fn wake(&self, object: ObjectId) {
        self.0.objects.lock().unwrap_or_else(PoisonError::into_inner).insert(object);
        self.0.some.notify_one();
    }

    /// Takes all objects.
    pub(crate) fn take(&self) -> HashSet<ObjectId> {
        std::mem::take(&mut *self.0.objects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there are some. May wake up without any.
    pub(crate) async fn some(&self) {
        self.0.some.notified().await;
    }
}
