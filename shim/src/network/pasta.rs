//! Runs pasta, which connects a network namespace with the host's sockets, as the agent's user, in a cgroup of its own.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, pipe2};

use super::internet::{INTERFACE, Internet};
use crate::cgroup::{ControlGroup, Limits};
use crate::{process, sys};

/// Limits of pasta: it has buffers of 30 MB, and a container must not make it use much more.
pub(super) const LIMITS: Limits = Limits { memory_bytes: 128 << 20, pids: 16 };
/// CPU that a container's traffic may cost the node, in sixteenths of a virtual CPU: enough for hundreds of megabits a
/// second.
pub(super) const CPU_SIXTEENTHS: u32 = 8;

/// The same addresses in every container, so that the host's network is not visible inside.
const ADDRESS_V4: &str = "10.0.2.100";
const PREFIX_V4: &str = "24";
const GATEWAY_V4: &str = "10.0.2.2";
const ADDRESS_V6: &str = "fd00:2::100";
const GATEWAY_V6: &str = "fe80::2";
/// The gateway's link address, from the locally administered range.
const GATEWAY_MAC: &str = "9a:55:9a:55:9a:55";
/// No ports are forwarded in, nor from inside to the host's loopback, not even through the gateway's address. No DHCP,
/// NDP or other services.
const CLOSED: [&str; 14] = [
    "--tcp-ports",
    "none",
    "--udp-ports",
    "none",
    "--tcp-ns",
    "none",
    "--udp-ns",
    "none",
    "--no-map-gw",
    "--no-dhcp",
    "--no-dhcpv6",
    "--no-ra",
    "--dns",
    "none",
];
/// Longest error output of it that is shown, in bytes.
const MAX_SAID_BYTES: u64 = 4096;

/// A child that was forked on the host and waits for its namespace.
pub(super) struct Pasta {
    pid: Pid,
    gate: File,
    said: OwnedFd,
}

impl Pasta {
    /// Forks the child. Call it before the calling process enters its namespaces.
    pub(super) fn fork(internet: &Internet, cgroup: &ControlGroup) -> io::Result<Self> {
        let args = arguments(getpid());
        let (wait, gate) = pipe2(OFlag::O_CLOEXEC)?;
        let (said, output) = pipe2(OFlag::O_CLOEXEC)?;
        let (gate, held) = (File::from(gate), said.as_raw_fd());
        let writer = gate.as_raw_fd();
        let pid = sys::fork(|| {
            let _ = nix::unistd::close(writer);
            let _ = nix::unistd::close(held);
            // The pipe is closed without a byte if the namespaces could not be made.
            if nix::unistd::read(&wait, &mut [0]) != Ok(1) {
                return 0;
            }
            let run = || -> io::Result<()> {
                cgroup.enter()?;
                sys::usual_signals()?;
                process::end_first()?;
                let null = File::options().read(true).write(true).open("/dev/null")?;
                sys::place(&null.into(), 0)?;
                sys::place(&output, 1)?;
                sys::place(&output, 2)?;
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                Err(sys::exec(&internet.pasta, &args, &["PATH=/usr/bin:/bin"]))
            };
            let _ = run().map_err(|error| eprintln!("{}: {error}", internet.pasta.display()));
            127
        })?;
        Ok(Self { pid, gate, said })
    }

    /// Has it join the namespaces of the calling process, and returns once it is ready: then it forks into the
    /// background.
    pub(super) fn start(self) -> io::Result<()> {
        let Self { pid, mut gate, said } = self;
        gate.write_all(&[1])?;
        let status = waitpid(pid, None)?;
        if matches!(status, WaitStatus::Exited(_, 0)) {
            return Ok(());
        }
        let mut text = String::new();
        let _ = File::from(said).take(MAX_SAID_BYTES).read_to_string(&mut text);
        let last = text.lines().rfind(|line| !line.contains("to syslog")).unwrap_or_default();
        Err(io::Error::other(format!(
            "cannot give the instance a way to the internet: pasta ended with {status:?}: {last}; see `berth-agent check`"
        )))
    }
}

fn arguments(target: Pid) -> Vec<String> {
    let mut args: Vec<String> = vec!["pasta".into(), "--quiet".into(), "--config-net".into()];
    args.extend(CLOSED.map(str::to_owned));
    let mut option = |name: &str, value: String| args.extend([name.to_owned(), value]);
    option("--ns-ifname", INTERFACE.into());
    option("--mac-addr", GATEWAY_MAC.into());
    option("--address", ADDRESS_V4.into());
    option("--netmask", PREFIX_V4.into());
    option("--gateway", GATEWAY_V4.into());
    if has_default_route() {
        option("--address", ADDRESS_V6.into());
        option("--gateway", GATEWAY_V6.into());
    } else {
        // A machine without a default route now, such as one in a vehicle, may have one later.
        option("--interface", "lo".into());
    }
    option("--userns", format!("/proc/{target}/ns/user"));
    option("--netns", format!("/proc/{target}/ns/net"));
    args
}

/// Whether the host has a default route now.
fn has_default_route() -> bool {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let v4 = read("/proc/net/route").lines().any(is_default_v4);
    v4 || read("/proc/net/ipv6_route").lines().any(is_default_v6)
}

/// Columns of /proc/net/route: interface, destination, gateway, flags, three counters, mask.
fn is_default_v4(line: &str) -> bool {
    let fields: Vec<&str> = line.split_whitespace().collect();
    fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")
}

/// Columns of /proc/net/ipv6_route: destination, its length, source, its length, next hop, metric, counters, flags,
/// interface. The kernel's own unreachable default route is on the loopback interface.
fn is_default_v6(line: &str) -> bool {
    let fields: Vec<&str> = line.split_whitespace().collect();
    fields.get(1) == Some(&"00") && fields.last().is_some_and(|interface| *interface != "lo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_told_from_others() {
        assert!(is_default_v4("eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0"));
        assert!(!is_default_v4("eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0"));
        let v6 = |length, interface| format!("{0} {length} {0} 00 {0} 400 1 0 3 {interface}", "0".repeat(32));
        assert!(is_default_v6(&v6("00", "eth0")));
        assert!(!is_default_v6(&v6("00", "lo")) && !is_default_v6(&v6("40", "eth0")));
    }
}
