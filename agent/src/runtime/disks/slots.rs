//! Slots: directories that root has made, each limited to its size by a quota or because it is a file system of its
//! own. Their names are `BYTES-NUMBER`. A slot is used only if it is found to be limited.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use berth_common::wire::call::{DiskLimit, DiskSlots};
use berth_shim::disk::{BROKEN, Disk, USED};
use nix::sys::statvfs::statvfs;
use nix::unistd::Uid;

use super::Backend;

/// How much larger than its nominal size a slot may be: a file system needs room for its own tables.
const MOST_PERCENT: u64 = 125;
const MOST_MORE_BYTES: u64 = 64 << 20;
/// How much smaller its reported size may be.
const LEAST_PERCENT: u64 = 90;

/// The slots of a node.
#[derive(Debug)]
pub(crate) struct Slots {
    limit: DiskLimit,
    slots: RefCell<Vec<Slot>>,
}

#[derive(Debug)]
struct Slot {
    /// The directory for the instance.
    used: PathBuf,
    bytes: u64,
    taken: bool,
    /// It could not be wiped.
    broken: bool,
}

impl Slot {
    fn at(path: &Path, bytes: u64) -> Self {
        Self { used: path.join(USED), bytes, taken: false, broken: path.join(BROKEN).exists() }
    }

    fn mark(&self) -> PathBuf {
        self.used.with_file_name(BROKEN)
    }

    /// Whether an instance can have it.
    fn is_free(&mut self) -> bool {
        self.look_again();
        !self.taken && !self.broken && !self.used.exists()
    }

    /// One that was broken is whole once root has made it anew, which removes the mark. Not while an agent's own wipe
    /// still goes on in it: that would wipe what a next instance writes.
    fn look_again(&mut self) {
        if self.broken && !self.taken && !self.mark().exists() && !self.used.exists() && self.is_limited() {
            self.broken = false;
        }
    }

    /// While root makes it anew, there is only a directory in its place.
    fn is_limited(&self) -> bool {
        self.used.parent().is_some_and(|slot| limit_of(slot, self.bytes).is_ok())
    }
}

impl Slots {
    /// Finds all limited slots in the directory.
    pub(crate) fn probe(directory: &Path) -> io::Result<Self> {
        let mut slots = Vec::new();
        let mut limit = DiskLimit::None;
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry?.path();
            let Some(bytes) = nominal_bytes(&path) else { continue };
            match limit_of(&path, bytes) {
                Ok(found) => {
                    limit = found;
                    slots.push(Slot::at(&path, bytes));
                }
                Err(why) => tracing::warn!(slot = %path.display(), %why, "this disk slot is not used"),
            }
        }
        slots.sort_by(|a, b| (a.bytes, &a.used).cmp(&(b.bytes, &b.used)));
        Ok(Self { limit, slots: RefCell::new(slots) })
    }
}

/// The size in a slot's name, in bytes.
fn nominal_bytes(path: &Path) -> Option<u64> {
    let (bytes, number) = path.file_name()?.to_str()?.split_once('-')?;
    number.parse::<u32>().ok()?;
    bytes.parse().ok()
}

/// How a slot is limited; or why it cannot be used.
fn limit_of(slot: &Path, bytes: u64) -> Result<DiskLimit, String> {
    let fault = |e: io::Error| e.to_string();
    let parent = slot.parent().ok_or("it has no parent")?;
    let (own, outer) = (fs::metadata(slot).map_err(fault)?, fs::metadata(parent).map_err(fault)?);
    if !own.is_dir() || own.uid() != Uid::effective().as_raw() {
        return Err("it does not belong to this user: run `berth-agent prepare` again, as root".to_owned());
    }
    let size =
        |path: &Path| statvfs(path).map(|fs| fs.blocks() * fs.fragment_size()).map_err(|e| e.to_string());
    let (shown, outer_size) = (size(slot)?, size(parent)?);
    let most = bytes / 100 * MOST_PERCENT + MOST_MORE_BYTES;
    let is_own = own.dev() != outer.dev();
    if (!is_own && shown == outer_size) || shown > most || shown < bytes / 100 * LEAST_PERCENT {
        return Err(format!(
            "nothing limits it to {bytes} bytes (it shows {shown}), as after a restart of the machine: run `berth-agent \
             prepare` again, as root"
        ));
    }
    Ok(if is_own { DiskLimit::Loop } else { DiskLimit::ProjectQuota })
}

