//! One object, and at most one instance of it.
//!
//! ```text
//!             acquire            loaded, stopped         room             Placed persisted, Start sent
//! (not in ───────────▶ Loading ────────────────▶ Reserving ───▶ Placing ─────────────────────▶ Starting
//!  memory)                          ▲                │ no room     │ not persisted               │ Running
//!     ▲                             │                ▼             ▼                             ▼
//!     │                             │          waiters refused, forgotten                     Running
//!     │ no waiters                  │ waiters                                                    │ Ready
//!     └──────────────────────── Ending ◀──── Exited, lost, refused (from any state below) ──┐    ▼
//!                               (the end is persisted; then Forget)                         ├─ Healthy
//!                                                                                           │    │ idle, or a
//! (restart of the edge) ─▶ Recovering ── the node tells: Starting, Running, Healthy ... ────┤    ▼ deadline missed
//!                                                                                           └─ Stopping
//!                                                                       (why is persisted; then Stop is sent)
//! ```
//!
//! Requests wait in any state but `Healthy`. A waiter has `start_timeout` until the instance runs, and from then on
//! `port_timeout` until its port answers.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use berth_common::ids::{Generation, InstanceId, NodeId, ObjectKey};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::ClassSpec;
use berth_common::wire::call::{Phase, Refusal, RefusalCode, Start, Stop};

use crate::effect::{Effect, HoldId, PersistId, Placement};
use crate::engine::Context;
use crate::fleet::Demand;
use crate::input::{Now, StoreFailure, WaiterId};
use crate::record::{Record, RecordState};
use crate::refused::Refused;
use crate::view::{ObjectView, PublicState};

/// Numbers of the signals that Berth sends, the same on every Linux.
pub(crate) const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// How long after a failed write of an end it is tried again.
const PERSIST_RETRY_MS: u64 = 1_000;

/// An object in memory.
#[derive(Debug)]
pub(crate) struct Object {
    key: ObjectKey,
    generation: Generation,
    last_change_ms: u64,
    exit: Option<Outcome>,
    waiters: VecDeque<Waiter>,
    state: State,
}

#[derive(Debug)]
struct Waiter {
    id: WaiterId,
    class: Arc<ClassSpec>,
    deadline_ms: u64,
}

#[derive(Debug)]
enum State {
    /// Its record is being read.
    Loading,
    /// Room is being looked for.
    Reserving { class: Arc<ClassSpec> },
    /// It has, or may have, an instance.
    Live(Live),
    /// Its instance is gone; that is being persisted.
    Ending { node: NodeId, instance: InstanceId, persist: PersistId, retry_ms: Option<u64> },
    /// Nothing more to do: to be forgotten.
    Gone,
}

