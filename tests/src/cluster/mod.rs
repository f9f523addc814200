//! A cluster of one scenario: N nodes, each a supervisor and an agent, and one edge; started, broken, mended, and ended
//! with nothing left. `start` and `end` are the beginning and the end of its life.

mod end;
mod node;
mod start;

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_cluster::certificates::{Certificates, Credentials};
use berth_cluster::process::log_end;
use berth_cluster::{Launch, Process, StateDir};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use self::node::Node;
use crate::admin::Admin;
use crate::app::App;
use crate::client::Client;
use crate::crowd::Crowd;
use crate::disk::Small;
use crate::run::Run;
use crate::world::World;
use crate::{cgroup, host, slots, wait};

/// The edge's name.
pub const EDGE: &str = "e1";
/// How long an edge may take to end: its own grace, and a little.
const END_LIMIT: Duration = Duration::from_secs(20);
/// Lines of a log's end that are shown of daemons and instances that failed.
const SHOWN_LINES: usize = 40;
/// What the daemons log.
const LOG: &str = "info,berth_edge=debug,berth_agent=debug";

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How many nodes.
    pub nodes: usize,
    /// How many of them, the last ones, have certificates of another authority.
    pub strangers: usize,
    /// Shards of the edge. In scenarios two, so that requests are handed over between them; `None` is the edge's
    /// choice.
    pub shards: Option<usize>,
    /// What the daemons log.
    pub log: &'static str,
    /// Whether the nodes are in a world of their own instead of this machine's network.
    pub world: bool,
    /// Clients with addresses of their own; the edge listens on all of this machine's addresses then. Needs root.
    pub crowd: Option<u8>,
    /// Disk slots of every node, such as `4x64MiB`; without, disks are not limited. Needs root.
    pub disk_slots: Option<&'static str>,
    /// Whether the edge reaches each node through a wire that can be cut.
    pub relays: bool,
    /// The size of a file system of its own for the edge's state. Needs root.
    pub edge_disk_mib: Option<u32>,
    /// The same for the state of every node.
    pub node_disk_mib: Option<u32>,
    /// Whether every agent serves its metrics.
    pub monitored: bool,
    /// Options of every agent, besides those that all have.
    pub agent_options: Vec<&'static str>,
    /// Options of the edge, besides those that all have.
    pub edge_options: Vec<String>,
    /// Whether this process keeps the socket that clients connect to, as a service manager does.
    pub kept_socket: bool,
    /// Whether clients are told no more of errors than anybody may know.
    pub short_errors: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            nodes: 3,
            strangers: 0,
            shards: Some(2),
            log: LOG,
            world: false,
            crowd: None,
            disk_slots: None,
            relays: false,
            edge_disk_mib: None,
            node_disk_mib: None,
            monitored: false,
            agent_options: Vec::new(),
            edge_options: Vec::new(),
            kept_socket: false,
            short_errors: false,
        }
    }
}

impl Setup {
    /// A cluster with this many nodes.
    pub fn nodes(nodes: usize) -> Self {
        Self { nodes, ..Self::default() }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    run: Arc<Run>,
    launch: Launch,
    certificates: Certificates,
    credentials: Credentials,
    label: String,
    setup: Setup,
    nodes: Vec<Node>,
    /// Nodes that the edge is not configured with from its next start on.
    left_out: BTreeSet<usize>,
    edge: Option<Process>,
    edge_disk: Option<Small>,
    address: SocketAddr,
    kept_socket: Option<TcpListener>,
    world: Option<World>,
    crowd: Option<Crowd>,
    ended: bool,
}

impl Cluster {
    /// A client of the edge.
    pub fn client(&self) -> Client {
        Client::of(self.address)
    }

    /// Where the edge takes requests.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The edge's admin API.
    pub fn admin(&self) -> Admin {
        Admin::at(&self.state().admin_socket())
    }

    /// The world that the nodes are in.
    pub fn world(&self) -> Result<&World> {
        self.world.as_ref().context("the cluster was set up without a world")
    }

