//! The host's name server that containers use, and its address as seen inside.
//!
//! A NAT rule in their network namespace redirects that address to the name server, so the address inside stays the
//! same even if the host's name server changes.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name server's address inside, if the host's name server has an IPv4 address.
pub const FORWARDER_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 53);
/// The same for one with an IPv6 address.
pub const FORWARDER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x53);

/// The files with the host's name servers. The second has the real ones behind the local stub of systemd-resolved.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The address inside for this name server.
pub fn forwarder_of(resolver: IpAddr) -> IpAddr {
    match resolver {
        IpAddr::V4(_) => FORWARDER_V4.into(),
        IpAddr::V6(_) => FORWARDER_V6.into(),
    }
}

/// The host's first name server that is not on its loopback interface, which containers cannot reach.
pub fn of_host() -> Option<IpAddr> {
    FILES.iter().find_map(|path| first_resolver(&fs::read_to_string(path).unwrap_or_default()))
}

fn first_resolver(text: &str) -> Option<IpAddr> {
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    // A link-local address may come with the interface that it is on.
    let addresses = servers.filter_map(|rest| rest.trim().split('%').next()?.parse::<IpAddr>().ok());
    addresses.into_iter().find(|address| !address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_on_loopback_is_passed_over() {
        let first = |text: &str| first_resolver(text).map(|address| address.to_string());
        assert_eq!(first("# x\nnameserver 127.0.0.53\noptions edns0\n"), None);
        assert_eq!(
            first("nameserver ::1\nnameserver 10.1.1.1\nnameserver 8.8.8.8\n").as_deref(),
            Some("10.1.1.1")
        );
        assert_eq!(first("nameserver fe80::1%eth0\n").as_deref(), Some("fe80::1"));
    }
}
