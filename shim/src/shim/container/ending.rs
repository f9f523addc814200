//! How a container ends: signals, the kill, what the end of each process says, and what is left.

use std::fs;
use std::io;
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
use crate::state_files::wipe;
use crate::state_files::write_json;

/// Pause before everything is killed once more, should a process have been forked away meanwhile.
const KILL_AGAIN: Duration = Duration::from_millis(500);

/// What a shim's directory holds at its end.
pub(super) struct Remains {
    /// Their connections end with the shim, and tell them that the disk is wiped.
    _agents: Agents,
    pub(super) directory: Directory,
    pub(super) has_disk: bool,
    pub(super) has_record: bool,
}

/// Leaves the directory itself, which lies in one that this process may not change any more, to the supervisor.
pub(super) fn empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { wipe(&entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

pub(super) fn failed(message: String) -> Outcome {
    Outcome::because(ExitReason::StartFailed, message)
}

impl Shim {
    pub(super) fn stop(&mut self, signal: i32, grace: Duration) {
        // The end of time is as good as a grace that overflows it.
        let at = Instant::now().checked_add(grace);
        self.stop = match (self.stop, at) {
            (Some(earlier), Some(at)) => Some(earlier.min(at)),
            (earlier, at) => at.or(earlier),
        };
        self.signal(signal);
    }

    pub(super) fn signal(&mut self, signal: i32) {
        match (self.state, Signal::try_from(signal)) {
            (_, Ok(Signal::SIGKILL)) => self.stop = Some(Instant::now()),
            (State::Running { init }, Ok(signal)) => drop(kill(init, signal)),
            (State::Making | State::Created { .. }, Ok(_)) => self.asked = Some(signal),
            (_, Err(_)) => {}
        }
    }

    pub(super) fn enforce_stop(&mut self) {
        if self.stop.is_some_and(|at| at <= Instant::now()) {
            self.kill_all();
            self.stop = Some(Instant::now() + KILL_AGAIN);
        }
    }

    pub(super) fn kill_all(&mut self) {
        // A builder that waits for this word gives up without it, and leaves the container's first process to the shim.
        self.go = None;
        if let State::Created { init } | State::Running { init } = self.state {
            // Its pid namespace dies with it, and so do all processes in it.
            let _ = kill(init, Signal::SIGKILL);
        }
        self.cgroup.kill();
    }

    /// Reaps whatever has ended; tells how the app did once it has.
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

    /// What the end of a process says of the container.
    fn ended(&self, status: WaitStatus, builder: Pid) -> Option<Outcome> {
        let init = match self.state {
            State::Created { init } | State::Running { init } => Some(init),
            State::Making => None,
        };
        match status {
            WaitStatus::Exited(pid, code) if Some(pid) == init => Some(Outcome::exited(code)),
            WaitStatus::Signaled(pid, signal, _) if Some(pid) == init => {
                Some(Outcome::signalled(signal as i32))
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

    /// The app runs, and its life is measured from here on.
    pub(super) fn note_start(&mut self) {
        let cpu_us = self.cgroup.cpu_us();
        if let Err(error) = self.meter.start(&self.directory.path(), cpu_us) {
            // As long as this process lives, it knows.
            eprintln!("note the start of an instance: {error}");
        }
    }

    /// Its first process is gone.
    pub(super) fn note_end(&mut self, outcome: &Outcome, reports: &Reports) {
        let was_let_go = self.assignment.is_some() && self.go.is_none() && outcome.code.is_some();
        // It ran and ended before this process came to see that it ran.
        if matches!(self.state, State::Created { .. }) && was_let_go && reports.failure().is_none() {
            self.note_start();
        }
        self.meter.end();
    }

    /// Puts the real reason in place of a symptom.
    pub(super) fn explain(&self, outcome: Outcome, reports: &Reports) -> Outcome {
        if let Some(message) = reports.failure() {
            return failed(message);
        }
        if let Some(lost) = &self.lost {
            return Outcome { reason: ExitReason::RuntimeLost, message: Some(lost.clone()), ..outcome };
        }
        if self.drained && matches!(outcome.reason, ExitReason::Exit | ExitReason::Signal) {
            return Outcome { reason: ExitReason::Drained, ..outcome };
        }
        let killed =
            outcome.signal == Some(Signal::SIGKILL as i32) || outcome.code.is_some_and(|code| code != 0);
        if killed && self.cgroup.oom_kills() > 0 && self.stop.is_none() {
            return Outcome { reason: ExitReason::Oom, ..outcome };
        }
        outcome
    }

    /// Leaves nothing of the container but its disk, and the record of its end if it was an instance's; then tells
    /// whoever listens.
    pub(super) fn end(mut self, outcome: Outcome) -> anyhow::Result<Remains> {
        self.kill_all();
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
        self.agents.tell(&ShimEvent::Exited { outcome, metered });
        results.into_iter().collect::<io::Result<()>>()?;
        Ok(Remains { _agents: self.agents, directory: self.directory, has_disk: self.has_disk, has_record })
    }
}
