//! The content store: blobs on disk, addressed by digest. Each is written to a temporary file, synced, and then
//! renamed.
//!
//! ```text
//! DIR/blobs/HEX       a blob: its name is its digest. Its modification time is its last access, for the garbage collection
//! DIR/uploads/.NAME   an unfinished blob; removed when the store is opened again
//! DIR/uploads/NAME    an unfinished blob that is gone on with by its name, also by the next edge
//! ```
//!
//! One lock guards the totals, and each access that keeps a blob from the garbage collection: a client that was told
//! that a blob exists has also renewed its last access, and the collection checks and removes under the same lock.
//! Nothing slow is done under it.
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

/// Free space of the disk, in bytes, below which writes are refused: the edge's store and others write to the same
/// disk, and some of them do not survive a full one.
const RESERVE_BYTES: u64 = 128 << 20;
/// Most uploads at once: each has an open file.
const MAX_UPLOADS: usize = 256;
/// The beginning of the names of uploads that are downloads from other registries.
pub const DOWNLOADS: &str = "pull-";
/// Only the owner may read images: they may contain secrets.
const DIRECTORY_MODE: u32 = 0o700;

/// Why content was not stored or found.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The bytes have another digest than announced.
    #[error("the content has the digest {found}, not {expected}")]
    Digest {
        /// The announced digest.
        expected: Digest,
        /// The actual digest.
        found: Box<Digest>,
    },
    /// The limit of all images would be exceeded.
    #[error(
        "that would be more than the {limit} bytes that images may take in all: `berth images gc` removes what nobody needs"
    )]
    Quota {
        /// The limit, in bytes.
        limit: u64,
    },
    /// One blob is too large.
    #[error("a blob of more than {limit} bytes; that is the most an image may have")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The blob is larger than its manifest says.
    #[error("it has more than the {0} bytes that it may have here")]
    Unexpected(usize),
    /// Too many uploads are open.
    #[error("{MAX_UPLOADS} blobs are being written, which is the most there can be: try again later")]
    Busy,
    /// The disk is almost full.
    #[error(
        "the disk of images is as good as full ({free} bytes are free, and {RESERVE_BYTES} stay so): nothing was kept; make \
         room, or remove images and run `berth images gc`"
    )]
    Full {
        /// Free bytes of the disk.
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

/// The limits of a content store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one blob.
    pub blob_bytes: u64,
    /// Bytes of all blobs.
    pub total_bytes: u64,
}

/// A content store. Clones share it.
#[derive(Debug, Clone)]
pub struct Content {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    blobs: PathBuf,
    uploads: PathBuf,
    limits: Limits,
    /// Held while a blob is looked up, added or removed, so that none is removed that a client has just been told of.
    used: Mutex<Used>,
}

/// The totals.
#[derive(Debug, Default)]
struct Used {
    /// Bytes of all blobs and uploads.
    bytes: u64,
    blobs: u64,
    uploads: usize,
}

/// The totals and the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all blobs and uploads.
    pub bytes: u64,
    /// Blobs.
    pub blobs: u64,
    /// Uploads that are not finished.
    pub uploads: usize,
    /// The limit, in bytes.
    pub limit_bytes: u64,
}

