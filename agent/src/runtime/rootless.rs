//! The agent's side of supervisor and shims: prepares an instance's directory, has its shim started, and follows it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use berth_common::ids::{EdgeId, InstanceId};
use berth_common::wire::call::{DiskCapacity, PrepareTarget, RefusalCode, Start};
use berth_shim::disk::Disk;
use berth_shim::layout::Layout;
use berth_shim::messages::{ShimCall, SupervisorAnswer, SupervisorCall, connect_shim};
use berth_shim::metering::{self, Seen};
use berth_shim::process::find_program;
use berth_shim::protection::Protection;
use berth_shim::state_files::{read_json, write_json_fast};
use berth_shim::subordinate_ids;
use berth_shim::trial::{self, Trial};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::async_fd::register;
use super::connection::{Shim, ask_supervisor};
use super::disks::Disks;
use super::holder::{Held, Holder};
use super::logs::{LogEntry, Logs};
use super::maker::Maker;
use super::reclaim::{recorded_end, release, remove, wipe};
use super::shim_pool::{Prepared, ShimFactory, ShimPool, Tools};
use super::{Adopted, AdoptedState, EVENT_QUEUE, Event, Events, Runtime};
use crate::images::{Image, Images};
use crate::launch::{Launch, LaunchError};
use crate::site::Site;

/// Prepared shims that one start may use up.
const MAX_SHIMS: usize = 3;
/// How often logs are looked through for those that are too old or too many, at most and at least.
const PRUNE_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The one real runtime: rootless containers through libcontainer.
#[derive(Debug)]
pub struct Rootless {
    layout: Layout,
    maker: Rc<Maker>,
    holder: Rc<Holder>,
    disks: Rc<Disks>,
    /// Shims that are followed: cancelled when they have ended.
    followed: Rc<RefCell<HashMap<InstanceId, CancellationToken>>>,
    /// How the instances come by their containers that have a place and are not yet started.
    reserved: RefCell<HashMap<InstanceId, Reserved>>,
    logs: Logs,
    /// Has logs looked through soon.
    prune: Rc<Notify>,
}

/// How an instance comes by its container.
#[derive(Debug)]
enum Reserved {
    /// By being made.
    New,
    /// By taking one that is held.
    Held(Held),
    /// By being made, on the disk of one that is held and must go first.
    InPlaceOf(Held),
    /// By being made, on a disk that is about to be free.
    Later(oneshot::Receiver<Disk>),
}

/// What the runtime is told when it is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node's name, and where it is.
    pub site: Site,
    /// The directory of its state.
    pub state: PathBuf,
    /// Whether instances whose disk cannot be limited are refused.
    pub enforce_disks: bool,
    /// How many shims of each kind are kept prepared.
    pub waiting_shims: usize,
    /// The name server for instances, if not the machine's.
    pub name_server: Option<IpAddr>,
    /// Where `pasta` is, if not in the usual places.
    pub pasta: Option<PathBuf>,
    /// Where `nft` is, if not in the usual places.
    pub nft: Option<PathBuf>,
    /// The layers of protection around containers.
    pub protection: Protection,
}

impl Rootless {
    /// Opens the node's state and finds its supervisor. Must be called within a `LocalSet`.
    pub async fn open(options: Options, images: Rc<Images>) -> io::Result<Self> {
        let Options { site, state, enforce_disks, waiting_shims, name_server, pasta, nft, protection } =
            options;
        let layout = Layout::open(&state)?;
        let (uids, gids) = subordinate_ids::of_this_user()?;
        let answer = ask_supervisor(&layout, &SupervisorCall::Ping).await?;
        let SupervisorAnswer::Pong { version, cgroup } = answer else {
            return Err(io::Error::other(format!("the supervisor answered strangely: {answer:?}")));
        };
        tracing::info!(supervisor = %version, cgroup = %cgroup.display(), "found the supervisor");
        let tools = Tools {
            name_server,
            pasta: pasta.or_else(|| find_program("pasta")),
            nft: nft.or_else(|| find_program("nft")),
        };
        let factory = ShimFactory { layout: layout.clone(), cgroup, uids, gids, tools, protection };
        let disks = Rc::new(Disks::open(
            &layout,
            enforce_disks,
            trial::run(Trial::MemoryDisk, &trial::Paths { directory: None, cgroup: None }).is_ok(),
        )?);
        let shims = ShimPool::new(factory, waiting_shims);
        let maker = Rc::new(Maker { site, logs: layout.logs(), images, protection, shims });
        let holder = Holder::new(Rc::clone(&maker), Rc::clone(&disks));
        let (logs, prune) = (Logs::at(layout.logs()), Rc::new(Notify::new()));
        tokio::task::spawn_local(keep_pruned(layout.clone(), logs.clone(), Rc::clone(&prune)));
        let (followed, reserved) = (Rc::default(), RefCell::default());
        Ok(Self { layout, maker, holder, disks, followed, reserved, logs, prune })
    }

