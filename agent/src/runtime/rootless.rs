//! The runtime of rootless containers, the agent's side of supervisor and shims: prepares an instance's directory, has
//! its shim run the container, and follows it.

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
use berth_common::wire::call::{DiskCapacity, DiskSlots, PrepareTarget, RefusalCode, SlotRoom, Start};
use berth_shim::disk::Disk;
use berth_shim::layout::Layout;
use berth_shim::messages::{ShimCall, SupervisorAnswer, SupervisorCall, connect_shim};
use berth_shim::metering::{self, Seen};
use berth_shim::process::find_program;
use berth_shim::protection::Protection;
use berth_shim::state_files::{read_json, write_json_fast};
use berth_shim::trial::{self, Trial};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::async_fd::register;
use super::connection::{Shim, ask_supervisor};
use super::disks::Disks;
use super::logs::{LogEntry, Logs};
use super::maker::Maker;
use super::prepared::{PreparedContainer, PreparedContainers};
use super::ranges::Ranges;
use super::reclaim::{recorded_end, release, remove, sweep_left, wipe};
use super::shim_pool::{PooledShim, ShimFactory, ShimPool, Tools};
use super::{Adopted, AdoptedState, EVENT_QUEUE, Event, Events, Runtime};
use crate::helpers;
use crate::images::{Image, Images};
use crate::launch::{Launch, LaunchError};
use crate::site::Site;

/// Shims of the pool that one start may try.
const MAX_SHIMS: usize = 3;
/// Shortest and longest time between two searches for old logs.
const PRUNE_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The one real runtime: rootless containers through libcontainer.
#[derive(Debug)]
pub struct Rootless {
    layout: Layout,
    /// Whether the supervisor and its shims keep terms.
    keeps_terms: bool,
    maker: Rc<Maker>,
    prepared: Rc<PreparedContainers>,
    disks: Rc<Disks>,
    /// Shims that are followed. The token is cancelled when the shim has ended.
    followed: Rc<RefCell<HashMap<InstanceId, CancellationToken>>>,
    /// Reservations of admitted instances that are not started yet.
    reserved: RefCell<HashMap<InstanceId, Reservation>>,
    logs: Logs,
    /// Wakes the search for old logs.
    prune: Rc<Notify>,
}

/// How an instance gets its container.
#[derive(Debug)]
enum Reservation {
    /// A new one is made.
    New,
    /// A prepared one is taken.
    Prepared(PreparedContainer),
    /// A new one is made, on the disk of a prepared one that is ended first.
    InPlaceOf(PreparedContainer),
    /// A new one is made, on a disk that is about to be free.
    AwaitDisk(oneshot::Receiver<Disk>),
}

