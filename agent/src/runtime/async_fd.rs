//! The only unsafe code of the agent: registers the sockets of supervisor and shims with the async runtime.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the async runtime.
pub(crate) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open for as long as it exists, is one number all that time, and is moved in whole.
    let registered = unsafe { AsyncFd::register(fd) };
    registered.map_err(io::Error::from)
}
