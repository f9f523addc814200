//! The node's images: fetched from edges by digest, each part once, and unpacked once. `runtime` asks for one to be
//! opened; edges say which are to be held.
//!
//! ```text
//!              manifest, configuration    layers, several at once           those that need what is below them
//! (wanted) ──▶ documents ───────────────▶ fetching ⇄ unpacking ───────────▶ merged ───▶ ready ──no room, not used──▶ gone
//!     ▲            │ no edge, cut: again, from where it was     │
//!     └────────────┴─────── refused, damaged, no room ──────────┘ failed: told, and tried again later
//! ```
//!
//! `sources` is where blobs come from, `documents` and `layers` what is on disk, `spool` a layer on its way, `gather` how
//! an image comes together, `wanted` what edges want held, `reclaim` makes room.

mod documents;
mod flights;
mod gather;
mod layers;
mod modes;
mod reclaim;
pub(crate) mod sources;
mod spool;
mod wanted;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use berth_common::image::Digest;
use berth_common::wire::call::RefusalCode;
use berth_monitor::cells::Counter;
use berth_shim::state_files::make_private_dir;
use tokio::sync::{Notify, Semaphore};

use self::documents::Documents;
use self::flights::Flights;
use self::gather::Progress;
use self::layers::{LayerName, Layers, Unpacked};
pub use self::reclaim::WaterMarks;
use self::sources::Sources;
use self::wanted::WantedImages;
use crate::launch::LaunchError;

/// Layers that are fetched or unpacked at once: they share the link and the processors.
const LAYERS_AT_ONCE: usize = 4;
/// Images remembered as opened without being used. More than a node has at once; those not in use are forgotten then.
const MAX_OPENED: usize = 1024;

/// An image, ready to be run. As long as somebody has it, its layers stay.
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
}

/// Why an image cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    text: String,
    /// It may be otherwise in a moment, without anybody doing anything.
    passing: bool,
}

impl Failure {
    /// Something that somebody has to see to.
    fn lasting(text: impl Into<String>) -> Self {
        Self { text: text.into(), passing: false }
    }

    /// Such as a connection that was lost.
    fn passing(text: impl Into<String>) -> Self {
        Self { text: text.into(), passing: true }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::lasting(match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                format!(
                    "the disk of the node's state is full ({error}): make room, or lower --image-high-water"
                )
            }
            _ => format!("the disk of the node's state failed: {error}"),
        })
    }
}

/// What was fetched and unpacked.
#[derive(Debug, Default)]
pub(crate) struct ImageCounts {
    /// Bytes that came from edges.
    pub(crate) fetched_bytes: Counter,
    /// Layers that came whole.
    pub(crate) layers: Counter,
    /// Images that could not be had.
    pub(crate) failed: Counter,
    /// Layers that went to make room.
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
    /// Images on their way.
    images: Flights<Result<Rc<Image>, Failure>>,
    /// How far they are.
    progress: RefCell<HashMap<Digest, Rc<Progress>>>,
    /// Layers on their way, by the name of their directory.
    unpacking: Flights<Result<Unpacked, Failure>>,
    /// How many bytes of a blob are there that is on its way.
    done: RefCell<HashMap<Digest, Rc<Cell<u64>>>>,
    room: Semaphore,
    wanted: WantedImages,
    /// Something may have become reclaimable, or room scarce.
    look: Notify,
    /// There are containers whose images are not known: nothing is reclaimed.
    unknown_in_use: Cell<bool>,
    counts: ImageCounts,
}

impl Images {
    /// The images in the node's state directory, which is made if it is missing.
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
            done: RefCell::default(),
            room: Semaphore::new(LAYERS_AT_ONCE),
            wanted: WantedImages::default(),
            look: Notify::new(),
            unknown_in_use: Cell::new(false),
            counts: ImageCounts::default(),
        }))
    }

    /// Begins to hold what is wanted, and to remove what is not needed: only once the images of all containers of an earlier
    /// agent were adopted.
    pub(crate) fn begin(self: &Rc<Self>) {
        tokio::task::spawn_local(Rc::clone(self).keep_tidy());
        tokio::task::spawn_local(Rc::clone(self).hold_wanted());
    }

    /// Opens an image, fetching what is not there yet. Concurrent calls share the work.
    pub(crate) async fn get(self: &Rc<Self>, digest: &Digest) -> Result<Rc<Image>, LaunchError> {
        self.fetch(*digest)
            .await
            .map_err(|failure| LaunchError::new(RefusalCode::Image, format!("image {digest}: {failure}")))
    }

    /// An image that a container of an earlier agent was made from, so that its layers stay.
    pub(crate) fn adopt(&self, digest: &Digest) -> Option<Rc<Image>> {
        let image = self.known(digest).or_else(|| self.assemble(digest));
        match &image {
            Some(image) => self.remember(*digest, Rc::clone(image)),
            None => self.unknown_in_use.set(true),
        }
        image
    }

    /// Where images come from.
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
                tracing::warn!(image = %digest, %failure, "cannot have an image");
                self.counts.failed.count();
            }
        }
        self.progress.borrow_mut().remove(&digest);
        self.look.notify_one();
        gathered
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

    /// The names of the layers that must stay: those of containers, of images on their way, and of wanted ones.
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
