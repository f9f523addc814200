//! The writable disks of a node's instances: a fresh one for each, limited to its size.
//!
//! ```text
//!           reserve          start, shim makes `disk`      end, shim wipes it       shim gone
//! Free ──────────────▶ Reserved ─────────────────▶ In use ───────────────▶ Wiped ─────────────▶ Free
//!                         │ not started                                       │ not empty: wiped once more;
//!                         └──────────▶ Free                                   └ if that fails: Broken
//! ```
//!
//! The backend enforces sizes: slots that root has prepared, or none if the node's owner chose so. Disks in memory need
//! no backend; they are charged to the instance's memory.
//!
//! A start that finds no free disk waits for one that is about to be free: that of an instance that has ended, or of a
//! prepared container that is being made or ended (`Leaving`). As many starts wait as there are such disks for them.
//!
//! What fails, and what happens then:
//! * No slot is large enough and free, or about to be: the start is refused (`Capacity`), unless a prepared container can
//!   be ended for it.
//! * The shim dies before it has wiped its disk: the agent wipes it; until then no other instance gets it.
//! * The wipe fails: the start that waited for the slot fails. The slot is broken, which a file in it says. The next agent tries again; root's `prepare`, which a unit
//!   runs for it, makes it anew. Until then it is not given out, and edges are told how many there are.
//! * A slot is not limited any more, as after a restart of the machine: it is not used.

mod leaving;
pub(crate) mod slots;
mod unenforced;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_common::ids::InstanceId;
use berth_common::spec::Resources;
use berth_common::wire::call::{DiskCapacity, DiskLimit, DiskSlots, RefusalCode};
use berth_shim::disk::{Disk, SLOTS_ROOT};
use berth_shim::layout::Layout;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use self::leaving::Leaving;
use self::slots::Slots;
use self::unenforced::Unenforced;
use crate::launch::LaunchError;

/// How long a start waits for a disk that is about to be free: a full one is wiped within seconds.
const DISK_WAIT: Duration = Duration::from_secs(20);
/// Bytes of a state directory's digest in the name of its slots' directory.
const NAME_DIGEST_BYTES: usize = 8;

/// A source of disks. Tracks which are taken; no method blocks for long.
pub(crate) trait Backend: fmt::Debug {
    /// How the size of a disk is enforced.
    fn limit(&self) -> DiskLimit;

    /// The disks by size.
    fn slots(&self) -> Vec<DiskSlots>;

    /// How many of them are taken.
    fn taken(&self) -> u32;

    /// How many could not be wiped, and are not used.
    fn broken(&self) -> u32;

    /// Marks the disk in this directory as one that cannot be wiped, until it is empty or root has made it anew.
    fn set_broken(&self, path: &Path) -> io::Result<()>;

    /// Takes a free disk of at least this size, if there is one.
    fn take(&self, bytes: u64) -> Option<Disk>;

    /// The size of the disk in this directory, in bytes; 0 if it has no size of its own.
    fn bytes_of(&self, path: &Path) -> u64;

    /// The disks by size that can be given out, and how many of them are taken.
    fn usable(&self) -> Vec<(DiskSlots, u32)>;

    /// Marks the disk in this directory as taken: an instance of an earlier agent has it.
    fn adopt(&self, path: &Path);

    /// Returns a disk. True if it is not empty: then the caller must wipe it and return it again.
    fn give_back(&self, path: &Path) -> bool;

    /// Takes all disks that are not empty and not taken: the caller must wipe and return them. They are marked as
    /// taken, else the end of a wipe could free a disk that another instance has taken meanwhile.
    fn take_dirty(&self) -> Vec<PathBuf>;
}

/// The disks of a node.
#[derive(Debug)]
pub(crate) struct Disks {
    backend: Box<dyn Backend>,
    in_memory: bool,
    given: RefCell<HashMap<InstanceId, Disk>>,
    leaving: Leaving,
}

impl Disks {
    /// Finds the disks. Without enforcement, they are directories below the node's state.
    pub(crate) fn open(layout: &Layout, enforced: bool, in_memory: bool) -> io::Result<Self> {
        let backend: Box<dyn Backend> = if enforced {
            Box::new(Slots::probe(&slots_directory(layout.root()))?)
        } else {
            Box::new(Unenforced)
        };
        let disks = Self { backend, in_memory, given: RefCell::default(), leaving: Leaving::default() };
        let DiskCapacity { limit, slots, .. } = disks.capacity();
        tracing::info!(%limit, in_memory, ?slots, "disks");
        if limit == DiskLimit::None {
            tracing::warn!("no disk can be limited on this node: {}", advice(layout.root()));
        }
        Ok(disks)
    }

