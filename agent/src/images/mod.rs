//! The node's images: fetched from edges by digest and unpacked, each layer once. `runtime` opens images to run them;
//! edges set the wanted images, which are fetched ahead of need.
//!
//! ```text
//!              manifest, configuration    layers, several at once          those that depend on others
//! (wanted) ──▶ documents ───────────────▶ fetching ⇄ unpacking ──────────▶ merged ──▶ ready ──full, unused──▶ evicted
//!     ▲            │ no edge, or cut: resumed                   │
//!     └────────────┴─────── refused, damaged, disk full ────────┘ failed: reported, and retried later
//! ```
//!
//! What fails, and what happens then:
//! * No edge is connected, or the transfer is cut: it is resumed where it stopped, on any edge's connection, for 30 s.
//! * Every edge refuses the blob, or its digest or size is wrong: the image fails; wanted ones are retried with
//!   backoff.
//! * The disk is full: unused layers are evicted and the layer is tried once more; then the image fails.
//! * The unpacking process fails or is killed: the image fails, and the layer's bytes are fetched anew.
//! * The agent is killed: what it was unpacking is renamed at the next start before anything begins, and then deleted;
//!   spool files are resumed.
//! * Another image with the same layer fails: each tries by itself, one after the other.
//! * The machine crashes: layers that were not synced to disk count as missing and are fetched again.
//!
//! `sources` fetches blobs, `documents` and `layers` are on disk, `spool` is a layer being fetched, `gather` assembles
//! an image, `wanted` fetches ahead of need, `reclaim` evicts.

mod documents;
mod flights;
mod gather;
mod layers;
mod modes;
mod reclaim;
pub(crate) mod sources;
mod spool;
mod turns;
mod wanted;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use berth_common::image::Digest;
use berth_common::wire::call::RefusalCode;
use berth_monitor::cells::Counter;
use berth_shim::cgroup::UNPACKERS_AT_ONCE;
use berth_shim::state_files::make_private_dir;
use tokio::sync::{Notify, Semaphore};

use self::documents::Documents;
use self::flights::Flights;
use self::gather::{LayerFailure, Progress};
use self::layers::{LayerName, Layers, Unpacked};
pub use self::reclaim::WaterMarks;
use self::sources::Sources;
use self::turns::Turns;
use self::wanted::WantedImages;
use crate::launch::LaunchError;

/// Layers that are fetched or unpacked at once: they share the network, the CPUs and the memory of helpers.
const LAYERS_AT_ONCE: usize = UNPACKERS_AT_ONCE;
/// Cache size of opened images: more than a node uses at once. Above it, unused ones are dropped.
const MAX_OPENED: usize = 1024;

/// An image that is ready to run. Its layers are not evicted while an `Rc` of it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Directories of its unpacked layers, the topmost first.
    pub layers: Vec<PathBuf>,
    /// Entrypoint and command.
    pub args: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Its user: empty, `user`, `user:group`, by number or name.
    pub user: String,
    /// The number of the signal that asks it to end, if not SIGTERM.
    pub stop_signal: Option<i32>,
    /// Directories for its data.
    pub volumes: Vec<PathBuf>,
}

/// Why an image is not available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    text: String,
    /// Whether it is expected to go away by itself, such as a lost connection.
    transient: bool,
    /// Whether there was no room, so that eviction may help.
    full: bool,
}

impl Failure {
    /// A failure that needs a person, or a new image.
    fn permanent(text: impl Into<String>) -> Self {
        Self { text: text.into(), transient: false, full: false }
    }

    /// A failure such as a lost connection.
    fn transient(text: impl Into<String>) -> Self {
        Self { text: text.into(), transient: true, full: false }
    }

    /// The node's disk has no room.
    fn full(text: impl Into<String>) -> Self {
        Self { text: text.into(), transient: false, full: true }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::full(format!(
                "the disk of the node's state is full ({error}): make room, or lower --image-high-water"
            )),
            _ => Self::permanent(format!("the disk of the node's state failed: {error}")),
        }
    }
}

/// Counters of fetched and unpacked images.
#[derive(Debug, Default)]
pub(crate) struct ImageCounts {
    /// Bytes that came from edges.
    pub(crate) fetched_bytes: Counter,
    /// Layers that were fetched and unpacked.
    pub(crate) layers: Counter,
    /// Images that failed.
    pub(crate) failed: Counter,
    /// Layers that were evicted.
    pub(crate) evicted: Counter,
}

