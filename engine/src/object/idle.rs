//! An instance without activity is put to sleep, unless its class's hook decides to keep it.
//!
//! ```text
//! Healthy ── sleep_after without activity ─▶ (hook asked?) ──no──▶ Stopping, idle
//!    ▲                                          │ yes
//!    └── renew, or activity meanwhile ◀───── Healthy, asked ── another answer, or none in time ──▶ Stopping, idle
//! ```
//!
//! A request that comes while it ends for idleness shortens what is left of its grace to the class's `wake_grace`, and
//! waits that long and then for the next instance's start.
//!
//! What fails, and what happens then:
//! * The question cannot be written or delivered, or the hook does not answer within `ANSWER_TIMEOUT_MS`: it is
//!   stopped.
//! * The answer is late or for an earlier instance: it is ignored.
//! * The edge restarts meanwhile: once the node reports the instance ready, its idle time starts anew.

use berth_common::ids::InstanceId;
use berth_common::outcome::ExitReason;
use berth_common::spec::HookKind;
use berth_common::wire::call::Stop;

use super::live::{Question, Stage};
use super::{Object, State, ms};
use crate::context::Context;
use crate::effect::Effect;

/// How long a hook may take to decide, in milliseconds: its answer timeout and one retry.
const ANSWER_TIMEOUT_MS: u64 = 30_000;

impl Object {
    /// Sends the order to end the instance, whose reason is written by now.
    pub(super) fn send_stop(&mut self, stop: Stop, cx: &mut Context<'_>) {
        let waited_for = !self.waiters.is_empty();
        let live = self.state.live_mut();
        let wake_ms = ms(live.class.wake_grace);
        let hastened = waited_for && live.ends_idle();
        let grace_ms = if hastened { stop.grace_ms.min(wake_ms) } else { stop.grace_ms };
        let stop = Stop { grace_ms, ..stop };
        if let Stage::Stopping { sent, killed_ms, .. } = &mut live.stage {
            let at_ms = cx.now.mono_ms.saturating_add(grace_ms);
            *killed_ms = Some(killed_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
            *sent = Some(stop.clone());
        }
        cx.emit(Effect::Stop { node: live.node.clone(), stop });
    }

    /// Has a stop for idleness end sooner if a request waits for it.
    pub(super) fn hasten(&mut self, cx: &mut Context<'_>) {
        let State::Live(live) = &self.state else { return };
        let Stage::Stopping { unsent: None, sent: Some(sent), killed_ms: Some(killed_ms) } = &live.stage
        else {
            return;
        };
        let latest_ms = cx.now.mono_ms.saturating_add(ms(live.class.wake_grace));
        if live.ends_idle() && !self.waiters.is_empty() && *killed_ms > latest_ms {
            let sent = sent.clone();
            self.send_stop(sent, cx);
        }
    }

    /// When a request that comes now is to be answered, if the instance ends for idleness: once that is over and another
    /// was started.
    pub(super) fn behind_sleep_ms(&self, now_ms: u64) -> Option<u64> {
        let State::Live(live) = &self.state else { return None };
        let Stage::Stopping { killed_ms, .. } = live.stage else { return None };
        let latest_ms = now_ms.saturating_add(ms(live.class.wake_grace));
        let ends_ms = killed_ms.map_or(latest_ms, |at| at.min(latest_ms)).max(now_ms);
        live.ends_idle().then_some(ends_ms)
    }

    pub(super) fn check_idle(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        let idle_at = live.idle_at_ms();
        if !live.holds.is_empty() {
            // The last release schedules the next check.
            live.stage = Stage::Healthy { idle_check_ms: None, asked: None };
        } else if idle_at.is_none_or(|idle_at| idle_at > cx.now.mono_ms) {
            live.stage = Stage::Healthy { idle_check_ms: idle_at, asked: None };
        } else {
            self.ask_or_stop(cx);
        }
    }

    fn ask_or_stop(&mut self, cx: &mut Context<'_>) {
        let Some(event) = self.event(HookKind::ActivityExpired, None, cx) else {
            return self.stop(ExitReason::Idle, cx);
        };
        let live = self.state.live_mut();
        let deadline_ms = cx.now.mono_ms.saturating_add(ANSWER_TIMEOUT_MS);
        let asked = Question { asked_ms: event.time_ms, deadline_ms };
        live.stage = Stage::Healthy { idle_check_ms: None, asked: Some(asked) };
        let record = live.record();
        self.persist(cx.ids.persist(), record, event.into(), cx);
    }

    /// The class's hook has answered.
    pub(crate) fn decided(&mut self, instance: InstanceId, asked_ms: u64, renew: bool, cx: &mut Context<'_>) {
        // A late answer: the instance that it is about has ended.
        let State::Live(live) = &mut self.state else { return };
        let current =
            matches!(live.stage, Stage::Healthy { asked: Some(asked), .. } if asked.asked_ms == asked_ms);
        if live.instance != instance || !current {
            return;
        }
        if renew {
            live.active(cx.now.mono_ms);
        } else {
            self.undecided(cx);
        }
    }

    /// No decision to keep it: stops it, unless a request holds it by now.
    pub(super) fn undecided(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        if live.holds.is_empty() {
            self.stop(ExitReason::Idle, cx);
        } else {
            live.stage = Stage::Healthy { idle_check_ms: None, asked: None };
        }
    }
}
