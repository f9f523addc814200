//! Cleans up after a container whose shim is gone: processes, cgroup and disk; and records that it was lost.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use berth_common::outcome::{ExitReason, Outcome};
use nix::fcntl::{Flock, FlockArg};

use crate::cgroup::ControlGroup;
use crate::disk::{self, Disk};
use crate::messages::ShimSetup;
use crate::metering::{self, Ended};
use crate::state_files::{read_json, wipe, write_json};
use crate::{helpers, namespaces, process, subordinate_ids};

/// Entry of the hidden `sweep` mode, which the agent runs as a process of its own.
pub fn main(directory: &Path) -> anyhow::Result<()> {
    process::refuse_root()?;
    helpers::become_one()?;
    Ok(sweep(directory)?)
}

/// The cgroups of a shim's container and network, from its `spare.json`; none if that does not exist yet.
pub(crate) fn groups(directory: &Path) -> Vec<PathBuf> {
    setup(directory).map_or_else(Vec::new, |setup| vec![setup.cgroup, setup.network_cgroup])
}

fn setup(directory: &Path) -> Option<ShimSetup> {
    read_json(&directory.join("spare.json")).ok().flatten()
}

/// Agent and supervisor both sweep a container whose shim is gone: the second waits until the first has recorded the end.
/// Side by side each would find removed what the other is removing, and the group's CPU time would be lost. `None` if the
/// directory is gone, or another is in its place: that belongs to the next shim of the instance.
fn lock(directory: &Path) -> io::Result<Option<Flock<File>>> {
    let file = match File::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let same = match fs::metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        other => is_same(&other?, &file.metadata()?),
    };
    Ok(same.then_some(file))
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Removes everything of a container; if it was an instance, leaves a record that it was lost. For a single-threaded
/// process, which is in a user namespace afterwards.
pub(crate) fn sweep(directory: &Path) -> io::Result<()> {
    let Some(_lock) = lock(directory)? else { return Ok(()) };
    sweep_locked(directory, |disk| {
        // The container's files belong to its users, so they can only be deleted inside a user namespace of its range.
        let (uids, gids) = match setup(directory) {
            Some(setup) => (setup.uids, setup.gids),
            None => subordinate_ids::of_this_user()?,
        };
        namespaces::enter_user_namespace(uids, gids)?;
        disk::wipe(disk, directory)
    })
}

/// `wipe_disk` wipes the container's disk. It is not called once the end is recorded, or after it has succeeded: from
/// then on the agent may have given the disk to another instance.
fn sweep_locked(directory: &Path, wipe_disk: impl FnOnce(&Disk) -> io::Result<()>) -> io::Result<()> {
    let exit = directory.join("exit.json");
    let recorded = exit.exists();
    let groups = groups(directory);
    // Before the group is removed with its counters.
    let cpu_us = groups.first().map(|container| ControlGroup::load(container).cpu_us());
    groups.iter().try_for_each(|group| ControlGroup::load(group).destroy())?;
    let note = directory.join("disk.json");
    if !recorded && let Some(disk) = read_json::<Disk>(&note)? {
        wipe_disk(&disk)?;
        // Says that it was wiped, also if the record below cannot be written.
        remove_file(&note)?;
    }
    if !directory.join("launch.json").exists() {
        return wipe(directory);
    }
    // Not read by its shim any more, and the environment may hold secrets.
    for unread in ["shim.json", "shim.partial", "run.json", "run.partial"] {
        remove_file(&directory.join(unread))?;
    }
    // No directory: it was swept already, and the agent has forgotten it.
    if recorded || !directory.exists() {
        return Ok(());
    }
    let message = "the process that looked after the container is gone, and the container was ended with it";
    let outcome = Outcome::because(ExitReason::RuntimeLost, message);
    write_json(&exit, &Ended { outcome, metered: metering::estimate(directory, cpu_us) })
}

/// Removes a file, if it exists.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Entry of the hidden `wipe` mode: removes a directory whose contents belong to the container's users.
pub fn wipe_main(directory: &Path) -> anyhow::Result<()> {
    process::refuse_root()?;
    helpers::become_one()?;
    let (uids, gids) = subordinate_ids::of_files_in(directory)?;
    namespaces::enter_user_namespace(uids, gids)?;
    Ok(wipe(directory)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The directory of a lost instance, and its disk.
    fn lost(root: &Path) -> (PathBuf, PathBuf) {
        let (directory, path) = (root.join("instance"), root.join("slot"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("launch.json"), "{}").unwrap();
        write_json(&directory.join("disk.json"), &Disk::Directory { path: path.clone() }).unwrap();
        fs::create_dir(&path).unwrap();
        (directory, path)
    }

    fn wipe_it(disk: &Disk) -> io::Result<()> {
        wipe(&disk.path(Path::new("/")).unwrap())
    }

    #[test]
    fn a_second_sweep_leaves_the_disk_to_whom_it_was_given_after_the_first() {
        let root = tempfile::tempdir().unwrap();
        let (directory, slot) = lost(root.path());
        sweep_locked(&directory, wipe_it).unwrap();
        assert!(!slot.exists() && directory.join("exit.json").exists());
        // Another instance has it.
        fs::create_dir(&slot).unwrap();
        sweep_locked(&directory, wipe_it).unwrap();
        assert!(slot.exists());
        // Nor without a record, as when the node's disk is full.
        fs::remove_file(directory.join("exit.json")).unwrap();
        sweep_locked(&directory, wipe_it).unwrap();
        assert!(slot.exists());
    }

    #[test]
    fn a_directory_that_was_replaced_meanwhile_is_not_the_one_to_sweep() {
        let root = tempfile::tempdir().unwrap();
        let (directory, _) = lost(root.path());
        let first = lock(&directory).unwrap().unwrap();
        let second = std::thread::scope(|scope| {
            let waits = scope.spawn(|| lock(&directory));
            // If the second comes late, it finds none: that is right as well.
            fs::rename(&directory, root.path().join("removed")).unwrap();
            drop(first);
            waits.join().unwrap().unwrap()
        });
        assert!(second.is_none());
    }

    #[test]
    fn a_disk_whose_shim_recorded_the_end_is_left_to_the_agent() {
        let root = tempfile::tempdir().unwrap();
        let (directory, slot) = lost(root.path());
        fs::write(directory.join("exit.json"), "{}").unwrap();
        fs::write(directory.join("run.json"), "a secret").unwrap();
        sweep_locked(&directory, wipe_it).unwrap();
        assert!(slot.exists() && !directory.join("run.json").exists());
        assert_eq!(fs::read(directory.join("exit.json")).unwrap(), b"{}");
    }

    #[test]
    fn a_sweep_that_fails_half_way_is_completed_by_the_next() {
        let root = tempfile::tempdir().unwrap();
        let (directory, slot) = lost(root.path());
        assert!(sweep_locked(&directory, |_| Err(io::ErrorKind::PermissionDenied.into())).is_err());
        assert!(!directory.join("exit.json").exists());
        sweep_locked(&directory, wipe_it).unwrap();
        assert!(!slot.exists() && directory.join("exit.json").exists());
    }
}
