//! What a cluster of `berth dev` is made of before anything runs: its directory with programs, certificates and
//! cgroups; and how its daemons are started in it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use berth_cluster::certificates::Certificates;
use berth_cluster::owner::is_root;
use berth_cluster::state_dir::{Lock, Locked, PROGRAMS, StateDir};
use berth_cluster::{Daemons, Launch, Owner, Process, Role, leftovers, machine, ready};

use super::location::Location;
use crate::args::Dev;

/// The name of the edge.
const EDGE: &str = "dev";
/// How long daemons and containers may take to end after their `berth dev` was killed: a supervisor's bound for its
/// containers, and a little.
const EARLIER_TIMEOUT: Duration = Duration::from_secs(15);

/// A prepared directory, locked against any other `berth dev`.
pub(crate) struct Home {
    launch: Launch,
    nodes: Vec<String>,
    groups: String,
    disks: Disks,
    _lock: Lock,
}

/// Whether containers are held to the sizes of their disks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disks {
    Enforced,
    Unenforced,
}

impl Home {
    /// Creates what is missing, after all processes of an earlier start have ended.
    pub(crate) fn open(args: &Dev) -> Result<Self> {
        let location = Location::of(&args.at)?;
        let programs = programs()?;
        location.make()?;
        let state = location.state.clone();
        let lock = lock(&state)?;
        sweep(&state);
        state.install(&programs)?;
        let nodes: Vec<String> = (1..=args.nodes).map(|number| format!("n{number}")).collect();
        if is_root() {
            let paths: Vec<PathBuf> =
                nodes.iter().map(|node| state.node(node)).chain([state.edge()]).collect();
            machine::prepare(&state.program("berth-agent"), paths.iter().map(PathBuf::as_path))?;
        }
        let owner = Owner::of_this_process()?;
        // As root they were just made; the daemons create the content.
        for path in nodes.iter().map(|node| state.node(node)).chain([state.edge()]).filter(|_| !is_root()) {
            owner.make_directory(&path)?;
        }
        location.link()?;
        let disks = make_disks(&state, &owner, &nodes, args.disk_slots.as_deref());
        let launch = Launch::new(state, owner);
        Ok(Self { launch, nodes, groups: location.name, disks, _lock: lock })
    }

    /// The directory.
    pub(crate) fn state(&self) -> &StateDir {
        self.launch.state()
    }

    /// Starts a supervisor and an agent for each node, and the edge.
    pub(crate) async fn start(&self, listen: SocketAddr, daemons: &mut Daemons) -> Result<()> {
        let certificates = Certificates::create(&self.state().certificates(), self.launch.owner())?;
        for node in &self.nodes {
            self.start_supervisor(node, daemons).await?;
        }
        let mut addresses = Vec::new();
        for node in &self.nodes {
            let address = free_udp_address()?;
            self.start_agent(node, address, &certificates, daemons)?;
            addresses.push((node.clone(), address));
        }
        let mut edge = self.launch.edge(EDGE, listen, &certificates.edge(EDGE)?, &addresses);
        // Its only clients are who develops the app.
        edge.arg("--show-errors");
        // In development, receivers of hooks are on this machine too.
        edge.args(["--allow-hooks-to", "127.0.0.0/8", "--allow-hooks-to", "::1/128"]);
        self.run(Role::Edge, "edge", edge, daemons).map(drop)
    }

    /// One after the other: each tests the delegated cgroup before it listens.
    async fn start_supervisor(&self, node: &str, daemons: &mut Daemons) -> Result<()> {
        let state = self.state().node(node);
        let group = machine::group(&format!("{}-{node}", self.groups));
        let command = self.launch.supervisor(&state, &group, &[])?;
        let supervisor = self.run(Role::Supervisor, &format!("supervisor-{node}"), command, daemons)?;
        let listening = ready::until_listening(supervisor, &state).await;
        listening.map_err(|error| anyhow::anyhow!("{error:#}\n{}", daemons.log_end()))
    }

