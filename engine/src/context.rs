//! What an object gets with each input: the time, the settings, the queue of effects and a source of unique ids.

use std::collections::VecDeque;

use berth_common::spec::TimeOrNever;

use crate::effect::Effect;
use crate::ids::{HoldId, PersistId};
use crate::input::Now;

/// Settings of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The term of an instance in milliseconds: how long its node keeps it without hearing from this edge.
    pub term_ms: u64,
    /// How long after its node was last heard of an instance counts as lost, where its class does not say.
    pub node_loss: TimeOrNever,
    /// How many requests may wait for one object.
    pub max_waiters_per_object: usize,
    /// How long a request waits for the turn of its object to start, in milliseconds.
    pub max_turn_ms: u64,
    /// The delays between instances that fail.
    pub backoff: Backoff,
}

/// The delay before an object's next instance after several failed in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the second failure, in milliseconds; it doubles with each further one.
    pub first_ms: u64,
    /// The longest, in milliseconds.
    pub max_ms: u64,
    /// How long after the end of a delay the failures are forgotten, in milliseconds.
    pub forget_ms: u64,
}

/// Issues ids, each once.
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
