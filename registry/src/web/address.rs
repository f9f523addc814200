//! Which addresses may be connected to: public ones but for those of this machine, and those that the edge's owner
//! permits. Apps and images name URLs, and must reach neither the edge's own network nor its listeners (server-side
//! request forgery).

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use berth_common::internet::is_public;
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;

/// The addresses of this machine's interfaces now: a public one reaches what listens on it, whatever is in front.
pub(super) fn own_addresses() -> io::Result<BTreeSet<IpAddr>> {
    let addresses = getifaddrs()?.filter_map(|interface| interface.address);
    let addresses = addresses.filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    Ok(addresses.map(|address| address.to_canonical()).collect())
}

/// Whether this address may be connected to.
pub(super) fn is_allowed(address: IpAddr, allowed: &[IpNet], own: &BTreeSet<IpAddr>) -> bool {
    is_in_any(address, allowed) || is_public(address) && !own.contains(&address.to_canonical())
}

/// Whether one of these networks contains this address.
pub(super) fn is_in_any(address: IpAddr, networks: &[IpNet]) -> bool {
    // An IPv4-mapped IPv6 address counts as the IPv4 address.
    let address = address.to_canonical();
    networks.iter().any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_permitted_unless_others_are_allowed() {
        let own = BTreeSet::from(["9.9.9.9".parse().unwrap(), "2620:fe::9".parse().unwrap()]);
        let allowed = |text: &str, nets: &[IpNet]| is_allowed(text.parse().unwrap(), nets, &own);
        for public in ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(allowed(public, &[]), "{public}");
        }
        for closed in ["127.0.0.1", "::ffff:10.0.0.1", "fd00::1", "9.9.9.9", "::ffff:9.9.9.9", "2620:fe::9"] {
            assert!(!allowed(closed, &[]), "{closed}");
        }
        let networks: [IpNet; 2] = ["127.0.0.0/8".parse().unwrap(), "9.9.9.0/24".parse().unwrap()];
        assert!(allowed("127.1.2.3", &networks) && allowed("::ffff:127.0.0.1", &networks));
        assert!(allowed("9.9.9.9", &networks));
        assert!(!allowed("10.0.0.1", &networks) && !allowed("::1", &networks));
    }

    #[test]
    fn this_machine_has_addresses() {
        assert!(own_addresses().unwrap().contains(&IpAddr::from([127, 0, 0, 1])));
    }
}
