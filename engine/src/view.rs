//! Objects as users and the admin API see them.
use berth_common::ids::{Generation, InstanceId, NodeId, ObjectId, ObjectKey, Version};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::Resources;
use serde::Serialize;

use crate::record::{Failure, Record, RecordState};

/// The state of an object as shown to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PublicState {
    /// It has no instance.
    Stopped,
    /// Its instance is starting or running, and not yet known to answer.
    Running,
    /// Its instance answers.
    Healthy,
    /// Its instance was ordered to end.
    Stopping,
    /// It has no instance, and the last one exited by itself with a code other than 0.
    StoppedWithCode,
}

impl PublicState {
    /// The state of an object whose last instance had this outcome.
    pub(crate) fn ended(outcome: Option<&Outcome>) -> Self {
        match outcome {
            Some(Outcome { reason: ExitReason::Exit, code: Some(code), .. }) if *code != 0 => {
                Self::StoppedWithCode
            }
            _ => Self::Stopped,
        }
    }
}

/// An object whose instances failed several times in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CrashLoop {
    /// How many in a row.
    pub failures: u32,
    /// When the next one may be started, in milliseconds since 1970.
    pub next_try_ms: u64,
}

/// An object as shown to users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectView {
    /// Its id.
    pub id: ObjectId,
    /// App, class and name.
    pub key: ObjectKey,
    /// Its state.
    pub state: PublicState,
    /// The node of its instance.
    pub node: Option<NodeId>,
    /// Its instance.
    pub instance: Option<InstanceId>,
    /// Its newest generation.
    pub generation: Generation,
    /// When its state last changed, in milliseconds since 1970.
    pub last_change_ms: u64,
    /// How its last instance ended.
    pub exit: Option<Outcome>,
    /// The version of the app that its instance is of.
    pub version: Option<Version>,
    /// Since when its instance is known to run, in milliseconds since 1970.
    pub running_since_ms: Option<u64>,
    /// The limits of its instance.
    pub resources: Option<Resources>,
    /// Set if its instances failed several times in a row.
    pub crash_loop: Option<CrashLoop>,
    /// Its last failures, the newest first.
    pub failures: Vec<Failure>,
}

impl From<&Record> for ObjectView {
    /// For an object that is only in the store. One with an instance is in the engine; from its record alone it counts
    /// as running.
    fn from(record: &Record) -> Self {
        let (state, placed, exit) = match &record.state {
            RecordState::Stopped { outcome, .. } => {
                (PublicState::ended(outcome.as_ref()), None, outcome.clone())
            }
            RecordState::Placed { node, instance, class, .. } => {
                (PublicState::Running, Some((node, instance, class.of_app.version)), None)
            }
        };
        Self {
            id: record.key.id(),
            key: record.key.clone(),
            state,
            node: placed.map(|(node, ..)| node.clone()),
            instance: placed.map(|(_, instance, _)| *instance),
            generation: record.generation,
            last_change_ms: record.last_change_ms,
            exit,
            version: placed.map(|(.., version)| version),
            running_since_ms: None,
            resources: None,
            crash_loop: None,
            failures: record.failures.clone(),
        }
    }
}
