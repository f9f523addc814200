//! Disk slots of nodes, made and removed by `berth-agent prepare` as root makes and removes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use berth_cluster::machine;
pub use berth_cluster::machine::remove_disk_slots as remove;
use nix::unistd::User;

/// Where root keeps them.
const ROOT: &str = "/var/lib/berth-disks";

/// Makes slots for the node with this state.
pub fn make(agent: &Path, user: &User, state: &Path, slots: &str) -> Result<()> {
    machine::make_disk_slots(agent, &user.name, state, slots, false)
}

/// Where the node with this state has its slots.
fn directory_of(state: &Path) -> Result<PathBuf> {
    let name = state.file_name().context("a state has a name")?.to_string_lossy();
    Ok(Path::new(ROOT).join(format!("{name}-{}", sha256_prefix(state))))
}

/// The bytes that the node with this state takes of the host's disk, its slots' files included.
pub fn disk_used(state: &Path) -> Result<u64> {
    let mut command = Command::new("du");
    command.args(["--one-file-system", "--summarize", "--total", "--block-size=1"]);
    let output = command.arg(state).arg(directory_of(state)?).output().context("run du")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let total =
        stdout.lines().last().and_then(|line| line.split_whitespace().next()).context("du says a total")?;
    total.parse().with_context(|| format!("du says {stdout}"))
}

/// The slots of the node with this state.
pub fn of(state: &Path) -> Result<Vec<PathBuf>> {
    let directory = directory_of(state)?;
    let mut slots = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name != "images" && name != "ranges") {
            slots.push(path);
        }
    }
    slots.sort();
    Ok(slots)
}

/// Where the layers of the node with this state are mounted for ranges of ids.
pub fn ranges_of(state: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory_of(state)?.join("ranges"))?;
    let mut ranges = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    ranges.sort();
    Ok(ranges)
}

fn sha256_prefix(path: &Path) -> String {
    use sha2::{Digest, Sha256};
    use std::os::unix::ffi::OsStrExt;
    let digest = Sha256::digest(path.as_os_str().as_bytes());
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes the slots of a dead run, whose directory still holds the program that made them.
pub fn sweep(run: &Path) -> Result<()> {
    let agent = run.join("bin/berth-agent");
    for cluster in fs::read_dir(run).into_iter().flatten().flatten() {
        for node in fs::read_dir(cluster.path()).into_iter().flatten().flatten() {
            if of(&node.path()).is_ok() {
                remove(&agent, &node.path())?;
            }
        }
    }
    Ok(())
}
