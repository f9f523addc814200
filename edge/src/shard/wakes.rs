//! Which objects have something new to be told: each shard says so, and whoever tells hooks takes them all.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use berth_common::ids::ObjectId;
use tokio::sync::Notify;

/// Objects that have something new to be told.
#[derive(Clone, Default)]
pub(crate) struct Wakes(Arc<Woken>);

#[derive(Default)]
struct Woken {
    /// Each object at most once. The lock is held to put one in, or to take them all.
    objects: Mutex<HashSet<ObjectId>>,
    some: Notify,
}

impl Wakes {
    /// An event of this object is durable.
    pub(crate) fn wake(&self, object: ObjectId) {
        self.0.objects.lock().unwrap_or_else(PoisonError::into_inner).insert(object);
        self.0.some.notify_one();
    }

    /// All of them; none is left.
    pub(crate) fn take(&self) -> HashSet<ObjectId> {
        std::mem::take(&mut *self.0.objects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there are some, or may be.
    pub(crate) async fn some(&self) {
        self.0.some.notified().await;
    }
}
