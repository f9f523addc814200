//! `berth dev --detach`: the same in a process of its own, which stays when the command returns.
//!
//! ```text
//!  command ──start──▶ background process ──▶ daemons
//!     │ ◀── what to show, line by line, then READY ── its standard output
//!     │ ──── its standard input: if it ends before READY, the command is gone: everything is stopped
//! ```
//!
//! What fails, and what happens then:
//! * The background process ends before READY: the command fails with its exit status; its errors were on standard error.
//! * The command is killed before READY: the background process ends everything and exits.
//! * Ctrl-C before READY: the command sends SIGTERM, waits for the end, and fails.
//! * A daemon ends after READY: the background process ends the others and exits; the reason is in the log of `berth dev`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::output;
use crate::signals::Signals;

/// The last line that the background process writes to the process that started it.
const READY: &str = "\u{4}";

/// Starts the background process and returns once the app can be reached.
pub(super) async fn start() -> Result<()> {
    let mut signals = Signals::new()?;
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(own);
    command
        .args(std::env::args_os().skip(1))
        .arg("--background")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start the background process")?;
    let _lifeline = child.stdin.take();
    let mut lines = BufReader::new(child.stdout.take().context("its output is a pipe")?).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) if line == READY => return Ok(()),
                Some(line) => output::line(line)?,
                None => break,
            },
            () = signals.next() => terminate(&child)?,
        }
    }
    let status = child.wait().await?;
    bail!("the app did not come up ({status})")
}

fn terminate(child: &Child) -> Result<()> {
    // Without a pid it has ended already, which is what is wanted.
    let Some(pid) = child.id() else { return Ok(()) };
    Ok(kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?)
}

/// The background process's side.
pub(super) struct Background {
    /// Returns when the process that started this one has ended.
    starter: pipe::Receiver,
}

impl Background {
    /// Leaves the terminal's session: a Ctrl-C there is not for this process.
    pub(super) fn enter() -> Result<Self> {
        setsid().context("cannot leave the session")?;
        let input = nix::unistd::dup(io::stdin()).context("cannot read standard input")?;
        Ok(Self { starter: pipe::Receiver::from_owned_fd(input)? })
    }

    /// Waits until the process that waits for the app is gone.
    pub(super) async fn abandoned(&mut self) {
        let mut byte = [0];
        while matches!(self.starter.read(&mut byte).await, Ok(1..)) {}
    }

    /// Reports that the app can be reached, and detaches from the terminal: all later output goes to a log.
    pub(super) fn ready(&self, log: &Path) -> Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let nothing = OwnedFd::from(File::open("/dev/null")?);
        dup2_stderr(&file)?;
        dup2_stdin(&nothing)?;
        let mut output = io::stdout().lock();
        writeln!(output, "{READY}").and_then(|()| output.flush()).context("who started this is gone")?;
        Ok(dup2_stdout(&file)?)
    }
}
