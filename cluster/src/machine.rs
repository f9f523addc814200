//! What root prepares once, by `berth-agent prepare`: the daemons' user, their directories, their cgroup, disk slots.
//! And what of that an ordinary user finds.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;

use crate::cgroup;
use crate::launch::Group;
use crate::owner::{DAEMON_USER, is_root};

/// What root delegates to the daemons' user; to an ordinary user, `/berth-UID`.
pub const CGROUP: &str = "/berth";
/// Where root keeps disk slots.
const DISKS: &str = "/var/lib/berth-disks";

/// As root, makes the daemons' user, its cgroup, and these directories as its own.
pub fn prepare<'a>(agent: &Path, states: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let mut command = Command::new(agent);
    command.args(["prepare", "--user", DAEMON_USER, "--cgroup", CGROUP]);
    for state in states {
        command.arg("--state").arg(state);
    }
    run(&mut command)
}

/// As root, makes disk slots for the node with this state, for example `6x2GB`. Sparse ones take room only as they are
/// written.
pub fn make_disk_slots(agent: &Path, user: &str, state: &Path, slots: &str, sparse: bool) -> Result<()> {
    let mut command = Command::new(agent);
    command.args(["prepare", "--user", user, "--disk-slots", slots]);
    if sparse {
        command.arg("--sparse-disk-slots");
    }
    run(command.arg("--state").arg(state))
}

/// As root, removes the disk slots of the node with this state.
pub fn remove_disk_slots(agent: &Path, state: &Path) -> Result<()> {
    if !Path::new(DISKS).exists() {
        return Ok(());
    }
    run(Command::new(agent).args(["prepare", "--remove-disk-slots", "--state"]).arg(state))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, stderr.trim());
    Ok(())
}

/// Where a node's containers have their cgroups, as far as this process's user can have them: `name` distinguishes
/// nodes of different clusters.
pub fn group(name: &str) -> Group {
    match delegated() {
        Some(delegated) => Group::Named(delegated.join(name)),
        None if has_own_systemd() => Group::Scope,
        None => Group::Own,
    }
}

/// The cgroup that root has delegated to the daemons' user: `/berth` to root's, `/berth-UID` or `/berth` to an ordinary
/// one.
fn delegated() -> Option<PathBuf> {
    if is_root() {
        return Some(CGROUP.into());
    }
    let uid = geteuid();
    let candidates = [format!("{CGROUP}-{uid}"), CGROUP.to_owned()].into_iter().map(PathBuf::from);
    candidates.into_iter().find(|group| is_delegated_to(group, uid.as_raw()))
}

/// On v2 a process moves only within what was delegated to its user, so it has to be there already.
fn is_delegated_to(group: &Path, uid: u32) -> bool {
    let directories = cgroup::directories(group);
    let owned = |path: &PathBuf| path.metadata().is_ok_and(|found| found.uid() == uid);
    !directories.is_empty()
        && directories.iter().all(owned)
        && (!cgroup::is_unified() || cgroup::own().is_some_and(|own| own.starts_with(group)))
}

/// Whether the user's own systemd can delegate cgroups (v2 only) with the controllers that are needed.
fn has_own_systemd() -> bool {
    if !cgroup::is_unified() {
        return false;
    }
    let mut show = Command::new("systemctl");
    let Ok(output) = show.args(["--user", "show", "-p", "ControlGroup", "--value"]).output() else {
        return false;
    };
    let group = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    !group.is_empty()
        && output.status.success()
        && cgroup::has_controllers(Path::new(&group), &["cpu", "memory"])
}
