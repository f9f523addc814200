//! Where a node keeps what: the files and folders under its state directory.
//!
//! ```text
//! STATE/                  0700, the agent's user
//!   supervisor.sock       the supervisor listens here
//!   supervisor.lock       held by the living supervisor
//!   agent.sock            the agent listens here for those who empty the node
//!   agent.lock            held by the living agent
//!   draining              there while the node takes no new instances
//!   spares/NAME/          one for each shim that waits for an instance; becomes instances/ID
//!     spare.json          what its namespaces are made from
//!     shim.json           0600, what its container is made from; removed once the shim has read it
//!     disk.json           where the container's writable layer is
//!   instances/ID/         one for each instance until its end was taken note of
//!     spare.json          as above
//!     launch.json         what was asked for, without the environment
//!     shim.json           as above
//!     run.json            what the container is told of its instance; removed once the shim has read it
//!     shim.sock           the shim listens here
//!     disk.json           as above
//!     disk/               the writable layer, where it is in no slot; belongs to the container's users
//!     started.json        when its app was started
//!     seen.json           what the agent last saw that it had taken
//!     exit.json           how it ended and what it had taken; written once, at the very end
//!   layers/, images/      images: see `images::layers`
//!   logs/                 output of instances, also of ended ones: see `logs`
//! ```

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use berth_common::ids::InstanceId;
use serde::{Deserialize, Serialize};

use crate::state_files::make_private_dir;

/// Start of the names of instances' folders that are being removed.
const TRASH: &str = "removed-";

/// The name of a shim's directory until it is an instance's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShimName(pub u64);

impl fmt::Display for ShimName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The state directory of a node.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout under this directory, which is made if it is missing and must belong to this user alone.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        make_private_dir(&root)?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700))?;
        let root = root.canonicalize()?;
        let layout = Self { root };
        for dir in [layout.instances(), layout.waiting_shims(), layout.layers(), layout.logs()] {
            make_private_dir(&dir)?;
        }
        Ok(layout)
    }

    /// The state directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The supervisor's socket.
    pub fn supervisor_socket(&self) -> PathBuf {
        self.root.join("supervisor.sock")
    }

    /// The file that the living supervisor holds locked.
    pub fn supervisor_lock(&self) -> PathBuf {
        self.root.join("supervisor.lock")
    }

    /// The folder of all instances.
    pub fn instances(&self) -> PathBuf {
        self.root.join("instances")
    }

    /// The folder of one instance.
    pub fn instance(&self, id: InstanceId) -> PathBuf {
        self.instances().join(id.to_string())
    }

    /// The folder of all shims that wait for a container.
    pub fn waiting_shims(&self) -> PathBuf {
        self.root.join("spares")
    }

    /// The folder of one of them.
    pub fn waiting_shim(&self, name: ShimName) -> PathBuf {
        self.waiting_shims().join(name.to_string())
    }

    /// The folders of all shims, those of instances and those that wait for one.
    pub fn shims(&self) -> io::Result<Vec<PathBuf>> {
        let mut shims: Vec<_> = self.instance_ids()?.into_iter().map(|id| self.instance(id)).collect();
        for entry in fs::read_dir(self.waiting_shims())? {
            shims.push(entry?.path());
        }
        Ok(shims)
    }

    /// Where the folder of an instance goes to be removed.
    pub fn trash(&self, id: InstanceId) -> PathBuf {
        self.instances().join(format!("{TRASH}{id}"))
    }

    /// Whether a folder has gone there.
    pub fn is_trash(&self, path: &Path) -> bool {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        path.starts_with(self.instances()) && name.is_some_and(|name| name.starts_with(TRASH))
    }

    /// What an agent that was killed has not removed.
    pub fn all_trash(&self) -> io::Result<Vec<PathBuf>> {
        let mut trash = Vec::new();
        for entry in fs::read_dir(self.instances())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TRASH) {
                trash.push(entry.path());
            }
        }
        Ok(trash)
    }

    /// The folder of unpacked layers.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// The folder of logs.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Ids of the instances that have a folder.
    pub fn instance_ids(&self) -> io::Result<Vec<InstanceId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.instances())? {
            ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<InstanceId>().ok()));
        }
        Ok(ids)
    }
}
