//! The layout of what objects of programs keep.
//!
//! ```text
//! states:      object 16                    the head, of objects that keep something or have an alarm
//! state_parts: object 16 ‖ 1 ‖ key          a value
//!              object 16 ‖ 2 ‖ number 4     a page
//! ```

use berth_common::ids::{AppName, ObjectId, ScheduleId};

use super::journal::Draft;
use super::schedules::schedule_key;
use super::{OBJECT_ID_BYTES, SledStore, Table, failed, passing_over_damaged};
use crate::value::{self, Piece, piece_key};
use crate::{StateChange, StateHead, States, StoreError, StoredState};

/// The rest of a part's key, and its value.
type Part = (Vec<u8>, Vec<u8>);

const VALUE: u8 = 1;
const PAGE: u8 = 2;

fn part(object: ObjectId, kind: u8, rest: &[u8]) -> Vec<u8> {
    [object.as_bytes(), &[kind][..], rest].concat()
}

fn page_key(object: ObjectId, number: u32) -> Vec<u8> {
    part(object, PAGE, &number.to_be_bytes())
}

/// A change, ready to be written.
pub(super) struct Ready {
    object: ObjectId,
    clear: bool,
    /// How many pages stay.
    page_count: u32,
    head: (Vec<u8>, Vec<Piece>),
    /// Values and pages, each with its key.
    parts: Vec<(Vec<u8>, Vec<Piece>)>,
}

impl Ready {
    pub(super) fn of(change: &StateChange) -> Result<Self, StoreError> {
        let object = change.object;
        let key = object.as_bytes().to_vec();
        let head = match &change.head {
            Some(head) => {
                let bytes = serde_json::to_vec(head).map_err(|error| StoreError::Io(error.to_string()))?;
                value::pieces(&key, &bytes)?
            }
            None => Vec::new(),
        };
        let values =
            change.values.iter().map(|(key, value)| (part(object, VALUE, key.as_bytes()), value.as_deref()));
        let pages = change.pages.iter().map(|(number, page)| (page_key(object, *number), Some(&page[..])));
        let ready = |(key, value): (Vec<u8>, Option<&[u8]>)| {
            let pieces = value.map_or(Ok(Vec::new()), |value| value::pieces(&key, value))?;
            Ok((key, pieces))
        };
        let parts = values.chain(pages).map(ready).collect::<Result<_, StoreError>>()?;
        let page_count = change.head.as_ref().map_or(0, |head| head.page_count);
        Ok(Self { object, clear: change.clear, page_count, head: (key, head), parts })
    }

    pub(super) fn apply(&self, draft: &mut Draft<'_>) -> Result<(), StoreError> {
        if self.clear {
            let values = part(self.object, VALUE, &[]);
            remove_all(&values, &values, draft)?;
        }
        for (key, pieces) in &self.parts {
            put(Table::StateParts, key, pieces, draft)?;
        }
        remove_all(&page_key(self.object, self.page_count), &part(self.object, PAGE, &[]), draft)?;
        put(Table::States, &self.head.0, &self.head.1, draft)
    }
}

fn put(table: Table, key: &[u8], pieces: &[Piece], draft: &mut Draft<'_>) -> Result<(), StoreError> {
    for (key, piece) in pieces {
        draft.insert(table, key.clone(), piece);
    }
    draft.remove_pieces_from(pieces.len(), key, table)
}

/// Removes the head of an object that keeps nothing any more and has no alarm: it is as if it had never been.
pub(super) fn forget_empty(object: ObjectId, draft: &mut Draft<'_>) -> Result<(), StoreError> {
    let (id, alarm) = (object.as_bytes(), schedule_key(object, ScheduleId::ALARM));
    let is_there = draft.get(Table::States, &piece_key(id, 0))?.is_some();
    if !is_there || draft.has_some(Table::Schedules, &alarm)? || draft.has_some(Table::StateParts, id)? {
        return Ok(());
    }
    draft.remove_pieces_from(0, id, Table::States)
}

/// Removes all parts with this prefix, from this key on.
fn remove_all(from: &[u8], prefix: &[u8], draft: &mut Draft<'_>) -> Result<(), StoreError> {
    for key in draft.keys(Table::StateParts, from, prefix)? {
        draft.remove(Table::StateParts, key);
    }
    Ok(())
}

impl SledStore {
    fn parts(&self, object: ObjectId, kind: u8) -> Result<Vec<Part>, StoreError> {
        let tree = self.trees().get(Table::StateParts);
        let mut parts = Vec::new();
        for piece in tree.scan_prefix(part(object, kind, &[])).keys() {
            let piece = piece.map_err(failed)?;
            let Some(key) = value::first_piece_of(&piece) else { continue };
            if let Some(value) = value::read(key, |piece| tree.get(piece).map_err(failed))? {
                parts.push((key[OBJECT_ID_BYTES + 1..].to_vec(), value));
            }
        }
        // Pieces of a longer value stand between keys that begin as its own.
        parts.sort_unstable();
        Ok(parts)
    }
}

