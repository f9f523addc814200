//! What the objects of programs keep.

use berth_common::ids::{AppName, ObjectId};

use super::{StateHead, StoreError, StoredState};

/// States of objects. Lists begin after the given id.
pub trait States {
    /// All that an object keeps. A damaged part of it is an error.
    fn state(&self, object: ObjectId) -> Result<Option<StoredState>, StoreError>;
    /// Objects that keep something or have an alarm, in the order of their ids, at most `limit`. Those with a damaged head are
    /// passed over.
    fn states(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<StateHead>, StoreError>;
    /// What all objects of an app keep together, in bytes, as their heads have it; only what is durable. The first time, all heads
    /// are read; from then on, nothing.
    fn kept_bytes(&self, app: &AppName) -> Result<u64, StoreError>;
}
