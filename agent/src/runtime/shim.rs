//! The shim: one small single-threaded process for each container, from before it exists until nothing of it is left.
//!
//! ```text
//!            config read         builder: created        builder's pipe closed       first process ended
//! (spawned) ────────────▶ Making ───────────────▶ Created ────────────────────▶ Running ─────────────▶ Ended
//!                           │ builder: failed        │ builder or exec: failed        │ stop: signal, then
//!                           └────────────────────────┴───────────▶ Ended ◀────────────┘ SIGKILL after the grace
//! Ended: empty the cgroup ─▶ drain the output ─▶ wipe the disk ─▶ remove the cgroup ─▶ exit.json ─▶ tell agents ─▶ exit
//! ```
//!
//! Its uid on the host stays the agent's, so that it can write the log and the record of the end; it has every
//! capability over the container's namespaces, and the container's users have none over it.
//! Loses its supervisor: ends the container. Loses its agent: carries on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_common::outcome::{ExitReason, Outcome};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};

use super::builder::{self, Pipes, Report};
use super::cgroup::InstanceCgroup;
use super::layout::write_json;
use super::log::{Lines, Log, Stream};
use super::messages::{self, ShimCall, ShimConfig, ShimEvent};
use super::{namespaces, sys};

/// Agents that may be connected at once: one, and for a moment its successor.
const MAX_AGENTS: usize = 4;
/// Bytes of output read at once.
const OUTPUT_CHUNK_BYTES: usize = 64 * 1024;
/// How long output is still read after the end, should a descriptor of it have escaped.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the app has to end when the supervisor has: as long as leaving `berth dev` may take.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);
/// Longest report of the builder, in bytes; longer ones are cut.
const MAX_REPORT_BYTES: usize = 8 * 1024;

/// Entry of the hidden `shim` mode: standard input is the supervisor's lifeline, descriptor 3 the listening control
/// socket, descriptor 4 the instance's directory.
pub fn main() -> anyhow::Result<()> {
    let listener = sys::inherited(sys::CONTROL_FD)?;
    let directory = sys::inherited(sys::DIRECTORY_FD)?;
    sys::close_on_exec_from(3)?;
    let directory = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    let signals = watch_children()?;
    sys::adopt_orphans()?;
    // Wherever the supervisor was started: no directory is kept in use, and libcontainer wants one that exists.
    std::env::set_current_dir("/")?;
    let config = take_config(&directory)?;
    let cgroup = InstanceCgroup::load(&config.cgroup);
    let mut shim = Shim {
        log: Log::create(&config.log, config.log_bytes)?,
        stdout: Lines::new(Stream::Stdout),
        stderr: Lines::new(Stream::Stderr),
        directory,
        listener,
        signals,
        agents: Vec::new(),
        cgroup,
        state: State::Making,
        stop: None,
        asked: None,
        orphaned: false,
    };
    let outcome = match shim.make(&config) {
        Ok(made) => shim.run(made, config.cpu_sixteenths),
        Err(error) => Ok(failed(error.to_string())),
    };
    shim.end(outcome.unwrap_or_else(|e| failed(format!("the shim failed: {e}"))))
}

fn failed(message: String) -> Outcome {
    Outcome::because(ExitReason::StartFailed, message)
}

fn take_config(directory: &Path) -> io::Result<ShimConfig> {
    let path = directory.join("shim.json");
    let config = super::layout::read_json(&path)?;
    fs::remove_file(&path)?;
    config.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "shim.json is missing"))
}

fn watch_children() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    // Only the supervisor's lifeline and the agent's calls end a shim in good order.
    for ignored in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
        mask.add(ignored);
    }
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    Ok(SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Making,
    Created { init: Pid },
    Running { init: Pid },
}

