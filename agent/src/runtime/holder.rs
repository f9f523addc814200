//! Containers that are made and held just before their app starts: an instance of the same recipe takes one and runs
//! within a few milliseconds.
//!
//! ```text
//!           room: disk and memory     shim: held            an instance of an equal recipe
//! (wanted) ──────────────────▶ making ───────────▶ in stock ─────────────────────────────▶ the instance's
//!     ▲                           │ failed            │ no longer wanted; its shim has ended; the host's name server is
//!     └───────────────────────────┴───────────────────┘ another; a start needs its disk
//! ```
//!
//! What is held takes a disk and a few megabytes of memory, and gives way to whatever starts. It is taken only for a
//! recipe that is equal in every part: an image, variable or limit that has changed since is never served.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use berth_common::ids::EdgeId;
use berth_common::spec::{Recipe, Resources};
use berth_common::wire::call::{PrepareTarget, RefusalCode};
use berth_shim::disk::Disk;
use berth_shim::messages::{ShimCall, ShimEvent};
use tokio::sync::{Notify, oneshot};

use super::disks::Disks;
use super::maker::{Maker, kind_of};
use super::reclaim::wipe;
use super::shim_pool::Prepared;
use crate::launch::LaunchError;
use crate::site::memory_of;

/// Most containers that a node holds: a burst uses up any number, and each takes memory from instances.
const MAX_HELD: usize = 64;
/// How long a container may take to be made: a loaded machine takes a second or two.
const MAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a container that gives way may take to be gone.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after a start the stock is filled up: starts come first.
const REFILL_DELAY: Duration = Duration::from_millis(300);
/// How often the stock is looked at without a reason: shims may have ended, disks and memory become free.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Pause after a container that could not be made.
const RETRY_DELAY: Duration = Duration::from_secs(30);
/// Signal that ends a container at once.
const SIGKILL: i32 = 9;
/// Bytes of the machine's memory that must stay available beyond what a held container may come to take.
const SPARE_MEMORY_BYTES: u64 = 256 << 20;

/// The stock.
#[derive(Debug)]
pub(crate) struct Holder {
    maker: Rc<Maker>,
    disks: Rc<Disks>,
    wanted: RefCell<HashMap<EdgeId, Vec<PrepareTarget>>>,
    stock: RefCell<Vec<Held>>,
    /// The one that is being made or ended.
    busy: RefCell<Option<Busy>>,
    /// Nothing is to be held.
    paused: Cell<bool>,
    look: Notify,
}

/// A container that is being made or ended: its disk may be free soon.
#[derive(Debug)]
struct Busy {
    disk_bytes: u64,
    /// A start that waits for the disk.
    waiter: Option<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    needs: Resources,
    tell: oneshot::Sender<Disk>,
}

/// A container that is held. Letting go of it ends it.
#[derive(Debug)]
pub(crate) struct Held {
    recipe: Recipe,
    disk: Disk,
    prepared: Prepared,
}

impl Held {
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(crate) fn into_prepared(self) -> Prepared {
        self.prepared
    }

    /// Ends it, and waits until its shim has wiped its disk and ended.
    pub(crate) async fn end(self) {
        let ended = async {
            self.prepared.call(&ShimCall::Stop { signal: SIGKILL, grace_ms: 0, drained: false }).await?;
            while self.prepared.next_event().await?.is_some() {}
            Ok::<_, io::Error>(())
        };
        // Whoever uses the disk next finds out whether it is empty.
        let _ = tokio::time::timeout(END_TIMEOUT, ended).await;
    }
}

async fn until_held(prepared: &Prepared) -> io::Result<()> {
    match prepared.next_event().await? {
        Some(ShimEvent::Held) => Ok(()),
        Some(ShimEvent::Exited { outcome, .. }) => {
            Err(io::Error::other(outcome.message.unwrap_or_else(|| format!("{:?}", outcome.reason))))
        }
        other => Err(io::Error::other(format!("its shim ended (it said: {other:?})"))),
    }
}

