//! The files of apps: the modules of programs and static files, by digest. What no kept version of an app names is removed
//! after a while.
//!
//! ```text
//! missing ──▶ what is not here ──▶ begin, write, finish ──▶ claim ──▶ a version that names it is stored
//!    └ renews the last access         └ durable               └ renews it again, and says what is not here
//! ```
//!
//! A collection leaves what was accessed within the grace, so what a deployment was told of is there when its version
//! arrives, also where it has no name yet. Does not know HTTP, or what the files are for.

mod error;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_common::image::Digest;
use berth_common::spec::MAX_CONTENT_BYTES;
use berth_store::Store;
use bytes::Bytes;

use crate::content::{Content, ContentError, Limits, Upload};

pub use self::error::FilesError;

/// Most bytes of all files of an edge: twenty of the largest apps with versions that have little in common.
pub const MAX_FILES_BYTES: u64 = 40 << 30;
/// How long a file without a version is kept: longer than a deployment takes from its first question to its version, also
/// where it waits for nodes that fetch images.
const GRACE: Duration = Duration::from_secs(3 * 60 * 60);
/// Interval of regular collections.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// Pause after a collection that freed too little, before an upload tries one again.
const ROOM_PAUSE: Duration = Duration::from_secs(30);

/// The limits of all edges.
const LIMITS: Limits = Limits { blob_bytes: MAX_CONTENT_BYTES, total_bytes: MAX_FILES_BYTES };

/// The files of an edge. Clones share them.
#[derive(Clone)]
pub struct Files(Arc<Core>);

/// The same, for blocking threads.
struct Core {
    content: Content,
    store: Arc<dyn Store>,
    /// One collection at a time, with the time of the last one that an upload caused.
    collecting: Mutex<Option<Instant>>,
}

impl Files {
    /// Opens the files in this directory, which is created if missing. Uploads that were interrupted are removed.
    pub fn open(directory: &Path, store: Arc<dyn Store>) -> Result<Self, FilesError> {
        Self::with_limits(directory, store, LIMITS)
    }

    fn with_limits(directory: &Path, store: Arc<dyn Store>, limits: Limits) -> Result<Self, FilesError> {
        let content = Content::open(directory, limits)?;
        Ok(Self(Arc::new(Core { content, store, collecting: Mutex::default() })))
    }

    /// Which of these are not here. Those that are stay for the grace.
    pub async fn missing(&self, digests: Vec<Digest>) -> Result<Vec<Digest>, FilesError> {
        self.on_a_thread(move |core| core.missing(digests)).await
    }

    /// Begins an upload, which leaves nothing if it is dropped before its end.
    pub fn begin(&self) -> Result<Upload, FilesError> {
        Ok(self.0.content.begin()?)
    }

    /// Appends bytes to an upload; without space, collects garbage once.
    pub async fn write(&self, mut upload: Upload, bytes: Vec<Bytes>) -> Result<Upload, FilesError> {
        let write = move |core: &Core| {
            bytes.iter().try_for_each(|bytes| core.with_room(|| upload.write(bytes)))?;
            Ok(upload)
        };
        self.on_a_thread(write).await
    }

    /// Checks the digest of an upload, and keeps it. It is durable when this returns.
    pub async fn finish(&self, upload: Upload, digest: Digest) -> Result<(), FilesError> {
        self.on_a_thread(move |_| Ok(upload.finish(&digest).map(drop)?)).await
    }

    /// Stores a small file, durably.
    pub async fn put(&self, bytes: Vec<u8>) -> Result<Digest, FilesError> {
        self.on_a_thread(move |core| Ok(core.content.put(&bytes)?)).await
    }

    /// The lengths of those that are here, for a version that is about to be stored: they are durable, and stay until it is.
    pub async fn claim(&self, digests: HashSet<Digest>) -> Result<HashMap<Digest, u64>, FilesError> {
        self.on_a_thread(move |core| core.claim(digests)).await
    }

    /// Reads a file of at most this many bytes whole, and verifies its digest. None where it is not here. Blocks on the disk.
    pub fn read(&self, digest: &Digest, most: usize) -> Result<Option<Vec<u8>>, FilesError> {
        Ok(self.0.content.read(digest, most)?)
    }

    /// The directory that they lie in, each a file with the hexadecimal digits of its digest as its name. Only to read those that a
    /// kept version names.
    pub fn directory(&self) -> &Path {
        self.0.content.blobs()
    }

    /// Opens a file, and returns its length too. Its digest is not verified. Blocks on the disk.
    pub fn open_file(&self, digest: &Digest) -> Result<Option<(File, u64)>, FilesError> {
        Ok(self.0.content.get(digest)?)
    }

    /// Removes what no kept version names, at intervals, for as long as it is polled.
    pub async fn collect_regularly(self) {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Err(error) = self.on_a_thread(|core| core.collect(GRACE)).await {
                tracing::warn!(%error, "unused files of apps not removed");
            }
        }
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core) -> Result<T, FilesError> + Send + 'static,
    ) -> Result<T, FilesError> {
        let core = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&core)).await.unwrap_or(Err(FilesError::Stopping))
    }
}

impl Core {
    fn missing(&self, digests: Vec<Digest>) -> Result<Vec<Digest>, FilesError> {
        let mut missing = Vec::new();
        for digest in digests {
            if self.content.size(&digest)?.is_none() {
                missing.push(digest);
            }
        }
        Ok(missing)
    }

    fn claim(&self, digests: HashSet<Digest>) -> Result<HashMap<Digest, u64>, FilesError> {
        let mut lengths = HashMap::new();
        for digest in digests {
            if let Some(length) = self.content.size(&digest)? {
                lengths.insert(digest, length);
            }
        }
        if !lengths.is_empty() {
            // Another's upload may have put one in its place just now, and not be acknowledged yet.
            self.content.sync()?;
        }
        Ok(lengths)
    }

    /// Runs an operation that needs space; without space, collects garbage and repeats it once.
    fn with_room(&self, work: impl FnMut() -> Result<(), ContentError>) -> Result<(), FilesError> {
        let mut work = work;
        match work() {
            Err(ContentError::Quota { .. }) => {
                self.make_room()?;
                Ok(work()?)
            }
            other => Ok(other?),
        }
    }

    /// Collects garbage because there is no space, unless that was tried a short time ago.
    fn make_room(&self) -> Result<(), FilesError> {
        let mut last = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= ROOM_PAUSE) {
            self.sweep(GRACE)?;
            *last = Some(Instant::now());
        }
        Ok(())
    }

    fn collect(&self, grace: Duration) -> Result<(), FilesError> {
        let _one = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        self.sweep(grace)
    }

    /// Removes what no kept version names and nobody has accessed within the grace. A version that is stored meanwhile has
    /// claimed its files, so they are not removed either.
    fn sweep(&self, grace: Duration) -> Result<(), FilesError> {
        let mut named = HashSet::new();
        for history in self.store.apps()? {
            for (version, _) in history.kept() {
                named.extend(version.spec.content().map(|(_, digest)| *digest));
            }
        }
        let swept = self.content.sweep(&named, grace, false)?;
        if !swept.is_empty() {
            let bytes: u64 = swept.iter().map(|(_, bytes)| bytes).sum();
            tracing::info!(files = swept.len(), bytes, "unused files of apps removed");
        }
        Ok(())
    }
}
