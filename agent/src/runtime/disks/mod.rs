//! The writable disks of a node's instances: a fresh one for each, held to its size.
//!
//! ```text
//!           reserve          start, shim makes `disk`      end, shim wipes it       shim gone
//! Free ──────────────▶ Reserved ─────────────────▶ In use ───────────────▶ Wiped ─────────────▶ Free
//!                         │ not started                                       │ something is left: wiped once more;
//!                         └──────────▶ Free                                   └ if that fails, never used again
//! ```
//!
//! Whether a size is enforced is the backend's: slots that root has prepared, or nothing at all where the node's owner
//! said so. Disks in memory need no backend; they are charged to the instance's memory.

pub(crate) mod slots;
mod unenforced;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use berth_common::ids::InstanceId;
use berth_common::spec::Resources;
use berth_common::wire::call::{DiskCapacity, DiskLimit, DiskSlots, RefusalCode};
use berth_shim::disk::{Disk, SLOTS_ROOT};
use berth_shim::layout::Layout;
use sha2::{Digest, Sha256};

use self::slots::Slots;
use self::unenforced::Unenforced;
use crate::launch::LaunchError;

/// Bytes of a state directory's digest in the name of its slots' directory.
const NAME_DIGEST_BYTES: usize = 8;

/// Where the disks come from. Remembers what is taken; all methods are quick.
pub(crate) trait Backend: fmt::Debug {
    /// What holds a disk to its size.
    fn limit(&self) -> DiskLimit;

    /// The disks that there are.
    fn slots(&self) -> Vec<DiskSlots>;

    /// How many of them are taken.
    fn taken(&self) -> u32;

    /// Takes a free disk of at least this size; `None` where there is none.
    fn take(&self, bytes: u64) -> Option<Disk>;

    /// Takes the disk in this directory, which an instance of an earlier agent has.
    fn adopt(&self, path: &Path);

    /// Gives a disk back. True if there is still something on it: then it must be wiped and given back again.
    fn give_back(&self, path: &Path) -> bool;

    /// Takes the disks that are not empty and that nobody has taken: they must be wiped and given back. Until then
    /// nobody else gets them, else the end of a wipe would make a disk free that has been given out meanwhile.
    fn take_dirty(&self) -> Vec<PathBuf>;
}

/// The disks of a node.
#[derive(Debug)]
pub(crate) struct Disks {
    backend: Box<dyn Backend>,
    in_memory: bool,
    given: RefCell<HashMap<InstanceId, Disk>>,
}

impl Disks {
    /// Looks what there is. Without enforcement, disks are directories below the node's state.
    pub(crate) fn open(layout: &Layout, enforced: bool, in_memory: bool) -> io::Result<Self> {
        let backend: Box<dyn Backend> = if enforced {
            Box::new(Slots::probe(&slots_directory(layout.root()))?)
        } else {
            Box::new(Unenforced)
        };
        let disks = Self { backend, in_memory, given: RefCell::default() };
        let DiskCapacity { limit, slots, .. } = disks.capacity();
        tracing::info!(%limit, in_memory, ?slots, "disks");
        if limit == DiskLimit::None {
            tracing::warn!("no disk can be limited on this node: {}", ways_out(layout.root()));
        }
        Ok(disks)
    }

    /// What there is in all.
    pub(crate) fn capacity(&self) -> DiskCapacity {
        DiskCapacity { limit: self.backend.limit(), in_memory: self.in_memory, slots: self.backend.slots() }
    }

    /// How many slots are taken.
    pub(crate) fn taken(&self) -> u32 {
        self.backend.taken()
    }

    /// Sets a disk aside.
    pub(crate) fn take(&self, resources: &Resources) -> Result<Disk, LaunchError> {
        match (resources.disk_in_memory, self.in_memory) {
            (true, true) => Ok(Disk::Memory { bytes: resources.disk_bytes }),
            (true, false) => {
                let text = "this node's kernel cannot give disks in memory (Linux 6.6 or later can): leave out disk_in_memory";
                Err(LaunchError::new(RefusalCode::Invalid, text))
            }
            (false, _) => {
                let disk = self.backend.take(resources.disk_bytes);
                disk.ok_or_else(|| self.none_free(resources.disk_bytes))
            }
        }
    }

    /// A disk that was set aside is this instance's.
    pub(crate) fn give(&self, instance: InstanceId, disk: Disk) {
        self.given.borrow_mut().insert(instance, disk);
    }

    fn none_free(&self, bytes: u64) -> LaunchError {
        let text = match self.backend.limit() {
            DiskLimit::None => format!(
                "this node cannot hold an instance to its {bytes} bytes of disk: as root, `berth-agent prepare \
                 --disk-slots` makes slots; or run the agent with --disk-limit unenforced, or give the class \
                 disk_in_memory = true"
            ),
            limit => format!("no disk slot of {bytes} bytes is free on the node ({limit})"),
        };
        LaunchError::new(RefusalCode::Capacity, text)
    }

    /// The disk that was set aside.
    pub(crate) fn of(&self, instance: InstanceId) -> Option<Disk> {
        self.given.borrow().get(&instance).cloned()
    }

    /// An instance of an earlier agent has this disk.
    pub(crate) fn adopt(&self, instance: InstanceId, disk: Disk) {
        if let Disk::Directory { path } = &disk {
            self.backend.adopt(path);
        }
        self.give(instance, disk);
    }

    /// An instance has ended, and whoever looked after it: its disk is free, unless it must be wiped first.
    pub(crate) fn release(&self, instance: InstanceId) -> Option<PathBuf> {
        let disk = self.given.borrow_mut().remove(&instance)?;
        self.give_back(disk)
    }

    /// The same for a disk that is no instance's.
    pub(crate) fn give_back(&self, disk: Disk) -> Option<PathBuf> {
        let Disk::Directory { path } = disk else { return None };
        self.backend.give_back(&path).then_some(path)
    }

    /// Has been wiped; tells whether it is free now.
    pub(crate) fn wiped(&self, path: &Path) -> bool {
        !self.backend.give_back(path)
    }

    /// What is left of instances that nobody knows any more, to be wiped.
    pub(crate) fn take_dirty(&self) -> Vec<PathBuf> {
        self.backend.take_dirty()
    }
}

/// The directory of the slots of the node with this state.
pub(crate) fn slots_directory(state: &Path) -> PathBuf {
    let digest = Sha256::digest(state.as_os_str().as_bytes());
    let name = state.file_name().map_or_else(|| "node".into(), |name| name.to_string_lossy());
    Path::new(SLOTS_ROOT).join(format!("{name}-{}", hex::encode(&digest[..NAME_DIGEST_BYTES])))
}

fn ways_out(state: &Path) -> String {
    format!(
        "instances are refused unless their class has disk_in_memory = true. As root, `berth-agent prepare --state {} \
         --disk-slots 16x2GB` makes disks of a size; --disk-limit unenforced does without",
        state.display()
    )
}

/// The slots of the node with this state.
pub(crate) fn slots_of(state: &Path) -> io::Result<DiskCapacity> {
    let slots = Slots::probe(&slots_directory(&state.canonicalize().unwrap_or_else(|_| state.to_owned())))?;
    Ok(DiskCapacity { limit: slots.limit(), in_memory: false, slots: slots.slots() })
}
