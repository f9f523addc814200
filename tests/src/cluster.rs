//! A cluster of one scenario: N nodes, each a supervisor and an agent, and one edge; started, broken, mended, and ended
//! with nothing left.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{fs, mem};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::admin::Admin;
use crate::app::App;
use crate::client::Client;
use crate::process::{Daemon, tail};
use crate::programs::{DAEMONS, HELLO};
use crate::run::Run;
use crate::{cgroup, host, machine, ports, wait};

/// How long a supervisor may take to listen, and an edge to answer and to be connected with its nodes.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long edge and agents may take to end: their own grace, and a little.
const END_TIMEOUT: Duration = Duration::from_secs(12);
/// How long supervisors may take to end their containers.
const CONTAINERS_END_TIMEOUT: Duration = Duration::from_secs(15);
/// What every agent says that it has: more than this machine, so that capacity decides nothing but where it is tested.
const NODE_LIMITS: [&str; 4] = ["--memory", "64GiB", "--cpus", "64"];
/// What the daemons log.
const LOG: &str = "info,berth_edge=debug,berth_agent=debug";
/// The edge's name.
pub const EDGE: &str = "e1";

static CLUSTERS: AtomicU32 = AtomicU32::new(0);

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How many nodes.
    pub nodes: usize,
    /// How many of them, the last ones, have certificates of another authority.
    pub strangers: usize,
    /// Shards of the edge: two, so that requests are handed over between them.
    pub shards: usize,
    /// What the daemons log.
    pub log: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self { nodes: 3, strangers: 0, shards: 2, log: LOG }
    }
}

