//! The nftables rules inside a container's network namespace, for outgoing packets. The app cannot change them, since
//! it has no capabilities and can make no namespaces.

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use berth_common::internet::{CLOSED_V4, CLOSED_V6, OPEN_V6};
use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::pipe2;

use super::resolver::forwarder_of;
use crate::sys;

/// Lowest source port of UDP. pasta binds it on the host, so that it would be taken from a service there, the agent's own
/// included, while that is restarted. Programs that let the kernel choose get higher ones.
const LOWEST_UDP_SOURCE: u16 = 32_768;
/// Longest error output of nft that is shown, in bytes.
const MAX_SAID_BYTES: u64 = 2048;

/// Sets the rules of the network namespace that the calling process is in.
pub(super) struct Firewall {
    nft: PathBuf,
    /// False only in tests that show what the rules prevent.
    on: bool,
}

impl Firewall {
    pub(super) fn new(nft: &Path, on: bool) -> Self {
        Self { nft: nft.to_owned(), on }
    }

    /// Sets all rules. Call it before there is an interface.
    pub(super) fn close(&self, host: &BTreeSet<IpAddr>, resolver: Option<IpAddr>) -> io::Result<()> {
        self.apply(&rules(host, resolver))
    }

    /// Replaces the host's addresses, in one step.
    pub(super) fn update(&self, host: &BTreeSet<IpAddr>) -> io::Result<()> {
        let mut script = String::new();
        for set in ["host4", "host6"] {
            let elements = elements(host, set == "host4");
            let _ = writeln!(script, "flush set inet berth {set}");
            if !elements.is_empty() {
                let _ = writeln!(script, "add element inet berth {set} {{ {elements} }}");
            }
        }
        self.apply(&script)
    }

    fn apply(&self, script: &str) -> io::Result<()> {
        if !self.on {
            return Ok(());
        }
        self.run(script).map_err(|e| {
            io::Error::other(format!(
                "cannot set the firewall of the instance with {}: {e}; is nftables installed, and has the kernel \
                 nf_tables? See `berth-agent check`",
                self.nft.display()
            ))
        })
    }

