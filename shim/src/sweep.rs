//! Cleans up after a container whose shim is gone: processes, cgroup and disk; and records that it was lost.

use std::fs::{self, File};
use std::io;
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
/// directory is gone.
fn lock(directory: &Path) -> io::Result<Option<Flock<File>>> {
    match File::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(file) => Ok(Some(Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error)?)),
    }
}

/// Removes everything of a container; if it was an instance, leaves a record that it was lost. For a single-threaded
/// process, which is in a user namespace afterwards.
pub(crate) fn sweep(directory: &Path) -> io::Result<()> {
    let Some(_lock) = lock(directory)? else { return Ok(()) };
    let groups = groups(directory);
    // Before the group is removed with its counters.
    let cpu_us = groups.first().map(|container| ControlGroup::load(container).cpu_us());
    groups.iter().try_for_each(|group| ControlGroup::load(group).destroy())?;
    if let Some(disk) = read_json::<Disk>(&directory.join("disk.json"))? {
        // The container's files belong to its users, so they can only be deleted inside a user namespace of its range.
        let (uids, gids) = match setup(directory) {
            Some(setup) => (setup.uids, setup.gids),
            None => subordinate_ids::of_this_user()?,
        };
        namespaces::enter_user_namespace(uids, gids)?;
        disk::wipe(&disk, directory)?;
    }
    if !directory.join("launch.json").exists() {
        return wipe(directory);
    }
    // Not read by its shim any more, and the environment may hold secrets.
    for unread in ["shim.json", "shim.partial", "run.json", "run.partial"] {
        match fs::remove_file(directory.join(unread)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let exit = directory.join("exit.json");
    // No directory: it was swept already, and the agent has forgotten it.
    if exit.exists() || !directory.exists() {
        return Ok(());
    }
    let message = "the process that looked after the container is gone, and the container was ended with it";
    let outcome = Outcome::because(ExitReason::RuntimeLost, message);
    write_json(&exit, &Ended { outcome, metered: metering::estimate(directory, cpu_us) })
}

/// Entry of the hidden `wipe` mode: removes a directory whose contents belong to the container's users.
pub fn wipe_main(directory: &Path) -> anyhow::Result<()> {
    process::refuse_root()?;
    helpers::become_one()?;
    let (uids, gids) = subordinate_ids::of_files_in(directory)?;
    namespaces::enter_user_namespace(uids, gids)?;
    Ok(wipe(directory)?)
}