    /// All disks of the node.
    pub(crate) fn capacity(&self) -> DiskCapacity {
        let backend = &self.backend;
        let (limit, slots, broken) = (backend.limit(), backend.slots(), backend.broken());
        DiskCapacity { limit, in_memory: self.in_memory, slots, broken }
    }

    /// How many slots are taken.
    pub(crate) fn taken(&self) -> u32 {
        self.backend.taken()
    }

    /// Takes a free disk.
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

    /// Assigns a disk that was taken to an instance.
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

    /// The disk of an instance.
    pub(crate) fn of(&self, instance: InstanceId) -> Option<Disk> {
        self.given.borrow().get(&instance).cloned()
    }

    /// Assigns a disk to an instance of an earlier agent.
    pub(crate) fn adopt(&self, instance: InstanceId, disk: Disk) {
        if let Disk::Directory { path } = &disk {
            self.backend.adopt(path);
        }
        self.give(instance, disk);
    }

    /// Releases the disk of an instance whose shim has ended. Returns its path if it must be wiped first.
    pub(crate) fn release(&self, instance: InstanceId) -> Option<PathBuf> {
        let disk = self.given.borrow_mut().remove(&instance)?;
        self.give_back(disk)
    }

    /// Like `release`, for a disk that is assigned to no instance.
    pub(crate) fn give_back(&self, disk: Disk) -> Option<PathBuf> {
        let Disk::Directory { path } = disk else { return None };
        (!self.wiped(&path)).then_some(path)
    }

    /// Returns a disk that was wiped, and passes it to a start that waits for it. False if it is still not empty.
    pub(crate) fn wiped(&self, path: &Path) -> bool {
        let dirty = self.backend.give_back(path);
        if !dirty {
            self.leaving.gone(path);
            self.pass_on();
        }
        !dirty
    }

    /// The disk of this instance, or of a prepared container, will be free soon.
    pub(crate) fn leave(&self, disk: &Disk) {
        if let Disk::Directory { path } = disk {
            self.leaving.add(path, self.backend.bytes_of(path));
        }
    }

    /// The disk in question will not be free after all. False if a start waits for it, and it must be given back.
    pub(crate) fn stay(&self, disk: &Disk) -> bool {
        let Disk::Directory { path } = disk else { return true };
        self.leaving.can_stay(path) && {
            self.leaving.gone(path);
            true
        }
    }

    /// The size of a disk, in bytes; 0 of one without a slot.
    pub(crate) fn bytes_of(&self, disk: &Disk) -> u64 {
        match disk {
            Disk::Directory { path } => self.backend.bytes_of(path),
            Disk::Own | Disk::Memory { .. } => 0,
        }
    }

    /// Waits for a disk that is about to be free, if there is one for this start.
    pub(crate) fn wait_for(&self, needs: &Resources) -> Option<oneshot::Receiver<Disk>> {
        (!needs.disk_in_memory).then(|| self.leaving.wait(needs)).flatten()
    }

    /// The disk that `wait_for` promised; if it is not free in time, any other.
    pub(crate) async fn awaited(
        &self,
        free: oneshot::Receiver<Disk>,
        needs: &Resources,
    ) -> Result<Disk, LaunchError> {
        let disk = tokio::time::timeout(DISK_WAIT, free).await.ok().and_then(Result::ok);
        disk.map_or_else(|| self.take(needs), Ok)
    }

    /// Takes a free disk, or waits for one that is about to be free.
    pub(crate) async fn take_or_wait(&self, needs: &Resources) -> Result<Disk, LaunchError> {
        let error = match self.take(needs) {
            Ok(disk) => return Ok(disk),
            Err(error) => error,
        };
        match self.wait_for(needs) {
            Some(free) => self.awaited(free, needs).await,
            None => Err(error),
        }
    }

    /// Gives the free disks to the starts that wait for them.
    fn pass_on(&self) {
        let give_back = |path: &Path| {
            self.backend.give_back(path);
        };
        self.leaving.serve(|bytes| self.backend.take(bytes), give_back);
    }