/// What `make` leaves to `run`.
struct Made {
    builder: Pid,
    reports: File,
    go: File,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

struct Shim {
    directory: PathBuf,
    listener: OwnedFd,
    signals: SignalFd,
    agents: Vec<OwnedFd>,
    cgroup: InstanceCgroup,
    log: Log,
    stdout: Lines,
    stderr: Lines,
    state: State,
    /// When SIGKILL follows.
    stop: Option<Instant>,
    /// A signal that was asked for before the app ran.
    asked: Option<i32>,
    /// The supervisor is gone.
    orphaned: bool,
}

impl Shim {
    fn make(&mut self, config: &ShimConfig) -> io::Result<Made> {
        self.cgroup = InstanceCgroup::create(&config.cgroup, config.memory_bytes)?;
        let disk = self.directory.join("disk");
        fs::create_dir(&disk)?;
        // Only the container's root writes here, which is no user that this process could name; nobody else can come
        // by the directory above.
        fs::set_permissions(&disk, fs::Permissions::from_mode(0o777))?;
        namespaces::enter_user_namespace(config.uids, config.gids)?;
        namespaces::enter_network_namespace()?;
        self.cgroup.open_to_container(true)?;
        let (reports, report) = pipe2(OFlag::O_CLOEXEC)?;
        let (go_read, go) = pipe2(OFlag::O_CLOEXEC)?;
        let (stdout, stdout_write) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, stderr_write) = pipe2(OFlag::O_CLOEXEC)?;
        let mut pipes = Some(Pipes {
            reports: File::from(report),
            go: File::from(go_read),
            stdout: stdout_write,
            stderr: stderr_write,
        });
        let held = [reports.as_raw_fd(), go.as_raw_fd()];
        let builder = sys::fork(|| {
            // The parent's ends: a copy here would hide from the app's process that the shim is gone.
            for fd in held {
                let _ = nix::unistd::close(fd);
            }
            let _ = SigSet::all().thread_unblock();
            pipes.take().map_or(1, |pipes| builder::run(config, &self.cgroup, &disk, pipes))
        })?;
        drop(pipes);
        for fd in [&reports, &stdout, &stderr] {
            nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Made { builder, reports: File::from(reports), go: File::from(go), stdout, stderr })
    }

    /// Serves until the container has ended, and tells how it did.
    fn run(&mut self, made: Made, cpu_sixteenths: u32) -> io::Result<Outcome> {
        let Made { builder, reports, go, stdout, stderr } = made;
        let (mut reports, mut go) = (Some(reports), Some(go));
        let (mut out, mut err) = (Some(stdout), Some(stderr));
        let mut report = Vec::new();
        loop {
            let ready = self.wait(&reports, &out, &err)?;
            if ready.lifeline {
                self.orphaned = true;
                self.stop(Signal::SIGTERM as i32, ORPHAN_GRACE);
            }
            self.read_output(&mut out, ready.stdout, Stream::Stdout);
            self.read_output(&mut err, ready.stderr, Stream::Stderr);
            if ready.reports && read_all(&mut reports, &mut report)? {
                if let Some(outcome) = self.reports_closed(&report) {
                    return Ok(outcome);
                }
            } else if let (State::Making, Some(pid)) = (self.state, created(&report)) {
                self.created(pid, cpu_sixteenths, &mut go)?;
            }
            self.serve_agents(ready.listener, &ready.agents)?;
            self.enforce_stop();
            if let Some(outcome) = self.reap(builder)? {
                read_all(&mut reports, &mut report)?;
                self.drain(&mut out, &mut err);
                return Ok(self.explain(outcome, &report));
            }
        }
    }

    /// The container waits to be started: from here on its CPU limit holds.
    fn created(&mut self, pid: Pid, cpu_sixteenths: u32, go: &mut Option<File>) -> io::Result<()> {
        self.state = State::Created { init: pid };
        self.cgroup.open_to_container(false)?;
        self.cgroup.limit_cpu(cpu_sixteenths)?;
        match go.take() {
            Some(mut go) => go.write_all(&[1]),
            None => Ok(()),
        }
    }

    /// The builder and the app's process have let go of the report pipe: the app runs, or one of them failed.
    fn reports_closed(&mut self, report: &[u8]) -> Option<Outcome> {
        if let Some(message) = failure(report) {
            self.kill_all();
            return Some(failed(message));
        }
        if let State::Created { init } = self.state {
            self.state = State::Running { init };
            self.tell(&ShimEvent::Started);
            if let Some(signal) = self.asked.take() {
                self.signal(signal);
            }
        }
        None
    }

