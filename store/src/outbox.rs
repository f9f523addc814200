//! What hooks are still to be told, and what they could not be told.

use berth_common::ids::ObjectId;

use super::StoreError;
use crate::{Delivery, EventId};

/// Events that are to be told.
pub trait Outbox {
    /// The first event of an object that is to be told.
    fn first_event(&self, object: ObjectId) -> Result<Option<(EventId, Delivery)>, StoreError>;
    /// How many events of an object wait, counted up to a limit.
    fn count_events(&self, object: ObjectId, limit: usize) -> Result<usize, StoreError>;
    /// Objects that have events to be told, in the order of their ids, behind this one, at most so many.
    fn objects_with_events(&self, after: Option<ObjectId>, limit: usize)
    -> Result<Vec<ObjectId>, StoreError>;
    /// Events that are to be told, behind this one, at most so many.
    fn events(&self, after: Option<EventId>, limit: usize) -> Result<Vec<(EventId, Delivery)>, StoreError>;
    /// Events that were set aside, the oldest first, behind this one, at most so many.
    fn dead_events(
        &self,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<(EventId, Delivery)>, StoreError>;
    /// How many events were set aside, counted up to a limit.
    fn count_dead(&self, limit: usize) -> Result<usize, StoreError>;
    /// One event that was set aside.
    fn dead_event(&self, id: EventId) -> Result<Option<Delivery>, StoreError>;
}
