//! The whole daemon: opens the store, recovers its state, starts the shards and the admin API, and stops them all.

mod connections;
mod recovery;
mod reload;
mod shards;
pub(crate) mod sockets;

use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use berth_common::connections::Connections;
use berth_common::ids::{Epoch, NodeId};
use berth_common::lifecycle::{Ending, Lifecycle};
use berth_common::service;
use berth_engine::Record;
use berth_monitor::{Monitor, Process};
use berth_registry::files::Files;
use berth_registry::images::{Images, collect_regularly};
use berth_registry::remote::Remote;
use berth_registry::server::{self, Registry};
use berth_store::{SledStore, Store, StoreError, Vitals};
use futures_util::future::LocalBoxFuture;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use self::connections::ListenerConnections;
use self::recovery::{nodes, recover};
use self::reload::{Certificates, Hangup};
use self::shards::{PerShard, Shared};
use self::sockets::Sockets;
use crate::admin::{self, Admin, Listeners};
use crate::apps::{self, Apps};
use crate::config::{Config, RegistryAddress};
use crate::delivery::{self, Delivery};
use crate::hooks;
use crate::http::forwarded::Trust;
use crate::http::tls::ServerCertificate;
use crate::metrics::Metrics;
use crate::page::MonitorView;
use crate::prepared::PreparedContainers;
use crate::programs::{self, Programs};
use crate::proxy::Proxy;
use crate::proxy::contained::RoutedContainers;
use crate::proxy::lines::Lines;
use crate::proxy::programmed::RoutedFiles;
use crate::proxy::router::CurrentRouter;
use crate::scheduler;
use crate::secrets::Secrets;
use crate::shard::heartbeats::Heartbeats;
use crate::shard::link::Introduction;
use crate::shard::objects::starts::deliver_turns;
use crate::shard::objects::{self, Inbox, Mailbox};
use crate::shard::wakes::Wakes;
use crate::shard::{Shards, WorkQueue, drains, silence};
use crate::tokens::Tokens;
use crate::usage;
use crate::window;

/// How long requests in flight may take when the edge is told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How long an edge that takes over waits for the one before it: its grace, and time to be told to end.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(60);
/// How often it looks.
const TAKE_OVER_POLL: Duration = Duration::from_millis(10);
/// How many changes of objects a watcher may fall behind.
const CHANGES: usize = 4096;

/// Runs an edge until it is told to stop.
pub(crate) async fn run(
    config: Config,
    mut sockets: Sockets,
    lifecycle: Lifecycle,
) -> anyhow::Result<Ending> {
    let process = Process::started_now();
    let hangup = Hangup::catch().context("SIGHUP")?;
    let directories = prepare_directories(&config.state)?;
    let certificates = ListenerCertificates::load(&config)?;
    let store = Arc::new(open_store(&config, &mut sockets).await?);
    let stored = Stored { store: Arc::clone(&store) as Arc<dyn Store>, vitals: store.vitals(), directories };
    let looked_after = Certificates { own: config.credentials.clone(), listeners: certificates.all() };
    let looking = tokio::spawn(looked_after.look_after(hangup));
    let edge = Edge::start(Arc::new(config), stored, sockets, &lifecycle, process)?;
    let ending = edge.run(certificates, &lifecycle).await;
    looking.abort();
    store.close();
    ending
}

/// Opens the store. An edge that takes over from another listens first, and waits until that has left it.
async fn open_store(config: &Config, sockets: &mut Sockets) -> anyhow::Result<SledStore> {
    let path = config.state.join("store");
    if !config.take_over {
        return Ok(SledStore::open(&path)?);
    }
    let address = config.listen;
    sockets
        .listen_early(config.shards.get().into())
        .with_context(|| format!("cannot listen on {address}"))?;
    let deadline = Instant::now() + TAKE_OVER_LIMIT;
    let mut told = false;
    loop {
        match SledStore::open(&path) {
            Err(StoreError::InUse(_)) if Instant::now() < deadline => {}
            opened => return Ok(opened?),
        }
        if !std::mem::replace(&mut told, true) {
            tracing::info!(%address, "listening, and waiting for the edge before this one to end");
        }
        tokio::time::sleep(TAKE_OVER_POLL).await;
    }
}

/// The certificates of the listeners with TLS.
struct ListenerCertificates {
    admin: Option<Arc<ServerCertificate>>,
    registry: Option<Arc<ServerCertificate>>,
}

