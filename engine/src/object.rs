//! One object, and at most one instance of it.
//!
//! ```text
//!             acquire            loaded, stopped         room             Placed persisted, Start sent
//! (not in ───────────▶ Loading ────────────────▶ Reserving ───▶ Placing ─────────────────────▶ Starting
//!  memory)                          ▲                │ no room     │ not persisted               │ Running
//!     ▲                             │                ▼             ▼                             ▼
//!     │                             │          waiters refused, forgotten                     Running (without a port: Healthy)
//!     │ no waiters                  │ waiters                                                    │ Ready
//!     └──────────────────────── Ending ◀──── Exited, lost, refused (from any state below) ──┐    ▼
//!            (or Delayed, after    (the end is persisted; then Forget)                         ├─ Healthy
//!                                                                                           │    │ idle, ordered,
//! (restart of the edge) ─▶ Recovering ── the node reports: Starting, Running, Healthy ... ──┤    ▼ too late, drained
//!                                                                                           └─ Stopping
//!                                                                       (why is persisted; then Stop is sent)
//! ```
//!
//! Requests wait in any state but `Healthy`. In `Reserving` the object may wait for its turn, as nodes start only so many at once: a
//! waiter has `max_turn_ms` for that. From when the start is sent it has `start_timeout` until the instance runs, and from then on
//! `port_timeout` until its port answers. If the class's hook decides about sleep, it is asked before an idle instance
//! is stopped (`idle`). Behind a stop for idleness a waiter has `wake_grace` more.
//!
//! What fails, and what happens then:
//! * The record cannot be read: all waiters are refused (`Store`); the next request reads it again.
//! * No room: all waiters are refused, and the object leaves memory.
//! * Its turn does not come in time: waiters are refused (`NoTurn`). When nobody waits any more, it gives its turn up.
//! * No node is connected that takes instances: waiters wait for one until their deadline, and are then refused
//!   (`NoNode`).
//! * The placement cannot be written: it ends as `StartFailed` without a start, since the write may have happened after
//!   all.
//! * The reason for a stop cannot be written: the stop is sent all the same, and who ordered it is told of the failure.
//! * The edge restarts after an order to end was acknowledged: the order is sent again once the node reports the
//!   instance. One for idleness is dropped instead if the instance serves.
//! * The end cannot be written: it is retried every second; the node keeps its record until then.
//! * The node refuses the start: another is tried (`elsewhere`); if none takes it, waiters are refused.
//! * The instance does not run or answer in time: waiters are refused, the instance is
//!   ended.
//! * Instances fail in a row: the next start is delayed (`crashes`), and waiters that cannot wait that long are
//!   refused.
//! * The node is not connected: a `Recovering` object waits; its requests are refused (`NodeUnreachable`) at their
//!   deadline.
//! * The node is lost: the instance ends as `NodeLost`, and who waits gets another one elsewhere (`lost`), or its class wants it back
//!   at once (`comeback`).
//! * The start never reached the node before it was to end: it ends for that reason, and does not count as a failure.
//! * The node has lost the instance: it ends as `RuntimeLost`.
//!
//! This file has the object's state and its requests; `placing` finds a node and waits for the store, `life` handles
//! reports of nodes, `deadlines` timers, `metering` usage records.

mod comeback;
mod crashes;
mod deadlines;
mod drained;
mod elsewhere;
mod idle;
mod life;
mod live;
mod lost;
mod metering;
mod placing;
mod waiters;

use std::sync::Arc;
use std::time::Duration;

use berth_common::ids::{Generation, InstanceId, NodeId, ObjectId, ObjectKey};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::ClassSpec;
use berth_common::wire::call::InstanceStatus;

use self::crashes::Crashes;
use self::live::{Live, Stage};
pub(crate) use self::lost::dispose;
use self::placing::CommitExtras;
use self::waiters::Waiters;
use crate::context::Context;
use crate::effect::{Effect, Placement};
use crate::ids::{HoldId, PersistId, WaiterId};
use crate::input::Now;
use crate::record::{Failure, Record, RecordState};
use crate::refused::Refused;
use crate::view::{ObjectView, PublicState};

