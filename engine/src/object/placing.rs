//! From request to start: reads the record, reserves room, persists the placement, sends the start. Also the other
//! writes: why an instance is to end, and that it has ended.

use std::sync::Arc;

use berth_common::ids::{Generation, InstanceId, NodeId};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::ClassSpec;

use super::crashes::Crashes;
use super::live::{Live, Stage};
use super::lost::dispose;
use super::{Object, State, ms};
use crate::context::Context;
use crate::effect::Effect;
use crate::event::Event;
use crate::fleet::Demand;
use crate::ids::PersistId;
use crate::input::StoreFailure;
use crate::record::{Record, RecordState};
use crate::refused::Refused;
use crate::usage::UsageRecord;

/// Delay before the failed write of an end is retried, in milliseconds.
const PERSIST_RETRY_MS: u64 = 1_000;

/// How long the node of the last instance is preferred, in milliseconds: about as long as caches are worth something.
const LAST_NODE_MS: u64 = 5 * 60 * 1_000;

/// What is written in one commit with a record.
#[derive(Debug, Clone, Default)]
pub(super) struct CommitExtras {
    /// Events for hooks, in this order.
    pub(super) events: Vec<Event>,
    /// The usage of an ended instance.
    pub(super) usage: Option<Box<UsageRecord>>,
}

impl From<Event> for CommitExtras {
    fn from(event: Event) -> Self {
        Self { events: vec![event], usage: None }
    }
}

impl Object {
    pub(crate) fn loaded(&mut self, record: Result<Option<Record>, StoreFailure>, cx: &mut Context<'_>) {
        if !matches!(self.state, State::Loading) {
            return;
        }
        match record {
            Err(_) => {
                self.refuse_all(&Refused::Store, cx);
                self.state = State::Gone;
            }
            Ok(None) => self.begin(cx),
            Ok(Some(record)) => {
                self.read(record, cx.now.mono_ms);
                if matches!(self.state, State::Gone) {
                    self.begin(cx);
                }
            }
        }
    }

    /// Starts an instance if requests wait that may start one, or if it is to come back.
    pub(super) fn begin(&mut self, cx: &mut Context<'_>) {
        let Some(class) = self.waiters.class().or(self.comeback.as_ref()).map(Arc::clone) else {
            self.refuse_all(&Refused::ManualStart, cx);
            self.state = State::Gone;
            return;
        };
        if let Some(crashes) = self.crashes
            && let Some(until_ms) = crashes.wait_until_ms(class.of_app.version, cx.now.mono_ms)
        {
            return self.delay(until_ms, &crashes, cx);
        }
        cx.emit(Effect::Reserve(self.demand(&class, cx.now.wall_ms)));
        self.waiters.prolong(cx.config.max_turn_ms);
        self.state = State::Reserving { class, is_withdrawn: false };
    }

    /// Keeps the requests that can wait for the next start, and refuses the others with its time.
    fn delay(&mut self, until_ms: u64, crashes: &Crashes, cx: &mut Context<'_>) {
        let refused = crashes.refusal(cx.now.mono_ms);
        for waiter in self.waiters.take_late(until_ms) {
            cx.emit(Effect::Refuse { waiter, refused: refused.clone() });
        }
        self.comeback = None;
        self.state = if self.waiters.is_empty() { State::Gone } else { State::Delayed { until_ms } };
    }

    pub(crate) fn reserved(
        &mut self,
        generation: Generation,
        result: Result<(NodeId, InstanceId), Refused>,
        cx: &mut Context<'_>,
    ) {
        if generation != self.generation.next() {
            return;
        }
        let (class, is_withdrawn) = match &self.state {
            State::Reserving { class, is_withdrawn } => (Arc::clone(class), *is_withdrawn),
            State::Live(Live { stage: Stage::Refused { .. }, .. }) => {
                return self.reserved_elsewhere(generation, result, cx);
            }
            // A late answer: all requests were cancelled, or an order or the instance's end came before it.
            _ => {
                if let Ok((node, _)) = result {
                    cx.emit(Effect::Unreserve { object: self.id, generation, node });
                }
                return;
            }
        };
        match result {
            Ok((node, instance)) if !self.waiters.is_empty() || self.comeback.is_some() => {
                self.comeback = None;
                let stage = Stage::Placing { persist: cx.ids.persist() };
                self.place(Live::new(node, instance, class, stage, cx.now.mono_ms), generation, cx);
            }
            // All requests were cancelled meanwhile.
            Ok((node, _)) => {
                cx.emit(Effect::Unreserve { object: self.id, generation, node });
                self.state = State::Gone;
            }
            // Who has come since then is another matter.
            Err(_) if is_withdrawn => self.begin(cx),
            Err(Refused::NoNode) => {
                self.waiters.shorten();
                self.state = State::Unplaced;
                self.leave_if_unwanted(cx);
            }
            Err(refused) => {
                self.refuse_all(&refused, cx);
                // With too many that wait already, it starts when it is asked for.
                if self.comeback.is_some() && refused != Refused::NoTurn {
                    return self.begin(cx);
                }
                (self.comeback, self.state) = (None, State::Gone);
            }
        }
    }

