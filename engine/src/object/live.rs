//! One instance as the edge knows it, from its placement to its end: its stage and its holds.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use berth_common::ids::{Generation, InstanceId, NodeId, ObjectKey};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::ClassSpec;
use berth_common::wire::call::{Refusal, Start, Stop};

use super::{SIGKILL, SIGTERM, ms};
use crate::ids::{HoldId, PersistId, WaiterId};
use crate::input::EndOrder;
use crate::record::{RecordState, StopRecord};
use crate::view::PublicState;

/// An instance that runs, or may run.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) node: NodeId,
    pub(super) instance: InstanceId,
    pub(super) class: Arc<ClassSpec>,
    pub(super) stage: Stage,
    pub(super) holds: HashSet<HoldId>,
    last_activity_ms: u64,
    /// When it was placed, and since when it is known to run, in milliseconds since 1970.
    pub(super) placed_ms: u64,
    pub(super) running_since_ms: Option<u64>,
    /// When its port first answered.
    pub(super) healthy_since_ms: Option<u64>,
    /// Why it was ordered to end.
    pub(super) stop_reason: Option<ExitReason>,
    /// The order to end it, as it is or will be durable.
    pub(super) stop: Option<Box<StopRecord>>,
    /// Orders to end it that are not confirmed yet.
    pub(super) orders: Vec<WaiterId>,
    /// An order came while its placement is being written: it ends then, without being started.
    pub(super) cancelled: Option<ExitReason>,
    /// The nodes that have refused it, this one included once it has.
    pub(super) refused_by: BTreeSet<NodeId>,
    /// The message of the failure that made Berth end it.
    pub(super) message: Option<String>,
    /// Whether the hook's start event was emitted.
    pub(super) announced: bool,
}

/// The stage of an instance's life.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its placement is being written.
    Placing { persist: PersistId },
    /// Its node has refused it, and room is sought on another. Its record still names it.
    Refused { refusal: Refusal },
    /// Its start was sent; it must run by the deadline.
    Starting { deadline_ms: u64 },
    /// It runs; its port must answer by the deadline.
    Running { deadline_ms: u64 },
    /// `idle_check_ms`: when to check whether it is idle; moved only when that time has come, not at each request.
    /// `asked`: the question to its class's hook whether it may sleep; activity withdraws it.
    Healthy { idle_check_ms: Option<u64>, asked: Option<Question> },
    /// It is ending. `unsent`: the order, while its reason is being written; `sent`: the order that the node gets, none
    /// if the node ends it by itself; `killed_ms`: when the node kills it at the latest, once the order was sent.
    Stopping { unsent: Option<(PersistId, Stop)>, sent: Option<Stop>, killed_ms: Option<u64> },
    /// It was placed by an earlier run of the edge; its node has not reported it yet.
    Recovering,
}

/// A question to the class's hook, and until when its answer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    /// In milliseconds since 1970.
    pub(super) asked_ms: u64,
    pub(super) deadline_ms: u64,
}

impl Live {
    pub(super) fn new(
        node: NodeId,
        instance: InstanceId,
        class: Arc<ClassSpec>,
        stage: Stage,
        now_ms: u64,
    ) -> Self {
        let holds = HashSet::new();
        Self {
            node,
            instance,
            class,
            stage,
            holds,
            last_activity_ms: now_ms,
            placed_ms: 0,
            running_since_ms: None,
            healthy_since_ms: None,
            stop_reason: None,
            stop: None,
            orders: Vec::new(),
            cancelled: None,
            refused_by: BTreeSet::new(),
            message: None,
            announced: false,
        }
    }

    /// Its record.
    pub(super) fn record(&self) -> RecordState {
        RecordState::Placed {
            node: self.node.clone(),
            instance: self.instance,
            class: Box::new(ClassSpec::clone(&self.class)),
            stop_reason: self.stop_reason,
            announced: self.announced,
            placed_ms: self.placed_ms,
            stop: self.stop.as_deref().cloned(),
        }
    }

    /// Has the state of its record.
    pub(super) fn recall(&mut self, stop_reason: Option<ExitReason>, stop: Option<StopRecord>) {
        self.message = stop.as_ref().and_then(|stop| stop.message.clone());
        (self.stop_reason, self.stop) = (stop_reason, stop.map(Box::new));
    }

