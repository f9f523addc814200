//! What operators order of a node: that nothing new is put on it (drained), and that it is gone for good (forgotten).
//!
//! ```text
//! in use ──drain──▶ drained: nothing new is put there, what is there ends ──the last has ended──▶ empty
//!    ▲                 │                                                                            │
//!    └─────undrain─────┴────────────────────────────────────────────────────────────────────────────┘
//! silent, its term over (or not configured any more) ──forget──▶ lost: as in `silence`
//! ```
//!
//! The store keeps who is drained; whoever starts this process tells it again.
//!
//! What fails, and what happens then:
//! * A forgotten node is there after all: it is connected, or its term is not over, and the order is refused. Or nobody could know:
//!   what it reports when it comes is nobody's by then, and is ended there.
//! * A node that keeps no terms is forgotten while its machine runs on: what is there runs until it is reached again. Who orders it is
//!   told so.

use berth_common::clock::wall_ms;
use berth_common::ids::NodeId;
use berth_engine::Silence;

use super::{LostNode, Node, Nodes, Origin, State};
use crate::terms::boot_ms;

/// Why a node cannot be forgotten now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StillThere {
    #[error("it is connected: `berth nodes drain` empties it; stop its agent before it is forgotten")]
    Connected,
    #[error(
        "what runs there may go on for {} s more, until {}: the term that it had is not over before",
        left_ms.div_ceil(1000), humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_millis(*until_ms))
    )]
    Term { left_ms: u64, until_ms: u64 },
}

/// What may be given up with a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) lost: LostNode,
    /// Whether the edge has it on its command line.
    pub(crate) is_configured: bool,
    /// Whether what it had may still run, if its machine does: it is not known to keep terms.
    pub(crate) may_run: bool,
}

impl State {
    fn given_up(&self, id: &NodeId) -> Result<Given, StillThere> {
        let (now_ms, wall_ms) = (boot_ms(), wall_ms());
        let node = self.nodes.get(id);
        if node.is_some_and(|node| node.connections > 0) {
            return Err(StillThere::Connected);
        }
        let over_ms = node.map_or(&self.earlier, |node| &node.term).given_over_ms();
        if over_ms >= now_ms {
            let left_ms = over_ms.saturating_sub(now_ms).saturating_add(1);
            return Err(StillThere::Term { left_ms, until_ms: wall_ms.saturating_add(left_ms) });
        }
        let heard_ms = node.and_then(Node::heard_ms).unwrap_or(self.started_ms);
        let heard_ms = wall_ms.saturating_sub(now_ms.saturating_sub(heard_ms));
        let lost = LostNode { node: id.clone(), silence: Silence { heard_ms, over_for: None } };
        let may_run = !node.is_some_and(|node| node.term.is_over(now_ms));
        let is_configured = node.is_some_and(|node| node.origin == Origin::Flag);
        Ok(Given { lost, is_configured, may_run })
    }
}

impl Node {
    /// When it was last heard of, by `boot_ms`. Not known of one that this process has not heard of.
    fn heard_ms(&self) -> Option<u64> {
        let now_ms = boot_ms();
        self.term.silent_ms(now_ms).map(|silent_ms| now_ms.saturating_sub(silent_ms)).or(self.left_ms)
    }
}

impl Nodes {
    /// Puts nothing new on a node from now on, in milliseconds since 1970, or puts it into use again. False if there is no such node.
    pub(crate) fn drain(&self, id: &NodeId, since_ms: Option<u64>) -> bool {
        self.change(|State { fleet, nodes, .. }| {
            let Some(node) = nodes.get_mut(id) else { return false };
            node.drained_ms = since_ms;
            fleet.node_draining(id, node.is_draining());
            true
        })
    }

    /// Since when nothing new is put on a node by order, in milliseconds since 1970.
    pub(crate) fn drained_ms(&self, id: &NodeId) -> Option<u64> {
        self.lock().nodes.get(id)?.drained_ms
    }

    /// The connected nodes that are to be emptied and are not yet, each with since when.
    pub(crate) fn to_be_emptied(&self) -> Vec<(NodeId, u64)> {
        let state = self.lock();
        let of = |(id, node): (&NodeId, &Node)| {
            Some((id.clone(), node.drained_ms.filter(|_| node.connections > 0)?))
        };
        let all = state.nodes.iter().filter_map(of);
        all.filter(|(id, _)| state.fleet.instances_on(id) > 0).collect()
    }

    /// Whether the edge is configured with a node, or may have instances on it.
    pub(crate) fn is_known(&self, id: &NodeId) -> bool {
        let state = self.lock();
        state.nodes.contains_key(id) || state.fleet.instances_on(id) > 0
    }

