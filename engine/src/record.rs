//! What the store keeps of an object.

use berth_common::ids::{Generation, InstanceId, NodeId, ObjectKey};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::ClassSpec;
use serde::{Deserialize, Serialize};

/// An object as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// App, class and name.
    pub key: ObjectKey,
    /// Its newest generation.
    pub generation: Generation,
    /// Whether it may have an instance.
    pub state: RecordState,
    /// When its state last changed, in milliseconds since 1970.
    pub last_change_ms: u64,
    /// Its last failures, the newest first: [`MAX_FAILURES`] at most. Earlier versions of the edge wrote none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
}

/// How many failures of an object are kept: enough to see whether they are alike, and written with each of its records.
pub const MAX_FAILURES: usize = 5;

/// An instance that has failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When the edge heard of it, in milliseconds since 1970.
    pub time_ms: u64,
    /// The instance.
    pub instance: InstanceId,
    /// How it ended.
    pub outcome: Outcome,
}

/// Whether an object may have an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    /// It has none.
    Stopped {
        /// How the last one ended.
        outcome: Option<Outcome>,
        /// The node that it was on, where the next one would find what it needs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<NodeId>,
    },
    /// It may have one, on this node and nowhere else.
    Placed {
        /// The node.
        node: NodeId,
        /// The instance.
        instance: InstanceId,
        /// The class as it was when the instance was started.
        class: Box<ClassSpec>,
        /// Why it was ordered to end, if it was.
        #[serde(default)]
        stop_reason: Option<ExitReason>,
        /// Whether the hook's start event was written, so that it is sent once.
        #[serde(default)]
        announced: bool,
        /// When it was placed, in milliseconds since 1970.
        #[serde(default)]
        placed_ms: u64,
        /// The order to end it, if one was given. Earlier versions of the edge wrote only `stop_reason`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop: Option<StopRecord>,
    },
}

/// An order to end an instance, as given to its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRecord {
    /// The signal, by number.
    pub signal: i32,
    /// How long after it SIGKILL follows, in milliseconds.
    pub grace_ms: u64,
    /// Whether the next run of the edge carries it on although the instance serves: true but for idleness.
    pub binding: bool,
    /// What the outcome of the instance will say, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
