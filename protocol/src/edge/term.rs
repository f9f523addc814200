//! The term that one node has: what was promised to it, and when it is over whatever the node does. Pure.
//!
//! ```text
//! heard (a stamp of the node) ──▶ give: until = that stamp + TERM, which is sent ──▶ heard again ...
//!                                      and here: given = the moment that the stamp came + TERM
//! ```
//!
//! The node's instances pause by themselves once its own clock passes `until`. A stamp is older than the moment that it comes
//! here, so `given` is never before that, however late a message arrives, and however long this process was stopped. Past
//! `given` and a margin nothing of this edge runs there any more.
//!
//! The only assumption: both clocks go on while their machines sleep, and at rates within 2 % of each other.
//!
//! What fails, and what happens then:
//! * This edge is killed: what it gave before is not known any more, and counts as given for a whole term from its start. Where it
//!   ends in good order, it gives longer terms before (`stretch`), and the next process is told (`given_before`).
//! * The node boots: its new stamps are of another boot, and terms of the old one count for nothing there.
//! * The node lies about its clock: its own instances pause too early or too late. No other node is concerned.

use std::time::Duration;

use berth_common::wire::term::Stamp;

/// How long the instances of a node go on without a word of this edge.
pub const TERM: Duration = Duration::from_secs(15);
/// How often terms are renewed: four renewals in a row may be lost.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);
/// What is added before a term counts as over: the rates of two clocks (2 % of a term), and the time that it takes to freeze
/// or to kill what runs.
pub const MARGIN: Duration = Duration::from_secs(1);

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The rates of two clocks are within one part in so many of each other.
const RATE_PART: u64 = 50;

/// The term of one node. Times are milliseconds of a clock of the edge's machine that goes on while that sleeps.
#[derive(Debug, Clone, Copy)]
pub struct NodeTerm {
    /// The newest stamp, and when it came.
    heard: Option<(Stamp, u64)>,
    given_ms: u64,
    stretched_ms: Option<u64>,
    /// Whether it is known from before that it keeps terms.
    is_known: bool,
}

impl NodeTerm {
    /// That of a node that an earlier process of this edge may have given a term until just now.
    pub fn starting(now_ms: u64) -> Self {
        Self { heard: None, given_ms: now_ms.saturating_add(ms(TERM)), stretched_ms: None, is_known: false }
    }

    /// An earlier process of this edge has given it a term until then.
    pub fn given_before(&mut self, until_ms: u64) {
        self.given_ms = self.given_ms.max(until_ms);
    }

    /// The node has told what time it is there. An earlier time than it has told before is late news.
    pub fn heard(&mut self, stamp: Stamp, now_ms: u64) {
        let is_late = |(known, _): (Stamp, u64)| known.boot == stamp.boot && known.ms >= stamp.ms;
        if !self.heard.is_some_and(is_late) {
            self.heard = Some((stamp, now_ms));
        }
    }

    /// Its agent, or its supervisor, is of a version that keeps no terms.
    pub fn keeps_none(&mut self) {
        (self.heard, self.is_known) = (None, false);
    }

    /// It is known from before that the node keeps terms: it need not be heard of for its term to be over.
    pub fn is_known_to_keep_terms(&mut self) {
        self.is_known = true;
    }

    /// Whether the node keeps terms, as far as is known.
    pub fn keeps_terms(&self) -> bool {
        self.is_known || self.heard.is_some()
    }

    /// From now on it is given until this moment: this process is about to end.
    pub fn stretch(&mut self, until_ms: u64) {
        self.stretched_ms = Some(until_ms);
    }

    /// The next term, to be sent. None if the node has not told its time: its version keeps no terms.
    pub fn give(&mut self) -> Option<Stamp> {
        let (stamp, came_ms) = self.heard?;
        let length_ms = self.stretched_ms.map_or(ms(TERM), |until_ms| until_ms.saturating_sub(came_ms));
        self.given_ms = self.given_ms.max(came_ms.saturating_add(length_ms));
        // The margin covers two clocks for a term: of what is longer, the node gets as much less as its clock may be slower.
        let beyond_ms = length_ms.saturating_sub(ms(TERM));
        Some(stamp.after(Duration::from_millis(length_ms - beyond_ms.div_ceil(RATE_PART))))
    }

