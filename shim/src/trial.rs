//! Trials of what containers need, each in a separate process, which leaves nothing behind. `check` and the start of an
//! agent use them to find out what this machine supports.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::disk::memory;
use crate::network::{Internet, Network, Plan, resolver};
use crate::protection::Protection;
use crate::{namespaces, process, stage, subordinate_ids, sys};

/// Size of the trial's disk in memory, in bytes.
const DISK_BYTES: u64 = 1 << 20;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Trial {
    /// All namespaces that a container has
    Namespaces,
    /// A root filesystem on the node's disk
    Overlay,
    /// A root filesystem in memory
    MemoryDisk,
    /// A way to the internet, with its rules
    Internet,
}

/// Where a trial may leave things for as long as it takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Paths {
    /// A directory of this user, for `overlay`
    #[arg(long)]
    pub directory: Option<PathBuf>,
    /// A delegated cgroup, for `internet`
    #[arg(long)]
    pub cgroup: Option<PathBuf>,
}

/// Entry of the hidden `trial` mode.
pub fn main(trial: Trial, paths: &Paths) -> anyhow::Result<()> {
    process::refuse_root()?;
    let tried = match trial {
        Trial::Namespaces => namespaces_trial(),
        Trial::Overlay => overlay(paths.directory.as_deref().context("--directory is missing")?),
        Trial::MemoryDisk => memory_disk(),
        Trial::Internet => internet(paths.cgroup.as_deref().context("--cgroup is missing")?),
    };
    // In one line, which `run` reads.
    tried.map_err(|error| anyhow::anyhow!("{error:#}"))
}

/// Runs a trial in a separate process; the error is its message.
pub fn run(trial: Trial, paths: &Paths) -> Result<(), String> {
    let mut command = Command::new(process::OWN_PROGRAM);
    let name = clap::ValueEnum::to_possible_value(&trial);
    command.arg("trial").args(name.as_ref().map(|value| value.get_name()));
    for (option, path) in [("--directory", &paths.directory), ("--cgroup", &paths.cgroup)] {
        command.args(path.iter().flat_map(|path| [option.as_ref(), path.as_os_str()]));
    }
    let output =
        command.env("RUST_BACKTRACE", "0").stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let told = said.lines().rfind(|line| !line.trim().is_empty());
    Err(told.map_or_else(|| output.status.to_string(), |line| line.trim_start_matches("Error: ").to_owned()))
}

fn enter_user_namespace() -> anyhow::Result<()> {
    let (uids, gids) = subordinate_ids::of_this_user()?;
    Ok(namespaces::enter_user_namespace(uids, gids)?)
}

fn namespaces_trial() -> anyhow::Result<()> {
    enter_user_namespace()?;
    namespaces::enter_network_namespace()?;
    let others = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(others).context("cannot make mount, pid, ipc, uts and cgroup namespaces")
}

fn overlay(directory: &Path) -> anyhow::Result<()> {
    let disk = tempfile_in(directory)?;
    let tried = try_overlay(&disk);
    // The files belong to the containers' root, which this process has the capabilities to delete now.
    let removed = fs::remove_dir_all(&disk).context("remove what the trial wrote");
    tried.and(removed)
}

fn tempfile_in(directory: &Path) -> anyhow::Result<PathBuf> {
    let path = directory.join(format!("trial-{}", std::process::id()));
    fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
    Ok(path)
}

/// In a child, which becomes the containers' root.
fn try_overlay(disk: &Path) -> anyhow::Result<()> {
    enter_user_namespace()?;
    let child = sys::fork(|| {
        let mounted = || -> anyhow::Result<()> {
            let disk = stage::open_directories([disk])?;
            sys::become_root()?;
            stage::mount_stage()?;
            use_overlay(&stage::bind_in_stage(&disk[0], "disk")?)
        };
        report(mounted())
    })?;
    await_child(child)
}

fn memory_disk() -> anyhow::Result<()> {
    enter_user_namespace()?;
    stage::open_directories(std::iter::empty::<&Path>())?;
    sys::become_root()?;
    stage::mount_stage()?;
    let disk = stage::make_in_stage("disk")?;
    memory::mount_disk(DISK_BYTES, &disk)?;
    use_overlay(&disk)
}

/// Uses a root filesystem as images and apps do: deletes a file and replaces a directory of the image.
fn use_overlay(disk: &Path) -> anyhow::Result<()> {
    let (lower, root) = (stage::make_in_stage("lower")?, stage::make_in_stage("root")?);
    let (upper, work) = (disk.join("upper"), disk.join("work"));
    for directory in [&lower.join("directory"), &upper, &work] {
        fs::create_dir(directory)?;
    }
    fs::write(lower.join("file"), "x")?;
    let paths = [&lower, &upper, &work].map(|path| path.display().to_string());
    let options = format!("lowerdir={},upperdir={},workdir={},userxattr", paths[0], paths[1], paths[2]);
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .context("cannot mount an overlay with the option userxattr: Linux 5.11 or later can")?;
    fs::remove_file(root.join("file"))?;
    fs::remove_dir(root.join("directory"))?;
    fs::create_dir(root.join("directory"))?;
    ensure!(!root.join("file").exists(), "a removed file is still there");
    Ok(())
}

fn internet(cgroup: &Path) -> anyhow::Result<()> {
    let (uids, gids) = subordinate_ids::of_this_user()?;
    let found = |name: &str, package: &str| {
        process::find_program(name)
            .with_context(|| format!("`{name}` is not installed; on Debian: apt-get install {package}"))
    };
    let (pasta, nft) = (found("pasta", "passt")?, found("nft", "nftables")?);
    let internet = Internet { resolver: resolver::of_host(), pasta, nft };
    sys::adopt_orphans()?;
    let cgroup = &cgroup.join(format!("net-trial-{}", std::process::id()));
    let plan = Plan { uids, gids, internet: Some(&internet), cgroup, protection: Protection::default() };
    Ok(Network::make(&plan)?.end()?)
}

fn report(result: anyhow::Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error:#}");
            1
        }
    }
}

fn await_child(child: nix::unistd::Pid) -> anyhow::Result<()> {
    use nix::sys::wait::{WaitStatus, waitpid};
    let status = waitpid(child, None)?;
    // The child has printed its error; this process's own would hide it.
    if !matches!(status, WaitStatus::Exited(_, 0)) {
        std::process::exit(1);
    }
    Ok(())
}
