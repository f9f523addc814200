//! The end of a container: signals, the kill, the outcome from its processes' exits, and the cleanup.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use berth_common::outcome::{ExitReason, Outcome};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::super::agents::Agents;
use super::super::directory::Directory;
use super::super::reports::Reports;
use super::{Shim, State};
use crate::messages::ShimEvent;
use crate::metering::Ended;
use crate::state_files::{wipe, write_json};
use crate::{signals, sys};

/// Delay before everything is killed again, in case a process was forked meanwhile.
const KILL_AGAIN: Duration = Duration::from_millis(500);

/// Exit code of a shell, and of many others, whose child was ended by SIGKILL.
const KILLED_CHILD: i32 = 128 + libc::SIGKILL;
/// What may explain an end, and is not one by itself.
const MEMORY_KILL: &str =
    "the kernel had ended a process of it for want of memory: a larger instance_type would give it more";

/// What remains after a container's end.
pub(super) struct Remains {
    /// Their connections are closed when the shim exits, which signals that the disk is wiped.
    _agents: Agents,
    pub(super) directory: Directory,
    pub(super) has_disk: bool,
    pub(super) has_record: bool,
}

/// Empties the directory. The supervisor removes it, because Landlock denies this process changes to its parent.
pub(super) fn empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { wipe(&entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

/// The outcome of an app some of whose processes the kernel has ended for want of memory. Only if it was the first, or that
/// one ended as shells do when their command is killed, that is how the app ended: else it lived on, and has its own reason.
fn with_memory_kills(outcome: Outcome) -> Outcome {
    let killed = outcome.signal == Some(libc::SIGKILL) || outcome.code == Some(KILLED_CHILD);
    match outcome.code {
        _ if killed => Outcome { reason: ExitReason::Oom, ..outcome },
        Some(code) if code != 0 => {
            let text = format!("it exited with code {code} after {MEMORY_KILL}");
            Outcome { message: outcome.message.or(Some(text)), ..outcome }
        }
        _ => outcome,
    }
}

/// The log's last line.
fn mark(outcome: &Outcome) -> String {
    match &outcome.message {
        Some(message) => format!("[container ended: {outcome}: {message}]"),
        None => format!("[container ended: {outcome}]"),
    }
}

pub(super) fn failed(message: String) -> Outcome {
    Outcome::because(ExitReason::StartFailed, message)
}

impl Shim {
    pub(super) fn stop(&mut self, signal: i32, grace: Duration) {
        // A grace that overflows never expires.
        let at = Instant::now().checked_add(grace);
        self.stop = match (self.stop, at) {
            (Some(earlier), Some(at)) => Some(earlier.min(at)),
            (earlier, at) => at.or(earlier),
        };
        self.signal(signal);
    }

    pub(super) fn signal(&mut self, signal: i32) {
        match self.state {
            // The order before had sent one: that is not to be forgotten where the app does not run yet.
            _ if signal == 0 => {}
            _ if signal == libc::SIGKILL => self.stop = Some(Instant::now()),
            State::Running { init } if self.status.is_none() && signals::is_kept_from(init, signal) => {
                self.carried_out = Some(signal);
                self.kill_all();
            }
            State::Running { init } if self.status.is_some() && signal == libc::SIGSTOP => {
                // If it has ended just now, there is nothing to stop.
                signals::stop_below(init, &self.cgroup.members());
            }
            State::Running { init } => drop(sys::send_signal(init, signal)),
            State::Making | State::Created { .. } => self.pending_signal = Some(signal),
        }
    }

    pub(super) fn enforce_stop(&mut self) {
        if self.stop.is_some_and(|at| at <= Instant::now()) {
            self.kill_all();
            self.stop = Some(Instant::now() + KILL_AGAIN);
        }
    }

    pub(super) fn kill_all(&mut self) {
        // A builder that waits for the assignment gives up when its pipe closes, and the shim inherits the first
        // process.
        self.start_pipe = None;
        if let State::Created { init } | State::Running { init } = self.state {
            // Killing the first process ends all processes of its pid namespace.
            let _ = kill(init, Signal::SIGKILL);
        }
        self.cgroup.kill();
    }

    /// Reaps ended processes. Returns the app's outcome once it has ended.
    pub(super) fn reap(&mut self, builder: Pid) -> io::Result<Option<Outcome>> {
        while self.signals.read_signal()?.is_some() {}
        let mut outcome = None;
        loop {
            let status = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(outcome),
                Ok(status) => status,
                Err(error) => return Err(error.into()),
            };
            if status.pid().is_some_and(|pid| self.network.needs(pid)) {
                self.lose("the process that carried the instance's network ended");
            }
            outcome = outcome.or(self.ended(status, builder));
        }
    }

    /// The container's outcome from the exit of a process, if it is decisive.
    fn ended(&self, status: WaitStatus, builder: Pid) -> Option<Outcome> {
        let init = match self.state {
            State::Created { init } | State::Running { init } => Some(init),
            State::Making => None,
        };
        match status {
            WaitStatus::Exited(pid, code) if Some(pid) == init => {
                Some(self.told_by_init().unwrap_or_else(|| Outcome::exited(code)))
            }
            WaitStatus::Signaled(pid, signal, _) if Some(pid) == init => {
                let signal = self.carried_out.unwrap_or(signal as i32);
                Some(Outcome::signalled(signal))
            }
            WaitStatus::Exited(pid, code) if pid == builder && code != 0 => {
                Some(failed("the container could not be made".to_owned()))
            }
            WaitStatus::Signaled(pid, signal, _) if pid == builder => {
                Some(failed(format!("the builder was ended by {signal}")))
            }
            _ => None,
        }
    }

    /// How the app ended, if an init was there to see it. Nothing else inside can write to that pipe: but if something did,
    /// it would only tell of its own container.
    fn told_by_init(&self) -> Option<Outcome> {
        let mut status = [0; size_of::<i32>()];
        self.status.as_ref()?.read_exact(&mut status).ok()?;
        let status = i32::from_ne_bytes(status);
        if libc::WIFEXITED(status) {
            return Some(Outcome::exited(libc::WEXITSTATUS(status)));
        }
        libc::WIFSIGNALED(status).then(|| Outcome::signalled(libc::WTERMSIG(status)))
    }

    /// Records the start of the app, from which its usage is measured.
    pub(super) fn note_start(&mut self) {
        let cpu_us = self.cgroup.cpu_us();
        if let Err(error) = self.meter.start(&self.directory.path(), cpu_us) {
            // Only needed if this process dies.
            eprintln!("note the start of an instance: {error}");
        }
    }

    /// Records the end of its first process.
    pub(super) fn note_end(&mut self, outcome: &Outcome, reports: &Reports) {
        let was_started = self.assignment.is_some() && self.start_pipe.is_none() && outcome.code.is_some();
        // It ran and ended before this process noticed that it ran.
        if matches!(self.state, State::Created { .. }) && was_started && reports.failure().is_none() {
            self.note_start();
        }
        self.meter.end();
    }

    /// The outcome of an app that never ran. If an order to end came first, its start has not failed: it was given up.
    pub(super) fn never_ran(&self, message: String) -> Outcome {
        match (&self.lost, self.stop) {
            (None, Some(_)) => Outcome::signalled(libc::SIGKILL),
            _ => failed(message),
        }
    }

    /// Replaces a symptom by its cause.
    pub(super) fn explain(&self, outcome: Outcome, reports: &Reports) -> Outcome {
        if let Some(message) = reports.failure() {
            return self.never_ran(message);
        }
        if let Some(lost) = &self.lost {
            return Outcome { reason: ExitReason::RuntimeLost, message: Some(lost.clone()), ..outcome };
        }
        if self.drained && matches!(outcome.reason, ExitReason::Exit | ExitReason::Signal) {
            return Outcome { reason: ExitReason::Drained, ..outcome };
        }
        if self.stop.is_some() || self.cgroup.oom_kills() == 0 {
            return outcome;
        }
        with_memory_kills(outcome)
    }

    /// Removes everything of the container except its disk, records its end if it was an instance, and then reports it
    /// to all agents.
    pub(super) fn end(mut self, outcome: Outcome) -> anyhow::Result<Remains> {
        self.kill_all();
        // Before the end is recorded: whoever reads the log reads it to its end then.
        self.output.remark(&mark(&outcome));
        self.meter.end();
        self.meter.network(self.network.traffic());
        let metered = self.meter.metered(self.cgroup.cpu_us());
        let results = [self.cgroup.destroy(), self.network.end()];
        while !matches!(waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_))
        {
        }
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            eprintln!("{}: {error}", self.directory.name()?.display());
        }
        let has_record = self.assignment.is_some();
        if has_record {
            let ended = Ended { outcome: outcome.clone(), metered: metered.clone() };
            write_json(&self.directory.path().join("exit.json"), &ended)?;
        }
        self.agents.send(&ShimEvent::Exited { outcome, metered });
        results.into_iter().collect::<io::Result<()>>()?;
        Ok(Remains { _agents: self.agents, directory: self.directory, has_disk: self.has_disk, has_record })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_app_that_was_killed_itself_is_out_of_memory() {
        let reason = |outcome| with_memory_kills(outcome).reason;
        assert_eq!(reason(Outcome::signalled(9)), ExitReason::Oom);
        assert_eq!(reason(Outcome::exited(137)), ExitReason::Oom);
        assert_eq!(reason(Outcome::exited(0)), ExitReason::Exit);
        assert_eq!(reason(Outcome::signalled(11)), ExitReason::Signal);
        let seven = with_memory_kills(Outcome::exited(7));
        assert_eq!((seven.reason, seven.code), (ExitReason::Exit, Some(7)));
        assert!(seven.message.unwrap().contains("memory"));
    }
}
