//! The images of this edge: their content by digest, their names in the store, and their removal.
//!
//! `push` accepts manifests, `info` returns the parts of an image, `uses` who needs it, `removal` deletes names and
//! `gc` what has none. All of that blocks on the disk; [`Images`] runs it on blocking threads. Does not know HTTP or
//! nodes.

mod gc;
mod info;
mod push;
mod removal;
#[cfg(test)]
mod tests;
mod uses;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_api::images::{ImageInfo, Swept, Use};
use berth_common::image::{Algorithm, Digest, Named, Pick, Repository, Tag};
use berth_common::spec::ImageRef;
use berth_images::manifest::{ImageManifest, MAX_DOCUMENT_BYTES, ManifestError};
use berth_store::{Store, StoreError, Write};

use crate::content::{Content, ContentError, Limits, Upload};
use crate::sessions::{SessionError, Sessions};

pub use self::gc::collect_regularly;
pub use self::uses::Uses;

/// Most tags, and most manifests, of an edge: each garbage collection reads all of them.
const MAX_ENTRIES: usize = 100_000;
/// Entries of the store that are read at once.
const PAGE: usize = 1_000;
/// Pause after a collection that freed too little, before a push tries one again.
const ROOM_PAUSE: Duration = Duration::from_secs(30);

/// Size limits of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes of one image: its configuration and its layers, compressed as stored.
    pub image_bytes: u64,
    /// Bytes of all images.
    pub total_bytes: u64,
}

/// Why an operation on an image failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each says what its fields are")]
pub enum ImageError {
    /// It is not a manifest that is understood.
    #[error("the manifest cannot be taken: {0}")]
    Manifest(#[from] ManifestError),
    /// The announced media type is not that of the manifest.
    #[error("the manifest has the media type `{found}`, not `{said}`")]
    MediaType { said: String, found: String },
    /// A part of it does not exist here.
    #[error("the manifest names the {what} {digest}, which is not here: push it first")]
    MissingPart { what: &'static str, digest: Digest },
    /// A part of it has another size than it says.
    #[error("the manifest says that {digest} has {said} bytes, and it has {found}")]
    Size { digest: Digest, said: u64, found: u64 },
    /// The image is too large.
    #[error(
        "the image has {bytes} bytes, and {limit} are allowed (--image-limit): leave out what it does not need to run"
    )]
    TooLarge { bytes: u64, limit: u64 },
    /// There are too many tags or manifests.
    #[error("there are {MAX_ENTRIES} {0}, which is the most there can be: delete some")]
    TooMany(&'static str),
    /// There is no such image.
    #[error("{0}")]
    Unknown(String),
    /// Versions of apps use it.
    #[error("{}", used(digest, uses))]
    Used { digest: Digest, uses: Vec<Use> },
    /// The blob is part of an image.
    #[error(
        "the blob {blob} is a part of {image}: delete that, and what nobody needs goes with `berth images gc`"
    )]
    Part { blob: Digest, image: String },
    /// The upload cannot be continued.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The content store failed or refused.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The edge is stopping.
    #[error("the edge is stopping")]
    Stopping,
}

fn used(digest: &Digest, uses: &[Use]) -> String {
    /// Most versions that are named.
    const NAMED: usize = 10;
    let mut names: Vec<String> = uses.iter().take(NAMED).map(Use::to_string).collect();
    if uses.len() > NAMED {
        names.push(format!("{} more", uses.len() - NAMED));
    }
    format!(
        "the image {digest} is used by {}: delete the app, wait until those versions are not kept any more, or force it",
        names.join(", ")
    )
}

/// The images of an edge.
pub struct Images(Arc<Core>);

/// The same, for blocking threads.
struct Core {
    content: Content,
    sessions: Sessions,
    store: Arc<dyn Store>,
    limits: ImageLimits,
    /// Held, on blocking threads, from a check of what exists until the resulting write is durable: so that what a
    /// manifest or an app needs is not removed in between.
    changing: Mutex<Counts>,
    /// One collection at a time, with the time of the last one that a push caused.
    collecting: Mutex<Option<Instant>>,
}

/// The number of names.
#[derive(Debug, Default)]
struct Counts {
    tags: usize,
    manifests: usize,
}

impl Images {
    /// Opens the images in this directory, which is created if missing.
    pub fn open(directory: &Path, limits: ImageLimits, store: Arc<dyn Store>) -> anyhow::Result<Arc<Self>> {
        // The limit of an image is checked with its manifest; a manifest itself has the largest blob limit.
        let blob_bytes = limits.image_bytes.max(MAX_DOCUMENT_BYTES as u64);
        let of_content = Limits { blob_bytes, total_bytes: limits.total_bytes };
        let content = Content::open(directory, of_content)?;
        let counts = Mutex::new(count(&*store)?);
        let sessions = Sessions::open(&content, Instant::now())?;
        let collecting = Mutex::default();
        let core = Core { content, sessions, store, limits, changing: counts, collecting };
        Ok(Arc::new(Self(Arc::new(core))))
    }

    /// The content store. Its calls block.
    pub fn content(&self) -> &Content {
        &self.0.content
    }

    /// Refuses an image that exceeds the size limit.
    pub fn check_size(&self, image: &ImageManifest) -> Result<(), ImageError> {
        push::check_size(image, self.0.limits.image_bytes)
    }

    /// Collects garbage, so that there is space for more content.
    pub async fn make_room(&self) -> Result<(), ImageError> {
        self.on_a_thread(Core::make_room).await
    }

