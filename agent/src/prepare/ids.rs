//! The ids of containers, as root: gives the agents' user its subordinate ids, and each node ranges that are each for one
//! container at a time.
//!
//! ```text
//! /var/lib/berth-disks/NODE-DIGEST/ranges/   root's
//!   1000000-1000000/      the node's layers, in which their files belong to the range of these first uid and gid
//! ```
//!
//! Layers are on disk once, with owners of the shared range. In each of these mounts the kernel shows the same files with
//! owners of another range, so that they are right in a container that has it. The mounts are gone after a restart of the
//! machine, and made again.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, ensure};
use berth_shim::idmap::{self, Extent};
use berth_shim::subordinate_ids::{CONTAINER_IDS, FILES, IdRange, all_of, parse};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{User, fchown};

use super::{command, make_root_directory};
use crate::runtime::ranges::{first_ids, ranges_directory};

/// First subordinate id if no user has any, as Debian's useradd has it.
const FIRST_SUBORDINATE_ID: u32 = 100_000;
/// Options of `usermod` for each of the files.
const OPTIONS: [&str; 2] = ["--add-subuids", "--add-subgids"];
/// Ranges beside one for each disk slot: for shims of the pool, for containers whose disk is in memory, and for those that
/// are being cleaned up.
const MORE_THAN_SLOTS: u32 = 32;
/// Most ranges of a node: 2^32 ids are 65,536 of them for the whole machine.
const MAX_RANGES: u32 = 8192;

/// How many ranges a node with this many slots gets.
pub(super) fn count_for(slots: usize, asked: Option<u32>) -> u32 {
    let slots = u32::try_from(slots).unwrap_or(MAX_RANGES);
    let default = if slots == 0 { 0 } else { slots.saturating_add(MORE_THAN_SLOTS) };
    asked.unwrap_or(default).min(MAX_RANGES)
}

/// Sees to it that the user has the shared range.
pub(super) fn give_shared(user: &User) -> anyhow::Result<()> {
    for (file, option) in FILES.into_iter().zip(OPTIONS) {
        let text = read(file)?;
        let has = |(owner, _, count)| owner == user.name && count >= CONTAINER_IDS;
        if !text.lines().filter_map(parse).any(has) {
            add(file, option, &user.name, 1)?;
        }
    }
    Ok(())
}

/// Sees to it that the node has this many ranges at least, each with its mount of the layers.
pub(super) fn make(state: &Path, user: &User, count: u32) -> anyhow::Result<()> {
    let state = &state.canonicalize().unwrap_or_else(|_| state.to_owned());
    let directory = ranges_directory(state);
    if count == 0 && !directory.exists() {
        return Ok(());
    }
    make_root_directory(&directory)?;
    let layers = open_layers(state, user)?;
    let mut names: Vec<String> = names_in(&directory)?;
    let missing = count.saturating_sub(u32::try_from(names.len())?);
    names.extend(new_names(user, missing)?);
    let shared = all_of(&user.name, user.uid.as_raw())?.map(|ranges| ranges[0]);
    let mut made = 0;
    for name in &names {
        match mount(&directory.join(name), &layers, user, shared) {
            Ok(new) => made += u32::from(new),
            Err(error) if is_unsupported(&error) => return tell_unsupported(&directory, &error),
            Err(error) => return Err(error).with_context(|| format!("mount the layers for the ids {name}")),
        }
    }
    if made > 0 {
        println!("mounted the layers of {} for {made} ranges of ids", state.display());
    }
    Ok(())
}

fn tell_unsupported(directory: &Path, error: &io::Error) -> anyhow::Result<()> {
    println!(
        "containers go on to share one range of ids: this kernel or file system has no mounts with other ids ({error}; \
         Linux 5.19 or later, and ext4, xfs or btrfs)"
    );
    remove(directory)
}

fn is_unsupported(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EPERM))
}

