//! Mounts of a directory in which its files belong to other ids than on disk, for `berth-agent prepare`, which is root's.
//!
//! ```text
//! on disk: 100000 (root of the shared range)  ──▶  in the mount: 1065536 (root of a container's own range)
//! ```
//!
//! The kernel takes the map from a user namespace, which is made for it and needs no process afterwards.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use crate::{process, sys};

/// So many ids, as a file system has them and as a mount shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first on disk.
    pub on_disk: u32,
    /// The first in the mount.
    pub shown: u32,
    /// How many.
    pub count: u32,
}

/// Mounts a directory read-only at another place, with these ids; all others are nobody's there. An error of the kind
/// `InvalidInput` or `Unsupported`: the kernel or the file system cannot. For root, and a process with one thread.
pub fn mount(directory: BorrowedFd<'_>, at: &Path, uids: &[Extent], gids: &[Extent]) -> io::Result<()> {
    let namespace = user_namespace(uids, gids)?;
    let copy = sys::copy_mount(directory)?;
    sys::map_ids(&copy, &namespace)?;
    sys::attach_mount(&copy, at)
}

/// Whether something is mounted exactly here.
pub fn is_mounted(path: &Path) -> io::Result<bool> {
    let about = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    Ok(about.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// A user namespace with these maps.
fn user_namespace(uids: &[Extent], gids: &[Extent]) -> io::Result<File> {
    process::require_one_thread()?;
    let (made, tell) = pipe2(OFlag::O_CLOEXEC)?;
    let (wait, gate) = pipe2(OFlag::O_CLOEXEC)?;
    let (gate, made) = (File::from(gate), File::from(made));
    let writer = gate.as_raw_fd();
    let child = sys::fork(|| {
        let _ = nix::unistd::close(writer);
        if unshare(CloneFlags::CLONE_NEWUSER).is_err() || nix::unistd::write(&tell, &[1]).is_err() {
            return 1;
        }
        // Until the namespace is held by a descriptor.
        let _ = nix::unistd::read(&wait, &mut [0]);
        0
    })?;
    drop(tell);
    let namespace = maps(child, made, uids, gids);
    drop(gate);
    waitpid(child, None)?;
    namespace
}

fn maps(child: Pid, mut made: File, uids: &[Extent], gids: &[Extent]) -> io::Result<File> {
    made.read_exact(&mut [0]).map_err(|_| io::Error::other("cannot make a user namespace"))?;
    let process = Path::new("/proc").join(child.to_string());
    for (file, extents) in [("uid_map", uids), ("gid_map", gids)] {
        let path = process.join(file);
        let written = fs::OpenOptions::new().write(true).open(&path).and_then(|mut file| {
            // In one write: the kernel takes no second.
            file.write_all(text_of(extents).as_bytes())
        });
        written.map_err(|e| io::Error::other(format!("write {}: {e}", path.display())))?;
    }
    File::open(process.join("ns/user"))
}

fn text_of(extents: &[Extent]) -> String {
    let mut text = String::new();
    for Extent { on_disk, shown, count } in extents {
        let _ = writeln!(text, "{on_disk} {shown} {count}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_a_line_for_each_extent() {
        let extents =
            [Extent { on_disk: 1, shown: 200, count: 65_536 }, Extent { on_disk: 9, shown: 9, count: 1 }];
        assert_eq!(text_of(&extents), "1 200 65536\n9 9 1\n");
    }

    #[test]
    fn a_mount_is_told_from_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_mounted(directory.path()).unwrap());
        assert!(is_mounted(Path::new("/proc")).unwrap());
    }
}
