//! The effects that the engine emits, to be carried out in order.

use berth_common::ids::{Generation, InstanceId, NodeId, ObjectId};
use berth_common::metering::Metered;
use berth_common::outcome::Outcome;
use berth_common::spec::Secrets;
use berth_common::wire::call::{Start, Stop};

use crate::event::Event;
use crate::fleet::Demand;
use crate::ids::{HoldId, PersistId, WaiterId};
use crate::record::Record;
use crate::refused::Refused;
use crate::usage::UsageRecord;

/// Where an object's instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The object.
    pub object: ObjectId,
    /// The node.
    pub node: NodeId,
    /// The instance.
    pub instance: InstanceId,
    /// Its generation.
    pub generation: Generation,
    /// The default port of its class when it was started: a newer version of the app may have another.
    pub default_port: Option<u16>,
}

/// Something for the shell to do. The engine emits nothing that depends on a `Persist` before its `Persisted`.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Read an object's record; answer with `Loaded`.
    Load {
        /// The object.
        object: ObjectId,
    },
    /// Find room on a node; answer with `Reserved`, which may be long after, when its turn comes.
    Reserve(Demand),
    /// Nobody waits for the answer to a `Reserve` as it was: if it has none yet, answer it now, with an error.
    Withdraw {
        /// The object.
        object: ObjectId,
    },
    /// Give room back.
    Unreserve {
        /// The object.
        object: ObjectId,
        /// The generation that it was reserved for.
        generation: Generation,
        /// The node.
        node: NodeId,
    },
    /// Make a record durable, in one commit with its hook events; answer with `Persisted`.
    Persist {
        /// The object.
        object: ObjectId,
        /// Which write this is.
        persist: PersistId,
        /// What to write.
        record: Record,
        /// What the ended instance used, written in the same commit.
        usage: Option<Box<UsageRecord>>,
        /// The events to deliver to hooks, in this order.
        events: Vec<Event>,
    },
    /// Have a node start an instance.
    Start {
        /// The node.
        node: NodeId,
        /// The instance.
        start: Box<Start>,
        /// The secrets to add to its environment, by name: the engine never sees their values.
        secrets: Secrets,
    },
    /// Have a node end an instance.
    Stop {
        /// The node.
        node: NodeId,
        /// The instance, and how.
        stop: Stop,
    },
    /// Have a node thaw an instance that it froze when it had not heard the edge in time.
    Resume {
        /// The node.
        node: NodeId,
        /// The instance.
        instance: InstanceId,
    },
    /// Have a node forget an instance that has ended.
    Forget {
        /// The node.
        node: NodeId,
        /// The instance.
        instance: InstanceId,
        /// The object whose instance it was, and how that has ended, which is durable by now; none for one that no object had.
        ended: Option<(ObjectId, Outcome)>,
    },
    /// An object's instance has ended with its node, which is lost: that is durable by now, and there is nobody to forget it.
    Ended {
        /// The object.
        object: ObjectId,
        /// How it has ended.
        outcome: Outcome,
    },
    /// Write what a node has measured of an instance that no object has any more, in place of an estimate if there is one; then
    /// have the node forget it.
    Measured {
        /// The node.
        node: NodeId,
        /// The instance.
        instance: InstanceId,
        /// Its usage.
        metered: Box<Metered>,
    },
    /// A request may go ahead, and holds the instance from now on.
    Grant {
        /// The request.
        waiter: WaiterId,
        /// Its hold, to be released.
        hold: HoldId,
        /// Where to go.
        placement: Placement,
    },
    /// An order to end an instance has been persisted and sent, or there was no instance to end.
    Ordered {
        /// The request that gave the order.
        waiter: WaiterId,
    },
    /// A request cannot be served.
    Refuse {
        /// The request.
        waiter: WaiterId,
        /// Why.
        refused: Refused,
    },
}