    async fn try_start(&self, launch: &Launch) -> Result<(Shim, Events), LaunchError> {
        let failed = |e: io::Error| LaunchError::new(RefusalCode::Other, format!("start the instance: {e}"));
        let instance = launch.start.instance;
        let reserved = self.reserved.borrow_mut().remove(&instance).unwrap_or(Reserved::New);
        match reserved {
            Reserved::New => {}
            Reserved::InPlaceOf(held) => held.end().await,
            Reserved::Later(free) => {
                let disk = free.await.ok();
                let disk = disk.map_or_else(|| self.disks.take(&launch.start.recipe.resources), Ok)?;
                self.disks.give(instance, disk);
            }
            Reserved::Held(held) => match self.assign(held.into_prepared(), launch).await {
                Ok(started) => return Ok(started),
                Err(error) => self.make_up_for(instance, launch, &error).await?,
            },
        }
        let disk = self.disks.of(instance);
        let disk = disk.ok_or_else(|| LaunchError::new(RefusalCode::Other, "no disk was set aside"))?;
        let mut last = None;
        for _ in 0..MAX_SHIMS {
            let made = self.maker.describe(&launch.start.recipe, &disk).await?;
            match self.assign(made, launch).await {
                Ok(started) => return Ok(started),
                Err(error) => {
                    tracing::warn!(%instance, %error, "a prepared shim is gone; taking another");
                    remove(&self.layout.instance(instance)).await.map_err(failed)?;
                    last = Some(error);
                }
            }
        }
        Err(failed(last.unwrap_or_else(|| io::Error::other("no shim could be had"))))
    }

    /// A container that was held is gone, as one is whose network's process was killed: its disk cannot be had until it
    /// is wiped, so another is taken.
    async fn make_up_for(
        &self,
        instance: InstanceId,
        launch: &Launch,
        error: &io::Error,
    ) -> Result<(), LaunchError> {
        tracing::warn!(%instance, %error, "a container that was held is gone; making another");
        release(&self.disks, instance).await;
        self.disks.give(instance, self.disks.take(&launch.start.recipe.resources)?);
        let cleared = remove(&self.layout.instance(instance)).await;
        cleared.map_err(|e| LaunchError::new(RefusalCode::Other, format!("start the instance: {e}")))
    }

    /// Sets a disk aside, that of a container that is held where no other is free.
    fn reserve_disk(&self, start: &Start) -> Result<Reserved, LaunchError> {
        let resources = &start.recipe.resources;
        let error = match self.disks.take(resources) {
            Ok(disk) => {
                self.disks.give(start.instance, disk);
                return Ok(Reserved::New);
            }
            Err(error) => error,
        };
        if let Some(held) = self.holder.take_for_disk(resources.disk_bytes) {
            self.disks.give(start.instance, held.disk().clone());
            return Ok(Reserved::InPlaceOf(held));
        }
        self.holder.wait_for_disk(resources).map(Reserved::Later).ok_or(error)
    }

    /// Makes a shim, whose container is made or described, this instance's, and has it run the container. An error
    /// means that the shim has ended.
    async fn assign(&self, prepared: Prepared, launch: &Launch) -> io::Result<(Shim, Events)> {
        let instance = launch.start.instance;
        let assignment = self.maker.assignment(&launch.start, self.logs.path(instance));
        if launch.start.logs.enabled {
            self.logs.enter(&LogEntry::of(launch))?;
        }
        write_json_fast(&prepared.directory.join("launch.json"), &without_env(launch))?;
        write_json_fast(&prepared.directory.join("run.json"), &assignment)?;
        fs::rename(&prepared.directory, self.layout.instance(instance))?;
        prepared.call(&ShimCall::Run).await?;
        Ok(self.follow(instance, prepared.socket, prepared.image))
    }

    /// Follows a shim whose socket is connected. Its image's layers stay until it has gone.
    fn follow(
        &self,
        instance: InstanceId,
        socket: AsyncFd<OwnedFd>,
        image: Option<Rc<Image>>,
    ) -> (Shim, Events) {
        let shim = Shim::connected(socket);
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let directory = self.layout.instance(instance);
        let (followed, disks) = (shim.clone(), Rc::clone(&self.disks));
        let (all, gone) = (Rc::clone(&self.followed), CancellationToken::new());
        all.borrow_mut().insert(instance, gone.clone());
        tokio::task::spawn_local(async move {
            let ended = match followed.listen(&events).await {
                Some(ended) => ended,
                None => recorded_end(&directory).await,
            };
            followed.answer_no_more();
            let _ = events.send(Event::Exited(ended)).await;
            followed.until_gone().await;
            drop(image);
            all.borrow_mut().remove(&instance);
            gone.cancel();
            release(&disks, instance).await;
        });
        (shim, receiver)
    }