/// Options of the runtime.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node's name and location.
    pub site: Site,
    /// The directory of its state.
    pub state: PathBuf,
    /// Whether instances whose disk cannot be limited are refused.
    pub enforce_disks: bool,
    /// How many shims of each kind are kept in the pool.
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
        let ranges = Ranges::open(&layout)?;
        let answer = ask_supervisor(&layout, &SupervisorCall::Ping).await?;
        let SupervisorAnswer::Pong { version, cgroup, terms: keeps_terms } = answer else {
            return Err(io::Error::other(format!("unexpected answer of the supervisor: {answer:?}")));
        };
        helpers::keep_below(&cgroup);
        tracing::info!(supervisor = %version, cgroup = %cgroup.display(), "found the supervisor");
        if !keeps_terms {
            tracing::warn!(
                "the supervisor is older: until it is restarted, nothing here ends or pauses for its edge's silence"
            );
        }
        let tools = Tools {
            name_server,
            pasta: pasta.or_else(|| find_program("pasta")),
            nft: nft.or_else(|| find_program("nft")),
        };
        let factory = ShimFactory { layout: layout.clone(), cgroup, ranges, tools, protection };
        let disks = Rc::new(Disks::open(
            &layout,
            enforce_disks,
            trial::run(Trial::MemoryDisk, &trial::Paths { directory: None, cgroup: None }).is_ok(),
        )?);
        let shims = ShimPool::new(factory, waiting_shims);
        let maker =
            Rc::new(Maker { site, logs: layout.logs(), layers: layout.layers(), images, protection, shims });
        let prepared = PreparedContainers::new(Rc::clone(&maker), Rc::clone(&disks));
        let (logs, prune) = (Logs::at(layout.logs()), Rc::new(Notify::new()));
        tokio::task::spawn_local(keep_pruned(layout.clone(), logs.clone(), Rc::clone(&prune)));
        let (followed, reserved) = (Rc::default(), RefCell::default());
        Ok(Self { layout, keeps_terms, maker, prepared, disks, followed, reserved, logs, prune })
    }

    async fn try_start(&self, launch: &Launch) -> Result<(Shim, Events), LaunchError> {
        let instance = launch.start.instance;
        let reserved = self.reserved.borrow_mut().remove(&instance).unwrap_or(Reservation::New);
        match reserved {
            Reservation::New => {}
            Reservation::InPlaceOf(held) => held.end().await,
            Reservation::AwaitDisk(free) => {
                let disk = self.disks.awaited(free, &launch.start.recipe.resources).await?;
                self.disks.give(instance, disk);
            }
            Reservation::Prepared(held) => match self.assign(held.into_shim(), launch).await {
                Ok(started) => return Ok(started),
                Err(error) => self.replace_lost(instance, launch, &error).await?,
            },
        }
        let disk = self.disks.of(instance);
        let disk = disk.ok_or_else(|| LaunchError::new(RefusalCode::Other, "no disk was reserved"))?;
        let mut last = None;
        for _ in 0..MAX_SHIMS {
            let made = self.maker.configure(&launch.start.recipe, &disk).await?;
            match self.assign(made, launch).await {
                Ok(started) => return Ok(started),
                Err(error) => {
                    tracing::warn!(%instance, %error, "a pooled shim has ended; taking another");
                    last = Some(error);
                }
            }
        }
        let last = last.map_or_else(|| "no shim is available".to_owned(), |error| error.to_string());
        Err(LaunchError::new(RefusalCode::Other, last))
    }

    /// A prepared container has died, for example because its pasta process was killed. Its disk must be wiped first, and
    /// goes then to a start that waits, if there is one: so this one takes any, or waits in its turn.
    async fn replace_lost(
        &self,
        instance: InstanceId,
        launch: &Launch,
        error: &io::Error,
    ) -> Result<(), LaunchError> {
        tracing::warn!(%instance, %error, "a prepared container has ended; making another");
        release(&self.disks, instance).await;
        self.disks.give(instance, self.disks.take_or_wait(&launch.start.recipe.resources).await?);
        Ok(())
    }

    /// Reserves a disk; if none is free, that of a prepared container, or one that is about to be free.
    fn reserve_disk(&self, start: &Start) -> Result<Reservation, LaunchError> {
        let resources = &start.recipe.resources;
        let error = match self.disks.take(resources) {
            Ok(disk) => {
                self.disks.give(start.instance, disk);
                return Ok(Reservation::New);
            }
            Err(error) => error,
        };
        if let Some(held) = self.prepared.take_for_disk(resources.disk_bytes) {
            self.disks.give(start.instance, held.disk().clone());
            return Ok(Reservation::InPlaceOf(held));
        }
        self.disks.wait_for(resources).map(Reservation::AwaitDisk).ok_or(error)
    }

    /// Assigns a shim with its prepared or configured container to this instance, and has it run the container. After an
    /// error the shim has ended, and nothing is left of it: another may have the instance's directory and its disk.
    async fn assign(&self, shim: PooledShim, launch: &Launch) -> io::Result<(Shim, Events)> {
        let instance = launch.start.instance;
        match self.hand_over(&shim, launch).await {
            Ok(()) => Ok(self.follow(instance, shim.socket, shim.image)),
            Err(error) => {
                shim.end().await;
                let directory = self.layout.instance(instance);
                sweep_left(&directory).await;
                remove(&directory).await?;
                Err(error)
            }
        }
    }

    async fn hand_over(&self, shim: &PooledShim, launch: &Launch) -> io::Result<()> {
        let instance = launch.start.instance;
        let assignment = self.maker.assignment(launch, self.logs.path(instance));
        if launch.start.logs.enabled {
            self.logs.enter(&LogEntry::of(launch))?;
        }
        write_json_fast(&shim.directory.join("launch.json"), &without_env(launch))?;
        write_json_fast(&shim.directory.join("run.json"), &assignment)?;
        fs::rename(&shim.directory, self.layout.instance(instance))?;
        shim.call(&ShimCall::Run).await
    }

    /// Follows a connected shim. Its image is kept, so that its layers are not evicted, until it has ended.
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
            followed.fail_pending();
            // A start that comes from now on waits for it.
            disks.of(instance).iter().for_each(|disk| disks.leave(disk));
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
                    // The earlier agent was killed before it sent `Run`. If the shim has begun meanwhile, the second
                    // call is refused and has no effect.
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

    fn slots(&self) -> Vec<SlotRoom> {
        let prepared = self.prepared.slots();
        let room = |(DiskSlots { bytes, count }, taken): (DiskSlots, u32)| {
            let held = prepared.iter().filter(|size| **size == bytes).count();
            let prepared = u32::try_from(held).unwrap_or(u32::MAX);
            SlotRoom { bytes, count, used: taken.saturating_sub(prepared), prepared }
        };
        self.disks.usable().into_iter().map(room).collect()
    }

    fn disks_taken(&self) -> u32 {
        self.disks.taken()
    }

    fn keeps_terms(&self) -> bool {
        self.keeps_terms
    }

    async fn check(&self) -> io::Result<()> {
        ask_supervisor(&self.layout, &SupervisorCall::Ping).await.map(drop)
    }

    fn reserve(&self, start: &Start) -> Result<(), LaunchError> {
        let reserved = match self.prepared.take(&start.recipe) {
            Some(held) => {
                self.disks.give(start.instance, held.disk().clone());
                Reservation::Prepared(held)
            }
            None => self.reserve_disk(start)?,
        };
        self.reserved.borrow_mut().insert(start.instance, reserved);
        Ok(())
    }

    fn prepare(&self, owner: &EdgeId, targets: Vec<PrepareTarget>) {
        self.prepared.set_targets(owner, targets);
    }

    fn pause(&self, paused: bool) {
        self.prepared.pause(paused);
    }

    fn prepared(&self) -> usize {
        self.prepared.count()
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
        // Renamed first: the supervisor must not see a directory without its record and take the container for lost.
        match fs::rename(self.layout.instance(instance), &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        self.prune.notify_one();
        // Deleted in the background, since it may take long. If this agent ends before, the next one does it.
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

/// Removes logs that are too old or too many, regularly and after ends, for as long as the agent lives.
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

/// The launch as written to disk, without the environment: it may hold secrets, and is not needed again.
fn without_env(launch: &Launch) -> Launch {
    let mut kept = launch.clone();
    kept.start.recipe.env.clear();
    kept
}
