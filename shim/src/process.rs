//! Checks and helpers of this crate's processes: their own program, that they are not root, and that they are
//! single-threaded where more threads would be unsound.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use crate::sys::inherited;

/// The program of the current process, even if its file has been replaced by another version since.
pub const OWN_PROGRAM: &str = "/proc/self/exe";
/// Where pasta and nft are searched.
const PROGRAM_DIRS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// What the kernel adds when it looks for the process to end for lack of memory, in thousandths of the machine's.
const OOM_SCORE: &str = "/proc/self/oom_score_adj";
/// That of containers and of what serves them: above all daemons of the machine, which have 0 or less.
const ENDED_FIRST: i32 = 500;
/// Has one entry for each thread of this process.
const THREADS: &str = "/proc/self/task";

/// Fails for root: the runtime must not have more privileges than an ordinary user.
pub fn refuse_root() -> anyhow::Result<()> {
    anyhow::ensure!(
        !nix::unistd::Uid::effective().is_root(),
        "this does not run as root: start it as an ordinary user (`berth-agent prepare`, run once as root, makes one)"
    );
    Ok(())
}

/// Has the kernel end this process, and all that it starts, before the machine's own when memory runs out.
pub(crate) fn end_first() -> io::Result<()> {
    let current: i32 = fs::read_to_string(OOM_SCORE)?.trim().parse().map_err(io::Error::other)?;
    // Lower than it is may be forbidden, and is not wanted.
    if current < ENDED_FIRST { fs::write(OOM_SCORE, ENDED_FIRST.to_string()) } else { Ok(()) }
}

/// Fails if the calling process has more than one thread, or if that cannot be determined. libcontainer forks without
/// exec, and the child could wait forever for a lock that another thread held.
pub(crate) fn require_one_thread() -> io::Result<()> {
    match threads(Path::new(THREADS))? {
        1 => Ok(()),
        count => Err(io::Error::other(format!(
            "this process has {count} threads, and containers are only made by one that has a single thread"
        ))),
    }
}

/// Counts the threads of the process with this directory of tasks.
fn threads(tasks: &Path) -> io::Result<usize> {
    let cannot_tell =
        |e: io::Error| io::Error::other(format!("cannot count threads in {}: {e}", tasks.display()));
    let mut count = 0;
    for task in fs::read_dir(tasks).map_err(cannot_tell)? {
        task.map_err(cannot_tell)?;
        count += 1;
    }
    Ok(count)
}

/// Finds a program in the usual directories, independent of `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    PROGRAM_DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::mpsc;

    use super::*;

    /// The tests' own process has a thread for the test beside its first.
    #[test]
    fn a_process_with_more_than_one_thread_is_refused() {
        let (done, wait) = mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(threads(Path::new(THREADS)).unwrap() >= 2);
        let refused = require_one_thread().unwrap_err().to_string();
        assert!(refused.contains("threads"), "{refused}");
        drop(done);
        let _ = other.join();
    }

    #[test]
    fn a_process_with_one_thread_is_counted_as_one() {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert_eq!(threads(Path::new(&format!("/proc/{}/task", cat.id()))).unwrap(), 1);
        drop(cat.stdin.take());
        cat.wait().unwrap();
    }

    #[test]
    fn where_threads_cannot_be_counted_there_is_no_telling() {
        let missing = tempfile::tempdir().unwrap();
        assert!(threads(&missing.path().join("task")).is_err());
        assert_eq!(threads(missing.path()).unwrap(), 0, "and none is not one");
    }
}
