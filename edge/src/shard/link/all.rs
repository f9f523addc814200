//! One shard's links to all nodes: one is made when a node is added, and ended when it is removed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_certs::Credentials;
use berth_common::ids::NodeId;
use quinn::Endpoint;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Dependencies, Introduction, Link, LinkHandle};
use crate::nodes::{Nodes, Place, Places};
use crate::prepared::PreparedContainers;
use crate::shard::objects::Mailbox;
use crate::shard::tunnel;
use crate::shard::unread::Unread;

/// What all links of a shard are made of.
pub(crate) struct LinkParts {
    pub(crate) introduction: Introduction,
    pub(crate) endpoint: Endpoint,
    pub(crate) credentials: Credentials,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) objects: Mailbox,
    /// If this shard's links are those that send the prepared containers.
    pub(crate) prepared: Option<PreparedContainers>,
    pub(crate) unread: Arc<Unread>,
    /// Ends all links.
    pub(crate) stop: CancellationToken,
}

/// The links of one shard to all nodes.
pub(crate) struct Links {
    parts: LinkParts,
    state: Mutex<State>,
    /// Runs links that were made.
    made: mpsc::UnboundedSender<Made>,
    changes: watch::Receiver<Places>,
}

struct State {
    links: HashMap<NodeId, Linked>,
    places: watch::Receiver<Places>,
}

struct Linked {
    place: Place,
    handle: Arc<LinkHandle>,
    /// Ends this link.
    stop: CancellationToken,
}

/// A link that is to run until its token is cancelled.
type Made = (Link, CancellationToken);

impl Links {
    /// Links to all nodes, and those that are still to be run (`follow`).
    pub(crate) fn new(parts: LinkParts) -> (Self, mpsc::UnboundedReceiver<Made>) {
        // Not bounded by itself: there is one for each node that is added, and adding waits for the store.
        let (made, to_run) = mpsc::unbounded_channel();
        let places = parts.nodes.places();
        let changes = places.clone();
        let links = Self { parts, state: Mutex::new(State { links: HashMap::new(), places }), made, changes };
        links.catch_up(&mut links.lock());
        (links, to_run)
    }

    /// The link to a node, if the edge has it.
    pub(crate) fn get(&self, node: &NodeId) -> Option<Arc<LinkHandle>> {
        Some(Arc::clone(&self.current().links.get(node)?.handle))
    }

    /// All links there are now.
    pub(crate) fn all(&self) -> Vec<(NodeId, Arc<LinkHandle>)> {
        let state = self.current();
        state.links.iter().map(|(node, linked)| (node.clone(), Arc::clone(&linked.handle))).collect()
    }

    /// Runs the links, and follows which nodes there are. Returns once a link has panicked.
    pub(crate) async fn follow(self: Arc<Self>, mut to_run: mpsc::UnboundedReceiver<Made>) {
        let mut changes = self.changes.clone();
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                // Both senders live as long as the edge.
                Ok(()) = changes.changed() => drop(self.current()),
                Some((link, stop)) = to_run.recv() => drop(running.spawn(link.run(stop))),
                Some(ended) = running.join_next() => if ended.is_err() { return },
            }
        }
    }

    /// The state with all changes of the nodes. Whoever has learnt of a node from another shard finds its link here.
    fn current(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if state.places.has_changed().unwrap_or(false) {
            self.catch_up(&mut state);
        }
        state
    }

    fn catch_up(&self, state: &mut State) {
        let places = Arc::clone(&state.places.borrow_and_update());
        state.links.retain(|node, linked| {
            let stays = places.get(node) == Some(&linked.place);
            if !stays {
                linked.stop.cancel();
            }
            stays
        });
        for (node, place) in &*places {
            if !state.links.contains_key(node) {
                state.links.insert(node.clone(), self.make(node, place));
            }
        }
    }

    fn make(&self, node: &NodeId, place: &Place) -> Linked {
        let LinkParts { credentials, nodes, introduction, .. } = &self.parts;
        let (link, handle) = Link::new(Dependencies {
            node: node.clone(),
            place: place.clone(),
            introduction: introduction.clone(),
            endpoint: self.parts.endpoint.clone(),
            config: tunnel::calls_config(credentials, node),
            data_config: tunnel::data_config(credentials, node),
            nodes: Arc::clone(nodes),
            objects: self.parts.objects.clone(),
            prepared: self.parts.prepared.clone(),
            unread: Arc::clone(&self.parts.unread),
        });
        let stop = self.parts.stop.child_token();
        // The receiver lives as long as the shard.
        let _ = self.made.send((link, stop.clone()));
        Linked { place: place.clone(), handle: Arc::new(handle), stop }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
