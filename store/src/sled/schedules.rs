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

use super::{SledStore, Table, failed, passing_over_damaged};
use crate::value::{self, piece_key};
use crate::{CronKey, DueEntry, DuePage, Schedule, Schedules, StoreError};

/// Most entries of the index that are read at once: below a millisecond's work.
const PAGE: usize = 1_024;

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
pub(crate) struct CronMark {
    pub(crate) key: CronKey,
    pub(crate) last_ms: u64,
}

fn due_key(DueEntry { due_ms, object, id }: DueEntry) -> Vec<u8> {
    [&due_ms.to_be_bytes()[..], &schedule_key(object, id)].concat()
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
        self.trees().each(Table::Schedules, None)
    }
}

impl Schedules for SledStore {
    fn due(
        &self,
        from: Option<DueEntry>,
        until_ms: u64,
        without: &HashSet<ObjectId>,
    ) -> Result<DuePage, StoreError> {
        let (mut entries, mut seen) = (Vec::new(), HashSet::new());
        let from = from.map_or(Vec::new(), due_key);
        for (read, key) in self.trees().get(Table::Due).range(from..).keys().enumerate() {
            let entry = entry_of(&key.map_err(failed)?)?;
            if entry.due_ms > until_ms {
                break;
            }
            if read == PAGE {
                return Ok(DuePage { entries, next: Some(entry) });
            }
            if !without.contains(&entry.object) && seen.insert(entry.object) {
                entries.push(entry);
            }
        }
        Ok(DuePage { entries, next: None })
    }

    fn due_of(&self, object: ObjectId, until_ms: u64) -> Result<Option<DueEntry>, StoreError> {
        let times = self.trees().get(Table::DueOf).scan_prefix(object.as_bytes());
        let entries = times.map(|time| {
            let (key, due) = time.map_err(failed)?;
            entry_of(&[&due[..], &key[..]].concat())
        });
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        Ok(entries.into_iter().filter(|entry| entry.due_ms <= until_ms).min())
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
        // A damaged one of another app is not in the way of this one's end.
        for schedule in passing_over_damaged(self.all_schedules()) {
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
        store.due(None, until_ms, &without).unwrap().entries.iter().map(|entry| entry.due_ms).collect()
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

    /// However much is due of the objects that are not asked for, the others are found.
    #[test]
    fn what_is_due_is_read_in_parts_up_to_the_last_one() {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        for object in 0..5 {
            commit(&store, (0..=255).map(|id| put(&format!("a{object}"), id, u64::from(id))).collect());
        }
        commit(&store, vec![put("b", 1, 256), put("b", 2, 257), put("c", 1, 258)]);
        let known = (0..5).map(|n| object(&format!("a{n}"))).collect();
        let first = store.due(None, 257, &known).unwrap();
        assert_eq!((first.entries.len(), first.next.unwrap().due_ms), (0, 204));
        let second = store.due(first.next, 257, &known).unwrap();
        let of_b = store.due_of(object("b"), 257).unwrap().unwrap();
        assert_eq!((second.entries, second.next), (vec![of_b], None));
        assert_eq!((of_b.due_ms, of_b.object), (256, object("b")));
        assert_eq!(store.due_of(object("b"), 255).unwrap(), None);
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
