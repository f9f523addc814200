//! The metrics page of the edge: its counters (`metrics`), and gauges that its parts are asked for. `docs/metrics.md`
//! lists them all.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_certs::{Credentials, Lifetime};
use berth_common::connections::Connections;
use berth_common::lifecycle::Lifecycle;
use berth_engine::PublicState;
use berth_monitor::{Page, Process, Watched};
use berth_registry::server::Registry;
use berth_store::Vitals;

use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::programs::Programs;
use crate::shard::heartbeats::Heartbeats;
use crate::shard::objects::Mailbox;

/// How long a shard may take to report its objects. If one does not, the page has none of them.
const STATES_TIMEOUT: Duration = Duration::from_secs(2);
/// The states of objects, with their labels.
const STATES: [(PublicState, &str); 5] = [
    (PublicState::Stopped, "stopped"),
    (PublicState::Running, "running"),
    (PublicState::Healthy, "healthy"),
    (PublicState::Stopping, "stopping"),
    (PublicState::StoppedWithCode, "stopped_with_code"),
];

fn unix_s(lifetime: Lifetime) -> u64 {
    lifetime.until.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since_1970| since_1970.as_secs())
}

/// The parts of an edge that metrics, health and readiness are about.
pub(crate) struct MonitorView {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) mailboxes: Vec<Mailbox>,
    pub(crate) store: Arc<Vitals>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) programs: Arc<Programs>,
    pub(crate) heartbeats: Arc<Heartbeats>,
    /// The connections of each listener.
    pub(crate) connections: Vec<Arc<Connections>>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) process: Process,
    /// The edge's own certificate.
    pub(crate) credentials: Credentials,
    /// Whether an edge without a node is not ready.
    pub(crate) needs_node: bool,
}

impl Watched for MonitorView {
    async fn page(&self) -> Page {
        let mut page = Page::default();
        page.gauge("berth_edge_build_info", "The version of the edge; always 1")
            .with(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
        page.gauge("berth_edge_draining", "Whether the edge is told to end").is(self.is_draining());
        page.gauge("berth_edge_certificate_expiry_seconds", "When the edge's certificate ends, since 1970")
            .is(unix_s(self.credentials.lifetime()));
        self.metrics.add_to(&mut page);
        self.connections(&mut page);
        self.objects(&mut page).await;
        self.nodes(&mut page);
        self.store(&mut page);
        self.images(&mut page);
        self.programs.add_to(&mut page);
        self.process.add_to(&mut page);
        page
    }

    fn health(&self) -> Result<(), String> {
        self.heartbeats.check().map_err(|shard| format!("shard {shard} does not respond"))
    }

    async fn readiness(&self) -> Result<(), String> {
        if self.is_draining() {
            return Err("the edge is stopping".to_owned());
        }
        self.health()?;
        expect_node(self.needs_node, &self.nodes)?;
        self.store.check()
    }
}

/// Where an edge without a node is not ready, an error unless one is connected.
fn expect_node(needed: bool, nodes: &Nodes) -> Result<(), String> {
    if needed && !nodes.is_any_connected() { Err("no node is connected".to_owned()) } else { Ok(()) }
}

impl MonitorView {
    fn is_draining(&self) -> bool {
        self.lifecycle.drain().is_cancelled()
    }

    fn connections(&self, page: &mut Page) {
        let figures: Vec<_> = self.connections.iter().map(|connections| connections.figures()).collect();
        let open = page.gauge("berth_edge_connections", "Open connections, by listener");
        for of in &figures {
            open.with(&[("listener", of.listener)], of.open);
        }
        let refused = page.counter(
            "berth_edge_connections_refused_total",
            "Connections that were closed at once, since the client or the listener had as many as it may",
        );
        for of in &figures {
            refused.with(&[("listener", of.listener)], of.refused);
        }
        let closed = page.counter(
            "berth_edge_connections_closed_total",
            "Connections without a request that were closed, for another or since they waited too long",
        );
        for of in &figures {
            closed.with(&[("listener", of.listener)], of.closed);
        }
    }