    /// Uploads that take several requests. Its calls block, but not for long.
    pub fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// The digest behind a name, if it exists.
    pub async fn resolve(&self, image: &Named) -> Result<Option<Digest>, ImageError> {
        let image = image.clone();
        self.on_a_thread(move |core| core.resolve(&image)).await
    }

    /// Stores a manifest whose parts all exist under its digest by this algorithm, and gives it tags.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        tags: &[Tag],
        algorithm: Algorithm,
        bytes: Vec<u8>,
    ) -> Result<Digest, ImageError> {
        let (repository, tags) = (repository.clone(), tags.to_vec());
        self.on_a_thread(move |core| core.put_manifest(&repository, &tags, algorithm, &bytes)).await
    }

    /// The parts of the image with this digest, if it exists.
    pub async fn describe(&self, digest: &Digest) -> Result<Option<ImageInfo>, ImageError> {
        let digest = *digest;
        self.on_a_thread(move |core| core.describe(&digest)).await
    }

    /// Ensures that an image is kept until the app that names it is stored, and returns its parts. None if it is not in
    /// its repository, or a part of it is missing.
    pub async fn pin(&self, image: &ImageRef) -> Result<Option<ImageInfo>, ImageError> {
        let (repository, digest) = (image.repository.clone(), image.digest);
        self.on_a_thread(move |core| core.pin(&repository, &digest)).await
    }

    /// Deletes a tag, or a manifest with all its tags in the repository.
    pub async fn delete(&self, image: &Named, force: bool) -> Result<(), ImageError> {
        let image = image.clone();
        self.on_a_thread(move |core| core.delete(&image, force)).await
    }

    /// Deletes a blob that is no part of an image. False if there is none.
    pub async fn delete_blob(&self, digest: &Digest) -> Result<bool, ImageError> {
        let digest = *digest;
        self.on_a_thread(move |core| core.delete_blob(&digest)).await
    }

    /// Which app versions use which image.
    pub async fn uses(&self) -> Result<Uses, ImageError> {
        self.on_a_thread(|core| core.uses()).await
    }

    /// Collects garbage, or returns what would be removed.
    pub async fn gc(&self, dry_run: bool) -> Result<Swept, ImageError> {
        self.on_a_thread(move |core| core.gc(dry_run)).await
    }

    /// Appends bytes to an upload; without space, collects garbage once. The upload is returned in every case.
    pub async fn write(
        &self,
        mut upload: Upload,
        bytes: Vec<bytes::Bytes>,
    ) -> (Option<Upload>, Result<(), ImageError>) {
        let written = self.on_a_thread(move |core| {
            let result = bytes.iter().try_for_each(|bytes| core.with_room(|| upload.write(bytes)));
            Ok((upload, result))
        });
        match written.await {
            Ok((upload, result)) => (Some(upload), result),
            Err(error) => (None, Err(error)),
        }
    }

    /// Runs a blocking operation on the images.
    pub async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store, &Content) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        self.on_a_thread(move |core| work(&*core.store, &core.content)).await
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        let core = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&core)).await;
        done.unwrap_or(Err(ImageError::Stopping))
    }
}

impl Core {
    fn resolve(&self, image: &Named) -> Result<Option<Digest>, ImageError> {
        let digest = match &image.pick {
            Pick::Tag(tag) => self.store.tag(&image.repository, tag)?.map(|tag| tag.digest),
            Pick::Digest(digest) => Some(*digest),
        };
        let Some(digest) = digest else { return Ok(None) };
        let known = self.store.manifest(&image.repository, &digest)?.is_some();
        Ok(digest).map(|digest| known.then_some(digest))
    }

    fn changing(&self) -> MutexGuard<'_, Counts> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes, and waits until that is durable.
    fn commit(&self, writes: Vec<Write>) -> Result<(), ImageError> {
        let (sender, result) = std::sync::mpsc::sync_channel(1);
        self.store.commit(writes, Box::new(move |result| drop(sender.send(result))));
        Ok(result.recv().unwrap_or(Err(StoreError::Closed))?)
    }

    /// Runs an operation that needs space; without space, collects garbage and repeats it once.
    fn with_room<T>(&self, work: impl FnMut() -> Result<T, ContentError>) -> Result<T, ImageError> {
        let mut work = work;
        match work() {
            Err(ContentError::Quota { .. }) => {
                self.make_room()?;
                Ok(work()?)
            }
            other => Ok(other?),
        }
    }
}

fn count(store: &dyn Store) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    each_tag(store, |_| counts.tags += 1)?;
    each_manifest(store, |_| counts.manifests += 1)?;
    Ok(counts)
}

/// Reads all tags, page by page.
fn each_tag(store: &dyn Store, mut each: impl FnMut(berth_store::TagRecord)) -> Result<(), StoreError> {
    let mut last: Option<(Repository, Tag)> = None;
    loop {
        let page = store.all_tags(last.as_ref().map(|(repository, tag)| (repository, tag)), PAGE)?;
        let Some(newest) = page.last() else { return Ok(()) };
        last = Some((newest.repository.clone(), newest.tag.clone()));
        page.into_iter().for_each(&mut each);
    }
}

/// Reads all manifests, page by page.
fn each_manifest(
    store: &dyn Store,
    mut each: impl FnMut(berth_store::ManifestRecord),
) -> Result<(), StoreError> {
    let mut last: Option<(Repository, Digest)> = None;
    loop {
        let page =
            store.all_manifests(last.as_ref().map(|(repository, digest)| (repository, digest)), PAGE)?;
        let Some(newest) = page.last() else { return Ok(()) };
        last = Some((newest.repository.clone(), newest.digest));
        page.into_iter().for_each(&mut each);
    }
}