impl Content {
    /// Opens the store in a directory, which is created if missing. Unfinished uploads without a name are removed.
    pub fn open(directory: &Path, limits: Limits) -> Result<Self, ContentError> {
        let (blobs, uploads) = (directory.join("blobs"), directory.join("uploads"));
        for path in [&blobs, &uploads] {
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)?;
        }
        for entry in fs::read_dir(&uploads)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                fs::remove_file(entry.path())?;
            }
        }
        File::open(directory)?.sync_all()?;
        let used = Mutex::new(count(&blobs)?);
        Ok(Self { shared: Arc::new(Shared { blobs, uploads, limits, used }) })
    }

    /// The length of a blob in bytes, if it exists. Counts as an access: the blob is not collected for a while.
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

    /// Opens a blob for reading; returns its length too. Counts as an access.
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

    /// Reads a small blob whole, and verifies its digest.
    pub fn read(&self, digest: &Digest, most: usize) -> Result<Option<Vec<u8>>, ContentError> {
        let Some((mut file, length)) = self.get(digest)? else { return Ok(None) };
        if usize::try_from(length).map_or(true, |length| length > most) {
            return Err(ContentError::Unexpected(most));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let found = Digest::with(digest.algorithm(), &bytes);
        if found == *digest {
            Ok(Some(bytes))
        } else {
            Err(ContentError::Digest { expected: *digest, found: Box::new(found) })
        }
    }

    /// Stores a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, ContentError> {
        let digest = Digest::of(bytes);
        let mut upload = self.begin()?;
        upload.write(bytes)?;
        upload.finish(&digest)?;
        Ok(digest)
    }

    /// Begins an upload, which is removed with its end.
    pub fn begin(&self) -> Result<Upload, ContentError> {
        self.count_upload()?;
        Upload::new(self.clone())
    }

    /// Goes on with the upload of this name, or begins it. Its bytes stay until it is finished or discarded. The name
    /// must not begin with a dot, and only one may have it at a time.
    pub fn resume(&self, name: &str) -> Result<Upload, ContentError> {
        self.count_upload()?;
        Upload::named(self.clone(), self.upload_path(name))
    }

    fn count_upload(&self) -> Result<(), ContentError> {
        let mut used = self.lock();
        if used.uploads >= MAX_UPLOADS {
            return Err(ContentError::Busy);
        }
        used.uploads += 1;
        Ok(())
    }

    /// The names of what lies beside the unfinished uploads that begin like this, those included.
    pub fn uploads_named(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.shared.uploads)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The path of something of this name beside the unfinished uploads.
    pub fn upload_path(&self, name: &str) -> PathBuf {
        self.shared.uploads.join(name)
    }

    /// Removes what has this name there. Only what is left then needs attention, and it is told.
    pub fn remove_upload(&self, name: &str) {
        remove_if_there(&self.upload_path(name));
    }

    /// Removes uploads with such a name that have not grown for this long.
    pub fn sweep_uploads(&self, prefix: &str, age: Duration) -> io::Result<()> {
        for name in self.uploads_named(prefix)? {
            let path = self.upload_path(&name);
            // It may have been finished just now.
            if fs::metadata(&path).and_then(|metadata| idle(&metadata)).is_ok_and(|idle| idle >= age) {
                remove_if_there(&path);
            }
        }
        Ok(())
    }

    /// Makes the names of all blobs durable: those that another's upload has just been given too.
    pub fn sync(&self) -> Result<(), ContentError> {
        Ok(File::open(&self.shared.blobs)?.sync_all()?)
    }

    /// Bytes of everything stored, and the limit.
    pub fn used(&self) -> (u64, u64) {
        (self.lock().bytes, self.shared.limits.total_bytes)
    }

    /// The totals and the limit.
    pub fn usage(&self) -> Usage {
        let Used { bytes, blobs, uploads } = *self.lock();
        Usage { bytes, blobs, uploads, limit_bytes: self.shared.limits.total_bytes }
    }

    /// The time since the last access to a blob, if it exists.
    pub fn idle(&self, digest: &Digest) -> Result<Option<Duration>, ContentError> {
        match fs::metadata(self.path(digest)) {
            Ok(metadata) => Ok(Some(idle(&metadata)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes blobs that `keep` does not name and that were not accessed for a while; returns their digests and
    /// lengths.
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

    /// Removes a blob, whatever its last access, and returns its length.
    pub fn remove(&self, digest: &Digest) -> Result<Option<u64>, ContentError> {
        self.sweep_one(digest, Duration::ZERO, false)
    }

    /// Removes a blob that was not accessed for a while, and returns its length.
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

    /// The directory of the blobs, each a file with the hexadecimal digits of its digest as its name.
    pub fn blobs(&self) -> &Path {
        &self.shared.blobs
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.shared.blobs.join(digest.hex())
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.shared.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts what exists when the store is opened.
fn count(blobs: &Path) -> io::Result<Used> {
    let mut used = Used::default();
    for entry in fs::read_dir(blobs)? {
        used.bytes += entry?.metadata()?.len();
        used.blobs += 1;
    }
    Ok(used)
}

/// Removes a file. Failing to is told, as it takes room.
fn remove_if_there(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished upload");
        }
        _ => {}
    }
}

fn digest_of_name(name: &std::ffi::OsStr) -> Option<Digest> {
    Digest::from_hex(name.to_str()?).ok()
}

/// A time in the future means that the clock was set back: it counts as now.
fn idle(metadata: &fs::Metadata) -> io::Result<Duration> {
    Ok(metadata.modified()?.elapsed().unwrap_or_default())
}

#[cfg(test)]
mod tests;