#[derive(Debug)]
struct Live {
    node: NodeId,
    instance: InstanceId,
    class: Arc<ClassSpec>,
    stage: Stage,
    holds: HashSet<HoldId>,
    last_activity_ms: u64,
    /// Why it was told to end.
    stop_reason: Option<ExitReason>,
    /// What was said of the failure that made Berth end it.
    message: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Placing {
        persist: PersistId,
    },
    Starting {
        deadline_ms: u64,
    },
    Running {
        deadline_ms: u64,
    },
    /// `idle_check_ms`: when to look whether it is idle; moved only when that time has come, not at each request.
    Healthy {
        idle_check_ms: Option<u64>,
    },
    Stopping {
        unsent: Option<(PersistId, Stop)>,
        sent: Stop,
    },
    Recovering,
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Object {
    /// An object whose record has not been read.
    pub(crate) fn unknown(key: ObjectKey) -> Self {
        Self {
            key,
            generation: Generation::default(),
            last_change_ms: 0,
            exit: None,
            waiters: VecDeque::new(),
            state: State::Gone,
        }
    }

    /// An object that may have an instance, as its record says; `None` if it has none.
    pub(crate) fn restored(now: Now, record: Record) -> Option<Self> {
        let RecordState::Placed { node, instance, class, stop_reason } = record.state else { return None };
        let live = Live {
            node,
            instance,
            class: Arc::from(class),
            stage: Stage::Recovering,
            holds: HashSet::new(),
            last_activity_ms: now.mono_ms,
            stop_reason,
            message: None,
        };
        Some(Self {
            key: record.key,
            generation: record.generation,
            last_change_ms: record.last_change_ms,
            exit: None,
            waiters: VecDeque::new(),
            state: State::Live(live),
        })
    }

    pub(crate) fn placed_on(&self) -> Option<&NodeId> {
        if let State::Live(live) = &self.state { Some(&live.node) } else { None }
    }

    pub(crate) fn has_instance(&self, node: &NodeId, instance: InstanceId) -> bool {
        match &self.state {
            State::Live(live) => live.node == *node && live.instance == instance,
            // Its end is known; whatever the node says of it again, it is told to forget once that is persisted.
            State::Ending { node: of, instance: ended, .. } => of == node && *ended == instance,
            State::Loading | State::Reserving { .. } | State::Gone => false,
        }
    }

    pub(crate) fn is_forgettable(&self) -> bool {
        matches!(self.state, State::Gone) && self.waiters.is_empty()
    }

    pub(crate) fn view(&self) -> Option<ObjectView> {
        let live = match &self.state {
            State::Loading => return None,
            State::Live(live) => Some(live),
            State::Reserving { .. } | State::Ending { .. } | State::Gone => None,
        };
        Some(ObjectView {
            id: self.key.id(),
            key: self.key.clone(),
            state: live.map_or_else(|| PublicState::ended(self.exit.as_ref()), Live::public),
            node: live.map(|l| l.node.clone()),
            instance: live.map(|l| l.instance),
            generation: self.generation,
            last_change_ms: self.last_change_ms,
            exit: self.exit.clone(),
        })
    }

    // ---- requests

    pub(crate) fn acquire(&mut self, id: WaiterId, class: Arc<ClassSpec>, cx: &mut Context<'_>) {
        if let State::Live(live) = &mut self.state
            && matches!(live.stage, Stage::Healthy { .. })
        {
            return grant(id, &self.key, self.generation, live, cx);
        }
        if self.waiters.len() >= cx.config.max_waiters_per_object {
            return cx.emit(Effect::Refuse { waiter: id, refused: Refused::Overloaded });
        }
        let deadline_ms = match &self.state {
            State::Live(Live { stage: Stage::Running { deadline_ms }, .. }) => *deadline_ms,
            _ => cx.now.mono_ms.saturating_add(ms(class.start_timeout)),
        };
        self.waiters.push_back(Waiter { id, class, deadline_ms });
        if matches!(self.state, State::Gone) {
            self.state = State::Loading;
            cx.emit(Effect::Load { object: self.key.id() });
        }
    }

    pub(crate) fn cancel(&mut self, id: WaiterId) {
        self.waiters.retain(|waiter| waiter.id != id);
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
        for waiter in self.waiters.drain(..) {
            cx.emit(Effect::Refuse { waiter: waiter.id, refused: refused.clone() });
        }
    }

    // ---- the way to an instance

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
            Ok(Some(Record { generation, state, last_change_ms, .. })) => {
                self.generation = generation;
                self.last_change_ms = last_change_ms;
                match state {
                    RecordState::Stopped { outcome } => {
                        self.exit = outcome;
                        self.begin(cx);
                    }
                    // Every instance that may live is in memory: this one was persisted but never asked for.
                    RecordState::Placed { node, instance, .. } => {
                        let outcome =
                            Outcome::because(ExitReason::RuntimeLost, "the instance was never started");
                        self.end(node, instance, outcome, cx);
                    }
                }
            }
        }
    }

    /// Starts anew if requests wait; otherwise there is nothing to do.
    fn begin(&mut self, cx: &mut Context<'_>) {
        let Some(first) = self.waiters.front() else {
            self.state = State::Gone;
            return;
        };
        let class = Arc::clone(&first.class);
        cx.emit(Effect::Reserve(Demand::of(&self.key, self.generation.next(), &class)));
        self.state = State::Reserving { class };
    }

    pub(crate) fn reserved(
        &mut self,
        generation: Generation,
        result: Result<(NodeId, InstanceId), Refused>,
        cx: &mut Context<'_>,
    ) {
        let State::Reserving { class } = &self.state else { return };
        if generation != self.generation.next() {
            return;
        }
        let (node, instance) = match result {
            Ok(found) => found,
            Err(refused) => {
                self.refuse_all(&refused, cx);
                self.state = State::Gone;
                return;
            }
        };
        let live = Live {
            node,
            instance,
            class: Arc::clone(class),
            stage: Stage::Placing { persist: cx.ids.persist() },
            holds: HashSet::new(),
            last_activity_ms: cx.now.mono_ms,
            stop_reason: None,
            message: None,
        };
        self.generation = generation;
        self.last_change_ms = cx.now.wall_ms;
        self.state = State::Live(live);
        self.persist_live(cx);
    }

    /// Emits the persist that the live state waits for.
    fn persist_live(&mut self, cx: &mut Context<'_>) {
        let State::Live(live) = &self.state else { return };
        let persist = match &live.stage {
            Stage::Placing { persist } | Stage::Stopping { unsent: Some((persist, _)), .. } => *persist,
            _ => return,
        };
        let state = RecordState::Placed {
            node: live.node.clone(),
            instance: live.instance,
            class: Box::new(ClassSpec::clone(&live.class)),
            stop_reason: live.stop_reason,
        };
        self.persist(persist, state, cx);
    }

    fn persist(&self, persist: PersistId, state: RecordState, cx: &mut Context<'_>) {
        let record = Record {
            key: self.key.clone(),
            generation: self.generation,
            state,
            last_change_ms: self.last_change_ms,
        };
        cx.emit(Effect::Persist { object: self.key.id(), persist, record });
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
                    // Even if it could not be written why: the instance must end.
                    if let Some((_, stop)) = unsent.take() {
                        cx.emit(Effect::Stop { node: live.node.clone(), stop });
                    }
                }
                _ => {}
            },
            State::Ending { node, instance, persist, retry_ms } if *persist == id => {
                if result.is_err() {
                    *retry_ms = Some(cx.now.mono_ms.saturating_add(PERSIST_RETRY_MS));
                    return;
                }
                cx.emit(Effect::Forget { node: node.clone(), instance: *instance });
                self.begin(cx);
            }
            _ => {}
        }
    }

    /// The placement is durable, or it is not known to be.
    fn placed(&mut self, durable: bool, cx: &mut Context<'_>) {
        let State::Live(live) = &mut self.state else { return };
        if durable {
            let deadline_ms = cx.now.mono_ms.saturating_add(ms(live.class.start_timeout));
            live.stage = Stage::Starting { deadline_ms };
            let start = live.start(&self.key, self.generation, cx.config.term_ms);
            cx.emit(Effect::Start { node: live.node.clone(), start: Box::new(start) });
            return;
        }
        // The write may have happened after all: what is written now says that nothing was started.
        let (node, instance) = (live.node.clone(), live.instance);
        let outcome =
            Outcome::because(ExitReason::StartFailed, "the placement could not be written to the store");
        self.refuse_all(&Refused::Store, cx);
        self.end(node, instance, outcome, cx);
    }

    // ---- what nodes tell

    pub(crate) fn start_refused(&mut self, instance: InstanceId, refusal: Refusal, cx: &mut Context<'_>) {
        let State::Live(live) = &self.state else { return };
        if live.instance != instance {
            return;
        }
        let outcome = Outcome::because(ExitReason::StartFailed, refusal.message.clone());
        let refused = match refusal.code {
            RefusalCode::Capacity | RefusalCode::Draining => Refused::NoCapacity { what: refusal.message },
            _ => Refused::StartRefused(refusal),
        };
        let node = live.node.clone();
        self.refuse_all(&refused, cx);
        self.end(node, instance, outcome, cx);
    }

    pub(crate) fn status(&mut self, phase: Phase, cx: &mut Context<'_>) {
        let State::Live(live) = &mut self.state else { return };
        let now_ms = cx.now.mono_ms;
        match (phase, &live.stage) {
            (Phase::Exited(outcome), _) => self.exited(outcome, cx),
            (Phase::Starting, Stage::Recovering) => {
                live.stage =
                    Stage::Starting { deadline_ms: now_ms.saturating_add(ms(live.class.start_timeout)) };
            }
            (Phase::Running, Stage::Recovering | Stage::Starting { .. }) => self.runs(cx),
            (Phase::Ready, Stage::Recovering | Stage::Starting { .. } | Stage::Running { .. }) => {
                self.ready(cx);
            }
            (Phase::Stopping, Stage::Recovering) => {
                let reason = live.stop_reason.unwrap_or(ExitReason::Stopped);
                let grace_ms = ms(live.class.stop_grace);
                self.stop(reason, SIGTERM, grace_ms, cx);
            }
            // Told again, or late: nothing new.
            (Phase::Starting | Phase::Running | Phase::Ready | Phase::Stopping, _) => {}
        }
    }

    fn runs(&mut self, cx: &mut Context<'_>) {
        let State::Live(live) = &mut self.state else { return };
        let deadline_ms = cx.now.mono_ms.saturating_add(ms(live.class.port_timeout));
        live.stage = Stage::Running { deadline_ms };
        for waiter in &mut self.waiters {
            waiter.deadline_ms = deadline_ms;
        }
    }

    fn ready(&mut self, cx: &mut Context<'_>) {
        let State::Live(live) = &mut self.state else { return };
        live.stage = Stage::Healthy { idle_check_ms: None };
        live.active(cx.now.mono_ms);
        // If the edge decided to end it and restarted before it said so, that no longer holds.
        live.stop_reason = None;
        self.last_change_ms = cx.now.wall_ms;
        for waiter in self.waiters.drain(..) {
            grant(waiter.id, &self.key, self.generation, live, cx);
        }
    }

    fn exited(&mut self, outcome: Outcome, cx: &mut Context<'_>) {
        let State::Live(live) = &self.state else { return };
        let (node, instance) = (live.node.clone(), live.instance);
        let starting = matches!(live.stage, Stage::Starting { .. } | Stage::Running { .. });
        let outcome = live.explain(outcome);
        if starting {
            self.refuse_all(&Refused::StartFailed(outcome.clone()), cx);
        }
        self.end(node, instance, outcome, cx);
    }

    pub(crate) fn synced(&mut self, told: &HashSet<InstanceId>, cx: &mut Context<'_>) {
        let State::Live(live) = &mut self.state else { return };
        match &live.stage {
            // Not asked for yet.
            Stage::Placing { .. } => {}
            _ if !told.contains(&live.instance) => {
                let lost =
                    Outcome::because(ExitReason::RuntimeLost, "the node does not have the instance any more");
                self.exited(lost, cx);
            }
            Stage::Stopping { unsent: None, sent } => {
                // The connection was lost, and perhaps this with it.
                cx.emit(Effect::Stop { node: live.node.clone(), stop: sent.clone() });
            }
            _ => {}
        }
    }

    /// The instance is gone: persists that, and then lets the node forget it.
    fn end(&mut self, node: NodeId, instance: InstanceId, outcome: Outcome, cx: &mut Context<'_>) {
        let persist = cx.ids.persist();
        self.last_change_ms = cx.now.wall_ms;
        self.exit = Some(outcome.clone());
        cx.emit(Effect::Unreserve { object: self.key.id(), generation: self.generation, node: node.clone() });
        self.state = State::Ending { node, instance, persist, retry_ms: None };
        self.persist(persist, RecordState::Stopped { outcome: Some(outcome) }, cx);
    }

    fn stop(&mut self, reason: ExitReason, signal: i32, grace_ms: u64, cx: &mut Context<'_>) {
        let State::Live(live) = &mut self.state else { return };
        let stop = Stop { instance: live.instance, signal, grace_ms };
        live.stage = Stage::Stopping { unsent: Some((cx.ids.persist(), stop.clone())), sent: stop };
        live.stop_reason = Some(reason);
        self.last_change_ms = cx.now.wall_ms;
        self.persist_live(cx);
    }

    // ---- time

    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        let waiters = self.waiters.iter().map(|waiter| waiter.deadline_ms).min();
        let own = match &self.state {
            State::Live(Live {
                stage: Stage::Starting { deadline_ms } | Stage::Running { deadline_ms },
                ..
            }) => Some(*deadline_ms),
            State::Live(Live { stage: Stage::Healthy { idle_check_ms }, .. }) => *idle_check_ms,
            State::Ending { retry_ms, .. } => *retry_ms,
            _ => None,
        };
        waiters.into_iter().chain(own).min()
    }

    pub(crate) fn deadline(&mut self, cx: &mut Context<'_>) {
        let now_ms = cx.now.mono_ms;
        match &mut self.state {
            State::Live(live) => match live.stage {
                Stage::Starting { deadline_ms } if deadline_ms <= now_ms => {
                    self.give_up(&Refused::StartTimeout, cx);
                }
                Stage::Running { deadline_ms } if deadline_ms <= now_ms => {
                    let port = live.class.default_port;
                    self.give_up(&Refused::PortTimeout { port }, cx);
                }
                Stage::Healthy { idle_check_ms: Some(at) } if at <= now_ms => self.check_idle(cx),
                _ => {}
            },
            State::Ending { persist, retry_ms, .. } if retry_ms.is_some_and(|at| at <= now_ms) => {
                *persist = cx.ids.persist();
                *retry_ms = None;
                let persist = *persist;
                self.persist(persist, RecordState::Stopped { outcome: self.exit.clone() }, cx);
            }
            _ => {}
        }
        self.refuse_late(cx);
    }

    /// The instance missed its deadline: ends it.
    fn give_up(&mut self, refused: &Refused, cx: &mut Context<'_>) {
        if let State::Live(live) = &mut self.state {
            live.message = Some(refused.to_string());
        }
        self.refuse_all(refused, cx);
        self.stop(ExitReason::StartFailed, SIGKILL, 0, cx);
    }

    fn check_idle(&mut self, cx: &mut Context<'_>) {
        let State::Live(live) = &mut self.state else { return };
        if !live.holds.is_empty() {
            // The last release looks again.
            live.stage = Stage::Healthy { idle_check_ms: None };
            return;
        }
        let idle_at = live.idle_at_ms();
        if idle_at > cx.now.mono_ms {
            live.stage = Stage::Healthy { idle_check_ms: Some(idle_at) };
            return;
        }
        let grace_ms = ms(live.class.stop_grace);
        self.stop(ExitReason::Idle, SIGTERM, grace_ms, cx);
    }

    fn refuse_late(&mut self, cx: &mut Context<'_>) {
        if self.waiters.iter().all(|waiter| waiter.deadline_ms > cx.now.mono_ms) {
            return;
        }
        let refused = match &self.state {
            State::Loading | State::Ending { .. } => Refused::Store,
            State::Reserving { .. } | State::Gone => Refused::StartTimeout,
            State::Live(live) => match live.stage {
                Stage::Placing { .. } => Refused::Store,
                Stage::Recovering => Refused::NodeUnreachable(live.node.clone()),
                Stage::Stopping { .. } => Refused::Stopping,
                Stage::Running { .. } => Refused::PortTimeout { port: live.class.default_port },
                Stage::Starting { .. } | Stage::Healthy { .. } => Refused::StartTimeout,
            },
        };
        let (late, rest) = self.waiters.drain(..).partition(|waiter| waiter.deadline_ms <= cx.now.mono_ms);
        self.waiters = rest;
        let late: VecDeque<Waiter> = late;
        for waiter in late {
            cx.emit(Effect::Refuse { waiter: waiter.id, refused: refused.clone() });
        }
    }
}

