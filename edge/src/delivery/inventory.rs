//! The image inventory: which images nodes hold, and their progress with fetching others, as they report it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_common::ids::NodeId;
use berth_common::image::Digest;
use berth_common::outcome::shortened;
use berth_common::wire::images::{ImageState, ImageStatus};
use tokio::sync::watch;

use crate::nodes::Nodes;

/// A node's progress with one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageOnNode {
    /// Whether the node's image connection is up, so that its reports are current.
    pub(crate) connected: bool,
    /// None if the node has not reported the image.
    pub(crate) state: Option<ImageState>,
}

/// The reports of all nodes about their images.
pub(crate) struct ImageInventory {
    nodes: Arc<Nodes>,
    state: Mutex<BTreeMap<NodeId, Node>>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Node {
    connected: bool,
    /// The images that it is to hold: what it says of others is not kept.
    wanted: BTreeSet<Digest>,
    images: BTreeMap<Digest, ImageState>,
}

/// A state with a message of a bounded length: it is shown.
fn bounded(state: ImageState) -> ImageState {
    match state {
        ImageState::Failed { message } => ImageState::Failed { message: shortened(message) },
        other => other,
    }
}

impl ImageInventory {
    pub(crate) fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes, state: Mutex::default(), changed: watch::Sender::default() }
    }

    /// Notifies of each change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// A node's image connection was opened or lost. On a new one the node reports everything again.
    pub(crate) fn connected(&self, id: &NodeId, connected: bool) {
        if connected {
            self.wanted(id, &[]);
        }
        self.lock().entry(id.clone()).or_default().connected = connected;
        self.changed.send_replace(());
    }

    /// A node was removed: nothing is known of it any more.
    pub(crate) fn removed(&self, id: &NodeId) {
        self.wanted(id, &[]);
        self.lock().remove(id);
        self.changed.send_replace(());
    }

    /// A node has reported an image.
    pub(crate) fn reported(&self, id: &NodeId, status: ImageStatus) {
        let ImageStatus { image, state } = status;
        let mut inventory = self.lock();
        let node = inventory.entry(id.clone()).or_default();
        if !node.wanted.contains(&image) {
            return;
        }
        self.nodes.holds(id, image, state == ImageState::Ready);
        node.images.insert(image, bounded(state));
        drop(inventory);
        self.changed.send_replace(());
    }

    /// The images that a node is to hold have changed. Reports about others are dropped, as the node may remove those.
    pub(crate) fn wanted(&self, id: &NodeId, images: &[Digest]) {
        let mut state = self.lock();
        let node = state.entry(id.clone()).or_default();
        node.wanted = images.iter().copied().collect();
        let gone: Vec<Digest> =
            node.images.keys().filter(|known| !node.wanted.contains(known)).copied().collect();
        for image in gone {
            node.images.remove(&image);
            self.nodes.holds(id, image, false);
        }
    }

    /// A node's progress with an image.
    pub(crate) fn of(&self, id: &NodeId, image: &Digest) -> ImageOnNode {
        let state = self.lock();
        let node = state.get(id);
        ImageOnNode {
            connected: node.is_some_and(|node| node.connected),
            state: node.and_then(|node| node.images.get(image).cloned()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Node>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
