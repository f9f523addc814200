//! One daemon as a child process: its log, its end, and that it never outlives this process.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Pause between two looks whether a process has ended.
const END_POLL: Duration = Duration::from_millis(5);
/// Lines of a log's end that are shown of a daemon that failed.
const TAIL_LINES: usize = 40;

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    /// Its standard input is a pipe that is never written to: the daemon ends when this process does, however it does.
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon. Its output is added to the log.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = append(log)?;
        command.arg("--watch-stdin").stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file);
        // A Ctrl-C at the terminal is for this process; the end of its pipe is for the daemons.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("start {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_else(|error| format!("({}: {error})", self.log.display()))
    }

    /// Fails if it has ended.
    pub fn expect_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} has ended by itself: {status}", self.name),
            None => Ok(()),
        }
    }

    /// Sends a signal, unless it has ended: its number may be another process's by then.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?;
        }
        Ok(())
    }

    /// SIGKILL, and nothing left of it.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end; kills it when that takes too long, which is an error.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(END_POLL);
        }
        self.child.kill()?;
        self.child.wait()?;
        bail!("{} did not end within {within:?} and was killed", self.name)
    }

    /// The end of its log, under its name.
    pub fn tail(&self) -> String {
        tail(&self.name, &self.log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nobody waits for this one any more; it must not stay, whatever went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of a log, under a name.
pub fn tail(name: &str, log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_else(|error| error.to_string());
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    format!("--- the end of {name}'s log\n{}\n", last.join("\n"))
}

fn append(log: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(log);
    file.with_context(|| format!("write {}", log.display()))
}