    /// The clients with addresses of their own.
    pub fn crowd(&self) -> Result<&Crowd> {
        self.crowd.as_ref().context("the cluster was set up without a crowd")
    }

    /// The file system that the edge's state has to itself.
    pub fn edge_disk(&self) -> Result<&Small> {
        self.edge_disk.as_ref().context("the edge was set up without a disk of its own")
    }

    /// The directories of a node's disk slots.
    pub fn slots(&self, index: usize) -> Result<Vec<PathBuf>> {
        let state = self.nodes[index].state.canonicalize()?;
        slots::of(&state)
    }

    /// The cgroups of a node's instances, by name.
    pub fn instance_groups(&self, index: usize) -> Vec<String> {
        let groups = cgroup::beginning_with(&self.nodes[index].cgroup, "container-");
        let names = groups.iter().filter_map(|group| Some(group.file_name()?.to_string_lossy().into_owned()));
        names.filter(|name| !self.is_held(index, name)).collect()
    }

    /// Whether a container waits for an instance. Its group and its directory have the same name.
    fn is_held(&self, index: usize, group: &str) -> bool {
        let name = group.trim_start_matches("container-");
        self.nodes[index].state.join("spares").join(name).exists()
    }

    /// The groups of a node's containers that are made and wait for an instance.
    pub fn held(&self, index: usize) -> Vec<String> {
        let groups = cgroup::beginning_with(&self.nodes[index].cgroup, "container-");
        let names = groups.iter().filter_map(|group| Some(group.file_name()?.to_string_lossy().into_owned()));
        names.filter(|name| self.is_held(index, name)).collect()
    }

    /// The processes of a node's instances.
    pub fn instance_processes(&self, index: usize) -> Vec<u32> {
        let groups = self.instance_groups(index);
        let of = |name: &String| cgroup::processes(&self.nodes[index].cgroup.join(name));
        groups.iter().flat_map(of).filter_map(|pid| u32::try_from(pid).ok()).collect()
    }

