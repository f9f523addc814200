//! `berth-agent prepare`: root's one-time setup so that everything else can run as an ordinary user: the user, its
//! subordinate ids, state directories, delegated cgroups and disk slots. May be run again at any time.

mod ids;
mod slots;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, User};

pub use self::slots::{Backend, SlotOptions, SlotSpec};

/// What the kernel has for all containers together, so that each of 256 gets its share.
const SETTINGS: [(&str, u64); 3] = [
    // 64 each.
    ("fs/inotify/max_user_instances", 16_384),
    // 65,536 each. What is used counts as the container's memory.
    ("fs/inotify/max_user_watches", 16_777_216),
    // Far more than 1,024 each, so that processes of the machine itself always have some: what systemd sets.
    ("kernel/pid_max", 4_194_304),
];
/// The file that keeps the settings across restarts of the machine.
const SYSCTL_FILE: &str = "/etc/sysctl.d/60-berth.conf";
/// Share of the machine's processes that all containers together may be.
const PROCESSES_PERCENT: u64 = 75;
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
    /// Ranges of ids for containers of each of these states; by default, some more than disk slots.
    pub id_ranges: Option<u32>,
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
    ids::give_shared(&user)?;
    for state in &options.state {
        make_state(state, &user)?;
        if !options.disks.slots.is_empty() {
            slots::make(state, &user, &options.disks)?;
        }
        ids::make(state, &user, ids::count_for(options.disks.count(), options.id_ranges))?;
    }
    open_tunnel_device()?;
    raise_settings()?;
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

/// Raises what is lower than containers need, now and for later starts of the machine.
fn raise_settings() -> anyhow::Result<()> {
    let mut raised = String::new();
    for (name, needed) in SETTINGS {
        let path = Path::new("/proc/sys").join(name);
        let current = number_in(&path)?;
        if current >= needed && !is_in_file(name) {
            continue;
        }
        let setting = name.replace('/', ".");
        if current < needed {
            println!("raising {setting} to {needed}");
            fs::write(&path, needed.to_string()).with_context(|| format!("raise {setting}"))?;
        }
        let _ = writeln!(raised, "{setting} = {}", needed.max(current));
    }
    if raised.is_empty() {
        return Ok(());
    }
    fs::create_dir_all("/etc/sysctl.d")?;
    let text = format!("# Containers of Berth share what these allow.\n{raised}");
    fs::write(SYSCTL_FILE, text).with_context(|| format!("write {SYSCTL_FILE}"))
}

fn number_in(path: &Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    text.trim().parse().with_context(|| format!("{} says {text:?}", path.display()))
}

/// Whether an earlier run has raised a setting for good.
fn is_in_file(name: &str) -> bool {
    let text = fs::read_to_string(SYSCTL_FILE).unwrap_or_default();
    text.lines().any(|line| line.starts_with(&name.replace('/', ".")))
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

/// Creates a directory that only root can change, like all its parents.
fn make_root_directory(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .with_context(|| format!("make {}", path.display()))?;
    let about = fs::symlink_metadata(path)?;
    let safe = about.is_dir() && about.uid() == 0 && about.mode() & 0o022 == 0;
    ensure!(safe, "{} must be a directory that only root can write to", path.display());
    Ok(())
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

/// Leaves processes to the machine itself, whatever containers do. A group without the controller is left as it is.
fn limit_processes(group: &Path) -> anyhow::Result<()> {
    let file = group.join("pids.max");
    if !file.exists() {
        return Ok(());
    }
    let [pids, threads] =
        ["pid_max", "threads-max"].map(|name| number_in(&Path::new("/proc/sys/kernel").join(name)));
    let limit = pids?.min(threads?) / 100 * PROCESSES_PERCENT;
    fs::write(&file, limit.to_string()).with_context(|| format!("write {}", file.display()))
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
    limit_processes(group)?;
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
        // For the weights of containers; kernels may be without it.
        let _ = fs::write(&control, "+io");
    }
    limit_processes(group)?;
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
