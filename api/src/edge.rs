//! The edge itself: that it answers, its nodes, where static files go.

use std::path::PathBuf;

use berth_common::ids::NodeId;
use berth_common::wire::call::{Capacity, DiskCapacity};
use serde::{Deserialize, Serialize};

/// That the edge answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Health {
    /// `ok`
    pub status: String,
    /// The version of the edge.
    pub version: String,
}

/// The nodes of an edge.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NodeList {
    pub nodes: Vec<NodeView>,
}

/// A node, for people and programs.
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
}

/// Where static files are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AssetDirectory {
    /// The directory that the edge serves static files from, each app's from a directory in it.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub directory: PathBuf,
}