    /// The directories of a node's instances.
    pub fn instance_directories(&self, index: usize) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.nodes[index].state.join("instances"))?;
        entries.map(|entry| Ok(entry?.path().display().to_string())).collect()
    }

    /// CPU time that the living instances of a node have taken.
    pub fn cpu_of_instances(&self, index: usize) -> Result<Duration> {
        let groups = self.instance_groups(index);
        groups.iter().map(|name| cgroup::cpu_time(&self.nodes[index].cgroup.join(name))).sum()
    }

    /// The processes that carry the networks of a node's instances.
    pub fn network_processes(&self, index: usize) -> Vec<i32> {
        let groups = cgroup::beginning_with(&self.nodes[index].cgroup, "net-");
        groups.iter().flat_map(|group| cgroup::processes(group)).collect()
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The edge's process.
    pub fn edge(&self) -> Result<&Process> {
        self.edge.as_ref().context("the edge was killed")
    }

    /// The process of a node's agent.
    pub fn agent(&self, index: usize) -> Result<&Process> {
        self.nodes[index].agent.as_ref().context("the agent was killed")
    }

    /// The one process of the edge's programs: a child of one of its threads.
    pub fn script_process(&self) -> Result<u32> {
        let found = host::children_of_threads(self.edge()?.pid());
        ensure!(found.len() == 1, "not one process of programs: {found:?}");
        found.first().copied().context("no process of programs")
    }

    /// The process of a node's supervisor.
    pub fn supervisor(&self, index: usize) -> Result<&Process> {
        self.nodes[index].supervisor.as_ref().context("the supervisor was killed")
    }

    /// Has the edge not be configured with a node any more, from its next start on.
    pub fn leave_out(&mut self, index: usize) {
        self.left_out.insert(index);
    }

    /// Has the edge be configured with a node again that was left out, from its next start on.
    pub fn keep_in(&mut self, index: usize) {
        self.left_out.remove(&index);
    }

    /// SIGKILL to the edge.
    pub fn kill_edge(&mut self) -> Result<()> {
        self.edge.take().context("the edge was killed before")?.kill()
    }

    /// Waits for the end of an edge that was signalled, and starts another.
    pub async fn start_edge_again(&mut self) -> Result<()> {
        end::stop(self.edge.take().context("the edge was killed")?)?;
        self.start_edge()?;
        self.until_connected().await
    }

    /// Ends the edge in good order, with its exit code.
    pub async fn end_edge(&mut self) -> Result<()> {
        let mut edge = self.edge.take().context("the edge was killed before")?;
        edge.signal(Signal::SIGTERM)?;
        end_in_order(edge).await
    }

    /// The same, and starts another.
    pub async fn restart_edge(&mut self) -> Result<()> {
        self.end_edge().await?;
        self.start_edge()?;
        self.until_connected().await
    }

    /// Starts an edge beside the one that runs, which then ends in good order.
    pub async fn take_over_edge(&mut self) -> Result<()> {
        let mut before = self.edge.take().context("the edge was killed before")?;
        self.setup.edge_options.push("--take-over".to_owned());
        let started = self.start_edge();
        self.setup.edge_options.pop();
        started?;
        let next = self.edge()?;
        wait::until("the next edge to wait", END_LIMIT, async || {
            ensure!(next.log().contains("waiting for the edge before"), "it does not");
            Ok(())
        })
        .await?;
        before.signal(Signal::SIGTERM)?;
        end_in_order(before).await?;
        self.until_connected().await
    }

    /// SIGKILL to all shims of a node, which are gone then.
    pub fn kill_shims(&self, index: usize) -> Result<usize> {
        let shims = host::children(self.supervisor(index)?.pid());
        for pid in &shims {
            // One that had no container may have ended with its agent just now.
            let _ = kill(Pid::from_raw(i32::try_from(*pid)?), Signal::SIGKILL);
        }
        while host::children(self.supervisor(index)?.pid()).iter().any(|pid| shims.contains(pid)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(shims.len())
    }

    /// The processes of all shims of a node.
    pub fn shims(&self, index: usize) -> Result<Vec<u32>> {
        Ok(host::children(self.supervisor(index)?.pid()))
    }

    /// A signal to all shims of a node.
    pub fn signal_shims(&self, index: usize, signal: Signal) -> Result<()> {
        for pid in self.shims(index)? {
            // One that had no container may have ended just now.
            let _ = kill(Pid::from_raw(i32::try_from(pid)?), signal);
        }
        Ok(())
    }

    /// SIGKILL to the supervisor of a node.
    pub fn kill_supervisor(&mut self, index: usize) -> Result<()> {
        self.nodes[index].supervisor.take().context("the supervisor was killed before")?.kill()
    }

    /// SIGKILL to the agent of a node.
    pub fn kill_agent(&mut self, index: usize) -> Result<()> {
        self.nodes[index].agent.take().context("the agent was killed before")?.kill()
    }

    /// SIGTERM to the agent of a node, and its end in good order.
    pub fn end_agent(&mut self, index: usize) -> Result<()> {
        end::stop(self.nodes[index].agent.take().context("the agent was killed before")?)
    }

    /// Makes a directory of the daemons' user in this cluster's.
    pub fn make_directory(&self, name: &str) -> Result<PathBuf> {
        let directory = self.directory().join(name);
        self.run.machine().make_directory(&directory)?;
        Ok(directory)
    }

    /// Where this cluster keeps everything.
    pub fn directory(&self) -> &Path {
        self.state().path()
    }

    /// The same, and the content of its tables.
    fn state(&self) -> &StateDir {
        self.launch.state()
    }

    /// A program of this cluster.
    pub fn program(&self, name: &str) -> PathBuf {
        self.state().program(name)
    }

    /// The directory of the certificates, and of their authority.
    pub fn authority(&self) -> PathBuf {
        self.state().certificates()
    }

    /// Has `berth certs` issue another certificate of this cluster's authority.
    pub fn issue(&self, role: &str, name: &str) -> Result<()> {
        let mut command = Command::new(self.program("berth"));
        succeed(command.args(["certs", "issue", role, name, "--dir"]).arg(self.authority())).map(drop)
    }

    /// Gives a node's agent a certificate with another key, from its next start on.
    pub fn give_new_key(&mut self, index: usize) -> Result<()> {
        let node = &mut self.nodes[index];
        fs::remove_file(&node.credentials.own.certificate)?;
        fs::remove_file(&node.credentials.own.key)?;
        node.credentials = self.certificates.agent(&node.name)?;
        Ok(())
    }

    /// Has a node's agent use this key with its certificate, from its next start on.
    pub fn use_key(&mut self, index: usize, key: &Path) -> Result<()> {
        self.run.machine().owner().give(key)?;
        self.nodes[index].credentials.own.key = key.to_owned();
        Ok(())
    }

    /// The log of a daemon.
    pub fn log_of(&self, daemon: &str) -> PathBuf {
        self.state().log(daemon)
    }

    /// A program of this cluster as the daemons' user.
    pub fn command(&self, program: &str) -> Command {
        self.launch.command(program)
    }

    /// Runs `berth` with the edge's admin socket.
    pub async fn berth(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.command("berth");
        command.args(args).env("BERTH_ADMIN_SOCKET", self.admin().socket());
        tokio::task::spawn_blocking(move || output(&mut command)).await?
    }

    /// Deploys an app with `berth deploy`.
    pub async fn deploy(&self, app: &App) -> Result<()> {
        let output = self.try_deploy(app, &[]).await?;
        ensure!(output.status.success(), "berth deploy: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// Deploys an app with `berth deploy` and more options, whatever comes of it.
    pub async fn try_deploy(&self, app: &App, options: &[&str]) -> Result<Output> {
        let directory = self.make_directory(&format!("app-{}", app.name))?;
        fs::write(directory.join("berth.toml"), app.manifest(&self.program(app.program)))?;
        // A scenario that deploys means a version of its own, also where no node can run it yet or for ever.
        let directory = directory.to_string_lossy();
        let words = ["deploy", &*directory, "--force", "--allow-unplaceable"];
        self.berth(&[&words, options].concat()).await
    }

    /// The logs of all instances that a node has had.
    pub fn instance_logs(&self, index: usize) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.nodes[index].state.join("logs"))?;
        let logs = entries.flatten().filter(|entry| entry.path().extension().is_none_or(|end| end != "json"));
        logs.map(|entry| Ok(fs::read_to_string(entry.path())?)).collect()
    }

    /// Prints the ends of all logs.
    pub fn show_logs(&self) {
        let daemons = self.nodes.iter().flat_map(|node| [&node.supervisor, &node.agent]);
        for daemon in daemons.chain([&self.edge]).flatten() {
            eprintln!("{}", daemon.log_end(SHOWN_LINES));
        }
        for node in &self.nodes {
            for entry in fs::read_dir(node.state.join("logs")).into_iter().flatten().flatten() {
                eprintln!("{}", log_end(&entry.path(), SHOWN_LINES));
            }
        }
    }

    fn cgroup_prefix(&self) -> String {
        format!("{}-{}", self.run.name(), self.label)
    }
}

/// Waits for the end of a daemon that was told to end, which must be one with exit code 0.
async fn end_in_order(mut daemon: Process) -> Result<()> {
    let ended = tokio::time::timeout(END_LIMIT, std::future::poll_fn(|cx| daemon.poll_end(cx)));
    let status = ended.await.with_context(|| format!("the {} did not end", daemon.name()))??;
    ensure!(status.success(), "the {} ended with {status}", daemon.name());
    Ok(())
}

/// The options that name the certificates of a daemon.
pub fn credentials(authority: &Path, role: &str, name: &str) -> Vec<String> {
    let file = |name: String| authority.join(name).to_string_lossy().into_owned();
    let (certificate, key) = (file(format!("{role}-{name}.pem")), file(format!("{role}-{name}.key")));
    vec!["--ca".into(), file("ca.pem".into()), "--cert".into(), certificate, "--key".into(), key]
}

fn succeed(command: &mut Command) -> Result<Output> {
    let output = output(command)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, stderr.trim());
    Ok(output)
}

fn output(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("run {command:?}"))
}
