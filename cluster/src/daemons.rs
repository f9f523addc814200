//! The daemons of a cluster together: watched, and ended in order.
//!
//! Ending: the edge first, so that it takes no new requests; then the agents; the supervisors last, since they end the
//! containers.

use std::task::Poll;
use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use nix::sys::signal::Signal;

use crate::process::Process;

/// The order of ending, and how long each may take before it is killed. A supervisor needs time to end its containers
/// and to clean up after them.
const ENDING: [(Role, Duration); 3] = [
    (Role::Edge, Duration::from_secs(3)),
    (Role::Agent, Duration::from_secs(3)),
    (Role::Supervisor, Duration::from_secs(15)),
];
/// What each gets where haste was asked for: without supervisors, containers are ended less orderly.
const HASTE: Duration = Duration::from_secs(3);
/// The longest that ending all of them takes.
pub const ENDS_WITHIN: Duration = Duration::from_secs(3 + 3 + 15 + 1);
/// How many lines of a failed daemon's log are shown.
const LOG_END_LINES: usize = 15;

/// What a daemon is; also the order in which they are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An edge.
    Edge,
    /// The agent of a node.
    Agent,
    /// The supervisor of a node.
    Supervisor,
}

/// Everything that was started.
#[derive(Debug, Default)]
pub struct Daemons {
    processes: Vec<(Role, Process)>,
}

impl Daemons {
    /// Takes one in.
    pub fn add(&mut self, role: Role, process: Process) -> &mut Process {
        self.processes.push((role, process));
        let last = self.processes.len() - 1;
        &mut self.processes[last].1
    }

    /// Waits until any of them ends, which none should; the error has its name and the end of its log.
    pub async fn first_death(&mut self) -> Error {
        std::future::poll_fn(|cx| {
            for (_, process) in &mut self.processes {
                if let Poll::Ready(end) = process.poll_end(cx) {
                    let how = end.map_or_else(|error| error.to_string(), |status| status.to_string());
                    let (name, log_end) = (process.name(), process.log_end(LOG_END_LINES));
                    return Poll::Ready(anyhow!("{name} ended by itself ({how})\n{log_end}"));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The end of each daemon's log.
    pub fn log_end(&self) -> String {
        let log_end = self.processes.iter().map(|(_, process)| process.log_end(LOG_END_LINES));
        log_end.collect::<Vec<_>>().join("\n")
    }

    /// Whether none is left.
    pub fn have_ended(&self) -> bool {
        self.processes.iter().all(|(_, process)| process.has_ended())
    }

    /// Ends all of them, in order and in bounded time; at once when `haste` completes. Returns a line for each that had
    /// to be killed.
    pub async fn stop(&mut self, haste: impl Future<Output = ()>) -> Vec<String> {
        let mut killed = Vec::new();
        let hasty = tokio::select! {
            () = self.stop_in_order(&mut killed) => false,
            () = haste => true,
        };
        if hasty {
            self.stop_at_once(&mut killed).await;
        }
        killed
    }

    async fn stop_in_order(&mut self, killed: &mut Vec<String>) {
        for (role, grace) in ENDING {
            self.end(role, Signal::SIGTERM, grace, killed).await;
        }
    }

    async fn stop_at_once(&mut self, killed: &mut Vec<String>) {
        self.end(Role::Edge, Signal::SIGKILL, HASTE, killed).await;
        self.end(Role::Agent, Signal::SIGKILL, HASTE, killed).await;
        self.end(Role::Supervisor, Signal::SIGTERM, HASTE, killed).await;
    }

    /// Signals those of a role and waits for their end; kills those that take too long.
    async fn end(&mut self, role: Role, signal: Signal, grace: Duration, killed: &mut Vec<String>) {
        self.signal(role, signal);
        if tokio::time::timeout(grace, self.all_ended(role)).await.is_err() {
            let late = self.of(role).filter(|process| !process.has_ended());
            killed.extend(late.map(|process| format!("{} did not end in {grace:?}", process.name())));
            self.signal(role, Signal::SIGKILL);
            self.all_ended(role).await;
        }
    }

    fn of(&mut self, role: Role) -> impl Iterator<Item = &mut Process> {
        self.processes.iter_mut().filter(move |(own, _)| *own == role).map(|(_, process)| process)
    }

    fn signal(&mut self, role: Role, signal: Signal) {
        for process in self.of(role) {
            // It cannot fail but for a process that ends this moment, which is what is wanted.
            let _ = process.signal(signal);
        }
    }

    async fn all_ended(&mut self, role: Role) {
        std::future::poll_fn(|cx| {
            let mut ended = true;
            for process in self.of(role) {
                ended &= process.poll_end(cx).is_ready();
            }
            if ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Ends daemons, all at the same time, in code that is not async. One that does not end in good order hinders no other;
/// the error is that of the first.
pub fn stop_together(mut daemons: Vec<Process>, within: Duration) -> Result<()> {
    let signalled: Vec<_> = daemons.iter_mut().map(|daemon| daemon.signal(Signal::SIGTERM)).collect();
    let ended: Vec<_> = daemons.iter_mut().map(|daemon| ended_well(daemon, within)).collect();
    signalled.into_iter().chain(ended).collect()
}

fn ended_well(daemon: &mut Process, within: Duration) -> Result<()> {
    match daemon.wait(within) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let log_end = daemon.log_end(LOG_END_LINES);
            Err(anyhow!("{} did not end in good order: {status}\n{log_end}", daemon.name()))
        }
        Err(error) => Err(error.context(daemon.log_end(LOG_END_LINES))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    fn shell(daemons: &mut Daemons, role: Role, name: &str, script: &str, logs: &Path) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let process = Process::start(name, command, &logs.join(format!("{name}.log"))).unwrap();
        daemons.add(role, process);
    }

    #[tokio::test]
    async fn the_first_death_is_reported_with_the_end_of_its_log() {
        let logs = tempfile::tempdir().unwrap();
        let mut daemons = Daemons::default();
        shell(&mut daemons, Role::Supervisor, "supervisor-n1", "cat", logs.path());
        shell(&mut daemons, Role::Agent, "agent-n1", "echo no port left; exit 4", logs.path());
        let error = daemons.first_death().await.to_string();
        assert!(error.starts_with("agent-n1 ended by itself (exit status: 4)"), "{error}");
        assert!(error.contains("no port left"), "{error}");
        daemons.stop(std::future::pending()).await;
        assert!(daemons.have_ended());
    }

    #[tokio::test]
    async fn all_are_ended_the_supervisor_last() {
        let logs = tempfile::tempdir().unwrap();
        let order = logs.path().join("order");
        let mut daemons = Daemons::default();
        let script = |name: &str| {
            let order = order.display();
            format!(
                "trap 'echo {name} >> {order}; exit 0' TERM; echo ready; while :; do read x || exit 9; done"
            )
        };
        let roles = [(Role::Supervisor, "supervisor-n1"), (Role::Agent, "agent-n1"), (Role::Edge, "edge")];
        for (role, name) in roles {
            shell(&mut daemons, role, name, &script(name), logs.path());
            // Once it has printed that, the trap is set.
            while !std::fs::read_to_string(logs.path().join(format!("{name}.log"))).unwrap().contains("ready")
            {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(daemons.stop(std::future::pending()).await, Vec::<String>::new());
        assert!(daemons.have_ended());
        assert_eq!(std::fs::read_to_string(order).unwrap(), "edge\nagent-n1\nsupervisor-n1\n");
    }
}
