//! Nodes that are added to an edge and removed from it while it runs. The store has them, before they are used.
//!
//! ```text
//!                  ┌─────────────────────── it cannot be written ──────────────────────┐
//!                  ▼                                                                   │
//! ──▶ not there ──add──▶ being added: its name is taken ──the record is durable──▶ there ──forget──▶ leaving: no connection counts
//!          ▲                                                                                                    │
//!          └──────────────────────────────── the record's removal is durable ───────────────────────────────────┘
//! ```
//!
//! What fails, and what happens then:
//! * Two orders about one name come at once: the later one is refused.
//! * The record, or its removal, cannot be written: the node is as it was before, and so is its record.
//! * This process is killed: after its restart the node is there or not, as the store says.
//! * The command line names a node that the store has too: the command line counts, and the record is used once the flag is gone.
//! * A node is removed and added again while a shard still has a link to the earlier one: each place that a node was given has a
//!   number, and what was connected to an earlier one does not count.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_common::clock::wall_ms;
use berth_common::happening::HappeningKind;
use berth_common::ids::NodeId;
use berth_common::spec::MAX_LABELS;
use berth_common::wire::call::Welcome;
use berth_protocol::edge::{Loss, Steadiness};
use berth_store::{AddedBy, MemberRecord};
use tokio::sync::watch;

use super::{Node, Nodes, State};
use crate::terms::{NodeTerm, boot_ms};

/// Most nodes that an edge has by its store: every shard has two connections to each, and dials one that is silent twice a second.
pub(crate) const MAX_MEMBERS: usize = 256;

/// Where a node's agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: String,
    /// No two places that this process has known of one name have the same.
    pub(crate) number: u64,
}

/// Where each node is.
pub(crate) type Places = Arc<BTreeMap<NodeId, Place>>;

/// Whence a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The command line.
    Flag,
    /// The store.
    Added(AddedBy),
}

/// Why a node is not added or removed now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CannotAdd {
    #[error("it is given on the edge's command line (--node), at {0}")]
    Configured(String),
    #[error("it is there already, at {0}: `berth nodes forget` removes it")]
    There(String),
    #[error("another order about it is being carried out")]
    Busy,
    #[error(
        "the edge has {MAX_MEMBERS} nodes, and takes no more: remove one that is gone (`berth nodes forget`)"
    )]
    Full,
}

/// A name that nobody else adds or removes for as long as this exists.
pub(crate) struct Changing {
    nodes: Arc<Nodes>,
    node: NodeId,
}

impl Drop for Changing {
    fn drop(&mut self) {
        let mut state = self.nodes.lock();
        state.changing.remove(&self.node);
        // Whoever was to be removed and is still there was not.
        state.nodes.get_mut(&self.node).into_iter().for_each(|node| node.is_leaving = false);
    }
}

/// Where these are.
pub(super) fn places(nodes: &BTreeMap<NodeId, Node>) -> Places {
    Arc::new(nodes.iter().map(|(id, node)| (id.clone(), node.place.clone())).collect())
}

impl Node {
    /// One that is not connected yet.
    pub(super) fn new(place: Place, origin: Origin, term: NodeTerm) -> Self {
        Self {
            place,
            origin,
            labels: BTreeMap::new(),
            is_leaving: false,
            connections: 0,
            welcome: None,
            term,
            loss: Loss::default(),
            steadiness: Steadiness::default(),
            is_noted: false,
            left_ms: None,
            is_told_silent: false,
            drained_ms: None,
            room: None,
            round_trip: None,
            certificate: None,
            key: None,
            revoked_ms: None,
        }
    }

    /// What its agent says, with the labels that it was added with: they count more than its own.
    pub(super) fn labelled(&self, mut welcome: Welcome) -> Welcome {
        welcome.labels.extend(self.labels.clone());
        while welcome.labels.len() > MAX_LABELS {
            let own = welcome.labels.keys().rev().find(|key| !self.labels.contains_key(*key));
            let Some(own) = own.cloned() else { break };
            welcome.labels.remove(&own);
        }
        welcome
    }
}

