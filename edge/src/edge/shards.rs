//! One shard: a thread with its own runtime, listener, engine, connections to all nodes, and pool. Connects these
//! parts, and stops them in order when the edge stops.

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use berth_common::connections::Connections;
use berth_common::lifecycle::Lifecycle;
use berth_common::wire::close;
use berth_engine::Record;
use berth_store::Store;
use quinn::VarInt;
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::http::forwarded::Trust;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::prepared::PreparedContainers;
use crate::programs::Programs;
use crate::proxy::lines::Lines;
use crate::proxy::pool::Pool;
use crate::proxy::router::CurrentRouter;
use crate::proxy::{Proxy, listener};
use crate::secrets::Secrets;
use crate::shard::heartbeats::{HEARTBEAT_INTERVAL, Heartbeats};
use crate::shard::link::{Introduction, LinkParts, Links};
use crate::shard::objects::{self, Change, Inbox, Mailbox, Objects};
use crate::shard::unread::Unread;
use crate::shard::wakes::Wakes;
use crate::shard::{Shards, WorkQueue, tunnel};
use crate::start_rate::StartLimits;

/// Longest wait for the close of the connections to reach the nodes.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What all shards share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) router: Arc<CurrentRouter>,
    pub(crate) trust: Arc<Trust>,
    /// The connections of all clients.
    pub(crate) connections: Arc<Connections>,
    /// The containers that nodes are to keep prepared.
    pub(crate) prepared: PreparedContainers,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) start_limits: Arc<StartLimits>,
    /// Receives changed objects.
    pub(crate) changes: broadcast::Sender<Arc<Change>>,
    /// Wakes the hook delivery for objects with new events.
    pub(crate) wakes: Wakes,
    pub(crate) heartbeats: Arc<Heartbeats>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) programs: Arc<Programs>,
    /// Runs work on the shards.
    pub(crate) shards: Shards<Proxy>,
}

/// What one shard has for itself.
pub(crate) struct PerShard {
    pub(crate) index: usize,
    pub(crate) introduction: Introduction,
    pub(crate) listener: StdListener,
    /// The socket outlives this process.
    pub(crate) kept: bool,
    pub(crate) mailbox: Mailbox,
    pub(crate) inbox: Inbox,
    /// Work that others have queued for this shard.
    pub(crate) work: WorkQueue<Proxy>,
    /// Its objects whose instances may be running.
    pub(crate) records: Vec<Record>,
}

/// Starts a shard's thread. It ends when the edge stops; if it ends before, the edge drains.
pub(crate) fn start(shared: Shared, own: PerShard) -> std::io::Result<JoinHandle<anyhow::Result<()>>> {
    let name = format!("shard-{}", own.index);
    std::thread::Builder::new().name(name).spawn(move || {
        // Also on a panic or error: an edge without one of its shards must not go on.
        let _drain = shared.lifecycle.drain().clone().drop_guard();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("the shard's runtime")?.block_on(run(shared, own))
    })
}

async fn run(shared: Shared, own: PerShard) -> anyhow::Result<()> {
    let lifecycle = shared.lifecycle.clone();
    let endpoint = tunnel::endpoint().context("a UDP socket for the connections to the nodes")?;
    let mut parts = JoinSet::new();
    let unread = Unread::new();
    let links = start_links(&shared, &own, &endpoint, &unread, &mut parts);
    parts.spawn(async move { unread.look().await });
    let pool = Arc::new(Pool::default());

    let connections = Arc::clone(&pool);
    let deps = objects::Dependencies {
        mailbox: own.mailbox.clone(),
        store: Arc::clone(&shared.store),
        nodes: Arc::clone(&shared.nodes),
        links: Arc::clone(&links),
        gone: Box::new(move |instance| connections.forget(instance)),
        secrets: Arc::clone(&shared.secrets),
        start_limits: shared.start_limits,
        node_loss: shared.config.node_loss,
        changes: shared.changes.clone(),
        wakes: shared.wakes.clone(),
        metrics: Arc::clone(&shared.metrics),
    };
    parts.spawn(Objects::new(deps, own.records).run(own.inbox));
    parts.spawn({
        let pool = Arc::clone(&pool);
        async move { pool.sweep().await }
    });
    parts.spawn(beat(Arc::clone(&shared.heartbeats), own.index));
    let proxy = Arc::new(Proxy {
        shard: own.index,
        trust: shared.trust,
        router: shared.router,
        shards: shared.shards,
        objects: own.mailbox,
        waiters: AtomicU64::new(0),
        links,
        pool,
        lifecycle: lifecycle.clone(),
        metrics: shared.metrics,
        show_errors: shared.config.show_errors,
        lines: Lines::default(),
        programs: shared.programs,
    });
    parts.spawn(own.work.serve(lifecycle.clone(), Arc::clone(&proxy)));
    let listener = tokio::net::TcpListener::from_std(own.listener).context("the listening socket")?;
    lifecycle.spawn(listener::listen(listener, own.kept, shared.connections, proxy, lifecycle.clone()));

    let ended = tokio::select! {
        // When the edge stops, tasks end by themselves; only an earlier end is an error.
        biased;
        () = lifecycle.stop().cancelled() => Ok(()),
        ended = parts.join_next() => Err(anyhow::anyhow!("a part of the shard ended by itself: {ended:?}")),
    };
    endpoint.close(VarInt::from_u32(close::SHUTDOWN), b"the edge stops");
    let _ = tokio::time::timeout(CLOSE_LIMIT, endpoint.wait_idle()).await;
    ended
}

async fn beat(heartbeats: Arc<Heartbeats>, index: usize) {
    loop {
        heartbeats.beat(index);
        tokio::time::sleep(HEARTBEAT_INTERVAL).await;
    }
}

/// The links to all nodes, which run as a part of the shard.
fn start_links(
    shared: &Shared,
    own: &PerShard,
    endpoint: &quinn::Endpoint,
    unread: &Arc<Unread>,
    parts: &mut JoinSet<()>,
) -> Arc<Links> {
    let (links, to_run) = Links::new(LinkParts {
        introduction: own.introduction.clone(),
        endpoint: endpoint.clone(),
        credentials: shared.config.credentials.clone(),
        nodes: Arc::clone(&shared.nodes),
        objects: own.mailbox.clone(),
        // One link per node sends the prepared containers; any shard's will do.
        prepared: (own.index == 0).then(|| shared.prepared.clone()),
        unread: Arc::clone(unread),
        stop: shared.lifecycle.stop().clone(),
    });
    let links = Arc::new(links);
    parts.spawn(Arc::clone(&links).follow(to_run));
    links
}
