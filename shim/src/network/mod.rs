//! The network of one container: a network namespace with only loopback, or with internet access.
//!
//! ```text
//! app ─▶ eth0 ─▶ firewall (nftables, inside) ─▶ pasta, a process of the agent's user on the host ─▶ internet
//!                  └ closed: the node's own addresses, private, link-local and reserved ranges
//! ```
//!
//! Everything is made before the app: rules first, then the interface. A failure of any step is an error, and no app is
//! started. Connections into the container go only through sockets that the shim makes inside.

mod addresses;
mod firewall;
mod internet;
mod pasta;
pub mod resolver;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::unistd::Pid;

use self::addresses::HostAddresses;
use self::firewall::Firewall;
use self::internet::INTERFACE;
pub use self::internet::Internet;
use self::pasta::Pasta;
use crate::cgroup::ControlGroup;
use crate::namespaces;
use crate::protection::{Layer, Protection};
use crate::subordinate_ids::IdRange;

/// The configuration of a network.
pub(crate) struct Plan<'a> {
    pub(crate) uids: IdRange,
    pub(crate) gids: IdRange,
    /// Internet access, if any; else loopback only.
    pub(crate) internet: Option<&'a Internet>,
    /// Cgroup of the processes that serve the network, relative to the root of each hierarchy.
    pub(crate) cgroup: &'a Path,
    pub(crate) protection: Protection,
}

/// A network. The calling process is in its user and network namespaces.
pub(crate) struct Network {
    /// Set if it has internet access.
    out: Option<Out>,
}

struct Out {
    firewall: Firewall,
    host: HostAddresses,
    cgroup: ControlGroup,
    pasta: Vec<Pid>,
}

impl Network {
    /// Moves the calling, single-threaded process into new user and network namespaces, and makes the network there.
    pub(crate) fn make(plan: &Plan<'_>) -> io::Result<Self> {
        let Some(internet) = plan.internet else {
            enter(plan)?;
            return Ok(Self { out: None });
        };
        // Opened before the namespaces are entered: the watch of the host's addresses, and the child that becomes
        // pasta.
        let host = HostAddresses::watch()?;
        let cgroup = ControlGroup::create(plan.cgroup, &pasta::LIMITS)?;
        cgroup.limit_cpu(pasta::CPU_SIXTEENTHS)?;
        let made = Self::make_out(plan, internet, host, &cgroup);
        match made {
            Ok((firewall, host, pasta)) => Ok(Self { out: Some(Out { firewall, host, cgroup, pasta }) }),
            Err(error) => {
                let _ = cgroup.destroy();
                Err(error)
            }
        }
    }

    fn make_out(
        plan: &Plan<'_>,
        internet: &Internet,
        mut host: HostAddresses,
        cgroup: &ControlGroup,
    ) -> io::Result<(Firewall, HostAddresses, Vec<Pid>)> {
        let pasta = Pasta::fork(internet, cgroup)?;
        enter(plan)?;
        let firewall = Firewall::new(&internet.nft, plan.protection.has(Layer::Firewall));
        firewall.close(&host.read()?, internet.resolver)?;
        pasta.start()?;
        Ok((firewall, host, cgroup.members()))
    }

    /// Readable when the host's addresses may have changed.
    pub(crate) fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.out.as_ref().map(|out| out.host.as_fd())
    }

    /// Blocks new addresses of the host. On an error the container must end: it could reach the host.
    pub(crate) fn follow_host(&mut self) -> io::Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        match out.host.changed()? {
            Some(addresses) => out.firewall.update(&addresses),
            None => Ok(()),
        }
    }

    /// Whether the network depends on this process (pasta).
    pub(crate) fn needs(&self, pid: Pid) -> bool {
        self.out.as_ref().is_some_and(|out| out.pasta.contains(&pid))
    }

    /// Bytes received from and sent to the internet.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        if self.out.is_none() {
            return (0, 0);
        }
        // The file is about the reading process's own network namespace, which is the container's.
        let text = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
        traffic_of(INTERFACE, &text).unwrap_or((0, 0))
    }

    /// Ends the processes that serve it.
    pub(crate) fn end(&self) -> io::Result<()> {
        self.out.as_ref().map_or(Ok(()), |out| out.cgroup.destroy())
    }
}

fn enter(plan: &Plan<'_>) -> io::Result<()> {
    namespaces::enter_user_namespace(plan.uids, plan.gids)?;
    namespaces::enter_network_namespace()
}

/// Bytes received and sent by an interface, from the text of `/proc/net/dev`.
fn traffic_of(interface: &str, text: &str) -> Option<(u64, u64)> {
    let counters =
        text.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    let mut counters = counters.split_whitespace();
    Some((counters.next()?.parse().ok()?, counters.nth(7)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_read_from_the_kernels_table() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets\n    lo:  7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n  \
                    eth0: 1200 3 0 0 0 0 0 0 340 5 0 0 0 0 0 0\n";
        assert_eq!(traffic_of("eth0", text), Some((1200, 340)));
        assert_eq!(traffic_of("eth1", text), None);
    }
}