/// Unmounts and removes all ranges of a node. Its containers must have ended.
pub(super) fn remove(directory: &Path) -> anyhow::Result<()> {
    for name in names_in(directory)? {
        let path = directory.join(name);
        unmount(&path)?;
        // Not with its contents: what should still be mounted there is the layers.
        fs::remove_dir(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn unmount(path: &Path) -> anyhow::Result<()> {
    // More than one may lie on another, after a run that was killed.
    while idmap::is_mounted(path)? {
        command("umount", [path.to_string_lossy().as_ref()]).context("end what runs on this node first")?;
    }
    Ok(())
}

/// The directory of the layers, which belongs to the user. Its path is the user's, so no link is followed.
fn open_layers(state: &Path, user: &User) -> anyhow::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let said = || format!("open the layers in {}", state.display());
    let state = open(state, flags, Mode::empty()).with_context(said)?;
    match mkdirat(&state, "layers", Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error).with_context(said),
    }
    let layers = File::from(openat(&state, "layers", flags, Mode::empty()).with_context(said)?);
    if layers.metadata()?.uid() == 0 {
        fchown(&layers, Some(user.uid), Some(user.gid)).with_context(said)?;
    }
    ensure!(layers.metadata()?.uid() == user.uid.as_raw(), "{}: they belong to another user", said());
    Ok(layers)
}

/// True if it was not mounted before.
fn mount(at: &Path, layers: &File, user: &User, [uids, gids]: [IdRange; 2]) -> io::Result<bool> {
    let (uid, gid) = first_ids(at).ok_or(io::ErrorKind::InvalidInput)?;
    if at.exists() && idmap::is_mounted(at)? {
        let (there, wanted) = (fs::metadata(at)?, layers.metadata()?);
        if (there.dev(), there.ino()) == (wanted.dev(), wanted.ino()) {
            return Ok(false);
        }
        // The layers were removed and made again.
        unmount(at).map_err(io::Error::other)?;
    }
    make_root_directory(at).map_err(io::Error::other)?;
    let shown = |range: IdRange, first: u32, own: u32| {
        [
            Extent { on_disk: range.first, shown: first, count: CONTAINER_IDS },
            // The agents' user opens the directories above the layers' files, which are its own.
            Extent { on_disk: own, shown: own, count: 1 },
        ]
    };
    let uids = shown(uids, uid, user.uid.as_raw());
    let gids = shown(gids, gid, user.gid.as_raw());
    idmap::mount(layers.as_fd(), at, &uids, &gids).map(|()| true)
}

/// Names for so many new ranges: of those that the user has and no node uses, and of more that it is given.
fn new_names(user: &User, count: u32) -> anyhow::Result<Vec<String>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let used = used_ranges()?;
    let free = |ranges: &[IdRange], used: &HashSet<u32>| -> Vec<u32> {
        // The first one is shared.
        ranges.iter().skip(1).map(|range| range.first).filter(|first| !used.contains(first)).collect()
    };
    let all = all_of(&user.name, user.uid.as_raw())?;
    for (number, (file, option)) in FILES.into_iter().zip(OPTIONS).enumerate() {
        let lacking = count.saturating_sub(u32::try_from(free(&all[number], &used[number]).len())?);
        if lacking > 0 {
            add(file, option, &user.name, lacking)?;
        }
    }
    let [uids, gids] = all_of(&user.name, user.uid.as_raw())?;
    let pairs = free(&uids, &used[0]).into_iter().zip(free(&gids, &used[1]));
    Ok(pairs.take(count as usize).map(|(uid, gid)| format!("{uid}-{gid}")).collect())
}

/// The first uids and gids of the ranges of all nodes of this machine.
fn used_ranges() -> anyhow::Result<[HashSet<u32>; 2]> {
    let mut used = [HashSet::new(), HashSet::new()];
    for node in fs::read_dir(berth_shim::disk::SLOTS_ROOT).into_iter().flatten() {
        for name in names_in(&node?.path().join("ranges"))? {
            if let Some((uid, gid)) = first_ids(Path::new(&name)) {
                used[0].insert(uid);
                used[1].insert(gid);
            }
        }
    }
    Ok(used)
}

fn names_in(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if first_ids(Path::new(&name)).is_some() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Gives the user so many more ranges, above all that any user has.
fn add(file: &str, option: &str, user: &str, ranges: u32) -> anyhow::Result<()> {
    let (first, last) = next_ids(&read(file)?, ranges).with_context(|| {
        format!(
            "{file} has no room for {ranges} ranges of {CONTAINER_IDS} ids: ask for fewer with --id-ranges"
        )
    })?;
    println!("giving `{user}` the ids {first}-{last} in {file}");
    command("usermod", [option, &format!("{first}-{last}"), user])
}

/// The first and the last of so many ranges above all that a file has; none if they would be too high.
fn next_ids(text: &str, ranges: u32) -> Option<(u32, u32)> {
    let mut ends = text.lines().filter_map(parse).map(|(_, first, count)| first.checked_add(count));
    let first = ends.try_fold(FIRST_SUBORDINATE_ID, |most, end| Some(most.max(end?)))?;
    let last = first.checked_add(ranges.checked_mul(CONTAINER_IDS)?)?;
    Some((first, last - 1))
}

fn read(file: &str) -> anyhow::Result<String> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.with_context(|| format!("read {file}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_with_slots_has_more_ranges_than_slots_and_one_without_none() {
        assert_eq!(count_for(0, None), 0);
        assert_eq!(count_for(16, None), 48);
        assert_eq!(count_for(16, Some(0)), 0);
        assert_eq!(count_for(0, Some(64)), 64);
        assert_eq!(count_for(4096, Some(u32::MAX)), MAX_RANGES);
    }

    #[test]
    fn new_ids_lie_above_all_others_and_below_the_last() {
        assert_eq!(next_ids("", 1), Some((100_000, 165_535)));
        assert_eq!(next_ids("a:100000:65536\nb:300000:10\n", 2), Some((300_010, 431_081)));
        assert_eq!(next_ids("a:4294901760:65535\n", 1), None);
        assert_eq!(next_ids("", u32::MAX), None);
    }
}
