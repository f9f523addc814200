//! The resource limits of a container's processes.
//!
//! Some of them the kernel counts for the user who made the container's user namespace too, up to that user's own limit
//! (`set_userns_rlimit_max`). That user is the agents', for all containers: each gets a share of what this process may have.

use std::io;

use nix::sys::resource::{Resource, getrlimit};
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

/// A soft and a hard limit.
struct Limit {
    kind: PosixRlimitType,
    resource: Resource,
    soft: u64,
    hard: u64,
    /// Whether the kernel counts all containers together.
    shared: bool,
}

/// Containers that limits which they share are divided among.
pub(crate) const SHARES: u32 = 256;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The limits.
const LIMITS: [Limit; 5] = [
    // Open files: a busy server raises its own limit.
    Limit {
        kind: PosixRlimitType::RlimitNofile,
        resource: Resource::RLIMIT_NOFILE,
        soft: 1024,
        hard: 65_536,
        shared: false,
    },
    // Core files on an ephemeral disk are useless, and containers must not trigger the host's core dump handler.
    Limit {
        kind: PosixRlimitType::RlimitCore,
        resource: Resource::RLIMIT_CORE,
        soft: 0,
        hard: 0,
        shared: false,
    },
    // POSIX message queues.
    Limit {
        kind: PosixRlimitType::RlimitMsgqueue,
        resource: Resource::RLIMIT_MSGQUEUE,
        soft: 64 * KIB,
        hard: 64 * KIB,
        shared: true,
    },
    // Timers, each of which has a signal ready, and queued signals.
    Limit {
        kind: PosixRlimitType::RlimitSigpending,
        resource: Resource::RLIMIT_SIGPENDING,
        soft: 4096,
        hard: 4096,
        shared: true,
    },
    // Counted for each process.
    Limit {
        kind: PosixRlimitType::RlimitMemlock,
        resource: Resource::RLIMIT_MEMLOCK,
        soft: 8 * MIB,
        hard: 8 * MIB,
        shared: false,
    },
];

/// The limits for a container's first process, capped at this process's own, which it cannot exceed.
pub(crate) fn of_container() -> io::Result<Vec<PosixRlimit>> {
    LIMITS.iter().map(Limit::within_own).collect()
}

impl Limit {
    fn within_own(&self) -> io::Result<PosixRlimit> {
        let (of_namespace, own) = getrlimit(self.resource)?;
        let most = if self.shared { of_namespace / u64::from(SHARES) } else { own };
        PosixRlimitBuilder::default()
            .typ(self.kind)
            .soft(self.soft.min(most))
            .hard(self.hard.min(most))
            .build()
            .map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_above_ones_own() {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let limits = of_container().unwrap();
        assert!(limits.iter().all(|limit| limit.soft() <= limit.hard()));
        assert!(limits[0].hard() <= most);
    }

    #[test]
    fn what_all_containers_share_is_divided() {
        for (limit, set) in LIMITS.iter().zip(of_container().unwrap()).filter(|(limit, _)| limit.shared) {
            let (own, _) = getrlimit(limit.resource).unwrap();
            assert!(set.hard() <= own / u64::from(SHARES), "{:?}", limit.kind);
        }
    }
}
