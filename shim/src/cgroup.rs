//! Control groups of instances and of the processes that serve them: created and limited before a process is in them,
//! read, and removed.
//!
//! Works alike on v1 (one directory in each mounted hierarchy) and v2 (one directory). The parent was delegated to
//! this user by root or by systemd.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_images::layer::MAX_DECODER_BYTES;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use cgroups_rs::{Cgroup, CgroupPid, MaxValue, hierarchies};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::layout::ShimName;

/// Most processes and threads in an instance: enough for any server, and harmless for a node.
pub(crate) const INSTANCE_PIDS: u32 = 1024;
/// The hierarchies of v1: libcontainer moves containers in each of them that is mounted.
const V1_CONTROLLERS: [&str; 12] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];
/// The controllers of v2 that limits are set with.
const V2_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// The hierarchies of v1 that a container sees of its own group: what runtimes of languages look for to size themselves. Not
/// `devices`, nor any other that could say something of the machine.
const V1_VISIBLE: [&str; 5] = ["cpu", "cpuacct", "cpuset", "memory", "pids"];
/// Where hierarchies are mounted, outside and inside.
pub(crate) const MOUNT_POINT: &str = "/sys/fs/cgroup";
/// Length of a CPU quota period, in microseconds (the kernel's default).
const CPU_PERIOD_US: u64 = 100_000;
/// How long killed processes may take to leave the group.
const EMPTY_TIMEOUT: Duration = Duration::from_secs(5);
/// Limits of the group that tests the delegation.
const PROBE_LIMITS: Limits = Limits { memory_bytes: 16 << 20, pids: 16 };
/// Share of a group's memory that buffers of its sockets may take on v1, which counts them apart: a quarter beside the
/// memory itself. On v2 they are part of the memory.
const SOCKET_SHARE: u64 = 4;
/// Least for the buffers of sockets, in bytes: a few connections at full speed.
const MIN_SOCKET_BYTES: u64 = 4 << 20;
/// Prefix of the names of containers' groups.
const CONTAINER: &str = "container-";
/// Prefix of the names of networks' groups.
const NETWORK: &str = "net-";
/// Name of the group of helpers.
const HELPERS: &str = "helpers";
/// Their share of each CPU, in sixteenths.
const HELPERS_SIXTEENTHS_A_CPU: usize = 12;
/// Unpackers that a node runs at once.
pub const UNPACKERS_AT_ONCE: usize = 4;
/// The part of the machine's memory that they may take, with what the kernel keeps of the files that they write.
const HELPERS_MEMORY_SHARE: u64 = 4;
/// The least: all unpackers, of layers with the largest windows, and wipes and sweeps beside them.
const MIN_HELPERS_BYTES: u64 = UNPACKERS_AT_ONCE as u64 * UNPACKER_BYTES + WIPES_BYTES;
/// Memory of an unpacker, in bytes: its decoder, and itself with its buffers and the files that it writes just then.
const UNPACKER_BYTES: u64 = MAX_DECODER_BYTES + (16 << 20);
/// Memory of wipes and sweeps, in bytes: each takes a few megabytes.
const WIPES_BYTES: u64 = 60 << 20;
/// Most processes: each helper has two more while its user namespace is made.
const HELPERS_PIDS: u32 = 256;
/// Poll interval while a group is being emptied or frozen.
const EMPTY_POLL: Duration = Duration::from_millis(2);

/// The limits of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Memory in bytes. There is no swap.
    pub(crate) memory_bytes: u64,
    /// Processes and threads.
    pub(crate) pids: u32,
}

/// The group of a container below the delegated one, by the name of its shim's first directory.
pub fn of_container(delegated: &Path, shim: ShimName) -> PathBuf {
    delegated.join(format!("{CONTAINER}{shim}"))
}

/// The group of the processes that serve its network.
pub fn of_network(delegated: &Path, shim: ShimName) -> PathBuf {
    delegated.join(format!("{NETWORK}{shim}"))
}

/// The group of the processes that unpack and delete for all containers below a delegated group.
pub fn of_helpers(delegated: &Path) -> PathBuf {
    delegated.join(HELPERS)
}

/// Makes that group. Three quarters of the CPUs: unpacking stays fast, and what containers and requests need stays free.
fn make_helpers(delegated: &Path) -> io::Result<()> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let total_kib: u64 = total_kib.unwrap_or(0);
    let memory_bytes = (total_kib * 1024 / HELPERS_MEMORY_SHARE).max(MIN_HELPERS_BYTES);
    let group = ControlGroup::create(&of_helpers(delegated), &Limits { memory_bytes, pids: HELPERS_PIDS })?;
    group.limit_cpu(u32::try_from(cpus * HELPERS_SIXTEENTHS_A_CPU).unwrap_or(u32::MAX))
}

