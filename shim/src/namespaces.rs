//! Enters a new user namespace whose ids are this user's subordinate ids.
//!
//! The calling process keeps its uid on the host, which is *not* mapped inside: it has every capability over the
//! namespace and can still use its own files, while the container's root is a subordinate uid that owns nothing.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use crate::subordinate_ids::{CONTAINER_IDS, IdRange};
use crate::sys;

/// Where distributions install newuidmap and newgidmap.
const MAPPER_DIRS: [&str; 3] = ["/usr/bin", "/bin", "/usr/local/bin"];

/// Sysctls of a container's network: any of its users may listen on any port and send pings, without a capability.
const SETTINGS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 65535"),
];

/// Moves the calling, single-threaded process into a new user namespace.
pub(crate) fn enter_user_namespace(uids: IdRange, gids: IdRange) -> io::Result<()> {
    sys::set_dumpable(true)?;
    let (wait, gate) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let mappers = [
        Mapper::prepare("newuidmap", uids, &wait, gate.as_raw_fd())?,
        Mapper::prepare("newgidmap", gids, &wait, gate.as_raw_fd())?,
    ];
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| {
        io::Error::other(format!(
            "cannot make a user namespace: {e}; are they allowed on this machine (sysctl user.max_user_namespaces)?"
        ))
    })?;
    drop(gate);
    mappers.into_iter().try_for_each(Mapper::finish)
}

/// Moves the calling process into a new network namespace with only a loopback interface.
pub(crate) fn enter_network_namespace() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|e| io::Error::other(format!("cannot make a network namespace: {e}")))?;
    sys::loopback_up()
        .map_err(|e| io::Error::other(format!("cannot bring up the loopback interface: {e}")))?;
    SETTINGS.iter().try_for_each(|(path, value)| {
        std::fs::write(path, value).map_err(|e| io::Error::other(format!("cannot write {path}: {e}")))
    })
}

/// A child, forked before the namespace exists, that runs newuidmap or newgidmap once it does: the programs are setuid
/// root, which has no effect inside. Both run concurrently, because they are the slowest step.
struct Mapper {
    name: &'static str,
    pid: Pid,
}

impl Mapper {
    /// Forks the child, which waits until every other copy of `gate` (the other end of `wait`) is closed.
    fn prepare(name: &'static str, range: IdRange, wait: &OwnedFd, gate: RawFd) -> io::Result<Self> {
        let program = find(name)?;
        let target = getpid().to_string();
        let pid = sys::fork(|| {
            let _ = nix::unistd::close(gate);
            let _ = nix::unistd::read(wait, &mut [0]);
            let args = [name, &target, "0", &range.first.to_string(), &range.count.to_string()];
            let _ = sys::usual_signals();
            let error = sys::exec(&program, &args, &["PATH=/usr/bin:/bin"]);
            eprintln!("{name}: {error}");
            127
        })?;
        Ok(Self { name, pid })
    }

    fn finish(self) -> io::Result<()> {
        match waitpid(self.pid, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            status => Err(io::Error::other(format!(
                "{} failed ({status:?}); does this user have {CONTAINER_IDS} subordinate ids in /etc/subuid and \
                 /etc/subgid, and is the program setuid root? `berth-agent prepare` sees to it",
                self.name
            ))),
        }
    }
}

fn find(name: &str) -> io::Result<PathBuf> {
    let found = MAPPER_DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
    found.ok_or_else(|| {
        io::Error::other(format!("`{name}` is not installed; on Debian: apt-get install uidmap"))
    })
}
