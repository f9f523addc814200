//! What one object keeps: keys with values, and its alarm; what of it is not committed yet, and how to take it back. Does not know
//! what values are, nor databases.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use serde_bytes::ByteBuf;

use crate::message::{Changes, STATE_BYTES};

/// Longest key, in bytes.
pub(crate) const KEY_BYTES: usize = 2048;

/// Longest value, in bytes of its clone.
pub(crate) const VALUE_BYTES: usize = 2 << 20;

/// What an entry takes up besides its key and value, in bytes.
const ENTRY_BYTES: usize = 64;

/// Savepoints within each other: far more than programs have.
pub(crate) const SAVEPOINTS: usize = 64;

/// Why something is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotKept {
    #[error("Keys cannot be larger than {KEY_BYTES} bytes.")]
    Key,
    #[error("Values cannot be larger than {} MiB.", VALUE_BYTES >> 20)]
    Value,
    #[error("An object cannot keep more than {} MiB.", STATE_BYTES >> 20)]
    Full,
    #[error("Transactions cannot be nested more than {SAVEPOINTS} deep.")]
    Deep,
}

/// What to give of the keys.
#[derive(Debug, Default)]
pub(crate) struct Range {
    pub(crate) start: Option<String>,
    /// Whether a key that equals `start` is left out.
    pub(crate) after: bool,
    pub(crate) end: Option<String>,
    pub(crate) prefix: String,
    pub(crate) reverse: bool,
    pub(crate) limit: usize,
}

/// A value before it was changed.
struct Undo {
    key: String,
    value: Option<Vec<u8>>,
}

/// Where a transaction began.
struct Savepoint {
    /// Whether it goes on over more than one turn.
    long: bool,
    undo: usize,
    alarm: Option<u64>,
}

/// Keys, values and the alarm.
#[derive(Default)]
pub(crate) struct Kept {
    entries: BTreeMap<String, Vec<u8>>,
    /// What they take up, in bytes.
    bytes: usize,
    alarm: Option<u64>,
    /// Whether all that was committed goes.
    cleared: bool,
    changed: BTreeSet<String>,
    alarm_changed: bool,
    undo: Vec<Undo>,
    savepoints: Vec<Savepoint>,
}

