//! The wait of a deployment until enough nodes hold its images.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_common::ids::NodeId;
use berth_common::spec::{AppSpec, ImageRef};
use berth_common::wire::images::ImageState;
use tokio::time::Instant;

use super::Delivery;
use super::wants::images_of;

/// How often it is looked whether nodes have come or gone.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How many nodes must hold the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// All that are connected, take instances, and run it.
    All,
    /// At least so many of those.
    AtLeast(usize),
}

/// Why a deployment does not wait any longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrefetchError {
    /// A node cannot have it.
    #[error("node {node} cannot hold the image {image}: {message}")]
    Failed { node: NodeId, image: String, message: String },
    /// It took too long.
    #[error("{ready} of {needed} nodes hold the image {image} after {} s; {waiting}", .timeout.as_secs())]
    TimedOut { image: String, ready: usize, needed: usize, waiting: String, timeout: Duration },
}

/// How far the nodes are with one image.
#[derive(Default)]
struct Count {
    ready: usize,
    failed: Vec<(NodeId, String)>,
    coming: Vec<NodeId>,
}

impl Delivery {
    /// Has the images of an app held, and waits for that.
    pub(crate) async fn prefetch(
        &self,
        app: &AppSpec,
        goal: Goal,
        timeout: Duration,
    ) -> Result<(), PrefetchError> {
        let images = images_of(app);
        let _pending = self.wants.add(images.clone());
        let deadline = Instant::now() + timeout;
        let mut changes = self.holdings.changes();
        loop {
            let unmet = images.iter().find_map(|image| self.unmet(image, goal));
            let Some((image, needed, count)) = unmet else { return Ok(()) };
            count.check(image, goal)?;
            if Instant::now() >= deadline {
                return Err(count.timed_out(image, needed, timeout));
            }
            let look = (Instant::now() + LOOK_EVERY).min(deadline);
            let _ = tokio::time::timeout_at(look, changes.changed()).await;
        }
    }

    fn unmet<'i>(&self, image: &'i ImageRef, goal: Goal) -> Option<(&'i ImageRef, usize, Count)> {
        let fitting = self.nodes.fitting(&image.architectures);
        let needed = match goal {
            Goal::All => fitting.len(),
            Goal::AtLeast(least) => least,
        };
        let count = self.count(image, fitting);
        (count.ready < needed).then_some((image, needed, count))
    }

    fn count(&self, image: &ImageRef, fitting: BTreeSet<NodeId>) -> Count {
        let mut count = Count::default();
        for node in fitting {
            let holding = self.holdings.of(&node, &image.digest);
            match holding.state.filter(|_| holding.connected) {
                Some(ImageState::Ready) => count.ready += 1,
                Some(ImageState::Failed { message }) => count.failed.push((node, message)),
                _ => count.coming.push(node),
            }
        }
        count
    }
}

impl Count {
    /// An error where the goal is out of reach because nodes have failed.
    fn check(&self, image: &ImageRef, goal: Goal) -> Result<(), PrefetchError> {
        let reachable = match goal {
            Goal::All => self.failed.is_empty(),
            // More nodes may come, unless it is the image's own fault.
            Goal::AtLeast(least) => self.failed.is_empty() || self.ready + self.coming.len() >= least,
        };
        match self.failed.first() {
            Some((node, message)) if !reachable => Err(PrefetchError::Failed {
                node: node.clone(),
                image: name(image),
                message: message.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn timed_out(&self, image: &ImageRef, needed: usize, timeout: Duration) -> PrefetchError {
        let names: Vec<&str> = self.coming.iter().map(NodeId::as_str).collect();
        let waiting = match names.as_slice() {
            [] => "no other node is connected that takes it".to_owned(),
            names => format!("still on their way: {}", names.join(", ")),
        };
        PrefetchError::TimedOut { image: name(image), ready: self.ready, needed, waiting, timeout }
    }
}

fn name(image: &ImageRef) -> String {
    image.name.clone().unwrap_or_else(|| format!("{}@{}", image.repository, image.digest))
}
