//! Brings images to nodes: sends each node the list of images to hold, sends it the blobs it requests, and tracks its
//! progress. On a thread and over connections of its own, so that bulk transfers do not delay requests.
//!
//! `wanted` is the list of images to hold, `inventory` what nodes report they hold, `link` the connection to one node,
//! `blobs` the transfer of blobs over it, `prefetch` the wait of a deployment for its images.

mod blobs;
mod inventory;
mod link;
mod links;
mod prefetch;
mod wanted;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use berth_common::ids::Epoch;
use berth_common::lifecycle::Lifecycle;
use berth_common::wire::close;
use berth_registry::content::Content;
use quinn::VarInt;
use tokio::task::JoinSet;

use crate::apps::Apps;
use crate::config::Config;
use crate::nodes::Nodes;
use crate::shard::tunnel;

pub(crate) use self::inventory::{ImageInventory, ImageOnNode};
pub(crate) use self::prefetch::{Goal, PrefetchError};
pub(crate) use self::wanted::{Pending, WantedImages};

/// Longest wait for the close of the connections to reach the nodes.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// A handle for the rest of the edge.
#[derive(Clone)]
pub(crate) struct Delivery {
    wanted: Arc<WantedImages>,
    inventory: Arc<ImageInventory>,
    nodes: Arc<Nodes>,
}

/// What the delivery is built from.
pub(crate) struct Dependencies {
    pub(crate) config: Arc<Config>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) apps: Arc<Apps>,
    pub(crate) content: Content,
    pub(crate) epoch: Epoch,
}

impl Delivery {
    /// Starts the thread. It ends when the edge stops; if it ends before, the edge drains.
    pub(crate) fn start(
        dependencies: Dependencies,
    ) -> std::io::Result<(Self, JoinHandle<anyhow::Result<()>>)> {
        let wanted = Arc::new(WantedImages::of(&dependencies.apps));
        let inventory = Arc::new(ImageInventory::new(Arc::clone(&dependencies.nodes)));
        let delivery = Self { wanted, inventory, nodes: Arc::clone(&dependencies.nodes) };
        let own = delivery.clone();
        let thread = std::thread::Builder::new().name("images".to_owned()).spawn(move || {
            // Also on a panic or error: without this thread the edge could not start anything new.
            let _drain = dependencies.lifecycle.drain().clone().drop_guard();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.context("the runtime of the delivery of images")?.block_on(run(own, dependencies))
        })?;
        Ok((delivery, thread))
    }

    /// The images that nodes hold.
    pub(crate) fn inventory(&self) -> &ImageInventory {
        &self.inventory
    }
}

async fn run(delivery: Delivery, dependencies: Dependencies) -> anyhow::Result<()> {
    let Dependencies { config, lifecycle, apps, content, epoch, .. } = dependencies;
    let endpoint = tunnel::endpoint().context("a UDP socket for the delivery of images")?;
    let mut tasks = JoinSet::new();
    let parts = links::Parts {
        edge: config.name.clone(),
        epoch,
        endpoint: endpoint.clone(),
        credentials: config.credentials.clone(),
        delivery: delivery.clone(),
        content,
        stop: lifecycle.stop().clone(),
    };
    tasks.spawn(links::follow(parts));
    tasks.spawn(async move { delivery.wanted.follow(&apps).await });
    let ended = tokio::select! {
        // When the edge stops, tasks end by themselves; only an earlier end is an error.
        biased;
        () = lifecycle.stop().cancelled() => Ok(()),
        ended = tasks.join_next() => Err(anyhow::anyhow!("a part of the delivery of images ended by itself: {ended:?}")),
    };
    endpoint.close(VarInt::from_u32(close::SHUTDOWN), b"the edge stops");
    let _ = tokio::time::timeout(CLOSE_LIMIT, endpoint.wait_idle()).await;
    ended
}
