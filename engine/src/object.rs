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
//! (restart of the edge) ─▶ Recovering ── the node tells: Starting, Running, Healthy ... ────┤    ▼ or too late
//!                                                                                           └─ Stopping
//!                                                                       (why is persisted; then Stop is sent)
//! ```
//!
//! Requests wait in any state but `Healthy`. A waiter has `start_timeout` until the instance runs, and from then on
//! `port_timeout` until its port answers.
//!
//! A healthy one whose hook decides is asked before it is stopped for want of activity (`idle`). Here: what an object is, and
//! its requests. `placing` has the way to an instance and what waits for the store,
//! `life` what nodes tell, `deadlines` what time does, `metering` what instances take.

mod crashes;
mod deadlines;
mod idle;
mod life;
mod live;
mod metering;
mod placing;
mod waiters;

use std::sync::Arc;
use std::time::Duration;

use berth_common::ids::{Generation, InstanceId, NodeId, ObjectId, ObjectKey};
use berth_common::outcome::Outcome;
use berth_common::spec::ClassSpec;

use self::crashes::Crashes;
use self::live::{Live, Stage};
use self::placing::CommitExtras;
use self::waiters::Waiters;
use crate::context::Context;
use crate::effect::{Effect, Placement};
use crate::ids::{HoldId, PersistId, WaiterId};
use crate::input::Now;
use crate::record::{Record, RecordState};
use crate::refused::Refused;
use crate::view::{ObjectView, PublicState};

/// Numbers of the signals that Berth sends, the same on every Linux.
pub(crate) const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// An object in memory.
#[derive(Debug)]
pub(crate) struct Object {
    id: ObjectId,
    key: ObjectKey,
    generation: Generation,
    last_change_ms: u64,
    exit: Option<Outcome>,
    /// How its instances failed of late, if they did.
    crashes: Option<Crashes>,
    waiters: Waiters,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Its record is being read.
    Loading,
    /// Its instances failed in a row: requests wait for the next try.
    Delayed { until_ms: u64 },
    /// Room is being looked for.
    Reserving { class: Arc<ClassSpec> },
    /// It has, or may have, an instance.
    Live(Live),
    /// Its instance is gone; that is being persisted, with what its hook is told of it and what it took.
    Ending {
        node: NodeId,
        instance: InstanceId,
        persist: PersistId,
        retry_ms: Option<u64>,
        extras: CommitExtras,
    },
    /// Nothing more to do: to be forgotten.
    Gone,
}

impl State {
    /// The instance, where the caller knows that there is one: anything else is a fault of the engine, and a shard that
    /// goes on with it could start a second instance.
    #[track_caller]
    fn live(&self) -> &Live {
        match self {
            Self::Live(live) => live,
            other => unreachable!("no instance in the state {}", other.name()),
        }
    }

    /// As `live`, to be changed.
    #[track_caller]
    fn live_mut(&mut self) -> &mut Live {
        match self {
            Self::Live(live) => live,
            other => unreachable!("no instance in the state {}", other.name()),
        }
    }

    /// Its name alone: what it holds may be a customer's.
    fn name(&self) -> &'static str {
        match self {
            Self::Loading => "Loading",
            Self::Delayed { .. } => "Delayed",
            Self::Reserving { .. } => "Reserving",
            Self::Live(_) => "Live",
            Self::Ending { .. } => "Ending",
            Self::Gone => "Gone",
        }
    }
}

/// What an instance that a node tells of is to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The object's instance.
    Current,
    /// The one whose end is being persisted.
    Ending,
    /// None of the object's.
    Stranger,
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
            waiters: Waiters::default(),
            state: State::Gone,
        }
    }

    /// An object as its record says. If that has an instance, what has become of it is still to be told.
    pub(crate) fn restored(now: Now, record: Record) -> Self {
        let mut object = Self::unknown(record.key.id(), record.key.clone());
        object.read(record, now.mono_ms);
        object
    }

    fn read(&mut self, record: Record, now_ms: u64) {
        self.generation = record.generation;
        self.last_change_ms = record.last_change_ms;
        self.state = match record.state {
            RecordState::Stopped { outcome } => {
                self.exit = outcome;
                State::Gone
            }
            RecordState::Placed { node, instance, class, stop_reason, announced, placed_ms } => {
                let mut live = Live::new(node, instance, Arc::from(class), Stage::Recovering, now_ms);
                // An earlier version has not written when.
                live.placed_ms = if placed_ms == 0 { record.last_change_ms } else { placed_ms };
                live.stop_reason = stop_reason;
                live.announced = announced;
                State::Live(live)
            }
        };
    }

    pub(crate) fn placed_on(&self) -> Option<&NodeId> {
        if let State::Live(live) = &self.state { Some(&live.node) } else { None }
    }

    pub(crate) fn standing(&self, node: &NodeId, instance: InstanceId, generation: Generation) -> Standing {
        let (of, own, standing) = match &self.state {
            State::Live(live) => (&live.node, live.instance, Standing::Current),
            State::Ending { node, instance, .. } => (node, *instance, Standing::Ending),
            State::Loading | State::Delayed { .. } | State::Reserving { .. } | State::Gone => {
                return Standing::Stranger;
            }
        };
        let same = of == node && own == instance && self.generation == generation;
        if same { standing } else { Standing::Stranger }
    }

    pub(crate) fn is_forgettable(&self) -> bool {
        matches!(self.state, State::Gone) && self.waiters.is_empty() && self.crashes.is_none()
    }

    /// What tells one state from the next, for those who watch.
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
            State::Delayed { .. } | State::Reserving { .. } | State::Ending { .. } | State::Gone => None,
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
        let deadline_ms = match &self.state {
            State::Live(Live { stage: Stage::Running { deadline_ms }, .. }) => *deadline_ms,
            _ => cx.now.mono_ms.saturating_add(ms(class.start_timeout)),
        };
        self.waiters.push(id, class, deadline_ms);
        match self.state {
            State::Gone => {
                self.state = State::Loading;
                cx.emit(Effect::Load { object: self.id });
            }
            // The class may be of another version, which need not wait.
            State::Delayed { .. } => self.begin(cx),
            _ => {}
        }
    }

    pub(crate) fn cancel(&mut self, id: WaiterId) {
        self.waiters.cancel(id);
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
