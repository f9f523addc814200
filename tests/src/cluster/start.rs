//! How a cluster is started: directories and certificates, then each node's supervisor and agent, then the edge.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use berth_cluster::certificates::{Certificates, Credentials};
use berth_cluster::{Group, Launch, Process, StateDir, ready};

use super::{Cluster, EDGE, Node, Setup};
use crate::crowd::Crowd;
use crate::disk::Small;
use crate::programs;
use crate::relay::Relay;
use crate::run::Run;
use crate::world::{self, World};
use crate::{ports, slots};

/// How long an edge may take to answer and to be connected with its nodes.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The capacity that every agent reports: more than this machine has, so that it matters only where it is tested.
const NODE_LIMITS: [&str; 4] = ["--memory", "64GiB", "--cpus", "64"];

/// Where the daemons find the programs that they start.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

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
        let state = StateDir::at(run.directory().join(&label));
        for path in [state.path(), &state.programs(), &state.logs(), &state.edge()] {
            run.machine().make_directory(path)?;
        }
        let small = |mib| Small::mount(&state.edge(), mib, run.machine().user());
        let edge_disk = setup.edge_disk_mib.map(small).transpose()?;
        // Links, so that a process's program path shows which cluster it belongs to.
        for program in programs::ALL {
            fs::hard_link(run.programs().join(program), state.program(program))?;
        }
        let certificates = Certificates::create(&state.certificates(), run.machine().owner())?;
        let credentials = certificates.edge(EDGE)?;
        let environment = [("PATH", PATH), ("BERTH_LOG", setup.log)];
        let launch = Launch::new(state, run.machine().owner().clone()).with_environment(&environment);
        let address = ports::free_address()?;
        let kept_socket = setup.kept_socket.then(|| TcpListener::bind(address)).transpose()?;
        let name = format!("berth-{}-{label}", run.name());
        let crowd = setup.crowd.map(|size| Crowd::make(&name, size)).transpose()?;
        let world = setup.world.then(|| World::make(&name)).transpose()?;
        let (nodes, edge, ended) = (Vec::new(), None, false);
        Ok(Self {
            run,
            launch,
            certificates,
            credentials,
            label,
            setup,
            nodes,
            left_out: BTreeSet::new(),
            edge,
            edge_disk,
            address,
            kept_socket,
            world,
            crowd,
            ended,
        })
    }

    async fn start_all(&mut self) -> Result<()> {
        let strange = self.directory().join("strange-certs");
        let strange = Certificates::create(&strange, self.run.machine().owner())?;
        for number in 1..=self.setup.nodes {
            let stranger = number + self.setup.strangers > self.setup.nodes;
            let authority = if stranger { &strange } else { &self.certificates };
            let credentials = authority.agent(&format!("n{number}"))?;
            self.start_node(number, credentials).await?;
        }
        self.start_edge()?;
        self.until_connected().await
    }

    async fn start_node(&mut self, number: usize, credentials: Credentials) -> Result<()> {
        let name = format!("n{number}");
        let state = self.directory().join(&name);
        self.run.machine().make_directory(&state)?;
        let small = |mib| Small::mount(&state, mib, self.run.machine().user());
        let disk = self.setup.node_disk_mib.map(small).transpose()?;
        if let Some(slots) = self.setup.disk_slots {
            slots::make(&self.program("berth-agent"), self.run.machine().user(), &state, slots)?;
        }
        let cgroup = self.run.machine().cgroup().join(format!("{}-{name}", self.cgroup_prefix()));
        let supervisor = self.start_supervisor(&name, &state, &cgroup)?;
        let mut address = ports::free_address()?;
        if let Some(world) = &self.world {
            address.set_ip(world.control_address().into());
        }
        let relay = self.setup.relays.then(|| Relay::start(address)).transpose()?;
        let monitor = self.setup.monitored.then(ports::free_address).transpose()?;
        let (supervisor, agent) = (Some(supervisor), None);
        self.nodes.push(Node {
            name,
            address,
            state,
            credentials,
            cgroup,
            supervisor,
            agent,
            relay,
            disk,
            monitor,
        });
        let node = self.nodes.last_mut().context("a node was just added")?;
        let mut supervisor = node.supervisor.take().context("it was just started")?;
        let listening = ready::until_listening(&mut supervisor, &node.state).await;
        node.supervisor = Some(supervisor);
        listening?;
        self.start_agent(number - 1)
    }

    /// Starts the supervisor of a node again.
    pub fn restart_supervisor(&mut self, index: usize) -> Result<()> {
        let node = &self.nodes[index];
        let supervisor = self.start_supervisor(&node.name, &node.state, &node.cgroup)?;
        self.nodes[index].supervisor = Some(supervisor);
        Ok(())
    }

    /// Waits until the supervisor of a node listens.
    pub async fn until_supervised(&mut self, index: usize) -> Result<()> {
        let node = &mut self.nodes[index];
        let supervisor = node.supervisor.as_mut().context("the supervisor was killed")?;
        ready::until_listening(supervisor, &node.state).await
    }

    /// Replaces the node's program with another file, as an upgrade does, and starts the agent from it.
    pub fn upgrade_agent(&mut self, index: usize) -> Result<()> {
        let path = self.program("berth-agent");
        let new = path.with_extension("new");
        fs::copy(&path, &new)?;
        fs::rename(&new, &path)?;
        self.start_agent(index)
    }

    fn start_supervisor(&self, name: &str, state: &Path, group: &Path) -> Result<Process> {
        let command = self.launch.supervisor(state, &Group::Named(group.to_owned()), &self.entrance())?;
        self.launch_process(&format!("supervisor-{name}"), command)
    }

    /// The wrapper command that enters the network namespace of the nodes.
    fn entrance(&self) -> Vec<String> {
        self.world.as_ref().map(|world| world::entrance(&world.host())).into_iter().flatten().collect()
    }

    fn launch_process(&self, name: &str, command: Command) -> Result<Process> {
        Process::start(name, command, &self.state().log(name))
    }

    /// Starts the agent of a node (again).
    pub fn start_agent(&mut self, index: usize) -> Result<()> {
        let node = &self.nodes[index];
        let mut command =
            self.launch.agent(&node.name, &node.state, node.address, &node.credentials, &self.entrance());
        if self.world.is_some() {
            command.args(["--name-server", world::PUBLIC[0]]);
        }
        command.args(NODE_LIMITS).args(&self.setup.agent_options);
        if let Some(address) = node.monitor {
            command.arg("--monitor-listen").arg(address.to_string());
        }
        if self.setup.disk_slots.is_none() && !self.setup.agent_options.contains(&"--disk-limit") {
            command.args(["--disk-limit", "unenforced"]);
        }
        let agent = self.launch_process(&format!("agent-{}", node.name), command)?;
        self.nodes[index].agent = Some(agent);
        Ok(())
    }

    /// Starts the edge (again).
    pub fn start_edge(&mut self) -> Result<()> {
        let through = |node: &Node| node.relay.as_ref().map_or(node.address, Relay::address);
        let configured = self.nodes.iter().enumerate().filter(|(index, _)| !self.left_out.contains(index));
        let nodes: Vec<_> = configured.map(|(_, node)| (node.name.clone(), through(node))).collect();
        let mut listen = self.address;
        if self.crowd.is_some() {
            listen.set_ip(Ipv4Addr::UNSPECIFIED.into());
        }
        let kept = self.kept_socket.as_ref().map(TcpListener::try_clone).transpose()?;
        let mut command = match &kept {
            Some(_) => self.launch.edge_with_kept_socket(EDGE, listen, &self.credentials, &nodes),
            None => self.launch.edge(EDGE, listen, &self.credentials, &nodes),
        };
        if let Some(shards) = self.setup.shards {
            command.arg("--shards").arg(shards.to_string());
        }
        command.args(&self.setup.edge_options);
        if !self.setup.short_errors {
            command.arg("--show-errors");
        }
        self.edge = Some(match kept {
            None => self.launch_process("edge", command)?,
            Some(kept) => {
                command.stdout(OwnedFd::from(kept));
                Process::start_with_output("edge", command, &self.state().log("edge"))?
            }
        });
        Ok(())
    }

    /// Waits until the edge is connected with every node that is not a stranger.
    pub async fn until_connected(&mut self) -> Result<()> {
        let admin = self.admin();
        let expected = self.setup.nodes - self.setup.strangers - self.left_out.len();
        ready::until_connected(expected, START_TIMEOUT, async || {
            Ok(admin.nodes().await?.iter().filter(|node| node.connected).count())
        })
        .await?;
        self.expect_all_alive()
    }

    /// Fails if any daemon has ended by itself.
    pub fn expect_all_alive(&mut self) -> Result<()> {
        let nodes = self.nodes.iter_mut().flat_map(|node| [&mut node.supervisor, &mut node.agent]);
        nodes.chain([&mut self.edge]).flatten().try_for_each(Process::expect_alive)
    }
}
