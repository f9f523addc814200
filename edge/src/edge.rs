//! The whole daemon: opens the store, brings back what it knew, starts the shards and the admin API, and ends them all.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use berth_common::ids::Epoch;
use berth_common::lifecycle::{Ending, Lifecycle};
use berth_common::service;
use berth_engine::fleet::Demand;
use berth_engine::{Record, RecordState};
use tokio::sync::{broadcast, mpsc};

use crate::admin::{self, Admin, Listeners};
use crate::apps::Apps;
use crate::config::Config;
use crate::http::listener;
use crate::link::Introduction;
use crate::nodes::Nodes;
use crate::objects::{self, Inbox, Mailbox};
use crate::proxy::{Handover, shard_of};
use crate::router::CurrentRouter;
use crate::shard::{self, Own, Shared};
use crate::store::{SledStore, Store};
use crate::tokens::Tokens;

/// How long requests in flight may take when the edge is told to end.
const GRACE: Duration = Duration::from_secs(10);
/// Changes of objects that those who watch may be behind.
const CHANGES: usize = 4096;
/// Most requests that wait to be handed to another shard.
const HANDOVERS: usize = 1024;

/// Runs an edge until it is told to end.
pub(crate) async fn run(config: Config, lifecycle: Lifecycle) -> anyhow::Result<Ending> {
    let images = prepare_directories(&config.state)?;
    let store = Arc::new(SledStore::open(&config.state.join("store"))?);
    let edge = Edge::start(Arc::new(config), Arc::clone(&store) as Arc<dyn Store>, &lifecycle, images)?;
    let ending = edge.run(&lifecycle).await;
    store.close();
    ending
}

/// The directory of what only the edge reads, and that of images, which nodes on this machine read as other users.
fn prepare_directories(state: &Path) -> anyhow::Result<PathBuf> {
    let images = state.join("images");
    let make = |path: &Path, mode| {
        let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        made.with_context(|| format!("cannot make the directory {}", path.display()))
    };
    make(state, 0o755)?;
    make(&images, 0o755)?;
    // The modes hold whatever the umask is, and for directories that were there.
    fs::set_permissions(&images, fs::Permissions::from_mode(0o755)).context("the directory of images")?;
    make(&state.join("store"), 0o700)?;
    sync_names(state).with_context(|| format!("cannot sync {}", state.display()))?;
    Ok(images)
}

/// Makes durable what the directory holds, and its own name where it may have been made just now.
fn sync_names(state: &Path) -> io::Result<()> {
    File::open(state)?.sync_all()?;
    match state.parent().filter(|parent| !parent.as_os_str().is_empty()).map(File::open) {
        Some(Ok(parent)) => parent.sync_all(),
        // Nobody who may not look at it has made anything in it.
        _ => Ok(()),
    }
}

struct Edge {
    shards: Vec<JoinHandle<anyhow::Result<()>>>,
    admin: Admin,
    config: Arc<Config>,
    beats: Arc<[AtomicBool]>,
}

/// The two ends of what leads to one shard.
struct Ways {
    mailbox: Mailbox,
    inbox: Inbox,
    hand_over: mpsc::Sender<Handover>,
    handovers: mpsc::Receiver<Handover>,
}

impl Edge {
    fn start(
        config: Arc<Config>,
        store: Arc<dyn Store>,
        lifecycle: &Lifecycle,
        images: PathBuf,
    ) -> anyhow::Result<Self> {
        let epoch = store.next_epoch()?;
        let router = Arc::new(CurrentRouter::default());
        let apps = Apps::load(Arc::clone(&store), Arc::clone(&router), images.clone())?;
        let nodes = Arc::new(Nodes::new(&config.nodes));
        let count = usize::from(config.shards.get());
        let records = recover(&*store, &nodes, count)?;
        let ways: Vec<Ways> = (0..count).map(|_| Ways::new()).collect();
        let mailboxes: Vec<Mailbox> = ways.iter().map(|ways| ways.mailbox.clone()).collect();
        let shared = Shared {
            config: Arc::clone(&config),
            lifecycle: lifecycle.clone(),
            store: Arc::clone(&store),
            nodes: Arc::clone(&nodes),
            router,
            stocks: apps.stocks(),
            changes: broadcast::Sender::new(CHANGES),
            beats: (0..count).map(|_| AtomicBool::new(true)).collect(),
            shards: ways.iter().map(|ways| ways.hand_over.clone()).collect(),
        };
        let shards = start_shards(&shared, ways, records, epoch)?;
        let admin = Admin {
            apps,
            nodes,
            tokens: Tokens::load(Arc::clone(&store))?,
            mailboxes,
            shards: shared.shards,
            changes: shared.changes,
            store,
            images,
            waiters: Default::default(),
            watchers: admin::watchers(),
        };
        Ok(Self { shards, admin, config, beats: shared.beats })
    }

