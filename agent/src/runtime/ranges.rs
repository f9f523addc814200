//! The ranges of host ids of a node's containers: one of its own for each, as far as root has made them.
//!
//! ```text
//!        a shim is made             its directory is gone; or its end is recorded, and it has ended
//! Free ────────────────▶ held by it ──────────────────────────────────────────────────────────▶ Free
//! ```
//!
//! Whether a range is free is read from what its last holder left, so a restart of the agent changes nothing. A holder is
//! followed by its directory's descriptor: the directory is renamed on its way.
//!
//! What fails, and what happens then:
//! * Root has made no ranges: all containers have the shared one, as the layers on disk.
//! * All are held: no shim is made, and a start is refused (`Capacity`).
//! * A mount is missing, as after a restart of the machine: its range is not used.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use berth_shim::idmap;
use berth_shim::layout::Layout;
use berth_shim::messages::{ShimSetup, connect_shim};
use berth_shim::state_files::read_json;
use berth_shim::subordinate_ids::{self, CONTAINER_IDS, IdRange};
use nix::unistd::Uid;

use super::disks::slots_directory;

/// A range that was taken for a shim.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) uids: IdRange,
    pub(crate) gids: IdRange,
    /// Where the layers' files belong to it; none if that is where they are on disk.
    pub(crate) layers: Option<PathBuf>,
}

/// The ranges of a node.
#[derive(Debug)]
pub(crate) struct Ranges {
    shared: (IdRange, IdRange),
    own: RefCell<Vec<Range>>,
}

#[derive(Debug)]
struct Range {
    uids: IdRange,
    gids: IdRange,
    /// The mount of the layers.
    layers: PathBuf,
    /// The directory of its shim.
    holder: Option<File>,
}

impl Ranges {
    /// Finds the ranges that root has made, and those that shims of an earlier agent hold.
    pub(crate) fn open(layout: &Layout) -> io::Result<Self> {
        let ranges =
            Self { shared: subordinate_ids::of_this_user()?, own: RefCell::new(probe(layout.root())?) };
        for directory in layout.shims()?.into_iter().chain(layout.all_trash()?) {
            ranges.adopt(&directory);
        }
        let count = ranges.own.borrow().len();
        if count == 0 {
            tracing::warn!(
                "containers share one range of ids, and what the kernel counts for it: as root, `berth-agent prepare \
                 --state {} --id-ranges 64` makes one for each",
                layout.root().display()
            );
        } else {
            tracing::info!(count, "each container has a range of ids of its own");
        }
        Ok(ranges)
    }

    /// As on a node without ranges of its own.
    #[cfg(test)]
    pub(super) fn shared_only() -> Self {
        let range = IdRange { first: 100_000, count: 65_536 };
        Self { shared: (range, range), own: RefCell::default() }
    }

    fn adopt(&self, directory: &Path) {
        let Ok(Some(setup)) = read_json::<ShimSetup>(&directory.join("spare.json")) else { return };
        let mut own = self.own.borrow_mut();
        let range = own.iter_mut().find(|range| range.uids.first == setup.uids.first);
        if let (Some(range), Ok(holder)) = (range, File::open(directory)) {
            // Of two, which cannot be, the one that lives counts.
            if range.is_free() {
                range.holder = Some(holder);
            }
        }
    }

    /// Takes a free range for the shim with this directory, which exists. `ResourceBusy` if there is none.
    pub(crate) fn take(&self, directory: &Path) -> io::Result<Taken> {
        let mut own = self.own.borrow_mut();
        if own.is_empty() {
            return Ok(Taken { uids: self.shared.0, gids: self.shared.1, layers: None });
        }
        let count = own.len();
        let range = own.iter_mut().find(|range| range.is_free()).ok_or_else(|| {
            let text = format!(
                "all {count} ranges of ids of the node are in use: as root, `berth-agent prepare --id-ranges N` makes more"
            );
            io::Error::new(io::ErrorKind::ResourceBusy, text)
        })?;
        range.holder = Some(File::open(directory)?);
        Ok(Taken { uids: range.uids, gids: range.gids, layers: Some(range.layers.clone()) })
    }
}

impl Range {
    fn is_free(&self) -> bool {
        self.holder.as_ref().is_none_or(|holder| has_ended(holder).unwrap_or(false))
    }
}

/// Whether nothing of a shim is left: its directory was removed, or its end is recorded and it has ended since.
fn has_ended(holder: &File) -> io::Result<bool> {
    if holder.metadata()?.nlink() == 0 {
        return Ok(true);
    }
    let directory = PathBuf::from(format!("/proc/self/fd/{}", holder.as_raw_fd()));
    if !directory.join("exit.json").try_exists()? {
        return Ok(false);
    }
    // A shim that still wipes its disk answers.
    Ok(connect_shim(&directory).is_err())
}

