//! The agent's side of supervisor and shims: prepares an instance's directory, has its shim started, and follows it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use berth_common::ids::{InstanceId, NodeId};
use berth_common::wire::call::{DiskCapacity, RefusalCode, Start};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::connection::{Shim, ask_supervisor, connect_shim};
use super::disk::{Disk, Disks};
use super::layers::Layers;
use super::layout::{Layout, read_json, write_json_fast};
use super::messages::{self, ShimCall, ShimConfig, SupervisorAnswer, SupervisorCall};
use super::network::resolver::forwarder_of;
use super::reclaim::{recorded_end, release, remove, wipe};
use super::spares::{Kind, Makings, Prepared, Spares, Tools};
use super::trial::{self, Place, Trial};
use super::{
    Adopted, AdoptedState, EVENT_QUEUE, Event, Events, Launch, LaunchError, Runtime, cgroup, sweep, sys,
};
use crate::images::{Image, Images};

/// Prepared shims that one start may use up.
const MAX_SHIMS: usize = 3;
/// Most bytes of log kept for each instance.
const LOG_BYTES: u64 = 8 << 20;
/// Most logs kept, of ended instances too. With `LOG_BYTES` this bounds the disk that logs take.
const MAX_LOGS: usize = 256;
/// Where the programs are that networks are made with.
const PROGRAM_DIRS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Where programs are looked for when the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The one real runtime: rootless containers through libcontainer.
#[derive(Debug)]
pub struct Rootless {
    node: NodeId,
    layout: Layout,
    images: Images,
    cgroup: PathBuf,
    protection: Layers,
    spares: Rc<Spares>,
    disks: Rc<Disks>,
}

/// What the runtime is told when it is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node's name.
    pub node: NodeId,
    /// The directory of its state.
    pub state: PathBuf,
    /// Whether instances whose disk cannot be limited are refused.
    pub enforce_disks: bool,
    /// How many shims of each kind are kept prepared.
    pub spares: usize,
    /// The name server for instances, if not the machine's.
    pub name_server: Option<IpAddr>,
    /// Where `pasta` is, if not in the usual places.
    pub pasta: Option<PathBuf>,
    /// Where `nft` is, if not in the usual places.
    pub nft: Option<PathBuf>,
    /// The layers of protection around containers.
    pub protection: Layers,
}

impl Rootless {
    /// Opens the node's state and finds its supervisor. Must be called within a `LocalSet`.
    pub async fn open(options: Options) -> io::Result<Self> {
        let Options { node, state, enforce_disks, spares, name_server, pasta, nft, protection } = options;
        let layout = Layout::open(&state)?;
        let (uids, gids) = sweep::my_subordinate_ids()?;
        let answer = ask_supervisor(&layout, &SupervisorCall::Ping).await?;
        let SupervisorAnswer::Pong { version, cgroup } = answer else {
            return Err(io::Error::other(format!("the supervisor answered strangely: {answer:?}")));
        };
        tracing::info!(supervisor = %version, cgroup = %cgroup.display(), "found the supervisor");
        let images = Images::new(layout.layers());
        let tools =
            Tools { name_server, pasta: pasta.or_else(|| find("pasta")), nft: nft.or_else(|| find("nft")) };
        let makings =
            Makings { layout: layout.clone(), cgroup: cgroup.clone(), uids, gids, tools, protection };
        let disks = Rc::new(Disks::open(
            &layout,
            enforce_disks,
            trial::run(Trial::MemoryDisk, &Place { directory: None, cgroup: None }).is_ok(),
        )?);
        let spares = Spares::new(makings, spares);
        Ok(Self { node, layout, images, cgroup, protection, spares, disks })
    }