    /// The order that an earlier run of the edge gave, if any. `binding`: only one that is carried on although the
    /// instance serves.
    pub(super) fn recalled_order(&self, binding: bool) -> Option<Stop> {
        let reason = self.stop_reason?;
        let usual = self.order(reason);
        let (order, binds) = match &self.stop {
            Some(stop) => (Stop { signal: stop.signal, grace_ms: stop.grace_ms, ..usual }, stop.binding),
            // Earlier versions left the reason in the record of an instance that served on.
            None => (usual, matches!(reason, ExitReason::Stopped | ExitReason::Destroyed)),
        };
        (binds || !binding).then_some(order)
    }

    /// Whether nobody but its idleness ends it.
    pub(super) fn ends_idle(&self) -> bool {
        self.stop_reason == Some(ExitReason::Idle) && self.recalled_order(true).is_none()
    }

    /// It serves on: what an earlier run of the edge decided is dropped.
    pub(super) fn drop_order(&mut self) {
        self.stop_reason = None;
        self.stop = None;
    }

    pub(super) fn public(&self) -> PublicState {
        match self.stage {
            Stage::Recovering if self.recalled_order(true).is_some() => PublicState::Stopping,
            Stage::Placing { .. }
            | Stage::Refused { .. }
            | Stage::Starting { .. }
            | Stage::Running { .. }
            | Stage::Recovering => PublicState::Running,
            Stage::Healthy { .. } => PublicState::Healthy,
            Stage::Stopping { .. } => PublicState::Stopping,
        }
    }

    /// When it is idle if nothing happens until then, if ever.
    pub(super) fn idle_at_ms(&self) -> Option<u64> {
        self.class.sleep_after.time().map(|time| self.last_activity_ms.saturating_add(ms(time)))
    }

    /// Records activity until now, and schedules the idle check if nothing holds the instance.
    pub(super) fn active(&mut self, now_ms: u64) {
        self.last_activity_ms = now_ms;
        let idle_at = self.idle_at_ms();
        if let Stage::Healthy { idle_check_ms, asked } = &mut self.stage {
            *asked = None;
            if self.holds.is_empty() {
                *idle_check_ms = idle_check_ms.or(idle_at);
            }
        }
    }

    pub(super) fn start(&self, key: &ObjectKey, generation: Generation, term_ms: u64) -> Start {
        Start {
            instance: self.instance,
            object: key.clone(),
            generation,
            term_ms,
            until: None,
            recipe: self.class.recipe.clone(),
            ready_port: self.class.default_port,
            required_ports: self.class.required_ports.clone(),
            ping_endpoint: self.class.ping_endpoint.clone(),
            logs: self.class.of_app.logs,
        }
    }

    /// The order to end it for this reason: at once if it never served, otherwise with the class's grace.
    pub(super) fn order(&self, reason: ExitReason) -> Stop {
        let (signal, grace_ms) = match reason {
            ExitReason::StartFailed | ExitReason::Destroyed => (SIGKILL, 0),
            _ => (SIGTERM, ms(self.class.stop_grace)),
        };
        Stop { instance: self.instance, signal, grace_ms }
    }

    /// What a user's order sends to the node, and the reason that the end will have.
    pub(super) fn ordered(&self, order: EndOrder) -> (ExitReason, Stop) {
        let instance = self.instance;
        let killed = matches!(self.stop_reason, Some(ExitReason::Destroyed | ExitReason::StartFailed));
        match order {
            // A later order replaces an earlier one on the node: a stop must not turn a kill into a signal with grace.
            EndOrder::Stop { .. } if killed => self.ordered(EndOrder::Destroy),
            EndOrder::Destroy => (ExitReason::Destroyed, Stop { instance, signal: SIGKILL, grace_ms: 0 }),
            EndOrder::Stop { signal, grace_ms } => {
                let usual = self.order(ExitReason::Stopped);
                let (signal, grace_ms) = (signal.unwrap_or(usual.signal), grace_ms.unwrap_or(usual.grace_ms));
                // An instance that is ending already keeps its reason.
                (self.stop_reason.unwrap_or(ExitReason::Stopped), Stop { instance, signal, grace_ms })
            }
        }
    }

    /// The outcome with Berth's reason if Berth ended the instance; exit code and signal stay.
    pub(super) fn explain(&self, outcome: Outcome) -> Outcome {
        let own = matches!(outcome.reason, ExitReason::Exit | ExitReason::Signal | ExitReason::Stopped);
        match self.stop_reason {
            Some(reason) if own => {
                Outcome { reason, message: self.message.clone().or(outcome.message), ..outcome }
            }
            _ => outcome,
        }
    }
}
