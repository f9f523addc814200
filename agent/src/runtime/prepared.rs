//! PooledShim containers, made ahead of need up to the start of their app: an instance of the same recipe takes one and
//! runs within a few milliseconds.
//!
//! ```text
//!           image, disk, memory       shim: held            an instance of an equal recipe
//! (wanted) ──────────────────▶ making ───────────▶ ready ────────────────────────────────▶ the instance's
//!     ▲                           │ failed            │ surplus; its shim has ended; the host's name server has changed;
//!     └───────────────────────────┴───────────────────┘ a start needs its disk
//! ```
//!
//! A prepared container takes a disk and a few megabytes of memory, and is ended if a start needs its disk. It is used
//! only for an equal recipe, so an image, variable or limit that has changed since is never served.
//!
//! What fails, and what happens then:
//! * A container cannot be made, or not in time: its disk is freed, the other recipes go on, and all are tried again
//!   soon, and then less and less often: a shim may have been killed, or the image may be one that no container can be made of.
//! * No disk or memory is free: nothing is made; this is checked again every few seconds.
//! * A prepared container dies: it is discarded at the next check, or skipped when one is taken.
//! * The agent ends: prepared containers lose their connection and end by themselves.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use berth_common::ids::EdgeId;
use berth_common::spec::Recipe;
use berth_common::wire::call::{PrepareTarget, RefusalCode};
use berth_shim::disk::Disk;
use berth_shim::messages::{ShimCall, ShimEvent};
use tokio::sync::Notify;

use super::disks::Disks;
use super::maker::{Maker, kind_of};
use super::reclaim::wipe;
use super::shim_pool::PooledShim;
use crate::launch::LaunchError;
use crate::site::memory_of;

/// Most prepared containers of a node: a burst uses up any number, and each takes memory from instances.
const MAX_PREPARED: usize = 64;
/// How long a container may take to be made: a loaded machine takes a second or two.
const MAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Delay before containers are prepared after a start, so that starts have the CPU.
const REFILL_DELAY: Duration = Duration::from_millis(300);
/// How often all are checked: shims may have ended, disks and memory may be free.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Delay after containers that could not be made: the shortest, which is doubled each time, and the longest.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Bytes of the machine's memory that must stay available beyond the limit of a new prepared container.
const FREE_MEMORY_BYTES: u64 = 256 << 20;

/// The prepared containers of a node.
#[derive(Debug)]
pub(crate) struct PreparedContainers {
    maker: Rc<Maker>,
    disks: Rc<Disks>,
    targets: RefCell<HashMap<EdgeId, Vec<PrepareTarget>>>,
    ready: RefCell<Vec<PreparedContainer>>,
    /// One is being made or ended.
    busy: Cell<bool>,
    /// No containers are to be prepared.
    paused: Cell<bool>,
    look: Notify,
}

/// A prepared container. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct PreparedContainer {
    recipe: Recipe,
    disk: Disk,
    shim: PooledShim,
}

impl PreparedContainer {
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(crate) fn into_shim(self) -> PooledShim {
        self.shim
    }

    /// Ends it, and waits until its shim has wiped its disk and ended.
    pub(crate) async fn end(self) {
        self.shim.end().await;
    }
}

async fn until_created(shim: &PooledShim) -> io::Result<()> {
    match shim.next_event().await? {
        Some(ShimEvent::Held) => Ok(()),
        Some(ShimEvent::Exited { outcome, .. }) => {
            Err(io::Error::other(outcome.message.unwrap_or_else(|| format!("{:?}", outcome.reason))))
        }
        other => Err(io::Error::other(format!("its shim ended (its message: {other:?})"))),
    }
}

impl PreparedContainers {
    /// Starts empty, and prepares containers in the background. Must be called within a `LocalSet`.
    pub(crate) fn new(maker: Rc<Maker>, disks: Rc<Disks>) -> Rc<Self> {
        let prepared = Rc::new(Self {
            maker,
            disks,
            targets: RefCell::default(),
            ready: RefCell::default(),
            busy: Cell::new(false),
            paused: Cell::new(false),
            look: Notify::new(),
        });
        tokio::task::spawn_local(Rc::clone(&prepared).run());
        prepared
    }

    /// Replaces the targets of this owner.
    pub(crate) fn set_targets(&self, owner: &EdgeId, targets: Vec<PrepareTarget>) {
        self.targets.borrow_mut().insert(owner.clone(), targets);
        self.look.notify_one();
    }

