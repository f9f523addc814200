//! A shim's container, from its making to its end.
//!
//! ```text
//!        builder: created         agent: run            builder's pipe closed       first process ended
//! Making ───────────────▶ Created (held) ─────▶ Created ────────────────────▶ Running ─────────────▶ Ended
//!   │ builder: failed        │ no agent left       │ builder or exec: failed        │ stop: signal, then
//!   └────────────────────────┴─────────────────────┴──────────▶ Ended ◀────────────┘ SIGKILL after the grace
//! Ended: empty the cgroup ─▶ drain the output ─▶ remove the cgroup ─▶ end the network ─▶ exit.json ─▶ report to agents
//!        ─▶ wipe the disk ─▶ exit
//! ```
//!
//! A container without an instance leaves no record. If `Run` comes before the container is made, it is not held.
//!
//! What fails, and what happens then:
//! * The builder or exec fails: the container ends as `StartFailed` with the builder's message.
//! * The agent dies: an instance's container runs on and serves the next agent; a prepared one ends.
//! * The instance's term is over: the container is frozen, until its edge has it resumed (`term`).
//! * The supervisor dies: the lifeline closes; the app gets SIGTERM, and SIGKILL after `ORPHAN_GRACE`.
//! * pasta dies, or a new address of the host cannot be blocked: the container is ended.
//! * The log cannot be written, as on a full disk: lines are lost, the app runs on.
//! * This process is killed: the supervisor has the container's processes, cgroup and disk swept.

mod ending;
mod term;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use berth_common::outcome::Outcome;
use berth_common::wire::call::Usage;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, pipe2};

use self::ending::{empty, failed};
use self::term::Guard;
use super::agents::{AgentId, Agents};
use super::directory::Directory;
use super::order::Order;
use super::output::Output;
use super::reports::Reports;
use crate::builder::{self, Pipes};
use crate::cgroup::{ControlGroup, INSTANCE_PIDS, Limits};
use crate::disk::{self, Disk};
use crate::landlock::{self, Files};
use crate::messages::{Assignment, ContainerConfig, ShimCall, ShimEvent};
use crate::metering::Meter;
use crate::network::Network;
use crate::terms::Terms;
use crate::wait::wait;
use crate::{counters, helpers, process, sys};

/// Grace of the app when the supervisor or its network has ended: bounds how long leaving `berth dev` takes.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);

/// Permissions of the pipes of the app's output: whoever has one open may open it again to write.
const OUTPUT_MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR).union(Mode::S_IWGRP).union(Mode::S_IWOTH);

/// What a shim has by the time that it gets a container.
pub(super) struct Setting {
    pub(super) directory: Directory,
    pub(super) signals: SignalFd,
    pub(super) agents: Agents,
    pub(super) network: Network,
    pub(super) terms: Terms,
}

/// Makes a container in the network of the calling process, and serves it to its end.
pub(super) fn run(
    Setting { directory, signals, mut agents, network, terms }: Setting,
    Order { config, assignment, after }: Order,
) -> anyhow::Result<()> {
    agents.clear_greeting();
    let mut shim = Shim {
        output: Output::new(),
        cgroup: ControlGroup::load(&config.cgroup),
        directory,
        signals,
        agents,
        network,
        terms: Some(terms),
        guard: None,
        assignment: None,
        state: State::Making,
        start_pipe: None,
        has_disk: false,
        boost: None,
        stop: None,
        drained: false,
        pending_signal: None,
        end_signal: config.stop_signal.unwrap_or(libc::SIGTERM),
        status: None,
        carried_out: None,
        lost: None,
        meter: Meter::default(),
    };
    let assigned = assignment.map_or(Ok(()), |own| shim.assign(own));
    let outcome = match assigned.and_then(|()| shim.make(&config)) {
        Ok(made) => shim.keep_to_own_files(&config).and_then(|()| shim.run(made, after, &config)),
        Err(error) => Ok(failed(error.to_string())),
    };
    let remains = shim.end(outcome.unwrap_or_else(|e| failed(format!("the shim failed: {e}"))))?;
    let directory = remains.directory.path();
    // After the report, so that nothing waits for it: the agent does not reuse a disk that is not empty. Only a disk
    // that this shim has made is wiped: another may belong to another shim.
    if remains.has_disk {
        enter_helpers(&config.cgroup);
        disk::wipe(&config.disk, &directory)?;
    }
    if remains.has_record { Ok(()) } else { Ok(empty(&directory)?) }
}

