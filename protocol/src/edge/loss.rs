//! Whether a node is given up: when that may be judged, and what may be promised to it until the loss is carried out. Pure.
//!
//! ```text
//!       term and margin over, and another node is there          every shard has ended what waits no longer
//! heard ──────────────────────────────────────────────▶ lost ──────────────────────────────────────────▶ settled
//!  of ▲                                  nothing is   ▲                                                      │
//!     │                                  promised to it└───── a while later, if something still waits ◀──────┤
//!     └──────────────────────────────── a term from a newer stamp is given ◀─────────────────────────────────┘
//! ```
//!
//! What fails, and what happens then:
//! * The node is heard of again before all shards have carried its loss out: it gets no term and no start until they have. What
//!   they had decided before would else be carried out there, beside what has taken its place.
//! * This process did not listen for a while: silence of that time says nothing (`Looks`).

use berth_common::wire::term::Stamp;

use super::term::{NodeTerm, TERM};

/// A pause between two looks after which the process counts as having been stopped, in milliseconds: far longer than on a busy
/// machine.
const STALL_MS: u64 = 3_000;

/// How often a node that is given up is given up again while something waits for it, in milliseconds: what waits for longer than
/// usual has this much time more.
const LOOK_AGAIN_MS: u64 = 5_000;

/// Nothing may be promised to a node now: it was just given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node was not heard of for longer than its term, and what ran there was given up")]
pub struct GivenUp;

/// Whether a node is lost: it was given up, and not heard of since.
#[derive(Debug, Default)]
pub struct Loss {
    is_lost: bool,
    /// Shards that have not ended yet what they had there. Until they have, nothing is promised to the node.
    unsettled: usize,
    /// When it was last given up.
    looked_ms: u64,
}

impl Loss {
    /// The next term of the node, to be sent. None if it keeps no terms.
    pub fn give(&mut self, term: &mut NodeTerm, now_ms: u64) -> Result<Option<Stamp>, GivenUp> {
        if self.unsettled > 0 {
            return Err(GivenUp);
        }
        let until = term.give();
        // Only one that was heard of since has a term that is not over.
        self.is_lost &= term.is_over(now_ms);
        Ok(until)
    }

    /// Gives the node up if its term is over and it was not given up before. True if it was given up just now:
    /// that many shards have to carry it out.
    pub fn lose(&mut self, term: &NodeTerm, now_ms: u64, shards: usize) -> bool {
        let is_new = !self.is_lost && term.is_over(now_ms);
        if is_new {
            *self = Self { is_lost: true, unsettled: shards, looked_ms: now_ms };
        }
        is_new
    }

    /// A node that is given up is given up again, so that what has waited for it by now for long enough is given up, too. True if it
    /// is time for that, and the last time was carried out: that many shards have to carry it out again.
    pub fn lose_more(&mut self, term: &NodeTerm, now_ms: u64, shards: usize) -> bool {
        let is_due = now_ms >= self.looked_ms.saturating_add(LOOK_AGAIN_MS);
        let is_time = self.is_lost && self.unsettled == 0 && is_due && term.is_over(now_ms);
        if is_time {
            (self.unsettled, self.looked_ms) = (shards, now_ms);
        }
        is_time
    }

    /// Gives the node up whatever its term is, because somebody knows that it is gone: that many shards have to carry it out.
    pub fn give_up(&mut self, shards: usize) {
        // Those that carry out an earlier loss still do so, too.
        (self.is_lost, self.unsettled) = (true, self.unsettled + shards);
    }

    /// Whether it was given up, and not heard of since.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// A shard has ended what it had there, and will send none of what it had to tell the node.
    pub fn carried_out(&mut self) {
        self.unsettled = self.unsettled.saturating_sub(1);
    }
}

/// What a look at the nodes says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A node that is silent now is silent by itself.
    Judges,
    /// It was just seen that the process was stopped: nodes get the time of a term to be heard.
    Stopped,
    /// That time goes on.
    Waits,
}

/// When it was looked. In milliseconds of the clock of `NodeTerm`.
#[derive(Debug)]
pub struct Looks {
    last_ms: u64,
    /// Before that, silence says nothing.
    from_ms: u64,
}

