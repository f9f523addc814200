//! Disks that are as large as the node's own: for machines whose owner trusts what runs there.

use std::path::{Path, PathBuf};

use berth_common::ids::InstanceId;
use berth_common::wire::call::{DiskLimit, DiskSlots};

use super::{Backend, USED};
use crate::runtime::layout::Layout;

/// Directories below those of the instances.
#[derive(Debug)]
pub(super) struct Unenforced {
    layout: Layout,
}

impl Unenforced {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout }
    }
}

impl Backend for Unenforced {
    fn limit(&self) -> DiskLimit {
        DiskLimit::Unenforced
    }

    fn slots(&self) -> Vec<DiskSlots> {
        Vec::new()
    }

    fn take(&self, instance: InstanceId, _bytes: u64) -> Option<PathBuf> {
        Some(self.layout.instance(instance).join(USED))
    }

    fn adopt(&self, _path: &Path) {}

    /// What is left goes with the instance's own directory.
    fn give_back(&self, _path: &Path) -> bool {
        false
    }

    fn take_dirty(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}
