//! An instance without activity is put to sleep, unless its class's hook decides to keep it.
//!
//! ```text
//! Healthy ── sleep_after without activity ─▶ (hook asked?) ──no──▶ Stopping, idle
//!    ▲                                          │ yes
//!    └── renew, or activity meanwhile ◀───── Healthy, asked ── another answer, or none in time ──▶ Stopping, idle
//! ```
//!
//! What fails, and what happens then:
//! * The question cannot be written or delivered, or the hook does not answer within `ANSWER_TIMEOUT_MS`: it is
//!   stopped.
//! * The answer is late or for an earlier instance: it is ignored.
//! * The edge restarts meanwhile: once the node reports the instance ready, its idle time starts anew.

use berth_common::ids::InstanceId;
use berth_common::outcome::ExitReason;
use berth_common::spec::HookKind;

use super::live::{Question, Stage};
use super::{Object, State};
use crate::context::Context;

/// How long a hook may take to decide, in milliseconds: its answer timeout and one retry.
const ANSWER_TIMEOUT_MS: u64 = 30_000;

impl Object {
    pub(super) fn check_idle(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live_mut();
        let idle_at = live.idle_at_ms();
        if !live.holds.is_empty() {
            // The last release schedules the next check.
            live.stage = Stage::Healthy { idle_check_ms: None, asked: None };
        } else if idle_at > cx.now.mono_ms {
            live.stage = Stage::Healthy { idle_check_ms: Some(idle_at), asked: None };
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
