//! The layout of events in the database.
//!
//! ```text
//! hooks: object 16 ‖ number 10   each object's events, in their order      number: batch 8 ‖ index in it 2
//! dead:  number 10 ‖ object 16   those that were set aside, the oldest first
//! ```

use std::ops::Bound;

use berth_common::ids::ObjectId;

use super::{SledStore, Table, failed};
use crate::value::{self, piece_key};
use crate::{Delivery, EventId, NUMBER_BYTES, Outbox, StoreError};

const OBJECT_ID_BYTES: usize = 16;

/// The key of an event that waits for delivery.
pub(super) fn event_key(id: EventId) -> Vec<u8> {
    [&id.object.as_bytes()[..], &id.number].concat()
}

/// The key of an event that was set aside.
pub(super) fn dead_key(id: EventId) -> Vec<u8> {
    [&id.number[..], id.object.as_bytes()].concat()
}

fn id_of_event(key: &[u8]) -> Option<EventId> {
    let (object, number) = key.split_first_chunk::<OBJECT_ID_BYTES>()?;
    Some(EventId { object: ObjectId::from_bytes(*object), number: number.try_into().ok()? })
}

fn id_of_dead(key: &[u8]) -> Option<EventId> {
    let (number, object) = key.split_first_chunk::<NUMBER_BYTES>()?;
    Some(EventId { object: ObjectId::from_bytes(object.try_into().ok()?), number: *number })
}

fn damaged_key() -> StoreError {
    StoreError::Damaged { what: "key of an event".to_owned(), reason: "it names no event".to_owned() }
}

/// The id of an event that was set aside, from its key.
pub(crate) fn dead_id(key: &[u8]) -> Result<EventId, StoreError> {
    id_of_dead(key).ok_or_else(damaged_key)
}

impl SledStore {
    /// Keys of a table from a bound on, at most `limit`.
    fn keys_from(&self, table: Table, from: Bound<&[u8]>, limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut keys = Vec::new();
        for piece in self.trees().get(table).range::<&[u8], _>((from, Bound::Unbounded)).keys() {
            if keys.len() == limit {
                break;
            }
            keys.extend(value::first_piece_of(&piece.map_err(failed)?).map(<[u8]>::to_vec));
        }
        Ok(keys)
    }

    fn deliveries(
        &self,
        table: Table,
        after: Option<Vec<u8>>,
        limit: usize,
        id: impl Fn(&[u8]) -> Option<EventId>,
    ) -> Result<Vec<(EventId, Delivery)>, StoreError> {
        let last_piece = after.map(|key| piece_key(&key, u16::MAX));
        let from = last_piece.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Vec::new();
        for key in self.keys_from(table, from, limit)? {
            // Missing if it was delivered in the meantime.
            if let Some(delivery) = self.trees().read(table, &key)? {
                found.push((id(&key).ok_or_else(damaged_key)?, delivery));
            }
        }
        Ok(found)
    }
}

impl Outbox for SledStore {
    fn first_event(&self, object: ObjectId) -> Result<Option<(EventId, Delivery)>, StoreError> {
        let keys = self.keys_from(Table::Hooks, Bound::Included(object.as_bytes()), 1)?;
        let Some(key) = keys.into_iter().next().filter(|key| key.starts_with(object.as_bytes())) else {
            return Ok(None);
        };
        let id = id_of_event(&key).ok_or_else(damaged_key)?;
        Ok(self.trees().read(Table::Hooks, &key)?.map(|delivery| (id, delivery)))
    }

    fn count_events(&self, object: ObjectId, limit: usize) -> Result<usize, StoreError> {
        let keys = self.keys_from(Table::Hooks, Bound::Included(object.as_bytes()), limit)?;
        Ok(keys.iter().take_while(|key| key.starts_with(object.as_bytes())).count())
    }

