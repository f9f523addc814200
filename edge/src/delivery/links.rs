//! The connections for images to all nodes: one is begun when a node is added, and ended when it is removed.

use std::collections::HashMap;
use std::sync::Arc;

use berth_certs::Credentials;
use berth_common::ids::{EdgeId, Epoch, NodeId};
use berth_registry::content::Content;
use quinn::Endpoint;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Delivery;
use super::link::{Dependencies, ImageLink};
use crate::nodes::{Place, Places};
use crate::shard::tunnel;

/// What all links are made of.
pub(super) struct Parts {
    pub(super) edge: EdgeId,
    pub(super) epoch: Epoch,
    pub(super) endpoint: Endpoint,
    pub(super) credentials: Credentials,
    pub(super) delivery: Delivery,
    pub(super) content: Content,
    /// Ends all links.
    pub(super) stop: CancellationToken,
}

/// The links that run, each with its place and what ends it.
type Running = HashMap<NodeId, (Place, CancellationToken)>;

/// Keeps a link up to every node. Returns when the edge stops, or a link has panicked; always true.
pub(super) async fn follow(parts: Parts) -> bool {
    let mut places = parts.delivery.nodes.places();
    let (mut running, mut tasks) = (Running::new(), JoinSet::new());
    loop {
        let now = Arc::clone(&places.borrow_and_update());
        end_removed(&parts, &now, &mut running);
        for (node, place) in &*now {
            if !running.contains_key(node) {
                let stop = begin(&parts, node, place, &mut tasks);
                running.insert(node.clone(), (place.clone(), stop));
            }
        }
        if !until_changed(&parts.stop, &mut places, &mut tasks).await {
            return true;
        }
    }
}

/// Waits for a change of the nodes. False if the edge stops, or a link has panicked.
async fn until_changed(
    stop: &CancellationToken,
    places: &mut tokio::sync::watch::Receiver<Places>,
    tasks: &mut JoinSet<()>,
) -> bool {
    loop {
        tokio::select! {
            () = stop.cancelled() => return false,
            changed = places.changed() => return changed.is_ok(),
            Some(ended) = tasks.join_next() => if ended.is_err() { return false },
        }
    }
}

fn end_removed(parts: &Parts, now: &Places, running: &mut Running) {
    running.retain(|node, (place, stop)| {
        let stays = now.get(node) == Some(place);
        if !stays {
            stop.cancel();
            parts.delivery.inventory.removed(node);
        }
        stays
    });
}

fn begin(parts: &Parts, node: &NodeId, place: &Place, tasks: &mut JoinSet<()>) -> CancellationToken {
    let link = ImageLink::new(Dependencies {
        node: node.clone(),
        address: place.address.clone(),
        edge: parts.edge.clone(),
        epoch: parts.epoch,
        endpoint: parts.endpoint.clone(),
        config: tunnel::delivery_config(&parts.credentials, node),
        delivery: parts.delivery.clone(),
        content: parts.content.clone(),
    });
    let stop = parts.stop.child_token();
    let ended = stop.clone();
    // Dropping the link's future drops its connection, which closes it.
    tasks.spawn(async move {
        let None = ended.run_until_cancelled(link.run()).await;
    });
    stop
}
