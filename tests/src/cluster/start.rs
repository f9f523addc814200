//! How a cluster comes up: directories and certificates, then each node's supervisor and agent, then the edge.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Cluster, EDGE, Node, Setup, credentials};
use crate::disk::Small;
use crate::process::Daemon;
use crate::programs;
use crate::relay::Relay;
use crate::run::Run;
use crate::world::{self, World};
use crate::{cgroup, ports, slots, wait};

/// How long a supervisor may take to listen, and an edge to answer and to be connected with its nodes.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// What every agent says that it has: more than this machine, so that capacity decides nothing but where it is tested.
const NODE_LIMITS: [&str; 4] = ["--memory", "64GiB", "--cpus", "64"];
/// Moves into a cgroup as root, then runs the rest of its words as another user.
const ENTER_AND_DEMOTE: &str = "echo $$ > \"$1\" && uid=$2 gid=$3 && shift 3 && exec setpriv --reuid=$uid --regid=$gid --clear-groups \"$@\"";

static CLUSTERS: AtomicU32 = AtomicU32::new(0);

impl Cluster {
    /// Starts all daemons and waits until the edge is connected with every node that is not a stranger.
    pub async fn start(setup: Setup) -> Result<Self> {
        let mut cluster = Self::make(setup)?;
        match cluster.start_all().await {
            Ok(()) => Ok(cluster),
            Err(error) => {
                cluster.show_logs();
                Err(error)
            }
        }
    }

    fn make(setup: Setup) -> Result<Self> {
        let run = Run::current()?;
        let label = format!("s{}", CLUSTERS.fetch_add(1, Ordering::Relaxed) + 1);
        let directory = run.directory().join(&label);
        for path in ["", "bin", "logs", "edge"] {
            run.machine().make_directory(&directory.join(path))?;
        }
        let small = |mib| Small::mount(&directory.join("edge"), mib, run.machine().user());
        let edge_disk = setup.edge_disk_mib.map(small).transpose()?;
        // Links, so that a process tells by its program's path whose it is.
        for program in programs::ALL {
            fs::hard_link(run.programs().join(program), directory.join("bin").join(program))?;
        }
        let address = ports::free_address()?;
        let world = setup.world.then(|| World::make(&format!("berth-{}-{label}", run.name()))).transpose()?;
        let (nodes, edge, ended) = (Vec::new(), None, false);
        Ok(Self { run, directory, label, setup, nodes, edge, edge_disk, address, world, ended })
    }

    async fn start_all(&mut self) -> Result<()> {
        let own = self.make_authority("certs")?;
        self.issue(&own, "edge", EDGE)?;
        let strange =
            if self.setup.strangers > 0 { self.make_authority("strange-certs")? } else { own.clone() };
        for number in 1..=self.setup.nodes {
            let stranger = number + self.setup.strangers > self.setup.nodes;
            self.start_node(number, if stranger { &strange } else { &own }).await?;
        }
        self.start_edge()?;
        self.until_connected().await
    }

    async fn start_node(&mut self, number: usize, authority: &Path) -> Result<()> {
        let name = format!("n{number}");
        let state = self.directory.join(&name);
        self.run.machine().make_directory(&state)?;
        let small = |mib| Small::mount(&state, mib, self.run.machine().user());
        let disk = self.setup.node_disk_mib.map(small).transpose()?;
        if let Some(slots) = self.setup.disk_slots {
            slots::make(&self.program("berth-agent"), self.run.machine().user(), &state, slots)?;
        }
        self.issue(authority, "agent", &name)?;
        let cgroup = self.run.machine().cgroup().join(format!("{}-{name}", self.cgroup_prefix()));
        let supervisor = self.start_supervisor(&name, &state, &cgroup)?;
        let mut address = ports::free_address()?;
        if let Some(world) = &self.world {
            address.set_ip(world.control_address().into());
        }
        let relay = self.setup.relays.then(|| Relay::start(address)).transpose()?;
        let monitor = self.setup.monitored.then(ports::free_address).transpose()?;
        let (authority, supervisor, agent) = (authority.to_owned(), Some(supervisor), None);
        self.nodes.push(Node {
            name,
            address,
            state,
            authority,
            cgroup,
            supervisor,
            agent,
            relay,
            disk,
            monitor,
        });
        let node = self.nodes.last_mut().context("a node was just added")?;
        until_listening(node).await?;
        self.start_agent(number - 1)
    }

    /// Starts the supervisor of a node again.
    pub fn restart_supervisor(&mut self, index: usize) -> Result<()> {
        let node = &self.nodes[index];
        let supervisor = self.start_supervisor(&node.name, &node.state, &node.cgroup)?;
        self.nodes[index].supervisor = Some(supervisor);
        Ok(())
    }

    /// Puts another file in place of the node's program, as an upgrade does, and starts the agent from it.
    pub fn upgrade_agent(&mut self, index: usize) -> Result<()> {
        let path = self.program("berth-agent");
        let new = path.with_extension("new");
        fs::copy(&path, &new)?;
        fs::rename(&new, &path)?;
        self.start_agent(index)
    }