fn weight(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

impl Kept {
    /// What was committed before; pages are not for here.
    pub(crate) fn of(stored: Changes) -> Self {
        let kept = stored.entries.into_iter().filter_map(|(key, value)| Some((key, value?.into_vec())));
        let entries: BTreeMap<String, Vec<u8>> = kept.collect();
        let bytes = entries.iter().map(|(key, value)| weight(key, value)).sum();
        Self { entries, bytes, alarm: stored.alarm.flatten(), ..Self::default() }
    }

    /// What keys and values take up, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, key: &str) -> Option<&[u8]> {
        self.entries.get(key).map(Vec::as_slice)
    }

    /// Keeps a value; `beside` is what else the object keeps, in bytes.
    pub(crate) fn put(&mut self, key: String, value: Vec<u8>, beside: usize) -> Result<(), NotKept> {
        Self::check_key(&key)?;
        if value.len() > VALUE_BYTES {
            return Err(NotKept::Value);
        }
        let before = self.entries.get(&key).map_or(0, |value| weight(&key, value));
        let bytes = self.bytes - before + weight(&key, &value);
        if bytes + beside > STATE_BYTES {
            return Err(NotKept::Full);
        }
        self.bytes = bytes;
        let before = self.entries.insert(key.clone(), value);
        self.note(key, before);
        Ok(())
    }

    pub(crate) fn check_key(key: &str) -> Result<(), NotKept> {
        if key.len() > KEY_BYTES { Err(NotKept::Key) } else { Ok(()) }
    }

    /// Whether there was such a key.
    pub(crate) fn delete(&mut self, key: &str) -> bool {
        let Some(value) = self.entries.remove(key) else { return false };
        self.bytes -= weight(key, &value);
        self.note(key.to_owned(), Some(value));
        true
    }

    fn note(&mut self, key: String, before: Option<Vec<u8>>) {
        if !self.savepoints.is_empty() {
            self.undo.push(Undo { key: key.clone(), value: before });
        }
        self.changed.insert(key);
    }

    /// Forgets all keys. Not within a transaction.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.changed.clear();
        self.bytes = 0;
        self.cleared = true;
    }

    /// The entries in a range, in its order.
    pub(crate) fn list<'a>(&'a self, range: &'a Range) -> Box<dyn Iterator<Item = (&'a str, &'a [u8])> + 'a> {
        let begin = range.start.as_deref().filter(|start| *start >= range.prefix.as_str());
        let from = match begin {
            Some(start) if range.after => Bound::Excluded(start),
            Some(start) => Bound::Included(start),
            None => Bound::Included(range.prefix.as_str()),
        };
        let first = match from {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => "",
        };
        let to = match range.end.as_deref() {
            // A range that is none must not be asked for.
            Some(end) if end <= first => return Box::new(std::iter::empty()),
            Some(end) => Bound::Excluded(end),
            None => Bound::Unbounded,
        };
        let within =
            self.entries.range::<str, _>((from, to)).map(|(key, value)| (key.as_str(), value.as_slice()));
        let prefix = range.prefix.as_str();
        if range.reverse {
            let above = move |(key, _): &(&str, &[u8])| *key > prefix && !key.starts_with(prefix);
            let matching = within.rev().skip_while(above).take_while(move |(key, _)| key.starts_with(prefix));
            return Box::new(matching.take(range.limit));
        }
        Box::new(within.take_while(move |(key, _)| key.starts_with(prefix)).take(range.limit))
    }

    pub(crate) fn alarm(&self) -> Option<u64> {
        self.alarm
    }

    pub(crate) fn set_alarm(&mut self, due_ms: Option<u64>) {
        self.alarm_changed |= self.alarm != due_ms;
        self.alarm = due_ms;
    }

    /// The alarm's handler begins: from now on the object has none, which is committed only when the handler has succeeded.
    pub(crate) fn begin_alarm(&mut self) {
        self.alarm = None;
    }

    /// The handler has ended. If it set no other alarm, the one that was due is done with, or due still.
    pub(crate) fn end_alarm(&mut self, due_ms: u64, succeeded: bool) {
        if self.alarm.is_none() {
            self.alarm = (!succeeded).then_some(due_ms);
            self.alarm_changed |= succeeded;
        }
    }

    /// Begins a transaction, within those that are open; a long one goes on over more than one turn.
    pub(crate) fn begin(&mut self, long: bool) -> Result<(), NotKept> {
        if self.savepoints.len() == SAVEPOINTS {
            return Err(NotKept::Deep);
        }
        self.savepoints.push(Savepoint { long, undo: self.undo.len(), alarm: self.alarm });
        Ok(())
    }

    /// Ends the innermost transaction; what it changed stays, as far as those around it do.
    pub(crate) fn release(&mut self) {
        self.savepoints.pop();
        if self.savepoints.is_empty() {
            self.undo.clear();
        }
    }

    /// Ends the innermost transaction and takes back what it changed.
    pub(crate) fn roll_back(&mut self) {
        let Some(savepoint) = self.savepoints.pop() else { return };
        for Undo { key, value } in self.undo.split_off(savepoint.undo).into_iter().rev() {
            if let Some(now) = self.entries.remove(&key) {
                self.bytes -= weight(&key, &now);
            }
            if let Some(value) = value {
                self.bytes += weight(&key, &value);
                self.entries.insert(key, value);
            }
        }
        self.set_alarm(savepoint.alarm);
    }

    /// How many transactions are open within each other.
    pub(crate) fn depth(&self) -> usize {
        self.savepoints.len()
    }

    pub(crate) fn in_transaction(&self) -> bool {
        !self.savepoints.is_empty()
    }

    /// Whether what is written now is only committed when a transaction has ended that goes on over more than one turn.
    pub(crate) fn in_long_transaction(&self) -> bool {
        self.savepoints.iter().any(|savepoint| savepoint.long)
    }

    /// What is to be committed, which counts as that from now on.
    pub(crate) fn take_changes(&mut self) -> Changes {
        let value = |key: String| {
            let value = self.entries.get(&key).map(|value| ByteBuf::from(value.as_slice()));
            (key, value)
        };
        Changes {
            clear: std::mem::take(&mut self.cleared),
            entries: std::mem::take(&mut self.changed).into_iter().map(value).collect(),
            alarm: std::mem::take(&mut self.alarm_changed).then_some(self.alarm),
            ..Changes::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(prefix: &str) -> Range {
        Range { prefix: prefix.to_owned(), limit: usize::MAX, ..Range::default() }
    }

    fn keys(kept: &Kept, range: &Range) -> Vec<String> {
        kept.list(range).map(|(key, _)| key.to_owned()).collect()
    }

    fn with(keys: &[&str]) -> Kept {
        let mut kept = Kept::default();
        keys.iter().for_each(|key| kept.put((*key).to_owned(), vec![1], 0).unwrap());
        kept
    }

    #[test]
    fn lists_are_in_the_order_of_bytes_and_within_their_bounds() {
        let kept = with(&["a", "b", "ba", "bb", "c", "\u{e9}", "\u{1f600}", "\u{ffff}"]);
        assert_eq!(keys(&kept, &range("b")), ["b", "ba", "bb"]);
        assert_eq!(keys(&kept, &Range { reverse: true, ..range("b") }), ["bb", "ba", "b"]);
        assert_eq!(keys(&kept, &Range { reverse: true, limit: 2, ..range("") }), ["\u{1f600}", "\u{ffff}"]);
        let start = Some("b".to_owned());
        assert_eq!(
            keys(&kept, &Range { start: start.clone(), end: Some("c".to_owned()), ..range("") }),
            ["b", "ba", "bb"]
        );
        assert_eq!(keys(&kept, &Range { start: start.clone(), after: true, limit: 1, ..range("") }), ["ba"]);
        assert!(keys(&kept, &Range { start, end: Some("a".to_owned()), ..range("") }).is_empty());
        assert!(keys(&kept, &Range { start: Some("x".to_owned()), ..range("b") }).is_empty());
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let mut kept = Kept::default();
        assert_eq!(kept.put("k".repeat(KEY_BYTES + 1), vec![], 0), Err(NotKept::Key));
        assert_eq!(kept.put("k".to_owned(), vec![0; VALUE_BYTES + 1], 0), Err(NotKept::Value));
        kept.put("k".repeat(KEY_BYTES), vec![0; VALUE_BYTES], 0).unwrap();
        assert_eq!(
            kept.put("k".to_owned(), vec![0; VALUE_BYTES], STATE_BYTES - VALUE_BYTES),
            Err(NotKept::Full)
        );
        for n in 0.. {
            if kept.put(n.to_string(), vec![0; VALUE_BYTES], 0) == Err(NotKept::Full) {
                break;
            }
            assert!(n < 16);
        }
        let bytes = kept.bytes();
        assert!(kept.delete("0") && !kept.delete("0"));
        assert_eq!(kept.bytes(), bytes - weight("0", &vec![0; VALUE_BYTES]));
    }

    #[test]
    fn an_alarm_that_has_run_is_gone_unless_it_failed_or_another_was_set() {
        let mut kept = Kept::default();
        kept.set_alarm(Some(5));
        assert_eq!(kept.take_changes().alarm, Some(Some(5)));
        kept.begin_alarm();
        assert_eq!(kept.alarm(), None);
        assert!(kept.take_changes().is_empty());
        kept.end_alarm(5, false);
        assert_eq!(kept.alarm(), Some(5));
        assert!(kept.take_changes().is_empty());
        kept.begin_alarm();
        kept.set_alarm(Some(9));
        kept.end_alarm(5, true);
        assert_eq!((kept.alarm(), kept.take_changes().alarm), (Some(9), Some(Some(9))));
        kept.begin_alarm();
        kept.end_alarm(9, true);
        assert_eq!((kept.alarm(), kept.take_changes().alarm), (None, Some(None)));
    }

    proptest! {
        /// A rolled back transaction leaves no trace, and changes that are applied elsewhere give the same there.
        #[test]
        fn transactions_and_changes(steps in proptest::collection::vec((0..7_u8, 0..6_u8, any::<u8>()), 0..80)) {
            let mut kept = Kept::default();
            let mut stored: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            let mut before: Vec<BTreeMap<String, Vec<u8>>> = Vec::new();
            for (step, key, value) in steps {
                let key = key.to_string();
                match step {
                    0 | 1 => kept.put(key, vec![value], 0).unwrap(),
                    2 => drop(kept.delete(&key)),
                    3 => { kept.begin(key == "0").unwrap(); before.push(kept.entries.clone()); }
                    4 if before.pop().is_some() => kept.release(),
                    5 => if let Some(then) = before.pop() {
                        kept.roll_back();
                        prop_assert_eq!(&kept.entries, &then);
                    },
                    _ => if !kept.in_transaction() {
                        if value > 200 { kept.clear(); }
                        let changes = kept.take_changes();
                        if changes.clear { stored.clear(); }
                        for (key, value) in changes.entries {
                            match value {
                                Some(value) => drop(stored.insert(key, value.into_vec())),
                                None => drop(stored.remove(&key)),
                            }
                        }
                        prop_assert_eq!(&kept.entries, &stored);
                    },
                }
                prop_assert_eq!(kept.bytes(), kept.entries.iter().map(|(k, v)| weight(k, v)).sum::<usize>());
            }
        }
    }
}
