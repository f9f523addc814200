//! What an object is given with each input: the time, the settings, where its effects go, and ids that were never drawn before.

use std::collections::VecDeque;

use crate::effect::Effect;
use crate::ids::{HoldId, PersistId};
use crate::input::Now;

/// Settings of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long an instance may live without word from this edge, in milliseconds.
    pub term_ms: u64,
    /// How many requests may wait for one object.
    pub max_waiters_per_object: usize,
    /// The pauses between instances that fail.
    pub backoff: Backoff,
}

/// The pauses before an object's next instance, when those before it failed in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the second one, in milliseconds; then twice as long after each.
    pub first_ms: u64,
    /// The longest, in milliseconds.
    pub max_ms: u64,
    /// How long after the end of a pause, in milliseconds, nothing is known of it any more.
    pub forget_ms: u64,
}

/// Draws ids.
#[derive(Debug, Default)]
pub(crate) struct Ids(u64);

impl Ids {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    pub(crate) fn hold(&mut self) -> HoldId {
        HoldId(self.next())
    }

    pub(crate) fn persist(&mut self) -> PersistId {
        PersistId(self.next())
    }
}

/// What an object needs to handle an input.
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a Config,
    pub(crate) effects: &'a mut VecDeque<Effect>,
    pub(crate) ids: &'a mut Ids,
}

impl Context<'_> {
    pub(crate) fn emit(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }
}