    async fn objects(&self, page: &mut Page) {
        let objects =
            page.gauge("berth_edge_objects", "Objects in memory: those that run, and some that did just now");
        let states = futures_util::future::join_all(self.mailboxes.iter().map(Mailbox::states));
        let Ok(states) = tokio::time::timeout(STATES_TIMEOUT, states).await else { return };
        for (state, label) in STATES {
            let count = states.iter().flatten().filter(|found| **found == state).count();
            objects.with(&[("state", label)], count);
        }
    }

    fn nodes(&self, page: &mut Page) {
        let nodes = self.nodes.measures();
        let instances = page.gauge("berth_edge_node_instances", "Instances that have room on the node");
        for node in &nodes {
            instances.with(&[("node", node.node.as_str())], node.instances);
        }
        let connected = page.gauge("berth_edge_node_connected", "Whether the node is connected");
        for node in &nodes {
            connected.with(&[("node", node.node.as_str())], node.connected);
        }
        let draining = page.gauge("berth_edge_node_draining", "Whether the node takes no new instances");
        for node in &nodes {
            draining.with(&[("node", node.node.as_str())], node.draining);
        }
        let ends = page.gauge(
            "berth_edge_node_certificate_expiry_seconds",
            "When the certificate ends that the node last showed, since 1970",
        );
        for node in &nodes {
            if let Some(lifetime) = node.certificate {
                ends.with(&[("node", node.node.as_str())], unix_s(lifetime));
            }
        }
        let trips = page.gauge(
            "berth_edge_node_round_trip_seconds",
            "How long a packet to the node and back takes, while it is connected",
        );
        for node in &nodes {
            if let Some(trip) = node.round_trip {
                trips.with(&[("node", node.node.as_str())], trip);
            }
        }
    }

    fn images(&self, page: &mut Page) {
        let (usage, counts) = (self.registry.usage(), self.registry.counts());
        page.gauge("berth_edge_images_bytes", "Bytes of images, uploads among them").is(usage.bytes);
        page.gauge("berth_edge_images_limit_bytes", "The most that images may take").is(usage.limit_bytes);
        page.gauge("berth_edge_images_blobs", "Blobs that images are made of").is(usage.blobs);
        page.gauge("berth_edge_images_uploads", "Blobs that are being uploaded").is(usage.uploads as u64);
        page.counter("berth_edge_images_pushed_total", "Manifests that clients pushed")
            .is(counts.pushes.get());
        page.counter("berth_edge_images_pulled_total", "Manifests that clients pulled")
            .is(counts.pulls.get());
        page.counter("berth_edge_images_received_bytes_total", "Bytes of blobs from clients")
            .is(counts.received_bytes.get());
        page.counter("berth_edge_images_sent_bytes_total", "Bytes of blobs to clients")
            .is(counts.sent_bytes.get());
        page.counter(
            "berth_edge_images_refused_total",
            "Requests to the registry that were refused: logins, rights, limits",
        )
        .is(counts.refusals.get());
    }

    fn store(&self, page: &mut Page) {
        let store = &self.store;
        page.counter("berth_edge_store_writes_total", "Writes that are durable").is(store.writes.get());
        page.counter("berth_edge_store_failures_total", "Writes that were refused or failed")
            .is(store.failures.get());
        page.gauge("berth_edge_store_queue", "Writes that wait").is(store.waiting.get());
        page.gauge("berth_edge_store_writable", "Whether the store can write, as far as is known")
            .is(store.check().is_ok());
        page.histogram(
            "berth_edge_store_batch_duration_seconds",
            "Batches of writes, and how long each took until it was durable",
        )
        .is(store.batches.read());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use berth_common::wire::call::Welcome;

    use super::*;

    #[test]
    fn an_edge_that_needs_a_node_is_ready_while_one_is_connected() {
        let name = "n1".parse().unwrap();
        let nodes = Nodes::new(&BTreeMap::from([(name, String::new())]));
        let welcome = r#"{"node":"n1","version":"1","draining":false,
            "capacity":{"memory_bytes":1,"cpu_sixteenths":1,"instances":1}}"#;
        let welcome: Welcome = serde_json::from_str(welcome).unwrap();
        assert_eq!(expect_node(true, &nodes), Err("no node is connected".to_owned()));
        assert_eq!(expect_node(false, &nodes), Ok(()));
        nodes.up(0, &welcome);
        assert_eq!(expect_node(true, &nodes), Ok(()));
        nodes.down(&welcome.node);
        assert!(expect_node(true, &nodes).is_err());
    }
}
