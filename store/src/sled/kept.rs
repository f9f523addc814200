//! What the objects of each app keep together, added up from their heads: once, and followed by the writer with each batch from then on.
//! So a write that fails counts for nothing, and what is removed, by whomever, counts no more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use berth_common::ids::AppName;

use super::journal::Draft;
use super::tables::{Table, Trees, failed};
use crate::value;
use crate::{StateHead, StoreError};

/// The sums, once somebody has asked for one.
#[derive(Default)]
pub(super) struct Kept {
    /// Held while a batch goes to the database, and while heads are read: so each is in a sum once.
    heads: Mutex<()>,
    /// Held for a look or a change only.
    sums: Mutex<Option<Sums>>,
}

/// Bytes by app.
type Sums = HashMap<AppName, u64>;

/// How many bytes an app keeps less, and how many more.
pub(super) type Moved = (AppName, u64, u64);

impl Kept {
    /// What an app's objects keep. The first time, all heads are read.
    pub(super) fn of(&self, app: &AppName, trees: &Trees) -> Result<u64, StoreError> {
        if let Some(bytes) = self.known(app) {
            return Ok(bytes);
        }
        let _still = lock(&self.heads);
        // Another may have been faster.
        if self.known(app).is_none() {
            let sums = add_up(trees)?;
            *lock(&self.sums) = Some(sums);
        }
        Ok(self.known(app).unwrap_or_default())
    }

    fn known(&self, app: &AppName) -> Option<u64> {
        let sums = lock(&self.sums);
        sums.as_ref().map(|sums| sums.get(app).copied().unwrap_or_default())
    }

    /// Has the batch written that makes these moves.
    pub(super) fn follow<E>(
        &self,
        moved: Vec<Moved>,
        write: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let _still = lock(&self.heads);
        write()?;
        let mut sums = lock(&self.sums);
        let Some(sums) = &mut *sums else { return Ok(()) };
        for (app, less, more) in moved {
            let sum = sums.entry(app).or_default();
            *sum = sum.saturating_sub(less).saturating_add(more);
        }
        sums.retain(|_, bytes| *bytes > 0);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add_up(trees: &Trees) -> Result<Sums, StoreError> {
    let mut sums = Sums::new();
    for piece in trees.get(Table::States).iter().keys() {
        let piece = piece.map_err(failed)?;
        let Some(key) = value::first_piece_of(&piece) else { continue };
        // A damaged one counts for nothing, here and below: its object cannot be used, and no other is to suffer for it.
        if let Ok(Some(head)) = trees.read::<StateHead>(Table::States, key) {
            *sums.entry(head.key.app).or_default() += head.bytes;
        }
    }
    Ok(sums)
}

/// What a batch moves.
pub(super) fn moved(draft: &Draft<'_>) -> Vec<Moved> {
    let mut moved = Vec::new();
    for key in draft.changed(Table::States).filter_map(value::first_piece_of) {
        let before = draft.trees().read::<StateHead>(Table::States, key).ok().flatten();
        moved.extend(before.map(|head| (head.key.app, head.bytes, 0)));
        let now = value::read(key, |piece| draft.get(Table::States, piece)).ok().flatten();
        let now = now.and_then(|head| serde_json::from_slice::<StateHead>(&head).ok());
        moved.extend(now.map(|head| (head.key.app, 0, head.bytes)));
    }
    moved
}

#[cfg(test)]
mod tests {
    use berth_common::ids::{ObjectId, ScheduleId};
    use tempfile::TempDir;

    use super::super::SledStore;
    use super::super::tests::commit;
    use crate::fixtures::{schedule, state};
    use crate::{Schedules, StateChange, States, Write};

    fn keeps(store: &SledStore) -> u64 {
        store.kept_bytes(&state("one").head.key.app).unwrap()
    }

    fn write(change: StateChange) -> Write {
        Write::State(Box::new(change))
    }

    /// An object that has nothing but a head of this many bytes.
    fn bare(name: &str, bytes: u64) -> (ObjectId, StateChange) {
        let mut head = state(name).head;
        (head.page_count, head.bytes) = (0, bytes);
        let object = head.key.id();
        (object, StateChange { head: Some(head), ..StateChange::gone(object) })
    }

    fn alarm(name: &str, due_ms: u64) -> Write {
        let mut alarm = schedule(name, 0, due_ms);
        alarm.id = ScheduleId::ALARM;
        Write::Schedule(Box::new(alarm))
    }

    #[test]
    fn what_apps_keep_follows_what_is_written_and_is_added_up_again() {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        commit(&store, vec![write(StateChange::whole(state("one")))]);
        assert_eq!(keeps(&store), 5);
        let mut larger = state("one");
        larger.head.bytes = 70;
        commit(&store, vec![write(StateChange::whole(larger)), write(StateChange::whole(state("two")))]);
        assert_eq!((keeps(&store), store.kept_bytes(&"other".parse().unwrap()).unwrap()), (75, 0));
        drop(store);
        let store = SledStore::open(directory.path()).unwrap();
        assert_eq!(keeps(&store), 75);
        commit(&store, vec![write(StateChange::gone(state("one").head.key.id()))]);
        assert_eq!(keeps(&store), 5);
    }

    #[test]
    fn an_object_that_has_only_an_alarm_counts_as_long_as_it_has_it() {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        assert_eq!(keeps(&store), 0);
        let (object, change) = bare("one", 300);
        let id = ScheduleId::ALARM;
        let finish = |then| Write::Finish { object, id, due_ms: 7, then };
        for end in [Write::RemoveSchedule(object, id), finish(None)] {
            commit(&store, vec![alarm("one", 7), write(change.clone())]);
            assert_eq!((keeps(&store), store.states(None, 9).unwrap().len()), (300, 1));
            let mut again = schedule("one", 0, 7);
            again.id = id;
            commit(&store, vec![finish(Some(Box::new(again)))]);
            assert_eq!(keeps(&store), 300);
            commit(&store, vec![end]);
            assert_eq!((keeps(&store), store.states(None, 9).unwrap().len()), (0, 0));
        }
        // Without an alarm there is nothing to keep it for.
        commit(&store, vec![write(change)]);
        assert_eq!((keeps(&store), store.schedule(object, id).unwrap()), (0, None));
        // One that keeps something stays.
        commit(&store, vec![alarm("one", 7), write(StateChange::whole(state("one")))]);
        commit(&store, vec![finish(None)]);
        assert_eq!(keeps(&store), 5);
    }
}
