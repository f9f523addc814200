//! The layout of a node's state directory.
//!
//! ```text
//! STATE/                  0700, the agent's user
//!   supervisor.sock       the supervisor listens here
//!   supervisor.lock       locked by the running supervisor
//!   agent.sock            the agent's control socket: drain, undrain
//!   agent.lock            locked by the running agent
//!   terms                 until when instances may run without a word of their edge: see `terms`
//!   draining              exists while the node is out of service
//!   spares/NAME/          one for each shim without an instance; becomes instances/ID
//!     spare.json          `ShimSetup`: the shim's namespaces and network
//!     shim.json           0600, `ContainerConfig`; removed once the shim has read it
//!     disk.json           the disk of the container
//!   instances/ID/         one for each instance until its edge has it forgotten
//!     spare.json          as above
//!     launch.json         the order to start, without the environment
//!     shim.json           as above
//!     run.json            0600, `Assignment`: the instance; removed once the shim has read it
//!     shim.sock           the shim listens here
//!     disk.json           as above
//!     disk/               the writable layer, if it is not in a slot; belongs to the container's users
//!     started.json        when its app was started
//!     seen.json           its usage as last saved by the agent
//!     exit.json           its outcome and usage; written once, at the very end
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

/// The name of the page of terms.
pub const TERMS: &str = "terms";
/// Prefix of the names of instances' directories that are being removed.
const TRASH: &str = "removed-";

/// The name of a shim's directory until it becomes an instance's.
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
    /// Opens the layout under this directory, which is created if missing and must be private to this user.
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

    /// The file that the running supervisor holds locked.
    pub fn supervisor_lock(&self) -> PathBuf {
        self.root.join("supervisor.lock")
    }

    /// The page of terms.
    pub fn terms(&self) -> PathBuf {
        self.root.join(TERMS)
    }

    /// The directory of all instances.
    pub fn instances(&self) -> PathBuf {
        self.root.join("instances")
    }

    /// The directory of one instance.
    pub fn instance(&self, id: InstanceId) -> PathBuf {
        self.instances().join(id.to_string())
    }

    /// The directory of all shims without an instance.
    pub fn waiting_shims(&self) -> PathBuf {
        self.root.join("spares")
    }

    /// The directory of one of them.
    pub fn waiting_shim(&self, name: ShimName) -> PathBuf {
        self.waiting_shims().join(name.to_string())
    }

    /// The directories of all shims, with and without an instance.
    pub fn shims(&self) -> io::Result<Vec<PathBuf>> {
        let mut shims: Vec<_> = self.instance_ids()?.into_iter().map(|id| self.instance(id)).collect();
        for entry in fs::read_dir(self.waiting_shims())? {
            shims.push(entry?.path());
        }
        Ok(shims)
    }

    /// The name to which an instance's directory is renamed for removal.
    pub fn trash(&self, id: InstanceId) -> PathBuf {
        self.instances().join(format!("{TRASH}{id}"))
    }

    /// Whether a directory has such a name.
    pub fn is_trash(&self, path: &Path) -> bool {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        path.starts_with(self.instances()) && name.is_some_and(|name| name.starts_with(TRASH))
    }

    /// Directories whose removal a killed agent has not finished.
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

    /// The directory of unpacked layers.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// The directory of logs.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Ids of the instances that have a directory.
    pub fn instance_ids(&self) -> io::Result<Vec<InstanceId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.instances())? {
            ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<InstanceId>().ok()));
        }
        Ok(ids)
    }
}
