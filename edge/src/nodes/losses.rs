//! Gives up nodes that are silent, and remembers which keep terms and which are lost often.

use std::time::Duration;

use berth_common::clock::wall_ms;
use berth_common::happening::HappeningKind;
use berth_common::ids::NodeId;
use berth_engine::Silence;
use berth_engine::fleet::Fleet;

use super::{LostNode, Node, Nodes, State};
use crate::terms::boot_ms;

impl Nodes {
    /// Gives up the nodes on which nothing of this edge runs any more: those that were heard of, or are known to keep terms. From here
    /// on nothing is promised to them until that many shards have carried the loss out (`loss_carried_out`): so none of what they
    /// decided before can have a node go on with it. A node on which instances still wait is given up again and again. While no
    /// other node is there that could take what is lost, none is given up.
    pub(crate) fn lose(&self, shards: usize) -> Vec<LostNode> {
        let now_ms = boot_ms();
        self.change(|State { fleet, nodes, started_ms, .. }| {
            nodes.iter_mut().for_each(|(id, node)| self.recover(fleet, id, node, now_ms));
            if !nodes.values().any(|node| node.connections > 0 && !node.term.is_over(now_ms)) {
                return Vec::new();
            }
            let mut lost = Vec::new();
            for (id, node) in nodes {
                let silent_ms = node.term.silent_ms(now_ms);
                let silent_ms = silent_ms.unwrap_or_else(|| now_ms.saturating_sub(*started_ms));
                if node.loss.lose(&node.term, now_ms, shards) {
                    self.note_loss(fleet, id, node, silent_ms);
                } else if fleet.instances_on(id) == 0 || !node.loss.lose_more(&node.term, now_ms, shards) {
                    continue;
                }
                let over_ms = node.term.given_over_ms();
                let over_for = Some(Duration::from_millis(now_ms.saturating_sub(over_ms)));
                let silence = Silence { heard_ms: wall_ms().saturating_sub(silent_ms), over_for };
                lost.push(LostNode { node: id.clone(), silence });
            }
            lost
        })
    }

    fn note_loss(&self, fleet: &mut Fleet, id: &NodeId, node: &mut Node, silent_ms: u64) {
        fleet.node_down(id);
        let told = format!(
            "not heard of for {} s: what ran there has paused, and is given up once its class does not wait",
            silent_ms / 1000
        );
        self.happenings.node(HappeningKind::NodeLost, id, told);
        if node.steadiness.lost(boot_ms()) {
            fleet.node_unsteady(id, true);
            let told = "lost several times of late: it is chosen last for a while";
            self.happenings.node(HappeningKind::NodeUnsteady, id, told);
        }
    }

    fn recover(&self, fleet: &mut Fleet, id: &NodeId, node: &mut Node, now_ms: u64) {
        if node.steadiness.recovers(now_ms) {
            fleet.node_unsteady(id, false);
            tracing::info!(node = %id, "steady again: it is chosen as before");
        }
    }

    /// A shard has ended what it had on a node that was given up, and will send none of what it had to tell it.
    pub(crate) fn loss_carried_out(&self, id: &NodeId) {
        if let Some(node) = self.lock().nodes.get_mut(id) {
            node.loss.carried_out();
        }
    }

    /// An earlier process of this edge has noted that this node keeps terms.
    pub(crate) fn is_known_to_keep_terms(&self, id: &NodeId) {
        if let Some(node) = self.lock().nodes.get_mut(id) {
            node.term.is_known_to_keep_terms();
            node.is_noted = true;
        }
    }

    /// The nodes of which the store says something else than what is known by now: whether each keeps terms.
    pub(crate) fn to_be_noted(&self) -> Vec<(NodeId, bool)> {
        let of = |(id, node): (&NodeId, &Node)| {
            let keeps = node.term.keeps_terms();
            (keeps != node.is_noted).then(|| (id.clone(), keeps))
        };
        self.lock().nodes.iter().filter_map(of).collect()
    }

    /// The store says this of a node by now.
    pub(crate) fn noted(&self, id: &NodeId, keeps: bool) {
        if let Some(node) = self.lock().nodes.get_mut(id) {
            node.is_noted = keeps;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::one_silent;
    use super::*;

    #[test]
    fn one_that_flaps_is_chosen_last() {
        let (nodes, silent) = one_silent();
        for _ in 0..3 {
            assert_eq!(nodes.lose(0).len(), 1);
            nodes.lock().nodes.get_mut(&silent).unwrap().loss = Default::default();
        }
        let until_ms = nodes.lock().nodes[&silent].steadiness.unsteady_until_ms();
        assert!(until_ms.is_some_and(|until_ms| until_ms > boot_ms()));
    }

    #[test]
    fn what_is_known_of_terms_is_noted_once() {
        let (nodes, silent) = one_silent();
        let all = nodes.to_be_noted();
        assert!(all.contains(&(silent.clone(), true)));
        all.iter().for_each(|(id, keeps)| nodes.noted(id, *keeps));
        assert_eq!(nodes.to_be_noted(), []);
        nodes.lock().nodes.get_mut(&silent).unwrap().term.keeps_none();
        assert_eq!(nodes.to_be_noted(), [(silent, false)]);
    }
}