    fn objects_with_events(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<ObjectId>, StoreError> {
        let mut objects = Vec::new();
        let mut last = after;
        while objects.len() < limit {
            // Sorts after all keys of the previous object.
            let behind = last.map(|object| [&object.as_bytes()[..], &[0xff; NUMBER_BYTES + 2]].concat());
            let from = behind.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let Some(key) = self.keys_from(Table::Hooks, from, 1)?.into_iter().next() else { break };
            let id = id_of_event(&key).ok_or_else(damaged_key)?;
            objects.push(id.object);
            last = Some(id.object);
        }
        Ok(objects)
    }

    fn events(&self, after: Option<EventId>, limit: usize) -> Result<Vec<(EventId, Delivery)>, StoreError> {
        self.deliveries(Table::Hooks, after.map(event_key), limit, id_of_event)
    }

    fn dead_events(
        &self,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<(EventId, Delivery)>, StoreError> {
        self.deliveries(Table::Dead, after.map(dead_key), limit, id_of_dead)
    }

    fn count_dead(&self, limit: usize) -> Result<usize, StoreError> {
        self.keys_from(Table::Dead, Bound::Unbounded, limit).map(|keys| keys.len())
    }

    fn dead_event(&self, id: EventId) -> Result<Option<Delivery>, StoreError> {
        self.trees().read(Table::Dead, &dead_key(id))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::tests::commit;
    use super::*;
    use crate::Write;
    use crate::fixtures::delivery;

    fn event(name: &str, generation: u64) -> Write {
        Write::Event(Box::new(delivery(name, generation)))
    }

    fn generations(store: &SledStore) -> Vec<u64> {
        store.events(None, 100).unwrap().iter().map(|(_, delivery)| delivery.event.generation.0).collect()
    }

    #[test]
    fn events_of_an_object_are_in_the_order_in_which_they_were_written_also_after_reopening() {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        commit(&store, vec![event("o", 1), event("o", 2)]);
        drop(store);
        let store = SledStore::open(directory.path()).unwrap();
        commit(&store, vec![event("o", 3)]);
        commit(&store, vec![event("o", 4)]);
        assert_eq!(generations(&store), [1, 2, 3, 4]);
        let object = delivery("o", 1).event.key.id();
        for generation in 1..=4 {
            let (id, first) = store.first_event(object).unwrap().unwrap();
            assert_eq!(first.event.generation.0, generation);
            assert_eq!(store.events(Some(id), 100).unwrap().len(), 4 - usize::try_from(generation).unwrap());
            commit(&store, vec![Write::EventDelivered(id)]);
        }
        assert_eq!(store.first_event(object).unwrap(), None);
    }

    #[test]
    fn objects_with_events_are_found_once_each_in_pages() {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        let names = ["a", "b", "c"];
        commit(&store, names.iter().flat_map(|name| [event(name, 1), event(name, 2)]).collect());
        let mut expected: Vec<_> = names.iter().map(|name| delivery(name, 1).event.key.id()).collect();
        expected.sort_unstable();
        assert_eq!(store.objects_with_events(None, 10).unwrap(), expected);
        assert_eq!(store.objects_with_events(None, 2).unwrap(), expected[..2]);
        assert_eq!(store.objects_with_events(Some(expected[1]), 2).unwrap(), expected[2..]);
        assert_eq!(store.count_events(expected[0], 10).unwrap(), 2);
        assert_eq!(store.count_events(expected[0], 1).unwrap(), 1);
    }

    #[test]
    fn events_set_aside_do_not_wait_and_are_listed_by_age() {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        commit(&store, vec![event("z", 1), event("a", 2)]);
        for object in store.objects_with_events(None, 10).unwrap() {
            let (id, first) = store.first_event(object).unwrap().unwrap();
            commit(&store, vec![Write::SetAside(id, Box::new(first))]);
        }
        assert_eq!(generations(&store), Vec::<u64>::new());
        let dead = store.dead_events(None, 10).unwrap();
        assert_eq!(dead.iter().map(|(_, delivery)| delivery.event.generation.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(store.dead_events(Some(dead[0].0), 10).unwrap(), dead[1..]);
        assert_eq!((store.count_dead(10).unwrap(), store.count_dead(1).unwrap()), (2, 1));
        commit(&store, vec![event("z", 1), Write::RemoveDead(dead[0].0)]);
        assert_eq!(store.dead_event(dead[0].0).unwrap(), None);
        assert_eq!(generations(&store), [1]);
    }
}
