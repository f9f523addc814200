//! One child process: how it is started, watched, told to end, and what it last said.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use std::{future::Future, io, pin::pin};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use tokio::process::{Child, ChildStdin};

/// How much of a log's end is shown, in bytes and lines.
const LAST_WORDS_BYTES: i64 = 8 * 1024;
const LAST_WORDS_LINES: usize = 15;
/// How long a daemon of a `berth dev` that was killed may take to end: a supervisor's bound for its containers, and a
/// little. How often is looked: a lock has no way to call back.
const EARLIER_TIMEOUT: Duration = Duration::from_secs(15);
const EARLIER_INTERVAL: Duration = Duration::from_millis(10);

/// What a child is; also the order in which they are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Edge,
    Agent,
    Supervisor,
}

/// A child process.
pub(crate) struct Process {
    pub(crate) role: Role,
    name: String,
    child: Child,
    log: PathBuf,
    /// Held open as long as the child shall live: if this process is killed, the child sees the end of its standard
    /// input and ends by itself.
    _lifeline: Option<ChildStdin>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a daemon whose output goes to a log of its own, once the one of an earlier run has ended.
    pub(crate) async fn start(role: Role, name: String, mut command: Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = take_log(&log, &name).await?;
        command.arg("--watch-stdin").stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file);
        // An error at start is told in its last words, which a backtrace of every error would push out; panics keep theirs.
        command.env("RUST_LIB_BACKTRACE", "0");
        // A Ctrl-C at the terminal goes to its whole group: the children are ended in order instead.
        command.process_group(0);
        let mut child =
            tokio::process::Command::from(command).spawn().with_context(|| format!("cannot start {name}"))?;
        let lifeline = child.stdin.take();
        Ok(Self { role, name, child, log, _lifeline: lifeline, ended: None })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Ready once the process has ended.
    pub(crate) fn poll_end(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<ExitStatus>> {
        if let Some(status) = self.ended {
            return Poll::Ready(Ok(status));
        }
        let polled = pin!(self.child.wait()).poll(cx);
        if let Poll::Ready(Ok(status)) = polled {
            self.ended = Some(status);
        }
        polled
    }

    /// Sends a signal, unless it has ended: its number may be another process's by then.
    pub(crate) fn signal(&self, signal: Signal) {
        let number = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(number) = number {
            // It cannot fail but for a process that ends this moment, which is what is wanted.
            let _ = kill(Pid::from_raw(number), signal);
        }
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let text = read_end(&self.log).unwrap_or_else(|error| format!("({error})"));
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_WORDS_LINES)..];
        format!("--- the end of {}\n{}", self.log.display(), last.join("\n"))
    }
}

/// Opens a log and locks it. The daemon holds the lock by its output for as long as it lives, also when this process is
/// killed; the next run then waits here, and does not meet the old daemon's store, port and containers.
async fn take_log(path: &Path, name: &str) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    let taken = async {
        while let Err(error) = file.try_lock() {
            match error {
                TryLockError::WouldBlock => tokio::time::sleep(EARLIER_INTERVAL).await,
                TryLockError::Error(error) => return Err(error),
            }
        }
        file.set_len(0)
    };
    let taken = tokio::time::timeout(EARLIER_TIMEOUT, taken).await;
    taken.with_context(|| format!("{name} of an earlier run still lives: it holds {}", path.display()))??;
    Ok(file)
}

/// Runs a command as another user, who may not be able to look into the current directory.
pub(crate) fn become_user(command: &mut Command, user: Option<&User>, directory: &Path) {
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        command.env("HOME", &user.dir).env("USER", &user.name).env("LOGNAME", &user.name);
        command.current_dir(directory);
    }
}

fn read_end(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = i64::try_from(fs::metadata(path)?.len()).unwrap_or(i64::MAX);
    file.seek(SeekFrom::End(-length.min(LAST_WORDS_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, logs: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]);
        Process::start(Role::Edge, "edge".to_owned(), command, logs).await.unwrap()
    }

    async fn end(process: &mut Process) -> ExitStatus {
        std::future::poll_fn(|cx| process.poll_end(cx)).await.unwrap()
    }

    #[tokio::test]
    async fn the_end_of_a_process_and_its_last_words_are_told() {
        let logs = tempfile::tempdir().unwrap();
        let mut process =
            shell("for i in $(seq 100); do echo line $i; done; echo \"$1\" >&2; exit 3", logs.path()).await;
        assert_eq!(end(&mut process).await.code(), Some(3));
        assert!(process.has_ended());
        let words = process.last_words();
        assert!(words.ends_with("line 100\n--watch-stdin"), "{words}");
        assert!(!words.contains("line 86\n") && words.contains("line 87\n"), "{words}");
        process.signal(Signal::SIGKILL);
    }

    #[tokio::test]
    async fn a_child_sees_when_its_parent_is_gone() {
        let logs = tempfile::tempdir().unwrap();
        let mut process = shell("cat; exit 5", logs.path()).await;
        // What the kernel does with the pipe of a killed parent.
        process._lifeline = None;
        assert_eq!(end(&mut process).await.code(), Some(5));
    }

    #[tokio::test]
    async fn a_child_is_in_a_group_of_its_own_and_can_be_told_to_end() {
        use std::os::unix::process::ExitStatusExt;
        let logs = tempfile::tempdir().unwrap();
        let mut process = shell("cat", logs.path()).await;
        let pid = Pid::from_raw(i32::try_from(process.child.id().unwrap()).unwrap());
        assert_eq!(nix::unistd::getpgid(Some(pid)).unwrap(), pid);
        process.signal(Signal::SIGTERM);
        assert_eq!(end(&mut process).await.signal(), Some(15));
    }

    #[tokio::test]
    async fn a_daemon_of_an_earlier_run_is_waited_for() {
        let logs = tempfile::tempdir().unwrap();
        let mut earlier = shell("cat; echo the end", logs.path()).await;
        let mut next = Box::pin(shell("echo the next; cat", logs.path()));
        let polled = std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await;
        assert!(polled, "it did not wait");
        earlier._lifeline = None;
        end(&mut earlier).await;
        let mut next = next.await;
        next._lifeline = None;
        end(&mut next).await;
        assert!(next.last_words().ends_with(".log\nthe next"), "{}", next.last_words());
    }
}