    fn wait(
        &self,
        reports: &Option<File>,
        out: &Option<OwnedFd>,
        err: &Option<OwnedFd>,
    ) -> io::Result<Ready> {
        let stdin = io::stdin();
        let mut sources: Vec<Option<BorrowedFd<'_>>> = vec![
            (!self.orphaned).then(|| stdin.as_fd()),
            Some(self.signals.as_fd()),
            Some(self.listener.as_fd()),
            reports.as_ref().map(File::as_fd),
            out.as_ref().map(OwnedFd::as_fd),
            err.as_ref().map(OwnedFd::as_fd),
        ];
        sources.extend(self.agents.iter().map(|agent| Some(agent.as_fd())));
        let mut polled: Vec<PollFd<'_>> =
            sources.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, self.patience()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut results = polled.iter().map(|p| p.revents().is_some_and(|r| !r.is_empty()));
        let ready: Vec<bool> =
            sources.iter().map(|s| s.is_some() && results.next().unwrap_or(false)).collect();
        Ok(Ready {
            lifeline: ready[0],
            listener: ready[2],
            reports: ready[3],
            stdout: ready[4],
            stderr: ready[5],
            agents: ready[6..].to_vec(),
        })
    }

    fn patience(&self) -> PollTimeout {
        let Some(at) = self.stop else { return PollTimeout::NONE };
        let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    }

    fn serve_agents(&mut self, incoming: bool, ready: &[bool]) -> io::Result<()> {
        for (agent, ready) in std::mem::take(&mut self.agents).into_iter().zip(ready) {
            if !ready || self.serve_agent(&agent).is_ok() {
                self.agents.push(agent);
            }
        }
        if incoming {
            self.accept_agent()?;
        }
        Ok(())
    }

    fn accept_agent(&mut self) -> io::Result<()> {
        let Some(agent) = sys::accept(self.listener.as_fd())? else { return Ok(()) };
        if self.agents.len() >= MAX_AGENTS || !sys::peer_is_same_user(agent.as_fd())? {
            return Ok(());
        }
        if matches!(self.state, State::Running { .. })
            && messages::send(agent.as_fd(), &ShimEvent::Started, &[]).is_err()
        {
            return Ok(());
        }
        self.agents.push(agent);
        Ok(())
    }

    /// Carries out what an agent asks. An error means that it is gone.
    fn serve_agent(&mut self, agent: &OwnedFd) -> io::Result<()> {
        loop {
            let call = match messages::receive::<ShimCall>(agent.as_fd()) {
                Ok(Some((call, _))) => call,
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let message = format!("the shim does not know this call: {error}");
                    messages::send(agent.as_fd(), &ShimEvent::Failed { message }, &[])?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match call {
                ShimCall::Socket => give_socket(agent)?,
                ShimCall::Stop { signal, grace_ms } => self.stop(signal, Duration::from_millis(grace_ms)),
            }
        }
    }

    fn stop(&mut self, signal: i32, grace: Duration) {
        // The end of time is as good as a grace that overflows it.
        let at = Instant::now().checked_add(grace);
        self.stop = match (self.stop, at) {
            (Some(earlier), Some(at)) => Some(earlier.min(at)),
            (earlier, at) => at.or(earlier),
        };
        self.signal(signal);
    }

    fn signal(&mut self, signal: i32) {
        match (self.state, Signal::try_from(signal)) {
            (_, Ok(Signal::SIGKILL)) => self.stop = Some(Instant::now()),
            (State::Running { init }, Ok(signal)) => drop(kill(init, signal)),
            (State::Making | State::Created { .. }, Ok(_)) => self.asked = Some(signal),
            (_, Err(_)) => {}
        }
    }

    fn enforce_stop(&mut self) {
        if self.stop.is_some_and(|at| at <= Instant::now()) {
            self.kill_all();
            // Once more, should a process have been forked away meanwhile.
            self.stop = Some(Instant::now() + DRAIN_TIMEOUT);
        }
    }

    fn kill_all(&self) {
        if let State::Created { init } | State::Running { init } = self.state {
            // Its pid namespace dies with it, and so do all processes in it.
            let _ = kill(init, Signal::SIGKILL);
        }
        self.cgroup.kill();
    }

    /// Reaps whatever has ended; tells how the app did once it has.
    fn reap(&mut self, builder: Pid) -> io::Result<Option<Outcome>> {
        while self.signals.read_signal()?.is_some() {}
        let mut outcome = None;
        loop {
            let status = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(outcome),
                Ok(status) => status,
                Err(error) => return Err(error.into()),
            };
            let init = match self.state {
                State::Created { init } | State::Running { init } => Some(init),
                State::Making => None,
            };
            outcome = match status {
                WaitStatus::Exited(pid, code) if Some(pid) == init => Some(Outcome::exited(code)),
                WaitStatus::Signaled(pid, signal, _) if Some(pid) == init => {
                    Some(Outcome::signalled(signal as i32))
                }
                WaitStatus::Exited(pid, code) if pid == builder && code != 0 => {
                    outcome.or_else(|| Some(failed("the container could not be made".to_owned())))
                }
                WaitStatus::Signaled(pid, signal, _) if pid == builder => {
                    outcome.or_else(|| Some(failed(format!("the builder was ended by {signal}"))))
                }
                _ => outcome,
            };
        }
    }

    /// Puts the real reason in place of a symptom.
    fn explain(&self, outcome: Outcome, report: &[u8]) -> Outcome {
        if let Some(message) = failure(report) {
            return failed(message);
        }
        if self.orphaned {
            let message = Some("the node's supervisor ended".to_owned());
            return Outcome { reason: ExitReason::RuntimeLost, message, ..outcome };
        }
        let killed =
            outcome.signal == Some(Signal::SIGKILL as i32) || outcome.code.is_some_and(|code| code != 0);
        if killed && self.cgroup.oom_kills() > 0 && self.stop.is_none() {
            return Outcome { reason: ExitReason::Oom, ..outcome };
        }
        outcome
    }

    fn read_output(&mut self, from: &mut Option<OwnedFd>, ready: bool, stream: Stream) {
        let Some(fd) = from.as_ref().filter(|_| ready) else { return };
        let mut chunk = vec![0; OUTPUT_CHUNK_BYTES];
        let lines = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        match nix::unistd::read(fd, &mut chunk) {
            Ok(0) => {
                lines.finish(&mut self.log);
                *from = None;
            }
            Ok(n) => lines.push(&chunk[..n], &mut self.log),
            Err(_) => {}
        }
    }

    /// Reads what the app had still written.
    fn drain(&mut self, out: &mut Option<OwnedFd>, err: &mut Option<OwnedFd>) {
        self.cgroup.kill();
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while (out.is_some() || err.is_some()) && Instant::now() < deadline {
            let mut polled: Vec<PollFd<'_>> = [&*out, &*err]
                .into_iter()
                .flatten()
                .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
                .collect();
            let left = deadline.saturating_duration_since(Instant::now());
            let _ = poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO));
            drop(polled);
            self.read_output(out, true, Stream::Stdout);
            self.read_output(err, true, Stream::Stderr);
        }
        self.stdout.finish(&mut self.log);
        self.stderr.finish(&mut self.log);
    }

    /// Leaves nothing of the container but the record of its end, then tells whoever listens.
    fn end(mut self, outcome: Outcome) -> anyhow::Result<()> {
        self.kill_all();
        let emptied = self.cgroup.destroy();
        while !matches!(waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_))
        {
        }
        let wiped = wipe(&self.directory.join("disk"));
        for result in [&emptied, &wiped] {
            if let Err(error) = result {
                eprintln!("{}: {error}", self.directory.display());
            }
        }
        write_json(&self.directory.join("exit.json"), &outcome)?;
        self.tell(&ShimEvent::Exited { outcome });
        emptied?;
        Ok(wiped?)
    }

    fn tell(&mut self, event: &ShimEvent) {
        self.agents.retain(|agent| messages::send(agent.as_fd(), event, &[]).is_ok());
    }
}

