//! The shim pool: a few shims of each kind whose namespaces and network are made, so that a start need not wait for
//! that.
//!
//! ```text
//!           supervisor: spawn       shim: prepared             taken
//! (wanted) ──────────────────▶ making ────────────▶ pooled ───────────▶ a container's
//!                                │ failed               │ its shim has ended, or the host's name server has changed
//!                                └──────────────────────┴─────────────▶ (none)
//! ```
//!
//! If the pool is empty, the caller waits until a shim is made.
//!
//! What fails, and what happens then:
//! * No range of ids is free: as a shim that cannot be prepared.
//! * A shim cannot be prepared, or not in time: its directory is removed; the pool tries again after `RETRY_DELAY` or
//!   with the next start; a start that waits for it fails.
//! * A pooled shim dies: it is skipped when one is taken.
//! * The host's name server changes: pooled shims with the old one are dropped, which ends them.
//! * The supervisor does not answer: as a shim that cannot be prepared.
//! * The agent ends: pooled shims lose their connection and end by themselves.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use berth_shim::cgroup;
use berth_shim::layout::{Layout, ShimName};
use berth_shim::messages::{
    self, ShimCall, ShimEvent, ShimSetup, SupervisorAnswer, SupervisorCall, connect_shim,
};
use berth_shim::network::{Internet, resolver};
use berth_shim::protection::Protection;
use berth_shim::state_files::{make_private_dir, write_json_fast};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::async_fd::register;
use super::connection::ask_supervisor;
use super::ranges::Ranges;
use super::reclaim::sweep_left;
use crate::images::Image;

/// How long a shim may take to be prepared: pasta takes up to a second on a loaded machine.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a shim may take to end, with the wipe of its disk.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of SIGKILL.
const SIGKILL: i32 = 9;
/// Delay before the pool is refilled after a start, so that the start itself has the CPU.
const REFILL_DELAY: Duration = Duration::from_millis(300);
/// Delay after a shim that could not be prepared.
const RETRY_DELAY: Duration = Duration::from_secs(30);

/// The programs and settings that networks are made with.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// The name server, if not the host's.
    pub(crate) name_server: Option<IpAddr>,
    pub(crate) pasta: Option<PathBuf>,
    pub(crate) nft: Option<PathBuf>,
}

/// Makes shims; has what all shims of a node have in common.
#[derive(Debug)]
pub(crate) struct ShimFactory {
    pub(crate) layout: Layout,
    pub(crate) cgroup: PathBuf,
    pub(crate) ranges: Ranges,
    pub(crate) tools: Tools,
    pub(crate) protection: Protection,
}

/// A shim whose namespaces and network are made.
#[derive(Debug)]
pub(crate) struct PooledShim {
    /// Its directory until it is an instance's.
    pub(crate) directory: PathBuf,
    /// The cgroup of its container.
    pub(crate) cgroup: PathBuf,
    /// The connection to it.
    pub(crate) socket: AsyncFd<OwnedFd>,
    /// Where the layers' files belong to its ids, if that is not where they are on disk.
    pub(crate) layers: Option<PathBuf>,
    /// Its internet access, if it has any.
    pub(crate) internet: Option<Internet>,
    /// The image of its container, once configured.
    pub(crate) image: Option<Rc<Image>>,
}

/// The shim pool.
#[derive(Debug)]
pub(crate) struct ShimPool {
    factory: ShimFactory,
    /// The target size for each kind.
    target: usize,
    pooled: RefCell<HashMap<ShimKind, VecDeque<PooledShim>>>,
    filling: RefCell<HashMap<ShimKind, Rc<Cell<bool>>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ShimKind {
    /// With a loopback interface only.
    Loopback,
    /// With internet access.
    Internet,
}

impl ShimPool {
    pub(crate) fn new(factory: ShimFactory, target: usize) -> Rc<Self> {
        let pool = Rc::new(Self { factory, target, pooled: RefCell::default(), filling: RefCell::default() });
        for kind in [ShimKind::Loopback, ShimKind::Internet] {
            pool.refill(kind, Duration::ZERO);
        }
        pool
    }

    /// Takes a shim from the pool, or has one made.
    pub(crate) async fn take(self: &Rc<Self>, kind: ShimKind) -> io::Result<PooledShim> {
        let internet = self.factory.internet(kind)?;
        let found = self.take_pooled(kind, &internet);
        self.refill(kind, REFILL_DELAY);
        match found {
            Some(shim) => Ok(shim),
            None => self.factory.make(internet).await,
        }
    }

    fn take_pooled(&self, kind: ShimKind, internet: &Option<Internet>) -> Option<PooledShim> {
        let mut pooled = self.pooled.borrow_mut();
        let pooled = pooled.entry(kind).or_default();
        loop {
            let shim = pooled.pop_front()?;
            // Dropping the others ends them.
            if shim.internet == *internet && shim.is_alive() {
                return Some(shim);
            }
        }
    }

    /// Whether a shim is alive and its network is as it would be made now.
    pub(crate) fn is_current(&self, shim: &PooledShim, kind: ShimKind) -> bool {
        self.factory.internet(kind).is_ok_and(|now| now == shim.internet) && shim.is_alive()
    }

    /// Refills the pool in the background.
    fn refill(self: &Rc<Self>, kind: ShimKind, delay: Duration) {
        let filling = Rc::clone(self.filling.borrow_mut().entry(kind).or_default());
        if filling.replace(true) {
            return;
        }
        let pool = Rc::clone(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(delay).await;
            while pool.lacks(kind) {
                if let Err(error) = pool.add(kind).await {
                    tracing::warn!(?kind, %error, "cannot prepare a container's namespaces and network ahead of need");
                    tokio::time::sleep(RETRY_DELAY).await;
                    break;
                }
            }
            filling.set(false);
        });
    }