/// What an app has written may take long to delete: no more CPU is spent on it than helpers have.
fn enter_helpers(container: &Path) {
    if let Some(Err(error)) = container.parent().map(helpers::enter) {
        // A supervisor of an earlier version has made no group.
        eprintln!("wipe a disk outside the group of helpers: {error}");
    }
}

/// World-writable, because the container's root is a user that this process cannot name; the parent directory keeps all
/// others out.
fn make_disk(disk: &Disk, shim: &Path) -> io::Result<()> {
    let Some(path) = disk.path(shim) else { return Ok(()) };
    let said = |e: io::Error| {
        io::Error::other(format!("cannot make the disk: {e} (see `berth-agent check` on the node)"))
    };
    fs::create_dir(&path).map_err(said)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).map_err(said)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Making,
    Created { init: Pid },
    Running { init: Pid },
}

/// The result of `make`, for `run`.
struct Made {
    builder: Pid,
    reports: Reports,
}

struct Shim {
    directory: Directory,
    signals: SignalFd,
    agents: Agents,
    network: Network,
    /// The page of terms, until the container has an instance.
    terms: Option<Terms>,
    /// Watches the instance's term.
    guard: Option<Guard>,
    cgroup: ControlGroup,
    output: Output,
    /// The instance of the container, once assigned.
    assignment: Option<Assignment>,
    state: State,
    /// The pipe for the assignment, until it is sent.
    start_pipe: Option<File>,
    /// Whether this shim has made the disk.
    has_disk: bool,
    /// When the start boost ends.
    boost: Option<Instant>,
    /// When SIGKILL follows.
    stop: Option<Instant>,
    /// Whether the node's drain ordered the end.
    drained: bool,
    /// A signal that was requested before the app ran.
    pending_signal: Option<i32>,
    /// The signal that asks the app to end.
    end_signal: i32,
    /// Where the init, if there is one, tells how the app ended.
    status: Option<File>,
    /// A signal that the kernel keeps from a first process, and that was carried out in its place.
    carried_out: Option<i32>,
    /// The process that the container needed and that has ended.
    lost: Option<String>,
    /// Measures its usage as an instance.
    meter: Meter,
}

