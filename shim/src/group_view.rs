//! What a container sees of its own cgroup, below `/sys/fs/cgroup`: its limits and its use, read-only. Runtimes of languages
//! size themselves by it. Nothing of other containers' groups is there, and no root of a hierarchy; of the machine, on v2, the
//! device numbers of its disks (`io.stat`).
//!
//! ```text
//! v1: a directory of the stage, with the group's directory in some hierarchies below it (`memory`, `cpu` …)
//! v2: the group's directory itself
//! ```

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::cgroup::{ControlGroup, MOUNT_POINT};
use crate::stage;

/// Its name in the stage.
const VIEW: &str = "cgroup";

/// The group's directories, opened as the agent's user, each with the name of its hierarchy; on v2 one without a name.
pub(crate) struct OpenGroup(Vec<(Option<String>, OwnedFd)>);

/// Directories to bind, and where, the outer before the inner.
pub(crate) type View = Vec<(PathBuf, PathBuf)>;

impl OpenGroup {
    /// Opens them. Only after the mount namespace is made.
    pub(crate) fn open(group: &ControlGroup) -> io::Result<Self> {
        let views = group.views().into_iter();
        let open = views.map(|(name, directory)| Ok((name, stage::open_directory(&directory)?)));
        Ok(Self(open.collect::<io::Result<_>>()?))
    }

    /// Binds them in the stage.
    pub(crate) fn put_in_stage(&self) -> io::Result<View> {
        if let [(None, directory)] = self.0.as_slice() {
            return Ok(vec![(stage::bind_in_stage(directory, VIEW)?, MOUNT_POINT.into())]);
        }
        let outer = stage::make_in_stage(VIEW)?;
        fs::set_permissions(&outer, fs::Permissions::from_mode(0o755))?;
        let mut view = vec![(outer.clone(), PathBuf::from(MOUNT_POINT))];
        for (name, directory) in &self.0 {
            let Some(name) = name else { continue };
            let bound = stage::bind_in_stage(directory, &format!("{VIEW}/{name}"))?;
            link_each(&outer, name)?;
            view.push((bound, Path::new(MOUNT_POINT).join(name)));
        }
        Ok(view)
    }
}

/// Where a hierarchy has several controllers (`cpu,cpuacct`), each is found by its own name too.
fn link_each(outer: &Path, name: &str) -> io::Result<()> {
    let others = name.split(',').filter(|part| *part != name);
    others.into_iter().try_for_each(|part| symlink(name, outer.join(part)))
}
