//! The supervisor: a small single-threaded process that outlives the agent. It owns the delegated cgroup, starts a shim
//! for each container, has the remains of dead shims swept, and freezes containers whose term is over (`warden`).
//!
//! It holds one end of a pipe, the lifeline, whose other end every shim holds: when the supervisor ends, for whatever
//! reason, the shims end their containers. It has no state that could be lost: the shims know what runs.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use berth_common::service::{self, Heartbeat};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::layout::{Layout, ShimName};
use crate::messages::{self, SupervisorAnswer, SupervisorCall};
use crate::process::OWN_PROGRAM;
use crate::warden::{self, Warden};
use crate::{cgroup, helpers, process, sweep, sys, wait};

/// Most connected callers: the agent makes one connection for each call, and a call for each pending start.
const MAX_AGENTS: usize = 256;
/// Most connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// How long the shims may take to end their containers when the supervisor ends: their grace for the apps, and time to
/// clean up.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// The whole environment of shims.
const SHIM_ENV: [&str; 1] = ["PATH=/usr/bin:/bin"];

/// The options of `berth-agent supervisor`.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node's state directory.
    pub state: PathBuf,
    /// The delegated cgroup, relative to the root of each hierarchy; on v2, by default, the one it runs in.
    pub cgroup: Option<PathBuf>,
    /// End when standard input ends.
    pub watch_stdin: bool,
}

/// Runs until SIGTERM or SIGINT ends it. There is nothing to read again on SIGHUP, and a terminal that closes, or a tool that
/// sends it to all daemons, must not end the containers.
pub fn main(options: &Options) -> anyhow::Result<()> {
    process::refuse_root()?;
    let layout = Layout::open(&options.state).with_context(|| format!("open {}", options.state.display()))?;
    let lock = File::create(layout.supervisor_lock())?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
        .map_err(|_| anyhow::anyhow!("another supervisor runs on {}", layout.root().display()))?;
    let signals = watch_signals()?;
    sys::adopt_orphans()?;
    let cgroup = cgroup::claim(options.cgroup.as_deref())?;
    let (lifeline, held) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let socket = layout.supervisor_socket();
    let _ = fs::remove_file(&socket);
    let mut supervisor = Supervisor {
        listener: sys::listen(&socket, BACKLOG).with_context(|| format!("listen on {}", socket.display()))?,
        signals,
        lifeline,
        held: Some(held),
        agents: Vec::new(),
        shims: HashMap::new(),
        sweepers: Vec::new(),
        watch_stdin: options.watch_stdin,
        ending: None,
        heartbeat: Heartbeat::new(),
        warden: Warden::open(&layout).context("open the page of terms")?,
        layout,
        cgroup,
    };
    supervisor.sweep_groups().context("remove cgroups of an earlier supervisor")?;
    supervisor.sweep_leftovers()?;
    tracing::info!(cgroup = %supervisor.cgroup.display(), socket = %socket.display(), "supervisor ready");
    service::ready(&status(0));
    let ended = supervisor.run();
    // An agent's helpers that are still in it work for nobody any more.
    cgroup::ControlGroup::load(&cgroup::of_helpers(&supervisor.cgroup)).destroy()?;
    ended
}

fn watch_signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        mask.add(signal);
    }
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Whether a signal that came ends the supervisor.
fn ends(signal: u32) -> bool {
    [Signal::SIGTERM, Signal::SIGINT].iter().any(|ending| *ending as u32 == signal)
}

struct Supervisor {
    layout: Layout,
    cgroup: PathBuf,
    listener: OwnedFd,
    signals: SignalFd,
    /// The shims' end of the lifeline.
    lifeline: OwnedFd,
    /// The supervisor's end; closing it ends all containers.
    held: Option<OwnedFd>,
    agents: Vec<OwnedFd>,
    /// The shims by pid, each with its directory, which the agent may have renamed.
    shims: HashMap<Pid, OwnedFd>,
    sweepers: Vec<Pid>,
    watch_stdin: bool,
    /// When the supervisor gives up waiting for its shims.
    ending: Option<Instant>,
    heartbeat: Heartbeat,
    warden: Warden,
}

