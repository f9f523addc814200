//! Carries out alarms, schedules and crons of objects when they are due.
//!
//! ```text
//! stored ── due ──▶ done by its object's shard ── ok ──▶ removed
//!   ▲                           ├── failed ──▶ due again later ── tried often enough ──▶ kept as failed (a cron: removed)
//!   │                           └── no node, or no room ──▶ due again later, not counted as a try
//!   └── cron due: its mark and its schedule are one write
//! ```
//!
//! One task owns all of this, and reads what is due in small parts, as long as there is room for more. An object does one
//! thing at a time, in the order of time. An entry is removed only after it was carried out, and only if it was not
//! replaced in the meantime: so each happens at least once.
//!
//! What fails, and what happens then:
//!
//! * The container fails or responds with an error: retried with growing pauses; after the last try a schedule is kept
//!   as failed, and one of a cron is removed.
//! * No node, or no room: put off, and not counted as a try until it is a day late.
//! * The action panics: counts as a failed try.
//! * The entry is changed or deleted while it is carried out: the new state stays.
//! * The result cannot be stored: the entry is still due, and is carried out again after a pause.
//! * An object's alarm fails: retried as others are, and forgotten after its last try. What is not the object's fault does not count.
//! * The edge is killed: the entry is still due after the restart.
//! * Times of a cron are missed: it runs once.

mod act;
mod alarm;
mod call;
pub(crate) mod crons;
mod retry;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_common::clock::wall_ms;
use berth_common::ids::ObjectId;
use berth_common::spec::AppSpec;
use berth_store::{self as store, CronKey, DueEntry, Schedule, Store, StoreError, Write};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::act::{ActError, Actions, Done};
use self::alarm::BegunAlarm;
use self::turns::{Turn, Turns};
use crate::apps::Apps;
use crate::guarded::guarded;
use crate::metrics::{Metrics, Tried};
use crate::programs::Programs;
use crate::proxy::Proxy;
use crate::shard::Shards;
use crate::shard::wakes::Wakes;

/// Pause after the store failed: it will not recover at once.
const STORE_PAUSE: Duration = Duration::from_secs(5);
/// Longest sleep: the clock may be set in the meantime.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// What the scheduler is built from.
pub(crate) struct Dependencies {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) apps: Arc<Apps>,
    pub(crate) shards: Shards<Proxy>,
    /// Notified when an earlier entry may have been added.
    pub(crate) changed: Arc<Notify>,
    pub(crate) wakes: Wakes,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) programs: Arc<Programs>,
}

struct Scheduler {
    store: Arc<dyn Store>,
    actions: Actions,
    wakes: Wakes,
    metrics: Arc<Metrics>,
}

