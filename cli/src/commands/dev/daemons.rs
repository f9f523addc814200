//! The daemons of `berth dev` together: started in order, watched, ended in order.
//!
//! Ending: the edge first, so that it takes no new requests; then the agents; the supervisors last, since they end the
//! containers.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use berth_certs::Issued;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::identity::{Credentials, EDGE_NAME};
use super::place::Place;
use super::process::{Process, Role, become_user};
use crate::signals::Signals;

/// The order of ending, and how long each may take before it is killed. A supervisor needs time to end its containers and
/// to clean up after them.
const ENDING: [(Role, Duration); 3] = [
    (Role::Edge, Duration::from_secs(3)),
    (Role::Agent, Duration::from_secs(3)),
    (Role::Supervisor, Duration::from_secs(15)),
];
/// What supervisors get when a second signal asks for haste: without them containers are ended less orderly.
const HASTE: Duration = Duration::from_secs(3);
/// How long a supervisor may take until it answers, and how often is asked.
const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(10);
const SUPERVISOR_INTERVAL: Duration = Duration::from_millis(10);

/// Everything that was started.
#[derive(Default)]
pub(crate) struct Daemons {
    processes: Vec<Process>,
}

impl Daemons {
    /// Starts a supervisor and an agent for each node, and the edge.
    pub(crate) async fn start_all(
        &mut self,
        place: &Place,
        credentials: &Credentials,
        listen: SocketAddr,
    ) -> Result<()> {
        for node in place.nodes() {
            self.start(Role::Supervisor, format!("supervisor-{node}"), supervisor(place, node), place)
                .await?;
        }
        let mut addresses = Vec::new();
        for (node, own) in place.nodes().iter().zip(&credentials.agents) {
            self.wait_for_supervisor(&place.node_state(node), node).await?;
            let address = free_udp_address()?;
            let command = agent(place, node, address, &credentials.ca, own);
            self.start(Role::Agent, format!("agent-{node}"), command, place).await?;
            addresses.push(format!("{node}={address}"));
        }
        let command = edge(place, listen, credentials, &addresses);
        self.start(Role::Edge, "edge".to_owned(), command, place).await
    }

    async fn start(&mut self, role: Role, name: String, command: Command, place: &Place) -> Result<()> {
        eprintln!("starting {name}");
        self.processes.push(Process::start(role, name, command, &place.logs()).await?);
        Ok(())
    }

    async fn wait_for_supervisor(&mut self, state: &Path, node: &str) -> Result<()> {
        let answers = async {
            // It tells nobody when it is ready but those who ask.
            while connect_supervisor(state).is_err() {
                tokio::time::sleep(SUPERVISOR_INTERVAL).await;
            }
        };
        let waited = tokio::select! {
            waited = tokio::time::timeout(SUPERVISOR_TIMEOUT, answers) => waited,
            died = self.first_death() => return Err(died),
        };
        if waited.is_err() {
            bail!("the supervisor of {node} did not answer in {SUPERVISOR_TIMEOUT:?}\n{}", self.last_words());
        }
        Ok(())
    }