/// The images of a node. Lives on one thread, inside a `LocalSet`.
#[derive(Debug)]
pub struct Images {
    documents: Documents,
    layers: Layers,
    sources: Sources,
    marks: WaterMarks,
    opened: RefCell<HashMap<Digest, Rc<Image>>>,
    /// Images that are being fetched.
    images: Flights<Result<Rc<Image>, Failure>>,
    /// The progress of those.
    progress: RefCell<HashMap<Digest, Rc<Progress>>>,
    /// Layers that are being fetched and unpacked, by the name of their directory.
    unpacking: Flights<Result<Unpacked, LayerFailure>>,
    /// Who uses which spool file.
    turns: Turns,
    /// Fetched bytes of each blob in progress.
    done: RefCell<HashMap<Digest, Rc<Cell<u64>>>>,
    room: Semaphore,
    wanted: WantedImages,
    /// Wakes `reclaim`: a layer may be evictable, or the disk full.
    look: Notify,
    /// Some adopted containers use images that could not be read: no layer is evicted.
    unknown_in_use: Cell<bool>,
    counts: ImageCounts,
}

impl Images {
    /// Opens the images in the node's state directory, which is created if missing.
    pub fn open(state: &Path, marks: WaterMarks) -> io::Result<Rc<Self>> {
        make_private_dir(state)?;
        Ok(Rc::new(Self {
            documents: Documents::open(&state.join("images"))?,
            layers: Layers::open(state)?,
            sources: Sources::default(),
            marks,
            opened: RefCell::default(),
            images: Flights::default(),
            progress: RefCell::default(),
            unpacking: Flights::default(),
            turns: Turns::default(),
            done: RefCell::default(),
            room: Semaphore::new(LAYERS_AT_ONCE),
            wanted: WantedImages::default(),
            look: Notify::new(),
            unknown_in_use: Cell::new(false),
            counts: ImageCounts::default(),
        }))
    }

    /// Starts to fetch wanted images and to evict unused layers. Call it only after the images of all containers of an
    /// earlier agent were adopted, or their layers could be evicted.
    pub(crate) fn begin(self: &Rc<Self>) {
        tokio::task::spawn_local(Rc::clone(self).keep_tidy());
        tokio::task::spawn_local(Rc::clone(self).fetch_wanted());
    }

    /// Opens an image, fetching what is missing. Concurrent calls share the work.
    pub(crate) async fn get(self: &Rc<Self>, digest: &Digest) -> Result<Rc<Image>, LaunchError> {
        self.fetch(*digest)
            .await
            .map_err(|failure| LaunchError::new(RefusalCode::Image, format!("image {digest}: {failure}")))
    }

    /// The image of a container of an earlier agent, so that its layers are not evicted.
    pub(crate) fn adopt(&self, digest: &Digest) -> Option<Rc<Image>> {
        let image = self.known(digest).or_else(|| self.assemble(digest));
        match &image {
            Some(image) => self.remember(*digest, Rc::clone(image)),
            None => self.unknown_in_use.set(true),
        }
        image
    }

    /// The sources of blobs.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    pub(crate) fn counts(&self) -> &ImageCounts {
        &self.counts
    }

    async fn fetch(self: &Rc<Self>, digest: Digest) -> Result<Rc<Image>, Failure> {
        if let Some(image) = self.known(&digest) {
            self.layers.touch(&image.layers);
            return Ok(image);
        }
        let images = Rc::clone(self);
        self.images.join(digest.hex(), || Box::pin(async move { images.fetch_now(digest).await })).await
    }

    async fn fetch_now(self: &Rc<Self>, digest: Digest) -> Result<Rc<Image>, Failure> {
        let progress = Rc::new(Progress::default());
        self.progress.borrow_mut().insert(digest, Rc::clone(&progress));
        let gathered = self.gather(&digest, &progress).await;
        match &gathered {
            Ok(image) => self.remember(digest, Rc::clone(image)),
            Err(failure) => {
                tracing::warn!(image = %digest, %failure, "cannot fetch an image");
                self.counts.failed.count();
            }
        }
        self.progress.borrow_mut().remove(&digest);
        self.look.notify_one();
        gathered
    }

    /// Whether an image is being fetched.
    #[cfg(test)]
    pub(crate) fn is_fetching(&self, digest: &Digest) -> bool {
        self.images.has(&digest.hex())
    }

    fn known(&self, digest: &Digest) -> Option<Rc<Image>> {
        self.opened.borrow().get(digest).cloned()
    }

    fn remember(&self, digest: Digest, image: Rc<Image>) {
        let mut opened = self.opened.borrow_mut();
        if opened.len() >= MAX_OPENED {
            opened.retain(|_, image| Rc::strong_count(image) > 1);
        }
        opened.insert(digest, image);
    }

    /// The names of layers that must not be evicted: those of containers, of images in progress, and of wanted images.
    fn needed(&self) -> HashSet<LayerName> {
        let wanted = self.wanted.all();
        let opened = self.opened.borrow();
        let kept =
            opened.iter().filter(|(digest, image)| Rc::strong_count(image) > 1 || wanted.contains(digest));
        let mut needed: HashSet<LayerName> = kept
            .flat_map(|(_, image)| image.layers.iter().filter_map(|path| self.layers.name_of(path)))
            .collect();
        for progress in self.progress.borrow().values() {
            needed.extend(progress.names());
        }
        needed
    }
}
