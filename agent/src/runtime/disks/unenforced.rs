//! Disks without a limit, for nodes whose owner trusts the apps.

use std::io;
use std::path::{Path, PathBuf};

use berth_common::wire::call::{DiskLimit, DiskSlots};

use berth_shim::disk::Disk;

use super::Backend;

/// Directories below those of the shims.
#[derive(Debug)]
pub(super) struct Unenforced;

impl Backend for Unenforced {
    fn limit(&self) -> DiskLimit {
        DiskLimit::Unenforced
    }

    fn slots(&self) -> Vec<DiskSlots> {
        Vec::new()
    }

    fn taken(&self) -> u32 {
        0
    }

    fn broken(&self) -> u32 {
        0
    }

    fn set_broken(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn take(&self, _bytes: u64) -> Option<Disk> {
        Some(Disk::Own)
    }

    fn bytes_of(&self, _path: &Path) -> u64 {
        0
    }

    fn usable(&self) -> Vec<(DiskSlots, u32)> {
        Vec::new()
    }

    fn adopt(&self, _path: &Path) {}

    /// Always false: the disk is removed with the shim's directory.
    fn give_back(&self, _path: &Path) -> bool {
        false
    }

    fn take_dirty(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}