/// The ranges of the node with this state that can be used.
pub(crate) fn usable(state: &Path) -> io::Result<usize> {
    probe(&state.canonicalize().unwrap_or_else(|_| state.to_owned())).map(|ranges| ranges.len())
}

fn probe(state: &Path) -> io::Result<Vec<Range>> {
    let mine = subordinate_ids::all_of_this_user()?
        .map(|ranges| ranges.into_iter().map(|range| range.first).collect::<HashSet<_>>());
    let mut found = Vec::new();
    for entry in fs::read_dir(ranges_directory(state)).into_iter().flatten() {
        let path = entry?.path();
        let Some((uid, gid)) = first_ids(&path) else { continue };
        match usable_at(&path, state, mine[0].contains(&uid) && mine[1].contains(&gid)) {
            Ok(()) => found.push(Range {
                uids: IdRange { first: uid, count: CONTAINER_IDS },
                gids: IdRange { first: gid, count: CONTAINER_IDS },
                layers: path,
                holder: None,
            }),
            Err(why) => {
                tracing::warn!(range = %path.display(), %why, "this range of ids is not used: run `berth-agent prepare` again, as root");
            }
        }
    }
    found.sort_by_key(|range| range.uids.first);
    Ok(found)
}

fn usable_at(path: &Path, state: &Path, is_mine: bool) -> Result<(), String> {
    if !is_mine {
        return Err("it is not among this user's subordinate ids".to_owned());
    }
    let fault = |e: io::Error| e.to_string();
    if !idmap::is_mounted(path).map_err(fault)? {
        return Err("the layers are not mounted there, as after a restart of the machine".to_owned());
    }
    let (there, layers) =
        (fs::metadata(path).map_err(fault)?, fs::metadata(state.join("layers")).map_err(fault)?);
    let same = (there.dev(), there.ino()) == (layers.dev(), layers.ino());
    if !same || there.uid() != Uid::effective().as_raw() {
        return Err("what is mounted there are not this node's layers".to_owned());
    }
    Ok(())
}

/// The directory of the ranges of the node with this state.
pub(crate) fn ranges_directory(state: &Path) -> PathBuf {
    slots_directory(state).join("ranges")
}

/// The first uid and gid in a range's name.
pub(crate) fn first_ids(path: &Path) -> Option<(u32, u32)> {
    let (uid, gid) = path.file_name()?.to_str()?.split_once('-')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(count: u32) -> Ranges {
        let of = |number: u32| {
            let ids = IdRange { first: 1_000_000 + number * CONTAINER_IDS, count: CONTAINER_IDS };
            Range { uids: ids, gids: ids, layers: PathBuf::from(format!("/layers/{number}")), holder: None }
        };
        let shared = IdRange { first: 100_000, count: CONTAINER_IDS };
        Ranges { shared: (shared, shared), own: RefCell::new((0..count).map(of).collect()) }
    }

    #[test]
    fn a_range_is_held_while_its_directory_is_there_also_under_another_name() {
        let state = tempfile::tempdir().unwrap();
        let [first, second, renamed] = ["a", "b", "c"].map(|name| state.path().join(name));
        for path in [&first, &second] {
            fs::create_dir(path).unwrap();
        }
        let ranges = ranges(1);
        let taken = ranges.take(&first).unwrap();
        assert_eq!((taken.uids.first, taken.layers), (1_000_000, Some(PathBuf::from("/layers/0"))));
        fs::rename(&first, &renamed).unwrap();
        let refused = ranges.take(&second).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        assert!(refused.to_string().contains("--id-ranges"), "{refused}");
        fs::remove_dir(&renamed).unwrap();
        assert_eq!(ranges.take(&second).unwrap().uids.first, 1_000_000);
    }

    #[test]
    fn a_range_is_free_once_an_end_is_recorded_and_nobody_answers() {
        let state = tempfile::tempdir().unwrap();
        let ranges = ranges(1);
        ranges.take(state.path()).unwrap();
        assert!(ranges.take(state.path()).is_err());
        fs::write(state.path().join("exit.json"), "{}").unwrap();
        assert!(ranges.take(state.path()).is_ok());
    }

    #[test]
    fn without_ranges_of_their_own_all_share_one() {
        let ranges = ranges(0);
        let take = || ranges.take(Path::new("/nowhere")).unwrap();
        assert_eq!((take().uids.first, take().layers), (100_000, None));
    }

    #[test]
    fn names_of_ranges_are_read() {
        assert_eq!(first_ids(Path::new("/x/1000000-2000000")), Some((1_000_000, 2_000_000)));
        for other in ["images", "1000000", "-", "a-1"] {
            assert_eq!(first_ids(Path::new(other)), None, "{other}");
        }
    }
}
