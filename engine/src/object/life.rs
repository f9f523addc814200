//! The life of an instance after its start is sent: the reports of its node, its readiness, its end.

use std::collections::HashSet;
use std::sync::Arc;

use berth_common::ids::InstanceId;
use berth_common::metering::Metered;
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::HookKind;
use berth_common::wire::call::{Phase, Stop};

use super::crashes::{self, Crashes};
use super::live::Stage;
use super::placing::CommitExtras;
use super::{Object, State, grant, ms};
use crate::context::Context;
use crate::effect::Effect;
use crate::event::{Event, EventDetails};
use crate::ids::WaiterId;
use crate::input::{EndOrder, Kept};
use crate::record::{Failure, MAX_FAILURES, StopRecord};
use crate::refused::Refused;

/// Whether the node is as good for the next instance as for one that has ended so.
fn is_good_again(reason: ExitReason) -> bool {
    !matches!(reason, ExitReason::NodeLost | ExitReason::Drained | ExitReason::StartFailed)
}

impl Object {
    /// Its start never left the edge. That is no failure of the app, whatever it was ended for.
    pub(crate) fn never_began(&mut self, instance: InstanceId, cx: &mut Context<'_>) {
        let State::Live(live) = &self.state else { return };
        if live.instance != instance {
            return;
        }
        let told = format!("its start did not reach the node `{}` in time", live.node);
        let outcome = Outcome::because(live.stop_reason.unwrap_or(ExitReason::StartFailed), told);
        self.end(outcome, None, cx);
    }