    fn config(&self, launch: &Launch, image: &Image) -> Result<ShimConfig, LaunchError> {
        let start = &launch.start;
        let args = start.entrypoint.clone().unwrap_or_else(|| image.args.clone());
        if args.is_empty() {
            let text =
                format!("the image {} names no entrypoint, and neither does the class", start.image.digest);
            return Err(LaunchError::new(RefusalCode::Image, text));
        }
        let disk = self.disks.of(start.instance);
        let disk = disk.ok_or_else(|| LaunchError::new(RefusalCode::Other, "no disk was set aside"))?;
        let env = self.environment(launch, image);
        let has_nul = |text: &String| text.contains('\0');
        if args.iter().any(has_nul)
            || env.iter().any(|(k, v)| has_nul(k) || has_nul(v) || k.is_empty() || k.contains('='))
        {
            let text =
                "arguments and environment must not hold NUL bytes, nor variables without a proper name";
            return Err(LaunchError::new(RefusalCode::Invalid, text));
        }
        Ok(ShimConfig {
            instance: start.instance,
            disk,
            layers: image.layers.clone(),
            cgroup: cgroup::of_instance(&self.cgroup, start.instance),
            memory_bytes: start.resources.memory_bytes,
            cpu_sixteenths: start.resources.cpu_sixteenths,
            start_boost: start.start_boost,
            resolver: None,
            protection: self.protection,
            args,
            env,
            cwd: image.cwd.clone(),
            capabilities: start.capabilities.clone(),
            user: image.user.clone(),
            log: self.layout.log(start.instance),
            log_bytes: LOG_BYTES,
        })
    }

