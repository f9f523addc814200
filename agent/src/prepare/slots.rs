//! Creates disk slots, as root: directories that belong to the agents' user and cannot hold more than their size.
//!
//! ```text
//! /var/lib/berth-disks/NODE-DIGEST/      root's
//!   2000000000-0/                        a slot: the mount point of its image, or a directory with a quota
//!   images/2000000000-0.img              root's, as large as the slot, renamed to this once complete
//! ```
//!
//! The directories lie outside the node's state: its owner could place symbolic links there, which root would follow.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use berth_shim::disk::{BROKEN, USED};
use berth_shim::removal::remove_tree;
use bytesize::ByteSize;
use clap::ValueEnum;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;
use nix::unistd::User;

use super::{command, ids, make_root_directory};
use crate::runtime::disks::slots_directory;
use crate::runtime::ranges::ranges_directory;

/// Overhead of a file system: this share of its size, plus this many bytes.
const OVERHEAD_PERCENT: u64 = 4;
const OVERHEAD_BYTES: u64 = 8 << 20;
/// Bytes per inode of a slot, the default of `mkfs.ext4`.
const BYTES_PER_FILE: u64 = 16 * 1024;
/// Smallest slot, in bytes: below it there is only room for the file system's own tables.
const MIN_BYTES: u64 = 16 << 20;
/// Most slots of a size.
const MAX_COUNT: u32 = 4096;
/// First project id of quotas: above those that distributions use.
const FIRST_PROJECT: u32 = 1_900_000_000;
/// Options of the slots' mounts: neither setuid programs nor device nodes work there.
const MOUNT_OPTIONS: &str = "loop,nosuid,nodev,noatime";

/// A number of slots of one size: `16x2GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotSpec {
    count: u32,
    bytes: u64,
}

impl FromStr for SlotSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is not a number of slots and their size, such as 16x2GB");
        let (count, size) = text.split_once('x').ok_or_else(expected)?;
        let count =
            count.parse().ok().filter(|count| (1..=MAX_COUNT).contains(count)).ok_or_else(expected)?;
        let bytes = size.parse::<ByteSize>().map_err(|_| expected())?.as_u64();
        if bytes < MIN_BYTES {
            return Err(format!("a disk slot has at least {}, not {size}", ByteSize(MIN_BYTES)));
        }
        Ok(Self { count, bytes })
    }
}

/// How slots are limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// By quotas where the file system has them, else by file systems of their own
    Auto,
    /// By project quotas (ext4 and xfs, mounted with `prjquota`)
    Quota,
    /// By file systems of their own in image files
    Loop,
}

/// The options for the slots of one node.
#[derive(Debug, Clone)]
pub struct SlotOptions {
    /// The slots that must exist at least.
    pub slots: Vec<SlotSpec>,
    /// How they are limited.
    pub backend: Backend,
    /// Sparse images. For trials only: if the disk fills up, instances see I/O errors.
    pub sparse: bool,
    /// Only print what would be done.
    pub dry_run: bool,
}

impl SlotOptions {
    /// How many slots there are to be.
    pub(super) fn count(&self) -> usize {
        self.slots.iter().map(|spec| spec.count as usize).sum()
    }
}

/// Creates missing slots, and mounts those that are not mounted.
pub(super) fn make(state: &Path, user: &User, options: &SlotOptions) -> anyhow::Result<()> {
    let directory = slots_directory(&state.canonicalize().unwrap_or_else(|_| state.to_owned()));
    let wanted = names(&options.slots);
    let quota = options.backend != Backend::Loop && has_project_quota(&directory);
    ensure!(
        quota || options.backend != Backend::Quota,
        "{} is not on a file system with project quotas: mount it with the option prjquota (ext4: after `tune2fs -O \
         project,quota`), or use --disk-backend loop",
        directory.display()
    );
    if options.dry_run {
        return print_plan(&directory, &wanted, quota);
    }
    make_root_directory(&directory)?;
    if quota {
        return wanted
            .iter()
            .try_for_each(|(name, bytes)| make_quota_slot(&directory.join(name), *bytes, user));
    }
    make_root_directory(&directory.join("images"))?;
    check_room(&directory, &wanted, options.sparse)?;
    wanted.iter().try_for_each(|(name, bytes)| make_loop_slot(&directory, name, *bytes, user, options.sparse))
}

