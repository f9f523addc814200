//! Limits of the kernel's per-user counters (ucounts) inside the user namespace of one container. The kernel counts them
//! for the user who made the namespace too, which is the agents' for all containers: each gets a share of what that
//! user may have.

use std::fs;
use std::io;

use crate::protection::{Layer, Protection};
use crate::rlimits::SHARES;

/// Where the limits of the calling process's user namespace are.
const DIRECTORY: &str = "/proc/sys/user";

/// What nobody needs inside a container. No further namespaces: the filter of system calls denies them too; fanotify is
/// for the machine's administration.
const NONE: [&str; 10] = [
    "max_user_namespaces",
    "max_mnt_namespaces",
    "max_net_namespaces",
    "max_pid_namespaces",
    "max_ipc_namespaces",
    "max_uts_namespaces",
    "max_cgroup_namespaces",
    "max_time_namespaces",
    "max_fanotify_groups",
    "max_fanotify_marks",
];

/// What containers share.
struct Shared {
    name: &'static str,
    /// The limit of each user of the host.
    of_host: &'static str,
    /// Least for a container, on a machine that root has not prepared.
    least: u32,
    /// Most that one needs.
    most: u32,
}

const SHARED: [Shared; 2] = [
    // File watchers of servers and development tools need some; the host allows a user 128 by default.
    Shared {
        name: "max_inotify_instances",
        of_host: "/proc/sys/fs/inotify/max_user_instances",
        least: 8,
        most: 64,
    },
    // Directories of a large source tree; each takes up to 1 KiB of the container's memory.
    Shared {
        name: "max_inotify_watches",
        of_host: "/proc/sys/fs/inotify/max_user_watches",
        least: 4096,
        most: 65_536,
    },
];

impl Shared {
    fn limit(&self) -> u32 {
        let text = fs::read_to_string(self.of_host).unwrap_or_default();
        self.share_of(text.trim().parse().unwrap_or(0))
    }

    fn share_of(&self, all: u32) -> u32 {
        (all / SHARES).clamp(self.least, self.most)
    }
}

/// Sets the limits of the calling process's user namespace. Call it after the container's namespaces are made. A
/// counter that the kernel does not have is skipped; a limit that cannot be set is an error.
pub(crate) fn bound(layers: Protection) -> io::Result<()> {
    if !layers.has(Layer::UserCounters) {
        return Ok(());
    }
    NONE.iter().try_for_each(|name| set(name, 0))?;
    SHARED.iter().try_for_each(|shared| set(shared.name, shared.limit()))
}

fn set(name: &str, limit: u32) -> io::Result<()> {
    match fs::write(format!("{DIRECTORY}/{name}"), limit.to_string()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::other(format!("cannot limit {name} inside the instance: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_container_has_its_share_of_what_the_node_has() {
        let [instances, watches] = SHARED;
        assert_eq!(instances.share_of(16_384), 64);
        assert_eq!(instances.share_of(4096), 16);
        assert_eq!(instances.share_of(128), 8);
        assert_eq!(watches.share_of(16_777_216), 65_536);
        assert_eq!(watches.share_of(192_908), 4096);
    }
}