    /// When nothing of this edge runs on the node any more, unless a further term is given. None for a node that keeps no
    /// terms.
    pub fn over_ms(&self) -> Option<u64> {
        self.keeps_terms().then(|| self.given_over_ms())
    }

    /// The same for whichever node, as no term was given beyond it. One that keeps none runs on all the same.
    pub fn given_over_ms(&self) -> u64 {
        self.given_ms.saturating_add(ms(MARGIN))
    }

    /// Whether nothing of this edge runs there any more. Never where it keeps no terms, as far as is known.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.over_ms().is_some_and(|over_ms| over_ms < now_ms)
    }

    /// How long ago it was heard of.
    pub fn silent_ms(&self, now_ms: u64) -> Option<u64> {
        self.heard.map(|(_, came_ms)| now_ms.saturating_sub(came_ms))
    }
}

#[cfg(test)]
mod tests {
    use berth_common::wire::term::BootId;

    use super::*;

    fn stamp(boot: u8, ms: u64) -> Stamp {
        Stamp { boot: BootId::from_bytes([boot; 16]), ms }
    }

    #[test]
    fn a_term_counts_from_what_the_node_said_however_late_it_is_given() {
        let mut term = NodeTerm::starting(0);
        assert_eq!((term.give(), term.over_ms()), (None, None), "it keeps no terms, as far as is known");
        term.heard(stamp(1, 500), 100_000);
        assert_eq!(term.give(), Some(stamp(1, 15_500)));
        assert_eq!(term.over_ms(), Some(116_000));
        // This process was stopped for a minute, and gives the same again: that is worth nothing there, and changes nothing here.
        assert_eq!(term.give(), Some(stamp(1, 15_500)));
        assert_eq!((term.over_ms(), term.silent_ms(160_000)), (Some(116_000), Some(60_000)));
    }

    #[test]
    fn late_news_does_not_prolong_and_another_boot_begins_anew() {
        let mut term = NodeTerm::starting(0);
        term.heard(stamp(1, 900), 10_000);
        term.heard(stamp(1, 600), 20_000);
        assert_eq!((term.give(), term.over_ms()), (Some(stamp(1, 15_900)), Some(26_000)));
        term.heard(stamp(2, 5), 30_000);
        assert_eq!((term.give(), term.over_ms()), (Some(stamp(2, 15_005)), Some(46_000)));
    }

    #[test]
    fn a_process_that_ends_gives_until_a_moment_and_the_next_one_waits_for_it() {
        let mut term = NodeTerm::starting(0);
        term.heard(stamp(1, 500), 100_000);
        term.stretch(220_000);
        assert_eq!(term.give(), Some(stamp(1, 118_400)), "a clock that is 2 % slow is not later for it");
        term.heard(stamp(1, 3_500), 103_000);
        assert_eq!(term.give(), Some(stamp(1, 118_460)));
        assert_eq!(term.over_ms(), Some(221_000));
        let mut next = NodeTerm::starting(130_000);
        next.given_before(220_000);
        next.heard(stamp(1, 30_600), 130_200);
        next.give();
        assert_eq!(next.over_ms(), Some(221_000));
    }

    #[test]
    fn the_term_of_one_that_was_never_heard_of_is_over_if_it_is_known_to_keep_terms() {
        let mut term = NodeTerm::starting(1_000);
        assert!(!term.is_over(u64::MAX));
        term.is_known_to_keep_terms();
        assert!(!term.is_over(17_000) && term.is_over(17_001));
        term.keeps_none();
        assert!(!term.is_over(u64::MAX));
    }

    #[test]
    fn what_an_earlier_process_may_have_given_is_waited_for() {
        let mut term = NodeTerm::starting(1_000);
        // A node that lies: its stamp is far in the future, which only it believes.
        term.heard(stamp(1, u64::MAX), 1_000);
        assert_eq!(term.give().map(|until| until.ms), Some(u64::MAX));
        assert_eq!(term.over_ms(), Some(17_000));
    }
}