    /// Runs nft as the namespace's root, which alone may set rules.
    fn run(&self, script: &str) -> io::Result<()> {
        let (input, mut to_input) = pipe2(OFlag::O_CLOEXEC).map(|(r, w)| (r, File::from(w)))?;
        let (said, output) = pipe2(OFlag::O_CLOEXEC)?;
        let writer = to_input.as_raw_fd();
        let child = sys::fork(|| {
            let _ = nix::unistd::close(writer);
            let run = || -> io::Result<()> {
                sys::place(&input, 0)?;
                sys::place(&output, 1)?;
                sys::place(&output, 2)?;
                sys::become_root()?;
                sys::usual_signals()?;
                Err(sys::exec(&self.nft, &["nft", "--file", "-"], &["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]))
            };
            let _ = run().map_err(|error| eprintln!("{error}"));
            127
        })?;
        drop((input, output));
        // The write fails if the program could not be executed: its error output has the reason.
        let written = to_input.write_all(script.as_bytes());
        drop(to_input);
        let mut text = String::new();
        File::from(said).take(MAX_SAID_BYTES).read_to_string(&mut text)?;
        match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => written,
            status => Err(io::Error::other(format!("{status:?} {}", text.trim()))),
        }
    }
}

/// The rules for the name server: redirect the address inside to it, and allow it.
fn resolution(resolver: Option<IpAddr>) -> (String, String) {
    let Some(resolver) = resolver else { return (String::new(), String::new()) };
    let family = if resolver.is_ipv4() { "ip" } else { "ip6" };
    let to = |address: IpAddr| format!("{family} daddr {address} meta l4proto {{ tcp, udp }} th dport 53");
    let redirect = format!("    {} dnat {family} to {resolver}\n", to(forwarder_of(resolver)));
    (redirect, format!("    {} accept\n", to(resolver)))
}

/// What the kernel keeps an entry for in its table of connections, which is one for the machine: only what the redirection
/// of names needs. As the ports of one address are, these are bounded.
fn tracking(resolver: Option<IpAddr>) -> String {
    let keep = |direction: &str, address: IpAddr, port: &str| {
        let family = if address.is_ipv4() { "ip" } else { "ip6" };
        format!("    {family} {direction} {address} meta l4proto {{ tcp, udp }} th {port} 53 return\n")
    };
    let out = resolver.map_or_else(String::new, |to| keep("daddr", forwarder_of(to), "dport"));
    let back = resolver.map_or_else(String::new, |from| keep("saddr", from, "sport"));
    let chain = |name: &str, hook: &str, kept: String| {
        format!(
            "  chain {name} {{\n    type filter hook {hook} priority -300; policy accept;\n{kept}    notrack\n  }}\n"
        )
    };
    chain("tracked_out", "output", out) + &chain("tracked_in", "prerouting", back)
}

/// The whole table.
fn rules(host: &BTreeSet<IpAddr>, resolver: Option<IpAddr>) -> String {
    let (redirect, resolve) = resolution(resolver);
    let set = |name: &str, kind: &str, elements: String| {
        let elements = if elements.is_empty() { elements } else { format!(" elements = {{ {elements} }};") };
        format!("  set {name} {{ type {kind}; flags interval; auto-merge;{elements} }}\n")
    };
    let sets = [
        set("closed4", "ipv4_addr", ranges(&CLOSED_V4)),
        set("closed6", "ipv6_addr", ranges(&CLOSED_V6)),
        set("host4", "ipv4_addr", elements(host, true)),
        set("host6", "ipv6_addr", elements(host, false)),
    ];
    format!(
        "table inet berth {{\n{}{}  chain names {{\n    type nat hook output priority -100; policy accept;\n{redirect}  }}\n  \
         chain output {{\n    type filter hook output priority 0; policy drop;\n    \
         oifname \"lo\" accept\n    udp sport < {LOWEST_UDP_SOURCE} reject with icmpx admin-prohibited\n{resolve}    \
         icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} accept\n    \
         ip daddr @closed4 reject with icmpx admin-prohibited\n    \
         ip daddr @host4 reject with icmpx admin-prohibited\n    \
         ip6 daddr != {open_v6} reject with icmpx admin-prohibited\n    \
         ip6 daddr @closed6 reject with icmpx admin-prohibited\n    \
         ip6 daddr @host6 reject with icmpx admin-prohibited\n    \
         meta nfproto {{ ipv4, ipv6 }} accept\n  }}\n  \
         chain forward {{\n    type filter hook forward priority 0; policy drop;\n  }}\n}}\n",
        sets.concat(),
        tracking(resolver),
        open_v6 = ranges(&[OPEN_V6]),
    )
}

fn ranges<A: Display>(networks: &[(A, u8)]) -> String {
    networks.iter().map(|(network, bits)| format!("{network}/{bits}")).collect::<Vec<_>>().join(", ")
}

fn elements(host: &BTreeSet<IpAddr>, v4: bool) -> String {
    let of_family = host.iter().filter(|address| address.is_ipv4() == v4);
    of_family.map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_addresses_are_closed_by_family() {
        let host = ["8.8.9.2", "2620:fe::2"].map(|a| a.parse().unwrap()).into();
        let rules = rules(&host, Some([192, 168, 1, 1].into()));
        assert!(rules.contains("ip daddr 192.168.1.1 meta l4proto { tcp, udp } th dport 53 accept"));
        assert!(
            rules.contains(
                "ip daddr 169.254.1.53 meta l4proto { tcp, udp } th dport 53 dnat ip to 192.168.1.1"
            )
        );
        assert!(
            rules.contains(
                "set host4 { type ipv4_addr; flags interval; auto-merge; elements = { 8.8.9.2 }; }"
            )
        );
        assert!(rules.contains(
            "set host6 { type ipv6_addr; flags interval; auto-merge; elements = { 2620:fe::2 }; }"
        ));
        assert!(rules.contains("policy drop"));
        assert!(rules.contains("udp sport < 32768 reject"));
    }

    #[test]
    fn only_names_are_tracked() {
        let rules = |resolver| rules(&BTreeSet::new(), resolver);
        let v4 = rules(Some([192, 168, 1, 1].into()));
        assert!(
            v4.contains("ip daddr 169.254.1.53 meta l4proto { tcp, udp } th dport 53 return\n    notrack"),
            "{v4}"
        );
        assert!(
            v4.contains("ip saddr 192.168.1.1 meta l4proto { tcp, udp } th sport 53 return\n    notrack"),
            "{v4}"
        );
        assert!(!rules(None).contains("return"));
    }

    #[test]
    fn a_host_without_addresses_of_a_family_leaves_an_empty_set() {
        assert!(
            rules(&BTreeSet::new(), None)
                .contains("set host6 { type ipv6_addr; flags interval; auto-merge; }")
        );
    }
}
