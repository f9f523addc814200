//! Who runs the daemons on this machine, and where: the user, the directory and the cgroup that root prepared once.
//!
//! Started by root, the daemons run as the user `berth`. Started by an ordinary user, as that user, with a cgroup that
//! root has delegated before.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{AccessFlags, User, access, geteuid};

use crate::cgroup;

/// The user that root lets the daemons run as.
const DAEMON_USER: &str = "berth";
/// What root's runs have delegated to that user.
const ROOT_CGROUP: &str = "/berth";
/// Where root's runs keep their state.
const ROOT_STATE: &str = "/var/lib/berth/test";

/// A machine that can run the daemons.
#[derive(Debug, Clone)]
pub struct Machine {
    user: User,
    by_root: bool,
    state: PathBuf,
    cgroup: PathBuf,
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    geteuid().is_root()
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
            prepare_as_root(agent)?;
            let user = User::from_name(DAEMON_USER)?;
            let user = user.with_context(|| format!("the user {DAEMON_USER} is missing after `prepare`"))?;
            return Ok(Self { user, by_root: true, state, cgroup: ROOT_CGROUP.into() });
        }
        let user = User::from_uid(geteuid())?.context("this process's user has no name")?;
        let cgroup = delegated_to(&user)?;
        Ok(Self { user, by_root: false, state, cgroup })
    }

    /// Where the states of all runs are.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The cgroup below which each node has its own.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The daemons' user.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Whether the daemons run as another user than this process.
    pub fn switches_user(&self) -> bool {
        self.by_root
    }

    /// Has a command run as the daemons' user, in a directory that this user can enter.
    pub fn demote(&self, command: &mut Command, directory: &Path) {
        command.current_dir(directory);
        command.env("HOME", directory).env("USER", &self.user.name).env("LOGNAME", &self.user.name);
        if self.by_root {
            // Supplementary groups are dropped with it.
            command.uid(self.user.uid.as_raw()).gid(self.user.gid.as_raw());
        }
    }

    /// Makes a directory of the daemons' user.
    pub fn make_directory(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        if self.by_root {
            chown(path, Some(self.user.uid.as_raw()), Some(self.user.gid.as_raw()))?;
        }
        Ok(())
    }

    /// Removes a directory in which files may belong to containers' users.
    pub fn remove_directory(&self, path: &Path) -> Result<()> {
        remove_directory(path)
    }
}

/// Removes a directory in which files may belong to containers' users. Nothing to do where there is none.
pub fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) if is_root() => return Err(error).with_context(|| format!("remove {}", path.display())),
        Err(_) => {}
    }
    // An ordinary user is root over the containers' users inside a user namespace.
    let mut remove = Command::new("unshare");
    remove.args(["--map-root-user", "--map-auto", "--", "rm", "-rf", "--one-file-system", "--"]).arg(path);
    let status = remove.status().context("run `unshare`")?;
    ensure!(status.success(), "remove {}: {status}", path.display());
    Ok(())
}

fn prepare_as_root(agent: &Path) -> Result<()> {
    let mut prepare = Command::new(agent);
    prepare.args(["prepare", "--user", DAEMON_USER, "--cgroup", ROOT_CGROUP, "--state", ROOT_STATE]);
    let output = prepare.output().with_context(|| format!("run {}", agent.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`berth-agent prepare`: {}: {}", output.status, said.trim());
    Ok(())
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