impl Supervisor {
    fn run(&mut self) -> anyhow::Result<()> {
        loop {
            let ready = self.wait()?;
            let shims = self.shims.len();
            self.heartbeat.beat(|| status(shims));
            self.handle_signals()?;
            if ready.terms {
                self.end_terms()?;
            }
            if ready.stdin {
                self.watch_stdin = false;
                self.begin_end();
            }
            self.serve_agents(&ready.agents);
            if ready.listener {
                self.accept_agent()?;
            }
            if let Some(at) = self.ending {
                if self.shims.is_empty() && self.sweepers.is_empty() {
                    return Ok(());
                }
                anyhow::ensure!(Instant::now() < at, "{} shims did not end in time", self.shims.len());
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let stdin = io::stdin();
        let [changes, timer] = self.warden.sources();
        let mut sources = vec![self.signals.as_fd(), self.listener.as_fd(), changes, timer];
        sources.extend(self.agents.iter().map(AsFd::as_fd));
        if self.watch_stdin {
            sources.push(stdin.as_fd());
        }
        let sources: Vec<_> = sources.into_iter().map(Some).collect();
        let deadline = [self.ending, self.heartbeat.next()].into_iter().flatten().min();
        let ready = wait::wait(&sources, deadline)?;
        let agents = 4 + self.agents.len();
        Ok(Ready {
            listener: ready[1],
            terms: ready[2] || ready[3],
            agents: ready[4..agents].to_vec(),
            stdin: ready.get(agents).copied().unwrap_or(false),
        })
    }

    fn end_terms(&mut self) -> io::Result<()> {
        let over = self.warden.over()?;
        if !over.is_empty() {
            warden::freeze(&over, self.shims.values());
        }
        Ok(())
    }

    fn handle_signals(&mut self) -> anyhow::Result<()> {
        while let Some(info) = self.signals.read_signal()? {
            if ends(info.ssi_signo) {
                self.begin_end();
            }
        }
        self.reap()
    }

    fn begin_end(&mut self) {
        if self.held.take().is_some() {
            tracing::info!(containers = self.shims.len(), "ending all containers");
            service::stopping();
            self.ending = Some(Instant::now() + END_TIMEOUT);
        }
    }

    fn reap(&mut self) -> anyhow::Result<()> {
        loop {
            let pid = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(status) => status.pid(),
                Err(error) => return Err(error.into()),
            };
            self.sweepers.retain(|sweeper| Some(*sweeper) != pid);
            let Some(directory) = pid.and_then(|pid| self.shims.remove(&pid)) else { continue };
            self.shim_ended(&fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))?)?;
        }
    }

    /// Has the remains of a shim swept, if needed: normally a shim leaves only the record of its instance's end, or
    /// nothing if it had no instance.
    fn shim_ended(&mut self, directory: &Path) -> anyhow::Result<()> {
        if self.layout.is_trash(directory) {
            // Already forgotten: the agent removes the rest.
            return Ok(());
        }
        // A shim without an instance has only emptied its directory, since it may not remove it.
        if fs::remove_dir(directory).is_ok() || !directory.exists() || directory.join("exit.json").exists() {
            return Ok(());
        }
        tracing::warn!(directory = %directory.display(), "a shim ended without a record of its container's end");
        self.sweep(directory)
    }

    fn accept_agent(&mut self) -> io::Result<()> {
        let Some(agent) = sys::accept(self.listener.as_fd())? else { return Ok(()) };
        if self.agents.len() < MAX_AGENTS && sys::peer_is_same_user(agent.as_fd())? {
            self.agents.push(agent);
        }
        Ok(())
    }

    fn serve_agents(&mut self, ready: &[bool]) {
        for (agent, ready) in std::mem::take(&mut self.agents).into_iter().zip(ready) {
            if !ready || self.serve_agent(agent.as_fd()).is_ok() {
                self.agents.push(agent);
            }
        }
    }

    /// Carries out an agent's call. An error means that the agent is gone.
    fn serve_agent(&mut self, agent: BorrowedFd<'_>) -> io::Result<()> {
        loop {
            let answer = match messages::receive::<SupervisorCall>(agent) {
                Ok(Some((call, _))) => self.carry_out(call),
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => SupervisorAnswer::Failed {
                    message: format!(
                        "this supervisor ({}) does not know the call: {error}",
                        env!("CARGO_PKG_VERSION")
                    ),
                },
                Err(error) => return Err(error),
            };
            messages::send(agent, &answer, &[])?;
        }
    }

    fn carry_out(&mut self, call: SupervisorCall) -> SupervisorAnswer {
        match call {
            SupervisorCall::Ping => SupervisorAnswer::Pong {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                cgroup: self.cgroup.clone(),
                terms: true,
            },
            SupervisorCall::Spawn { .. } if self.ending.is_some() => {
                SupervisorAnswer::Failed { message: "the supervisor is ending".to_owned() }
            }
            SupervisorCall::Spawn { shim } => match self.spawn(shim) {
                Ok(()) => SupervisorAnswer::Spawned,
                Err(error) => SupervisorAnswer::Failed { message: format!("start a shim: {error}") },
            },
        }
    }

    /// Starts a shim; its socket accepts connections from here on.
    fn spawn(&mut self, name: ShimName) -> io::Result<()> {
        let directory = OwnedFd::from(File::open(self.layout.waiting_shim(name))?);
        let socket = PathBuf::from(format!("/proc/self/fd/{}/shim.sock", directory.as_raw_fd()));
        let control = sys::listen(&socket, BACKLOG)?;
        let pid = sys::fork(|| {
            let run = || -> io::Result<()> {
                sys::usual_signals()?;
                // Moved above the fixed numbers, so that none is overwritten before it is placed.
                let [lifeline, control, directory, terms] =
                    [&self.lifeline, &control, &directory, self.warden.shared()].map(sys::duplicate_high);
                sys::place(&lifeline?, 0)?;
                sys::place(&control?, sys::CONTROL_FD)?;
                sys::place(&directory?, sys::DIRECTORY_FD)?;
                sys::place(&terms?, sys::TERMS_FD)?;
                sys::close_on_exec_from(sys::TERMS_FD + 1)?;
                Err(sys::exec(Path::new(OWN_PROGRAM), &["berth-agent", "shim"], &SHIM_ENV))
            };
            run().map_or_else(
                |error| {
                    eprintln!("start a shim: {error}");
                    127
                },
                |()| 0,
            )
        })?;
        self.shims.insert(pid, directory);
        Ok(())
    }

    /// Sweeps the remains of shims of an earlier supervisor, unless they are still ending.
    fn sweep_leftovers(&mut self) -> anyhow::Result<()> {
        for directory in self.layout.shims()? {
            let ended = directory.join("exit.json").exists();
            if !ended && messages::connect_shim(&directory).is_err() {
                self.sweep(&directory)?;
            }
        }
        Ok(())
    }

    /// Empties and removes groups that belong to no directory, left by a crash.
    fn sweep_groups(&self) -> io::Result<()> {
        let shims = self.layout.shims()?;
        let known: HashSet<PathBuf> = shims.iter().flat_map(|shim| sweep::groups(shim)).collect();
        for group in cgroup::groups_of_shims(&self.cgroup) {
            if !known.contains(&group) {
                tracing::warn!(group = %group.display(), "removing a cgroup without a shim");
                cgroup::ControlGroup::load(&group).destroy()?;
            }
        }
        Ok(())
    }

    /// Sweeps in a separate process, because it must enter a user namespace.
    fn sweep(&mut self, directory: &Path) -> anyhow::Result<()> {
        let cgroup = &self.cgroup;
        let pid = sys::fork(|| match helpers::enter(cgroup).and_then(|()| sweep::sweep(directory)) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("sweep {}: {error}", directory.display());
                1
            }
        })?;
        self.sweepers.push(pid);
        Ok(())
    }
}

fn status(shims: usize) -> String {
    format!("looks after {shims} containers, those that wait for an instance included")
}

struct Ready {
    listener: bool,
    terms: bool,
    agents: Vec<bool>,
    stdin: bool,
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn a_hangup_ends_nothing() {
        // Signals are blocked for this thread alone, and raised for it alone: each of the others would end the tests.
        let watched = || {
            let signals = watch_signals().unwrap();
            let mut came = |signal: Signal| {
                raise(signal).unwrap();
                ends(signals.read_signal().unwrap().unwrap().ssi_signo)
            };
            [Signal::SIGHUP, Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT].map(&mut came)
        };
        let ended = std::thread::spawn(watched).join().unwrap();
        assert_eq!(ended, [false, false, true, true]);
    }
}
