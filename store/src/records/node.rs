//! What operators have ordered of a node.

use berth_common::ids::NodeId;
use serde::{Deserialize, Serialize};

/// A node that takes no new instances of this edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The node.
    pub node: NodeId,
    /// Since when, in milliseconds since 1970.
    pub drained_ms: u64,
}
