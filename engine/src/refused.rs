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
        /// Which resource is lacking.
        what: String,
    },
    /// The nodes that have room start as many instances as they do at once, and its turn has not come in time.
    #[error(
        "the nodes start as many instances as they can at once, and this one's turn did not come in time"
    )]
    NoTurn,
    /// The class has reached its limit of instances.
    #[error("the class has its {limit} instances (max_instances)")]
    ClassLimit {
        /// The limit.
        limit: u32,
    },
    /// The app's instances have reached its limit of a resource.
    #[error("the app's instances have the {what} that they may have together (`limits` in its berth.toml)")]
    AppLimit {
        /// The resource and its limit.
        what: String,
    },
    /// Too many objects that have never run were started.
    #[error(
        "this object has never run, and {whose} has started as many new ones as it may (start_rate); try again in {} s",
        retry_ms.div_ceil(1000)
    )]
    StartRate {
        /// Whose limit it is, in words.
        whose: &'static str,
        /// When one more may be started, in milliseconds from now.
        retry_ms: u64,
    },
    /// Its instances failed several times in a row, and the next start is later than the request can wait.
    #[error(
        "the object's container failed {failures} times in a row; it is started again in {} s at the earliest",
        retry_ms.div_ceil(1000)
    )]
    CrashLoop {
        /// How many times.
        failures: u32,
        /// When the next start may be, in milliseconds from now.
        retry_ms: u64,
    },
    /// Requests do not start instances of this class, only an order does.
    #[error(
        "the object is stopped, and requests do not start it (manual_start): start it with `berth containers start`"
    )]
    ManualStart,
    /// A user ended the instance while the request waited for it.
    #[error("the instance was ended on request before it answered")]
    Ended,
    /// The instance was not started in time.
    #[error("the instance was not started in time (start_timeout)")]
    StartTimeout,
    /// The instance runs, but its port accepted no connection in time.
    #[error("the instance runs, but nothing listened on its port {port} in time (port_timeout)")]
    PortTimeout {
        /// The port.
        port: u16,
    },
    /// The instance ended while it was being started.
    #[error("the instance could not be started: {}", describe(.0))]
    StartFailed(Outcome),
    /// The node refused to start it.
    #[error("the node refused to start the instance: {0}")]
    StartRefused(Refusal),
    /// Too many requests wait for the object.
    #[error("too many requests wait for this object")]
    Overloaded,
    /// The instance is stopping and has not ended in time for a new one.
    #[error("the instance is stopping; a new one starts once it has ended{}", at_the_latest(*retry_ms))]
    Stopping {
        /// When it is killed at the latest, in milliseconds from now; `None` if that is not known, or should be over.
        retry_ms: Option<u64>,
    },
    /// The edge that has the object is stopping.
    #[error("the edge is stopping")]
    EdgeStops,
    /// The instance's node is not connected.
    #[error("node {node}, which runs the instance, is not connected")]
    NodeUnreachable {
        /// The node.
        node: NodeId,
        /// When it is given up at the latest, in milliseconds from now, if that is known and to come.
        retry_ms: Option<u64>,
    },
    /// A read or write of the edge's store failed.
    #[error("the edge could not read or write the object's state")]
    Store,
}

fn at_the_latest(ms: Option<u64>) -> String {
    ms.map(|ms| format!(", in {} s at the latest", ms.div_ceil(1000))).unwrap_or_default()
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome { message: Some(message), .. } => message.clone(),
        Outcome { code: Some(code), .. } => format!("it exited with code {code} before its port answered"),
        Outcome { signal: Some(signal), .. } => format!("signal {signal} ended it before its port answered"),
        Outcome { reason, .. } => format!("it ended before its port answered ({reason:?})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_stop_takes_is_said_only_if_it_is_known() {
        let said = |retry_ms| Refused::Stopping { retry_ms }.to_string();
        assert!(said(Some(1_500)).ends_with("once it has ended, in 2 s at the latest"));
        assert!(said(None).ends_with("once it has ended"));
    }
}