impl ListenerCertificates {
    fn load(config: &Config) -> anyhow::Result<Self> {
        let admin = config.admin_tls.as_ref().map(|tls| ServerCertificate::load(&tls.cert, &tls.key));
        let registry = config.registry.as_ref().and_then(|registry| registry.tls.as_ref());
        let registry = registry.map(|(cert, key)| ServerCertificate::load(cert, key));
        Ok(Self { admin: admin.transpose()?, registry: registry.transpose()? })
    }

    fn all(&self) -> Vec<Arc<ServerCertificate>> {
        [&self.admin, &self.registry].into_iter().flatten().map(Arc::clone).collect()
    }
}

/// Creates the directories inside the state directory.
fn prepare_directories(state: &Path) -> anyhow::Result<Directories> {
    let directories = Directories { images: state.join("images"), files: state.join("files") };
    let make = |path: &Path, mode| {
        let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        made.with_context(|| format!("cannot make the directory {}", path.display()))
    };
    make(state, 0o755)?;
    make(&directories.images, 0o700)?;
    make(&directories.files, 0o700)?;
    // Set explicitly: independent of the umask, and for directories that existed already.
    for private in [&directories.images, &directories.files] {
        fs::set_permissions(private, fs::Permissions::from_mode(0o700))
            .with_context(|| private.display().to_string())?;
    }
    make(&state.join("store"), 0o700)?;
    sync_names(state).with_context(|| format!("cannot sync {}", state.display()))?;
    Ok(directories)
}

/// Syncs the names in the directory, and the directory's own name in its parent, as it may be new.
fn sync_names(state: &Path) -> io::Result<()> {
    File::open(state)?.sync_all()?;
    match state.parent().filter(|parent| !parent.as_os_str().is_empty()).map(File::open) {
        Some(Ok(parent)) => parent.sync_all(),
        // If we may not read it, we have not created anything in it.
        _ => Ok(()),
    }
}

struct Edge {
    /// The shards' threads, and that which brings images to nodes.
    shards: Vec<JoinHandle<anyhow::Result<()>>>,
    admin: Admin,
    own: BackgroundWork,
    config: Arc<Config>,
    watch: Arc<MonitorView>,
    connections: ListenerConnections,
}

/// The state on disk.
struct Stored {
    store: Arc<dyn Store>,
    vitals: Arc<Vitals>,
    directories: Directories,
}

struct Directories {
    /// The content of images. Only the edge reads it.
    images: PathBuf,
    /// What apps name by digest. Only the edge reads it.
    files: PathBuf,
}

/// The background work of the edge.
struct BackgroundWork {
    hooks: hooks::Dependencies,
    scheduler: scheduler::Dependencies,
    programs: Arc<Programs>,
}

impl BackgroundWork {
    fn of(shared: &Shared, apps: &Arc<Apps>, mailboxes: &[Mailbox], agenda: &Arc<Notify>) -> Self {
        let hooks = hooks::Dependencies {
            store: Arc::clone(&shared.store),
            keys: Arc::clone(&shared.secrets) as _,
            mailboxes: mailboxes.to_vec(),
            wakes: shared.wakes.clone(),
            allowed: shared.config.allow_hooks_to.clone(),
            metrics: Arc::clone(&shared.metrics),
            is_deployed: {
                let apps = Arc::clone(apps);
                Box::new(move |app| apps.get(app).is_some())
            },
        };
        let scheduler = scheduler::Dependencies {
            store: Arc::clone(&shared.store),
            apps: Arc::clone(apps),
            shards: shared.shards.clone(),
            changed: Arc::clone(agenda),
            wakes: shared.wakes.clone(),
            metrics: Arc::clone(&shared.metrics),
            programs: Arc::clone(&shared.programs),
        };
        Self { hooks, scheduler, programs: Arc::clone(&shared.programs) }
    }
}

/// The receiving ends of a shard.
struct ShardInputs {
    mailbox: Mailbox,
    inbox: Inbox,
    work: WorkQueue<Proxy>,
    /// Its objects whose instances may be running.
    records: Vec<Record>,
}

/// What each shard takes its work from, with the objects that it begins with, and the ways to it.
fn shard_inputs(records: Vec<Vec<Record>>) -> (Shards<Proxy>, Vec<ShardInputs>, Vec<Mailbox>) {
    let (shards, queues) = Shards::new(records.len());
    let inputs: Vec<ShardInputs> = queues.into_iter().zip(records).map(ShardInputs::new).collect();
    let mailboxes = inputs.iter().map(|inputs| inputs.mailbox.clone()).collect();
    (shards, inputs, mailboxes)
}

