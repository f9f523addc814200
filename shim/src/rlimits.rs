//! The resource limits of a container's processes.

use std::io;

use nix::sys::resource::{Resource, getrlimit};
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

/// A soft and a hard limit.
struct Limit {
    kind: PosixRlimitType,
    resource: Resource,
    soft: u64,
    hard: u64,
}

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
    },
    // Core files on an ephemeral disk are useless, and containers must not trigger the host's core dump handler.
    Limit { kind: PosixRlimitType::RlimitCore, resource: Resource::RLIMIT_CORE, soft: 0, hard: 0 },
    // The kernel counts these three per host user, and thereby for all containers together.
    Limit {
        kind: PosixRlimitType::RlimitMsgqueue,
        resource: Resource::RLIMIT_MSGQUEUE,
        soft: 64 * KIB,
        hard: 64 * KIB,
    },
    Limit {
        kind: PosixRlimitType::RlimitSigpending,
        resource: Resource::RLIMIT_SIGPENDING,
        soft: 4096,
        hard: 4096,
    },
    Limit {
        kind: PosixRlimitType::RlimitMemlock,
        resource: Resource::RLIMIT_MEMLOCK,
        soft: 8 * MIB,
        hard: 8 * MIB,
    },
];

/// The limits for a container's first process, capped at this process's own, which it cannot exceed.
pub(crate) fn of_container() -> io::Result<Vec<PosixRlimit>> {
    LIMITS.iter().map(Limit::within_own).collect()
}

impl Limit {
    fn within_own(&self) -> io::Result<PosixRlimit> {
        let (_, most) = getrlimit(self.resource)?;
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
}
