//! An unfinished blob: written to a temporary file, counted while it grows, and renamed when complete.

use std::fs::{self, File};
use std::io::{self, Write};
use std::time::SystemTime;

use berth_common::image::Digest;
use rustix::fs::fstatvfs;
use sha2::{Digest as _, Sha256};

use super::{Content, ContentError, RESERVE_BYTES};

/// An unfinished blob. Dropping it removes it.
#[derive(Debug)]
pub struct Upload {
    content: Content,
    file: Option<tempfile::NamedTempFile>,
    hash: Sha256,
    length: u64,
}

impl Upload {
    /// An empty upload, which is counted already.
    pub(super) fn new(content: Content) -> Result<Self, ContentError> {
        let directory = content.shared.uploads.clone();
        // Built before its file: if that fails, the drop corrects the count.
        let mut upload = Self { content, file: None, hash: Sha256::new(), length: 0 };
        upload.file = Some(tempfile::NamedTempFile::new_in(directory)?);
        Ok(upload)
    }

    /// Appends bytes. If refused for want of space (`Quota`, `Full`), nothing has changed, and the call may be
    /// repeated.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        let limits = self.content.shared.limits;
        let more = bytes.len() as u64;
        if self.length.saturating_add(more) > limits.blob_bytes {
            return Err(ContentError::TooLarge { limit: limits.blob_bytes });
        }
        let file = self.file.as_mut().ok_or_else(broken)?;
        check_room(file.as_file(), more)?;
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
            self.file = None;
            return Err(error.into());
        }
        self.hash.update(bytes);
        Ok(())
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Verifies the digest, and adds the blob to the store, durably.
    pub fn finish(mut self, expected: &Digest) -> Result<u64, ContentError> {
        let found = Digest::from_bytes(self.hash.clone().finalize().into());
        if found != *expected {
            return Err(ContentError::Digest { expected: *expected, found });
        }
        let length = self.length;
        let file = self.file.take().ok_or_else(broken)?;
        file.as_file().sync_all()?;
        self.move_to_blobs(file, expected)?;
        File::open(&self.content.shared.blobs)?.sync_all()?;
        Ok(length)
    }

    /// Renames the file to its final name. An existing blob of the same digest is replaced, and not counted any more.
    fn move_to_blobs(&mut self, file: tempfile::NamedTempFile, digest: &Digest) -> Result<(), ContentError> {
        let path = self.content.path(digest);
        let mut used = self.content.lock();
        // Counts as an access from now on, however long the upload took.
        file.as_file().set_modified(SystemTime::now())?;
        let before = fs::metadata(&path).map(|metadata| metadata.len()).ok();
        file.persist(&path).map_err(|error| error.error)?;
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
