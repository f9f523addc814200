//! What has happened to nodes and objects: the type that an edge's store and the admin API share.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, ObjectKey};

/// What has happened.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HappeningKind {
    /// A node was added to those of the edge.
    NodeAdded,
    /// A node was connected.
    NodeConnected,
    /// The last connection to a node was lost.
    NodeSilent,
    /// A node was silent for longer than its term, and what it had was given up.
    NodeLost,
    /// A node that was lost is heard of again.
    NodeBack,
    /// A node was lost several times of late: it takes new containers last.
    NodeUnsteady,
    /// Nothing new is put on a node, by order, or because its own agent takes none.
    NodeDrained,
    /// A drained node is in use again.
    NodeUndrained,
    /// An operator has given up what a node had, which is gone for good.
    NodeForgotten,
    /// The certificate of a node counts no more, by order.
    NodeRevoked,
    /// The container of an object counts as ended, because its node was lost or forgotten.
    ObjectGivenUp,
    /// An object that was given up was asked for, and no node could take it.
    ObjectRefused,
    /// An object that was given up is started on another node.
    ObjectRestarted,
    /// Something that a newer version of Berth knows.
    #[serde(other)]
    Unknown,
}

/// Something that has happened to a node or an object.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// Its number; that of what happens later is higher.
    pub number: u64,
    /// When it happened, in milliseconds since 1970.
    pub time_ms: u64,
    /// What it was.
    pub kind: HappeningKind,
    /// The node, if it was one, or if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub node: Option<NodeId>,
    /// The object, by its `app`, `class` and `name`, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Object>))]
    pub object: Option<ObjectKey>,
    /// Why, and what follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many others of the same app or node were left out since the last that was kept, as they were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// As people call it.
impl fmt::Display for HappeningKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NodeAdded => "node added",
            Self::NodeConnected => "node connected",
            Self::NodeSilent => "node silent",
            Self::NodeLost => "node lost",
            Self::NodeBack => "node back",
            Self::NodeUnsteady => "node unsteady",
            Self::NodeDrained => "node drained",
            Self::NodeUndrained => "node undrained",
            Self::NodeForgotten => "node forgotten",
            Self::NodeRevoked => "node revoked",
            Self::ObjectGivenUp => "object given up",
            Self::ObjectRefused => "object refused",
            Self::ObjectRestarted => "object restarted",
            Self::Unknown => "unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_version_tells_is_read() {
        let text = r#"{"number":7,"time_ms":1,"kind":"node_painted","node":"n1","colour":"red"}"#;
        let read: Happening = serde_json::from_str(text).unwrap();
        assert_eq!((read.kind, read.left_out), (HappeningKind::Unknown, 0));
        let lost = Happening { kind: HappeningKind::NodeLost, ..read };
        let text = serde_json::to_string(&lost).unwrap();
        assert_eq!(text, r#"{"number":7,"time_ms":1,"kind":"node_lost","node":"n1"}"#);
    }
}