impl State {
    fn may_add(&self, id: &NodeId) -> Result<(), CannotAdd> {
        if let Some(Node { origin, place, .. }) = self.nodes.get(id) {
            return Err(match origin {
                Origin::Flag => CannotAdd::Configured(place.address.clone()),
                Origin::Added(_) => CannotAdd::There(place.address.clone()),
            });
        }
        let added = self.nodes.values().filter(|node| node.origin != Origin::Flag).count();
        let adding = self.changing.iter().filter(|id| !self.nodes.contains_key(*id)).count();
        if added + adding >= MAX_MEMBERS { Err(CannotAdd::Full) } else { Ok(()) }
    }

    fn add(&mut self, record: &MemberRecord) {
        self.last_place += 1;
        let place = Place { address: record.address.clone(), number: self.last_place };
        // An earlier process may have had it on its command line.
        let mut node = Node::new(place, Origin::Added(record.by), self.earlier);
        node.labels.clone_from(&record.labels);
        node.left_ms = Some(boot_ms());
        self.nodes.insert(record.node.clone(), node);
    }
}

impl Nodes {
    /// Takes over a node that the store has, as the edge starts. One that the command line names is there already.
    pub(crate) fn restore_member(&self, record: &MemberRecord) {
        let mut state = self.lock();
        match state.nodes.get(&record.node) {
            Some(node) if node.place.address != record.address => tracing::warn!(
                node = %record.node, flag = node.place.address, stored = record.address,
                "the node is given with --node and was added, too: --node counts"
            ),
            Some(_) => {}
            None => state.add(record),
        }
        self.tell_places(&state);
    }

    /// Begins to add a node: until the result is dropped, nobody else does.
    pub(crate) fn begin_adding(self: &Arc<Self>, id: &NodeId) -> Result<Changing, CannotAdd> {
        let mut state = self.lock();
        if state.changing.contains(id) {
            return Err(CannotAdd::Busy);
        }
        state.may_add(id)?;
        state.changing.insert(id.clone());
        Ok(Changing { nodes: Arc::clone(self), node: id.clone() })
    }

    /// Begins to remove a node: until the result is dropped, nobody else adds or removes it.
    pub(crate) fn begin_removing(self: &Arc<Self>, id: &NodeId) -> Result<Changing, CannotAdd> {
        let is_first = self.lock().changing.insert(id.clone());
        if is_first {
            Ok(Changing { nodes: Arc::clone(self), node: id.clone() })
        } else {
            Err(CannotAdd::Busy)
        }
    }

    /// Where all nodes are, and each change of that.
    pub(crate) fn places(&self) -> watch::Receiver<Places> {
        self.places.subscribe()
    }

    pub(super) fn tell_places(&self, state: &State) {
        // Under the lock, so that the newest is told last.
        self.places.send_replace(places(&state.nodes));
    }
}

impl Changing {
    /// The node's record is durable: it is used from now on.
    pub(crate) fn added(self, record: &MemberRecord) {
        self.nodes.change(|state| {
            state.add(record);
            self.nodes.tell_places(state);
        });
        let told = format!("at {}", record.address);
        self.nodes.happenings.node(HappeningKind::NodeAdded, &self.node, told);
    }

    /// The removal of the node's record is durable: it is not used any more. One of the command line stays.
    pub(crate) fn removed(self) {
        self.nodes.change(|state| {
            if state.nodes.get(&self.node).is_some_and(|node| node.origin != Origin::Flag) {
                state.nodes.remove(&self.node);
                state.fleet.node_down(&self.node);
                self.nodes.tell_places(state);
            }
        });
    }
}

/// A node that an operator names.
pub(crate) fn by_hand(node: NodeId, address: String, labels: BTreeMap<String, String>) -> MemberRecord {
    MemberRecord { node, address, labels, added_ms: wall_ms(), by: AddedBy::Hand }
}

#[cfg(test)]
mod tests {
    use super::super::tests::welcome;
    use super::*;

    fn nodes() -> Arc<Nodes> {
        Arc::new(Nodes::new(&[(id("flag"), "f:1".to_owned())].into()))
    }

    fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn record(name: &str) -> MemberRecord {
        by_hand(id(name), "a:1".to_owned(), [("rack".to_owned(), "7".to_owned())].into())
    }

