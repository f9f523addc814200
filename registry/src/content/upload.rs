//! A blob in the making: written beside its place, counted while it grows, and moved there whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::time::SystemTime;

use berth_common::image::Digest;
use rustix::fs::fstatvfs;
use sha2::{Digest as _, Sha256};

use super::{Content, ContentError, RESERVE_BYTES};

/// A blob in the making. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    content: Content,
    file: Option<tempfile::NamedTempFile>,
    hash: Sha256,
    length: u64,
}

impl Upload {
    /// Nothing yet. Its place among the uploads is taken already.
    pub(super) fn new(content: Content) -> Result<Self, ContentError> {
        let directory = content.shared.uploads.clone();
        // Made before its file: dropped, it gives its place back, whatever fails.
        let mut upload = Self { content, file: None, hash: Sha256::new(), length: 0 };
        upload.file = Some(tempfile::NamedTempFile::new_in(directory)?);
        Ok(upload)
    }

    /// Adds bytes. Refused for want of room (`Quota`, `Full`), it is as it was, and can be tried again.
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
            // Nobody knows how much of it was written.
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

    /// Puts the blob to its place, durably, if it has this digest.
    pub fn finish(mut self, expected: &Digest) -> Result<u64, ContentError> {
        let found = Digest::from_bytes(self.hash.clone().finalize().into());
        if found != *expected {
            return Err(ContentError::Digest { expected: *expected, found });
        }
        let length = self.length;
        let file = self.file.take().ok_or_else(broken)?;
        file.as_file().sync_all()?;
        self.place(file, expected)?;
        File::open(&self.content.shared.blobs)?.sync_all()?;
        Ok(length)
    }

    /// Moves the file to its place. What was there before, which is the same, counts no more.
    fn place(&mut self, file: tempfile::NamedTempFile, digest: &Digest) -> Result<(), ContentError> {
        let path = self.content.path(digest);
        let mut used = self.content.lock();
        // Somebody counts on it from now on, however long it was in the making.
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

/// Whether the disk takes so many bytes more.
fn check_room(file: &File, more: u64) -> Result<(), ContentError> {
    let disk = fstatvfs(file).map_err(io::Error::from)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < RESERVE_BYTES.saturating_add(more) { Err(ContentError::Full { free }) } else { Ok(()) }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Before its bytes count no more.
        self.file = None;
        let mut used = self.content.lock();
        used.bytes = used.bytes.saturating_sub(self.length);
        used.uploads = used.uploads.saturating_sub(1);
    }
}
