//! The directory of a cluster: where what is, and that only one process starts daemons in it at a time.
//!
//! ```text
//!  STATE/bin/          the programs that run: the path of a process's program shows which cluster it belongs to
//!  STATE/certs/        the CA, and the certificates of this start
//!  STATE/edge/         the edge's state, with admin.sock
//!  STATE/n1/, ...      the state of each node
//!  STATE/logs/         a log of each daemon
//!  STATE/lock          held by the process that starts the daemons; contains its pid
//! ```

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};

use crate::owner::make_directory;

/// The programs of a cluster.
pub const PROGRAMS: [&str; 3] = ["berth", "berth-agent", "berth-edge"];
/// Longest path of a Unix socket, in bytes: the kernel's, without the zero byte at its end.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// The directory of a cluster.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

/// No other process starts daemons in the directory while this value lives.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

/// What became of an attempt to take the lock.
#[derive(Debug)]
pub enum Locked {
    /// It was free.
    Taken(Lock),
    /// A process holds it: its number, but for the moment in which it has not written it yet.
    By(Option<i32>),
}

impl StateDir {
    /// The directory at this path, which may not be there yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A program that was put there.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// Where the programs are.
    pub fn programs(&self) -> PathBuf {
        self.0.join("bin")
    }

    /// Where the certificates and their authority are.
    pub fn certificates(&self) -> PathBuf {
        self.0.join("certs")
    }

    /// The edge's state.
    pub fn edge(&self) -> PathBuf {
        self.0.join("edge")
    }

    /// The socket of the edge's admin API.
    pub fn admin_socket(&self) -> PathBuf {
        self.edge().join("admin.sock")
    }

    /// The state of a node.
    pub fn node(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Where the logs are.
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// The log of a daemon.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Fails where the path is too deep for the sockets in it.
    pub fn check_depth(&self) -> Result<()> {
        let socket = self.node("n99").join("supervisor.sock").max(self.admin_socket());
        let length = socket.as_os_str().len();
        ensure!(
            length <= MAX_SOCKET_PATH_BYTES,
            "the path of the socket {} has {length} bytes, and {MAX_SOCKET_PATH_BYTES} are possible: move the app to a \
             directory with a shorter path",
            socket.display()
        );
        Ok(())
    }

    /// Takes the lock, or returns the holder's pid.
    pub fn lock(&self) -> Result<Locked> {
        let path = self.0.join("lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.with_context(|| format!("cannot make {}", path.display()))?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err(_) => return Ok(Locked::By(fs::read_to_string(&path)?.trim().parse().ok())),
        };
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Locked::Taken(Lock(lock)))
    }

    /// Copies programs into this directory, replacing those of an earlier start, which may still run. The daemons'
    /// user need not be able to read the other directory.
    pub fn install(&self, from: &Path) -> Result<()> {
        make_directory(&self.programs())?;
        PROGRAMS.iter().try_for_each(|name| replace(&from.join(name), &self.program(name)))
    }
}

/// A link where that is possible, since programs that are built for tests are large.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let partial = to.with_extension("partial");
    remove_file(&partial)?;
    fs::hard_link(from, &partial)
        .or_else(|_| fs::copy(from, &partial).map(drop))
        .and_then(|()| fs::set_permissions(&partial, Permissions::from_mode(0o755)))
        // Of two names for one file, a rename would leave both.
        .and_then(|()| remove_file(to))
        .and_then(|()| fs::rename(&partial, to))
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_is_one_processes_only() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path());
        let held = state.lock().unwrap();
        assert!(matches!(held, Locked::Taken(_)));
        let own = i32::try_from(std::process::id()).ok();
        assert!(matches!(state.lock().unwrap(), Locked::By(holder) if holder == own));
        drop(held);
        assert!(matches!(state.lock().unwrap(), Locked::Taken(_)));
    }

    #[test]
    fn programs_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path().join("state"));
        for content in ["one", "two", "two"] {
            let from = dir.path().join("from");
            fs::create_dir_all(&from).unwrap();
            for name in PROGRAMS {
                fs::write(from.join(format!("{name}.new")), content).unwrap();
                fs::rename(from.join(format!("{name}.new")), from.join(name)).unwrap();
            }
            state.install(&from).unwrap();
            assert_eq!(fs::read_to_string(state.program("berth-agent")).unwrap(), content);
        }
    }

    #[test]
    fn a_directory_that_is_too_deep_for_sockets_is_refused() {
        StateDir::at("/var/lib/berth").check_depth().unwrap();
        let error = StateDir::at("/deep".repeat(30)).check_depth().unwrap_err().to_string();
        assert!(error.contains("107 are possible"), "{error}");
    }
}
