//! Which addresses are the internet's: the one table for the firewalls of containers, and for what the edge connects to
//! on behalf of apps. Pure: the addresses of the machine itself, which are closed too, come from its caller.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that are not the internet (IANA IPv4 Special-Purpose Address Registry): "this network", private, shared
/// (carrier-grade), loopback, link-local (with the metadata address), protocol assignments, documentation, relays,
/// benchmarks, multicast, reserved and broadcast.
pub const CLOSED_V4: [(Ipv4Addr, u8); 15] = [
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
/// The IPv6 network of global unicast addresses: all others are closed.
pub const OPEN_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// Networks within it that are not the internet, or that carry IPv4 addresses of any kind: protocol assignments with
/// Teredo, documentation, 6to4.
pub const CLOSED_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether an address is the internet's. An IPv4 address in an IPv6 one counts as itself.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !CLOSED_V4.iter().any(|(net, bits)| is_in_v4(address, *net, *bits)),
        IpAddr::V6(address) => {
            is_in_v6(address, OPEN_V6.0, OPEN_V6.1)
                && !CLOSED_V6.iter().any(|(net, bits)| is_in_v6(address, *net, *bits))
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
    fn only_public_addresses_are_the_internets() {
        let public = |text: &str| is_public(text.parse().unwrap());
        for open in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(public(open), "{open}");
        }
        for closed in [
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
            assert!(!public(closed), "{closed}");
        }
    }
}