    fn added(nodes: &Arc<Nodes>, name: &str) {
        nodes.begin_adding(&id(name)).unwrap().added(&record(name));
    }

    fn refused(nodes: &Arc<Nodes>, name: &str) -> Option<CannotAdd> {
        nodes.begin_adding(&id(name)).err()
    }

    /// The number of a node's place, as links learn of it.
    fn place(nodes: &Nodes, name: &str) -> Option<u64> {
        nodes.places().borrow().get(&id(name)).map(|place| place.number)
    }

    #[test]
    fn a_name_is_added_once_and_by_one_at_a_time() {
        let nodes = nodes();
        let adding = nodes.begin_adding(&id("n")).unwrap();
        assert_eq!(refused(&nodes, "n"), Some(CannotAdd::Busy));
        drop(adding);
        assert_eq!(place(&nodes, "n"), None, "it could not be written");
        added(&nodes, "n");
        assert_eq!(refused(&nodes, "n"), Some(CannotAdd::There("a:1".to_owned())));
        assert_eq!(refused(&nodes, "flag"), Some(CannotAdd::Configured("f:1".to_owned())));
        assert!(place(&nodes, "n").is_some() && place(&nodes, "flag") == Some(0));
    }

    #[test]
    fn a_node_that_is_being_removed_does_not_come_up_and_one_that_was_counts_for_no_later_one() {
        let nodes = nodes();
        added(&nodes, "n");
        let first = place(&nodes, "n").unwrap();
        assert!(nodes.up(first, &welcome(id("n"), 1 << 30)));
        nodes.down(&id("n"));
        let removing = nodes.begin_removing(&id("n")).unwrap();
        assert_eq!(refused(&nodes, "n"), Some(CannotAdd::Busy));
        nodes.lock().earlier = NodeTerm::starting(0);
        nodes.lock().nodes.get_mut(&id("n")).unwrap().term = NodeTerm::starting(0);
        nodes.forget(&id("n"), 0).unwrap();
        assert!(!nodes.up(first, &welcome(id("n"), 1 << 30)), "it is leaving");
        removing.removed();
        assert_eq!(place(&nodes, "n"), None);
        added(&nodes, "n");
        assert!(!nodes.up(first, &welcome(id("n"), 1 << 30)), "that was another");
        assert!(nodes.up(place(&nodes, "n").unwrap(), &welcome(id("n"), 1 << 30)));
    }

    #[test]
    fn a_removal_that_cannot_be_written_leaves_the_node_as_it_was() {
        let nodes = nodes();
        added(&nodes, "n");
        let at = place(&nodes, "n").unwrap();
        nodes.lock().nodes.get_mut(&id("n")).unwrap().term = NodeTerm::starting(0);
        let removing = nodes.begin_removing(&id("n")).unwrap();
        nodes.forget(&id("n"), 0).unwrap();
        drop(removing);
        assert!(nodes.up(at, &welcome(id("n"), 1 << 30)));
    }

    #[test]
    fn the_command_line_counts_more_than_the_store_and_there_is_a_most() {
        let nodes = nodes();
        nodes.restore_member(&record("flag"));
        assert_eq!(nodes.places().borrow()[&id("flag")].address, "f:1");
        for number in 0..MAX_MEMBERS {
            nodes.restore_member(&record(&format!("n{number}")));
        }
        assert_eq!(refused(&nodes, "more"), Some(CannotAdd::Full));
        nodes.begin_removing(&id("n0")).unwrap().removed();
        let adding = nodes.begin_adding(&id("more")).unwrap();
        assert_eq!(refused(&nodes, "another"), Some(CannotAdd::Full), "what is being added counts");
        drop(adding);
    }

    #[test]
    fn labels_that_a_node_was_added_with_count_more_than_its_own() {
        let nodes = nodes();
        added(&nodes, "n");
        let own: BTreeMap<String, String> =
            (0..MAX_LABELS).map(|n| (format!("own{n}"), "1".to_owned())).collect();
        let own = Welcome { labels: own, ..welcome(id("n"), 1 << 30) };
        let labelled = nodes.lock().nodes[&id("n")].labelled(own);
        assert_eq!((labelled.labels.len(), labelled.labels["rack"].as_str()), (MAX_LABELS, "7"));
    }
}