/// Carries out due entries until the edge drains.
pub(crate) async fn run(dependencies: Dependencies, drain: CancellationToken) {
    let Dependencies { store, apps, shards, changed, wakes, metrics, programs } = dependencies;
    let mut published = apps.published();
    let scheduler =
        Arc::new(Scheduler { store, actions: Actions { apps, shards, programs }, wakes, metrics });
    let mut state = State {
        marks: None,
        crons_at_ms: None,
        turns: Turns::default(),
        doing: JoinSet::new(),
        begun: JoinSet::new(),
    };
    loop {
        let sleep = match state.begin(&scheduler).await {
            Ok(next_ms) => next_ms.map_or(MAX_SLEEP, until),
            Err(error) => {
                tracing::error!(%error, "cannot read or write due schedules");
                STORE_PAUSE
            }
        };
        tokio::select! {
            () = drain.cancelled() => return,
            () = changed.notified() => {}
            // Actions end with the edge.
            _ = published.changed() => state.crons_at_ms = None,
            Some(Ok(tried)) = state.doing.join_next() => state.ended(&scheduler, tried),
            Some(Ok(object)) = state.begun.join_next() => state.turns.ended(object),
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

fn until(ms: u64) -> Duration {
    Duration::from_millis(ms.saturating_sub(wall_ms())).min(MAX_SLEEP)
}

/// State between two looks at the store.
struct State {
    /// When each cron was last due; None until the marks are read.
    marks: Option<BTreeMap<CronKey, u64>>,
    /// When the crons are evaluated again; None for now.
    crons_at_ms: Option<u64>,
    /// Whose actions run, and whose turn comes later.
    turns: Turns,
    doing: JoinSet<Attempt>,
    /// Alarms that have begun.
    begun: JoinSet<ObjectId>,
}

/// An object's action that was begun, and what of it goes on.
struct Attempt {
    object: ObjectId,
    rest: Option<BegunAlarm>,
}

impl State {
    /// An object's action has ended, and those that ended meanwhile: one look at the store is for all.
    fn ended(&mut self, scheduler: &Arc<Scheduler>, attempt: Attempt) {
        self.settle(scheduler, attempt);
        while let Some(Ok(attempt)) = self.doing.try_join_next() {
            self.settle(scheduler, attempt);
        }
    }

    fn settle(&mut self, scheduler: &Arc<Scheduler>, Attempt { object, rest }: Attempt) {
        let Some(begun) = rest else { return self.turns.done(object) };
        self.turns.begun(object);
        let scheduler = Arc::clone(scheduler);
        self.begun.spawn(async move {
            let ended = guarded(scheduler.end_alarm(begun)).await;
            if !matches!(ended, Some(Ok(()))) {
                tracing::error!(?ended, %object, "cannot store the end of an alarm");
                tokio::time::sleep(STORE_PAUSE).await;
            }
            object
        });
    }

    /// Starts all due actions that there is capacity for. Returns when to look again.
    async fn begin(&mut self, scheduler: &Arc<Scheduler>) -> Result<Option<u64>, StoreError> {
        let next_cron_ms = self.crons(scheduler).await?;
        let now_ms = wall_ms();
        let mut from = None;
        while let Some(next) = self.begin_some(scheduler, from, now_ms)? {
            from = Some(next);
            // However much is due: the thread has other tasks too.
            tokio::task::yield_now().await;
        }
        self.begin_parked(scheduler, now_ms).await?;
        Ok(scheduler.store.next_due_ms(now_ms)?.into_iter().chain(next_cron_ms).min())
    }

    /// Starts what is due in a part of the index, as far as the apps' shares allow. Returns where the next part begins.
    fn begin_some(
        &mut self,
        scheduler: &Arc<Scheduler>,
        from: Option<DueEntry>,
        now_ms: u64,
    ) -> Result<Option<DueEntry>, StoreError> {
        if self.turns.room() == 0 {
            return Ok(None);
        }
        let part = scheduler.store.due(from, now_ms, self.turns.known())?;
        for entry in part.entries {
            // If there is none, it was removed in this moment.
            let Some(schedule) = scheduler.store.schedule(entry.object, entry.id)? else { continue };
            match self.turns.due(entry.object, &schedule.key.app) {
                Turn::Begins => self.start(scheduler, entry),
                Turn::Parked => {}
                Turn::Full => return Ok(None),
            }
        }
        Ok(part.next)
    }

    /// Starts what waited for the share of its app, where there is room now.
    async fn begin_parked(&mut self, scheduler: &Arc<Scheduler>, now_ms: u64) -> Result<(), StoreError> {
        while let Some((object, app)) = self.turns.next_parked() {
            match scheduler.store.due_of(object, now_ms) {
                Ok(Some(entry)) => {
                    self.turns.begin(object, app);
                    self.start(scheduler, entry);
                }
                Ok(None) => self.turns.forget(object),
                Err(error) => {
                    self.turns.forget(object);
                    return Err(error);
                }
            }
            tokio::task::consume_budget().await;
        }
        Ok(())
    }

    fn start(&mut self, scheduler: &Arc<Scheduler>, entry: DueEntry) {
        let scheduler = Arc::clone(scheduler);
        self.doing.spawn(async move {
            // Whatever happens, the object is free again.
            let rest = Box::pin(guarded(scheduler.carry_out(entry))).await;
            if rest.is_none() {
                tokio::time::sleep(STORE_PAUSE).await;
            }
            Attempt { object: entry.object, rest: rest.flatten() }
        });
    }

    async fn crons(&mut self, scheduler: &Scheduler) -> Result<Option<u64>, StoreError> {
        let now_ms = wall_ms();
        if self.crons_at_ms.is_some_and(|at| at > now_ms) {
            return Ok(self.crons_at_ms);
        }
        let marks = match self.marks.take() {
            Some(marks) => marks,
            None => scheduler.store.cron_marks()?,
        };
        let apps: Vec<AppSpec> = scheduler.actions.apps.with_crons();
        let mut next = marks.clone();
        let round = crons::round(&apps, &mut next, now_ms);
        if !round.writes.is_empty() {
            // After a failed write the marks are read again, and the crons are due again.
            store::commit(&*scheduler.store, round.writes).await?;
        }
        self.marks = Some(next);
        self.crons_at_ms = Some(round.next_ms.unwrap_or(u64::MAX));
        Ok(round.next_ms)
    }
}

impl Scheduler {
    /// Carries out what is due; returns an alarm that goes on.
    async fn carry_out(&self, entry: DueEntry) -> Option<BegunAlarm> {
        match self.try_carry_out(entry).await {
            Ok(begun) => begun,
            Err(error) => {
                tracing::error!(%error, object = %entry.object, "cannot store the result of a schedule");
                // The entry is still due: the pause prevents a busy loop.
                tokio::time::sleep(STORE_PAUSE).await;
                None
            }
        }
    }

    async fn try_carry_out(
        &self,
        DueEntry { due_ms, object, id }: DueEntry,
    ) -> Result<Option<BegunAlarm>, StoreError> {
        let schedule = self.store.schedule(object, id)?;
        let Some(schedule) = schedule.filter(|schedule| schedule.due_ms == Some(due_ms)) else {
            // The entry was changed in the meantime, and the index with it.
            return Ok(None);
        };
        let done = guarded(self.actions.act(&schedule)).await;
        let fault = || Err(ActError::Failed("the edge failed to carry it out (see its log)".to_owned()));
        let done = done.unwrap_or_else(fault);
        let outcome = match &done {
            Ok(Done::Begun(_)) => None,
            Ok(_) => Some(Tried::Done),
            Err(ActError::Failed(_)) => Some(Tried::Failed),
            Err(ActError::NotNow(_)) => Some(Tried::PutOff),
        };
        let (then, event) = match done {
            Ok(Done::Begun(called)) => return Ok(Some(BegunAlarm { schedule, due_ms, called })),
            Ok(Done::Complete) => (None, None),
            Ok(Done::Tell(event)) => (None, Some(Write::Event(event))),
            Err(ActError::Failed(error)) => (failed(schedule, error), None),
            Err(ActError::NotNow(error)) => (postpone(schedule, error), None),
        };
        outcome.into_iter().for_each(|outcome| self.metrics.due.actions.count(outcome));
        let tells = event.is_some();
        let finish = Write::Finish { object, id, due_ms, then };
        store::commit(&*self.store, event.into_iter().chain([finish]).collect()).await?;
        if tells {
            self.wakes.wake(object);
        }
        Ok(None)
    }
}

/// The new state of a schedule that could not be tried.
fn postpone(schedule: Schedule, error: String) -> Option<Box<Schedule>> {
    tracing::info!(object = %schedule.key, error, "schedule postponed");
    let waits = retry::postpone(schedule, error, wall_ms());
    (!waits.is_over()).then(|| Box::new(waits))
}

/// The new state of a schedule that failed.
fn failed(schedule: Schedule, error: String) -> Option<Box<Schedule>> {
    let (key, attempt) = (schedule.key.clone(), schedule.attempts + 1);
    let failed = retry::failed(schedule, error, wall_ms());
    let error = failed.last_error.as_deref();
    match failed.due_ms {
        Some(_) => tracing::info!(object = %key, attempt, error, "schedule failed, will be retried"),
        None => tracing::warn!(object = %key, attempt, error, "schedule failed too often"),
    }
    (!failed.is_over()).then(|| Box::new(failed))
}