/// The groups of containers and networks below the delegated one, in whichever hierarchy.
pub(crate) fn groups_of_shims(delegated: &Path) -> BTreeSet<PathBuf> {
    let mut groups = BTreeSet::new();
    for directory in ControlGroup::load(delegated).directories() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(NETWORK) || name.starts_with(CONTAINER) {
                groups.insert(delegated.join(name));
            }
        }
    }
    groups
}

/// Takes possession of the delegated group: the one given, or on v2 the one that this process runs in. Checks that
/// groups can be made there.
pub(crate) fn claim(given: Option<&Path>) -> io::Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => own_unified_group()?,
    };
    if hierarchies::auto().v2() {
        enable_controllers(&path)?;
    }
    try_out(&path)?;
    make_helpers(&path)?;
    Ok(path)
}

/// Tests a group: makes a limited group in it, and removes that.
pub fn try_out(path: &Path) -> io::Result<()> {
    let probe = path.join(format!("probe-{}", std::process::id()));
    ControlGroup::create(&probe, &PROBE_LIMITS)?.destroy()
}

fn own_unified_group() -> io::Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::")).filter(|_| hierarchies::auto().v2());
    own.map(PathBuf::from).ok_or_else(|| {
        io::Error::other("on cgroup v1 the delegated cgroup must be named: --cgroup /berth (made by `berth-agent prepare`)")
    })
}

/// On v2 a group with processes cannot enable controllers for its children ("no internal processes" rule): so this
/// process moves into a sibling of the instances' groups first.
fn enable_controllers(path: &Path) -> io::Result<()> {
    let root = Path::new("/sys/fs/cgroup").join(path.strip_prefix("/").unwrap_or(path));
    let own = root.join("supervisor");
    let said =
        |e: io::Error| io::Error::other(format!("{}: {e}; was it delegated to this user?", root.display()));
    fs::create_dir_all(&own).map_err(said)?;
    fs::write(own.join("cgroup.procs"), std::process::id().to_string()).map_err(said)?;
    fs::write(root.join("cgroup.subtree_control"), "+cpu +memory +pids").map_err(said)?;
    // With it each container has an equal share of a busy disk (`io.weight` is 100 by itself). Kernels may be without it, and
    // so may what was delegated: `shares_disks` tells.
    let _ = fs::write(root.join("cgroup.subtree_control"), "+io");
    Ok(())
}

/// Whether the groups below this one share a busy disk by weight.
pub fn shares_disks(path: &Path) -> bool {
    let group = Path::new("/sys/fs/cgroup").join(path.strip_prefix("/").unwrap_or(path));
    let controllers = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    hierarchies::auto().v2() && controllers.split_whitespace().any(|name| name == "io")
}

/// A control group.
pub(crate) struct ControlGroup {
    cgroup: Cgroup,
    path: PathBuf,
}

impl ControlGroup {
    /// Makes the group with its memory and process limits. `path` is relative to each hierarchy's root.
    pub(crate) fn create(path: &Path, limits: &Limits) -> io::Result<Self> {
        let group = Self::load(path);
        group.make()?;
        group.limit(limits).inspect_err(|_| {
            let _ = group.cgroup.delete();
        })?;
        Ok(group)
    }

    /// Makes its directories. On v1 by cgroups-rs, which also sets up cpusets, but reports no failure. On v2 directly:
    /// only one directory is needed, and cgroups-rs misreads the names of controllers there.
    fn make(&self) -> io::Result<()> {
        if !self.cgroup.v2() {
            self.cgroup.create().map_err(|e| self.error("make the directories", &e))?;
        }
        let open = |directory: &PathBuf| {
            fs::create_dir_all(directory)?;
            // Whatever the umask: on v1 the container's root moves its own processes in.
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
        };
        self.directories().iter().try_for_each(open).map_err(|e| self.error("make the directories", &e))
    }

