//! A disk that can lose its power: a file system in memory, mounted with FUSE, that tells what was synced from what was
//! only written. Needs root and `/dev/fuse`.
//!
//! ```text
//!  program ──write, create, rename──▶ what is read ──fsync of the file, of the directory──▶ what outlives a power cut
//! ```
//!
//! It holds programs to what POSIX promises and no more: the bytes of a file are durable after an fsync of it, names
//! after one of their directory. Real file systems often do better. `sync_file_range` makes nothing durable.

mod content;
mod fuse;
mod small;
mod tree;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

pub use self::small::Small;
use self::tree::{Access, Tree};
use crate::machine;

/// The kernel's device for file systems in user space.
const DEVICE: &str = "/dev/fuse";
/// How long the kernel may take to release the files of a process that is gone: it does so afterwards.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause between two polls.
const RELEASE_POLL: Duration = Duration::from_millis(2);
/// The name in the table of mounts.
const NAME: &str = "berth-test-disk";

/// Whether syncs make anything durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    /// As they should.
    Kept,
    /// `fsync` reports success and does nothing: a fault that tests must notice.
    Ignored,
}

/// Which unsynced changes survive a power cut.
#[derive(Debug, Clone, Copy)]
pub enum Loss {
    /// Nothing.
    Everything,
    /// The first of the changes of names, some pages of files, lengths without their pages: drawn with this seed.
    Some(u64),
}

/// What was not durable when the power was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Pages of files.
    pub pages: usize,
    /// Changes of names.
    pub names: usize,
}

/// A disk. It keeps what it holds while it is not mounted.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Mutex<Tree>>);

impl Disk {
    /// An empty one.
    pub fn new(syncs: Syncs) -> Self {
        Self(Arc::new(Mutex::new(Tree::new(Access { mode: 0o755, uid: 0, gid: 0 }, syncs))))
    }

    /// Mounts it over a directory, whose owner is its root's from then on.
    pub fn mount(&self, at: &Path) -> Result<Mounted> {
        ensure!(
            machine::is_root() && Path::new(DEVICE).exists(),
            "a disk that loses power needs root and {DEVICE}"
        );
        let metadata = fs::metadata(at).with_context(|| format!("look at {}", at.display()))?;
        let root = Access { mode: 0o755, uid: metadata.uid(), gid: metadata.gid() };
        self.tree().change(tree::ROOT)?.access = root;
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName(NAME.to_owned()), MountOption::DefaultPermissions];
        config.acl = SessionACL::All;
        let session = fuser::spawn_mount(fuse::Server::of(self.clone()), at, &config);
        let session =
            session.with_context(|| format!("mount a disk at {} through {DEVICE}", at.display()))?;
        Ok(Mounted { session: Some(session), at: at.to_owned() })
    }

    /// Cuts the power of a disk that is not mounted, after the programs that wrote to it were killed.
    pub fn cut(&self, loss: Loss) -> Lost {
        self.tree().cut(loss)
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A mounted disk; unmounted with this value.
#[derive(Debug)]
pub struct Mounted {
    session: Option<BackgroundSession>,
    at: PathBuf,
}

impl Mounted {
    /// Unmounts it. Fails if something still uses it.
    pub fn unmount(mut self) -> Result<()> {
        until_free(&self.at).with_context(|| format!("unmount {}", self.at.display()))?;
        Ok(self.session.take().context("it was unmounted before")?.join()?)
    }
}

fn until_free(at: &Path) -> Result<(), Errno> {
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    loop {
        match umount2(at, MntFlags::empty()) {
            Err(Errno::EBUSY) if Instant::now() < deadline => std::thread::sleep(RELEASE_POLL),
            done => return done,
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        // Processes that still use it get errors from now on.
        if let Err(error) = umount2(&self.at, MntFlags::MNT_DETACH) {
            eprintln!("unmounting {}: {error}", self.at.display());
        }
        drop(session);
    }
}

/// Unmounts what a run that was killed has left mounted: no process serves it any more.
pub fn sweep(run: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let ours = table.lines().filter_map(|line| line.strip_prefix(NAME)?.split(' ').nth(1));
    for at in ours.filter(|at| Path::new(at).starts_with(run)) {
        umount2(at, MntFlags::MNT_DETACH).with_context(|| format!("unmount {at}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
