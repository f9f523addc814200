//! The timers of an object. The next one follows from its state alone.

use berth_common::outcome::ExitReason;

use super::live::{Live, Stage};
use super::{Object, State};
use crate::context::Context;
use crate::effect::Effect;
use crate::refused::Refused;
use crate::timers::Timer;

impl Object {
    /// The first of its timers, in milliseconds on the monotonic clock.
    pub(crate) fn timer(&self) -> Option<(u64, Timer)> {
        let own = match &self.state {
            State::Live(live) => match live.stage {
                Stage::Starting { deadline_ms } => Some((deadline_ms, Timer::Start)),
                Stage::Running { deadline_ms } => Some((deadline_ms, Timer::Port)),
                Stage::Healthy { asked: Some(question), .. } => Some((question.deadline_ms, Timer::Decide)),
                Stage::Healthy { idle_check_ms, asked: None } => idle_check_ms.map(|at| (at, Timer::Idle)),
                Stage::Placing { .. }
                | Stage::Refused { .. }
                | Stage::Stopping { .. }
                | Stage::Recovering => None,
            },
            State::Delayed { until_ms } => Some((*until_ms, Timer::Backoff)),
            State::Gone => self.crashes.map(|crashes| (crashes.forget_ms(), Timer::Forget)),
            State::Ending { retry_ms, .. } => retry_ms.map(|at| (at, Timer::StoreRetry)),
            State::Loading | State::Reserving { .. } | State::Unplaced => None,
        };
        let waiter = self.waiters.first_deadline_ms().map(|at| (at, Timer::Waiter));
        own.into_iter().chain(waiter).min()
    }

    /// Handles an expired timer.
    pub(crate) fn expired(&mut self, timer: Timer, cx: &mut Context<'_>) {
        match timer {
            Timer::Start => self.give_up(&Refused::StartTimeout, cx),
            Timer::Port => {
                let port = self.state.live().class.default_port.unwrap_or_default();
                self.give_up(&Refused::PortTimeout { port }, cx);
            }
            Timer::Idle => self.check_idle(cx),
            Timer::Decide => self.undecided(cx),
            Timer::Backoff => self.begin(cx),
            Timer::Forget => self.crashes = None,
            Timer::StoreRetry => self.persist_again(cx),
            Timer::Waiter => self.refuse_late(cx),
        }
    }

    /// The instance missed its deadline: ends it.
    fn give_up(&mut self, refused: &Refused, cx: &mut Context<'_>) {
        self.state.live_mut().message = Some(refused.to_string());
        self.refuse_all(refused, cx);
        self.stop(ExitReason::StartFailed, cx);
    }

    fn refuse_late(&mut self, cx: &mut Context<'_>) {
        let refused = match &self.state {
            State::Loading | State::Ending { .. } => Refused::Store,
            State::Unplaced => Refused::NoNode,
            State::Reserving { .. } => Refused::NoTurn,
            State::Delayed { .. } | State::Gone => Refused::StartTimeout,
            State::Live(live) => timeout_reason(live, cx.now.mono_ms),
        };
        for waiter in self.waiters.take_late(cx.now.mono_ms) {
            cx.emit(Effect::Refuse { waiter, refused: refused.clone() });
        }
        self.leave_if_unwanted(cx);
    }
}

/// Why a request is refused that has waited too long for the instance.
fn timeout_reason(live: &Live, now_ms: u64) -> Refused {
    match live.stage {
        Stage::Placing { .. } => Refused::Store,
        Stage::Recovering => Refused::NodeUnreachable { node: live.node.clone(), retry_ms: None },
        Stage::Stopping { killed_ms, .. } => {
            let left_ms = killed_ms.map(|at| at.saturating_sub(now_ms));
            Refused::Stopping { retry_ms: left_ms.filter(|left| *left > 0) }
        }
        Stage::Running { .. } => Refused::PortTimeout { port: live.class.default_port.unwrap_or_default() },
        Stage::Refused { .. } | Stage::Starting { .. } | Stage::Healthy { .. } => Refused::StartTimeout,
    }
}
