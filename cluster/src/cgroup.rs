//! Control groups seen from outside: which exist, their processes, and their removal. Works on v1 (a directory
//! in each hierarchy) and v2 (one directory).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::User;

const MOUNT: &str = "/sys/fs/cgroup";

/// Whether there is only the unified hierarchy.
pub fn is_unified() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// The roots of all hierarchies that have limits.
fn hierarchies() -> Vec<PathBuf> {
    if is_unified() {
        return vec![MOUNT.into()];
    }
    let entries = fs::read_dir(MOUNT).into_iter().flatten().flatten().map(|entry| entry.path());
    let legacy = |path: &PathBuf| !path.is_symlink() && path.join("cgroup.sane_behavior").exists();
    entries.filter(legacy).filter(|path| !path.ends_with("systemd")).collect()
}

/// The group that this process is in (v2 only).
pub fn own() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

/// Whether a group of v2 can hand out these controllers.
pub fn has_controllers(group: &Path, wanted: &[&str]) -> bool {
    let file = Path::new(MOUNT).join(group.strip_prefix("/").unwrap_or(group)).join("cgroup.controllers");
    let text = fs::read_to_string(file).unwrap_or_default();
    wanted.iter().all(|name| text.split_whitespace().any(|word| word == *name))
}

/// The directories that a group has: one in each hierarchy where it exists.
pub fn directories(group: &Path) -> Vec<PathBuf> {
    let relative = group.strip_prefix("/").unwrap_or(group);
    hierarchies().into_iter().map(|root| root.join(relative)).filter(|path| path.is_dir()).collect()
}

/// The groups below `parent` whose names begin so, in any hierarchy.
pub fn beginning_with(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries =
        directories(parent).into_iter().filter_map(|path| fs::read_dir(path).ok()).flatten().flatten();
    let entries = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let groups: BTreeSet<_> = names.filter(|name| name.starts_with(prefix)).collect();
    groups.into_iter().map(|name| parent.join(name)).collect()
}

/// CPU time that the processes of a group have taken so far.
pub fn cpu_time(group: &Path) -> Result<Duration> {
    for directory in directories(group) {
        if let Ok(text) = fs::read_to_string(directory.join("cpuacct.usage")) {
            return Ok(Duration::from_nanos(text.trim().parse()?));
        }
        let text = fs::read_to_string(directory.join("cpu.stat")).unwrap_or_default();
        if let Some(us) = text.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
            return Ok(Duration::from_micros(us.trim().parse()?));
        }
    }
    bail!("{} tells no CPU time", group.display())
}

/// Whether all processes of a group are frozen.
pub fn is_frozen(group: &Path) -> bool {
    let says = |directory: &PathBuf, file: &str, text: &str| {
        fs::read_to_string(directory.join(file)).is_ok_and(|read| read.lines().any(|line| line == text))
    };
    let frozen = |directory: &PathBuf| {
        says(directory, "freezer.state", "FROZEN") || says(directory, "cgroup.events", "frozen 1")
    };
    directories(group).iter().any(frozen)
}

/// Bytes of kernel memory that are charged to a group; 0 if the kernel does not account for it.
pub fn kernel_memory(group: &Path) -> u64 {
    let of = |directory: &PathBuf| {
        let legacy = fs::read_to_string(directory.join("memory.kmem.usage_in_bytes")).ok();
        let unified = || {
            let text = fs::read_to_string(directory.join("memory.stat")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("kernel ").map(str::to_owned))
        };
        legacy.or_else(unified)?.trim().parse::<u64>().ok()
    };
    directories(group).iter().find_map(of).unwrap_or(0)
}

/// The processes in a group and in all below it.
pub fn processes(group: &Path) -> BTreeSet<i32> {
    directories(group).iter().flat_map(|directory| processes_below(directory)).collect()
}

fn processes_below(directory: &Path) -> Vec<i32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.parse().ok());
    own.chain(children(directory).iter().flat_map(|child| processes_below(child))).collect()
}

/// Removes a group and all below it. Fails where a process is left in it.
pub fn remove(group: &Path) -> Result<()> {
    directories(group).iter().try_for_each(|directory| remove_tree(directory))
}

fn remove_tree(directory: &Path) -> Result<()> {
    children(directory).iter().try_for_each(|child| remove_tree(child))?;
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove the cgroup {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

/// On v2 a process only moves within what was delegated to its user: makes the group of a supervisor as root, and
/// returns the `cgroup.procs` file for the supervisor's process. Nothing to do on v1, where a user may move processes
/// into own groups.
pub fn make_entrance(group: &Path, user: &User) -> Result<Option<PathBuf>> {
    if !is_unified() || !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    let group = Path::new(MOUNT).join(group.strip_prefix("/").unwrap_or(group));
    let entrance = group.join("supervisor");
    fs::create_dir_all(&group).with_context(|| format!("make the cgroup {}", group.display()))?;
    let above = group.parent().context("a cgroup has a parent")?.join("cgroup.subtree_control");
    fs::write(&above, "+cpu +memory +pids").with_context(|| format!("write {}", above.display()))?;
    for directory in [&group, &entrance] {
        fs::create_dir_all(directory).with_context(|| format!("make the cgroup {}", directory.display()))?;
        for file in [".", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            chown(directory.join(file), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
    }
    Ok(Some(entrance.join("cgroup.procs")))
}
