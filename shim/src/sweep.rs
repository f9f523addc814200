//! Sweeps up after a container whose shim is gone: processes, cgroup and disk; and writes down that it was lost.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use berth_common::outcome::{ExitReason, Outcome};

use crate::cgroup::ControlGroup;
use crate::disk::{self, Disk};
use crate::messages::ShimSetup;
use crate::metering::{self, Ended};
use crate::state_files::{read_json, wipe, write_json};
use crate::{namespaces, process, subordinate_ids};

/// Entry of the hidden `sweep` mode, which the agent runs as a process of its own.
pub fn main(directory: &Path) -> anyhow::Result<()> {
    process::refuse_root()?;
    Ok(sweep(directory)?)
}

/// The groups of the container of the shim with this directory and of what serves its network. The configuration says
/// where they are; without one there are none yet.
pub(crate) fn groups(directory: &Path) -> Vec<PathBuf> {
    let config = read_json::<ShimSetup>(&directory.join("spare.json")).ok().flatten();
    config.map_or_else(Vec::new, |config| vec![config.cgroup, config.network_cgroup])
}

/// Leaves nothing of a container but, if it was an instance's, a record that says that it was lost. For a
/// single-threaded process, which is in a user namespace afterwards.
pub(crate) fn sweep(directory: &Path) -> io::Result<()> {
    let groups = groups(directory);
    // Before the group goes, and with it the count.
    let cpu_us = groups.first().map(|container| ControlGroup::load(container).cpu_us());
    groups.iter().try_for_each(|group| ControlGroup::load(group).destroy())?;
    if let Some(disk) = read_json::<Disk>(&directory.join("disk.json"))? {
        // What the container wrote belongs to its users, over whom there is power only inside.
        let (uids, gids) = subordinate_ids::of_this_user()?;
        namespaces::enter_user_namespace(uids, gids)?;
        disk::wipe(&disk, directory)?;
    }
    if !directory.join("launch.json").exists() {
        return wipe(directory);
    }
    // What its shim has not come to read: it holds the environment.
    for unread in ["shim.json", "shim.partial", "run.json", "run.partial"] {
        match fs::remove_file(directory.join(unread)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let exit = directory.join("exit.json");
    // No directory: somebody else has swept, and the agent has taken note of it.
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
    let (uids, gids) = subordinate_ids::of_this_user()?;
    namespaces::enter_user_namespace(uids, gids)?;
    Ok(wipe(directory)?)
}
