//! Where `berth dev` keeps state, logs and sockets, and as which user agents run.
//!
//! ```text
//!  ordinary user   DIR/.berth/dev/                     everything
//!  root            /var/lib/berth/dev/HASH-OF-DIR/     everything, and bin/berth-agent: the agents' user may not be
//!                                                      able to look into DIR
//!                  DIR/.berth/dev/edge/admin.sock      a link to the edge's socket, so that other commands find it
//! ```

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::User;
use sha2::{Digest, Sha256};

const LOCAL_STATE: &str = ".berth/dev";
const ROOT_STATE: &str = "/var/lib/berth/dev";
/// The user that agents run as when root starts them.
const AGENT_USER: &str = "berth";
/// The cgroup that is delegated to that user.
const CGROUP: &str = "/berth";
/// Where version 1 has the cgroups that limit memory.
const CGROUP_V1_MEMORY: &str = "/sys/fs/cgroup/memory";
/// Hexadecimal digits of a directory's hash in the name of its state: enough for one machine's directories.
const HASH_DIGITS: usize = 12;
/// Longest path of a Unix socket, in bytes: the kernel's, without the zero byte at its end.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// A prepared place. No other `berth dev` can use it while this value lives.
pub(crate) struct Place {
    state: PathBuf,
    nodes: Vec<String>,
    programs: Programs,
    agent_user: Option<User>,
    cgroup_prefix: Option<String>,
    _lock: Flock<File>,
}

/// The daemons' executables.
pub(crate) struct Programs {
    pub(crate) edge: PathBuf,
    pub(crate) agent: PathBuf,
}

impl Programs {
    /// Those beside this program.
    fn find() -> Result<Self> {
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let beside = |name: &str| {
            let path = own.with_file_name(name);
            ensure!(path.is_file(), "{} is missing: build or install it beside berth", path.display());
            Ok(path)
        };
        Ok(Self { edge: beside("berth-edge")?, agent: beside("berth-agent")? })
    }
}

impl Place {
    /// Makes what is missing for an app's directory and a number of nodes.
    pub(crate) fn prepare(directory: &Path, nodes: u16) -> Result<Self> {
        let directory = directory.canonicalize()?;
        let hash = hash(&directory);
        let nodes = (1..=nodes).map(|number| format!("n{number}")).collect();
        let programs = Programs::find()?;
        let local = make_local_state(&directory)?;
        if nix::unistd::geteuid().is_root() {
            Self::prepare_as_root(&hash, &local, nodes, programs)
        } else {
            Self::prepare_as_user(&hash, local, nodes, programs)
        }
    }

    fn prepare_as_user(hash: &str, state: PathBuf, nodes: Vec<String>, programs: Programs) -> Result<Self> {
        let lock = lock(&state)?;
        let cgroup_prefix = delegated_cgroup().map(|cgroup| cgroup_prefix(&cgroup, hash));
        let place = Self { state, nodes, programs, agent_user: None, cgroup_prefix, _lock: lock };
        place.make_directories()?;
        Ok(place)
    }

    fn prepare_as_root(hash: &str, local: &Path, nodes: Vec<String>, programs: Programs) -> Result<Self> {
        let state = Path::new(ROOT_STATE).join(hash);
        for shared in ["/var/lib/berth", ROOT_STATE] {
            make_directory(Path::new(shared))?;
        }
        make_directory(&state)?;
        let lock = lock(&state)?;
        let programs = Programs { agent: copy_program(&programs.agent, &state)?, ..programs };
        let mut place = Self {
            state,
            nodes,
            programs,
            agent_user: None,
            cgroup_prefix: Some(cgroup_prefix(CGROUP, hash)),
            _lock: lock,
        };
        place.make_directories()?;
        place.prepare_machine()?;
        place.agent_user = User::from_name(AGENT_USER)?;
        ensure!(place.agent_user.is_some(), "the user {AGENT_USER} is missing though it was just prepared");
        link(&place.admin_socket(), &local.join("edge/admin.sock"))?;
        Ok(place)
    }

    fn make_directories(&self) -> Result<()> {
        for path in [self.edge_state(), self.edge_state().join("assets"), self.logs()] {
            make_directory(&path)?;
        }
        let socket = self.admin_socket();
        let length = socket.as_os_str().len();
        ensure!(
            length <= MAX_SOCKET_PATH_BYTES,
            "the path of the socket {} has {length} bytes, and {MAX_SOCKET_PATH_BYTES} are possible: move the app to a \
             directory with a shorter path",
            socket.display()
        );
        Ok(())
    }