    /// A group that may or may not exist.
    pub(crate) fn load(path: &Path) -> Self {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let hierarchy = hierarchies::auto();
        let names: &[&str] = if hierarchy.v2() { &V2_CONTROLLERS } else { &V1_CONTROLLERS };
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            cgroup: Cgroup::load_with_specified_controllers(hierarchy, relative, names),
            path: path.to_owned(),
        }
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        let bytes = i64::try_from(limits.memory_bytes).map_err(io::Error::other)?;
        let memory = self.controller::<MemController>("memory")?;
        memory.set_limit(bytes).map_err(|e| self.error("limit the memory", &e))?;
        // v1 limits memory plus swap, v2 swap alone: either way no swap is allowed.
        let swap = if self.cgroup.v2() { 0 } else { bytes };
        memory.set_memswap_limit(swap).map_err(|e| self.error("limit the swap", &e))?;
        self.limit_sockets(limits.memory_bytes)?;
        let pids = self.controller::<PidController>("pids")?;
        pids.set_pid_max(MaxValue::Value(limits.pids.into()))
            .map_err(|e| self.error("limit the processes", &e))
    }

    /// On v1, limits the buffers of TCP and UDP sockets, which its limit of memory leaves out.
    fn limit_sockets(&self, memory_bytes: u64) -> io::Result<()> {
        if self.cgroup.v2() {
            return Ok(());
        }
        let bytes = (memory_bytes / SOCKET_SHARE).max(MIN_SOCKET_BYTES);
        let memory = self.controller::<MemController>("memory")?;
        let file = cgroups_rs::Controller::path(memory).join("memory.kmem.tcp.limit_in_bytes");
        match fs::write(file, bytes.to_string()) {
            // A kernel that was built without it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|e| self.error("limit the buffers of sockets", &e)),
        }
    }

    /// Limits CPU to this many sixteenths of a virtual CPU.
    pub(crate) fn limit_cpu(&self, sixteenths: u32) -> io::Result<()> {
        let quota_us = i64::from(sixteenths) * i64::try_from(CPU_PERIOD_US / 16).map_err(io::Error::other)?;
        let cpu = self.controller::<CpuController>("cpu")?;
        cpu.set_cfs_quota_and_period(Some(quota_us), Some(CPU_PERIOD_US))
            .map_err(|e| self.error("limit the CPU", &e))
    }

    /// On v2, moves the calling process into the group, because libcontainer, as the container's root, may not. On v1
    /// it can, and the builder must stay outside: after a failure libcontainer kills everything in the group before it
    /// reports the error.
    pub(crate) fn join(&self) -> io::Result<()> {
        if self.cgroup.v2() { self.enter() } else { Ok(()) }
    }

    /// Moves the calling process into the group.
    pub(crate) fn enter(&self) -> io::Result<()> {
        let me = CgroupPid::from(u64::from(std::process::id()));
        self.cgroup.add_task_by_tgid(me).map_err(|e| self.error("enter the directories", &e))
    }

    /// On v1, grants or revokes the container's root the right to move its own processes into the group, which
    /// libcontainer always does. The kernel lets it move no others. On v2 libcontainer does not need it.
    pub(crate) fn open_to_container(&self, open: bool) -> io::Result<()> {
        if self.cgroup.v2() {
            return Ok(());
        }
        let mode = fs::Permissions::from_mode(if open { 0o666 } else { 0o644 });
        for directory in self.directories() {
            fs::set_permissions(directory.join("cgroup.procs"), mode.clone())?;
        }
        Ok(())
    }

    /// How many of its processes the kernel's OOM killer has ended.
    pub(crate) fn oom_kills(&self) -> u64 {
        let Ok(memory) = self.controller::<MemController>("memory") else { return 0 };
        let file = if self.cgroup.v2() { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(cgroups_rs::Controller::path(memory).join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    }

    /// CPU time of its processes so far, in microseconds.
    pub(crate) fn cpu_us(&self) -> u64 {
        if self.cgroup.v2() {
            let text = self.read("cpu", "cpu.stat");
            return number_of("usage_usec", &text).unwrap_or(0);
        }
        self.read("cpuacct", "cpuacct.usage").trim().parse::<u64>().unwrap_or(0) / 1000
    }

    /// Memory of its processes now, including caches, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let file = if self.cgroup.v2() { "memory.current" } else { "memory.usage_in_bytes" };
        self.read("memory", file).trim().parse().unwrap_or(0)
    }

    /// The contents of a file of the group; empty if it is missing.
    fn read(&self, controller: &str, file: &str) -> String {
        self.directory_of(controller)
            .map(|directory| fs::read_to_string(directory.join(file)).unwrap_or_default())
            .unwrap_or_default()
    }

    /// Its directory in the hierarchy of this controller.
    fn directory_of(&self, controller: &str) -> Option<PathBuf> {
        let mut directories = self.directories().into_iter();
        directories.find(|directory| self.cgroup.v2() || is_in_hierarchy(directory, controller))
    }

    /// Sends SIGKILL to every process in the group. On v1 a frozen process takes no signal, so they are thawed: none of them
    /// executes anything before it is dead.
    pub(crate) fn kill(&self) {
        for pid in self.members() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if !self.cgroup.v2() {
            // Fails only where the hierarchy is not mounted, or the group is gone.
            let _ = self.thaw();
        }
    }

    /// Begins to freeze all processes in the group, and those that come into it. `freezes_until` waits for that.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        self.set_frozen("1", "FROZEN")
    }

    /// Lets them run again.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        self.set_frozen("0", "THAWED")
    }

    fn set_frozen(&self, unified: &str, v1: &str) -> io::Result<()> {
        let (file, text) = if self.cgroup.v2() { ("cgroup.freeze", unified) } else { ("freezer.state", v1) };
        let directory = self.directory_of("freezer").ok_or_else(|| {
            io::Error::other(
                "the hierarchy `freezer` is not mounted, or not delegated (`berth-agent prepare`)",
            )
        })?;
        fs::write(directory.join(file), text)
    }

    /// Whether all its processes are frozen.
    pub(crate) fn is_frozen(&self) -> bool {
        if self.cgroup.v2() {
            return number_of("frozen", &self.read("freezer", "cgroup.events")) == Some(1);
        }
        self.read("freezer", "freezer.state").trim() == "FROZEN"
    }

    /// Waits until they are; false if they are not by then.
    pub(crate) fn freezes_until(&self, deadline: Instant) -> bool {
        loop {
            if self.is_frozen() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(EMPTY_POLL);
        }
    }

    /// Kills every process in the group, waits until they are gone, and removes it. Does nothing if it does not exist.
    pub(crate) fn destroy(&self) -> io::Result<()> {
        let deadline = Instant::now() + EMPTY_TIMEOUT;
        loop {
            if self.members().is_empty() {
                break;
            }
            self.kill();
            if Instant::now() > deadline {
                return Err(io::Error::other("processes of a container do not end"));
            }
            std::thread::sleep(EMPTY_POLL);
        }
        self.remove(deadline)
    }

    /// Its processes.
    pub(crate) fn members(&self) -> Vec<Pid> {
        let pids = self.cgroup.procs().into_iter();
        pids.filter_map(|p| i32::try_from(p.pid).ok()).filter(|p| *p > 0).map(Pid::from_raw).collect()
    }

    /// Retries, because the kernel keeps the directories busy for a moment after the last process.
    fn remove(&self, deadline: Instant) -> io::Result<()> {
        for directory in self.directories() {
            loop {
                match fs::remove_dir(&directory) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(_) if Instant::now() < deadline => std::thread::sleep(EMPTY_POLL),
                    Err(error) => {
                        return Err(io::Error::other(format!("remove {}: {error}", directory.display())));
                    }
                }
            }
        }
        Ok(())
    }

    fn directories(&self) -> Vec<PathBuf> {
        let all = self.cgroup.subsystems().iter().map(|s| s.to_controller().path().to_owned());
        let mut directories: Vec<PathBuf> = all.collect();
        directories.dedup();
        directories
    }

    /// What the container sees of the group: its directory in each hierarchy, by the name of that. On v2 one, without a
    /// name.
    pub(crate) fn views(&self) -> Vec<(Option<String>, PathBuf)> {
        let directories = self.directories().into_iter();
        if self.cgroup.v2() {
            return directories.map(|directory| (None, directory)).collect();
        }
        let named = directories.filter_map(|directory| {
            let name = hierarchy_of(&directory)?;
            name.split(',').any(|part| V1_VISIBLE.contains(&part)).then_some((Some(name), directory))
        });
        named.collect()
    }

    fn controller<'a, T>(&'a self, name: &str) -> io::Result<&'a T>
    where
        &'a T: From<&'a cgroups_rs::Subsystem>,
        T: cgroups_rs::Controller + cgroups_rs::ControllIdentifier,
    {
        self.cgroup.controller_of().ok_or_else(|| {
            io::Error::other(format!(
                "the cgroup controller `{name}` is not available to this user; see `berth-agent prepare`"
            ))
        })
    }

    fn error(&self, what: &str, error: &dyn std::error::Error) -> io::Error {
        // For who looks after the node: what a client may be told names no place on it.
        eprintln!("cgroup {}: cannot {what}: {error}", self.path.display());
        io::Error::other(format!(
            "cannot {what} of a container's cgroup: {error}; was the node's delegated to its user (`berth-agent prepare`)?"
        ))
    }
}

/// Whether a group's directory is in the hierarchy of this controller: `/sys/fs/cgroup/cpu,cpuacct/berth/x`.
fn is_in_hierarchy(directory: &Path, controller: &str) -> bool {
    hierarchy_of(directory).is_some_and(|names| names.split(',').any(|name| name == controller))
}

/// The name of the hierarchy that a group's directory is in: the controllers in it.
fn hierarchy_of(directory: &Path) -> Option<String> {
    let names = directory.strip_prefix(MOUNT_POINT).ok()?.components().next()?;
    Some(names.as_os_str().to_string_lossy().into_owned())
}

/// The number after a key, one per line.
fn number_of(key: &str, text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_hierarchies_are_found() {
        assert_eq!(number_of("usage_usec", "usage_usec 12\nuser_usec 7\n"), Some(12));
        assert!(is_in_hierarchy(Path::new("/sys/fs/cgroup/cpu,cpuacct/berth/x"), "cpuacct"));
        assert!(!is_in_hierarchy(Path::new("/sys/fs/cgroup/cpuset/berth/x"), "cpu"));
    }
}
