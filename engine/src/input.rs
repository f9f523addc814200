//! What the engine is told.

use std::collections::HashSet;
use std::sync::Arc;

use berth_common::ids::{Generation, InstanceId, NodeId, ObjectId, ObjectKey};
use berth_common::spec::ClassSpec;
use berth_common::wire::call::{InstanceStatus, Refusal};

use crate::ids::{HoldId, PersistId, WaiterId};
use crate::record::Record;
use crate::refused::Refused;

/// The time, twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back: deadlines are measured on it.
    pub mono_ms: u64,
    /// Milliseconds since 1970: only shown to people.
    pub wall_ms: u64,
}

/// How somebody wants an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOrder {
    /// With a signal, and SIGKILL after a while.
    Stop {
        /// Number of the signal; SIGTERM unless given.
        signal: Option<i32>,
        /// How long after it SIGKILL follows, in milliseconds; as the class says unless given.
        grace_ms: Option<u64>,
    },
    /// With SIGKILL, now.
    Destroy,
}

/// What is known of the time before a node told of its instances, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Since when it has lost nothing, where it says so.
    pub since_ms: Option<u64>,
    /// Until when it was connected before.
    pub heard_ms: Option<u64>,
}

impl Kept {
    /// Whether it is known that the node has lost what it had since it was heard last.
    pub fn lost_since_heard(&self) -> bool {
        self.since_ms.zip(self.heard_ms).is_some_and(|(since, heard)| since >= heard)
    }
}

/// The store could not read or write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreFailure(String);

impl StoreFailure {
    /// A failure with its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// A request wants an instance of an object.
    Acquire {
        /// The object.
        key: ObjectKey,
        /// Its class as it is now; an instance that runs keeps the one that it was started with.
        class: Arc<ClassSpec>,
        /// The request.
        waiter: WaiterId,
    },
    /// A request has gone away before it was answered.
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
    /// Somebody wants the object's instance ended; answered with `Ordered`.
    End {
        /// The object.
        object: ObjectId,
        /// How.
        order: EndOrder,
        /// Who asks.
        waiter: WaiterId,
    },
    /// Activity that holds nothing: a message on a WebSocket.
    Touch {
        /// The object.
        object: ObjectId,
        /// The instance; activity of an earlier one means nothing.
        instance: InstanceId,
    },
    /// The class's hook has answered whether an instance without activity may end.
    Decided {
        /// The object.
        object: ObjectId,
        /// The instance that was asked about.
        instance: InstanceId,
        /// The event's time, which tells one question from another.
        asked_ms: u64,
        /// Whether it is to be kept.
        renew: bool,
    },
    /// Answers `Load`.
    Loaded {
        /// The object.
        object: ObjectId,
        /// What the store has, if anything.
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
        /// Which one.
        persist: PersistId,
        /// Whether it is durable now.
        result: Result<(), StoreFailure>,
    },
    /// The node will not start the instance; nothing of it exists.
    StartRefused {
        /// The object.
        object: ObjectId,
        /// The instance.
        instance: InstanceId,
        /// Why.
        refusal: Refusal,
    },
    /// A node tells the state of an instance.
    Status {
        /// The node.
        node: NodeId,
        /// The state.
        status: InstanceStatus,
    },
    /// A node has told everything since it was connected.
    Synced {
        /// The node.
        node: NodeId,
        /// What it told of, and what it is still to be asked to start.
        instances: HashSet<InstanceId>,
        /// What can be said of those that it did not tell of.
        kept: Kept,
    },
}
