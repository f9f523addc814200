//! A part of an image: a file, or a range of an archive, which is not extracted.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use berth_images::manifest::MAX_DOCUMENT_BYTES;

/// Bytes on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    path: PathBuf,
    offset: u64,
    length: u64,
}

impl Part {
    /// A range of a file.
    pub(super) fn stretch(path: &Path, offset: u64, length: u64) -> Self {
        Self { path: path.to_owned(), offset, length }
    }

    /// How many bytes it has.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The file that it is or lies in.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    pub(crate) fn open(&self) -> io::Result<Take<File>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        Ok(file.take(self.length))
    }

    /// Reads from an offset on, at most so many bytes. A file that has become shorter is an error.
    pub(crate) fn read_at(&self, from: u64, most: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.length.saturating_sub(from)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(most)];
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset + from))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The whole of a manifest or the like, which has a limit.
    pub(crate) fn document(&self) -> Result<Vec<u8>> {
        let length = usize::try_from(self.length).ok().filter(|length| *length <= MAX_DOCUMENT_BYTES);
        let too_large =
            || format!("{}: {} bytes are too many for what it should be", self.path.display(), self.length);
        let length = length.with_context(too_large)?;
        self.read_at(0, length).with_context(|| format!("cannot read {}", self.path.display()))
    }
}
