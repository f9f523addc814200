//! The nodes that an edge was given while it ran, and what operators have ordered of nodes.

use std::collections::BTreeMap;

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

/// A node that the edge was given while it ran, and not on its command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The node.
    pub node: NodeId,
    /// Where its agent listens: an address or a host's name, and a port.
    pub address: String,
    /// What it was given by whoever has added it, besides what its agent says of itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it was added, in milliseconds since 1970.
    pub added_ms: u64,
    /// How it has come.
    pub by: AddedBy,
}

/// How a node has come to an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddedBy {
    /// An operator has named it.
    Hand,
    /// It has asked for its certificate with a token.
    Join,
}

/// A certificate key that no connection to a node may show any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedRecord {
    /// SHA-256 of the public key as it is in the certificate, in hexadecimal digits.
    pub key: String,
    /// The node that has shown it.
    pub node: NodeId,
    /// Since when, in milliseconds since 1970.
    pub revoked_ms: u64,
}