impl Looks {
    /// Those of a process that looks from now on.
    pub fn starting(now_ms: u64) -> Self {
        Self { last_ms: now_ms, from_ms: 0 }
    }

    /// Looks.
    pub fn look(&mut self, now_ms: u64) -> Look {
        let stopped = now_ms.saturating_sub(self.last_ms) > STALL_MS;
        self.last_ms = now_ms;
        if stopped {
            self.from_ms = now_ms.saturating_add(u64::try_from(TERM.as_millis()).unwrap_or(u64::MAX));
            return Look::Stopped;
        }
        if now_ms >= self.from_ms { Look::Judges } else { Look::Waits }
    }
}

#[cfg(test)]
mod tests {
    use berth_common::wire::term::BootId;

    use super::*;

    fn stamp(ms: u64) -> Stamp {
        Stamp { boot: BootId::from_bytes([1; 16]), ms }
    }

    /// A term of a node that was heard of once, at 1.
    fn silent() -> NodeTerm {
        let mut term = NodeTerm::starting(0);
        term.heard(stamp(1), 1);
        term.give();
        term
    }

    #[test]
    fn a_node_is_given_up_once_and_promised_nothing_until_all_shards_know() {
        let (mut term, mut loss) = (silent(), Loss::default());
        assert!(!loss.lose(&term, 16_001, 2), "the margin is not over");
        assert!(loss.lose(&term, 16_002, 2) && !loss.lose(&term, 16_002, 2));
        term.heard(stamp(90_000), 20_000);
        for _ in 0..2 {
            assert_eq!(loss.give(&mut term, 20_000), Err(GivenUp));
            loss.carried_out();
        }
        assert_eq!(loss.give(&mut term, 20_000), Ok(Some(stamp(105_000))));
        assert!(!loss.lose(&term, 36_000, 2) && loss.lose(&term, 36_001, 2), "it may be lost again");
    }

    #[test]
    fn it_is_given_up_again_every_few_seconds_while_it_is_silent_and_all_shards_have_answered() {
        let (mut term, mut loss) = (silent(), Loss::default());
        assert!(!loss.lose_more(&term, 30_000, 1), "it is not given up yet");
        assert!(loss.lose(&term, 16_002, 1) && !loss.lose_more(&term, 60_000, 1), "a shard has not answered");
        loss.carried_out();
        assert!(!loss.lose_more(&term, 21_001, 1) && loss.lose_more(&term, 21_002, 1));
        assert!(loss.give(&mut term, 21_002).is_err());
        loss.carried_out();
        term.heard(stamp(90_000), 22_000);
        loss.give(&mut term, 22_000).unwrap();
        assert!(!loss.lose_more(&term, 60_000, 1), "it is not lost any more");
    }

    #[test]
    fn one_that_is_given_up_by_order_is_promised_nothing_either_until_all_shards_know() {
        let (mut term, mut loss) = (NodeTerm::starting(0), Loss::default());
        loss.give_up(1);
        loss.give_up(1);
        for _ in 0..2 {
            assert!(loss.is_lost() && loss.give(&mut term, 20_000).is_err());
            loss.carried_out();
        }
        assert_eq!((loss.give(&mut term, 20_000), loss.is_lost()), (Ok(None), false));
    }

    #[test]
    fn an_old_stamp_brings_nothing_back() {
        let (mut term, mut loss) = (silent(), Loss::default());
        assert!(loss.lose(&term, 16_002, 0));
        assert_eq!(loss.give(&mut term, 17_000), Ok(Some(stamp(15_001))));
        assert!(!loss.lose(&term, 18_000, 0), "it is lost still");
    }

    #[test]
    fn who_did_not_listen_does_not_judge() {
        let mut looks = Looks::starting(0);
        assert_eq!([250, 3_250].map(|ms| looks.look(ms)), [Look::Judges; 2]);
        assert_eq!([60_000, 62_000].map(|ms| looks.look(ms)), [Look::Stopped, Look::Waits]);
        (63..75).for_each(|second| assert_eq!(looks.look(second * 1_000), Look::Waits));
        assert_eq!(looks.look(75_000), Look::Judges);
    }
}