fn grant(waiter: WaiterId, key: &ObjectKey, generation: Generation, live: &mut Live, cx: &mut Context<'_>) {
    let hold = cx.ids.hold();
    live.holds.insert(hold);
    let placement =
        Placement { object: key.id(), node: live.node.clone(), instance: live.instance, generation };
    cx.emit(Effect::Grant { waiter, hold, placement });
}

impl Live {
    fn public(&self) -> PublicState {
        match self.stage {
            Stage::Placing { .. } | Stage::Starting { .. } | Stage::Running { .. } | Stage::Recovering => {
                PublicState::Running
            }
            Stage::Healthy { .. } => PublicState::Healthy,
            Stage::Stopping { .. } => PublicState::Stopping,
        }
    }

    fn idle_at_ms(&self) -> u64 {
        self.last_activity_ms.saturating_add(ms(self.class.sleep_after))
    }

    /// There was activity until now. If nothing holds the instance, it will be looked at when it may be idle.
    fn active(&mut self, now_ms: u64) {
        self.last_activity_ms = now_ms;
        let idle_at = self.idle_at_ms();
        if let Stage::Healthy { idle_check_ms } = &mut self.stage
            && self.holds.is_empty()
        {
            idle_check_ms.get_or_insert(idle_at);
        }
    }

    fn start(&self, key: &ObjectKey, generation: Generation, term_ms: u64) -> Start {
        Start {
            instance: self.instance,
            object: key.clone(),
            generation,
            term_ms,
            image: self.class.image.clone(),
            entrypoint: self.class.entrypoint.clone(),
            env: self.class.env.clone(),
            resources: self.class.resources,
            enable_internet: self.class.enable_internet,
            ready_port: self.class.default_port,
        }
    }

    /// An end that Berth asked for has Berth's reason; how the app answered stays with it.
    fn explain(&self, outcome: Outcome) -> Outcome {
        let own = matches!(outcome.reason, ExitReason::Exit | ExitReason::Signal | ExitReason::Stopped);
        match self.stop_reason {
            Some(reason) if own => {
                Outcome { reason, message: self.message.clone().or(outcome.message), ..outcome }
            }
            _ => outcome,
        }
    }
}
