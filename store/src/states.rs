//! What the objects of programs keep.

use berth_common::ids::ObjectId;

use super::{StateHead, StoreError, StoredState};

/// States of objects. Lists begin after the given id.
pub trait States {
    /// All that an object keeps. A damaged part of it is an error.
    fn state(&self, object: ObjectId) -> Result<Option<StoredState>, StoreError>;
    /// Objects that keep something, in the order of their ids, at most `limit`.
    fn states(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<StateHead>, StoreError>;
}