    /// Has an instance where room is reserved for it, once that is durable.
    pub(super) fn place(&mut self, mut live: Live, generation: Generation, cx: &mut Context<'_>) {
        live.placed_ms = cx.now.wall_ms;
        self.start_by(cx.now.mono_ms.saturating_add(ms(live.class.start_timeout)), cx);
        self.generation = generation;
        self.last_change_ms = cx.now.wall_ms;
        self.state = State::Live(live);
        self.persist_live(cx);
    }

    /// Those who wait have until then for a start, but none longer than for its turn and one start.
    pub(super) fn start_by(&mut self, deadline_ms: u64, cx: &Context<'_>) {
        self.waiters.start_by(deadline_ms, cx.config.max_turn_ms);
    }

    /// Emits the persist that the live state waits for.
    pub(super) fn persist_live(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live();
        let persist = match &live.stage {
            Stage::Placing { persist } | Stage::Stopping { unsent: Some((persist, _)), .. } => *persist,
            _ => return,
        };
        self.persist(persist, live.record(), CommitExtras::default(), cx);
    }

    /// Emits a persist of the record with what is written in the same commit.
    pub(super) fn persist(
        &self,
        persist: PersistId,
        state: RecordState,
        extras: CommitExtras,
        cx: &mut Context<'_>,
    ) {
        let record = Record {
            key: self.key.clone(),
            generation: self.generation,
            state,
            last_change_ms: self.last_change_ms,
            failures: self.failures.clone(),
        };
        let CommitExtras { events, usage } = extras;
        cx.emit(Effect::Persist { object: self.id, persist, record, events, usage });
    }

    pub(crate) fn persisted(
        &mut self,
        id: PersistId,
        result: &Result<(), StoreFailure>,
        cx: &mut Context<'_>,
    ) {
        match &mut self.state {
            State::Live(live) => match &mut live.stage {
                Stage::Placing { persist } if *persist == id => self.placed(result.is_ok(), cx),
                Stage::Stopping { unsent, .. }
                    if unsent.as_ref().is_some_and(|(persist, _)| *persist == id) =>
                {
                    // Also if the reason could not be written: the instance must end.
                    if let Some((_, stop)) = unsent.take() {
                        self.send_stop(stop, cx);
                    }
                    if result.is_ok() { self.confirm_orders(cx) } else { self.deny_orders(cx) }
                }
                _ => {}
            },
            State::Ending { persist, retry_ms, .. } if *persist == id => {
                if result.is_err() {
                    *retry_ms = Some(cx.now.mono_ms.saturating_add(PERSIST_RETRY_MS));
                    return;
                }
                self.ended(cx);
                self.begin(cx);
            }
            _ => {}
        }
    }

    /// The end is durable.
    fn ended(&mut self, cx: &mut Context<'_>) {
        let State::Ending { node, instance, returned, .. } = &mut self.state else { return };
        let (node, instance, returned) = (node.clone(), *instance, returned.take());
        match self.exit.clone() {
            Some(outcome) if outcome.reason == ExitReason::NodeLost => {
                cx.emit(Effect::Ended { object: self.id, outcome });
                returned.into_iter().for_each(|status| cx.emit(dispose(node.clone(), *status)));
            }
            exit => {
                let ended = exit.map(|outcome| (self.id, outcome));
                cx.emit(Effect::Forget { node, instance, ended });
            }
        }
    }

    /// The write of the placement has succeeded or failed.
    fn placed(&mut self, durable: bool, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        if let Some(reason) = live.cancelled.filter(|_| durable) {
            return self.end(Outcome::because(reason, "ended before it was started"), None, cx);
        }
        if durable {
            let deadline_ms = cx.now.mono_ms.saturating_add(ms(live.class.start_timeout));
            live.stage = Stage::Starting { deadline_ms };
            let start = live.start(&self.key, self.generation, cx.config.term_ms);
            let (node, secrets) = (live.node.clone(), live.class.secrets.clone());
            cx.emit(Effect::Start { node, start: Box::new(start), secrets });
            return self.start_by(deadline_ms, cx);
        }
        // A write that failed may have happened after all: an end is written over it, since nothing was started.
        let outcome =
            Outcome::because(ExitReason::StartFailed, "the placement could not be written to the store");
        self.refuse_all(&Refused::Store, cx);
        self.end(outcome, None, cx);
    }

    /// Writes the end again after a failure.
    pub(super) fn persist_again(&mut self, cx: &mut Context<'_>) {
        let State::Ending { persist, retry_ms, extras, .. } = &mut self.state else {
            unreachable!("an end is written again in the state {}", self.state.name())
        };
        let (again, extras) = (cx.ids.persist(), extras.clone());
        *persist = again;
        *retry_ms = None;
        self.persist(again, self.stopped(), extras, cx);
    }

    /// What the record says of it once its instance has ended.
    pub(super) fn stopped(&self) -> RecordState {
        RecordState::Stopped { outcome: self.exit.clone(), node: self.last_node.clone() }
    }

    /// What it asks of the nodes. The one that it was on until just now may have its image and its files in memory.
    fn demand(&self, class: &ClassSpec, now_wall_ms: u64) -> Demand {
        let is_recent = now_wall_ms.saturating_sub(self.last_change_ms) <= LAST_NODE_MS;
        Demand {
            is_patient: self.waiters.is_empty(),
            last_node: self.last_node.clone().filter(|_| is_recent),
            ..Demand::of(&self.key, self.generation.next(), class)
        }
    }
}
