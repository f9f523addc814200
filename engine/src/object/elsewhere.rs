//! A start that its node refuses is tried on another, for those who wait.
//!
//! ```text
//! Starting ── refused, may help elsewhere ──▶ Refused ── room elsewhere ──▶ Placing (the next generation)
//!     │                                          └── none, or nobody waits any more ──┐
//!     └── refused for good, or by the last node that is tried ─────────────────────────┴──▶ Ending
//! ```
//!
//! What fails, and what happens then:
//! * The edge dies in between: the record names the node that has refused, which reports no such instance, and it has ended.
//! * No other node has room: requests are refused with what the last node said.

use berth_common::ids::{Generation, InstanceId, NodeId};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::wire::call::{Refusal, RefusalCode};

use super::live::{Live, Stage};
use super::{Object, State};
use crate::context::Context;
use crate::effect::Effect;
use crate::fleet::Demand;
use crate::refused::Refused;

/// How many nodes one start is tried on: each takes a write and a round trip of those who wait.
const MAX_NODES_TRIED: usize = 4;

/// Whether another node may take what one has refused for this reason.
fn may_help(code: RefusalCode) -> bool {
    match code {
        RefusalCode::Capacity
        | RefusalCode::Draining
        | RefusalCode::Image
        | RefusalCode::Lapsed
        | RefusalCode::Other => true,
        RefusalCode::Invalid | RefusalCode::Stale | RefusalCode::NotOwner | RefusalCode::NoInstance => false,
    }
}

impl Object {
    /// The node has refused to start the instance, which therefore does not exist.
    pub(crate) fn start_refused(&mut self, instance: InstanceId, refusal: Refusal, cx: &mut Context<'_>) {
        let State::Live(live) = &mut self.state else { return };
        if live.instance != instance {
            return;
        }
        live.refused_by.insert(live.node.clone());
        let starting = matches!(live.stage, Stage::Starting { .. });
        let tried = live.refused_by.len();
        let elsewhere = starting && may_help(refusal.code) && tried < MAX_NODES_TRIED;
        if !starting {
            // It was to end anyway. Who waits by now waits for the next one.
            let reason = live.stop_reason.unwrap_or(ExitReason::StartFailed);
            return self.end(Outcome::because(reason, refusal.message), None, cx);
        }
        live.stage = Stage::Refused { refusal };
        if elsewhere && !self.waiters.is_empty() { self.seek_another(cx) } else { self.end_refused(cx) }
    }

    fn seek_another(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live();
        let mut demand = Demand::of(&self.key, self.generation.next(), &live.class);
        demand.refused_by.clone_from(&live.refused_by);
        let (object, generation, node) = (self.id, self.generation, live.node.clone());
        cx.emit(Effect::Unreserve { object, generation, node });
        cx.emit(Effect::Reserve(demand));
    }

    /// The answer to the search for another node.
    pub(super) fn reserved_elsewhere(
        &mut self,
        generation: Generation,
        result: Result<(NodeId, InstanceId), Refused>,
        cx: &mut Context<'_>,
    ) {
        let live = self.state.live();
        match result {
            Ok((node, instance)) if live.cancelled.is_none() && !self.waiters.is_empty() => {
                let (class, stage) = (live.class.clone(), Stage::Placing { persist: cx.ids.persist() });
                let refused_by = live.refused_by.clone();
                let mut next = Live::new(node, instance, class, stage, cx.now.mono_ms);
                next.refused_by = refused_by;
                self.place(next, generation, cx);
            }
            Ok((node, _)) => {
                cx.emit(Effect::Unreserve { object: self.id, generation, node });
                self.end_refused(cx);
            }
            Err(_) => self.end_refused(cx),
        }
    }

    /// No node takes it.
    fn end_refused(&mut self, cx: &mut Context<'_>) {
        let live = self.state.live();
        let Stage::Refused { refusal } = &live.stage else { return };
        let reason = live.cancelled.unwrap_or(ExitReason::StartFailed);
        let outcome = Outcome::because(reason, refusal.message.clone());
        let refused = match refusal.code {
            RefusalCode::Capacity | RefusalCode::Draining => {
                Refused::NoCapacity { what: refusal.message.clone() }
            }
            _ => Refused::StartRefused(refusal.clone()),
        };
        self.refuse_all(&refused, cx);
        self.end(outcome, None, cx);
    }
}
