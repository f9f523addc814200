//! How a cluster ends: daemons in order, then a check for leftovers, then everything is removed.

use std::time::Duration;

use anyhow::{Result, ensure};
use berth_cluster::Process;
use berth_cluster::daemons::stop_together;

use super::Cluster;
use crate::{cgroup, host, machine, slots};

/// How long edge and agents may take to end: their own grace, and a little.
const END_TIMEOUT: Duration = Duration::from_secs(12);
/// How long supervisors may take to end their containers.
const CONTAINERS_END_TIMEOUT: Duration = Duration::from_secs(15);

impl Cluster {
    /// Ends all daemons in good order and removes their state; fails if they do not end, or if anything is left of
    /// them.
    pub fn end(mut self) -> Result<()> {
        self.ended = true;
        let stopped = self.stop();
        self.unmount();
        let left = self.leftovers();
        let removed = self.remove();
        stopped?;
        ensure!(left.is_empty(), "left behind by the daemons:\n{}", left.join("\n"));
        removed
    }

    /// Edge and agents first, then the supervisors, which end the containers.
    fn stop(&mut self) -> Result<()> {
        let agents = self.nodes.iter_mut().map(|node| node.agent.take());
        let front: Vec<Process> = agents.chain([self.edge.take()]).flatten().collect();
        let supervisors = self.nodes.iter_mut().filter_map(|node| node.supervisor.take()).collect();
        let stopped = stop_together(front, END_TIMEOUT);
        stop_together(supervisors, CONTAINERS_END_TIMEOUT).and(stopped)
    }

    /// Takes away the disks that this cluster has mounted itself.
    fn unmount(&mut self) {
        drop(self.edge_disk.take());
        self.nodes.iter_mut().for_each(|node| drop(node.disk.take()));
    }

    fn leftovers(&self) -> Vec<String> {
        let running = host::processes_running(self.directory()).into_iter();
        let contained = self.nodes.iter().flat_map(|node| cgroup::processes(&node.cgroup));
        let processes = running.chain(contained.filter_map(|pid| u32::try_from(pid).ok()));
        let mounts = host::mounts_below(self.directory()).unwrap_or_default();
        let mounts = mounts.into_iter().map(|mount| format!("mount {}", mount.display()));
        processes.map(|pid| format!("process {}", host::command_line(pid))).chain(mounts).collect()
    }

    fn remove(&self) -> Result<()> {
        let parent = self.run.machine().cgroup();
        // Instances' cgroups are removed with their containers: any cgroup left below a node's is a leftover.
        let groups = cgroup::beginning_with(parent, &format!("{}-", self.cgroup_prefix()));
        let removed = groups.iter().try_for_each(|group| cgroup::remove(group));
        let unmounted = if self.setup.disk_slots.is_some() { self.remove_slots() } else { Ok(()) };
        machine::remove_directory(self.directory())?;
        removed.and(unmounted)
    }
}

impl Cluster {
    fn remove_slots(&self) -> Result<()> {
        let program = self.program("berth-agent");
        self.nodes.iter().try_for_each(|node| slots::remove(&program, &node.state))
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
        let stopped = self.stop();
        self.unmount();
        if let Err(error) = stopped.and(self.remove()) {
            eprintln!("ending a cluster: {error:#}");
        }
    }
}

/// Ends one edge or agent in good order.
pub(super) fn stop(daemon: Process) -> Result<()> {
    stop_together(vec![daemon], END_TIMEOUT)
}