/// What clients of the registry and of the admin API get at.
struct Content {
    images: Arc<Images>,
    files: Files,
    tokens: Arc<Tokens>,
    registry: Arc<Registry>,
    remote: Arc<Remote>,
}

impl Content {
    fn open(
        config: &Config,
        directories: &Directories,
        store: &Arc<dyn Store>,
        secrets: &Arc<Secrets>,
    ) -> anyhow::Result<Self> {
        let images = Images::open(&directories.images, config.images, Arc::clone(store))?;
        let files = Files::open(&directories.files, Arc::clone(store))?;
        let tokens = Arc::new(Tokens::load(Arc::clone(store))?);
        let registry = Arc::new(Registry::new(Arc::clone(&images), Arc::clone(&tokens) as _)?);
        let remote = Remote::new(config.registries.clone(), Arc::clone(&images), Arc::clone(secrets) as _);
        Ok(Self { images, files, tokens, registry, remote: Arc::new(remote) })
    }
}

/// The server of the admin API.
fn admin(
    shared: Shared,
    content: Content,
    apps: Arc<Apps>,
    own: &BackgroundWork,
    delivery: Delivery,
    watch: Arc<MonitorView>,
    mailboxes: Vec<Mailbox>,
) -> anyhow::Result<Admin> {
    let Content { images, files, tokens, registry, remote } = content;
    Ok(Admin {
        apps,
        wakes: shared.wakes,
        schedules_changed: Arc::clone(&own.scheduler.changed),
        nodes: shared.nodes,
        credentials: shared.config.credentials.clone(),
        delivery,
        watch,
        remote,
        transfers: admin::transfers(),
        tokens,
        secrets: shared.secrets,
        mailboxes,
        shards: shared.shards,
        changes: shared.changes,
        store: shared.store,
        images,
        files,
        registry,
        programs: shared.programs,
        name: NodeId::new(shared.config.name.as_str()).context("the edge's name")?,
        listen: shared.config.listen,
        waiters: Default::default(),
        watchers: admin::watchers(),
        failed_logins: Lines::default(),
    })
}

impl Edge {
    fn start(
        config: Arc<Config>,
        stored: Stored,
        sockets: Sockets,
        lifecycle: &Lifecycle,
        process: Process,
    ) -> anyhow::Result<Self> {
        let Stored { store, vitals, directories } = stored;
        let secrets = Arc::new(Secrets::open(Arc::clone(&store), config.secret_key.clone())?);
        let content = Content::open(&config, &directories, &store, &secrets)?;
        let epoch = store.next_epoch()?;
        let router = Arc::new(CurrentRouter::default());
        let count = usize::from(config.shards.get());
        let metrics = Metrics::new(count);
        let agenda = Arc::new(Notify::new());
        let nodes = Arc::new(nodes(&config, &store)?);
        window::read(&*store, &nodes)?;
        let (shards, ends, mailboxes) = shard_inputs(recover(&*store, &nodes, count)?);
        deliver_turns(&nodes, mailboxes.clone());
        let programs = Arc::new(Programs::new(programs::Dependencies {
            shards: count,
            content: Arc::new(content.files.clone()),
            secrets: Arc::clone(&secrets),
            allowed: config.allow_hooks_to.clone(),
            files: Arc::new(RoutedFiles(Arc::clone(&router))),
            containers: Arc::new(RoutedContainers::new(shards.clone())),
            store: Arc::clone(&store),
            agenda: Arc::clone(&agenda),
        }));
        let apps = load_apps(&store, &router, &metrics, &content.images, &content.files, &programs)?;
        let trust = Arc::new(Trust::new(config.trust_proxy.clone()));
        let connections = ListenerConnections::new(count, &trust);
        let shared = Shared {
            config: Arc::clone(&config),
            lifecycle: lifecycle.clone(),
            store,
            nodes,
            router,
            connections: Arc::clone(&connections.clients),
            trust,
            prepared: PreparedContainers::new(apps.wanted(), Arc::clone(&secrets)),
            secrets,
            start_limits: Arc::default(),
            changes: broadcast::Sender::new(CHANGES),
            wakes: Wakes::default(),
            heartbeats: Arc::new(Heartbeats::new(count)),
            metrics,
            programs,
            shards,
        };
        let (delivery, deliverer) = start_delivery(&shared, &apps, &content.images, epoch)?;
        let mut shards = start_shards(&shared, ends, sockets, epoch)?;
        shards.push(deliverer);
        let own = BackgroundWork::of(&shared, &apps, &mailboxes, &agenda);
        let watch =
            Arc::new(watch(&shared, &mailboxes, &content.registry, vitals, process, connections.all()));
        let admin = admin(shared, content, apps, &own, delivery, Arc::clone(&watch), mailboxes)?;
        Ok(Self { shards, admin, own, config, watch, connections })
    }

