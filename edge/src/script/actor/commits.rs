//! Commits of objects that wait, what they cost, and how they are handed to the store. Knows no objects.

use std::collections::VecDeque;
use std::sync::Arc;

use berth_script::message::{Changes, EventId, ObjectId};
use tokio::sync::mpsc;

use super::super::Keeper;
use super::super::link::{Command, Commit};
use super::super::owners::Claim;

/// Most bytes of one commit. The store writes it at once, and others of the edge wait that long: some tenths of a second.
pub(super) const COMMIT_BYTES: usize = 16 << 20;

/// What an entry or page of a commit counts at least, in bytes: the store takes as long for a thousand as for a megabyte.
const PART_WEIGHT: usize = 1 << 10;

/// What stands around each commit, in bytes.
const COMMIT_OVERHEAD: usize = 256;

/// What waits to be committed.
pub(super) struct Waiting {
    /// The number of its last commit.
    pub(super) sequence: u64,
    /// What it takes up in memory and costs the store, in bytes.
    pub(super) weight: usize,
    /// Whether that is more than a commit may have.
    pub(super) too_large: bool,
    pub(super) changes: Changes,
}

/// What waits to be committed, joined up to what may be at once.
pub(super) fn take_commit(waiting: &mut VecDeque<Waiting>) -> Option<Waiting> {
    let mut first = waiting.pop_front()?;
    while let Some(next) = waiting.front()
        && first.weight + next.weight <= COMMIT_BYTES
        && let Some(next) = waiting.pop_front()
    {
        merge(&mut first.changes, next.changes);
        (first.sequence, first.weight) = (next.sequence, first.weight + next.weight);
    }
    Some(first)
}

/// What they take up together, in bytes.
pub(super) fn bytes_waiting(waiting: &VecDeque<Waiting>) -> usize {
    waiting.iter().map(|waiting| waiting.weight).sum()
}

/// What a commit takes up in memory and costs the store, in bytes: many small parts are more than they are sent as.
pub(super) fn weight(sent: usize, changes: &Changes) -> usize {
    let parts = (changes.entries.len() + changes.pages.len()) * PART_WEIGHT;
    sent.max(parts) + COMMIT_OVERHEAD
}

/// Takes a later commit into an earlier one that has not begun.
fn merge(into: &mut Changes, later: Changes) {
    if later.clear {
        into.clear = true;
        into.entries.clear();
    }
    into.entries.extend(later.entries);
    into.pages.extend(later.pages);
    into.page_count = later.page_count.or(into.page_count);
    into.alarm = later.alarm.or(into.alarm);
}

/// Hands a commit of an object to the store; it is settled with a command.
pub(super) fn hand_over(
    keeper: &mut dyn Keeper,
    Waiting { sequence, weight, changes, .. }: Waiting,
    (id, life, claim): (ObjectId, EventId, Arc<Claim>),
    commands: mpsc::UnboundedSender<Command>,
) {
    keeper.commit(
        changes,
        Box::new(move |durable| {
            let _ = commands.send(Command::Settled(Commit { id, life, sequence, weight, durable }));
            // Whoever waits for the object reads what was written.
            drop(claim);
        }),
    );
}

#[cfg(test)]
mod tests {
    use serde_bytes::ByteBuf;

    use super::*;

    #[test]
    fn many_small_parts_weigh_more_than_they_are_sent_as() {
        let entries = (0..1000).map(|n| (format!("{n}"), None)).collect();
        let changes = Changes { entries, ..Changes::default() };
        assert!(weight(6000, &changes) > 1_000_000 && weight(2_000_000, &changes) > 2_000_000);
    }

    #[test]
    fn merged_commits_come_to_the_later_one_over_the_earlier() {
        let entry = |key: &str, value: Option<u8>| (key.to_owned(), value.map(|byte| ByteBuf::from([byte])));
        let mut first = Changes {
            entries: vec![entry("a", Some(1)), entry("b", Some(1))],
            pages: vec![(0, ByteBuf::from([1]))],
            page_count: Some(1),
            alarm: Some(Some(5)),
            clear: false,
        };
        merge(&mut first, Changes { entries: vec![entry("a", None)], ..Changes::default() });
        assert_eq!(first.entries, [entry("a", Some(1)), entry("b", Some(1)), entry("a", None)]);
        assert_eq!((first.page_count, first.alarm), (Some(1), Some(Some(5))));
        let later = Changes {
            clear: true,
            entries: vec![entry("c", Some(2))],
            page_count: Some(0),
            alarm: Some(None),
            ..Changes::default()
        };
        merge(&mut first, later);
        assert_eq!((first.clear, first.entries), (true, vec![entry("c", Some(2))]));
        assert_eq!((first.page_count, first.alarm, first.pages.len()), (Some(0), Some(None), 1));
    }
}
