//! The daemons' environment on this machine: the user, the directory and the cgroup that root prepared once.
//!
//! Started by root, the daemons run as the user `berth`. Started by an ordinary user, as that user, with a cgroup that
//! root has delegated before.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use berth_cluster::Owner;
use berth_cluster::machine::{CGROUP, prepare};
pub use berth_cluster::owner::{is_root, remove_directory};
use nix::unistd::{AccessFlags, User, access, geteuid};

use crate::cgroup;

/// Where root's runs keep their state.
const ROOT_STATE: &str = "/var/lib/berth/test";

/// A machine that can run the daemons.
#[derive(Debug, Clone)]
pub struct Machine {
    owner: Owner,
    state: PathBuf,
    cgroup: PathBuf,
}

impl Machine {
    /// Where the states of all runs are.
    pub fn state_root() -> PathBuf {
        if is_root() {
            ROOT_STATE.into()
        } else {
            std::env::temp_dir().join(format!("berth-test-{}", geteuid()))
        }
    }

    /// Finds what is there, and as root makes what is missing, with `berth-agent prepare`.
    pub fn prepare(agent: &Path) -> Result<Self> {
        let state = Self::state_root();
        if is_root() {
            prepare(agent, [Path::new(ROOT_STATE)])?;
            return Ok(Self { owner: Owner::of_this_process()?, state, cgroup: CGROUP.into() });
        }
        let owner = Owner::of_this_process()?;
        let cgroup = delegated_to(owner.user())?;
        Ok(Self { owner, state, cgroup })
    }

    /// Where the states of all runs are.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The cgroup below which each node has its own.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The daemons' user, which owns their files.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The daemons' user.
    pub fn user(&self) -> &User {
        self.owner.user()
    }

    /// Whether the daemons run as another user than this process.
    pub fn switches_user(&self) -> bool {
        self.owner.is_another()
    }

    /// Makes a directory of the daemons' user.
    pub fn make_directory(&self, path: &Path) -> Result<()> {
        self.owner.make_directory(path)
    }
}

fn delegated_to(user: &User) -> Result<PathBuf> {
    let cgroup = PathBuf::from(format!("/berth-{}", user.uid));
    let writable = |path: &PathBuf| access(path, AccessFlags::W_OK).is_ok();
    let directories = cgroup::directories(&cgroup);
    if directories.is_empty() || !directories.iter().all(writable) {
        bail!(
            "the cgroup {} is not delegated to {}: run as root, once: berth-agent prepare --user {} --cgroup {}",
            cgroup.display(),
            user.name,
            user.name,
            cgroup.display()
        );
    }
    Ok(cgroup)
}
