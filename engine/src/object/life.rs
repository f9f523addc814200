//! What becomes of an instance: what its node tells of it, its readiness, its end.

use std::collections::HashSet;

use berth_common::ids::InstanceId;
use berth_common::metering::Metered;
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::HookKind;
use berth_common::wire::call::{Phase, Refusal, RefusalCode, Stop};

use super::crashes::{self, Crashes};
use super::live::Stage;
use super::placing::CommitExtras;
use super::{Object, State, grant, ms};
use crate::context::Context;
use crate::effect::Effect;
use crate::event::{Event, Happening};
use crate::ids::WaiterId;
use crate::input::{EndOrder, Kept};
use crate::record::RecordState;
use crate::refused::Refused;

impl Object {
    pub(crate) fn start_refused(&mut self, instance: InstanceId, refusal: Refusal, cx: &mut Context<'_>) {
        if !matches!(&self.state, State::Live(live) if live.instance == instance) {
            return;
        }
        let outcome = Outcome::because(ExitReason::StartFailed, refusal.message.clone());
        let refused = match refusal.code {
            RefusalCode::Capacity | RefusalCode::Draining => Refused::NoCapacity { what: refusal.message },
            _ => Refused::StartRefused(refusal),
        };
        self.refuse_all(&refused, cx);
        self.end(outcome, None, cx);
    }

    /// Its node tells where its instance is in its life, and of one that has ended what it took.
    pub(crate) fn status(&mut self, phase: Phase, metered: Option<Metered>, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        if matches!(phase, Phase::Running | Phase::Ready) {
            let recovering = matches!(live.stage, Stage::Recovering);
            live.note_running(if recovering { live.placed_ms } else { cx.now.wall_ms });
        }
        match (phase, &live.stage) {
            (Phase::Exited(outcome), _) => {
                let metered = live.metered(metered, cx.now.wall_ms);
                self.exited(outcome, metered, cx);
            }
            (Phase::Starting, Stage::Recovering) => {
                let deadline_ms = cx.now.mono_ms.saturating_add(ms(live.class.start_timeout));
                live.stop_reason = None;
                live.stage = Stage::Starting { deadline_ms };
            }
            (Phase::Running, Stage::Recovering | Stage::Starting { .. }) => self.runs(cx),
            (Phase::Ready, Stage::Recovering | Stage::Starting { .. } | Stage::Running { .. }) => {
                self.ready(cx);
            }
            (
                Phase::Stopping,
                Stage::Recovering | Stage::Starting { .. } | Stage::Running { .. } | Stage::Healthy { .. },
            ) => self.stopping(cx),
            // Told again, or late: nothing new.
            (Phase::Starting | Phase::Running | Phase::Ready | Phase::Stopping, _) => {}
        }
    }

    fn runs(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        if live.class.default_port.is_none() {
            return self.ready(cx);
        }
        let deadline_ms = cx.now.mono_ms.saturating_add(ms(live.class.port_timeout));
        live.stop_reason = None;
        live.stage = Stage::Running { deadline_ms };
        self.waiters.set_deadline(deadline_ms);
    }

    fn ready(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        live.stage = Stage::Healthy { idle_check_ms: None, asked: None };
        live.healthy_since_ms = Some(cx.now.mono_ms);
        live.active(cx.now.mono_ms);
        // If the edge decided to end it and restarted before it said so, that no longer holds.
        live.stop_reason = None;
        self.last_change_ms = cx.now.wall_ms;
        for waiter in self.waiters.take_all() {
            grant(waiter, self.id, self.generation, live, cx);
        }
        self.announce(cx);
    }

    /// Has the class's hook told that the instance takes requests, once.
    fn announce(&mut self, cx: &mut Context<'_>) {
        if self.state.live().announced {
            return;
        }
        let Some(event) = self.event(HookKind::Start, None, cx) else { return };
        let live = self.state.live_mut();
        live.announced = true;
        let record = live.record();
        // Nothing waits for it: if it is not written, the next run of the edge finds the instance not announced.
        self.persist(cx.ids.persist(), record, event.into(), cx);
    }

    /// What the class's hook is told, if it wants to be.
    pub(super) fn event(&self, kind: HookKind, outcome: Option<&Outcome>, cx: &Context<'_>) -> Option<Event> {
        let live = self.state.live();
        Event::wanted(&live.class, || Happening {
            kind,
            key: self.key.clone(),
            instance: live.instance,
            generation: self.generation,
            time_ms: cx.now.wall_ms,
            outcome: outcome.cloned(),
        })
    }

    /// What it is told of the end: of a failure first.
    fn events_of_end(&self, outcome: &Outcome, cx: &Context<'_>) -> Vec<Event> {
        let lost = matches!(outcome.reason, ExitReason::RuntimeLost | ExitReason::NodeLost);
        let error = lost || crashes::failed(outcome, false);
        let error = error.then(|| self.event(HookKind::Error, Some(outcome), cx)).flatten();
        // One that could not be started did not stop.
        let stopped = outcome.reason != ExitReason::StartFailed;
        let stop = stopped.then(|| self.event(HookKind::Stop, Some(outcome), cx)).flatten();
        error.into_iter().chain(stop).collect()
    }

