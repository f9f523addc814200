//! A shim's directory, by descriptor: the agent renames it when it becomes an instance's.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use crate::state_files::read_json;

/// A shim's directory, which the agent may rename.
pub(super) struct Directory(OwnedFd);

impl Directory {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// A path through the descriptor, valid after a rename, for this process and its children.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// Its current path: for messages, and where a path through a descriptor does not work.
    pub(super) fn name(&self) -> io::Result<PathBuf> {
        fs::read_link(self.path())
    }

    /// Reads a file of the agent, and removes it.
    pub(super) fn take<T: DeserializeOwned>(&self, name: &str) -> io::Result<T> {
        let path = self.path().join(name);
        let value = read_json(&path);
        // Also if it could not be read: it may hold secrets.
        fs::remove_file(&path)?;
        value?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{name} is missing")))
    }
}