impl Setup {
    /// A cluster with this many nodes.
    pub fn nodes(nodes: usize) -> Self {
        Self { nodes, ..Self::default() }
    }
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// `n1`, `n2`, ...
    pub name: String,
    /// Where its agent listens.
    pub address: SocketAddr,
    /// Its state directory.
    pub state: PathBuf,
    authority: PathBuf,
    cgroup: PathBuf,
    supervisor: Option<Daemon>,
    agent: Option<Daemon>,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    run: Arc<Run>,
    directory: PathBuf,
    label: String,
    setup: Setup,
    nodes: Vec<Node>,
    edge: Option<Daemon>,
    address: SocketAddr,
    ended: bool,
}

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
        // Links, so that a process tells by its program's path whose it is.
        for program in DAEMONS.into_iter().chain([HELLO]) {
            fs::hard_link(run.programs().join(program), directory.join("bin").join(program))?;
        }
        let address = ports::free_address()?;
        Ok(Self { run, directory, label, setup, nodes: Vec::new(), edge: None, address, ended: false })
    }

    async fn start_all(&mut self) -> Result<()> {
        let own = self.make_authority("certs")?;
        self.issue(&own, "edge", EDGE)?;
        let strange = if self.setup.strangers > 0 { self.make_authority("strange-certs")? } else { own.clone() };
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
        self.issue(authority, "agent", &name)?;
        let cgroup = self.run.machine().cgroup().join(format!("{}-{name}", self.cgroup_prefix()));
        let supervisor = self.start_supervisor(&name, &state, &cgroup)?;
        let address = ports::free_address()?;
        let authority = authority.to_owned();
        let supervisor = Some(supervisor);
        self.nodes.push(Node { name, address, state, authority, cgroup, supervisor, agent: None });
        let node = self.nodes.last_mut().context("a node was just added")?;
        until_listening(node).await?;
        self.start_agent(number - 1)
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
        let Some(entrance) = entrance else { return self.command(program) };
        let mut command = Command::new("sh");
        let script = "echo $$ > \"$1\" && shift && exec setpriv --reuid=\"$1\" --regid=\"$1\" --init-groups \"$2\" \"${@:3}\"";
        command.args(["-c", &script.replace("\"${@:3}\"", "$(shift 2)\"$@\""), "sh"]).arg(entrance);
        command.arg(&self.run.machine().user().name).arg(self.program(program));
        command
    }

    /// Starts the agent of a node (again).
    pub fn start_agent(&mut self, index: usize) -> Result<()> {
        let node = &self.nodes[index];
        let mut command = self.command("berth-agent");
        command.args(["run", "--node", &node.name, "--listen", &node.address.to_string()]).args(NODE_LIMITS);
        command.arg("--state").arg(&node.state).args(credentials(&node.authority, "agent", &node.name));
        let name = format!("agent-{}", node.name);
        self.nodes[index].agent = Some(Daemon::start(&name, command, &self.log_path(&name))?);
        Ok(())
    }

    /// Starts the edge (again).
    pub fn start_edge(&mut self) -> Result<()> {
        let mut command = self.command("berth-edge");
        command.args(["run", "--name", EDGE, "--listen", &self.address.to_string()]);
        command.args(["--shards", &self.setup.shards.to_string()]).arg("--state").arg(self.directory.join("edge"));
        command.args(credentials(&self.authority(), "edge", EDGE));
        for node in &self.nodes {
            command.arg("--node").arg(format!("{}={}", node.name, node.address));
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

/// What scenarios do with a cluster.
impl Cluster {
    /// A client of the edge.
    pub fn client(&self) -> Client {
        Client::of(self.address)
    }

    /// The edge's admin API.
    pub fn admin(&self) -> Admin {
        Admin::at(&self.directory.join("edge/admin.sock"))
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The edge's process.
    pub fn edge(&self) -> Result<&Daemon> {
        self.edge.as_ref().context("the edge was killed")
    }

    /// The process of a node's agent.
    pub fn agent(&self, index: usize) -> Result<&Daemon> {
        self.nodes[index].agent.as_ref().context("the agent was killed")
    }

    /// The process of a node's supervisor.
    pub fn supervisor(&self, index: usize) -> Result<&Daemon> {
        self.nodes[index].supervisor.as_ref().context("the supervisor was killed")
    }

    /// SIGKILL to the edge.
    pub fn kill_edge(&mut self) -> Result<()> {
        self.edge.take().context("the edge was killed before")?.kill()
    }

    /// SIGKILL to the agent of a node.
    pub fn kill_agent(&mut self, index: usize) -> Result<()> {
        self.nodes[index].agent.take().context("the agent was killed before")?.kill()
    }

    /// Where this cluster keeps everything.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A program of this cluster.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join("bin").join(name)
    }

    /// The directory of the certificates, and of their authority.
    pub fn authority(&self) -> PathBuf {
        self.directory.join("certs")
    }

    /// Has `berth certs` make an authority.
    pub fn make_authority(&self, name: &str) -> Result<PathBuf> {
        let directory = self.directory.join(name);
        self.run.machine().make_directory(&directory)?;
        succeed(self.command("berth").args(["certs", "init", "--dir"]).arg(&directory))?;
        Ok(directory)
    }

    /// Has `berth certs` issue a certificate.
    pub fn issue(&self, authority: &Path, role: &str, name: &str) -> Result<()> {
        succeed(self.command("berth").args(["certs", "issue", role, name, "--dir"]).arg(authority)).map(drop)
    }

    /// A program of this cluster as the daemons' user.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.program(program));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("BERTH_LOG", self.setup.log);
        self.run.machine().demote(&mut command, &self.directory);
        command
    }

    /// Runs `berth` with the edge's admin socket.
    pub async fn berth(&self, words: &[&str]) -> Result<Output> {
        let mut command = self.command("berth");
        command.args(words).env("BERTH_ADMIN_SOCKET", self.admin().socket());
        tokio::task::spawn_blocking(move || output(&mut command)).await?
    }

    /// Deploys an app with `berth deploy`.
    pub async fn deploy(&self, app: &App) -> Result<()> {
        let directory = self.directory.join(format!("app-{}", app.name));
        self.run.machine().make_directory(&directory)?;
        fs::write(directory.join("berth.toml"), app.manifest(&self.program(HELLO)))?;
        let output = self.berth(&["deploy", &directory.to_string_lossy()]).await?;
        ensure!(output.status.success(), "berth deploy: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// The logs of all instances that a node has had.
    pub fn instance_logs(&self, index: usize) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.nodes[index].state.join("logs"))?;
        entries.map(|entry| Ok(fs::read_to_string(entry?.path())?)).collect()
    }

    /// Prints the ends of all logs.
    pub fn show_logs(&self) {
        let daemons = self.nodes.iter().flat_map(|node| [&node.supervisor, &node.agent]);
        for daemon in daemons.chain([&self.edge]).flatten() {
            eprintln!("{}", daemon.tail());
        }
        for node in &self.nodes {
            for entry in fs::read_dir(node.state.join("logs")).into_iter().flatten().flatten() {
                eprintln!("{}", tail(&format!("an instance on {}", node.name), &entry.path()));
            }
        }
    }
}

/// The end.
impl Cluster {
    /// Ends all daemons in good order and removes their state; fails if they do not end, or if anything is left of them.
    pub fn end(mut self) -> Result<()> {
        self.ended = true;
        let stopped = self.stop();
        let left = self.leftovers();
        let removed = self.remove();
        stopped?;
        ensure!(left.is_empty(), "left behind by the daemons:\n{}", left.join("\n"));
        removed
    }

    /// Edge and agents first, then the supervisors, which end the containers.
    fn stop(&mut self) -> Result<()> {
        let agents = self.nodes.iter_mut().map(|node| node.agent.take());
        let front: Vec<Daemon> = agents.chain([mem::take(&mut self.edge)]).flatten().collect();
        let supervisors = self.nodes.iter_mut().filter_map(|node| node.supervisor.take()).collect();
        let stopped = stop_all(front, END_TIMEOUT);
        stop_all(supervisors, CONTAINERS_END_TIMEOUT).and(stopped)
    }

    fn leftovers(&self) -> Vec<String> {
        let running = host::processes_running(&self.directory).into_iter();
        let contained = self.nodes.iter().flat_map(|node| cgroup::processes(&node.cgroup));
        let processes = running.chain(contained.filter_map(|pid| u32::try_from(pid).ok()));
        let mounts = host::mounts_below(&self.directory).unwrap_or_default();
        let mounts = mounts.into_iter().map(|mount| format!("mount {}", mount.display()));
        processes.map(|pid| format!("process {}", host::command_line(pid))).chain(mounts).collect()
    }

    fn remove(&self) -> Result<()> {
        let parent = self.run.machine().cgroup();
        // Instances' groups are gone with their containers: what is below a node's group now is a leftover.
        let groups = cgroup::beginning_with(parent, &format!("{}-", self.cgroup_prefix()));
        let removed = groups.iter().try_for_each(|group| cgroup::remove(group));
        machine::remove_directory(&self.directory)?;
        removed
    }

    fn cgroup_prefix(&self) -> String {
        format!("{}-{}", self.run.name(), self.label)
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{name}.log"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if std::thread::panicking() {
            self.show_logs();
        }
        if let Err(error) = self.stop().and(self.remove()) {
            eprintln!("ending a cluster: {error:#}");
        }
    }
}