    /// Makes the agents' user, their state and cgroups.
    fn prepare_machine(&self) -> Result<()> {
        let mut command = Command::new(&self.programs.agent);
        command.args(["prepare", "--user", AGENT_USER, "--cgroup", CGROUP]);
        for node in &self.nodes {
            command.arg("--state").arg(self.node_state(node));
        }
        let output =
            command.output().with_context(|| format!("cannot run {}", self.programs.agent.display()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`berth-agent prepare` could not prepare this machine ({}): {}", output.status, said.trim())
    }

    pub(crate) fn nodes(&self) -> &[String] {
        &self.nodes
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The user that agents and supervisors run as, where it is another one.
    pub(crate) fn agent_user(&self) -> Option<&User> {
        self.agent_user.as_ref()
    }

    /// The cgroup of a node, where one was delegated.
    pub(crate) fn cgroup(&self, node: &str) -> Option<String> {
        self.cgroup_prefix.as_ref().map(|prefix| format!("{prefix}-{node}"))
    }

    pub(crate) fn node_state(&self, node: &str) -> PathBuf {
        self.state.join(node)
    }

    pub(crate) fn edge_state(&self) -> PathBuf {
        self.state.join("edge")
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.edge_state().join("admin.sock")
    }

    pub(crate) fn certificates(&self) -> PathBuf {
        self.state.join("certs")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }
}

/// Makes DIR/.berth/dev, which no version control should see.
fn make_local_state(directory: &Path) -> Result<PathBuf> {
    let hidden = directory.join(".berth");
    make_directory(&hidden)?;
    let ignore = hidden.join(".gitignore");
    if !ignore.exists() {
        fs::write(&ignore, "*\n").with_context(|| format!("cannot write {}", ignore.display()))?;
    }
    let state = directory.join(LOCAL_STATE);
    make_directory(&state)?;
    Ok(state)
}

fn make_directory(path: &Path) -> Result<()> {
    let made =
        fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)));
    made.with_context(|| format!("cannot make {}", path.display()))
}

fn lock(state: &Path) -> Result<Flock<File>> {
    let path = state.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        anyhow::anyhow!("another `berth dev` runs for this directory (it holds {})", path.display())
    })
}

/// Two directories' nodes have the same names, so the directory is part of the cgroup's.
fn cgroup_prefix(delegated: &str, hash: &str) -> String {
    format!("{delegated}/dev-{hash}")
}

/// The cgroup that root delegated to this user, on version 1: `/berth-UID` or `/berth`. On version 2 a supervisor uses
/// the one that it runs in, since only root could move it to another.
fn delegated_cgroup() -> Option<String> {
    let uid = nix::unistd::geteuid();
    let mine = |cgroup: &String| {
        let group = Path::new(CGROUP_V1_MEMORY).join(cgroup.trim_start_matches('/'));
        group.metadata().is_ok_and(|metadata| metadata.uid() == uid.as_raw())
    };
    [format!("{CGROUP}-{uid}"), CGROUP.to_owned()].into_iter().find(mine)
}

fn hash(directory: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    hex::encode(Sha256::digest(directory.as_os_str().as_bytes()))[..HASH_DIGITS].to_owned()
}

/// Puts the agent's program where the agents' user can run it, replacing one that may still be running.
fn copy_program(program: &Path, state: &Path) -> Result<PathBuf> {
    let directory = state.join("bin");
    make_directory(&directory)?;
    let copy = directory.join("berth-agent");
    let partial = directory.join("berth-agent.partial");
    fs::copy(program, &partial)
        .and_then(|_| fs::set_permissions(&partial, Permissions::from_mode(0o755)))
        .and_then(|()| fs::rename(&partial, &copy))
        .with_context(|| format!("cannot copy {} to {}", program.display(), copy.display()))?;
    Ok(copy)
}

fn link(target: &Path, at: &Path) -> Result<()> {
    if let Some(parent) = at.parent() {
        make_directory(parent)?;
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
    fn a_place_is_one_commands_only() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        assert!(lock(dir.path()).unwrap_err().to_string().contains("another `berth dev`"));
        drop(held);
        lock(dir.path()).unwrap();
    }

    #[test]
    fn local_state_is_hidden_from_version_control() {
        let dir = tempfile::tempdir().unwrap();
        let state = make_local_state(dir.path()).unwrap();
        assert_eq!(state, dir.path().join(".berth/dev"));
        assert_eq!(fs::read(dir.path().join(".berth/.gitignore")).unwrap(), b"*\n");
        make_local_state(dir.path()).unwrap();
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