    fn start_supervisor(&self, name: &str, state: &Path, group: &Path) -> Result<Daemon> {
        let machine = self.run.machine();
        let entrance = cgroup::make_entrance(group, machine.user())?;
        let mut command = self.entering(entrance.as_deref(), "berth-agent");
        command.arg("supervisor").arg("--state").arg(state).arg("--cgroup").arg(group);
        let name = format!("supervisor-{name}");
        Daemon::start(&name, command, &self.log_path(&name))
    }

    /// A command that joins a cgroup as root before it becomes the daemons' user, where there is one to join.
    fn entering(&self, entrance: Option<&Path>, program: &str) -> Command {
        let world = self.world.as_ref().map(|world| world::entrance(&world.host()));
        if entrance.is_none() && world.is_none() {
            return self.command(program);
        }
        let user = self.run.machine().user();
        let mut words = world.into_iter().flatten().chain(["sh".to_owned()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(["-c", ENTER_AND_DEMOTE, "sh"]);
        command.arg(entrance.unwrap_or(Path::new("/dev/null")));
        command.args([user.uid.to_string(), user.gid.to_string()]).arg(self.program(program));
        self.surround(&mut command);
        command
    }

    /// Starts the agent of a node (again).
    pub fn start_agent(&mut self, index: usize) -> Result<()> {
        let node = &self.nodes[index];
        let mut command = self.entering(None, "berth-agent");
        if self.world.is_some() {
            command.args(["run", "--name-server", world::PUBLIC[0]]);
        } else {
            command.arg("run");
        }
        command
            .args(["--node", &node.name, "--listen", &node.address.to_string()])
            .args(NODE_LIMITS)
            .args(&self.setup.agent_options);
        if let Some(address) = node.monitor {
            command.arg("--monitor-listen").arg(address.to_string());
        }
        if self.setup.disk_slots.is_none() && !self.setup.agent_options.contains(&"--disk-limit") {
            command.args(["--disk-limit", "unenforced"]);
        }
        command.arg("--state").arg(&node.state).args(credentials(&node.authority, "agent", &node.name));
        let name = format!("agent-{}", node.name);
        self.nodes[index].agent = Some(Daemon::start(&name, command, &self.log_path(&name))?);
        Ok(())
    }

    /// Starts the edge (again).
    pub fn start_edge(&mut self) -> Result<()> {
        let mut command = self.command("berth-edge");
        command.args(["run", "--name", EDGE, "--listen", &self.address.to_string()]);
        command.arg("--state").arg(self.directory.join("edge"));
        if let Some(shards) = self.setup.shards {
            command.arg("--shards").arg(shards.to_string());
        }
        command.args(credentials(&self.authority(), "edge", EDGE)).args(&self.setup.edge_options);
        for node in &self.nodes {
            let address = node.relay.as_ref().map_or(node.address, Relay::address);
            command.arg("--node").arg(format!("{}={address}", node.name));
        }
        self.edge = Some(Daemon::start("edge", command, &self.log_path("edge"))?);
        Ok(())
    }

    /// Waits until the edge is connected with every node that is not a stranger.
    pub async fn until_connected(&mut self) -> Result<()> {
        let (admin, expected) = (self.admin(), self.setup.nodes - self.setup.strangers);
        wait::until("the edge to be connected with its nodes", START_TIMEOUT, async || {
            let nodes = admin.nodes().await?;
            let connected = nodes.iter().filter(|node| node.connected).count();
            ensure!(connected >= expected, "connected: {connected} of {expected}");
            Ok(())
        })
        .await?;
        self.expect_all_alive()
    }

    /// Fails if any daemon has ended that was not told to.
    pub fn expect_all_alive(&mut self) -> Result<()> {
        let nodes = self.nodes.iter_mut().flat_map(|node| [&mut node.supervisor, &mut node.agent]);
        nodes.chain([&mut self.edge]).flatten().try_for_each(Daemon::expect_alive)
    }
}

async fn until_listening(node: &mut Node) -> Result<()> {
    let socket = node.state.canonicalize()?.join("supervisor.sock");
    let mut supervisor = node.supervisor.take().context("the supervisor was killed")?;
    let listening = wait::until("the supervisor to listen", START_TIMEOUT, async || {
        supervisor.expect_alive()?;
        let sockets = fs::read_to_string(format!("/proc/{}/net/unix", supervisor.pid()))?;
        ensure!(listens(&sockets, &socket.to_string_lossy()), "it does not listen at {}", socket.display());
        Ok(())
    });
    let listening = listening.await;
    node.supervisor = Some(supervisor);
    listening
}

/// Whether a socket listens, by the list of its namespace. One that is bound and does not listen yet refuses connections, and
/// a connection to try it with would be one too many.
fn listens(sockets: &str, path: &str) -> bool {
    /// `__SO_ACCEPTCON`, in the column of flags.
    const ACCEPTS: &str = "00010000";
    sockets.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(3);
        columns.next() == Some(ACCEPTS) && columns.last() == Some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_listens_once_it_takes_connections() {
        let list = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    0000000000000000: 00000002 00000000 00010000 0005 01 4711 /a/bound-and-listening\n\
                    0000000000000000: 00000002 00000000 00000000 0005 01 4712 /a/bound\n";
        assert!(listens(list, "/a/bound-and-listening"));
        assert!(!listens(list, "/a/bound"));
        assert!(!listens(list, "/a/missing"));
    }
}
