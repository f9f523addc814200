//! One daemon as a child process: its start, its end, and the end of its log. It never outlives this
//! process.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, ExitStatus, Stdio};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdin};

/// Most of a log's end that is shown, in bytes.
const LOG_END_BYTES: u64 = 16 * 1024;
/// Pause between two polls for the end of a process, in code that is not async.
const END_POLL: Duration = Duration::from_millis(5);

/// A daemon that was started.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Held open as long as the child shall live: if this process is killed, the child sees the end of its standard
    /// input and ends by itself.
    _lifeline: Option<ChildStdin>,
    pid: u32,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a daemon, whose output is added to a log. To be called within a runtime.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = open_log(log)?;
        command.stdout(file.try_clone()?);
        Self::start_with_output(name, command, log)
    }

    /// The same for one whose standard output goes elsewhere already.
    pub fn start_with_output(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        command.arg("--watch-stdin").stdin(Stdio::piped()).stderr(open_log(log)?);
        let mut command = tokio::process::Command::from(command);
        // A Ctrl-C at the terminal goes to its whole group: the children are ended in order instead.
        command.process_group(0);
        let mut child =
            command.spawn().with_context(|| format!("cannot start {name}: {:?}", command.as_std()))?;
        let lifeline = child.stdin.take();
        let pid = child.id().context("a process that was just started has a number")?;
        Ok(Self { name: name.to_owned(), child, _lifeline: lifeline, pid, log: log.to_owned(), ended: None })
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, which may be another process's once this one has ended.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether its end was seen.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Its exit status, if it has ended.
    pub fn look_for_end(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Fails if it has ended.
    pub fn expect_alive(&mut self) -> Result<()> {
        match self.look_for_end()? {
            Some(status) => bail!("{} ended by itself ({status})", self.name),
            None => Ok(()),
        }
    }

    /// Ready once the process has ended.
    pub fn poll_end(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<ExitStatus>> {
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
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.look_for_end()?.is_none() {
            kill(Pid::from_raw(i32::try_from(self.pid)?), signal)?;
        }
        Ok(())
    }

    /// SIGKILL, and nothing left of it.
    pub fn kill(mut self) -> Result<()> {
        self.kill_and_wait()
    }

    /// Waits for its end; kills it when that takes too long, which is an error.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.look_for_end()? {
                return Ok(status);
            }
            std::thread::sleep(END_POLL);
        }
        self.kill_and_wait()?;
        bail!("{} did not end within {within:?} and was killed", self.name)
    }

    fn kill_and_wait(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        while self.look_for_end()?.is_none() {
            std::thread::sleep(END_POLL);
        }
        Ok(())
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_else(|error| format!("({}: {error})", self.log.display()))
    }

    /// The last lines of its log.
    pub fn log_end(&self, lines: usize) -> String {
        log_end(&self.log, lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing waits for this one any more; it must not stay, whatever went wrong.
        let _ = self.kill_and_wait();
    }
}

fn open_log(log: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(log);
    file.with_context(|| format!("cannot write {}", log.display()))
}

/// The last lines of a log, under its path.
pub fn log_end(log: &Path, lines: usize) -> String {
    let text = read_end(log).unwrap_or_else(|error| format!("({error})"));
    let all: Vec<&str> = text.lines().collect();
    let last = &all[all.len().saturating_sub(lines)..];
    format!("--- the end of {}\n{}", log.display(), last.join("\n"))
}

fn read_end(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_END_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, logs: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]);
        Process::start("edge", command, &logs.join("edge.log")).unwrap()
    }

    async fn end(process: &mut Process) -> ExitStatus {
        std::future::poll_fn(|cx| process.poll_end(cx)).await.unwrap()
    }

    #[tokio::test]
    async fn the_end_of_a_process_and_of_its_log_are_reported() {
        let logs = tempfile::tempdir().unwrap();
        let mut process =
            shell("for i in $(seq 100); do echo line $i; done; echo \"$1\" >&2; exit 3", logs.path());
        assert_eq!(end(&mut process).await.code(), Some(3));
        assert!(process.has_ended());
        let text = process.log_end(15);
        assert!(text.ends_with("line 100\n--watch-stdin"), "{text}");
        assert!(!text.contains("line 86\n") && text.contains("line 87\n"), "{text}");
        process.signal(Signal::SIGKILL).unwrap();
        assert!(process.expect_alive().unwrap_err().to_string().starts_with("edge ended by itself"));
    }

    #[tokio::test]
    async fn a_child_sees_when_its_parent_is_gone() {
        let logs = tempfile::tempdir().unwrap();
        let mut process = shell("cat; exit 5", logs.path());
        // What the kernel does with the pipe of a killed parent.
        process._lifeline = None;
        assert_eq!(end(&mut process).await.code(), Some(5));
    }

    #[tokio::test]
    async fn a_child_is_in_a_group_of_its_own_and_ends_on_a_signal() {
        use std::os::unix::process::ExitStatusExt;
        let logs = tempfile::tempdir().unwrap();
        let mut process = shell("cat", logs.path());
        let pid = Pid::from_raw(i32::try_from(process.pid()).unwrap());
        assert_eq!(nix::unistd::getpgid(Some(pid)).unwrap(), pid);
        process.signal(Signal::SIGTERM).unwrap();
        assert_eq!(end(&mut process).await.signal(), Some(15));
    }

    #[tokio::test]
    async fn a_process_that_does_not_end_in_time_is_killed() {
        let logs = tempfile::tempdir().unwrap();
        let mut process = shell("cat", logs.path());
        assert!(process.wait(Duration::from_millis(1)).unwrap_err().to_string().contains("was killed"));
        assert!(process.has_ended());
    }
}
