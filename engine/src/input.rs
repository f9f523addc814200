//! The inputs of the engine.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use berth_common::ids::{Generation, InstanceId, NodeId, ObjectId, ObjectKey};
use berth_common::spec::{ClassSpec, NODE_LOSS_BOUNDS, TimeOrNever};
use berth_common::wire::call::{InstanceStatus, Refusal};

use crate::ids::{HoldId, PersistId, WaiterId};
use crate::record::Record;
use crate::refused::Refused;

/// The current time on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, in milliseconds: for deadlines.
    pub mono_ms: u64,
    /// Milliseconds since 1970: for records and people, never for deadlines.
    pub wall_ms: u64,
}

/// How a user wants an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOrder {
    /// With a signal, and with SIGKILL after a grace period.
    Stop {
        /// Number of the signal; SIGTERM if not given.
        signal: Option<i32>,
        /// The grace period in milliseconds; the class's `stop_grace` if not given.
        grace_ms: Option<u64>,
    },
    /// With SIGKILL, now.
    Destroy,
}

/// How reliable a node's report is about instances that it leaves out. Times in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Since when the node has lost no record of an instance, if it reports that.
    pub since_ms: Option<u64>,
    /// When the node was last connected before this report.
    pub heard_ms: Option<u64>,
}

impl Kept {
    /// Whether the node certainly lost records after it was last connected.
    pub fn lost_since_heard(&self) -> bool {
        self.since_ms.zip(self.heard_ms).is_some_and(|(since, heard)| since >= heard)
    }
}

/// How long a node was silent on which nothing of this edge runs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// When it was last heard of, in milliseconds since 1970.
    pub heard_ms: u64,
    /// How long ago the term that it had was over. None: it is known to be gone, and nothing is to wait for it.
    pub over_for: Option<Duration>,
}

impl Silence {
    /// Whether an instance that counts as lost after such a time, at the most, is still waited for.
    pub(crate) fn is_waited_out(&self, node_loss: TimeOrNever) -> bool {
        let Some(over_for) = self.over_for else { return false };
        node_loss.time().is_none_or(|time| over_for < time.saturating_sub(*NODE_LOSS_BOUNDS.start()))
    }
}

/// A read or write of the store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreFailure(String);

impl StoreFailure {
    /// A failure with this message.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Something that happened outside the engine.
#[derive(Debug, Clone)]
pub enum Input {
    /// A request wants an instance of an object.
    Acquire {
        /// The object.
        key: ObjectKey,
        /// Its class as deployed now; a running instance keeps the one that it was started with.
        class: Arc<ClassSpec>,
        /// The request.
        waiter: WaiterId,
    },
    /// A request was cancelled before it was answered.
    Cancel {
        /// The object that it waited for.
        object: ObjectId,
        /// The request.
        waiter: WaiterId,
    },
    /// A request has finished.
    Release {
        /// The object that it held.
        object: ObjectId,
        /// Its hold.
        hold: HoldId,
    },
    /// A user orders the object's instance to end; answered with `Ordered`.
    End {
        /// The object.
        object: ObjectId,
        /// How.
        order: EndOrder,
        /// The request that gives the order.
        waiter: WaiterId,
    },
    /// Activity that holds nothing: a message on a WebSocket.
    Touch {
        /// The object.
        object: ObjectId,
        /// The instance; activity of an earlier one is ignored.
        instance: InstanceId,
    },
    /// The class's hook has answered whether an instance without activity may end.
    Decided {
        /// The object.
        object: ObjectId,
        /// The instance that was asked about.
        instance: InstanceId,
        /// The time of the event that asked, which identifies the question.
        asked_ms: u64,
        /// Whether it is to be kept.
        renew: bool,
    },
    /// Answers `Load`.
    Loaded {
        /// The object.
        object: ObjectId,
        /// The stored record, if there is one.
        record: Result<Option<Record>, StoreFailure>,
    },
    /// Answers `Reserve`.
    Reserved {
        /// The object.
        object: ObjectId,
        /// The generation that room was asked for.
        generation: Generation,
        /// The node, and a new id for the instance.
        result: Result<(NodeId, InstanceId), Refused>,
    },
    /// Answers `Persist`.
    Persisted {
        /// The object.
        object: ObjectId,
        /// The write.
        persist: PersistId,
        /// Whether the record is durable now.
        result: Result<(), StoreFailure>,
    },
    /// The node refused to start the instance, which therefore does not exist.
    StartRefused {
        /// The object.
        object: ObjectId,
        /// The instance.
        instance: InstanceId,
        /// Why.
        refusal: Refusal,
    },
    /// A start was never sent, because its instance was to end before that was possible. It does not exist.
    NeverBegan {
        /// The object.
        object: ObjectId,
        /// The instance.
        instance: InstanceId,
    },
    /// A node reports the state of an instance.
    Status {
        /// The node.
        node: NodeId,
        /// The state.
        status: InstanceStatus,
    },
    /// Nothing of this edge runs on a node any more: it was not heard of for longer than the term that it had, and has paused by
    /// itself what it ran.
    NodeLost {
        /// The node.
        node: NodeId,
        /// How long it was silent. Comes again while it is, as long as anything waits for it.
        silence: Silence,
    },
    /// A node is to be emptied: its instances end, but for those that somebody waits for or holds. To be given again as long as
    /// some are left.
    Drain {
        /// The node.
        node: NodeId,
        /// Whether those end too.
        even_held: bool,
    },
    /// A node takes instances now: it is connected, or no longer drained.
    NodeOpened,
    /// A node has reported all of its instances since it was connected.
    Synced {
        /// The node.
        node: NodeId,
        /// The reported ones, and those whose start is still to be sent.
        instances: HashSet<InstanceId>,
        /// What the report says about instances that it leaves out.
        kept: Kept,
    },
}
