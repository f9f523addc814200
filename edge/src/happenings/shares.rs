//! How much of what happens is kept, and of whom: nobody's happenings push out everybody else's. Pure.
//!
//! Each app and each node has a pace. Of all that is kept, the oldest goes of whoever has the most.

use std::collections::{HashMap, VecDeque};

use berth_common::ids::{AppName, NodeId};

/// How many are kept in all: they are in memory, with a few hundred bytes each.
pub(super) const KEPT: usize = 10_000;
/// How many of one source are taken at once: those of a node that is lost with all its containers.
const AT_ONCE: u64 = 1_000;
/// And then one after each such time, in milliseconds: a flood fills its share in hours, and no disk ever.
const EVERY_MS: u64 = 1_000;

/// Whose share something takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Source {
    App(AppName),
    Node(NodeId),
    Other,
}

#[derive(Debug, Default)]
struct Share {
    /// The numbers that are kept, the oldest first.
    kept: VecDeque<u64>,
    /// How many were taken too early, and when that was so, in milliseconds.
    ahead: u64,
    since_ms: u64,
    left_out: u64,
}

impl Share {
    /// Whether one more may be taken now.
    fn may_take(&mut self, now_ms: u64) -> bool {
        let regained = now_ms.saturating_sub(self.since_ms) / EVERY_MS;
        self.ahead = self.ahead.saturating_sub(regained);
        self.since_ms = if self.ahead == 0 { now_ms } else { self.since_ms + regained * EVERY_MS };
        let may = self.ahead < AT_ONCE;
        self.ahead += u64::from(may);
        may
    }
}

/// The shares of all sources.
#[derive(Debug, Default)]
pub(super) struct Shares {
    of: HashMap<Source, Share>,
    total: usize,
}

impl Shares {
    /// Whether one more of a source is taken, and how many were not since the last that was.
    pub(super) fn admit(&mut self, source: &Source, now_ms: u64) -> Option<u64> {
        let share = self.of.entry(source.clone()).or_default();
        if share.may_take(now_ms) {
            return Some(std::mem::take(&mut share.left_out));
        }
        share.left_out += 1;
        None
    }

    /// Keeps a number, and returns the one that goes for it, if any does.
    pub(super) fn keep(&mut self, source: &Source, number: u64) -> Option<u64> {
        self.of.entry(source.clone()).or_default().kept.push_back(number);
        self.total += 1;
        if self.total <= KEPT {
            return None;
        }
        let most = self.of.values().map(|share| share.kept.len()).max()?;
        let largest = self.of.values_mut().filter(|share| share.kept.len() == most);
        // Of several with as many, that which has the oldest.
        let gone = largest.min_by_key(|share| share.kept.front().copied())?.kept.pop_front()?;
        self.total -= 1;
        // An app or a node that is no more leaves nothing behind.
        self.of.retain(|_, share| !share.kept.is_empty());
        Some(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> Source {
        Source::App(name.parse().unwrap())
    }

    #[test]
    fn a_flood_is_paced_and_says_how_much_it_left_out() {
        let (mut shares, loud) = (Shares::default(), app("loud"));
        let taken = (0..5_000).filter(|_| shares.admit(&loud, 10).is_some()).count();
        assert_eq!(taken as u64, AT_ONCE);
        assert_eq!(shares.admit(&app("quiet"), 10), Some(0), "others have a pace of their own");
        assert_eq!(shares.admit(&loud, 10 + EVERY_MS), Some(4_000));
        assert_eq!(shares.admit(&loud, 11 + EVERY_MS), None);
        assert_eq!(shares.admit(&loud, 10 + EVERY_MS * 2_000), Some(1));
    }

    #[test]
    fn whoever_has_the_most_makes_room() {
        let mut shares = Shares::default();
        let (loud, quiet) = (app("loud"), Source::Node("n1".parse().unwrap()));
        assert_eq!(shares.keep(&quiet, 1), None);
        let mut gone = (2..).map(|number| shares.keep(&loud, number)).skip_while(Option::is_none);
        assert_eq!((gone.next(), gone.next()), (Some(Some(2)), Some(Some(3))));
        drop(gone);
        assert_eq!((shares.total, shares.of[&quiet].kept.len()), (KEPT, 1), "what is quiet stays");
    }
}
