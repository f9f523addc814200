//! What the objects of each app keep together, added up from their heads: once, and followed by the writer with each batch from then on.
//! So a write that fails counts for nothing, and what is removed, by whomever, counts no more.
//!
//! ```text
//! (nothing) ──somebody asks──▶ To(key), a page after the other ──▶ All
//!                                  batches go in between: what they change up to that key is followed, what is beyond is read yet
//! ```
//!
//! What fails, and what happens then: heads cannot be read, and whoever has asked is told; the next one goes on from there.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_common::ids::AppName;

use super::journal::Draft;
use super::tables::{Table, Trees, failed};
use crate::value;
use crate::{StateHead, StoreError};

/// Pieces of heads that are read at once: a batch waits for so many at most.
const PAGE: usize = 1024;

/// How long batches are let through between two pages.
const PAUSE: Duration = Duration::from_millis(1);

/// The sums, once somebody has asked for one.
#[derive(Default)]
pub(super) struct Kept {
    /// Held by whoever adds up.
    adding: Mutex<()>,
    /// Held while a batch goes to the database, and while a page of heads is read: so each is in a sum once.
    heads: Mutex<()>,
    /// Held for a look or a change only.
    sums: Mutex<Sums>,
}

#[derive(Default)]
struct Sums {
    counted: Counted,
    /// Bytes by app.
    bytes: HashMap<AppName, u64>,
}

/// Up to where heads are in the sums.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Counted {
    #[default]
    Nothing,
    To(Vec<u8>),
    All,
}

impl Counted {
    /// Whether the head with this key is.
    fn has(&self, key: &[u8]) -> bool {
        match self {
            Self::Nothing => false,
            Self::To(last) => key <= last.as_slice(),
            Self::All => true,
        }
    }
}

impl Sums {
    fn change(&mut self, app: &AppName, less: u64, more: u64) {
        let before = self.bytes.get(app).copied().unwrap_or_default();
        match before.saturating_sub(less).saturating_add(more) {
            0 => drop(self.bytes.remove(app)),
            now => drop(self.bytes.insert(app.clone(), now)),
        }
    }
}

/// How many bytes an app keeps less, and how many more, by the head with this key.
pub(super) struct Moved {
    key: Vec<u8>,
    app: AppName,
    less: u64,
    more: u64,
}

impl Kept {
    /// What an app's objects keep. The first time, all heads are read.
    pub(super) fn of(&self, app: &AppName, trees: &Trees) -> Result<u64, StoreError> {
        if let Some(bytes) = self.known(app) {
            return Ok(bytes);
        }
        let _one = lock(&self.adding);
        while self.known(app).is_none() {
            self.add_page(trees)?;
            std::thread::sleep(PAUSE);
        }
        Ok(self.known(app).unwrap_or_default())
    }

    fn known(&self, app: &AppName) -> Option<u64> {
        let sums = lock(&self.sums);
        (sums.counted == Counted::All).then(|| sums.bytes.get(app).copied().unwrap_or_default())
    }

    /// Adds the next page of heads.
    fn add_page(&self, trees: &Trees) -> Result<(), StoreError> {
        let _still = lock(&self.heads);
        let before = lock(&self.sums).counted.clone();
        let (found, counted) = page_after(&before, trees)?;
        let mut sums = lock(&self.sums);
        found.into_iter().for_each(|head| sums.change(&head.key.app, 0, head.bytes));
        sums.counted = counted;
        Ok(())
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
        for Moved { key, app, less, more } in moved {
            if sums.counted.has(&key) {
                sums.change(&app, less, more);
            }
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The heads that come next, and up to where heads are counted with them.
fn page_after(before: &Counted, trees: &Trees) -> Result<(Vec<StateHead>, Counted), StoreError> {
    let (mut heads, mut last) = (Vec::new(), None);
    let tree = trees.get(Table::States);
    let rest = match before {
        Counted::To(last) => tree.range::<&[u8], _>((Bound::Excluded(last.as_slice()), Bound::Unbounded)),
        Counted::Nothing | Counted::All => tree.iter(),
    };
    for piece in rest.keys().take(PAGE) {
        let piece = piece.map_err(failed)?;
        // A damaged one counts for nothing, here and below: its object cannot be used, and no other is to suffer for it.
        let key = value::first_piece_of(&piece);
        heads.extend(key.and_then(|key| trees.read::<StateHead>(Table::States, key).ok().flatten()));
        last = Some(piece.to_vec());
    }
    Ok((heads, last.map_or(Counted::All, Counted::To)))
}

/// What a batch moves.
pub(super) fn moved(draft: &Draft<'_>) -> Vec<Moved> {
    let mut moved = Vec::new();
    for key in draft.changed(Table::States).filter_map(value::first_piece_of) {
        let before = draft.trees().read::<StateHead>(Table::States, key).ok().flatten();
        let by = |head: StateHead, less, more| Moved { key: key.to_vec(), app: head.key.app, less, more };
        moved.extend(before.map(|head| (head.bytes, head)).map(|(bytes, head)| by(head, bytes, 0)));
        let now = value::read(key, |piece| draft.get(Table::States, piece)).ok().flatten();
        let now = now.and_then(|head| serde_json::from_slice::<StateHead>(&head).ok());
        moved.extend(now.map(|head| (head.bytes, head)).map(|(bytes, head)| by(head, 0, bytes)));
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

    /// Objects are written, changed and removed while what there is is being added up: each counts once.
    #[test]
    fn what_is_written_while_others_are_added_up_counts_once() {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        let object = |n: usize, bytes| {
            let mut change = StateChange::whole(state(&format!("o{n}")));
            if let Some(head) = &mut change.head {
                head.bytes = bytes;
            }
            write(change)
        };
        commit(&store, (0..3 * super::PAGE).map(|n| object(n, 5)).collect());
        let removed = state("o7").head.key.id();
        let sum = std::thread::scope(|scope| {
            let sum = scope.spawn(|| keeps(&store));
            for n in 0..40 {
                commit(&store, vec![object(n * 50, 6), object(10_000 + n, 7)]);
            }
            commit(&store, vec![write(StateChange::gone(removed))]);
            sum.join().unwrap()
        });
        assert!(sum >= 3 * super::PAGE as u64 * 5 - 5);
        assert_eq!(keeps(&store), 3 * super::PAGE as u64 * 5 + 40 + 40 * 7 - 5);
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
