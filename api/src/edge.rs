//! The edge itself: its health and its nodes.

use std::collections::BTreeMap;

use berth_common::ids::{AppName, ClassName, NodeId, ObjectId, ObjectName};
use berth_common::wire::call::{Capacity, DiskCapacity, Room};
use serde::{Deserialize, Serialize};

/// The health of the edge.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Health {
    /// `ok`
    pub status: String,
    /// The version of the edge.
    pub version: String,
    /// Where it takes requests: address and port. Null from an edge of an earlier version.
    #[serde(default)]
    pub listen: Option<String>,
}

/// The nodes of an edge.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NodeList {
    pub nodes: Vec<NodeView>,
}

/// A node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NodeView {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub node: NodeId,
    pub address: String,
    /// False of one that the edge was configured with before, and on which there may still be containers: `forget` gives them up.
    #[serde(default = "yes")]
    pub configured: bool,
    /// Whence the edge has it. Null of one that it has not any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<NodeOrigin>,
    pub connected: bool,
    /// It was silent for longer than its term, and what it had was given up. Not heard of since.
    #[serde(default)]
    pub lost: bool,
    /// How long it was not heard of, in milliseconds. Null if not since the edge was started, or if it is connected and keeps no terms.
    #[serde(default)]
    pub silent_ms: Option<u64>,
    /// How long, in milliseconds, until nothing of this edge runs there any more, unless a further term is given; 0: nothing does.
    /// Null of one that keeps no terms, or was not heard of since the edge was started.
    #[serde(default)]
    pub term_left_ms: Option<u64>,
    /// It was lost several times of late, and takes new containers last until then: milliseconds since 1970.
    #[serde(default)]
    pub unsteady_until_ms: Option<u64>,
    pub version: Option<String>,
    pub capacity: Option<Capacity>,
    pub disk: Option<DiskCapacity>,
    pub instances: u32,
    /// Since when the key counts no more that it has last shown, in milliseconds since 1970: it is cut off until it has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_ms: Option<u64>,
    /// Nothing new is put on it: by order (`drained_since_ms`), or because its own agent takes none.
    pub draining: bool,
    /// Since when this edge is to put nothing new on it, in milliseconds since 1970.
    #[serde(default)]
    pub drained_since_ms: Option<u64>,
    /// What is taken of its room, as of the last second; null of a node of an earlier version.
    #[serde(default)]
    pub room: Option<Room>,
    /// What is left of its capacity then.
    #[serde(default)]
    pub free: Option<Capacity>,
    /// Until when the certificate holds that it last showed, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_until_ms: Option<u64>,
    /// It has to be renewed soon: less than a quarter of its life is left, and at most 30 days.
    #[serde(default)]
    pub certificate_ends_soon: bool,
}

/// Whence an edge has a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum NodeOrigin {
    /// From its command line (`--node`).
    Flag,
    /// An operator has added it.
    Hand,
    /// It has joined by itself.
    Join,
    /// As a newer version of Berth knows.
    #[serde(other)]
    Unknown,
}

/// A node that is to be added.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewNode {
    /// Its name, which its certificate has too.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub node: NodeId,
    /// Where its agent listens: the address or the name of a host, and a port.
    pub address: String,
    /// Labels besides those that its agent says; these count more.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A node that was added.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AddedNode {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub node: NodeId,
    pub address: String,
}

fn yes() -> bool {
    true
}

/// An order to a node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NodeOrder {
    /// Only tell what would be done.
    pub dry_run: bool,
}

/// An order to have a node's key count no more.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Revocation {
    /// The key: SHA-256 of the public key as it is in certificates, in hexadecimal digits. Without, the one that the node has last shown.
    pub key: Option<String>,
    /// Only tell what would be done.
    pub dry_run: bool,
}

/// A node whose key counts no more.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RevokedNode {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub node: NodeId,
    /// The key, in hexadecimal digits.
    pub key: String,
    /// How many objects have a container there, which is given up once the node's term is over.
    pub count: usize,
}

/// What an order to a node is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NodeOrdered {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub node: NodeId,
    /// Whether the edge has it; of `forget`: whether it keeps it, as its command line names it (`--node`).
    pub configured: bool,
    /// Of `forget`: what ran there may still run, if the machine does, as the node is not known to keep terms.
    pub may_run: bool,
    /// How many objects had a container there.
    pub count: usize,
    /// The first thousand of them.
    pub objects: Vec<ObjectOnNode>,
}

/// An object that has a container on a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ObjectOnNode {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub app: AppName,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub class: ClassName,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: ObjectName,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub id: ObjectId,
}