    fn start_agent(
        &self,
        node: &str,
        listen: SocketAddr,
        certificates: &Certificates,
        daemons: &mut Daemons,
    ) -> Result<()> {
        let mut command =
            self.launch.agent(node, &self.state().node(node), listen, &certificates.agent(node)?, &[]);
        command.args(["--disk-limit", if self.disks == Disks::Enforced { "enforced" } else { "unenforced" }]);
        self.run(Role::Agent, &format!("agent-{node}"), command, daemons).map(drop)
    }

    fn run<'a>(
        &self,
        role: Role,
        name: &str,
        command: std::process::Command,
        daemons: &'a mut Daemons,
    ) -> Result<&'a mut Process> {
        crate::output::note!("starting {name}");
        let log = self.state().log(name);
        // The logs of an earlier start are not needed any more.
        let _ = std::fs::remove_file(&log);
        Ok(daemons.add(role, Process::start(name, command, &log)?))
    }
}

/// The directory of the daemons' programs: that of this one.
fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let directory = own.parent().context("this program has no directory")?.to_owned();
    for name in PROGRAMS {
        let path = directory.join(name);
        ensure!(path.is_file(), "{} is missing: build or install it beside berth", path.display());
    }
    Ok(directory)
}

fn lock(state: &StateDir) -> Result<Lock> {
    match state.lock()? {
        Locked::Taken(lock) => Ok(lock),
        Locked::By(_) => bail!(
            "another `berth dev` runs for this directory (it holds {}); `berth dev down` ends it",
            state.path().join("lock").display()
        ),
    }
}

/// Waits for the daemons of an earlier start, and kills those that do not end.
pub(super) fn sweep(state: &StateDir) {
    let find = || leftovers::daemons_running(&state.programs());
    for process in leftovers::sweep(find, EARLIER_TIMEOUT) {
        crate::output::note!("warning: still there, and killed: {process}");
    }
}

/// In development, containers run without limits if the machine offers none.
fn make_disks(state: &StateDir, owner: &Owner, nodes: &[String], slots: Option<&str>) -> Disks {
    let Some(slots) = slots else { return Disks::Unenforced };
    let agent = state.program("berth-agent");
    let make =
        |node: &String| machine::make_disk_slots(&agent, &owner.user().name, &state.node(node), slots, true);
    match nodes.iter().filter(|_| is_root()).try_for_each(make) {
        Ok(()) => Disks::Enforced,
        Err(error) => {
            crate::output::note!("warning: containers' disks are not limited here: {error:#}");
            Disks::Unenforced
        }
    }
}

/// The address to listen on, with a free port where 0 was asked for; an error here if it is taken, before anything is
/// started.
pub(crate) fn choose_address(wanted: SocketAddr) -> Result<SocketAddr> {
    let taken = || format!("cannot listen on {wanted}; choose another address with --listen");
    Ok(TcpListener::bind(wanted).with_context(taken)?.local_addr()?)
}

/// The edge must know an agent's port before it starts, so it is chosen here; another process may take it in between,
/// and then the agent reports that and ends.
fn free_udp_address() -> Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free UDP port")?;
    Ok(socket.local_addr()?)
}

/// The nodes that have a state in a directory.
pub(super) fn nodes_in(state: &StateDir) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state.path()).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| is_node(path)).collect()
}

fn is_node(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix('n').is_some_and(|number| number.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_refused_before_anything_starts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = choose_address(listener.local_addr().unwrap()).unwrap_err();
        assert!(error.to_string().contains("--listen"));
        assert_ne!(choose_address("127.0.0.1:0".parse().unwrap()).unwrap().port(), 0);
    }

    #[test]
    fn only_nodes_are_nodes() {
        assert!(is_node(Path::new("/s/n12")));
        assert!(!is_node(Path::new("/s/notes")) && !is_node(Path::new("/s/edge")));
    }
}
