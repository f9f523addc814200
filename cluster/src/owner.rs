//! The user that daemons run as and that owns their files. If root starts them it is another one: daemons refuse to be
//! root's.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::unistd::{User, geteuid};

/// The user that root lets the daemons run as.
pub const DAEMON_USER: &str = "berth";

/// Whether this process is root's.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// The daemons' user.
#[derive(Debug, Clone)]
pub struct Owner {
    user: User,
    by_root: bool,
}

impl Owner {
    /// The user of this process, or, if that is root, `berth`, which `berth-agent prepare` has created.
    pub fn of_this_process() -> Result<Self> {
        let by_root = is_root();
        let user = if by_root { User::from_name(DAEMON_USER) } else { User::from_uid(geteuid()) };
        let missing = || {
            if by_root {
                format!("the user {DAEMON_USER} is missing; `berth-agent prepare` makes it")
            } else {
                "this process's user has no name".to_owned()
            }
        };
        Ok(Self { user: user?.with_context(missing)?, by_root })
    }

    /// The user.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Whether it is another user than this process's.
    pub fn is_another(&self) -> bool {
        self.by_root
    }

    /// Has a command run as this user, in a directory that this user can enter: it may not be able to enter this
    /// process's.
    pub fn demote(&self, command: &mut Command, directory: &Path) {
        command.current_dir(directory);
        if self.by_root {
            command.env("HOME", directory).env("USER", &self.user.name).env("LOGNAME", &self.user.name);
            // Supplementary groups are dropped with it.
            command.uid(self.user.uid.as_raw()).gid(self.user.gid.as_raw());
        }
    }

    /// Makes a directory of this user, readable by all.
    pub fn make_directory(&self, path: &Path) -> Result<()> {
        make_directory(path)?;
        self.give(path)
    }

    /// Changes the owner of a file or directory to this user.
    pub fn give(&self, path: &Path) -> Result<()> {
        if !self.by_root {
            return Ok(());
        }
        chown(path, Some(self.user.uid.as_raw()), Some(self.user.gid.as_raw()))
            .with_context(|| format!("cannot give {} to {}", path.display(), self.user.name))
    }
}

/// Makes a directory of this process's user, readable by all.
pub fn make_directory(path: &Path) -> Result<()> {
    let made =
        fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)));
    made.with_context(|| format!("cannot make {}", path.display()))
}

/// Removes a directory in which files may belong to containers' users. Nothing to do where there is none.
pub fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
    }
    // `rm` removes trees too that are deeper than there are descriptors. An ordinary user is root over the containers' users
    // inside a user namespace.
    let mut remove = Command::new(if is_root() { "env" } else { "unshare" });
    if !is_root() {
        remove.args(["--map-root-user", "--map-auto", "--"]);
    }
    let status =
        remove.args(["rm", "-rf", "--one-file-system", "--"]).arg(path).status().context("run `rm`")?;
    ensure!(status.success(), "remove {}: {status}", path.display());
    Ok(())
}