    /// Handles a report of its node: the phase of its instance, and with its end what it used.
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
            (_, Stage::Recovering) if live.recalled_order(true).is_some() => self.stopping(cx),
            (Phase::Starting, Stage::Recovering) => {
                let deadline_ms = cx.now.mono_ms.saturating_add(ms(live.class.start_timeout));
                live.drop_order();
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
            // A repeated or late report.
            (Phase::Starting | Phase::Running | Phase::Ready | Phase::Stopping, _) => {}
        }
    }

    fn runs(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        if live.class.default_port.is_none() {
            return self.ready(cx);
        }
        let deadline_ms = cx.now.mono_ms.saturating_add(ms(live.class.port_timeout));
        live.drop_order();
        live.stage = Stage::Running { deadline_ms };
        self.waiters.set_deadline(deadline_ms);
    }

    fn ready(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        live.stage = Stage::Healthy { idle_check_ms: None, asked: None };
        live.healthy_since_ms = Some(cx.now.mono_ms);
        live.active(cx.now.mono_ms);
        live.drop_order();
        self.last_change_ms = cx.now.wall_ms;
        for waiter in self.waiters.take_all() {
            grant(waiter, self.id, self.generation, live, cx);
        }
        self.announce(cx);
    }

    /// Emits the hook's start event, once per instance.
    fn announce(&mut self, cx: &mut Context<'_>) {
        if self.state.live().announced {
            return;
        }
        let Some(event) = self.event(HookKind::Start, None, cx) else { return };
        let live = self.state.live_mut();
        live.announced = true;
        let record = live.record();
        // Nothing waits for this write: if it fails, the next run of the edge sends the event.
        self.persist(cx.ids.persist(), record, event.into(), cx);
    }

    /// An event for the class's hook, if it subscribes to the kind.
    pub(super) fn event(&self, kind: HookKind, outcome: Option<&Outcome>, cx: &Context<'_>) -> Option<Event> {
        let live = self.state.live();
        Event::for_hook(&live.class, || EventDetails {
            kind,
            key: self.key.clone(),
            instance: live.instance,
            generation: self.generation,
            time_ms: cx.now.wall_ms,
            outcome: outcome.cloned(),
        })
    }

    /// The events of an end: the error, if it was one, before the stop.
    fn events_of_end(&self, outcome: &Outcome, cx: &Context<'_>) -> Vec<Event> {
        let error = is_error(outcome).then(|| self.event(HookKind::Error, Some(outcome), cx)).flatten();
        // An instance that never started has no stop event.
        let stopped = outcome.reason != ExitReason::StartFailed;
        let stop = stopped.then(|| self.event(HookKind::Stop, Some(outcome), cx)).flatten();
        error.into_iter().chain(stop).collect()
    }

    /// It is stopping without an order of this run of the edge: an earlier run gave it, or the node drains.
    fn stopping(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        let recovering = matches!(live.stage, Stage::Recovering);
        let sent = live.recalled_order(false);
        let killed_ms = sent.as_ref().map(|stop| cx.now.mono_ms.saturating_add(stop.grace_ms));
        live.stage = Stage::Stopping { unsent: None, sent, killed_ms };
        if !recovering {
            self.last_change_ms = cx.now.wall_ms;
        }
        self.hasten(cx);
    }

    /// Its node has reported all its instances.
    pub(crate) fn synced(&mut self, reported: &HashSet<InstanceId>, kept: Kept, cx: &mut Context<'_>) {
        let live = self.state.live();
        match &live.stage {
            // Its start was not sent yet.
            Stage::Placing { .. } | Stage::Refused { .. } => {}
            _ if !reported.contains(&live.instance) => {
                let lost =
                    Outcome::because(ExitReason::RuntimeLost, "the node does not have the instance any more");
                let metered = live.lost(kept, cx.now.wall_ms);
                self.exited(lost, metered, cx);
            }
            Stage::Stopping { unsent: None, sent: Some(sent), .. } => {
                // The order may have been lost with the connection.
                cx.emit(Effect::Stop { node: live.node.clone(), stop: sent.clone() });
            }
            _ => {}
        }
    }

    fn exited(&mut self, outcome: Outcome, metered: Option<Metered>, cx: &mut Context<'_>) {
        let live = self.state.live();
        let outcome = live.explain(outcome);
        let starting = matches!(live.stage, Stage::Starting { .. } | Stage::Running { .. });
        // An instance without a port may do its work and exit before its node reports it running.
        let done = starting && live.class.default_port.is_none() && outcome.code == Some(0);
        let starting = starting && !done;
        self.crashes = crashes::failed(&outcome, starting).then(|| {
            let version = live.class.of_app.version;
            Crashes::after(self.crashes, version, live.healthy_since_ms, &cx.config.backoff, cx.now)
        });
        if starting {
            if !is_error(&outcome) {
                // It has exited well, and before it was ready.
                self.note_failure(&outcome, cx.now.wall_ms);
            }
            self.refuse_all(&Refused::StartFailed(outcome.clone()), cx);
        } else if done {
            self.ready(cx);
        }
        self.end(outcome, metered, cx);
    }

    /// Keeps a failure, which is written with the end, and lets the oldest go.
    fn note_failure(&mut self, outcome: &Outcome, time_ms: u64) {
        let instance = self.state.live().instance;
        self.failures.truncate(MAX_FAILURES - 1);
        self.failures.insert(0, Failure { time_ms, instance, outcome: outcome.clone() });
    }

    /// The instance has ended: persists that with its usage, and then has the node forget it.
    pub(super) fn end(&mut self, outcome: Outcome, metered: Option<Metered>, cx: &mut Context<'_>) {
        let live = self.state.live();
        let (node, instance, class) = (live.node.clone(), live.instance, Arc::clone(&live.class));
        let usage = metered.map(|metered| self.usage(live, metered, &outcome));
        let extras = CommitExtras { events: self.events_of_end(&outcome, cx), usage };
        if is_error(&outcome) {
            self.note_failure(&outcome, cx.now.wall_ms);
        }
        let persist = cx.ids.persist();
        self.last_change_ms = cx.now.wall_ms;
        self.exit = Some(outcome.clone());
        self.note_comeback(outcome.reason, &class);
        self.last_node = is_good_again(outcome.reason).then(|| node.clone());
        cx.emit(Effect::Unreserve { object: self.id, generation: self.generation, node: node.clone() });
        self.confirm_orders(cx);
        let (extras_again, returned) = (extras.clone(), None);
        self.state =
            State::Ending { node, instance, persist, retry_ms: None, extras: extras_again, returned };
        self.persist(persist, self.stopped(), extras, cx);
    }

    /// Ends the instance as a user ordered.
    pub(crate) fn end_as_ordered(&mut self, order: EndOrder, waiter: WaiterId, cx: &mut Context<'_>) {
        // Else requests from before the order would start it again at once.
        if !matches!(self.state, State::Ending { .. }) {
            self.refuse_all(&Refused::Ended, cx);
        }
        self.forgo_comeback(cx);
        let State::Live(live) = &mut self.state else {
            return cx.emit(Effect::Ordered { waiter });
        };
        if live.orders.len() >= cx.config.max_waiters_per_object {
            return cx.emit(Effect::Refuse { waiter, refused: Refused::Overloaded });
        }
        live.orders.push(waiter);
        let (reason, stop) = live.ordered(order);
        match live.stage {
            Stage::Placing { .. } | Stage::Refused { .. } => live.cancelled = Some(reason),
            _ => self.stop_with(reason, stop, true, cx),
        }
    }

    /// Tells those who ordered it to end that this could not be made durable.
    pub(super) fn deny_orders(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        for waiter in live.orders.drain(..) {
            cx.emit(Effect::Refuse { waiter, refused: Refused::Store });
        }
    }

    /// Confirms all orders to end it: they are persisted and sent.
    pub(super) fn confirm_orders(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        for waiter in live.orders.drain(..) {
            cx.emit(Effect::Ordered { waiter });
        }
    }

    /// Ends the instance: persists the reason and the order, and then sends the order to the node.
    pub(super) fn stop(&mut self, reason: ExitReason, cx: &mut Context<'_>) {
        let live = self.state.live();
        let stop = live.order(reason);
        self.stop_with(reason, stop, reason != ExitReason::Idle, cx);
    }

    fn stop_with(&mut self, reason: ExitReason, stop: Stop, binding: bool, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        let (signal, grace_ms, message) = (stop.signal, stop.grace_ms, live.message.clone());
        live.stop = Some(Box::new(StopRecord { signal, grace_ms, binding, message }));
        let killed_ms = match live.stage {
            Stage::Stopping { killed_ms, .. } => killed_ms,
            _ => None,
        };
        let unsent = Some((cx.ids.persist(), stop.clone()));
        live.stage = Stage::Stopping { unsent, sent: Some(stop), killed_ms };
        live.stop_reason = Some(reason);
        self.last_change_ms = cx.now.wall_ms;
        self.persist_live(cx);
    }
}

/// Whether an end is an error: the app's failure, or the loss of the instance with its node or its node's runtime.
fn is_error(outcome: &Outcome) -> bool {
    let lost = matches!(outcome.reason, ExitReason::RuntimeLost | ExitReason::NodeLost);
    lost || crashes::failed(outcome, false)
}