/// The options that name the certificates of a daemon.
pub fn credentials(authority: &Path, role: &str, name: &str) -> Vec<String> {
    let file = |name: String| authority.join(name).to_string_lossy().into_owned();
    let (certificate, key) = (file(format!("{role}-{name}.pem")), file(format!("{role}-{name}.key")));
    vec!["--ca".into(), file("ca.pem".into()), "--cert".into(), certificate, "--key".into(), key]
}

async fn until_listening(node: &mut Node) -> Result<()> {
    let socket = node.state.join("supervisor.sock");
    let mut supervisor = node.supervisor.take().context("the supervisor was killed")?;
    let listening = wait::until("the supervisor to listen", START_TIMEOUT, async || {
        supervisor.expect_alive()?;
        tokio::net::UnixStream::connect(&socket).await.map(drop).context("connect to its socket")
    });
    let listening = listening.await;
    node.supervisor = Some(supervisor);
    listening
}

fn stop_all(mut daemons: Vec<Daemon>, within: Duration) -> Result<()> {
    daemons.iter_mut().try_for_each(|daemon| daemon.signal(Signal::SIGTERM))?;
    for daemon in &mut daemons {
        let status = daemon.wait(within)?;
        if !status.success() {
            eprintln!("{}", daemon.tail());
            bail!("{} did not end in good order: {status}", daemon.name());
        }
    }
    Ok(())
}

fn succeed(command: &mut Command) -> Result<Output> {
    let output = output(command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
    Ok(output)
}

fn output(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("run {command:?}"))
}
