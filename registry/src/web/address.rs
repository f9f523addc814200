//! Which addresses may be connected to: public ones, and those that the edge's owner permits. Apps and images name
//! URLs, and must not be able to reach the edge's own network (server-side request forgery). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// IPv4 networks that are not public (IANA IPv4 Special-Purpose Address Registry).
const NOT_PUBLIC_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// The public part of IPv6, and the exceptions in it: protocol assignments, documentation, and embedded IPv4 addresses.
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const NOT_PUBLIC_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether this address may be connected to.
pub(super) fn is_allowed(address: IpAddr, allowed: &[IpNet]) -> bool {
    is_in_any(address, allowed) || is_public(address.to_canonical())
}

/// Whether one of these networks contains this address.
pub(super) fn is_in_any(address: IpAddr, networks: &[IpNet]) -> bool {
    // An IPv4-mapped IPv6 address counts as the IPv4 address.
    let address = address.to_canonical();
    networks.iter().any(|net| net.contains(&address))
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|(net, bits)| is_in_v4(address, *net, *bits)),
        IpAddr::V6(address) => {
            is_in_v6(address, PUBLIC_V6.0, PUBLIC_V6.1)
                && !NOT_PUBLIC_V6.iter().any(|(net, bits)| is_in_v6(address, *net, *bits))
        }
    }
}

fn is_in_v4(address: Ipv4Addr, net: Ipv4Addr, bits: u8) -> bool {
    (address.to_bits() ^ net.to_bits()).leading_zeros() >= u32::from(bits)
}

fn is_in_v6(address: Ipv6Addr, net: Ipv6Addr, bits: u8) -> bool {
    (address.to_bits() ^ net.to_bits()).leading_zeros() >= u32::from(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_permitted_unless_others_are_allowed() {
        let allowed = |text: &str, nets: &[IpNet]| is_allowed(text.parse().unwrap(), nets);
        for public in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(allowed(public, &[]), "{public}");
        }
        for private in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "::127.0.0.1",
        ] {
            assert!(!allowed(private, &[]), "{private}");
        }
        let loopback: IpNet = "127.0.0.0/8".parse().unwrap();
        assert!(allowed("127.1.2.3", &[loopback]) && allowed("::ffff:127.0.0.1", &[loopback]));
        assert!(!allowed("10.0.0.1", &[loopback]) && !allowed("::1", &[loopback]));
    }
}
