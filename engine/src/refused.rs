//! Why a request cannot be served.

use berth_common::ids::NodeId;
use berth_common::outcome::Outcome;
use berth_common::wire::call::Refusal;

/// Why a request cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No node is connected that takes instances.
    #[error("no node is connected that takes instances")]
    NoNode,
    /// All nodes are full.
    #[error("no node has room: {what}")]
    NoCapacity {
        /// What there is too little of.
        what: String,
    },
    /// The class has as many instances as it may.
    #[error("the class has its {limit} instances (max_instances)")]
    ClassLimit {
        /// How many it may have.
        limit: u32,
    },
    /// The app's instances take as much as they may.
    #[error("the app's instances have the {what} that they may have together (`limits` in its berth.toml)")]
    AppLimit {
        /// What there is no more of, and how much that is.
        what: String,
    },
    /// Its instances failed again and again, and the next try is later than the request can wait.
    #[error(
        "the object's container failed {failures} times in a row; it is started again in {} s at the earliest",
        retry_ms.div_ceil(1000)
    )]
    CrashLoop {
        /// How many times.
        failures: u32,
        /// When the next try may be, in milliseconds from now.
        retry_ms: u64,
    },
    /// Only an order starts instances of this class.
    #[error(
        "the object is stopped, and requests do not start it (manual_start): start it with `berth containers start`"
    )]
    ManualStart,
    /// Somebody ended the instance while the request waited for it.
    #[error("the instance was ended on request before it answered")]
    Ended,
    /// The instance was not started in time.
    #[error("the instance was not started in time (start_timeout)")]
    StartTimeout,
    /// The instance runs but its port took no connection in time.
    #[error("the instance runs, but nothing listened on its port {port} in time (port_timeout)")]
    PortTimeout {
        /// The port.
        port: u16,
    },
    /// The instance ended while it was being started.
    #[error("the instance could not be started: {}", describe(.0))]
    StartFailed(Outcome),
    /// The node would not start it.
    #[error("the node refused to start the instance: {0}")]
    StartRefused(Refusal),
    /// Too many requests wait for the object.
    #[error("too many requests wait for this object")]
    Overloaded,
    /// The instance is ending and did not do so in time for a new one.
    #[error("the instance is stopping; a new one starts once it has ended")]
    Stopping,
    /// The instance's node is not connected.
    #[error("node {0}, which runs the instance, is not connected")]
    NodeUnreachable(NodeId),
    /// The edge's store cannot be used.
    #[error("the edge could not read or write the object's state")]
    Store,
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome { message: Some(message), .. } => message.clone(),
        Outcome { code: Some(code), .. } => format!("it exited with code {code} before its port answered"),
        Outcome { signal: Some(signal), .. } => format!("signal {signal} ended it before its port answered"),
        Outcome { reason, .. } => format!("it ended before its port answered ({reason:?})"),
    }
}
