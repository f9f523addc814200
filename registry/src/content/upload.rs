//! An unfinished blob: written to a file of its own, counted while it grows, and renamed when complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::SystemTime;

use berth_common::image::{Algorithm, Digest, Hasher};
use rustix::fs::fstatvfs;

use super::{Content, ContentError, RESERVE_BYTES, remove_if_there};

/// The algorithm that bytes are hashed with as they come.
const USUAL: Algorithm = Algorithm::Sha256;
/// Only the owner may read images.
const FILE_MODE: u32 = 0o600;
/// Bytes that are read at once to compute another digest.
const CHUNK_BYTES: usize = 256 << 10;

/// An unfinished blob. Dropping one without a name removes it.
#[derive(Debug)]
pub struct Upload {
    content: Content,
    file: Option<Unfinished>,
    /// None where bytes are there that were not hashed.
    hash: Option<Hasher>,
    length: u64,
}

/// The file of an upload, which is removed when this is dropped, unless it stays.
#[derive(Debug)]
struct Unfinished {
    file: File,
    path: PathBuf,
    stays: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.stays {
            remove_if_there(&self.path);
        }
    }
}

impl Upload {
    /// An empty upload, which is counted already.
    pub(super) fn new(content: Content) -> Result<Self, ContentError> {
        let directory = content.shared.uploads.clone();
        // Built before its file: if that fails, the drop corrects the count.
        let mut upload = Self { content, file: None, hash: Some(Hasher::new(USUAL)), length: 0 };
        let (file, path) = tempfile::NamedTempFile::new_in(directory)?.keep().map_err(|error| error.error)?;
        upload.file = Some(Unfinished { file, path, stays: false });
        Ok(upload)
    }

    /// One with a file of its own, which is counted already.
    pub(super) fn named(content: Content, path: PathBuf) -> Result<Self, ContentError> {
        let mut upload = Self { content, file: None, hash: None, length: 0 };
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(FILE_MODE).open(&path)?;
        let length = file.metadata()?.len();
        upload.file = Some(Unfinished { file, path, stays: true });
        upload.hash = (length == 0).then(|| Hasher::new(USUAL));
        upload.length = length;
        let mut used = upload.content.lock();
        used.bytes = used.bytes.saturating_add(length);
        drop(used);
        Ok(upload)
    }

    /// Removes it, whether it has a name or not.
    pub fn discard(mut self) {
        self.let_go();
    }

    /// From now on its file is removed with its end.
    fn let_go(&mut self) {
        if let Some(file) = &mut self.file {
            file.stays = false;
        }
    }

    /// Appends bytes. If refused for want of space (`Quota`, `Full`), nothing has changed, and the call may be
    /// repeated.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        let limits = self.content.shared.limits;
        let more = bytes.len() as u64;
        if self.length.saturating_add(more) > limits.blob_bytes {
            return Err(ContentError::TooLarge { limit: limits.blob_bytes });
        }
        let file = &mut self.file.as_mut().ok_or_else(broken)?.file;
        check_room(file, more)?;
        {
            let mut used = self.content.lock();
            if used.bytes.saturating_add(more) > limits.total_bytes {
                return Err(ContentError::Quota { limit: limits.total_bytes });
            }
            used.bytes += more;
        }
        self.length += more;
        if let Err(error) = file.write_all(bytes) {
            // It is unknown how much of it was written.
            self.let_go();
            self.file = None;
            return Err(error.into());
        }
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        Ok(())
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Verifies the digest, and adds the blob to the store, durably. After an error it is gone.
    pub fn finish(mut self, expected: &Digest) -> Result<u64, ContentError> {
        self.let_go();
        let found = self.digest(expected.algorithm())?;
        if found != *expected {
            return Err(ContentError::Digest { expected: *expected, found: Box::new(found) });
        }
        let length = self.length;
        let file = self.file.take().ok_or_else(broken)?;
        file.file.sync_all()?;
        self.move_to_blobs(file, expected)?;
        File::open(&self.content.shared.blobs)?.sync_all()?;
        Ok(length)
    }

    /// The digest of what was written. By another algorithm than the usual one it is computed now, as which one is wanted
    /// is not known before the end; and so is that of bytes that an earlier edge received.
    fn digest(&self, algorithm: Algorithm) -> Result<Digest, ContentError> {
        if let Some(hash) = self.hash.clone().filter(|_| algorithm == USUAL) {
            return Ok(hash.digest());
        }
        let file = &self.file.as_ref().ok_or_else(broken)?.file;
        let mut hash = Hasher::new(algorithm);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut at = 0;
        loop {
            let count = file.read_at(&mut chunk, at)?;
            if count == 0 {
                return Ok(hash.digest());
            }
            hash.update(&chunk[..count]);
            at += count as u64;
        }
    }

    /// Renames the file to its final name. An existing blob of the same digest is replaced, and not counted any more.
    fn move_to_blobs(&mut self, mut file: Unfinished, digest: &Digest) -> Result<(), ContentError> {
        let path = self.content.path(digest);
        let mut used = self.content.lock();
        // Counts as an access from now on, however long the upload took.
        file.file.set_modified(SystemTime::now())?;
        let before = fs::metadata(&path).map(|metadata| metadata.len()).ok();
        fs::rename(&file.path, &path)?;
        file.stays = true;
        self.length = 0;
        used.bytes = used.bytes.saturating_sub(before.unwrap_or(0));
        used.blobs += u64::from(before.is_none());
        Ok(())
    }
}

fn broken() -> ContentError {
    ContentError::Io(io::Error::other("an earlier write of this blob failed: begin it anew"))
}

/// Whether the disk has space for this many more bytes.
fn check_room(file: &File, more: u64) -> Result<(), ContentError> {
    let disk = fstatvfs(file).map_err(io::Error::from)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < RESERVE_BYTES.saturating_add(more) { Err(ContentError::Full { free }) } else { Ok(()) }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // The file is removed before its bytes are subtracted.
        self.file = None;
        let mut used = self.content.lock();
        used.bytes = used.bytes.saturating_sub(self.length);
        used.uploads = used.uploads.saturating_sub(1);
    }
}