    /// The image's environment, what Berth tells every instance, and on top what the class says.
    fn environment(&self, launch: &Launch, image: &Image) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
        env.extend(image.env.clone());
        let told = [("DEPLOYMENT_ID", launch.start.instance.to_string()), ("NODE_ID", self.node.to_string())];
        for (name, value) in told {
            env.insert(format!("BERTH_{name}"), value.clone());
            env.insert(format!("CLOUDFLARE_{name}"), value);
        }
        env.extend(launch.start.env.clone());
        env
    }

    async fn try_start(&self, launch: &Launch) -> Result<(Shim, Events), LaunchError> {
        let failed = |e: io::Error| LaunchError::new(RefusalCode::Other, format!("start the instance: {e}"));
        let kind = if launch.start.enable_internet { Kind::Internet } else { Kind::Alone };
        let (image, prepared) = tokio::join!(self.images.open(&launch.start.image), self.spares.take(kind));
        let (image, mut prepared) = (image?, prepared.map_err(failed)?);
        for _ in 1..MAX_SHIMS {
            match self.give(prepared, launch, &image).await {
                Ok(started) => return Ok(started),
                Err(GiveError::Launch(error)) => return Err(error),
                Err(GiveError::Gone(error)) => {
                    tracing::warn!(instance = %launch.start.instance, %error, "a prepared shim is gone; taking another");
                    remove(&self.layout.instance(launch.start.instance)).await.map_err(failed)?;
                }
            }
            prepared = self.spares.take(kind).await.map_err(failed)?;
        }
        self.give(prepared, launch, &image).await.map_err(|error| match error {
            GiveError::Launch(error) => error,
            GiveError::Gone(error) => failed(error),
        })
    }

    /// Gives a prepared shim the container to run.
    async fn give(
        &self,
        prepared: Prepared,
        launch: &Launch,
        image: &Image,
    ) -> Result<(Shim, Events), GiveError> {
        let resolver = prepared.internet.as_ref().and_then(|internet| internet.resolver);
        let config = self.config(launch, image).map_err(GiveError::Launch)?;
        let config = ShimConfig { resolver: resolver.map(forwarder_of), ..config };
        self.hand_over(&prepared, launch, &config).await.map_err(GiveError::Gone)?;
        Ok(self.follow(launch.start.instance, prepared.socket))
    }

    async fn hand_over(&self, to: &Prepared, launch: &Launch, config: &ShimConfig) -> io::Result<()> {
        write_json_fast(&to.directory.join("launch.json"), &without_env(launch))?;
        write_json_fast(&to.directory.join("disk.json"), &config.disk)?;
        write_json_fast(&to.directory.join("shim.json"), config)?;
        fs::rename(&to.directory, self.layout.instance(launch.start.instance))?;
        to.socket.async_io(Interest::WRITABLE, |fd| messages::send(fd.as_fd(), &ShimCall::Run, &[])).await
    }

    /// Follows a shim whose socket is connected.
    fn follow(&self, instance: InstanceId, socket: AsyncFd<OwnedFd>) -> (Shim, Events) {
        let shim = Shim::connected(socket);
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let directory = self.layout.instance(instance);
        let cgroup = cgroup::of_instance(&self.cgroup, instance);
        let (followed, disks) = (shim.clone(), Rc::clone(&self.disks));
        tokio::task::spawn_local(async move {
            let outcome = match followed.listen(&events).await {
                Some(outcome) => outcome,
                None => recorded_end(&directory, &cgroup).await,
            };
            followed.answer_no_more();
            let _ = events.send(Event::Exited(outcome)).await;
            followed.until_gone().await;
            release(&disks, instance).await;
        });
        (shim, receiver)
    }

    async fn adopt_one(&self, instance: InstanceId) -> io::Result<Option<Adopted<Shim>>> {
        let directory = self.layout.instance(instance);
        let cgroup = cgroup::of_instance(&self.cgroup, instance);
        let Ok(Some(launch)) = read_json::<Launch>(&directory.join("launch.json")) else {
            tracing::warn!(%instance, "removing an instance that was never started");
            recorded_end(&directory, &cgroup).await;
            fs::remove_dir_all(&directory)?;
            return Ok(None);
        };
        let disk = read_json::<Disk>(&directory.join("disk.json"))?;
        let state = match (read_json(&directory.join("exit.json"))?, connect_shim(&directory)) {
            (Some(outcome), _) => AdoptedState::Exited(outcome),
            (None, Ok(socket)) => {
                if let Some(disk) = disk {
                    self.disks.adopt(instance, disk);
                }
                let (container, events) = self.follow(instance, sys::asynchronous(socket)?);
                AdoptedState::Running { container, events }
            }
            (None, Err(_)) => AdoptedState::Exited(recorded_end(&directory, &cgroup).await),
        };
        Ok(Some(Adopted { launch, state }))
    }

    /// Keeps the number of logs bounded, oldest first.
    fn prune_logs(&self) -> io::Result<()> {
        let mut logs = Vec::new();
        for entry in fs::read_dir(self.layout.logs())? {
            let entry = entry?;
            logs.push((entry.metadata()?.modified()?, entry.path()));
        }
        logs.sort();
        let surplus = logs.len().saturating_sub(MAX_LOGS);
        logs.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

impl Runtime for Rootless {
    type Container = Shim;

    fn disks(&self) -> DiskCapacity {
        self.disks.capacity()
    }

    fn reserve(&self, start: &Start) -> Result<(), LaunchError> {
        self.disks.reserve(start.instance, &start.resources)
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

    async fn forget(&self, instance: InstanceId) -> io::Result<()> {
        let trash = self.layout.trash(instance);
        // In one step: the supervisor must not see a directory without its record and take the container for lost.
        match fs::rename(self.layout.instance(instance), &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        remove(&trash).await?;
        self.prune_logs()
    }
}

/// Why a container could not be given to a shim.
enum GiveError {
    /// No shim could run it.
    Launch(LaunchError),
    /// The shim has ended, as one does whose network's process was killed: another may do.
    Gone(io::Error),
}

/// The launch as it is kept on disk: the environment may hold secrets, and nobody needs it again.
fn without_env(launch: &Launch) -> Launch {
    let mut kept = launch.clone();
    kept.start.env.clear();
    kept
}

/// Finds a program in the usual places, whatever the environment says.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    PROGRAM_DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists())
}
