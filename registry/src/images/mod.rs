//! The images of this edge: their content by digest, their names in the store, and the end of those that nobody needs.
//!
//! `push` takes manifests, `info` tells what an image is made of, `uses` who needs it, `removal` ends names and `gc` what has
//! none. All of that blocks on the disk; [`Images`] does it on threads for that. Knows nothing of HTTP and of nodes.

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
use berth_common::image::{Digest, Named, Pick, Repository, Tag};
use berth_common::spec::ImageRef;
use berth_images::manifest::{ImageManifest, MAX_DOCUMENT_BYTES, ManifestError};
use berth_store::{Store, StoreError, Write};

use crate::content::{Content, ContentError, Limits, Upload};
use crate::sessions::{SessionError, Sessions};

pub use self::gc::collect_regularly;
pub use self::uses::Uses;

/// Most tags, and most manifests, of an edge: each look for what nobody needs goes through all of them.
const MAX_ENTRIES: usize = 100_000;
/// Entries of the store that are read at once.
const PAGE: usize = 1_000;
/// How long after room was made in vain nobody tries again.
const ROOM_PAUSE: Duration = Duration::from_secs(30);

/// How large images may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes of one image: its configuration and its layers, compressed as they are.
    pub image_bytes: u64,
    /// Bytes of all images.
    pub total_bytes: u64,
}

/// Why something could not be done with an image.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each says what its fields are")]
pub enum ImageError {
    /// It is no manifest that is understood.
    #[error("the manifest cannot be taken: {0}")]
    Manifest(#[from] ManifestError),
    /// The kind that was said is not that of the manifest.
    #[error("the manifest is of the kind `{found}`, not `{said}`")]
    MediaType { said: String, found: String },
    /// A part of it is not here.
    #[error("the manifest names the {what} {digest}, which is not here: push it first")]
    MissingPart { what: &'static str, digest: Digest },
    /// A part of it is of another size than it says.
    #[error("the manifest says that {digest} has {said} bytes, and it has {found}")]
    Size { digest: Digest, said: u64, found: u64 },
    /// It is larger than an image may be.
    #[error(
        "the image has {bytes} bytes, and {limit} are allowed (--image-limit): leave out what it does not need to run"
    )]
    TooLarge { bytes: u64, limit: u64 },
    /// There are too many names.
    #[error("there are {MAX_ENTRIES} {0}, which is the most there can be: delete some")]
    TooMany(&'static str),
    /// There is none of that name.
    #[error("{0}")]
    Unknown(String),
    /// Versions of apps need it.
    #[error("{}", used(digest, uses))]
    Used { digest: Digest, uses: Vec<Use> },
    /// A blob that an image is made of.
    #[error(
        "the blob {blob} is a part of {image}: delete that, and what nobody needs goes with `berth images gc`"
    )]
    Part { blob: Digest, image: String },
    /// The upload cannot be gone on with.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The content was not kept or had.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The edge ends.
    #[error("the edge is stopping")]
    Stopping,
}

