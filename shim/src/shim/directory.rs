//! A shim's directory, by its descriptor: the agent moves it when it becomes an instance's.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use crate::state_files::read_json;

/// A shim's directory, which the agent may move.
pub(super) struct Directory(OwnedFd);

impl Directory {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// A path that leads to it wherever it is, for this process and its children.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// Where it is now: for people, and for what a path by way of a descriptor does not do.
    pub(super) fn name(&self) -> io::Result<PathBuf> {
        fs::read_link(self.path())
    }

    /// Reads what the agent has put there, and removes it.
    pub(super) fn take<T: DeserializeOwned>(&self, name: &str) -> io::Result<T> {
        let path = self.path().join(name);
        let value = read_json(&path);
        // Also where it could not be read: it may hold secrets.
        fs::remove_file(&path)?;
        value?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{name} is missing")))
    }
}
