//! The writable disk of one container: its location, its used bytes, and its wipe.

pub(crate) mod memory;

use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

use crate::state_files;

/// The directory of all disk slots of this machine. Only root may write there.
pub const SLOTS_ROOT: &str = "/var/lib/berth-disks";
/// Name of the directory in a slot that an instance writes to. While it exists the slot is in use.
pub const USED: &str = "disk";
/// Name of the file in a slot that says that what is in it could not be removed: root makes such a slot anew.
pub const BROKEN: &str = "broken";
/// The disk of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disk {
    /// A directory in its shim's directory, made for it and wiped after it.
    Own,
    /// The same in a slot.
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// A file system in memory with this size, gone with the container.
    Memory {
        /// Its size.
        bytes: u64,
    },
}

impl Disk {
    /// The directory that is written to, if any. `shim` is the shim's directory.
    pub fn path(&self, shim: &Path) -> Option<PathBuf> {
        match self {
            Self::Own => Some(shim.join(USED)),
            Self::Directory { path } => Some(path.clone()),
            Self::Memory { .. } => None,
        }
    }
}

/// Removes the data of an instance, if any. For a process in the containers' user namespace.
pub(crate) fn wipe(disk: &Disk, shim: &Path) -> io::Result<()> {
    disk.path(shim).map_or(Ok(()), |path| state_files::wipe(&path))
}

/// How much of a slot is used, in bytes.
pub(crate) fn used_bytes(disk: &Disk) -> Option<u64> {
    let Disk::Directory { path } = disk else { return None };
    let slot = path.parent().filter(|slot| slot.starts_with(SLOTS_ROOT))?;
    let of = statvfs(slot).ok()?;
    Some((of.blocks() - of.blocks_free()) * of.fragment_size())
}