impl Shim {
    fn make(&mut self, config: &ContainerConfig) -> io::Result<Made> {
        let limits = Limits { memory_bytes: config.memory_bytes, pids: INSTANCE_PIDS };
        self.cgroup = ControlGroup::create(&config.cgroup, &limits)?;
        // It is not moved before the container is made, and paths through /proc/self/fd do not work in another mount
        // namespace.
        let directory = self.directory.name()?;
        make_disk(&config.disk, &directory)?;
        self.has_disk = true;
        self.cgroup.open_to_container(true)?;
        let (reports, report) = pipe2(OFlag::O_CLOEXEC)?;
        let (go_read, go) = pipe2(OFlag::O_CLOEXEC)?;
        let (stdout, stdout_write) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, stderr_write) = pipe2(OFlag::O_CLOEXEC)?;
        for pipe in [&stdout_write, &stderr_write] {
            // They belong to a user that does not exist inside: without it `/dev/stdout` could not be opened by name. Reading
            // the log's lines away stays impossible.
            nix::sys::stat::fchmod(pipe, OUTPUT_MODE)?;
        }
        let (status, status_write) =
            config.init.then(|| pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)).transpose()?.unzip();
        let mut pipes = Some(Pipes {
            reports: File::from(report),
            go: File::from(go_read),
            stdout: stdout_write,
            stderr: stderr_write,
            status: status_write,
        });
        let agents = self.agents.sources().into_iter().flatten().map(|fd| fd.as_raw_fd());
        let own: Vec<_> = agents.chain([reports.as_raw_fd(), go.as_raw_fd()]).collect();
        let builder = sys::fork(|| {
            // Closes the shim's ends: with copies here, agents and the app's process would not notice that the shim is
            // gone.
            for fd in &own {
                let _ = nix::unistd::close(*fd);
            }
            let Ok(()) = sys::usual_signals().and_then(|()| process::end_first()) else { return 1 };
            let location = builder::Location { directory: &directory, cgroup: &self.cgroup };
            pipes.take().map_or(1, |pipes| builder::run(config, &location, pipes))
        })?;
        drop(pipes);
        for fd in [&reports, &stdout, &stderr] {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        self.output.attach(stdout, stderr);
        self.start_pipe = Some(File::from(go));
        self.status = status.map(File::from);
        Ok(Made { builder, reports: Reports::new(File::from(reports)) })
    }

    /// Applies Landlock to the shim, once the builder, which must mount, is forked.
    fn keep_to_own_files(&self, config: &ContainerConfig) -> io::Result<()> {
        let directory = self.directory.path();
        let disk = config.disk.path(&directory);
        let slot = disk.as_deref().and_then(Path::parent).unwrap_or(&directory);
        let kernel = ["/proc", "/sys/fs/cgroup", "/dev/null"].map(Path::new);
        let own: Vec<&Path> = [&directory, config.logs.as_path(), slot].into_iter().chain(kernel).collect();
        // For executing nft.
        let read = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"].map(Path::new);
        let kept = landlock::keep_to(&Files { own: &own, read: &read });
        kept.map(drop).map_err(|e| io::Error::other(format!("keep the shim to its files: {e}")))
    }

    /// Serves until the container has ended, and returns its outcome.
    fn run(
        &mut self,
        made: Made,
        calls: Vec<(AgentId, ShimCall)>,
        config: &ContainerConfig,
    ) -> io::Result<Outcome> {
        let Made { builder, mut reports } = made;
        for (agent, call) in calls {
            self.carry_out(agent, call, config)?;
        }
        loop {
            let ready = self.wait(&reports)?;
            if ready.lifeline {
                self.lose("the node's supervisor ended");
            }
            self.output.read(&ready.output);
            if ready.term {
                self.check_term()?;
            }
            if ready.network {
                self.follow_host();
            }
            if ready.reports && reports.read()? {
                if let Some(outcome) = self.reports_closed(&reports) {
                    return Ok(outcome);
                }
            } else if let (State::Making, Some(pid)) = (self.state, reports.created()) {
                self.created(pid, config)?;
            }
            for (agent, call) in self.agents.serve(&ready.agents) {
                self.carry_out(agent, call, config)?;
            }
            if self.assignment.is_none() && self.agents.is_empty() {
                self.give_up("the agent that had it made is gone");
            }
            self.enforce_stop();
            self.enforce_cpu(config)?;
            if let Some(outcome) = self.reap(builder)? {
                reports.read()?;
                self.note_end(&outcome, &reports);
                self.cgroup.kill();
                self.output.drain();
                return Ok(self.explain(outcome, &reports));
            }
        }
    }

    /// The builder has created the container.
    fn created(&mut self, pid: Pid, config: &ContainerConfig) -> io::Result<()> {
        self.state = State::Created { init: pid };
        self.cgroup.open_to_container(false)?;
        counters::bound(config.protection)?;
        if self.assignment.is_none() {
            self.agents.send(&ShimEvent::Held);
        }
        self.begin(config)
    }

    /// Assigns the container to an instance.
    fn assign(&mut self, assignment: Assignment) -> io::Result<()> {
        self.output.write_to(&assignment.log, &assignment.logs.bounded())?;
        if let Some((slot, terms)) = assignment.term_slot.zip(self.terms.take()) {
            self.guard = Some(Guard::new(terms, slot)?);
        }
        self.assignment = Some(assignment);
        self.check_term()
    }

    /// Starts the app, once the container is made and assigned. From here on its CPU limit is enforced.
    fn begin(&mut self, config: &ContainerConfig) -> io::Result<()> {
        let (State::Created { .. }, Some(assignment)) = (self.state, &self.assignment) else { return Ok(()) };
        let Some(mut start_pipe) = self.start_pipe.take() else { return Ok(()) };
        let boosted = config.start_boost.map_or(0, |boost| boost.cpu_sixteenths);
        self.cgroup.limit_cpu(config.cpu_sixteenths.max(boosted))?;
        self.boost = config.start_boost.and_then(|boost| Instant::now().checked_add(boost.at_most));
        // Before the app can write anything.
        self.output.remark("[container starts]");
        start_pipe.write_all(&builder::encode_assignment(assignment)?)
    }

    /// The builder and the app's process have closed the report pipe: the app runs, or one of them failed.
    fn reports_closed(&mut self, reports: &Reports) -> Option<Outcome> {
        if let Some(message) = reports.failure() {
            self.kill_all();
            return Some(self.never_ran(message));
        }
        if let State::Created { init } = self.state {
            self.state = State::Running { init };
            self.note_start();
            self.agents.greet(ShimEvent::Started);
            if let Some(signal) = self.pending_signal.take() {
                self.signal(signal);
            }
        }
        None
    }

    fn wait(&self, reports: &Reports) -> io::Result<Ready> {
        let stdin = io::stdin();
        let mut sources = vec![
            self.lost.is_none().then(|| stdin.as_fd()),
            Some(self.signals.as_fd()),
            self.network.changes(),
            reports.source(),
            self.guard.as_ref().map(Guard::source),
        ];
        sources.extend(self.output.sources());
        sources.extend(self.agents.sources());
        let deadline = [self.stop, self.boost, self.output.pause_end()].into_iter().flatten().min();
        let ready = wait(&sources, deadline)?;
        Ok(Ready {
            lifeline: ready[0],
            network: ready[2],
            reports: ready[3],
            term: ready[4],
            output: [ready[5], ready[6]],
            agents: ready[7..].to_vec(),
        })
    }

    /// Ends the container, because something that it needs has ended.
    fn lose(&mut self, what: &str) {
        if self.lost.is_none() {
            self.lost = Some(what.to_owned());
            let has_app = matches!(self.state, State::Running { .. });
            self.stop(self.end_signal, if has_app { ORPHAN_GRACE } else { Duration::ZERO });
        }
    }

    /// Blocks new addresses of the host. If that fails, the container is ended.
    fn follow_host(&mut self) {
        if let Err(error) = self.network.follow_host() {
            self.give_up(&format!("the host's new addresses could not be closed to the instance: {error}"));
        }
    }

    /// Ends the container at once.
    fn give_up(&mut self, why: &str) {
        self.lost = Some(why.to_owned());
        self.stop(Signal::SIGKILL as i32, Duration::ZERO);
    }

    /// Carries out an agent's call.
    fn carry_out(&mut self, agent: AgentId, call: ShimCall, config: &ContainerConfig) -> io::Result<()> {
        match call {
            ShimCall::Run if self.assignment.is_none() => {
                let assignment = self.directory.take("run.json")?;
                self.assign(assignment)?;
                return self.begin(config);
            }
            ShimCall::Run | ShimCall::Create => self.agents.refuse(agent, "a container is there already"),
            ShimCall::Socket => self.give_socket(agent),
            ShimCall::Stop { signal, grace_ms, drained } => {
                self.drained |= drained;
                let signal = if signal == libc::SIGTERM { self.end_signal } else { signal };
                self.stop(signal, Duration::from_millis(grace_ms));
            }
            ShimCall::Signal { signal } => self.signal(signal),
            ShimCall::Resume { until_ms } => return self.resume(until_ms),
            ShimCall::Usage => {
                let usage = ShimEvent::Usage(self.usage(config));
                self.agents.answer(agent, &usage, &[]);
            }
            ShimCall::Ready => return self.end_boost(config),
        }
        Ok(())
    }

    fn give_socket(&mut self, agent: AgentId) {
        match sys::tcp_socket() {
            Ok(socket) => self.agents.answer(agent, &ShimEvent::Socket, &[socket.as_fd()]),
            Err(error) => self.agents.refuse(agent, &format!("make a socket in the instance: {error}")),
        }
    }

    fn usage(&mut self, config: &ContainerConfig) -> Usage {
        let (received_bytes, sent_bytes) = self.meter.network(self.network.traffic());
        let life = self.meter.life();
        Usage {
            cpu_us: self.meter.cpu_us(self.cgroup.cpu_us()),
            memory_bytes: self.cgroup.memory_bytes(),
            disk_bytes: disk::used_bytes(&config.disk),
            received_bytes,
            sent_bytes,
            started_ms: life.map(|(started_ms, _)| started_ms),
            lived_cs: life.map(|(_, lived_cs)| lived_cs),
        }
    }

    fn enforce_cpu(&mut self, config: &ContainerConfig) -> io::Result<()> {
        if self.boost.is_some_and(|at| at <= Instant::now()) { self.end_boost(config) } else { Ok(()) }
    }

    fn end_boost(&mut self, config: &ContainerConfig) -> io::Result<()> {
        match self.boost.take() {
            Some(_) => self.cgroup.limit_cpu(config.cpu_sixteenths),
            None => Ok(()),
        }
    }
}

/// The result of a wait.
struct Ready {
    lifeline: bool,
    network: bool,
    reports: bool,
    term: bool,
    output: [bool; 2],
    agents: Vec<bool>,
}
