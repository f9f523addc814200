//! The files that the resolver reads: descriptions of packages, and TypeScript's configurations. Bounded, and only read.

use std::io;
use std::path::{Path, PathBuf};

use oxc_resolver::{FileMetadata, FileSystem, ResolveError};

use crate::config::read_bytes;

/// Longest description of a package, in bytes. The longest that are known have a few hundred thousand.
const MAX_BYTES: usize = 4 << 20;

/// The files of this machine.
pub(super) struct Files;

impl FileSystem for Files {
    fn new() -> Self {
        Self
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // What is not there is common: the resolver asks for it by its kind of error.
        path.metadata()?;
        read_bytes(path, MAX_BYTES).map_err(io::Error::other)
    }

    fn read_to_string(&self, path: &Path) -> io::Result<String> {
        String::from_utf8(self.read(path)?).map_err(io::Error::other)
    }

    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        path.metadata().map(FileMetadata::from)
    }

    fn symlink_metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        path.symlink_metadata().map(FileMetadata::from)
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, ResolveError> {
        path.read_link().map_err(ResolveError::from)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        path.canonicalize()
    }
}
