//! The wait of a deployment until enough nodes hold its images.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_common::ids::NodeId;
use berth_common::spec::{AppSpec, ImageRef};
use berth_common::wire::images::ImageState;
use tokio::time::Instant;

use super::Delivery;
use super::wanted::{Pending, images_of};
use crate::apps::Apps;

/// How often the set of connected nodes is checked.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How many nodes must hold the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// All nodes that are connected, accept instances, and can run the image.
    All,
    /// At least this many of those.
    AtLeast(usize),
}

/// Why a deployment stops waiting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrefetchError {
    /// A node failed to fetch it.
    #[error("node {node} cannot hold the image {image}: {message}")]
    Failed { node: NodeId, image: String, message: String },
    /// The timeout has passed.
    #[error("{ready} of {needed} nodes hold the image {image} after {} s; {waiting}", .timeout.as_secs())]
    TimedOut { image: String, ready: usize, needed: usize, waiting: String, timeout: Duration },
}

/// The nodes' progress with one image.
#[derive(Default)]
struct Count {
    ready: usize,
    failed: Vec<(NodeId, String)>,
    coming: Vec<NodeId>,
}

impl Delivery {
    /// Adds the images of an app to the wanted images, and waits until enough nodes hold them. They stay wanted until
    /// the result is dropped: `settle` does that once the app itself wants them.
    pub(crate) async fn prefetch(
        &self,
        app: &AppSpec,
        goal: Goal,
        timeout: Duration,
    ) -> Result<Pending, PrefetchError> {
        let images = images_of(app);
        let pending = self.wanted.add(images.clone());
        let deadline = Instant::now() + timeout;
        let mut changes = self.inventory.changes();
        loop {
            let unmet = images.iter().find_map(|image| self.unmet(image, goal));
            let Some((image, needed, count)) = unmet else { return Ok(pending) };
            count.check(image, goal)?;
            if Instant::now() >= deadline {
                return Err(count.timed_out(image, needed, timeout));
            }
            let look = (Instant::now() + LOOK_EVERY).min(deadline);
            let _ = tokio::time::timeout_at(look, changes.changed()).await;
        }
    }

    /// The app is current now. Its images are wanted by it before the deployment lets them go: otherwise nodes might
    /// remove them in between.
    pub(crate) fn settle(&self, apps: &Apps, pending: Option<Pending>) {
        self.wanted.renew(apps);
        drop(pending);
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
            let holding = self.inventory.of(&node, &image.digest);
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
    /// Fails if the goal cannot be reached any more, because nodes have failed.
    fn check(&self, image: &ImageRef, goal: Goal) -> Result<(), PrefetchError> {
        let reachable = match goal {
            Goal::All => self.failed.is_empty(),
            // More nodes may connect, unless the image itself is at fault.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use berth_common::image::{Architecture, Digest};
    use berth_common::wire::call::{Capacity, DiskCapacity, Welcome};
    use berth_common::wire::images::ImageStatus;
    use berth_store::fixtures::app;

    use super::super::{ImageInventory, WantedImages};
    use super::*;
    use crate::nodes::Nodes;

    const SOON: Duration = Duration::from_secs(5);

    fn image() -> Digest {
        Digest::of(b"x")
    }

    /// Nodes that are connected, of which only some accept images.
    fn delivery(nodes: &[(&str, Architecture)]) -> Delivery {
        let addresses: BTreeMap<NodeId, String> =
            nodes.iter().map(|(name, _)| (name.parse().unwrap(), String::new())).collect();
        let known = Arc::new(Nodes::new(&addresses));
        for (name, architecture) in nodes {
            let welcome = Welcome {
                node: name.parse().unwrap(),
                version: String::new(),
                capacity: Capacity { memory_bytes: 1, cpu_sixteenths: 1, instances: 1 },
                disk: DiskCapacity::default(),
                draining: false,
                kept_for_ms: None,
                region: None,
                labels: Default::default(),
                architecture: Some(*architecture),
                attach: None,
                stamp: None,
                starts_at_once: None,
            };
            known.up(0, &welcome);
        }
        let inventory = Arc::new(ImageInventory::new(Arc::clone(&known)));
        Delivery { wanted: Arc::new(WantedImages::default()), inventory, nodes: known }
    }

    fn report(delivery: &Delivery, node: &str, state: ImageState) {
        let node = node.parse().unwrap();
        delivery.inventory.reported(&node, ImageStatus { image: image(), state });
    }

    /// The node is connected and knows which image it is to hold.
    fn connect(delivery: &Delivery, node: &str) {
        let node = node.parse().unwrap();
        delivery.inventory.connected(&node, true);
        delivery.inventory.wanted(&node, &[image()]);
    }

    fn spec() -> AppSpec {
        let mut spec = app("a", &[]);
        let class = spec.classes.values_mut().next().unwrap();
        class.recipe.image.architectures = [Architecture::Amd64].into();
        spec
    }

    #[tokio::test(start_paused = true)]
    async fn only_nodes_that_can_run_the_image_are_waited_for() {
        let delivery =
            delivery(&[("a", Architecture::Amd64), ("b", Architecture::Amd64), ("c", Architecture::Arm64)]);
        connect(&delivery, "a");
        report(&delivery, "a", ImageState::Ready);
        let app = spec();
        let mut waiting = std::pin::pin!(delivery.prefetch(&app, Goal::All, SOON));
        assert!(tokio::time::timeout(SOON / 2, &mut waiting).await.is_err());
        assert!(delivery.wanted.subscribe().borrow().contains_key(&image()));
        // Reports on a lost connection do not count.
        report(&delivery, "b", ImageState::Ready);
        assert!(tokio::time::timeout(SOON / 4, &mut waiting).await.is_err());
        connect(&delivery, "b");
        report(&delivery, "b", ImageState::Ready);
        let pending = waiting.await.unwrap();
        assert!(delivery.wanted.subscribe().borrow().contains_key(&image()));
        drop(pending);
        assert!(delivery.wanted.subscribe().borrow().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_node_ends_the_wait_unless_others_are_enough() {
        let delivery = delivery(&[("a", Architecture::Amd64), ("b", Architecture::Amd64)]);
        ["a", "b"].iter().for_each(|node| connect(&delivery, node));
        report(&delivery, "a", ImageState::Failed { message: "damaged".to_owned() });
        let error = delivery.prefetch(&spec(), Goal::All, SOON).await.unwrap_err().to_string();
        assert!(error.contains("node a") && error.contains("damaged"), "{error}");
        report(&delivery, "b", ImageState::Ready);
        delivery.prefetch(&spec(), Goal::AtLeast(1), SOON).await.unwrap();
        assert!(delivery.prefetch(&spec(), Goal::AtLeast(2), SOON).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_names_the_nodes_that_are_not_done() {
        let delivery = delivery(&[("a", Architecture::Amd64)]);
        connect(&delivery, "a");
        report(&delivery, "a", ImageState::Fetching { done_bytes: 1, total_bytes: 2 });
        let error = delivery.prefetch(&spec(), Goal::All, SOON).await.unwrap_err().to_string();
        assert!(error.contains("0 of 1 nodes") && error.contains("on their way: a"), "{error}");
        let error = delivery.prefetch(&spec(), Goal::AtLeast(2), SOON).await.unwrap_err().to_string();
        assert!(error.contains("0 of 2 nodes"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_nodes_there_is_nothing_to_wait_for() {
        delivery(&[]).prefetch(&spec(), Goal::All, SOON).await.unwrap();
    }
}