    /// Pauses or resumes preparation. Pausing ends the prepared containers.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.set(paused);
        self.look.notify_one();
    }

    /// How many there are, including one that is being made or ended.
    pub(crate) fn count(&self) -> usize {
        self.ready.borrow().len() + usize::from(self.busy.get())
    }

    /// Takes one of this recipe.
    pub(crate) fn take(&self, recipe: &Recipe) -> Option<PreparedContainer> {
        let held = self.take_where(|held| held.recipe == *recipe && self.is_usable(held))?;
        self.look.notify_one();
        Some(held)
    }

    /// Takes one to be ended, because a start needs its disk of at least this size.
    ///
    /// What counts is the size of the slot that it has: the smallest free one was taken, which may be larger than its
    /// class needs.
    pub(crate) fn take_for_disk(&self, bytes: u64) -> Option<PreparedContainer> {
        let mut ready = self.ready.borrow_mut();
        let sizes: Vec<u64> = ready.iter().map(|held| self.disks.bytes_of(&held.disk)).collect();
        Some(ready.remove(smallest_fit(&sizes, bytes)?))
    }

    fn take_where(&self, fits: impl Fn(&PreparedContainer) -> bool) -> Option<PreparedContainer> {
        let mut ready = self.ready.borrow_mut();
        let index = ready.iter().position(fits)?;
        Some(ready.remove(index))
    }

    fn is_usable(&self, held: &PreparedContainer) -> bool {
        self.maker.shims.is_current(&held.shim, kind_of(&held.recipe))
    }

    async fn run(self: Rc<Self>) {
        let mut failures = 0;
        loop {
            while let Some(held) = self.take_surplus() {
                self.discard(held).await;
            }
            let added = self.add_one_each().await;
            failures = if matches!(added, Added::Failed) { u32::saturating_add(failures, 1) } else { 0 };
            let pause = match added {
                Added::Some => continue,
                Added::None => CHECK_EVERY,
                Added::Failed => retry_delay(failures),
            };
            let _ = tokio::time::timeout(pause, self.look.notified()).await;
            tokio::time::sleep(REFILL_DELAY).await;
        }
    }

    /// Takes one that is not usable any more, or of which there are too many.
    fn take_surplus(&self) -> Option<PreparedContainer> {
        let mut ready = self.ready.borrow_mut();
        let many = |recipe| count(&ready, recipe) > self.target(recipe);
        let index = ready.iter().position(|held| !self.is_usable(held) || many(&held.recipe))?;
        Some(ready.remove(index))
    }

    async fn discard(&self, held: PreparedContainer) {
        let disk = held.disk.clone();
        self.begin(&disk);
        held.end().await;
        self.give_back(disk).await;
    }

    /// A container is being made or ended: a start may wait for its disk.
    fn begin(&self, disk: &Disk) {
        self.busy.set(true);
        self.disks.leave(disk);
    }

    /// Finishes what `begin` began: frees the disk, which passes it to a start that waits for it.
    async fn give_back(&self, disk: Disk) {
        if let Some(dirty) = self.disks.give_back(disk) {
            wipe(&self.disks, &dirty).await;
        }
        self.busy.set(false);
    }

    /// Finishes what `begin` began: the container is ready, unless a start waits for its disk.
    async fn keep(&self, held: PreparedContainer) {
        if !self.disks.stay(&held.disk) {
            let disk = held.disk.clone();
            held.end().await;
            return self.give_back(disk).await;
        }
        self.busy.set(false);
        self.ready.borrow_mut().push(held);
    }

    /// The sizes of the slots that prepared containers have, in bytes.
    pub(crate) fn slots(&self) -> Vec<u64> {
        self.ready.borrow().iter().map(|held| self.disks.bytes_of(&held.disk)).collect()
    }

    /// The target for a recipe: the sum over all owners, since each may use all of its own.
    fn target(&self, recipe: &Recipe) -> usize {
        if self.paused.get() {
            return 0;
        }
        let targets = self.targets.borrow();
        let targets = targets.values().flatten().filter(|target| target.recipe == *recipe);
        targets
            .map(|target| usize::try_from(target.count).unwrap_or(usize::MAX))
            .fold(0, usize::saturating_add)
    }

    /// The recipes with fewer containers than their target.
    fn lacking(&self) -> Vec<Recipe> {
        let ready = self.ready.borrow();
        let targets = self.targets.borrow();
        let targets = targets.values().flatten();
        let lacking = targets.filter(|target| count(&ready, &target.recipe) < self.target(&target.recipe));
        lacking.map(|target| target.recipe.clone()).collect()
    }

    /// Makes one for each lacking recipe. A failure does not keep the others from being made.
    async fn add_one_each(&self) -> Added {
        let (mut added, mut failed) = (false, false);
        for recipe in self.lacking() {
            match self.add(recipe).await {
                Ok(did) => added |= did,
                Err(error) => {
                    tracing::warn!(%error, "cannot prepare a container");
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

    /// Makes one; false if there is no room.
    async fn add(&self, recipe: Recipe) -> Result<bool, LaunchError> {
        // A start may wait for the disk from here on: not as long as an image may take to come. It is kept until it is used.
        let image = self.maker.images.get(&recipe.image.digest).await?;
        let needed = recipe.resources.memory_bytes.saturating_add(FREE_MEMORY_BYTES);
        if self.ready.borrow().len() >= MAX_PREPARED || available_memory().is_none_or(|free| free < needed) {
            return Ok(false);
        }
        let Ok(disk) = self.disks.take(&recipe.resources) else { return Ok(false) };
        self.begin(&disk);
        match self.make(&recipe, &disk).await {
            Ok(shim) => self.keep(PreparedContainer { recipe, disk, shim }).await,
            Err(error) => {
                self.give_back(disk).await;
                return Err(error);
            }
        }
        drop(image);
        Ok(true)
    }

    async fn make(&self, recipe: &Recipe, disk: &Disk) -> Result<PooledShim, LaunchError> {
        let shim = self.maker.configure(recipe, disk).await?;
        let held = async {
            shim.call(&ShimCall::Create).await?;
            until_created(&shim).await
        };
        let why = match tokio::time::timeout(MAKE_TIMEOUT, held).await {
            Ok(Ok(())) => return Ok(shim),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not made within {} s", MAKE_TIMEOUT.as_secs()),
        };
        // Before its disk is given back: it may have made that.
        shim.end().await;
        Err(LaunchError::new(RefusalCode::Other, format!("prepare a container: {why}")))
    }
}

/// The result of a round.
enum Added {
    Some,
    None,
    Failed,
}

/// The index of the smallest slot that is large enough; 0 is no slot.
fn smallest_fit(sizes: &[u64], bytes: u64) -> Option<usize> {
    let fitting = sizes.iter().enumerate().filter(|(_, size)| **size > 0 && **size >= bytes);
    fitting.min_by_key(|(_, size)| **size).map(|(index, _)| index)
}

/// How long to wait after so many rounds in a row in which some container could not be made.
fn retry_delay(failures: u32) -> Duration {
    let (shortest, longest) = RETRY_DELAY;
    shortest.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(longest)
}

fn count(ready: &[PreparedContainer], recipe: &Recipe) -> usize {
    ready.iter().filter(|held| held.recipe == *recipe).count()
}

/// Available memory of the machine, in bytes.
fn available_memory() -> Option<u64> {
    memory_of("MemAvailable", &std::fs::read_to_string("/proc/meminfo").ok()?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use berth_common::spec::Resources;
    use berth_shim::layout::Layout;
    use berth_shim::protection::Protection;
    use tokio::task::LocalSet;

    use super::super::disks::tests::FakeSlots;
    use super::super::ranges::Ranges;
    use super::super::shim_pool::{ShimFactory, ShimPool, Tools};
    use super::*;
    use crate::images::{Images, WaterMarks};
    use crate::site::Site;

    fn maker(state: &Path) -> Maker {
        let layout = Layout::open(state).unwrap();
        let here = || "here".to_owned();
        let factory = ShimFactory {
            layout: layout.clone(),
            cgroup: state.to_owned(),
            ranges: Ranges::shared_only(),
            tools: Tools { name_server: None, pasta: None, nft: None },
            protection: Protection::default(),
        };
        Maker {
            site: Site { node: "a".parse().unwrap(), country: here(), region: here(), location: here() },
            logs: layout.logs(),
            layers: layout.layers(),
            images: Images::open(state, WaterMarks { high: 100, low: 100 }).unwrap(),
            protection: Protection::default(),
            shims: ShimPool::new(factory, 0),
        }
    }

    fn recipe() -> Recipe {
        let digest = format!("sha256:{}", "0".repeat(64));
        serde_json::from_value(serde_json::json!({
            "image": {"digest": digest},
            "resources": Resources { cpu_sixteenths: 1, memory_bytes: 1, disk_bytes: 1, disk_in_memory: false },
            "enable_internet": false,
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn no_start_waits_for_the_disk_of_a_container_whose_image_has_yet_to_come() {
        let state = tempfile::tempdir().unwrap();
        LocalSet::new()
            .run_until(async {
                let (maker, slots) = (Rc::new(maker(state.path())), FakeSlots::default());
                slots.free.borrow_mut().push("/slot".into());
                let disks = Rc::new(Disks::on(slots));
                let prepared = PreparedContainers::new(Rc::clone(&maker), Rc::clone(&disks));
                let recipe = recipe();
                let target = PrepareTarget { recipe: recipe.clone(), count: 1 };
                prepared.set_targets(&"edge".parse().unwrap(), vec![target]);
                while !maker.images.is_fetching(&recipe.image.digest) {
                    tokio::task::yield_now().await;
                }
                assert!(disks.wait_for(&recipe.resources).is_none(), "it may take minutes");
                assert!(disks.take(&recipe.resources).is_ok());
            })
            .await;
    }

    #[test]
    fn the_slot_counts_and_not_the_size_of_the_class_that_has_it() {
        // A class of 1 in a slot of 2, one of 1 in a slot of 4, and one without a slot.
        let sizes = [4, 2, 0];
        assert_eq!(smallest_fit(&sizes, 2), Some(1));
        assert_eq!(smallest_fit(&sizes, 3), Some(0));
        assert_eq!(smallest_fit(&sizes, 5), None);
        assert_eq!(smallest_fit(&[0], 0), None);
    }

    #[test]
    fn what_failed_once_is_tried_again_soon() {
        assert_eq!([1, 2, 4, 6, u32::MAX].map(|n| retry_delay(n).as_secs()), [1, 2, 8, 30, 30]);
    }
}
