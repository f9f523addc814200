//! Content by its digest, on disk: written beside its place, synced, and moved there whole.
//!
//! ```text
//! DIR/blobs/HEX       a blob: its name is its digest. The time of its last change says when somebody last counted on it
//! DIR/uploads/NAME    a blob in the making; gone when the store is opened again
//! ```
//!
//! One lock guards how much there is, and each look at a blob that makes somebody count on it: whoever was told that a blob is
//! there has also put off its end, and who sweeps looks and removes under the same lock. Nothing slow is done under it.
//!
//! Calls block on the disk.

mod upload;

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use berth_common::image::Digest;

pub use self::upload::Upload;

/// Free space of its disk, in bytes, below which nothing is taken: others, such as the edge's store, write to the same disk, and
/// some of them do not survive its end.
const RESERVE_BYTES: u64 = 128 << 20;
/// Most uploads at once: each holds a file open.
const MAX_UPLOADS: usize = 256;
/// Only their owner reads images: they may hold what is secret.
const DIRECTORY_MODE: u32 = 0o700;

/// Why content could not be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The bytes are others than was said.
    #[error("the content has the digest {found}, not {expected}")]
    Digest {
        /// What was said.
        expected: Digest,
        /// What is.
        found: Digest,
    },
    /// There would be too much.
    #[error(
        "that would be more than the {limit} bytes that images may take in all: `berth images gc` removes what nobody needs"
    )]
    Quota {
        /// Most bytes.
        limit: u64,
    },
    /// One blob is too long.
    #[error("a blob of more than {limit} bytes; that is the most an image may have")]
    TooLarge {
        /// Most bytes.
        limit: u64,
    },
    /// Another blob was expected.
    #[error("it has more than the {0} bytes that it may have here")]
    Unexpected(usize),
    /// Too many are being written.
    #[error("{MAX_UPLOADS} blobs are being written, which is the most there can be: try again later")]
    Busy,
    /// The disk is as good as full.
    #[error(
        "the disk of images is as good as full ({free} bytes are free, and {RESERVE_BYTES} stay so): nothing was kept; make \
         room, or remove images and run `berth images gc`"
    )]
    Full {
        /// Bytes that are free.
        free: u64,
    },
    /// Reading or writing failed.
    #[error("the disk of images failed: {0}")]
    Io(io::Error),
}

impl From<io::Error> for ContentError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { free: 0 },
            _ => Self::Io(error),
        }
    }
}

/// How much there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one blob.
    pub blob_bytes: u64,
    /// Bytes of all.
    pub total_bytes: u64,
}

/// A store of content. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Content {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    blobs: PathBuf,
    uploads: PathBuf,
    limits: Limits,
    /// Held while a blob is found, put to its place or removed, so that none is removed that somebody has just been told of.
    used: Mutex<Used>,
}

/// What there is.
#[derive(Debug, Default)]
struct Used {
    /// Bytes of all blobs and uploads.
    bytes: u64,
    blobs: u64,
    uploads: usize,
}

/// What there is, and the most there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all blobs and uploads.
    pub bytes: u64,
    /// Blobs.
    pub blobs: u64,
    /// Uploads that are not finished.
    pub uploads: usize,
    /// Most bytes.
    pub limit_bytes: u64,
}