    /// Marks a disk as one that cannot be wiped. A start that only this one could serve fails.
    pub(crate) fn set_broken(&self, path: &Path) {
        self.leaving.gone(path);
        self.leaving.drop_hopeless();
        if let Err(error) = self.backend.set_broken(path) {
            tracing::error!(disk = %path.display(), %error, "cannot mark a broken disk slot for root");
        }
    }

    /// Takes the disks with data of unknown instances, to be wiped.
    pub(crate) fn take_dirty(&self) -> Vec<PathBuf> {
        let dirty = self.backend.take_dirty();
        dirty.iter().for_each(|path| self.leave(&Disk::Directory { path: path.clone() }));
        dirty
    }

    /// The disks by size that can be given out, and how many of them are taken.
    pub(crate) fn usable(&self) -> Vec<(DiskSlots, u32)> {
        self.backend.usable()
    }
}

/// The directory of the slots of the node with this state.
pub(crate) fn slots_directory(state: &Path) -> PathBuf {
    let digest = Sha256::digest(state.as_os_str().as_bytes());
    let name = state.file_name().map_or_else(|| "node".into(), |name| name.to_string_lossy());
    Path::new(SLOTS_ROOT).join(format!("{name}-{}", hex::encode(&digest[..NAME_DIGEST_BYTES])))
}

fn advice(state: &Path) -> String {
    format!(
        "instances are refused unless their class has disk_in_memory = true. As root, `berth-agent prepare --state {} \
         --disk-slots 16x2GB` makes disks of a size; --disk-limit unenforced does without",
        state.display()
    )
}

/// The slots of the node with this state.
pub(crate) fn slots_of(state: &Path) -> io::Result<DiskCapacity> {
    let slots = Slots::probe(&slots_directory(&state.canonicalize().unwrap_or_else(|_| state.to_owned())))?;
    let (limit, broken) = (slots.limit(), slots.broken());
    Ok(DiskCapacity { limit, in_memory: false, slots: slots.slots(), broken })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Slots of one size, and those of them that are free.
    #[derive(Debug, Default)]
    pub(in super::super) struct FakeSlots {
        pub(in super::super) free: RefCell<Vec<PathBuf>>,
    }

    impl Disks {
        pub(in super::super) fn on(backend: impl Backend + 'static) -> Self {
            let (given, leaving) = (RefCell::default(), Leaving::default());
            Self { backend: Box::new(backend), in_memory: false, given, leaving }
        }
    }

    impl Backend for FakeSlots {
        fn limit(&self) -> DiskLimit {
            DiskLimit::Loop
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
        fn set_broken(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }
        fn take(&self, _: u64) -> Option<Disk> {
            self.free.borrow_mut().pop().map(|path| Disk::Directory { path })
        }
        fn bytes_of(&self, _: &Path) -> u64 {
            100
        }
        fn usable(&self) -> Vec<(DiskSlots, u32)> {
            Vec::new()
        }
        fn adopt(&self, _: &Path) {}
        fn give_back(&self, path: &Path) -> bool {
            self.free.borrow_mut().push(path.to_owned());
            false
        }
        fn take_dirty(&self) -> Vec<PathBuf> {
            Vec::new()
        }
    }

    fn disk(path: &str) -> Disk {
        Disk::Directory { path: path.into() }
    }

    #[tokio::test]
    async fn who_returns_a_disk_that_goes_to_another_gets_what_that_one_waited_for() {
        let disks = Disks::on(FakeSlots::default());
        let needs = Resources { cpu_sixteenths: 1, memory_bytes: 1, disk_bytes: 100, disk_in_memory: false };
        disks.leave(&disk("/ending"));
        let waits = disks.wait_for(&needs).unwrap();
        // An admitted start returns the disk of its prepared container, which was lost.
        assert!(disks.wiped(Path::new("/lost")));
        assert_eq!(waits.await, Ok(disk("/lost")));
        let (got, wiped) =
            tokio::join!(disks.take_or_wait(&needs), async { disks.wiped(Path::new("/ending")) });
        assert!(wiped);
        assert_eq!(got.ok(), Some(disk("/ending")));
        // With none that is about to be free there is nothing to wait for.
        assert!(disks.take_or_wait(&needs).await.is_err());
    }
}