impl Backend for Slots {
    fn limit(&self) -> DiskLimit {
        self.limit
    }

    fn slots(&self) -> Vec<DiskSlots> {
        let mut counts = BTreeMap::new();
        for slot in self.slots.borrow().iter() {
            *counts.entry(slot.bytes).or_insert(0) += 1;
        }
        counts.into_iter().map(|(bytes, count)| DiskSlots { bytes, count }).collect()
    }

    fn taken(&self) -> u32 {
        self.count(|slot| slot.taken && !slot.broken)
    }

    fn broken(&self) -> u32 {
        self.count(|slot| slot.broken)
    }

    fn set_broken(&self, path: &Path) -> io::Result<()> {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.iter_mut().find(|slot| slot.used == path) else { return Ok(()) };
        (slot.broken, slot.taken) = (true, false);
        // It may have been made anew while the wipe failed: then the new one gets no mark.
        if slot.used.exists() { fs::write(slot.mark(), "") } else { Ok(()) }
    }

    /// Takes the smallest that is large enough: they are sorted by size.
    fn take(&self, bytes: u64) -> Option<Disk> {
        let mut slots = self.slots.borrow_mut();
        let mut fitting = slots.iter_mut().filter(|slot| slot.bytes >= bytes);
        let slot = fitting.find_map(|slot| slot.is_free().then_some(slot))?;
        slot.taken = true;
        Some(Disk::Directory { path: slot.used.clone() })
    }

    fn bytes_of(&self, path: &Path) -> u64 {
        self.slots.borrow().iter().find(|slot| slot.used == path).map_or(0, |slot| slot.bytes)
    }

    fn usable(&self) -> Vec<(DiskSlots, u32)> {
        let mut counts: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        let mut slots = self.slots.borrow_mut();
        // Edges ask a node without room only for its room, so this is where a slot that was made anew is found.
        slots.iter_mut().for_each(Slot::look_again);
        for slot in slots.iter().filter(|slot| !slot.broken) {
            let (all, taken) = counts.entry(slot.bytes).or_default();
            *all += 1;
            *taken += u32::from(slot.taken);
        }
        let usable = counts.into_iter();
        usable.map(|(bytes, (count, taken))| (DiskSlots { bytes, count }, taken)).collect()
    }

    fn adopt(&self, path: &Path) {
        self.set(path, true);
    }

    fn give_back(&self, path: &Path) -> bool {
        let dirty = path.exists();
        self.set(path, dirty);
        if !dirty {
            self.mend(path);
        }
        dirty
    }

    fn take_dirty(&self) -> Vec<PathBuf> {
        let mut slots = self.slots.borrow_mut();
        let dirty = slots.iter_mut().filter(|slot| !slot.taken && slot.used.exists());
        let take = |slot: &mut Slot| {
            slot.taken = true;
            slot.used.clone()
        };
        dirty.map(take).collect()
    }
}

impl Slots {
    fn count(&self, which: impl Fn(&Slot) -> bool) -> u32 {
        let count = self.slots.borrow().iter().filter(|slot| which(slot)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// It could be wiped after all.
    fn mend(&self, path: &Path) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.iter_mut().find(|slot| slot.broken && slot.used == path) else { return };
        match fs::remove_file(slot.mark()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(slot = %path.display(), %error, "cannot remove the mark of a broken slot");
            }
            _ => slot.broken = false,
        }
    }