/// Numbers of the signals that Berth sends, the same on every Linux.
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// An object in memory.
#[derive(Debug)]
pub(crate) struct Object {
    id: ObjectId,
    key: ObjectKey,
    generation: Generation,
    last_change_ms: u64,
    exit: Option<Outcome>,
    /// The recent failures of its instances in a row, if any.
    crashes: Option<Crashes>,
    /// Its last failures, the newest first.
    failures: Vec<Failure>,
    /// The node of its last instance, unless that is to be avoided.
    last_node: Option<NodeId>,
    /// Its class, if its instance is to come back elsewhere though nobody may wait for it.
    comeback: Option<Arc<ClassSpec>>,
    waiters: Waiters,
    state: State,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all objects in memory are live")]
enum State {
    /// Its record is being read.
    Loading,
    /// Its instances failed in a row: requests wait for the next start.
    Delayed { until_ms: u64 },
    /// A reservation was asked for. `is_withdrawn`: nobody waited for it any more as it was asked for.
    Reserving { class: Arc<ClassSpec>, is_withdrawn: bool },
    /// No node takes instances: requests wait for one.
    Unplaced,
    /// It has, or may have, an instance.
    Live(Live),
    /// Its instance has ended; that is being persisted, with its hook events and its usage.
    Ending {
        node: NodeId,
        instance: InstanceId,
        persist: PersistId,
        retry_ms: Option<u64>,
        extras: CommitExtras,
        /// What its node says of its end, which was lost and is back before the end is durable.
        returned: Option<Box<InstanceStatus>>,
    },
    /// It has no instance and nothing pending: it can leave memory.
    Gone,
}

impl State {
    /// The instance, if the caller knows that there is one. Anything else is a bug: a shard that went on could start a
    /// second instance, so it panics.
    #[track_caller]
    fn live(&self) -> &Live {
        match self {
            Self::Live(live) => live,
            other => unreachable!("no instance in the state {}", other.name()),
        }
    }

    /// Like `live`, but mutable.
    #[track_caller]
    fn live_mut(&mut self) -> &mut Live {
        match self {
            Self::Live(live) => live,
            other => unreachable!("no instance in the state {}", other.name()),
        }
    }

    /// Its name without its contents, which may be a customer's data.
    fn name(&self) -> &'static str {
        match self {
            Self::Loading => "Loading",
            Self::Delayed { .. } => "Delayed",
            Self::Reserving { .. } => "Reserving",
            Self::Unplaced => "Unplaced",
            Self::Live(_) => "Live",
            Self::Ending { .. } => "Ending",
            Self::Gone => "Gone",
        }
    }
}

