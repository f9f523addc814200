//! Events that wait for delivery to hooks, and those that were set aside.

use berth_common::ids::ObjectId;

use super::StoreError;
use crate::{Delivery, EventId};

/// The outbox of events. Lists begin after the given id.
pub trait Outbox {
    /// The first event of an object that waits for delivery.
    fn first_event(&self, object: ObjectId) -> Result<Option<(EventId, Delivery)>, StoreError>;
    /// The number of waiting events of an object, counted up to a limit.
    fn count_events(&self, object: ObjectId, limit: usize) -> Result<usize, StoreError>;
    /// Objects with waiting events, in the order of their ids, at most `limit`.
    fn objects_with_events(&self, after: Option<ObjectId>, limit: usize)
    -> Result<Vec<ObjectId>, StoreError>;
    /// Waiting events, at most `limit`.
    fn events(&self, after: Option<EventId>, limit: usize) -> Result<Vec<(EventId, Delivery)>, StoreError>;
    /// Events that were set aside, the oldest first, at most `limit`.
    fn dead_events(
        &self,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<(EventId, Delivery)>, StoreError>;
    /// The number of events that were set aside, counted up to a limit.
    fn count_dead(&self, limit: usize) -> Result<usize, StoreError>;
    /// One event that was set aside.
    fn dead_event(&self, id: EventId) -> Result<Option<Delivery>, StoreError>;
}
