//! The shim: one small single-threaded process per container, from before it is made until nothing of it is left.
//!
//! ```text
//!            network made            agent: create, or run
//! (spawned) ─────────────▶ Prepared ─────────────────────▶ container (see there) ─▶ exit
//!     │ failed                 │ no agent left, no supervisor
//!     └────────────────────────┴───────────────────▶ exit, nothing left
//! ```
//!
//! Making namespaces and a network takes longer than a request should wait: so shims are prepared before they are
//! needed, and get a container later.
//!
//! Its uid on the host stays the agent's, so that it can write the log and the record of the end. It has all
//! capabilities over the container's namespaces, and the container's users have none over it.
//!
//! What fails, and what happens then:
//! * The network cannot be made: the error is sent to the agent, and the shim exits.
//! * The supervisor dies: the shim ends its container and exits.
//! * The agent dies: a shim without an instance exits; one with an instance goes on, and the next agent connects to it.
//! * A process of the network dies before there is a container: the shim exits, so that the pool drops it.

mod agents;
mod container;
mod directory;
mod order;
mod output;
mod reports;

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use self::agents::Agents;
use self::directory::Directory;
use self::order::Order;
use crate::messages::{ShimCall, ShimEvent, ShimSetup};
use crate::network::{Network, Plan};
use crate::state_files::{read_json, wipe};
use crate::sys;
use crate::terms::Terms;
use crate::wait::wait;

/// How long a shim waits for its agent, which normally connects at once.
const FIRST_AGENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Entry of the hidden `shim` mode: standard input is the supervisor's lifeline, descriptor 3 the listening control
/// socket, descriptor 4 the shim's directory, descriptor 5 the page of terms.
pub fn main() -> anyhow::Result<()> {
    let listener = sys::inherited(sys::CONTROL_FD)?;
    let directory = sys::inherited(sys::DIRECTORY_FD)?;
    let terms = Terms::inherited(sys::inherited(sys::TERMS_FD)?)?;
    sys::close_on_exec_from(3)?;
    let signals = watch_children()?;
    sys::adopt_orphans()?;
    // Leaves the supervisor's working directory, so that it is not kept busy; libcontainer needs one that exists.
    std::env::set_current_dir("/")?;
    let directory = Directory::new(directory);
    let mut waiting = WaitingShim { directory, signals, agents: Agents::new(listener), has_agent: false };
    match waiting.prepare() {
        Ok(network) => match waiting.until_order(&network)? {
            Some(order) => {
                let WaitingShim { directory, signals, agents, .. } = waiting;
                container::run(container::Setting { directory, signals, agents, network, terms }, order)
            }
            None => waiting.discard(Some(&network)),
        },
        Err(error) => {
            waiting.report_failure(&error);
            waiting.discard(None)?;
            Err(error.into())
        }
    }
}

fn watch_children() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    // Signals to end are ignored: only the supervisor's lifeline and the agent's calls end a shim.
    for ignored in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
        mask.add(ignored);
    }
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    Ok(SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// A shim without a container.
struct WaitingShim {
    directory: Directory,
    signals: SignalFd,
    agents: Agents,
    has_agent: bool,
}

impl WaitingShim {
    fn prepare(&self) -> io::Result<Network> {
        let path = self.directory.path().join("spare.json");
        let config: ShimSetup = read_json(&path)?.ok_or(io::ErrorKind::NotFound)?;
        Network::make(&Plan {
            uids: config.uids,
            gids: config.gids,
            internet: config.internet.as_ref(),
            cgroup: &config.network_cgroup,
            protection: config.protection,
        })
    }

    /// Waits for the order to make a container; `None` if no agent is left that could send it.
    fn until_order(&mut self, network: &Network) -> io::Result<Option<Order>> {
        self.agents.greet(ShimEvent::Prepared { error: None });
        let deadline = Instant::now() + FIRST_AGENT_TIMEOUT;
        loop {
            let lifeline = io::stdin();
            let mut sources = vec![Some(lifeline.as_fd()), Some(self.signals.as_fd())];
            sources.extend(self.agents.sources());
            let ready = wait(&sources, (!self.has_agent).then_some(deadline))?;
            // If a process of the network has ended, the shim ends and removes the rest of the network.
            if ready[0] || (ready[1] && self.has_lost(network)?) {
                return Ok(None);
            }
            let mut calls = self.agents.serve(&ready[2..]).into_iter();
            while let Some((agent, call)) = calls.next() {
                let order = match call {
                    ShimCall::Create => Order::take(&self.directory, false)?,
                    ShimCall::Run => Order::take(&self.directory, true)?,
                    _ => {
                        self.agents.refuse(agent, "no container runs yet");
                        continue;
                    }
                };
                return Ok(Some(Order { after: calls.collect(), ..order }));
            }
            self.has_agent |= !self.agents.is_empty();
            if self.agents.is_empty() && (self.has_agent || Instant::now() >= deadline) {
                return Ok(None);
            }
        }
    }

    fn has_lost(&self, network: &Network) -> io::Result<bool> {
        while self.signals.read_signal()?.is_some() {}
        let mut lost = false;
        while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            let Some(pid) = status.pid().filter(|_| status != WaitStatus::StillAlive) else { break };
            lost |= network.needs(pid);
        }
        Ok(lost)
    }

    /// Sends the error to the agent, if it connects in time.
    fn report_failure(&mut self, error: &io::Error) {
        self.agents.greet(ShimEvent::Prepared { error: Some(error.to_string()) });
        let deadline = Instant::now() + FIRST_AGENT_TIMEOUT;
        while self.agents.is_empty() && Instant::now() < deadline {
            let Ok(ready) = wait(&self.agents.sources(), Some(deadline)) else { return };
            drop(self.agents.serve(&ready));
        }
    }

    fn discard(self, network: Option<&Network>) -> anyhow::Result<()> {
        let ended = network.map_or(Ok(()), Network::end);
        // By its current path: a directory cannot be removed through its descriptor.
        wipe(&self.directory.name()?)?;
        Ok(ended?)
    }
}
