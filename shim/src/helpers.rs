//! What processes are held to that work for no container in particular: they unpack layers, sweep, and wipe disks.

use std::io;
use std::path::Path;

use crate::cgroup::{self, ControlGroup};
use crate::{process, sys};

/// The variable with the group of helpers, in the environment of hidden modes.
pub const GROUP: &str = "BERTH_HELPERS_GROUP";

/// Makes this process a helper: it ends before the machine's own for lack of memory, yields the CPU, and is in the group of
/// helpers, where its parent has named one and it may go there.
pub(crate) fn become_one() -> io::Result<()> {
    if let Some(group) = std::env::var_os(GROUP) {
        // Not on cgroup v2 from another unit than the supervisor's: then that unit's own share limits it.
        let _ = ControlGroup::load(Path::new(&group)).enter();
    }
    sys::yield_cpu()?;
    process::end_first()
}

/// Moves this process to the group of helpers below the delegated one.
pub(crate) fn enter(delegated: &Path) -> io::Result<()> {
    ControlGroup::load(&cgroup::of_helpers(delegated)).enter()?;
    sys::yield_cpu()
}
