//! The layout of schedules in the database, with their index by time, and of the marks of crons.
//!
//! ```text
//! schedules: object 16 ‖ schedule 16            the schedule
//! due:       ms 8 ‖ object 16 ‖ schedule 16     the index by due time: only its first entries are read
//! due_of:    object 16 ‖ schedule 16 ─▶ ms 8    its due time in the index
//! crons:     app ‖ 0 ‖ cron                     when it was last due
//! ```

use std::collections::{BTreeMap, HashSet};

use berth_common::ids::{AppName, ObjectId, ScheduleId};
use serde::{Deserialize, Serialize};

use super::{SledStore, Table, failed};
use crate::value::{self, piece_key};
use crate::{CronKey, DueEntry, Schedule, Schedules, StoreError};

/// Most entries that one look-up reads: an object with more due entries than this delays other objects.
const MAX_LOOKED_AT: usize = 10_000;

/// The key of a schedule.
pub(super) fn schedule_key(object: ObjectId, id: ScheduleId) -> Vec<u8> {
    [&object.as_bytes()[..], id.as_bytes()].concat()
}

/// The key of a cron's mark.
pub(super) fn cron_key(key: &CronKey) -> Vec<u8> {
    [key.app.as_str().as_bytes(), &[0], key.cron.as_bytes()].concat()
}

/// A cron's mark as stored.
#[derive(Serialize, Deserialize)]
pub(super) struct CronMark {
    pub(super) key: CronKey,
    pub(super) last_ms: u64,
}

fn entry_of(key: &[u8]) -> Result<DueEntry, StoreError> {
    let entry = || {
        let (due, rest) = key.split_first_chunk()?;
        let (object, id) = rest.split_first_chunk()?;
        Some(DueEntry {
            due_ms: u64::from_be_bytes(*due),
            object: ObjectId::from_bytes(*object),
            id: ScheduleId::from_bytes(id.try_into().ok()?),
        })
    };
    entry().ok_or_else(|| StoreError::Damaged {
        what: "index of what is due".to_owned(),
        reason: "a key of it names nothing".to_owned(),
    })
}

impl SledStore {
    /// All schedules of all objects.
    pub(crate) fn all_schedules(&self) -> impl Iterator<Item = Result<Schedule, StoreError>> + '_ {
        let pieces = self.trees().get(Table::Schedules).iter().keys();
        let keys = pieces.filter_map(|piece| match piece {
            Ok(piece) => value::first_piece_of(&piece).map(|key| Ok(key.to_vec())),
            Err(error) => Some(Err(failed(error))),
        });
        keys.filter_map(|key| match key {
            Ok(key) => self.trees().read(Table::Schedules, &key).transpose(),
            Err(error) => Some(Err(error)),
        })
    }
}

impl Schedules for SledStore {
    fn due(
        &self,
        until_ms: u64,
        without: &HashSet<ObjectId>,
        limit: usize,
    ) -> Result<Vec<DueEntry>, StoreError> {
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        for key in self.trees().get(Table::Due).iter().keys().take(MAX_LOOKED_AT) {
            let entry = entry_of(&key.map_err(failed)?)?;
            if found.len() == limit || entry.due_ms > until_ms {
                break;
            }
            if !without.contains(&entry.object) && seen.insert(entry.object) {
                found.push(entry);
            }
        }
        Ok(found)
    }

    fn next_due_ms(&self, after_ms: u64) -> Result<Option<u64>, StoreError> {
        let from = after_ms.saturating_add(1).to_be_bytes();
        let next = self.trees().get(Table::Due).range(&from[..]..).keys().next();
        next.map(|key| entry_of(&key.map_err(failed)?).map(|entry| entry.due_ms)).transpose()
    }

    fn schedule(&self, object: ObjectId, id: ScheduleId) -> Result<Option<Schedule>, StoreError> {
        self.trees().read(Table::Schedules, &schedule_key(object, id))
    }

