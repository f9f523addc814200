//! The edge itself: its health and its nodes.

use berth_common::ids::NodeId;
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
    pub connected: bool,
    pub version: Option<String>,
    pub capacity: Option<Capacity>,
    pub disk: Option<DiskCapacity>,
    pub instances: u32,
    pub draining: bool,
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
