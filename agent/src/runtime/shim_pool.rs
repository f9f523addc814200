//! Shims that wait for a container: the agent keeps a few of each kind, so that a start need not wait for namespaces
//! and networks to be made.
//!
//! ```text
//!           supervisor: spawn       shim: prepared             taken
//! (wanted) ──────────────────▶ making ────────────▶ in stock ─────────▶ an instance's
//!                                │ failed               │ its shim has ended, or the host's name server is another
//!                                └──────────────────────┴─────────────▶ (none)
//! ```
//!
//! Where none is in stock, whoever takes one waits for it to be made.

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
use berth_shim::subordinate_ids::IdRange;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::async_fd::register;
use super::connection::ask_supervisor;
use crate::images::Image;

/// How long a shim may take to be prepared: pasta takes up to a second on a loaded machine.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long after a start the stock is filled up: the start itself comes first.
const REFILL_DELAY: Duration = Duration::from_millis(300);
/// Pause after a shim that could not be prepared.
const RETRY_DELAY: Duration = Duration::from_secs(30);

/// What networks are made with.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// The name server, if not the host's.
    pub(crate) name_server: Option<IpAddr>,
    pub(crate) pasta: Option<PathBuf>,
    pub(crate) nft: Option<PathBuf>,
}

/// What all shims of a node have in common.
#[derive(Debug)]
pub(crate) struct ShimFactory {
    pub(crate) layout: Layout,
    pub(crate) cgroup: PathBuf,
    pub(crate) uids: IdRange,
    pub(crate) gids: IdRange,
    pub(crate) tools: Tools,
    pub(crate) protection: Protection,
}

/// A prepared shim.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Its directory for now.
    pub(crate) directory: PathBuf,
    /// The group that its container will be in.
    pub(crate) cgroup: PathBuf,
    /// The connection to it.
    pub(crate) socket: AsyncFd<OwnedFd>,
    /// Its way out, if it has one.
    pub(crate) internet: Option<Internet>,
    /// What its container is made from, once that was said.
    pub(crate) image: Option<Rc<Image>>,
}

/// The stock.
#[derive(Debug)]
pub(crate) struct ShimPool {
    factory: ShimFactory,
    /// How many of each kind there shall be.
    target: usize,
    stock: RefCell<HashMap<Kind, VecDeque<Prepared>>>,
    filling: RefCell<HashMap<Kind, Rc<Cell<bool>>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// With nothing but loopback.
    Alone,
    /// With a way to the internet.
    Internet,
}

impl ShimPool {
    pub(crate) fn new(factory: ShimFactory, target: usize) -> Rc<Self> {
        let pool = Rc::new(Self { factory, target, stock: RefCell::default(), filling: RefCell::default() });
        for kind in [Kind::Alone, Kind::Internet] {
            pool.refill(kind, Duration::ZERO);
        }
        pool
    }

    /// Takes a prepared shim out of the stock, or has one made.
    pub(crate) async fn take(self: &Rc<Self>, kind: Kind) -> io::Result<Prepared> {
        let internet = self.factory.internet(kind)?;
        let found = self.take_from_stock(kind, &internet);
        self.refill(kind, REFILL_DELAY);
        match found {
            Some(prepared) => Ok(prepared),
            None => self.factory.make(internet).await,
        }
    }

    fn take_from_stock(&self, kind: Kind, internet: &Option<Internet>) -> Option<Prepared> {
        let mut stock = self.stock.borrow_mut();
        let stock = stock.entry(kind).or_default();
        loop {
            let prepared = stock.pop_front()?;
            // Letting go of the others ends them.
            if prepared.internet == *internet && prepared.is_alive() {
                return Some(prepared);
            }
        }
    }

    /// Whether a shim is there and has a network as it would be made now.
    pub(crate) fn is_good(&self, prepared: &Prepared, kind: Kind) -> bool {
        self.factory.internet(kind).is_ok_and(|now| now == prepared.internet) && prepared.is_alive()
    }

    /// Fills the stock up in the background.
    fn refill(self: &Rc<Self>, kind: Kind, delay: Duration) {
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

    fn lacks(&self, kind: Kind) -> bool {
        self.stock.borrow().get(&kind).map_or(0, VecDeque::len) < self.target
    }

    async fn add(&self, kind: Kind) -> io::Result<()> {
        let internet = self.factory.internet(kind)?;
        let prepared = self.factory.make(internet).await?;
        self.stock.borrow_mut().entry(kind).or_default().push_back(prepared);
        Ok(())
    }
}

impl ShimFactory {
    fn internet(&self, kind: Kind) -> io::Result<Option<Internet>> {
        if kind == Kind::Alone {
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

    async fn make(&self, internet: Option<Internet>) -> io::Result<Prepared> {
        let name = ShimName(random()?);
        let directory = self.layout.waiting_shim(name);
        make_private_dir(&directory)?;
        let made = tokio::time::timeout(PREPARE_TIMEOUT, self.spawn(name, &directory, internet)).await;
        let made = made.unwrap_or_else(|_| {
            let text = format!("a shim was not prepared within {} s", PREPARE_TIMEOUT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        });
        if made.is_err() {
            // Most often the shim has removed it itself.
            let _ = fs::remove_dir_all(&directory);
        }
        made
    }

    async fn spawn(
        &self,
        name: ShimName,
        directory: &Path,
        internet: Option<Internet>,
    ) -> io::Result<Prepared> {
        let config = ShimSetup {
            uids: self.uids,
            gids: self.gids,
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
                return Err(io::Error::other(format!("the supervisor answered strangely: {answer:?}")));
            }
        }
        let socket = register(connect_shim(directory)?)?;
        until_prepared(&socket).await?;
        Ok(Prepared { directory: directory.to_owned(), cgroup: config.cgroup, socket, internet, image: None })
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
            let told = other.map(|(event, _)| event);
            Err(io::Error::other(format!("the shim ended before it was prepared (it said: {told:?})")))
        }
    }
}

impl Prepared {
    pub(crate) async fn call(&self, call: &ShimCall) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, |fd| messages::send(fd.as_fd(), call, &[])).await
    }

    /// What the shim says next; `None` once it has ended.
    pub(crate) async fn next_event(&self) -> io::Result<Option<ShimEvent>> {
        let receive = |fd: &OwnedFd| messages::receive::<ShimEvent>(fd.as_fd());
        Ok(self.socket.async_io(Interest::READABLE, receive).await?.map(|(event, _)| event))
    }

    /// Whether its shim is there: it says nothing until it is given something to do, so only an end can be read.
    fn is_alive(&self) -> bool {
        let read = messages::receive::<ShimEvent>(self.socket.get_ref().as_fd());
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