    /// Whether a node may be forgotten, and what that means.
    pub(crate) fn may_forget(&self, id: &NodeId) -> Result<Given, StillThere> {
        self.lock().given_up(id)
    }

    /// Gives a node up for good, as `lose` does with one that is silent: so many shards have to carry it out. One that was added takes
    /// no connections from here on, until it is removed (`Changing`).
    pub(crate) fn forget(&self, id: &NodeId, shards: usize) -> Result<Given, StillThere> {
        self.change(|state| {
            let given = state.given_up(id)?;
            if let Some(node) = state.nodes.get_mut(id) {
                node.loss.give_up(shards);
                node.drained_ms = None;
                node.is_leaving = node.origin != Origin::Flag;
            }
            state.fleet.node_draining(id, false);
            state.fleet.node_down(id);
            Ok(given)
        })
    }
}

#[cfg(test)]
mod tests {
    use berth_common::wire::term::Stamp;
    use berth_engine::Refused;
    use berth_engine::fleet::Demand;
    use berth_store::fixtures::class;

    use super::super::tests::{one_silent, stamp, welcome};
    use super::*;
    use crate::terms::NodeTerm;

    fn demand() -> Demand {
        let key = berth_common::ids::ObjectKey {
            app: "a".parse().unwrap(),
            class: "C".parse().unwrap(),
            name: "o".parse().unwrap(),
        };
        Demand::of(&key, berth_common::ids::Generation(1), &class())
    }

    #[test]
    fn nothing_new_is_put_on_a_drained_node_whatever_its_agent_says_and_until_it_is_undone() {
        let node: NodeId = "n".parse().unwrap();
        let nodes = Nodes::new(&[(node.clone(), String::new())].into());
        assert!(nodes.drain(&node, Some(7)) && !nodes.drain(&"other".parse().unwrap(), Some(7)));
        nodes.up(0, &welcome(node.clone(), 1 << 40));
        assert_eq!(nodes.ask(demand()), Some(Err(Refused::NoNode)));
        nodes.draining(&node, false);
        assert_eq!(
            nodes.ask(demand()).expect("it need not wait"),
            Err(Refused::NoNode),
            "its agent takes some, and this edge gives none"
        );
        assert!(nodes.fitting(&Default::default()).is_empty());
        let view = &nodes.views()[0];
        assert_eq!((view.draining, view.drained_since_ms), (true, Some(7)));
        nodes.restore(&demand(), &node);
        assert_eq!(nodes.to_be_emptied(), [(node.clone(), 7)]);
        nodes.drain(&node, None);
        assert_eq!(
            (nodes.to_be_emptied(), nodes.ask(demand()).expect("it need not wait")),
            (Vec::new(), Ok(node))
        );
    }

    #[test]
    fn a_node_is_forgotten_only_once_nothing_can_run_there() {
        let (nodes, silent) = one_silent();
        assert_eq!(nodes.forget(&silent, 2), Err(StillThere::Connected));
        nodes.down(&silent);
        let given = nodes.forget(&silent, 2).unwrap();
        assert!(given.is_configured && !given.may_run && given.lost.node == silent);
        nodes.stamped(&silent, Stamp { ms: 90_000, ..stamp(1) });
        assert!(nodes.give_term(&silent).is_err(), "until both shards have carried it out");
        [1, 2].into_iter().for_each(|_| nodes.loss_carried_out(&silent));
        assert!(nodes.give_term(&silent).is_ok());
        let error = nodes.forget(&silent, 2).unwrap_err();
        assert!(matches!(error, StillThere::Term { left_ms: 1..=17_000, .. }), "{error}");
    }

    #[test]
    fn one_that_is_not_configured_is_shown_while_something_may_be_there_and_forgotten_once_no_term_can_last()
    {
        let nodes = Nodes::new(&[].into());
        let gone: NodeId = "gone".parse().unwrap();
        assert!(!nodes.is_known(&gone));
        nodes.restore(&demand(), &gone);
        let view = &nodes.views()[0];
        assert!(nodes.is_known(&gone) && view.node == gone && !view.configured && view.instances == 1);
        assert!(
            matches!(nodes.may_forget(&gone), Err(StillThere::Term { .. })),
            "an earlier process gave a term"
        );
        nodes.lock().earlier = NodeTerm::starting(boot_ms().saturating_sub(60_000));
        nodes.given_before(boot_ms() + 60_000);
        let error = nodes.forget(&gone, 1).unwrap_err();
        assert!(
            matches!(error, StillThere::Term { left_ms: 30_000.., .. }),
            "it has prolonged them as it ended"
        );
        nodes.lock().earlier = NodeTerm::starting(boot_ms().saturating_sub(60_000));
        let given = nodes.forget(&gone, 1).unwrap();
        assert!(!given.is_configured && given.may_run);
    }
}
