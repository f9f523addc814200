//! What `/proc` shows of this machine: processes, their memory and CPU time, and mounts. And signals to processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
pub use berth_cluster::leftovers::{command_line, processes_running};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// When a process started, in clock ticks since boot: together with the pid it identifies a process uniquely.
pub fn started_at(pid: u32) -> Option<u64> {
    stat_fields(pid)?.get(STARTED)?.parse().ok()
}

/// CPU time that a process and its threads have used, user and system.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let fields = stat_fields(pid).with_context(|| format!("process {pid} is gone"))?;
    let ticks: u64 = fields[UTIME].parse::<u64>()? + fields[STIME].parse::<u64>()?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u32::try_from(ticks).ok()).unwrap_or(100);
    Ok(Duration::from_secs(ticks) / per_second)
}

/// The same of a process and its children together.
pub fn cpu_time_of_family(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    std::iter::once(pid).chain(children).map(cpu_time).sum()
}

/// Most resident memory that a process has ever had, in bytes.
pub fn peak_memory(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmHWM:")
}

/// Resident memory of a process now, in bytes.
pub fn resident_memory(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// Proportional set size of a process, in bytes: shared memory counts in proportion.
pub fn proportional_memory(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kib.with_context(|| format!("{path} has no Pss"))? * 1024)
}

/// Signals a process.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(pid)?), signal).with_context(|| format!("{signal} to {pid}"))
}

/// The children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// The children of a process, of whichever of its threads.
pub fn children_of_threads(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> Result<usize> {
    let path = format!("/proc/{pid}/fd");
    Ok(fs::read_dir(&path).with_context(|| format!("read {path}"))?.count())
}

/// Mount points at or below this directory.
pub fn mounts_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(points.filter(|point| point.starts_with(directory)).collect())
}

/// Indices into the fields after the name.
const UTIME: usize = 11;
const STIME: usize = 12;
const STARTED: usize = 19;

/// The fields of a process's `stat` after its name, which is in parentheses and may hold anything.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    (fields.len() > STARTED).then_some(fields)
}

fn status_bytes(pid: u32, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("{path} has no {name}"))? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let own = std::process::id();
        assert!(started_at(own).is_some_and(|start| start > 0));
        assert!(peak_memory(own).unwrap() >= resident_memory(own).unwrap() / 2);
        assert!(cpu_time(own).unwrap() < Duration::from_secs(3600));
        let here = std::env::current_exe().unwrap();
        assert!(processes_running(here.parent().unwrap()).contains(&own));
        assert!(command_line(own).starts_with(&own.to_string()));
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(mounts_below(Path::new("/")).unwrap().contains(&PathBuf::from("/")));
    }
}
