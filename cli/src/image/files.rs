//! Where the parts of an image are: files of a directory, or ranges of an archive, which is not extracted.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::archive::Archive;
use super::part::Part;

/// A part of an image that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{within} holds no {name}")]
pub(crate) struct MissingPart {
    within: String,
    name: String,
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
    /// The part with this name, which must not lead out of the directory: callers pass constants, or names made of
    /// digests.
    pub(crate) fn find(&self, name: &str) -> Result<Part> {
        let missing = || MissingPart { within: self.path().display().to_string(), name: name.to_owned() };
        let root = match self {
            Self::Archive(archive) => return Ok(archive.find(name)?.ok_or_else(missing)?),
            Self::Directory(root) => root,
        };
        let path = root.join(name);
        let metadata = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing().into()),
            found => found.with_context(|| format!("cannot look at {}", path.display()))?,
        };
        // Opening a FIFO would block.
        ensure!(metadata.is_file(), "{} is no file", path.display());
        Ok(Part::stretch(&path, 0, metadata.len()))
    }

    /// Whether it is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// The directory or the archive.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Directory(root) => root,
            Self::Archive(archive) => archive.path(),
        }
    }
}
