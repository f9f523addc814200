//! Starts the processes that work for no container in particular: they unpack, wipe and sweep, as hidden modes of this
//! program, in a group of their own with a limit of CPU and memory.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use berth_shim::cgroup::of_helpers;
use berth_shim::helpers;
use berth_shim::process::OWN_PROGRAM;
use tokio::process::Command;

/// The group, which the supervisor has made. One for the process: an agent has one supervisor.
static GROUP: OnceLock<PathBuf> = OnceLock::new();

/// Sets where helpers go from now on: below the group that was delegated to the supervisor.
pub(crate) fn keep_below(delegated: &Path) {
    GROUP.get_or_init(|| of_helpers(delegated));
}

/// A mode of this program, as a helper, on a directory.
pub(crate) fn command(mode: &str, directory: &Path) -> Command {
    let mut command = Command::new(OWN_PROGRAM);
    command.arg(mode).arg("--directory").arg(directory);
    if let Some(group) = GROUP.get() {
        command.env(helpers::GROUP, group);
    }
    command
}
