//! Disks in memory: a tmpfs as the writable layer. Older kernels' tmpfs lacks what an overlay needs, so it is tried out.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};

use crate::runtime::{namespaces, refuse_root, stage, sweep, sys};

/// Bytes of a disk for each file that it may hold: each takes about a kilobyte of the kernel's memory.
const BYTES_PER_FILE: u64 = 16 * 1024;
/// Least and most files that a disk in memory may hold.
const MIN_FILES: u64 = 1024;
const MAX_FILES: u64 = 1 << 20;
/// Size of the disk that is tried out.
const TRIAL_BYTES: u64 = 1 << 20;

/// Mounts an empty disk of this size.
pub(crate) fn mount_disk(bytes: u64, at: &Path) -> io::Result<()> {
    let files = (bytes / BYTES_PER_FILE).clamp(MIN_FILES, MAX_FILES);
    let options = format!("size={bytes},nr_inodes={files},mode=0755");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("berth"), at, Some("tmpfs"), flags, Some(options.as_str()))?)
}

/// Whether they work on this machine, found out in a process of its own.
pub(crate) fn is_supported() -> bool {
    let mut command = Command::new(sys::OWN_PROGRAM);
    command.arg("probe-memory-disk").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Entry of the hidden `probe-memory-disk` mode: does with such a disk what images make necessary.
pub fn probe_main() -> anyhow::Result<()> {
    refuse_root()?;
    let (uids, gids) = sweep::my_subordinate_ids()?;
    namespaces::enter_user_namespace(uids, gids)?;
    stage::open_directories(std::iter::empty::<&Path>())?;
    sys::become_root()?;
    stage::mount_stage()?;
    let (lower, disk, root) =
        (stage::make_in_stage("lower")?, stage::make_in_stage("disk")?, stage::make_in_stage("root")?);
    mount_disk(TRIAL_BYTES, &disk)?;
    let (upper, work) = (disk.join("upper"), disk.join("work"));
    for directory in [&lower.join("directory"), &upper, &work] {
        fs::create_dir(directory)?;
    }
    fs::write(lower.join("file"), "x")?;
    let paths = [&lower, &upper, &work].map(|path| path.display().to_string());
    let options = format!("lowerdir={},upperdir={},workdir={},userxattr", paths[0], paths[1], paths[2]);
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
    // Needs a whiteout, and a directory that hides another.
    fs::remove_file(root.join("file"))?;
    fs::remove_dir(root.join("directory"))?;
    fs::create_dir(root.join("directory"))?;
    anyhow::ensure!(!root.join("file").exists(), "a removed file is still there");
    Ok(())
}
