//! Limits of the kernel's per-user counters (ucounts) inside the user namespace of one container. All containers of a
//! node share the host's subordinate ids and their counters: without these limits one container could use them up.

use std::fs;
use std::io;

use crate::protection::{Layer, Protection};

/// Where the limits of the calling process's user namespace are.
const DIRECTORY: &str = "/proc/sys/user";

/// The limits.
const LIMITS: [(&str, u32); 12] = [
    // No further namespaces: the filter of system calls denies them too.
    ("max_user_namespaces", 0),
    ("max_mnt_namespaces", 0),
    ("max_net_namespaces", 0),
    ("max_pid_namespaces", 0),
    ("max_ipc_namespaces", 0),
    ("max_uts_namespaces", 0),
    ("max_cgroup_namespaces", 0),
    ("max_time_namespaces", 0),
    // File watchers of servers and development tools need some; the host allows a user 128 by default.
    ("max_inotify_instances", 64),
    // Directories of a large source tree; each takes up to 1 KiB of the kernel's memory.
    ("max_inotify_watches", 65_536),
    // For the machine's administration.
    ("max_fanotify_groups", 0),
    ("max_fanotify_marks", 0),
];

/// Sets the limits of the calling process's user namespace. Call it after the container's namespaces are made. A
/// counter that the kernel does not have is skipped; a limit that cannot be set is an error.
pub(crate) fn bound(layers: Protection) -> io::Result<()> {
    if !layers.has(Layer::UserCounters) {
        return Ok(());
    }
    LIMITS.iter().try_for_each(|(name, limit)| set(name, *limit))
}

fn set(name: &str, limit: u32) -> io::Result<()> {
    match fs::write(format!("{DIRECTORY}/{name}"), limit.to_string()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::other(format!("cannot limit {name} inside the instance: {error}")))
        }
        _ => Ok(()),
    }
}
