//! Which name server of the host resolves the containers' names, and at which address they see it.
//!
//! What they send to that address goes to the name server: a rule in their network namespace changes the destination.
//! So the address inside stays the same wherever the host is.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where containers find names resolved, if the host's name server has an IPv4 address.
pub const FORWARDER_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 53);
/// The same for one with an IPv6 address.
pub const FORWARDER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x53);

/// Where the host says which name servers it uses. A stub on its loopback names the real ones in the second file.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The address at which containers find this name server.
pub fn forwarder_of(resolver: IpAddr) -> IpAddr {
    match resolver {
        IpAddr::V4(_) => FORWARDER_V4.into(),
        IpAddr::V6(_) => FORWARDER_V6.into(),
    }
}

/// The host's name server, if it has one that is not on its loopback interface: those cannot be asked from outside.
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