/// The names of slots, in order, with their sizes.
fn names(specs: &[SlotSpec]) -> Vec<(String, u64)> {
    let name = |bytes: u64, number: u32| (format!("{bytes}-{number}"), bytes);
    specs.iter().flat_map(|spec| (0..spec.count).map(move |number| name(spec.bytes, number))).collect()
}

fn print_plan(directory: &Path, wanted: &[(String, u64)], quota: bool) -> anyhow::Result<()> {
    let how = if quota { "project quotas" } else { "image files" };
    println!("would see to these disk slots in {}, limited by {how}:", directory.display());
    for (name, bytes) in wanted {
        let state = if is_mounted(&directory.join(name))? { "there" } else { "to be made or mounted" };
        println!("  {name}\t{}\t{state}", ByteSize(*bytes));
    }
    Ok(())
}

fn image_bytes(bytes: u64) -> u64 {
    let whole = bytes + bytes / 100 * OVERHEAD_PERCENT + OVERHEAD_BYTES;
    // Whole mebibytes are a multiple of every block size.
    whole.next_multiple_of(1 << 20)
}

fn image(directory: &Path, name: &str) -> PathBuf {
    directory.join("images").join(format!("{name}.img"))
}

/// Checks before anything is created, so that a full disk does not leave half of the slots.
fn check_room(directory: &Path, wanted: &[(String, u64)], sparse: bool) -> anyhow::Result<()> {
    let missing = wanted.iter().filter(|(name, _)| !image(directory, name).exists());
    let needed: u64 = missing.map(|(_, bytes)| image_bytes(*bytes)).sum();
    let disk = statvfs(directory)?;
    let free = disk.blocks_available() * disk.fragment_size();
    ensure!(
        sparse || needed <= free,
        "the slots need {} in {}, where {} are free: {} are missing",
        ByteSize(needed),
        directory.display(),
        ByteSize(free),
        ByteSize(needed - free)
    );
    Ok(())
}

fn make_loop_slot(directory: &Path, name: &str, bytes: u64, user: &User, sparse: bool) -> anyhow::Result<()> {
    let (slot, image) = (directory.join(name), image(directory, name));
    let broken = is_broken(&slot);
    if is_mounted(&slot)? {
        if !broken {
            return Ok(());
        }
        command("umount", [slot.to_string_lossy().as_ref()])
            .context("unmount a disk slot that cannot be wiped")?;
    }
    if broken {
        // In a new file: a mount namespace somewhere may still have the old one.
        println!("making the disk slot {} anew: it could not be wiped", slot.display());
        make_image(&image, bytes, user, sparse)?;
    } else if image.exists() {
        // A restart of the machine may have damaged its file system; slots hold nothing to keep, so it is formatted
        // anew.
        println!("making the file system of the disk slot {} anew", slot.display());
        format(&image, bytes, user)?;
    } else {
        println!("making the disk slot {} of {}", slot.display(), ByteSize(bytes));
        make_image(&image, bytes, user, sparse)?;
    }
    make_root_directory(&slot)?;
    let paths = [&image, &slot].map(|path| path.to_string_lossy().into_owned());
    command("mount", ["-t", "ext4", "-o", MOUNT_OPTIONS, &paths[0], &paths[1]])
        .context("mount a disk slot; has this machine loop devices (`modprobe loop`)?")?;
    give(&slot, user)
}

/// Whether the agent has found that it cannot wipe it. Its owner may put anything there, so only the name counts.
fn is_broken(slot: &Path) -> bool {
    fs::symlink_metadata(slot.join(BROKEN)).is_ok()
}

/// Creates it under another name and renames it when complete.
fn make_image(image: &Path, bytes: u64, user: &User, sparse: bool) -> anyhow::Result<()> {
    let partial = image.with_extension("partial");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    let size = i64::try_from(image_bytes(bytes))?;
    if sparse {
        file.set_len(image_bytes(bytes))?;
    } else {
        fallocate(file.as_fd(), FallocateFlags::empty(), 0, size).context("take room for a disk slot")?;
    }
    drop(file);
    format(&partial, bytes, user)?;
    File::open(&partial)?.sync_all()?;
    Ok(fs::rename(&partial, image)?)
}

