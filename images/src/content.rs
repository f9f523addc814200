//! Content by its digest, on disk: written beside its place, synced, and moved there whole.
//!
//! ```text
//! DIR/blobs/HEX       a blob: its name is its digest. The time of its last change says when somebody last counted on it
//! DIR/uploads/NAME    a blob in the making; gone when the store is opened again
//! ```
//!
//! Calls block on the disk.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use berth_common::image::Digest;
use sha2::{Digest as _, Sha256};

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
    /// Reading or writing failed.
    #[error("the disk of images failed: {0}")]
    Io(#[from] io::Error),
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
    /// Bytes of all blobs and uploads. Held while a blob is found or removed too, so that none is removed that somebody
    /// has just been told of.
    used: Mutex<u64>,
}

impl Content {
    /// Opens the store in a directory, which is made if it is missing.
    pub fn open(directory: &Path, limits: Limits) -> Result<Self, ContentError> {
        let (blobs, uploads) = (directory.join("blobs"), directory.join("uploads"));
        fs::create_dir_all(&blobs)?;
        match fs::remove_dir_all(&uploads) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir_all(&uploads)?,
        }
        let mut used = 0;
        for entry in fs::read_dir(&blobs)? {
            used += entry?.metadata()?.len();
        }
        Ok(Self { shared: Arc::new(Shared { blobs, uploads, limits, used: Mutex::new(used) }) })
    }

    /// How long a blob is, if it is there. Whoever is told counts on it: it is not swept for a while.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, ContentError> {
        let _used = self.lock();
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
        io::Read::read_to_end(&mut file, &mut bytes)?;
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
        let file = tempfile::NamedTempFile::new_in(&self.shared.uploads)?;
        Ok(Upload { content: self.clone(), file: Some(file), hash: Sha256::new(), length: 0 })
    }

    /// Bytes of all that is there, and the most there may be.
    pub fn used(&self) -> (u64, u64) {
        (*self.lock(), self.shared.limits.total_bytes)
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
            let entry = entry?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            let Some(digest) = digest.filter(|digest| !keep.contains(digest)) else { continue };
            let mut used = self.lock();
            let metadata = entry.metadata()?;
            let idle = metadata.modified()?.elapsed().unwrap_or_default();
            if idle >= grace {
                if !dry_run {
                    fs::remove_file(entry.path())?;
                    *used = used.saturating_sub(metadata.len());
                }
                swept.push((digest, metadata.len()));
            }
        }
        Ok(swept)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.shared.blobs.join(digest.hex())
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.shared.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A blob in the making. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    content: Content,
    file: Option<tempfile::NamedTempFile>,
    hash: Sha256,
    length: u64,
}

impl Upload {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        let limits = self.content.shared.limits;
        let more = bytes.len() as u64;
        if self.length + more > limits.blob_bytes {
            return Err(ContentError::TooLarge { limit: limits.blob_bytes });
        }
        {
            let mut used = self.content.lock();
            if *used + more > limits.total_bytes {
                return Err(ContentError::Quota { limit: limits.total_bytes });
            }
            *used += more;
        }
        self.length += more;
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
        }
        self.hash.update(bytes);
        Ok(())
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Puts the blob to its place, durably, if it has this digest.
    pub fn finish(mut self, expected: &Digest) -> Result<u64, ContentError> {
        let found = Digest::from_bytes(self.hash.clone().finalize().into());
        if found != *expected {
            return Err(ContentError::Digest { expected: *expected, found });
        }
        let Some(file) = self.file.take() else { return Ok(self.length) };
        file.as_file().sync_all()?;
        let path = self.content.path(expected);
        let was = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        file.persist(&path).map_err(|error| error.error)?;
        File::open(&self.content.shared.blobs)?.sync_all()?;
        // What was there before counts no more.
        let length = std::mem::take(&mut self.length);
        let mut used = self.content.lock();
        *used = used.saturating_sub(was);
        Ok(length)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut used = self.content.lock();
        *used = used.saturating_sub(self.length);
    }
}