    /// Gives up the silent nodes, and empties the drained ones.
    fn look_after_nodes(&self) -> Vec<tokio::task::JoinHandle<()>> {
        let of = || (Arc::clone(&self.admin.nodes), self.admin.mailboxes.clone());
        let (nodes, mailboxes) = of();
        let silence = tokio::spawn(silence::watch(nodes, mailboxes));
        let (nodes, mailboxes) = of();
        let noting = window::note_who_keeps_terms(Arc::clone(&self.admin.store), Arc::clone(&nodes));
        vec![silence, tokio::spawn(drains::watch(nodes, mailboxes)), tokio::spawn(noting)]
    }

    /// Serves until told to stop, then stops in phases.
    async fn run(self, certificates: ListenerCertificates, lifecycle: &Lifecycle) -> anyhow::Result<Ending> {
        let socket = &self.config.admin_socket;
        let admin_tls = self.config.admin_tls.as_ref().zip(certificates.admin);
        let admin_tls = admin_tls.map(|(at, certificate)| anyhow::Ok((at.listen, certificate.acceptor()?)));
        let listeners = Listeners::bind(socket, admin_tls.transpose()?).await?;
        let pruning = tokio::spawn(usage::prune(Arc::clone(&self.admin.store)));
        let looking = self.look_after_nodes();
        open_window_at_the_end(lifecycle, &self.admin, self.config.restart_window);
        let collecting = tokio::spawn(collect_regularly(Arc::clone(&self.admin.images)));
        let collecting_files = tokio::spawn(self.admin.files.clone().collect_regularly());
        let monitor = monitor(self.config.monitor_listen, Arc::clone(&self.watch)).await?;
        let registry = match &self.config.registry {
            Some(RegistryAddress { listen, .. }) => {
                let tls = certificates.registry.map(|certificate| certificate.acceptor()).transpose()?;
                Some(server::Listener::bind(*listen, tls).await?)
            }
            None => None,
        };
        let ListenerConnections { registry: registry_connections, admin: admin_connections, .. } =
            self.connections;
        let registry = registry.map(|listener| {
            tokio::spawn(server::serve(listener, registry_connections, Arc::clone(&self.admin.registry)))
        });
        let admin = tokio::spawn(admin::serve(listeners, admin_connections, self.admin));
        let own_work = [
            tokio::spawn(hooks::run(self.own.hooks, lifecycle.drain().clone())),
            tokio::spawn(scheduler::run(self.own.scheduler, lifecycle.drain().clone())),
            tokio::spawn(programs::follow_secrets(self.own.programs)),
        ];
        tracing::info!(admin = %socket.display(), "ready");
        let status = || self.watch.heartbeats.check().is_ok().then(|| "serving".to_owned());
        service::ready("serving");
        let ending = tokio::select! {
            ending = lifecycle.run_until_signal(GRACE) => ending,
            never = service::keep_alive(status) => match never {},
            // Stopped late, because it also shows how the edge drains.
            never = monitor => match never {},
        };
        pruning.abort();
        looking.iter().for_each(tokio::task::JoinHandle::abort);
        collecting.abort();
        collecting_files.abort();
        // Work that is cut off here is still in the store, and due after the restart.
        own_work.iter().for_each(tokio::task::JoinHandle::abort);
        for listening in std::iter::once(admin).chain(registry) {
            listening.abort();
            // Over when its addresses are free, for the edge that waits for the store.
            let _ = listening.await;
        }
        // Fails only if the socket is gone already.
        let _ = fs::remove_file(socket);
        for shard in self.shards {
            shard.join().map_err(|_| anyhow::anyhow!("a shard panicked"))??;
        }
        tracing::info!(?ending, "stopped");
        Ok(ending?)
    }
}

/// Has containers go on for a while once this process is told to end, if that is wanted.
fn open_window_at_the_end(lifecycle: &Lifecycle, admin: &Admin, length: Duration) {
    if length.is_zero() {
        return;
    }
    let (drain, store, nodes) =
        (lifecycle.drain().clone(), Arc::clone(&admin.store), Arc::clone(&admin.nodes));
    lifecycle.spawn(async move {
        drain.cancelled().await;
        window::open(store, nodes, GRACE + length).await;
    });
}