    /// Serves until told to end, then ends in phases.
    async fn run(self, lifecycle: &Lifecycle) -> anyhow::Result<Ending> {
        let socket = &self.config.admin_socket;
        let listeners = Listeners::bind(socket, self.config.admin_tls.as_ref()).await?;
        let admin = tokio::spawn(admin::serve(listeners, self.admin));
        tracing::info!(admin = %socket.display(), "ready");
        let beats = Arc::clone(&self.beats);
        let status =
            || beats.iter().all(|beat| beat.swap(false, Ordering::Relaxed)).then(|| "serving".to_owned());
        service::ready("serving");
        let ending = tokio::select! {
            ending = lifecycle.run_until_signal(GRACE) => ending,
            never = service::keep_alive(status) => match never {},
        };
        admin.abort();
        // Only fails where the socket is gone already.
        let _ = fs::remove_file(socket);
        for shard in self.shards {
            shard.join().map_err(|_| anyhow::anyhow!("a shard panicked"))??;
        }
        tracing::info!(?ending, "stopped");
        Ok(ending?)
    }
}

impl Ways {
    fn new() -> Self {
        let (mailbox, inbox) = objects::mailbox();
        let (hand_over, handovers) = mpsc::channel(HANDOVERS);
        Self { mailbox, inbox, hand_over, handovers }
    }
}

/// The objects whose instances may have outlived the edge's last process, for each shard.
fn recover(store: &dyn Store, nodes: &Nodes, shards: usize) -> anyhow::Result<Vec<Vec<Record>>> {
    let mut recovered: Vec<Vec<Record>> = (0..shards).map(|_| Vec::new()).collect();
    let records = store.placed()?;
    if !records.is_empty() {
        tracing::info!(objects = records.len(), "objects with instances recovered");
    }
    for record in records {
        if let RecordState::Placed { node, class, .. } = &record.state {
            let demand = Demand::of(&record.key, record.generation, class);
            nodes.restore(&demand, node);
        }
        recovered[shard_of(record.key.id(), shards)].push(record);
    }
    Ok(recovered)
}

fn start_shards(
    shared: &Shared,
    ways: Vec<Ways>,
    records: Vec<Vec<Record>>,
    epoch: Epoch,
) -> anyhow::Result<Vec<JoinHandle<anyhow::Result<()>>>> {
    let mut address = shared.config.listen;
    let mut threads = Vec::new();
    for (index, (ways, records)) in ways.into_iter().zip(records).enumerate() {
        let listener = listener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        // With port 0 the first shard draws a port for all.
        address = listener.local_addr()?;
        let introduction = Introduction {
            edge: shared.config.name.clone(),
            epoch,
            shard: u16::try_from(index).context("the number of shards")?,
            shards: shared.config.shards.get(),
        };
        let Ways { mailbox, inbox, handovers, .. } = ways;
        let own = Own { index, introduction, listener, mailbox, inbox, handovers, records };
        threads.push(shard::start(shared.clone(), own)?);
    }
    announce(address, threads.len(), epoch);
    Ok(threads)
}

fn announce(address: SocketAddr, shards: usize, epoch: Epoch) {
    tracing::info!(%address, shards, epoch = epoch.0, "listening");
}