    async fn adopt_one(&self, instance: InstanceId) -> io::Result<Option<Adopted<Shim>>> {
        let directory = self.layout.instance(instance);
        let Ok(Some(launch)) = read_json::<Launch>(&directory.join("launch.json")) else {
            tracing::warn!(%instance, "removing an instance that was never started");
            recorded_end(&directory).await;
            remove(&directory).await?;
            return Ok(None);
        };
        let disk = read_json::<Disk>(&directory.join("disk.json"))?;
        let state = match (read_json(&directory.join("exit.json"))?, connect_shim(&directory)) {
            (Some(ended), _) => AdoptedState::Exited(ended),
            (None, Ok(socket)) => {
                if let Some(disk) = disk {
                    self.disks.adopt(instance, disk);
                }
                let image = self.maker.images.adopt(&launch.start.recipe.image.digest);
                let (container, events) = self.follow(instance, register(socket)?, image);
                if directory.join("run.json").exists() {
                    // The earlier agent came no further. A shim that has begun meanwhile says so, and goes on.
                    container.run().await?;
                }
                AdoptedState::Running { container, events }
            }
            (None, Err(_)) => AdoptedState::Exited(recorded_end(&directory).await),
        };
        let carried = Seen::read(&directory).carried;
        Ok(Some(Adopted { launch, state, carried }))
    }
}

impl Runtime for Rootless {
    type Container = Shim;

    fn disks(&self) -> DiskCapacity {
        self.disks.capacity()
    }

    fn disks_taken(&self) -> u32 {
        self.disks.taken()
    }

    async fn check(&self) -> io::Result<()> {
        ask_supervisor(&self.layout, &SupervisorCall::Ping).await.map(drop)
    }

    fn reserve(&self, start: &Start) -> Result<(), LaunchError> {
        let reserved = match self.holder.take(&start.recipe) {
            Some(held) => {
                self.disks.give(start.instance, held.disk().clone());
                Reserved::Held(held)
            }
            None => self.reserve_disk(start)?,
        };
        self.reserved.borrow_mut().insert(start.instance, reserved);
        Ok(())
    }

    fn prepare(&self, owner: &EdgeId, stocks: Vec<PrepareTarget>) {
        self.holder.want(owner, stocks);
    }

    fn pause(&self, paused: bool) {
        self.holder.pause(paused);
    }

    fn held(&self) -> usize {
        self.holder.count()
    }

    fn logs(&self) -> Logs {
        self.logs.clone()
    }

    async fn start(&self, launch: Launch) -> Result<(Shim, Events), LaunchError> {
        let started = self.try_start(&launch).await;
        if started.is_err() {
            release(&self.disks, launch.start.instance).await;
        }
        started
    }

    async fn adopt(&self) -> io::Result<Vec<Adopted<Shim>>> {
        for trash in self.layout.all_trash()? {
            remove(&trash).await?;
        }
        let mut adopted = Vec::new();
        for instance in self.layout.instance_ids()? {
            adopted.extend(self.adopt_one(instance).await?);
        }
        for path in self.disks.take_dirty() {
            let disks = Rc::clone(&self.disks);
            tokio::task::spawn_local(async move { wipe(&disks, &path).await });
        }
        Ok(adopted)
    }

    fn kept_for(&self) -> Option<Duration> {
        metering::kept_for(&self.layout.instances())
    }

    fn note(&self, instance: InstanceId, seen: &Seen) -> io::Result<()> {
        seen.write(&self.layout.instance(instance))
    }

    async fn forget(&self, instance: InstanceId) -> io::Result<()> {
        let trash = self.layout.trash(instance);
        // In one step: the supervisor must not see a directory without its record and take the container for lost.
        match fs::rename(self.layout.instance(instance), &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        self.prune.notify_one();
        // Whatever takes long is nobody's business any more; what is not done when the agent ends, the next one does.
        let gone = self.followed.borrow().get(&instance).cloned();
        tokio::task::spawn_local(async move {
            if let Some(gone) = gone {
                gone.cancelled().await;
            }
            if let Err(error) = remove(&trash).await {
                tracing::error!(directory = %trash.display(), %error, "cannot remove what is left of an instance");
            }
        });
        Ok(())
    }
}

/// Removes logs that are too old or too many, now and then and after ends, for as long as the agent lives.
async fn keep_pruned(layout: Layout, logs: Logs, wanted: Rc<Notify>) {
    loop {
        let (layout, logs) = (layout.clone(), logs.clone());
        let pruned = tokio::task::spawn_blocking(move || {
            let living = layout.instance_ids()?.into_iter().collect();
            logs.prune(&living, SystemTime::now())
        });
        if let Ok(Err(error)) = pruned.await {
            tracing::warn!(%error, "cannot remove old logs of instances");
        }
        tokio::time::sleep(PRUNE_EVERY.0).await;
        let _ = tokio::time::timeout(PRUNE_EVERY.1, wanted.notified()).await;
    }
}

/// The launch as it is kept on disk: the environment may hold secrets, and nobody needs it again.
fn without_env(launch: &Launch) -> Launch {
    let mut kept = launch.clone();
    kept.start.recipe.env.clear();
    kept
}
