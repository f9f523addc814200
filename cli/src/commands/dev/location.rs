//! Where `berth dev` keeps state, logs and sockets.
//!
//! ```text
//!  ordinary user   DIR/.berth/dev/                     everything
//!  root            /var/lib/berth/dev/HASH-OF-DIR/     everything: the daemons' user may not be able to read DIR
//!                  DIR/.berth/dev/edge/admin.sock      a link to the edge's socket, so that other commands find it
//!  --state STATE   STATE                               everything, for any user
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use berth_cluster::StateDir;
use berth_cluster::owner::{self, is_root};
use sha2::{Digest, Sha256};

use crate::args::DevDirs;

const LOCAL_STATE: &str = ".berth/dev";
const ROOT_STATE: &str = "/var/lib/berth/dev";
/// Hexadecimal digits of a directory's hash: enough for one machine's directories.
const HASH_DIGITS: usize = 12;

/// Where one app's cluster is.
#[derive(Debug)]
pub(crate) struct Location {
    pub(crate) state: StateDir,
    /// Distinguishes its cgroups from those of other directories' nodes, which have the same names.
    pub(crate) name: String,
    /// The directory for the link in the app's directory, if the state is elsewhere.
    local: Option<PathBuf>,
}

impl Location {
    /// Makes nothing yet.
    pub(crate) fn of(at: &DevDirs) -> Result<Self> {
        let find =
            |path: &Path| path.canonicalize().with_context(|| format!("cannot find {}", path.display()));
        if let Some(state) = &at.state {
            let path = std::path::absolute(state)?;
            let path = path.canonicalize().unwrap_or(path);
            return Ok(Self { name: name(&path), state: StateDir::at(path), local: None });
        }
        let directory = find(&at.dir)?;
        let (name, local) = (name(&directory), directory.join(LOCAL_STATE));
        if is_root() {
            let state = StateDir::at(Path::new(ROOT_STATE).join(name.trim_start_matches("dev-")));
            return Ok(Self { state, name, local: Some(local) });
        }
        Ok(Self { state: StateDir::at(local), name, local: None })
    }

    /// Makes the directory, readable by others except for the parts that belong to the daemons.
    pub(crate) fn make(&self) -> Result<()> {
        let local = self.local.as_deref().unwrap_or(self.state.path());
        if local.ends_with(LOCAL_STATE) {
            hide(local)?;
        }
        for path in [self.state.path(), &self.state.logs()] {
            owner::make_directory(path)?;
        }
        self.state.check_depth()
    }

    /// Has other commands find the edge from the app's directory.
    pub(crate) fn link(&self) -> Result<()> {
        match &self.local {
            Some(local) => link(&self.state.admin_socket(), &local.join("edge/admin.sock")),
            None => Ok(()),
        }
    }

    /// Removes everything.
    pub(crate) fn remove(&self) -> Result<()> {
        for path in [Some(self.state.path()), self.local.as_deref()].into_iter().flatten() {
            owner::remove_directory(path)?;
        }
        Ok(())
    }
}

/// Makes DIR/.berth/dev, with a .gitignore so that version control ignores it.
fn hide(local: &Path) -> Result<()> {
    let hidden = local.parent().context("it has a parent")?;
    owner::make_directory(hidden)?;
    let ignore = hidden.join(".gitignore");
    if !ignore.exists() {
        fs::write(&ignore, "*\n").with_context(|| format!("cannot write {}", ignore.display()))?;
    }
    owner::make_directory(local)
}

fn name(directory: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let digest = hex::encode(Sha256::digest(directory.as_os_str().as_bytes()));
    format!("dev-{}", &digest[..HASH_DIGITS])
}

fn link(target: &Path, at: &Path) -> Result<()> {
    if let Some(parent) = at.parent() {
        owner::make_directory(parent)?;
    }
    match fs::remove_file(at) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    symlink(target, at).with_context(|| format!("cannot make the link {}", at.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_state_is_hidden_from_version_control() {
        let dir = tempfile::tempdir().unwrap();
        let local = dir.path().join(".berth/dev");
        for _ in 0..2 {
            hide(&local).unwrap();
            assert!(local.is_dir());
            assert_eq!(fs::read(dir.path().join(".berth/.gitignore")).unwrap(), b"*\n");
        }
    }

    #[test]
    fn a_link_is_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("edge/admin.sock");
        link(Path::new("/one"), &at).unwrap();
        link(Path::new("/two"), &at).unwrap();
        assert_eq!(fs::read_link(at).unwrap(), Path::new("/two"));
    }
}