fn format(image: &Path, bytes: u64, user: &User) -> anyhow::Result<()> {
    let files = (bytes / BYTES_PER_FILE).to_string();
    let owner = format!("root_owner={}:{},nodiscard", user.uid, user.gid);
    let path = image.to_string_lossy().into_owned();
    // No journal: an instance's disk does not outlive the instance or a restart of the machine.
    command("mkfs.ext4", ["-q", "-F", "-m", "0", "-O", "^has_journal", "-N", &files, "-E", &owner, &path])
        .context("make a file system in a disk slot; on Debian: apt-get install e2fsprogs")
}

fn give(slot: &Path, user: &User) -> anyhow::Result<()> {
    chown(slot, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    Ok(fs::set_permissions(slot, fs::Permissions::from_mode(0o700))?)
}

fn make_quota_slot(slot: &Path, bytes: u64, user: &User) -> anyhow::Result<()> {
    if !slot.exists() {
        println!("making the disk slot {} of {}", slot.display(), ByteSize(bytes));
        make_root_directory(slot)?;
    }
    // The project id is derived from the inode's number, which is unique and stable.
    let inode = u32::try_from(fs::metadata(slot)?.ino() % 100_000_000)?;
    let project = (FIRST_PROJECT + inode).to_string();
    let path = slot.to_string_lossy().into_owned();
    let (blocks, files) = ((bytes / 1024).to_string(), (bytes / BYTES_PER_FILE).to_string());
    if is_broken(slot) {
        println!("emptying the disk slot {}: it could not be wiped", slot.display());
        for name in [USED, BROKEN] {
            remove_tree(&slot.join(name)).with_context(|| format!("empty {}", slot.display()))?;
        }
    }
    let mount = mount_point(slot)?.to_string_lossy().into_owned();
    command("setquota", ["-P", &project, "0", &blocks, "0", &files, &mount])
        .context("limit a project; on Debian: apt-get install quota")?;
    command("chattr", ["-p", &project, "+P", &path])?;
    give(slot, user)
}

/// Whether the file system of the directory, which may not exist yet, has project quotas.
fn has_project_quota(directory: &Path) -> bool {
    let Some(there) = directory.ancestors().find(|path| path.exists()) else { return false };
    let mount = mount_point(there).map(|path| path.to_string_lossy().into_owned());
    mount.is_ok_and(|mount| {
        command("setquota", ["-P", &FIRST_PROJECT.to_string(), "0", "0", "0", "0", &mount]).is_ok()
    })
}

fn mount_point(path: &Path) -> io::Result<PathBuf> {
    let device = fs::metadata(path)?.dev();
    let same = |path: &&Path| fs::metadata(path).is_ok_and(|about| about.dev() == device);
    Ok(path.ancestors().take_while(same).last().unwrap_or(path).to_owned())
}

fn is_mounted(slot: &Path) -> io::Result<bool> {
    let Some(parent) = slot.parent().filter(|_| slot.exists()) else { return Ok(false) };
    Ok(fs::metadata(slot)?.dev() != fs::metadata(parent)?.dev())
}

/// Unmounts and removes all slots of a node. Its agent and supervisor must have ended.
pub(super) fn remove(state: &Path, dry_run: bool) -> anyhow::Result<()> {
    let state = state.canonicalize().unwrap_or_else(|_| state.to_owned());
    let directory = slots_directory(&state);
    if !directory.exists() {
        println!("{} has no disk slots", state.display());
        return Ok(());
    }
    if !dry_run {
        ids::remove(&ranges_directory(&state))?;
    }
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        println!("{} {}", if dry_run { "would remove" } else { "removing" }, path.display());
        if !dry_run && is_mounted(&path)? {
            command("umount", [path.to_string_lossy().as_ref()])
                .context("end what runs on this node first")?;
        }
    }
    if dry_run {
        return Ok(());
    }
    if fs::read_dir(&directory)?.flatten().any(|entry| is_mounted(&entry.path()).unwrap_or(true)) {
        bail!("{} is still in use", directory.display());
    }
    fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_are_read() {
        assert_eq!("16x2GB".parse(), Ok(SlotSpec { count: 16, bytes: 2_000_000_000 }));
        assert_eq!("4x64MiB".parse(), Ok(SlotSpec { count: 4, bytes: 64 << 20 }));
        for wrong in ["2GB", "0x2GB", "axb", "1x1MB", "4x"] {
            assert!(wrong.parse::<SlotSpec>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_image_has_room_for_its_slot() {
        assert!(image_bytes(64 << 20) > 70 << 20);
        assert_eq!(image_bytes(2_000_000_000) % (1 << 20), 0);
    }
}
