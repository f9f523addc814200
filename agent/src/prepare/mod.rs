//! `berth-agent prepare`: root's one-time setup so that everything else can run as an ordinary user: the user, its
//! subordinate ids, state directories, delegated cgroups and disk slots. May be run again at any time.

mod slots;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, User};

pub use self::slots::{Backend, SlotOptions, SlotSpec};

/// Ids of a container.
const CONTAINER_IDS: u32 = 65_536;
/// First subordinate id if no user has any, as Debian's useradd has it.
const FIRST_SUBORDINATE_ID: u32 = 100_000;
/// Inotify instances for all containers of a user: 64 for each of 256.
const INOTIFY_INSTANCES: u32 = 16_384;
const INOTIFY_SETTING: &str = "/proc/sys/fs/inotify/max_user_instances";
/// The file that keeps the setting across restarts of the machine.
const SYSCTL_FILE: &str = "/etc/sysctl.d/60-berth.conf";
/// The root of the cgroup hierarchies.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// What to prepare.
#[derive(Debug, Clone)]
pub struct Options {
    /// The user that agents will run as.
    pub user: String,
    /// State directories to make.
    pub state: Vec<PathBuf>,
    /// The cgroup to delegate, relative to the root of each hierarchy.
    pub cgroup: Option<PathBuf>,
    /// The disk slots of each of these states.
    pub disks: SlotOptions,
    /// Remove all disk slots of these states instead, and do nothing else.
    pub remove_disks: bool,
}

/// Prepares this machine, and prints what it does.
pub fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        Uid::effective().is_root(),
        "this must be run by root, once; everything else runs as an ordinary user"
    );
    let lock = fs::File::create("/run/berth-prepare.lock").context("make /run/berth-prepare.lock")?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
    if options.remove_disks {
        return options.state.iter().try_for_each(|state| slots::remove(state, options.disks.dry_run));
    }
    if options.disks.dry_run {
        let user = User::from_name(&options.user)?;
        let user = user.with_context(|| format!("there is no user `{}`: it would be made", options.user))?;
        return options.state.iter().try_for_each(|state| slots::make(state, &user, &options.disks));
    }
    let user = make_user(&options.user)?;
    give_subordinate_ids(&user.name)?;
    for state in &options.state {
        make_state(state, &user)?;
        if !options.disks.slots.is_empty() {
            slots::make(state, &user, &options.disks)?;
        }
    }
    open_tunnel_device()?;
    raise_inotify_limit()?;
    if let Some(cgroup) = &options.cgroup {
        delegate(cgroup.strip_prefix("/").unwrap_or(cgroup), &user)?;
    }
    Ok(())
}

/// Containers' networks need the TUN device, which any user may open on most systems.
fn open_tunnel_device() -> anyhow::Result<()> {
    let device = Path::new("/dev/net/tun");
    if !device.exists() {
        println!(
            "{} is missing: containers cannot have internet access (`modprobe tun` makes it)",
            device.display()
        );
        return Ok(());
    }
    fs::set_permissions(device, fs::Permissions::from_mode(0o666)).context("open /dev/net/tun to all users")
}

/// The kernel counts inotify instances of all containers for the agents' user, and most systems allow a user only 128.
fn raise_inotify_limit() -> anyhow::Result<()> {
    let current = fs::read_to_string(INOTIFY_SETTING).context("read the limit of inotify instances")?;
    if current.trim().parse::<u32>().is_ok_and(|limit| limit >= INOTIFY_INSTANCES) {
        return Ok(());
    }
    println!("raising fs.inotify.max_user_instances to {INOTIFY_INSTANCES}");
    fs::write(INOTIFY_SETTING, INOTIFY_INSTANCES.to_string())
        .context("raise the limit of inotify instances")?;
    fs::create_dir_all("/etc/sysctl.d")?;
    let text = format!(
        "# Containers of Berth share one user's inotify instances.\nfs.inotify.max_user_instances = {INOTIFY_INSTANCES}\n"
    );
    fs::write(SYSCTL_FILE, text).with_context(|| format!("write {SYSCTL_FILE}"))
}

fn make_user(name: &str) -> anyhow::Result<User> {
    if let Some(user) = User::from_name(name)? {
        ensure!(!user.uid.is_root(), "`{name}` is root; choose an ordinary user");
        return Ok(user);
    }
    println!("making the system user `{name}`");
    let args = ["--system", "--user-group", "--no-create-home", "--home-dir", "/var/lib/berth", "--shell"];
    command("useradd", args.into_iter().chain(["/usr/sbin/nologin", name]))?;
    User::from_name(name)?.with_context(|| format!("`{name}` was made but cannot be found"))
}