    fn set(&self, path: &Path, taken: bool) {
        if let Some(slot) = self.slots.borrow_mut().iter_mut().find(|slot| slot.used == path) {
            slot.taken = taken;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(directory: &Path, names: &[&str]) -> Slots {
        let slot = |name: &&str| {
            let path = directory.join(name);
            fs::create_dir(&path).unwrap();
            Slot::at(&path, nominal_bytes(&path).unwrap())
        };
        Slots { limit: DiskLimit::Loop, slots: RefCell::new(names.iter().map(slot).collect()) }
    }

    #[test]
    fn the_smallest_that_fits_is_taken_and_comes_back_when_it_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let slots = slots(directory.path(), &["100-0", "200-0", "200-1"]);
        let take = |bytes| slots.take(bytes).map(|disk| disk.path(Path::new("/")).unwrap());
        let first = take(150).unwrap();
        assert!(first.parent().unwrap().ends_with("200-0"));
        assert!(take(100).unwrap().parent().unwrap().ends_with("100-0"));
        assert!(take(1).unwrap().parent().unwrap().ends_with("200-1"));
        assert_eq!(take(1), None);
        fs::create_dir(&first).unwrap();
        assert!(slots.give_back(&first));
        assert_eq!(take(1), None, "a slot that is not empty is not given out");
        fs::remove_dir(&first).unwrap();
        assert!(!slots.give_back(&first));
        assert_eq!(take(1), Some(first));
    }

    #[test]
    fn a_slot_that_is_being_wiped_stays_taken_even_once_it_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let slots = slots(directory.path(), &["100-0"]);
        let used = directory.path().join("100-0").join(USED);
        fs::create_dir(&used).unwrap();
        assert_eq!(slots.take_dirty(), std::slice::from_ref(&used));
        assert_eq!(slots.take_dirty(), [] as [PathBuf; 0], "one wipe is enough");
        // The wipe is done, but the agent does not know yet.
        fs::remove_dir(&used).unwrap();
        assert_eq!(slots.take(1), None);
        assert!(!slots.give_back(&used));
        assert_eq!(slots.take(1), Some(Disk::Directory { path: used }));
    }

    #[test]
    fn a_slot_that_cannot_be_wiped_is_counted_apart_and_not_given_out() {
        let directory = tempfile::tempdir().unwrap();
        let slots = slots(directory.path(), &["100-0", "100-1"]);
        let used = directory.path().join("100-0").join(USED);
        assert!(slots.take(1).is_some());
        fs::create_dir(&used).unwrap();
        assert!(slots.give_back(&used));
        slots.set_broken(&used).unwrap();
        assert_eq!((slots.broken(), slots.taken()), (1, 0));
        assert_eq!(slots.slots(), [DiskSlots { bytes: 100, count: 2 }]);
        assert!(slots.take(1).is_some() && slots.take(1).is_none());
        // Another agent finds it broken too, tries again, and succeeds.
        let later = Slots {
            limit: DiskLimit::Loop,
            slots: RefCell::new(vec![Slot::at(used.parent().unwrap(), 100)]),
        };
        assert_eq!((later.broken(), later.take_dirty()), (1, vec![used.clone()]));
        fs::remove_dir(&used).unwrap();
        assert!(!later.give_back(&used));
        assert_eq!(later.broken(), 0);
        assert!(later.take(1).is_some());
    }

    #[test]
    fn a_plain_directory_is_no_slot() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("1000000-0")).unwrap();
        let slots = Slots::probe(directory.path()).unwrap();
        assert_eq!((slots.limit(), slots.slots()), (DiskLimit::None, Vec::new()));
    }

    #[test]
    fn only_names_with_a_size_are_slots() {
        assert_eq!(nominal_bytes(Path::new("/x/2000-3")), Some(2000));
        assert_eq!(nominal_bytes(Path::new("/x/images")), None);
        assert_eq!(nominal_bytes(Path::new("/x/2000-3.img")), None);
    }
}
