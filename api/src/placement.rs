//! Why an object's container is where it is, and which nodes could take it now.

use berth_common::ids::{InstanceId, NodeId};
use serde::{Deserialize, Serialize};

/// What placement makes of each node for one object.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementView {
    /// How its present container came to its node. Null without a container, and for one that was started before the edge was.
    pub taken: Option<TakenView>,
    /// The present container; null without one.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub instance: Option<InstanceId>,
    /// Each node, and whether it could take another container of this class now.
    pub nodes: Vec<NodeVerdictView>,
}

/// How a container came to its node.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenView {
    /// The node.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub node: NodeId,
    /// Whether because it had the object's last container.
    pub is_last: bool,
    /// The other node that was drawn, and had less room. Null if no other could take it equally well.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub other: Option<NodeId>,
}

/// A node, and what placement makes of it.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeVerdictView {
    /// The node.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub node: NodeId,
    /// Its verdict.
    pub verdict: VerdictView,
    /// What is missing, or how good it is, in words.
    pub detail: String,
}

/// Whether a node could take a container.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictView {
    /// It can.
    Able,
    /// It can, but is asked last: it says itself that it is full, or was lost several times of late.
    LastResort,
    /// It cannot.
    No,
}

impl VerdictView {
    /// In a table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Able => "can take it",
            Self::LastResort => "asked last",
            Self::No => "no",
        }
    }
}
