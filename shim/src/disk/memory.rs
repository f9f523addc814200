//! Disks in memory: a tmpfs as the writable layer. The tmpfs of older kernels lacks the user xattrs that an overlay
//! needs, so it is tested (`trial`) before it is offered.

use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};

/// Bytes of a disk for each file that it may hold: each takes about a kilobyte of the kernel's memory.
const BYTES_PER_FILE: u64 = 16 * 1024;
/// Least and most files that a disk in memory may hold.
const MIN_FILES: u64 = 1024;
const MAX_FILES: u64 = 1 << 20;

/// Mounts an empty disk of this size.
pub(crate) fn mount_disk(bytes: u64, at: &Path) -> io::Result<()> {
    let files = (bytes / BYTES_PER_FILE).clamp(MIN_FILES, MAX_FILES);
    let options = format!("size={bytes},nr_inodes={files},mode=0755");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("berth"), at, Some("tmpfs"), flags, Some(options.as_str()))?)
}