/// Removes a directory and all below, unless it is not there.
pub(crate) fn wipe(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::other(format!("remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn give_socket(agent: &OwnedFd) -> io::Result<()> {
    match sys::tcp_socket() {
        Ok(socket) => messages::send(agent.as_fd(), &ShimEvent::Socket, &[socket.as_fd()]),
        Err(error) => {
            let message = format!("make a socket in the instance: {error}");
            messages::send(agent.as_fd(), &ShimEvent::Failed { message }, &[])
        }
    }
}

/// What a wait has found.
struct Ready {
    lifeline: bool,
    listener: bool,
    reports: bool,
    stdout: bool,
    stderr: bool,
    agents: Vec<bool>,
}

/// Reads what there is; tells whether the other ends are closed, and then closes this one.
fn read_all(from: &mut Option<File>, into: &mut Vec<u8>) -> io::Result<bool> {
    let Some(file) = from else { return Ok(false) };
    let mut chunk = [0; 1024];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => {
                *from = None;
                return Ok(true);
            }
            Ok(n) => {
                let room = MAX_REPORT_BYTES.saturating_sub(into.len());
                into.extend_from_slice(&chunk[..n.min(room)]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn reports(bytes: &[u8]) -> impl Iterator<Item = Report> {
    bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

fn created(bytes: &[u8]) -> Option<Pid> {
    reports(bytes).find_map(|r| if let Report::Created { pid } = r { Some(Pid::from_raw(pid)) } else { None })
}

/// Why the container could not be made or started, if it was told: outright, or by the first error that was logged.
fn failure(bytes: &[u8]) -> Option<String> {
    let told =
        reports(bytes).find_map(|r| if let Report::Failed { message } = r { Some(message) } else { None });
    let logged = reports(bytes)
        .find_map(|r| if let Report::Logged { fields } = r { Some(sentence(&fields)) } else { None });
    match (told, logged) {
        (Some(told), Some(logged)) if !told.contains(&logged) => Some(format!("{told} ({logged})")),
        (told, logged) => told.or(logged),
    }
}

fn sentence(fields: &BTreeMap<String, serde_json::Value>) -> String {
    let shown = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let message = fields.get("message").map(shown).unwrap_or_default();
    let others = fields.iter().filter(|(name, _)| *name != "message");
    others.fold(message, |text, (name, value)| format!("{text}, {name}: {}", shown(value)))
}