fn give_subordinate_ids(user: &str) -> anyhow::Result<()> {
    for (file, option) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(file) {
            file.read_to_string(&mut text)?;
        }
        let ranges: Vec<(&str, u32, u32)> = text.lines().filter_map(parse_range).collect();
        if ranges.iter().any(|(owner, _, count)| *owner == user && *count >= CONTAINER_IDS) {
            continue;
        }
        let first =
            ranges.iter().map(|(_, first, count)| first + count).max().unwrap_or(0).max(FIRST_SUBORDINATE_ID);
        let last = first.checked_add(CONTAINER_IDS - 1).with_context(|| format!("{file} has no room"))?;
        println!("giving `{user}` the ids {first}-{last} in {file}");
        command("usermod", [option, &format!("{first}-{last}"), user])?;
    }
    Ok(())
}

fn parse_range(line: &str) -> Option<(&str, u32, u32)> {
    let mut parts = line.trim().split(':');
    Some((parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn make_state(path: &Path, user: &User) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    // Only the last directory changes its owner: its parents may be shared.
    chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    Ok(())
}

fn delegate(cgroup: &Path, user: &User) -> anyhow::Result<()> {
    ensure!(
        cgroup.components().all(|c| matches!(c, std::path::Component::Normal(_))),
        "a cgroup path has no `..`"
    );
    let root = Path::new(CGROUP_ROOT);
    if root.join("cgroup.controllers").exists() {
        return delegate_unified(&root.join(cgroup), user);
    }
    let mut delegated = 0;
    for entry in fs::read_dir(root).context("read /sys/fs/cgroup")? {
        let hierarchy = entry?.path();
        // In hybrid mode the unified hierarchy has no controllers; named hierarchies (name=...) have none either.
        let legacy = hierarchy.join("cgroup.sane_behavior").exists() && !hierarchy.is_symlink();
        if legacy && !hierarchy.ends_with("systemd") {
            delegate_legacy(&hierarchy, &hierarchy.join(cgroup), user)?;
            delegated += 1;
        }
    }
    ensure!(delegated > 0, "no cgroup hierarchy is mounted below {CGROUP_ROOT}");
    Ok(())
}

fn delegate_legacy(hierarchy: &Path, group: &Path, user: &User) -> anyhow::Result<()> {
    let mut at = hierarchy.to_owned();
    for part in group.strip_prefix(hierarchy)?.components() {
        at.push(part);
        if !at.exists() {
            fs::create_dir(&at).with_context(|| format!("make {}", at.display()))?;
        }
        // A cpuset without CPUs and memory nodes accepts no processes.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            inherit(&at, file)?;
        }
    }
    for file in [".", "cgroup.procs", "tasks"] {
        chown(group.join(file), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    Ok(())
}

fn inherit(group: &Path, file: &str) -> anyhow::Result<()> {
    let own = group.join(file);
    if own.exists() && fs::read_to_string(&own)?.trim().is_empty() {
        let parent = group.parent().context("a cgroup has a parent")?;
        fs::write(own, fs::read_to_string(parent.join(file))?.trim())?;
    }
    Ok(())
}

fn delegate_unified(group: &Path, user: &User) -> anyhow::Result<()> {
    fs::create_dir_all(group).with_context(|| format!("make {}", group.display()))?;
    let parents: Vec<&Path> = group.ancestors().skip(1).take_while(|p| p.starts_with(CGROUP_ROOT)).collect();
    for parent in parents.into_iter().rev() {
        let control = parent.join("cgroup.subtree_control");
        fs::write(&control, "+cpu +memory +pids").with_context(|| format!("write {}", control.display()))?;
    }
    for file in [".", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        chown(group.join(file), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    Ok(())
}

fn command<'a>(program: &str, args: impl IntoIterator<Item = &'a str>) -> anyhow::Result<()> {
    let output = Command::new(program).args(args).output();
    let output =
        output.with_context(|| format!("run `{program}`; on Debian: apt-get install passwd uidmap"))?;
    if !output.status.success() {
        bail!("`{program}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_range("berth:100000:65536"), Some(("berth", 100_000, 65_536)));
        assert_eq!(parse_range("# comment"), None);
    }
}