/// The view of the edge for metrics, health and readiness.
fn watch(
    shared: &Shared,
    mailboxes: &[Mailbox],
    registry: &Arc<Registry>,
    store: Arc<Vitals>,
    process: Process,
    connections: Vec<Arc<Connections>>,
) -> MonitorView {
    MonitorView {
        connections,
        registry: Arc::clone(registry),
        programs: Arc::clone(&shared.programs),
        metrics: Arc::clone(&shared.metrics),
        nodes: Arc::clone(&shared.nodes),
        mailboxes: mailboxes.to_vec(),
        store,
        heartbeats: Arc::clone(&shared.heartbeats),
        lifecycle: shared.lifecycle.clone(),
        process,
        credentials: shared.config.credentials.clone(),
        needs_node: shared.config.ready_with_node,
    }
}

fn load_apps(
    store: &Arc<dyn Store>,
    router: &Arc<CurrentRouter>,
    metrics: &Arc<Metrics>,
    images: &Arc<Images>,
    files: &Files,
    programs: &Arc<Programs>,
) -> anyhow::Result<Arc<Apps>> {
    let dependencies = apps::Dependencies {
        store: Arc::clone(store),
        router: Arc::clone(router),
        metrics: Arc::clone(metrics),
        images: Arc::clone(images),
        files: files.clone(),
        programs: Arc::clone(programs),
    };
    Ok(Arc::new(Apps::load(dependencies)?))
}

/// Starts the thread that brings images to nodes.
fn start_delivery(
    shared: &Shared,
    apps: &Arc<Apps>,
    images: &Images,
    epoch: Epoch,
) -> anyhow::Result<(Delivery, JoinHandle<anyhow::Result<()>>)> {
    let dependencies = delivery::Dependencies {
        config: Arc::clone(&shared.config),
        lifecycle: shared.lifecycle.clone(),
        nodes: Arc::clone(&shared.nodes),
        apps: Arc::clone(apps),
        content: images.content().clone(),
        epoch,
    };
    Delivery::start(dependencies).context("the thread that brings images to nodes")
}

/// Serves metrics, health and readiness, if an address for that is configured.
async fn monitor(
    address: Option<SocketAddr>,
    watch: Arc<MonitorView>,
) -> anyhow::Result<LocalBoxFuture<'static, Infallible>> {
    let Some(address) = address else { return Ok(Box::pin(std::future::pending())) };
    let monitor = Monitor::bind(address).await;
    let monitor = monitor.with_context(|| format!("cannot listen on {address} (--monitor-listen)"))?;
    Ok(Box::pin(async move { monitor.serve(&*watch).await }))
}

impl ShardInputs {
    fn new((work, records): (WorkQueue<Proxy>, Vec<Record>)) -> Self {
        let (mailbox, inbox) = objects::mailbox();
        Self { mailbox, inbox, work, records }
    }
}

fn start_shards(
    shared: &Shared,
    ends: Vec<ShardInputs>,
    mut sockets: Sockets,
    epoch: Epoch,
) -> anyhow::Result<Vec<JoinHandle<anyhow::Result<()>>>> {
    let address = shared.config.listen;
    sockets.expect_served(ends.len())?;
    let mut threads = Vec::new();
    for (index, ends) in ends.into_iter().enumerate() {
        let listener = sockets.of_shard(index).with_context(|| format!("cannot listen on {address}"))?;
        let introduction = Introduction {
            edge: shared.config.name.clone(),
            epoch,
            shard: u16::try_from(index).context("the number of shards")?,
            shards: shared.config.shards.get(),
        };
        let ShardInputs { mailbox, inbox, work, records } = ends;
        let kept = sockets.are_kept();
        let own = PerShard { index, introduction, listener, kept, mailbox, inbox, work, records };
        threads.push(shards::start(shared.clone(), own)?);
    }
    announce(&sockets, address, threads.len(), epoch);
    Ok(threads)
}

fn announce(sockets: &Sockets, asked: SocketAddr, shards: usize, epoch: Epoch) {
    let (address, kept) = (sockets.address(), sockets.are_kept());
    if kept && asked != address {
        tracing::warn!(%asked, %address, "--listen does not count: the service manager keeps another socket");
    }
    tracing::info!(%address, shards, epoch = epoch.0, kept, "listening");
}