impl Content {
    /// Opens the store in a directory, which is made if it is missing. What was in the making is removed.
    pub fn open(directory: &Path, limits: Limits) -> Result<Self, ContentError> {
        let (blobs, uploads) = (directory.join("blobs"), directory.join("uploads"));
        if let Err(error) = fs::remove_dir_all(&uploads)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error.into());
        }
        for path in [&blobs, &uploads] {
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)?;
        }
        File::open(directory)?.sync_all()?;
        let used = Mutex::new(count(&blobs)?);
        Ok(Self { shared: Arc::new(Shared { blobs, uploads, limits, used }) })
    }

    /// How long a blob is, if it is there. Whoever is told counts on it: it is not swept for a while.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, ContentError> {
        let _held = self.lock();
        match File::open(self.path(digest)) {
            Ok(file) => {
                file.set_modified(SystemTime::now())?;
                Ok(Some(file.metadata()?.len()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A blob to be read, and its length.
    pub fn get(&self, digest: &Digest) -> Result<Option<(File, u64)>, ContentError> {
        match File::open(self.path(digest)) {
            Ok(file) => {
                let length = file.metadata()?.len();
                Ok(Some((file, length)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The whole of a small blob, its digest checked.
    pub fn read(&self, digest: &Digest, most: usize) -> Result<Option<Vec<u8>>, ContentError> {
        let Some((mut file, length)) = self.get(digest)? else { return Ok(None) };
        if usize::try_from(length).map_or(true, |length| length > most) {
            return Err(ContentError::Unexpected(most));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(Some(bytes))
        } else {
            Err(ContentError::Digest { expected: *digest, found })
        }
    }

    /// Keeps a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, ContentError> {
        let digest = Digest::of(bytes);
        let mut upload = self.begin()?;
        upload.write(bytes)?;
        upload.finish(&digest)?;
        Ok(digest)
    }

    /// Begins a blob.
    pub fn begin(&self) -> Result<Upload, ContentError> {
        {
            let mut used = self.lock();
            if used.uploads >= MAX_UPLOADS {
                return Err(ContentError::Busy);
            }
            used.uploads += 1;
        }
        Upload::new(self.clone())
    }

    /// Bytes of all that is there, and the most there may be.
    pub fn used(&self) -> (u64, u64) {
        (self.lock().bytes, self.shared.limits.total_bytes)
    }

    /// What there is.
    pub fn usage(&self) -> Usage {
        let Used { bytes, blobs, uploads } = *self.lock();
        Usage { bytes, blobs, uploads, limit_bytes: self.shared.limits.total_bytes }
    }

    /// How long ago somebody last counted on a blob, if it is there.
    pub fn idle(&self, digest: &Digest) -> Result<Option<Duration>, ContentError> {
        match fs::metadata(self.path(digest)) {
            Ok(metadata) => Ok(Some(idle(&metadata)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what is not to be kept and that nobody has counted on for a while; tells what it was, and how long.
    pub fn sweep(
        &self,
        keep: &HashSet<Digest>,
        grace: Duration,
        dry_run: bool,
    ) -> Result<Vec<(Digest, u64)>, ContentError> {
        let mut swept = Vec::new();
        for entry in fs::read_dir(&self.shared.blobs)? {
            let digest = digest_of_name(&entry?.file_name());
            let Some(digest) = digest.filter(|digest| !keep.contains(digest)) else { continue };
            if let Some(length) = self.sweep_one(&digest, grace, dry_run)? {
                swept.push((digest, length));
            }
        }
        Ok(swept)
    }

    /// Removes a blob, whoever counts on it, and tells how long it was.
    pub fn remove(&self, digest: &Digest) -> Result<Option<u64>, ContentError> {
        self.sweep_one(digest, Duration::ZERO, false)
    }

    /// Removes a blob that nobody has counted on for a while, and tells how long it was.
    fn sweep_one(
        &self,
        digest: &Digest,
        grace: Duration,
        dry_run: bool,
    ) -> Result<Option<u64>, ContentError> {
        let path = self.path(digest);
        let mut used = self.lock();
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if idle(&metadata)? < grace {
            return Ok(None);
        }
        if !dry_run {
            fs::remove_file(&path)?;
            used.bytes = used.bytes.saturating_sub(metadata.len());
            used.blobs = used.blobs.saturating_sub(1);
        }
        Ok(Some(metadata.len()))
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.shared.blobs.join(digest.hex())
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.shared.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is there when the store is opened.
fn count(blobs: &Path) -> io::Result<Used> {
    let mut used = Used::default();
    for entry in fs::read_dir(blobs)? {
        used.bytes += entry?.metadata()?.len();
        used.blobs += 1;
    }
    Ok(used)
}

fn digest_of_name(name: &std::ffi::OsStr) -> Option<Digest> {
    format!("sha256:{}", name.to_str()?).parse().ok()
}

/// Times to come are those of a clock that was set back: as good as now.
fn idle(metadata: &fs::Metadata) -> io::Result<Duration> {
    Ok(metadata.modified()?.elapsed().unwrap_or_default())
}

#[cfg(test)]
mod tests;