    /// It is ending without word from this run of the edge: as one before it ordered, or as its node does by itself.
    fn stopping(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        let recovering = matches!(live.stage, Stage::Recovering);
        live.stage =
            Stage::Stopping { unsent: None, sent: live.stop_reason.map(|reason| live.order(reason)) };
        if !recovering {
            self.last_change_ms = cx.now.wall_ms;
        }
    }

    /// Its node has told of everything it has and will have.
    pub(crate) fn synced(&mut self, told: &HashSet<InstanceId>, kept: Kept, cx: &mut Context<'_>) {
        let live = self.state.live();
        match &live.stage {
            // Not asked for yet.
            Stage::Placing { .. } => {}
            _ if !told.contains(&live.instance) => {
                let lost =
                    Outcome::because(ExitReason::RuntimeLost, "the node does not have the instance any more");
                let metered = live.lost(kept, cx.now.wall_ms);
                self.exited(lost, metered, cx);
            }
            Stage::Stopping { unsent: None, sent: Some(sent) } => {
                // The connection was lost, and perhaps this with it.
                cx.emit(Effect::Stop { node: live.node.clone(), stop: sent.clone() });
            }
            _ => {}
        }
    }

    fn exited(&mut self, outcome: Outcome, metered: Option<Metered>, cx: &mut Context<'_>) {
        let live = self.state.live();
        let outcome = live.explain(outcome);
        let starting = matches!(live.stage, Stage::Starting { .. } | Stage::Running { .. });
        // One without a port may have done its work before it was seen to run.
        let done = starting && live.class.default_port.is_none() && outcome.code == Some(0);
        let starting = starting && !done;
        self.crashes = crashes::failed(&outcome, starting).then(|| {
            let version = live.class.of_app.version;
            Crashes::after(self.crashes, version, live.healthy_since_ms, &cx.config.backoff, cx.now)
        });
        if starting {
            self.refuse_all(&Refused::StartFailed(outcome.clone()), cx);
        } else if done {
            self.ready(cx);
        }
        self.end(outcome, metered, cx);
    }

    /// The instance is gone: persists that, with what it took if it ran, and then lets the node forget it.
    pub(super) fn end(&mut self, outcome: Outcome, metered: Option<Metered>, cx: &mut Context<'_>) {
        let live = self.state.live();
        let (node, instance) = (live.node.clone(), live.instance);
        let usage = metered.map(|metered| self.usage(live, metered, &outcome));
        let extras = CommitExtras { events: self.events_of_end(&outcome, cx), usage };
        let persist = cx.ids.persist();
        self.last_change_ms = cx.now.wall_ms;
        self.exit = Some(outcome.clone());
        cx.emit(Effect::Unreserve { object: self.id, generation: self.generation, node: node.clone() });
        self.tell_ordered(cx);
        self.state = State::Ending { node, instance, persist, retry_ms: None, extras: extras.clone() };
        self.persist(persist, RecordState::Stopped { outcome: Some(outcome) }, extras, cx);
    }

    /// Ends the instance because somebody wants it.
    pub(crate) fn end_as_ordered(&mut self, order: EndOrder, waiter: WaiterId, cx: &mut Context<'_>) {
        // Requests that came before the order would start it again at once.
        if !matches!(self.state, State::Ending { .. }) {
            self.refuse_all(&Refused::Ended, cx);
        }
        let State::Live(live) = &mut self.state else {
            return cx.emit(Effect::Ordered { waiter });
        };
        if live.orders.len() >= cx.config.max_waiters_per_object {
            return cx.emit(Effect::Refuse { waiter, refused: Refused::Overloaded });
        }
        live.orders.push(waiter);
        let (reason, stop) = live.ordered(order);
        match live.stage {
            Stage::Placing { .. } => live.cancelled = Some(reason),
            _ => self.stop_with(reason, stop, cx),
        }
    }

    /// Tells those who ordered its end that this is as good as done.
    pub(super) fn tell_ordered(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        for waiter in live.orders.drain(..) {
            cx.emit(Effect::Ordered { waiter });
        }
    }

    /// Ends the instance: persists why, and then tells the node.
    pub(super) fn stop(&mut self, reason: ExitReason, cx: &mut Context<'_>) {
        let live = self.state.live();
        let stop = live.order(reason);
        self.stop_with(reason, stop, cx);
    }

    fn stop_with(&mut self, reason: ExitReason, stop: Stop, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        live.stage = Stage::Stopping { unsent: Some((cx.ids.persist(), stop.clone())), sent: Some(stop) };
        live.stop_reason = Some(reason);
        self.last_change_ms = cx.now.wall_ms;
        self.persist_live(cx);
    }
}
