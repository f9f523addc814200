//! One instance as the edge knows it, from its placement to its end: where it is in its life and what holds it.

use std::collections::HashSet;
use std::sync::Arc;

use berth_common::ids::{Generation, InstanceId, NodeId, ObjectKey};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::ClassSpec;
use berth_common::wire::call::{Start, Stop};

use super::{SIGKILL, SIGTERM, ms};
use crate::ids::{HoldId, PersistId, WaiterId};
use crate::input::EndOrder;
use crate::record::RecordState;
use crate::view::PublicState;

/// An instance that lives, or may live.
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
    /// Why it was told to end.
    pub(super) stop_reason: Option<ExitReason>,
    /// Who ordered its end and is still to be told that this is written.
    pub(super) orders: Vec<WaiterId>,
    /// It is to end as soon as its placement is written, and never to be started.
    pub(super) cancelled: Option<ExitReason>,
    /// What was said of the failure that made Berth end it.
    pub(super) message: Option<String>,
    /// Whether its class's hook is told that it takes requests.
    pub(super) announced: bool,
}

/// Where an instance is in its life.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its placement is being written.
    Placing { persist: PersistId },
    /// It was asked for, and must run by then.
    Starting { deadline_ms: u64 },
    /// It runs, and its port must answer by then.
    Running { deadline_ms: u64 },
    /// `idle_check_ms`: when to look whether it is idle; moved only when that time has come, not at each request.
    /// `asked`: its class's hook decides whether it may end, unless there is activity before.
    Healthy { idle_check_ms: Option<u64>, asked: Option<Question> },
    /// It is to end. `unsent`: the order, while the reason for it is being written; `sent`: the order that the node
    /// has, none where the node ends it by itself.
    Stopping { unsent: Option<(PersistId, Stop)>, sent: Option<Stop> },
    /// It was there when the edge ended; what has become of it, its node will tell.
    Recovering,
}

/// What a class's hook was asked, and until when its answer counts.
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
            orders: Vec::new(),
            cancelled: None,
            message: None,
            announced: false,
        }
    }

    /// What is written of it.
    pub(super) fn record(&self) -> RecordState {
        RecordState::Placed {
            node: self.node.clone(),
            instance: self.instance,
            class: Box::new(ClassSpec::clone(&self.class)),
            stop_reason: self.stop_reason,
            announced: self.announced,
            placed_ms: self.placed_ms,
        }
    }

    pub(super) fn public(&self) -> PublicState {
        match self.stage {
            Stage::Placing { .. } | Stage::Starting { .. } | Stage::Running { .. } | Stage::Recovering => {
                PublicState::Running
            }
            Stage::Healthy { .. } => PublicState::Healthy,
            Stage::Stopping { .. } => PublicState::Stopping,
        }
    }

    pub(super) fn idle_at_ms(&self) -> u64 {
        self.last_activity_ms.saturating_add(ms(self.class.sleep_after))
    }

    /// There was activity until now. If nothing holds the instance, it will be looked at when it may be idle.
    pub(super) fn active(&mut self, now_ms: u64) {
        self.last_activity_ms = now_ms;
        let idle_at = self.idle_at_ms();
        if let Stage::Healthy { idle_check_ms, asked } = &mut self.stage {
            *asked = None;
            if self.holds.is_empty() {
                idle_check_ms.get_or_insert(idle_at);
            }
        }
    }

    pub(super) fn start(&self, key: &ObjectKey, generation: Generation, term_ms: u64) -> Start {
        Start {
            instance: self.instance,
            object: key.clone(),
            generation,
            term_ms,
            recipe: self.class.recipe.clone(),
            ready_port: self.class.default_port,
            required_ports: self.class.required_ports.clone(),
            ping_endpoint: self.class.ping_endpoint.clone(),
            logs: self.class.of_app.logs,
        }
    }

    /// The order to end it for this reason: at once where it never served, otherwise with time to finish.
    pub(super) fn order(&self, reason: ExitReason) -> Stop {
        let (signal, grace_ms) = match reason {
            ExitReason::StartFailed => (SIGKILL, 0),
            _ => (SIGTERM, ms(self.class.stop_grace)),
        };
        Stop { instance: self.instance, signal, grace_ms }
    }

    /// What somebody's order says to the node, and the reason that the end will have.
    pub(super) fn ordered(&self, order: EndOrder) -> (ExitReason, Stop) {
        let instance = self.instance;
        let killed = matches!(self.stop_reason, Some(ExitReason::Destroyed | ExitReason::StartFailed));
        match order {
            // What is killed already must not be asked kindly instead: the later order takes the place of the earlier.
            EndOrder::Stop { .. } if killed => self.ordered(EndOrder::Destroy),
            EndOrder::Destroy => (ExitReason::Destroyed, Stop { instance, signal: SIGKILL, grace_ms: 0 }),
            EndOrder::Stop { signal, grace_ms } => {
                let usual = self.order(ExitReason::Stopped);
                let (signal, grace_ms) = (signal.unwrap_or(usual.signal), grace_ms.unwrap_or(usual.grace_ms));
                // One that is ending already keeps the reason that it has.
                (self.stop_reason.unwrap_or(ExitReason::Stopped), Stop { instance, signal, grace_ms })
            }
        }
    }

    /// An end that Berth asked for has Berth's reason; how the app answered stays with it.
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