fn used(digest: &Digest, uses: &[Use]) -> String {
    /// Versions that are named at most.
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

/// The same, for threads that may block.
struct Core {
    content: Content,
    sessions: Sessions,
    store: Arc<dyn Store>,
    limits: ImageLimits,
    /// Held, on threads that may block, from a look at what is there until what follows from it is durable: so that what a
    /// manifest or an app needs does not go meanwhile.
    changing: Mutex<Counts>,
    /// One look for what nobody needs at a time, and when the last one made room for a push.
    collecting: Mutex<Option<Instant>>,
}

/// How many names there are.
#[derive(Debug, Default)]
struct Counts {
    tags: usize,
    manifests: usize,
}

impl Images {
    /// Those in this directory, which is made if it is missing.
    pub fn open(directory: &Path, limits: ImageLimits, store: Arc<dyn Store>) -> anyhow::Result<Arc<Self>> {
        // How large an image is, its manifest is asked; a manifest may be as large as any.
        let blob_bytes = limits.image_bytes.max(MAX_DOCUMENT_BYTES as u64);
        let of_content = Limits { blob_bytes, total_bytes: limits.total_bytes };
        let content = Content::open(directory, of_content)?;
        let counts = Mutex::new(count(&*store)?);
        let (sessions, collecting) = (Sessions::default(), Mutex::default());
        let core = Core { content, sessions, store, limits, changing: counts, collecting };
        Ok(Arc::new(Self(Arc::new(core))))
    }

    /// Their content. Its calls block.
    pub fn content(&self) -> &Content {
        &self.0.content
    }

    /// Refuses an image that is larger than one may be.
    pub fn check_size(&self, image: &ImageManifest) -> Result<(), ImageError> {
        push::check_size(image, self.0.limits.image_bytes)
    }

    /// Makes room for more content, where nobody needs all that there is.
    pub async fn make_room(&self) -> Result<(), ImageError> {
        self.on_a_thread(Core::make_room).await
    }

    /// Uploads that go on over several requests. Its calls block, but not for long.
    pub fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// What has this name, if anything.
    pub async fn resolve(&self, image: &Named) -> Result<Option<Digest>, ImageError> {
        let image = image.clone();
        self.on_a_thread(move |core| core.resolve(&image)).await
    }

    /// Keeps a manifest whose parts are all there, and gives it a tag.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        tag: Option<&Tag>,
        bytes: Vec<u8>,
    ) -> Result<Digest, ImageError> {
        let (repository, tag) = (repository.clone(), tag.cloned());
        self.on_a_thread(move |core| core.put_manifest(&repository, tag.as_ref(), &bytes)).await
    }

    /// What the image is made of whose manifest this is, if it is there.
    pub async fn describe(&self, digest: &Digest) -> Result<Option<ImageInfo>, ImageError> {
        let digest = *digest;
        self.on_a_thread(move |core| core.describe(&digest)).await
    }

    /// Makes sure that an image stays until the app is stored that names it, and tells what it is made of. None where it is
    /// not in its repository, or a part of it is missing.
    pub async fn pin(&self, image: &ImageRef) -> Result<Option<ImageInfo>, ImageError> {
        let (repository, digest) = (image.repository.clone(), image.digest);
        self.on_a_thread(move |core| core.pin(&repository, &digest)).await
    }

    /// Ends a tag, or a manifest with all of its tags in the repository.
    pub async fn delete(&self, image: &Named, force: bool) -> Result<(), ImageError> {
        let image = image.clone();
        self.on_a_thread(move |core| core.delete(&image, force)).await
    }

    /// Removes a blob that no image is made of. False where there is none.
    pub async fn delete_blob(&self, digest: &Digest) -> Result<bool, ImageError> {
        let digest = *digest;
        self.on_a_thread(move |core| core.delete_blob(&digest)).await
    }

    /// Who uses which image.
    pub async fn uses(&self) -> Result<Uses, ImageError> {
        self.on_a_thread(|core| core.uses()).await
    }

    /// Removes what nobody needs, or tells what that would be.
    pub async fn gc(&self, dry_run: bool) -> Result<Swept, ImageError> {
        self.on_a_thread(move |core| core.gc(dry_run)).await
    }

    /// Adds bytes to an upload; where there is no room, makes some once. The upload comes back whatever becomes of it.
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

    /// Does something with the images that blocks.
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
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        self.store.commit(writes, Box::new(move |result| drop(tell.send(result))));
        Ok(told.recv().unwrap_or(Err(StoreError::Closed))?)
    }

    /// Does what takes room; where there is none, makes some and does it once more.
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

/// Goes through all tags, a page at a time.
fn each_tag(store: &dyn Store, mut each: impl FnMut(berth_store::TagRecord)) -> Result<(), StoreError> {
    let mut last: Option<(Repository, Tag)> = None;
    loop {
        let page = store.all_tags(last.as_ref().map(|(repository, tag)| (repository, tag)), PAGE)?;
        let Some(newest) = page.last() else { return Ok(()) };
        last = Some((newest.repository.clone(), newest.tag.clone()));
        page.into_iter().for_each(&mut each);
    }
}

/// Goes through all manifests, a page at a time.
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