    fn lacks(&self, kind: ShimKind) -> bool {
        self.pooled.borrow().get(&kind).map_or(0, VecDeque::len) < self.target
    }

    async fn add(&self, kind: ShimKind) -> io::Result<()> {
        let internet = self.factory.internet(kind)?;
        let shim = self.factory.make(internet).await?;
        self.pooled.borrow_mut().entry(kind).or_default().push_back(shim);
        Ok(())
    }
}

impl ShimFactory {
    fn internet(&self, kind: ShimKind) -> io::Result<Option<Internet>> {
        if kind == ShimKind::Loopback {
            return Ok(None);
        }
        let found = |program: &Option<PathBuf>, name: &str, package: &str| {
            program.clone().ok_or_else(|| {
                io::Error::other(format!(
                    "this node cannot give instances internet access: `{name}` is not installed (on Debian: apt-get \
                     install {package}); or set enable_internet = false"
                ))
            })
        };
        let pasta = found(&self.tools.pasta, "pasta", "passt")?;
        let nft = found(&self.tools.nft, "nft", "nftables")?;
        let resolver = self.tools.name_server.or_else(resolver::of_host);
        Ok(Some(Internet { resolver, pasta, nft }))
    }

    async fn make(&self, internet: Option<Internet>) -> io::Result<PooledShim> {
        let name = ShimName(random()?);
        let directory = self.layout.waiting_shim(name);
        make_private_dir(&directory)?;
        let made = tokio::time::timeout(PREPARE_TIMEOUT, self.spawn(name, &directory, internet)).await;
        let made = made.unwrap_or_else(|_| {
            let text = format!("a shim was not prepared within {} s", PREPARE_TIMEOUT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        });
        if made.is_err() {
            // Usually the shim has removed it itself.
            let _ = fs::remove_dir_all(&directory);
        }
        made
    }

    async fn spawn(
        &self,
        name: ShimName,
        directory: &Path,
        internet: Option<Internet>,
    ) -> io::Result<PooledShim> {
        let ids = self.ranges.take(directory)?;
        let config = ShimSetup {
            uids: ids.uids,
            gids: ids.gids,
            internet: internet.clone(),
            cgroup: cgroup::of_container(&self.cgroup, name),
            network_cgroup: cgroup::of_network(&self.cgroup, name),
            protection: self.protection,
        };
        write_json_fast(&directory.join("spare.json"), &config)?;
        match ask_supervisor(&self.layout, &SupervisorCall::Spawn { shim: name }).await? {
            SupervisorAnswer::Spawned => {}
            SupervisorAnswer::Failed { message } => return Err(io::Error::other(message)),
            answer => {
                return Err(io::Error::other(format!("unexpected answer of the supervisor: {answer:?}")));
            }
        }
        let socket = register(connect_shim(directory)?)?;
        until_prepared(&socket).await?;
        Ok(PooledShim {
            directory: directory.to_owned(),
            cgroup: config.cgroup,
            socket,
            layers: ids.layers,
            internet,
            image: None,
        })
    }
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled
        .map(|()| u64::from_ne_bytes(bytes))
        .map_err(|_| io::Error::other("the kernel gives no random numbers"))
}

async fn until_prepared(socket: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let first = socket.async_io(Interest::READABLE, |fd| messages::receive::<ShimEvent>(fd.as_fd())).await?;
    match first {
        Some((ShimEvent::Prepared { error: None }, _)) => Ok(()),
        Some((ShimEvent::Prepared { error: Some(error) }, _)) => Err(io::Error::other(error)),
        other => {
            let event = other.map(|(event, _)| event);
            Err(io::Error::other(format!("the shim ended before it was prepared (its message: {event:?})")))
        }
    }
}

impl PooledShim {
    pub(crate) async fn call(&self, call: &ShimCall) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, |fd| messages::send(fd.as_fd(), call, &[])).await
    }

    /// The shim's next message; `None` once it has ended.
    pub(crate) async fn next_event(&self) -> io::Result<Option<ShimEvent>> {
        let receive = |fd: &OwnedFd| messages::receive::<ShimEvent>(fd.as_fd());
        Ok(self.socket.async_io(Interest::READABLE, receive).await?.map(|(event, _)| event))
    }

    /// Ends it and its container, which no instance has or will have, and waits until its disk is wiped: another may have
    /// that next.
    pub(crate) async fn end(self) {
        let ended = async {
            self.call(&ShimCall::Stop { signal: SIGKILL, grace_ms: 0, drained: false }).await?;
            while let Some(event) = self.next_event().await? {
                if matches!(event, ShimEvent::Failed { .. }) {
                    // It has no container, and so no disk: it ends when it is dropped.
                    return Ok(false);
                }
            }
            Ok::<_, io::Error>(true)
        };
        // If it does not end in time, `Disks::give_back` sees that the disk is not empty.
        if tokio::time::timeout(END_TIMEOUT, ended).await.is_ok_and(|ended| ended.unwrap_or(true)) {
            sweep_left(&self.directory).await;
        }
    }

    /// Whether the shim is alive. It sends nothing until it gets a call, so only its end makes the socket readable.
    fn is_alive(&self) -> bool {
        let read = messages::receive::<ShimEvent>(self.socket.get_ref().as_fd());
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