/// How a reported instance relates to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The object's instance.
    Current,
    /// The one whose end is being persisted.
    Ending,
    /// Not one of the object's.
    Unknown,
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Object {
    /// An object whose record has not been read.
    pub(crate) fn unknown(id: ObjectId, key: ObjectKey) -> Self {
        Self {
            id,
            key,
            generation: Generation::default(),
            last_change_ms: 0,
            exit: None,
            crashes: None,
            failures: Vec::new(),
            waiters: Waiters::default(),
            comeback: None,
            last_node: None,
            state: State::Gone,
        }
    }

    /// An object from its record. If that has an instance, its node will report its state.
    pub(crate) fn restored(now: Now, record: Record) -> Self {
        let mut object = Self::unknown(record.key.id(), record.key.clone());
        object.read(record, now.mono_ms);
        object
    }

    fn read(&mut self, record: Record, now_ms: u64) {
        self.generation = record.generation;
        self.last_change_ms = record.last_change_ms;
        self.failures = record.failures;
        self.state = match record.state {
            RecordState::Stopped { outcome, node } => {
                (self.exit, self.last_node) = (outcome, node);
                State::Gone
            }
            RecordState::Placed { node, instance, class, stop_reason, announced, placed_ms, stop } => {
                let mut live = Live::new(node, instance, Arc::from(class), Stage::Recovering, now_ms);
                // An earlier version of the edge did not write `placed_ms`.
                live.placed_ms = if placed_ms == 0 { record.last_change_ms } else { placed_ms };
                live.recall(stop_reason, stop);
                live.announced = announced;
                State::Live(live)
            }
        };
    }

    pub(crate) fn placed_on(&self) -> Option<&NodeId> {
        if let State::Live(live) = &self.state { Some(&live.node) } else { None }
    }

    pub(crate) fn has_instance(&self) -> bool {
        matches!(self.state, State::Live(_) | State::Ending { .. })
    }

    pub(crate) fn standing(&self, node: &NodeId, instance: InstanceId, generation: Generation) -> Standing {
        let (of, own, standing) = match &self.state {
            State::Live(live) => (&live.node, live.instance, Standing::Current),
            State::Ending { node, instance, .. } => (node, *instance, Standing::Ending),
            State::Loading
            | State::Delayed { .. }
            | State::Reserving { .. }
            | State::Unplaced
            | State::Gone => {
                return Standing::Unknown;
            }
        };
        let same = of == node && own == instance && self.generation == generation;
        if same { standing } else { Standing::Unknown }
    }

    pub(crate) fn is_forgettable(&self) -> bool {
        matches!(self.state, State::Gone) && self.waiters.is_empty() && self.crashes.is_none()
    }

    /// What watchers see: a change of it is worth a notification.
    pub(crate) fn shown(&self) -> Option<(PublicState, Generation)> {
        let state = match &self.state {
            State::Loading => return None,
            State::Live(live) => live.public(),
            _ => PublicState::ended(self.exit.as_ref()),
        };
        Some((state, self.generation))
    }

    pub(crate) fn view(&self) -> Option<ObjectView> {
        let live = match &self.state {
            State::Loading => return None,
            State::Live(live) => Some(live),
            State::Delayed { .. }
            | State::Reserving { .. }
            | State::Unplaced
            | State::Ending { .. }
            | State::Gone => None,
        };
        Some(ObjectView {
            id: self.id,
            key: self.key.clone(),
            state: live.map_or_else(|| PublicState::ended(self.exit.as_ref()), Live::public),
            node: live.map(|l| l.node.clone()),
            instance: live.map(|l| l.instance),
            generation: self.generation,
            last_change_ms: self.last_change_ms,
            exit: self.exit.clone(),
            version: live.map(|l| l.class.of_app.version),
            running_since_ms: live.and_then(Live::runs_since_ms),
            resources: live.map(|l| l.class.recipe.resources),
            crash_loop: self.crashes.and_then(|crashes| crashes.view()),
            failures: self.failures.clone(),
        })
    }

    pub(crate) fn acquire(&mut self, id: WaiterId, class: Arc<ClassSpec>, cx: &mut Context<'_>) {
        if let State::Live(live) = &mut self.state
            && matches!(live.stage, Stage::Healthy { .. })
        {
            return grant(id, self.id, self.generation, live, cx);
        }
        if self.waiters.len() >= cx.config.max_waiters_per_object {
            cx.emit(Effect::Refuse { waiter: id, refused: Refused::Overloaded });
            return;
        }
        let from_ms = self.behind_sleep_ms(cx.now.mono_ms).unwrap_or(cx.now.mono_ms);
        let deadline_ms = match &self.state {
            State::Live(Live { stage: Stage::Running { deadline_ms }, .. }) => *deadline_ms,
            State::Reserving { .. } => from_ms.saturating_add(cx.config.max_turn_ms),
            _ => from_ms.saturating_add(ms(class.start_timeout)),
        };
        self.waiters.push(id, class, from_ms, deadline_ms);
        match self.state {
            State::Gone => {
                self.state = State::Loading;
                cx.emit(Effect::Load { object: self.id });
            }
            // The backoff is for one version of the app: this request may be for another.
            State::Delayed { .. } => self.begin(cx),
            State::Reserving { .. } => self.hurry(cx),
            State::Unplaced | State::Loading | State::Ending { .. } => {}
            State::Live(_) => self.hasten(cx),
        }
    }

    pub(crate) fn last_end(&self) -> Option<ExitReason> {
        self.exit.as_ref().map(|outcome| outcome.reason)
    }

    pub(crate) fn key(&self) -> &ObjectKey {
        &self.key
    }

    pub(crate) fn waiting(&self) -> Vec<(WaiterId, bool)> {
        self.waiters.all().collect()
    }

    pub(crate) fn cancel(&mut self, id: WaiterId, cx: &mut Context<'_>) {
        self.waiters.cancel(id);
        self.leave_if_unwanted(cx);
    }

    pub(crate) fn waits_for_a_node(&self) -> bool {
        matches!(self.state, State::Unplaced)
    }

    /// A node takes instances again.
    pub(crate) fn seek_again(&mut self, cx: &mut Context<'_>) {
        if self.waits_for_a_node() {
            self.begin(cx);
        }
    }

    /// Nobody may wait for a node, or for a turn there, any more.
    fn leave_if_unwanted(&mut self, cx: &mut Context<'_>) {
        if !self.waiters.is_empty() {
            return;
        }
        match &mut self.state {
            State::Unplaced | State::Reserving { .. } if self.comeback.is_some() => self.wait_on(cx),
            State::Unplaced => self.state = State::Gone,
            State::Reserving { is_withdrawn, .. } if !*is_withdrawn => {
                *is_withdrawn = true;
                cx.emit(Effect::Withdraw { object: self.id });
            }
            State::Live(Live { stage: Stage::Refused { .. }, .. }) => {
                cx.emit(Effect::Withdraw { object: self.id });
            }
            _ => {}
        }
    }

    pub(crate) fn release(&mut self, hold: HoldId, cx: &mut Context<'_>) {
        if let State::Live(live) = &mut self.state
            && live.holds.remove(&hold)
        {
            live.active(cx.now.mono_ms);
        }
    }

    pub(crate) fn touch(&mut self, instance: InstanceId, cx: &mut Context<'_>) {
        if let State::Live(live) = &mut self.state
            && live.instance == instance
        {
            live.active(cx.now.mono_ms);
        }
    }

    fn refuse_all(&mut self, refused: &Refused, cx: &mut Context<'_>) {
        for waiter in self.waiters.take_all() {
            cx.emit(Effect::Refuse { waiter, refused: refused.clone() });
        }
    }
}

fn grant(waiter: WaiterId, object: ObjectId, generation: Generation, live: &mut Live, cx: &mut Context<'_>) {
    let hold = cx.ids.hold();
    live.holds.insert(hold);
    let placement = Placement {
        object,
        node: live.node.clone(),
        instance: live.instance,
        generation,
        default_port: live.class.default_port,
    };
    cx.emit(Effect::Grant { waiter, hold, placement });
}