impl SledStore {
    /// What an object with this head keeps.
    pub(crate) fn state_of(&self, head: StateHead) -> Result<StoredState, StoreError> {
        let object = head.key.id();
        let value = |(key, value)| {
            let key = String::from_utf8(key).map_err(|_| damaged("a key is no text"))?;
            Ok((key, value))
        };
        let values = self.parts(object, VALUE)?.into_iter().map(value).collect::<Result<_, StoreError>>()?;
        let page = |(number, page): (Vec<u8>, _)| {
            let number = number.try_into().map_err(|_| damaged("a page has no number"))?;
            Ok((u32::from_be_bytes(number), page))
        };
        let pages: Vec<_> =
            self.parts(object, PAGE)?.into_iter().map(page).collect::<Result<_, StoreError>>()?;
        let whole = pages.len() == head.page_count as usize
            && pages.iter().zip(0..).all(|((number, _), expected)| *number == expected);
        if whole { Ok(StoredState { head, values, pages }) } else { Err(damaged("pages are missing")) }
    }
}

fn damaged(reason: &str) -> StoreError {
    StoreError::Damaged { what: "state of an object".to_owned(), reason: reason.to_owned() }
}

impl States for SledStore {
    fn state(&self, object: ObjectId) -> Result<Option<StoredState>, StoreError> {
        let head: Option<StateHead> = self.trees().read(Table::States, object.as_bytes())?;
        head.map(|head| self.state_of(head)).transpose()
    }
    fn states(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<StateHead>, StoreError> {
        let last_piece = after.map(|id| piece_key(id.as_bytes(), u16::MAX));
        let heads = self.trees().each(Table::States, last_piece.as_deref());
        // Those who look for what an app's objects keep are not to fail for one of another's.
        passing_over_damaged(heads).take(limit).collect()
    }

    fn kept_bytes(&self, app: &AppName) -> Result<u64, StoreError> {
        self.kept().of(app, self.trees())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::super::tests::commit;
    use super::*;
    use crate::Write;
    use crate::fixtures::state;

    fn write(change: StateChange) -> Write {
        Write::State(Box::new(change))
    }

    #[test]
    fn a_state_is_read_as_it_was_written_beside_others() {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        let (mut one, two) = (state("one"), state("two"));
        // Keys that begin as pieces of others do.
        for (key, length) in
            [("", 3), ("a", 200_000), ("a\0", 1), ("a\0\u{1}", 70_000), ("a\0\0\0", 5), ("é", 0)]
        {
            one.values.push((key.to_owned(), vec![7; length]));
        }
        one.values.sort_unstable();
        one.values.dedup_by(|a, b| a.0 == b.0);
        commit(&store, vec![write(StateChange::whole(one.clone())), write(StateChange::whole(two.clone()))]);
        drop(store);
        let store = SledStore::open(directory.path()).unwrap();
        let ids = (one.head.key.id(), two.head.key.id());
        assert!(store.state(ids.0).unwrap().as_ref() == Some(&one));
        commit(&store, vec![write(StateChange::gone(ids.0))]);
        assert!(store.state(ids.0).unwrap().is_none() && store.state(ids.1).unwrap() == Some(two.clone()));
        assert_eq!(store.states(None, 9).unwrap(), [two.head]);
        assert_eq!(store.trees().get(Table::StateParts).len(), two.values.len() + two.pages.len());
    }

    #[test]
    fn a_damaged_value_is_its_objects_only() {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        let (one, two) = (state("one"), state("two"));
        commit(&store, vec![write(StateChange::whole(one.clone())), write(StateChange::whole(two.clone()))]);
        let key = piece_key(&part(one.head.key.id(), VALUE, one.values[0].0.as_bytes()), 0);
        let tree = store.trees().get(Table::StateParts);
        let mut bytes = tree.get(&key).unwrap().unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        tree.insert(&key, bytes).unwrap();
        assert!(matches!(store.state(one.head.key.id()), Err(StoreError::Damaged { .. })));
        assert!(store.state(two.head.key.id()).unwrap() == Some(two));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        /// Changes in a row come to what they say, whether they are written as one or one after the other.
        #[test]
        fn changes_come_to_what_they_say(
            steps in proptest::collection::vec((any::<bool>(), 0..9_u8, 0..4_u8, 0..5_u32, any::<bool>()), 1..30),
        ) {
            let directory = TempDir::new().unwrap();
            let store = SledStore::open(directory.path()).unwrap();
            let mut head = state("one").head;
            let object = head.key.id();
            let (mut values, mut pages) = (BTreeMap::new(), BTreeMap::new());
            let mut writes = Vec::new();
            for (n, (clear, what, key, count, now)) in steps.into_iter().enumerate() {
                let clear = clear && what == 0;
                let content = vec![u8::try_from(n).unwrap(); 1 + usize::from(what) * 10_000];
                let key = "k\0".repeat(usize::from(key));
                let value = (what > 2).then(|| content.clone());
                if clear { values.clear(); }
                match &value {
                    Some(value) => drop(values.insert(key.clone(), value.clone())),
                    None => drop(values.remove(&key)),
                }
                let added = (u32::try_from(pages.len()).unwrap()..count).map(|page| (page, content.clone())).collect::<Vec<_>>();
                pages.extend(added.clone());
                pages.retain(|page, _| *page < count);
                head.page_count = count;
                let change = StateChange { object, head: Some(head.clone()), clear, values: vec![(key, value)], pages: added };
                writes.push(write(change));
                if now {
                    commit(&store, std::mem::take(&mut writes));
                }
            }
            commit(&store, writes);
            let expected = StoredState { head, values: values.into_iter().collect(), pages: pages.into_iter().collect() };
            let has_some = !expected.values.is_empty() || !expected.pages.is_empty();
            prop_assert!(store.state(object).unwrap() == has_some.then_some(expected));
        }
    }
}
