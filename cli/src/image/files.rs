//! Where the parts of an image lie: files of a directory, or stretches of an archive, which is read in place.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use berth_images::manifest::MAX_DOCUMENT_BYTES;

use super::archive::Archive;

/// A part of an image that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{within} holds no {name}")]
pub(crate) struct MissingPart {
    within: String,
    name: String,
}

/// Bytes on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    path: PathBuf,
    offset: u64,
    length: u64,
}

impl Part {
    /// A stretch of a file.
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

    /// What it holds from a place on, at most so many bytes. A file that has become shorter is an error.
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

/// Parts by their names.
#[derive(Debug)]
pub(crate) enum Files {
    /// Files below a directory.
    Directory(PathBuf),
    /// Entries of an archive.
    Archive(Archive),
}

impl Files {
    /// The part with this name, which must lead nowhere else: it is ours, or made of a digest.
    pub(crate) fn find(&self, name: &str) -> Result<Part> {
        let missing = || MissingPart { within: self.place().display().to_string(), name: name.to_owned() };
        let root = match self {
            Self::Archive(archive) => return Ok(archive.find(name)?.ok_or_else(missing)?),
            Self::Directory(root) => root,
        };
        let path = root.join(name);
        let metadata = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing().into()),
            found => found.with_context(|| format!("cannot look at {}", path.display()))?,
        };
        // A pipe would be waited for.
        ensure!(metadata.is_file(), "{} is no file", path.display());
        Ok(Part { path, offset: 0, length: metadata.len() })
    }

    /// Whether it is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// The directory or the archive.
    pub(crate) fn place(&self) -> &Path {
        match self {
            Self::Directory(root) => root,
            Self::Archive(archive) => archive.place(),
        }
    }
}