    /// Waits until any of them ends, which none should; says which, and what it said last.
    pub(crate) async fn first_death(&mut self) -> Error {
        std::future::poll_fn(|cx| {
            for process in &mut self.processes {
                if let Poll::Ready(end) = process.poll_end(cx) {
                    let how = end.map_or_else(|error| error.to_string(), |status| status.to_string());
                    let (name, words) = (process.name(), process.last_words());
                    return Poll::Ready(anyhow!("{name} ended by itself ({how})\n{words}"));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// What each of them said last.
    pub(crate) fn last_words(&self) -> String {
        self.processes.iter().map(Process::last_words).collect::<Vec<_>>().join("\n")
    }

    /// Ends all of them, in order and in bounded time; at once when another signal comes.
    pub(crate) async fn stop(&mut self, signals: &mut Signals) {
        if self.processes.iter().all(Process::has_ended) {
            return;
        }
        eprintln!("ending edge, agents and containers ... (Ctrl-C again to do it at once)");
        let hasty = tokio::select! {
            () = self.stop_in_order() => false,
            () = signals.next() => true,
        };
        if hasty {
            self.stop_at_once().await;
        }
    }

    async fn stop_in_order(&mut self) {
        for (role, grace) in ENDING {
            self.end(role, Signal::SIGTERM, grace).await;
        }
    }

    async fn stop_at_once(&mut self) {
        self.end(Role::Edge, Signal::SIGKILL, HASTE).await;
        self.end(Role::Agent, Signal::SIGKILL, HASTE).await;
        self.end(Role::Supervisor, Signal::SIGTERM, HASTE).await;
    }

    /// Signals those of a role and waits for their end; kills those that take too long.
    async fn end(&mut self, role: Role, signal: Signal, grace: Duration) {
        self.signal(role, signal);
        if tokio::time::timeout(grace, self.all_ended(role)).await.is_err() {
            for process in
                self.processes.iter().filter(|process| process.role == role && !process.has_ended())
            {
                eprintln!("{} did not end in {grace:?}; killing it", process.name());
            }
            self.signal(role, Signal::SIGKILL);
            self.all_ended(role).await;
        }
    }

    fn signal(&self, role: Role, signal: Signal) {
        let alive = self.processes.iter().filter(|process| process.role == role && !process.has_ended());
        alive.for_each(|process| process.signal(signal));
    }

    async fn all_ended(&mut self, role: Role) {
        std::future::poll_fn(|cx| {
            let mut ended = true;
            for process in self.processes.iter_mut().filter(|process| process.role == role) {
                ended &= process.poll_end(cx).is_ready();
            }
            if ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Connects to a supervisor's socket by way of its open directory, since a path as deep as an app's may be longer than
/// the address of a socket can be.
fn connect_supervisor(state: &Path) -> Result<()> {
    let directory = File::open(state)?;
    let address =
        UnixAddr::new(&*PathBuf::from(format!("/proc/self/fd/{}/supervisor.sock", directory.as_raw_fd())))?;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    Ok(connect(socket.as_raw_fd(), &address)?)
}

fn supervisor(place: &Place, node: &str) -> Command {
    let state = place.node_state(node);
    let mut command = Command::new(&place.programs().agent);
    command.arg("supervisor").arg("--state").arg(&state);
    if let Some(cgroup) = place.cgroup(node) {
        command.args(["--cgroup", &cgroup]);
    }
    become_user(&mut command, place.agent_user(), &state);
    command
}

fn agent(place: &Place, node: &str, listen: SocketAddr, ca: &Path, own: &Issued) -> Command {
    let state = place.node_state(node);
    let mut command = Command::new(&place.programs().agent);
    command.args(["run", "--node", node, "--listen", &listen.to_string()]);
    // One's own apps on one's own machine; slots for disks would need root.
    command.args(["--disk-limit", "unenforced"]);
    command.arg("--state").arg(&state).arg("--ca").arg(ca);
    command.arg("--cert").arg(&own.certificate).arg("--key").arg(&own.key);
    become_user(&mut command, place.agent_user(), &state);
    command
}

fn edge(place: &Place, listen: SocketAddr, credentials: &Credentials, nodes: &[String]) -> Command {
    let mut command = Command::new(&place.programs().edge);
    command.args(["run", "--name", EDGE_NAME, "--listen", &listen.to_string()]);
    command.arg("--state").arg(place.edge_state()).arg("--admin-socket").arg(place.admin_socket());
    command.arg("--ca").arg(&credentials.ca);
    command.arg("--cert").arg(&credentials.edge.certificate).arg("--key").arg(&credentials.edge.key);
    // One's own receivers of hooks are on this machine too.
    command.args(["--allow-hooks-to", "127.0.0.0/8", "--allow-hooks-to", "::1/128"]);
    nodes.iter().for_each(|node| {
        command.args(["--node", node]);
    });
    command
}

/// The address to listen on, with a free port where 0 was asked for; refused here where it is taken, so that nothing is
/// started in vain.
pub(crate) fn choose_address(wanted: SocketAddr) -> Result<SocketAddr> {
    let taken = || format!("cannot listen on {wanted}; choose another address with --listen");
    Ok(TcpListener::bind(wanted).with_context(taken)?.local_addr()?)
}

/// The edge must know an agent's port before it starts, so it is chosen here; another process may take it in between, and
/// then the agent says so and ends.
fn free_udp_address() -> Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free UDP port")?;
    Ok(socket.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(daemons: &mut Daemons, role: Role, name: &str, script: &str, logs: &Path) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        daemons.processes.push(Process::start(role, name.to_owned(), command, logs).await.unwrap());
    }

    #[tokio::test]
    async fn the_first_death_is_told_with_its_last_words() {
        let logs = tempfile::tempdir().unwrap();
        let mut daemons = Daemons::default();
        shell(&mut daemons, Role::Supervisor, "supervisor-n1", "cat", logs.path()).await;
        shell(&mut daemons, Role::Agent, "agent-n1", "echo no port left; exit 4", logs.path()).await;
        let error = daemons.first_death().await.to_string();
        assert!(error.starts_with("agent-n1 ended by itself (exit status: 4)"), "{error}");
        assert!(error.contains("no port left"), "{error}");
        daemons.stop(&mut Signals::new().unwrap()).await;
        assert!(daemons.processes.iter().all(Process::has_ended));
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
            shell(&mut daemons, role, name, &script(name), logs.path()).await;
            // The trap is set once it has said so.
            while !std::fs::read_to_string(logs.path().join(format!("{name}.log"))).unwrap().contains("ready")
            {
                tokio::task::yield_now().await;
            }
        }
        daemons.stop(&mut Signals::new().unwrap()).await;
        assert!(daemons.processes.iter().all(Process::has_ended));
        assert_eq!(std::fs::read_to_string(order).unwrap(), "edge\nagent-n1\nsupervisor-n1\n");
    }

    #[test]
    fn a_taken_address_is_refused_before_anything_starts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = choose_address(listener.local_addr().unwrap()).unwrap_err();
        assert!(error.to_string().contains("--listen"));
        assert_ne!(choose_address("127.0.0.1:0".parse().unwrap()).unwrap().port(), 0);
    }
}