    fn schedules_of_app(
        &self,
        app: &AppName,
        limit: usize,
    ) -> Result<Vec<(ObjectId, ScheduleId)>, StoreError> {
        let mut found = Vec::new();
        for schedule in self.all_schedules() {
            let schedule = schedule?;
            if schedule.key.app == *app {
                found.push((schedule.key.id(), schedule.id));
            }
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }

    fn schedules(
        &self,
        object: ObjectId,
        after: Option<ScheduleId>,
        limit: usize,
    ) -> Result<Vec<Schedule>, StoreError> {
        let from = match after {
            Some(id) => piece_key(&schedule_key(object, id), u16::MAX),
            None => object.as_bytes().to_vec(),
        };
        let mut found = Vec::new();
        for piece in self.trees().get(Table::Schedules).range(from..).keys() {
            let piece = piece.map_err(failed)?;
            if found.len() == limit || !piece.starts_with(object.as_bytes()) {
                break;
            }
            if let Some(key) = value::first_piece_of(&piece) {
                found.extend(self.trees().read::<Schedule>(Table::Schedules, key)?);
            }
        }
        Ok(found)
    }

    fn cron_marks(&self) -> Result<BTreeMap<CronKey, u64>, StoreError> {
        let marks: Vec<CronMark> = self.trees().read_all(Table::Crons, None, usize::MAX)?;
        Ok(marks.into_iter().map(|CronMark { key, last_ms }| (key, last_ms)).collect())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::tests::commit;
    use super::*;
    use crate::Write;
    use crate::fixtures::schedule;

    fn put(name: &str, id: u8, due_ms: u64) -> Write {
        Write::Schedule(Box::new(schedule(name, id, due_ms)))
    }

    fn due(store: &SledStore, until_ms: u64, without: &[ObjectId]) -> Vec<u64> {
        let without = without.iter().copied().collect();
        store.due(until_ms, &without, 10).unwrap().iter().map(|entry| entry.due_ms).collect()
    }

    fn object(name: &str) -> ObjectId {
        schedule(name, 1, 0).key.id()
    }

    #[test]
    fn due_entries_are_listed_by_time_one_for_each_object() {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        commit(&store, vec![put("a", 1, 30), put("a", 2, 10), put("b", 1, 20), put("c", 1, 40)]);
        drop(store);
        let store = SledStore::open(directory.path()).unwrap();
        assert_eq!(due(&store, 40, &[]), [10, 20, 40]);
        assert_eq!(due(&store, 39, &[object("a")]), [20]);
        assert_eq!(due(&store, 9, &[]), Vec::<u64>::new());
        assert_eq!((store.next_due_ms(10).unwrap(), store.next_due_ms(40).unwrap()), (Some(20), None));
        assert_eq!(store.schedules(object("a"), None, 10).unwrap().len(), 2);
        let second = store.schedules(object("a"), Some(ScheduleId::from_bytes([1; 16])), 10).unwrap();
        assert_eq!(second, [schedule("a", 2, 10)]);
    }

    #[test]
    fn the_index_follows_replacements_and_removals() {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        commit(&store, vec![put("a", 1, 10)]);
        commit(&store, vec![put("a", 1, 50)]);
        assert_eq!(due(&store, 100, &[]), [50]);
        commit(&store, vec![Write::RemoveSchedule(object("a"), ScheduleId::from_bytes([1; 16]))]);
        assert_eq!(due(&store, 100, &[]), Vec::<u64>::new());
        assert_eq!(store.schedule(object("a"), ScheduleId::from_bytes([1; 16])).unwrap(), None);
    }

    #[test]
    fn a_schedule_is_removed_only_if_it_was_not_replaced() {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        let id = ScheduleId::from_bytes([1; 16]);
        let finish = |due_ms, then| Write::Finish { object: object("a"), id, due_ms, then };
        commit(&store, vec![put("a", 1, 10), put("a", 1, 60)]);
        commit(&store, vec![finish(10, None)]);
        assert_eq!(due(&store, 100, &[]), [60]);
        let failed = Schedule {
            due_ms: Some(2_100),
            attempts: 1,
            last_error: Some("no".to_owned()),
            ..schedule("a", 1, 60)
        };
        commit(&store, vec![finish(60, Some(Box::new(failed.clone())))]);
        assert_eq!(store.schedule(object("a"), id).unwrap(), Some(failed.clone()));
        assert_eq!((due(&store, 101, &[]), store.next_due_ms(101).unwrap()), (vec![], failed.due_ms));
        commit(&store, vec![finish(failed.due_ms.unwrap(), None)]);
        assert_eq!((store.schedule(object("a"), id).unwrap(), store.next_due_ms(0).unwrap()), (None, None));
    }

    #[test]
    fn marks_of_crons_are_kept() {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        let key = |cron: &str| CronKey { app: "a".parse().unwrap(), cron: cron.to_owned() };
        commit(
            &store,
            vec![Write::CronMark(key("1"), 5), Write::CronMark(key("2"), 6), Write::CronMark(key("1"), 7)],
        );
        commit(&store, vec![Write::RemoveCronMark(key("2"))]);
        assert_eq!(store.cron_marks().unwrap(), BTreeMap::from([(key("1"), 7)]));
    }
}
