//! Why nodes are taken, or not: for people who ask.

use berth_common::ids::NodeId;

use super::choice::Chosen;
use super::demand::Demand;
use super::nodes::Nodes;

/// A node, and what a choice makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The node.
    pub node: NodeId,
    /// Its verdict.
    pub verdict: Verdict,
}

/// Why a node would be taken, or not. In the order in which it is found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is not connected.
    NotConnected,
    /// It is drained.
    Draining,
    /// It has refused this instance.
    HasRefused,
    /// It does not meet a constraint: what it would need.
    Unmet(String),
    /// It lacks room.
    Lacks(String),
    /// It has room, but starts as many instances as it does at once.
    Busy,
    /// It could take it, but says itself that it is full.
    SaysFull,
    /// It could take it, but nothing has come from it for a while.
    Silent,
    /// It could take it, but has not been steady.
    Unsteady,
    /// It can take it.
    Able {
        /// Whether it has the image.
        holds_image: bool,
        /// The band of its distance; 0 is the nearest.
        band: usize,
        /// The free part of what it has least of, in thousandths.
        free_thousandths: u16,
    },
}

/// How an instance came to its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The node.
    pub node: NodeId,
    /// Whether because it had the object's last instance.
    pub is_last: bool,
    /// The other node that was drawn, and had less room.
    pub other: Option<NodeId>,
}

impl Taken {
    pub(super) fn of(chosen: Chosen, nodes: &Nodes) -> Self {
        let id = |number: usize| nodes.get(number).id.clone();
        Self { node: id(chosen.node), is_last: chosen.is_last, other: chosen.other.map(id) }
    }
}

/// What a choice for this demand makes of each node now.
pub(super) fn look(nodes: &Nodes, demand: &Demand) -> Vec<Looked> {
    let looked = |(number, node): (usize, &super::node::Node)| Looked {
        node: node.id.clone(),
        verdict: verdict(nodes, number, demand),
    };
    nodes.iter().map(looked).collect()
}

fn verdict(nodes: &Nodes, number: usize, demand: &Demand) -> Verdict {
    let node = nodes.get(number);
    if node.capacity.is_none() {
        Verdict::NotConnected
    } else if node.draining {
        Verdict::Draining
    } else if demand.refused_by.contains(&node.id) {
        Verdict::HasRefused
    } else if let Some(unmet) = node.unmet(&demand.constraints) {
        Verdict::Unmet(unmet.lacking())
    } else if let Some(lack) = node.lacks(&demand.resources) {
        Verdict::Lacks(lack.to_string())
    } else if !node.has_turn(&demand.class.0) {
        Verdict::Busy
    } else if node.says_that_it_is_full(&demand.resources) {
        Verdict::SaysFull
    } else if nodes.silent.has(number) {
        Verdict::Silent
    } else if nodes.unsteady.has(number) {
        Verdict::Unsteady
    } else {
        able(nodes, number, demand)
    }
}

fn able(nodes: &Nodes, number: usize, demand: &Demand) -> Verdict {
    let node = nodes.get(number);
    Verdict::Able {
        holds_image: nodes.holders(&demand.image).is_some_and(|holders| holders.has(number)),
        band: node.distance.band(),
        free_thousandths: thousandths(node.free_share()),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is between 0 and 1")]
fn thousandths(share: f64) -> u16 {
    (share * 1000.0) as u16
}