impl Holder {
    /// An empty stock that fills itself as is wanted. Must be called within a `LocalSet`.
    pub(crate) fn new(maker: Rc<Maker>, disks: Rc<Disks>) -> Rc<Self> {
        let holder = Rc::new(Self {
            maker,
            disks,
            wanted: RefCell::default(),
            stock: RefCell::default(),
            busy: RefCell::default(),
            paused: Cell::new(false),
            look: Notify::new(),
        });
        tokio::task::spawn_local(Rc::clone(&holder).run());
        holder
    }

    /// From now on these are held for this owner.
    pub(crate) fn want(&self, owner: &EdgeId, stocks: Vec<PrepareTarget>) {
        self.wanted.borrow_mut().insert(owner.clone(), stocks);
        self.look.notify_one();
    }

    /// From now on nothing is held, or again what is wanted.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.set(paused);
        self.look.notify_one();
    }

    /// How many are held, or are being made or ended.
    pub(crate) fn count(&self) -> usize {
        self.stock.borrow().len() + usize::from(self.busy.borrow().is_some())
    }

    /// Takes one that is made from this recipe.
    pub(crate) fn take(&self, recipe: &Recipe) -> Option<Held> {
        let held = self.take_where(|held| held.recipe == *recipe && self.is_good(held))?;
        self.look.notify_one();
        Some(held)
    }

    /// Takes one, to be ended, whose disk is as large as this.
    pub(crate) fn take_for_disk(&self, bytes: u64) -> Option<Held> {
        self.take_where(|held| {
            matches!(held.disk, Disk::Directory { .. }) && held.recipe.resources.disk_bytes >= bytes
        })
    }

    /// Lets a start wait for the disk of the one that is being made or ended, if that is as large as this and nobody
    /// else waits for it.
    pub(crate) fn wait_for_disk(&self, needs: &Resources) -> Option<oneshot::Receiver<Disk>> {
        let mut busy = self.busy.borrow_mut();
        let fits = |busy: &&mut Busy| busy.disk_bytes >= needs.disk_bytes && busy.waiter.is_none();
        let busy = busy.as_mut().filter(fits)?;
        let (tell, told) = oneshot::channel();
        busy.waiter = Some(Waiter { needs: *needs, tell });
        Some(told)
    }

    fn take_where(&self, fits: impl Fn(&Held) -> bool) -> Option<Held> {
        let mut stock = self.stock.borrow_mut();
        let index = stock.iter().position(fits)?;
        Some(stock.remove(index))
    }

    fn is_good(&self, held: &Held) -> bool {
        self.maker.shims.is_good(&held.prepared, kind_of(&held.recipe))
    }

    async fn run(self: Rc<Self>) {
        loop {
            while let Some(held) = self.take_useless() {
                self.discard(held).await;
            }
            let pause = match self.add_one_each().await {
                Added::Some => continue,
                Added::None => LOOK_EVERY,
                Added::Failed => RETRY_DELAY,
            };
            let _ = tokio::time::timeout(pause, self.look.notified()).await;
            tokio::time::sleep(REFILL_DELAY).await;
        }
    }

    /// Takes one that could not be given to anybody, or of which there are too many.
    fn take_useless(&self) -> Option<Held> {
        let mut stock = self.stock.borrow_mut();
        let many = |recipe| count(&stock, recipe) > self.target(recipe);
        let index = stock.iter().position(|held| !self.is_good(held) || many(&held.recipe))?;
        Some(stock.remove(index))
    }

    async fn discard(&self, held: Held) {
        let Held { recipe, disk, .. } = &held;
        self.begin(recipe, disk);
        let disk = disk.clone();
        held.end().await;
        self.give_back(disk).await;
    }

    fn begin(&self, recipe: &Recipe, disk: &Disk) {
        let disk_bytes = if matches!(disk, Disk::Directory { .. }) { recipe.resources.disk_bytes } else { 0 };
        self.busy.replace(Some(Busy { disk_bytes, waiter: None }));
    }

    /// Ends what was begun, and gives the disk back, at once to the start that waits for it.
    async fn give_back(&self, disk: Disk) {
        if let Some(dirty) = self.disks.give_back(disk) {
            wipe(&self.disks, &dirty).await;
        }
        if let Some(Waiter { needs, tell }) = self.busy.take().and_then(|busy| busy.waiter)
            && let Ok(disk) = self.disks.take(&needs)
            && let Err(disk) = tell.send(disk)
        {
            // Whoever asked has gone away; nothing was written to it.
            self.disks.give_back(disk);
        }
    }

    /// Ends what was begun: the container goes into stock, unless a start needs its disk more.
    async fn keep(&self, held: Held) {
        if self.busy.borrow().as_ref().is_some_and(|busy| busy.waiter.is_some()) {
            let disk = held.disk.clone();
            held.end().await;
            return self.give_back(disk).await;
        }
        self.busy.take();
        self.stock.borrow_mut().push(held);
    }

    /// How many are wanted of a recipe. Owners do not share: each may take all of its own.
    fn target(&self, recipe: &Recipe) -> usize {
        if self.paused.get() {
            return 0;
        }
        let wanted = self.wanted.borrow();
        let stocks = wanted.values().flatten().filter(|stock| stock.recipe == *recipe);
        stocks.map(|stock| usize::try_from(stock.count).unwrap_or(usize::MAX)).fold(0, usize::saturating_add)
    }

    /// The recipes of which there are too few.
    fn lacking(&self) -> Vec<Recipe> {
        let stock = self.stock.borrow();
        let wanted = self.wanted.borrow();
        let stocks = wanted.values().flatten();
        let lacking = stocks.filter(|wanted| count(&stock, &wanted.recipe) < self.target(&wanted.recipe));
        lacking.map(|wanted| wanted.recipe.clone()).collect()
    }

    /// Makes one of each recipe that there are too few of. One that cannot be made does not keep the others back.
    async fn add_one_each(&self) -> Added {
        let (mut added, mut failed) = (false, false);
        for recipe in self.lacking() {
            match self.add(recipe).await {
                Ok(did) => added |= did,
                Err(error) => {
                    tracing::warn!(%error, "cannot make a container ahead of need");
                    failed = true;
                }
            }
        }
        match (failed, added) {
            (true, _) => Added::Failed,
            (false, true) => Added::Some,
            (false, false) => Added::None,
        }
    }

    /// Makes one, if there is room: false where there is none.
    async fn add(&self, recipe: Recipe) -> Result<bool, LaunchError> {
        let needed = recipe.resources.memory_bytes.saturating_add(SPARE_MEMORY_BYTES);
        if self.stock.borrow().len() >= MAX_HELD || available_memory().is_none_or(|free| free < needed) {
            return Ok(false);
        }
        let Ok(disk) = self.disks.take(&recipe.resources) else { return Ok(false) };
        self.begin(&recipe, &disk);
        match self.make(&recipe, &disk).await {
            Ok(prepared) => self.keep(Held { recipe, disk, prepared }).await,
            Err(error) => {
                self.give_back(disk).await;
                return Err(error);
            }
        }
        Ok(true)
    }

    async fn make(&self, recipe: &Recipe, disk: &Disk) -> Result<Prepared, LaunchError> {
        let prepared = self.maker.describe(recipe, disk).await?;
        let held = async {
            prepared.call(&ShimCall::Create).await?;
            until_held(&prepared).await
        };
        let text = |why: String| LaunchError::new(RefusalCode::Other, format!("hold a container: {why}"));
        let held = tokio::time::timeout(MAKE_TIMEOUT, held).await;
        let held = held.map_err(|_| text(format!("not made within {} s", MAKE_TIMEOUT.as_secs())))?;
        held.map(|()| prepared).map_err(|error| text(error.to_string()))
    }
}

/// What a round has come to.
enum Added {
    Some,
    None,
    Failed,
}

fn count(stock: &[Held], recipe: &Recipe) -> usize {
    stock.iter().filter(|held| held.recipe == *recipe).count()
}

/// Bytes that the machine could give to processes now.
fn available_memory() -> Option<u64> {
    memory_of("MemAvailable", &std::fs::read_to_string("/proc/meminfo").ok()?)
}
