//! Free ports on loopback, for daemons that get their address as an option.
//!
//! From a range below the one the kernel gives to outgoing connections, so that none of those takes a port between the
//! choice and its use; each port is given out once a process.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// An address on loopback whose port is free for both TCP and UDP.
pub fn free_address() -> Result<SocketAddr> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    // Processes that run at the same time begin with different ports.
    let begin = u16::try_from(std::process::id() * 97 % u32::from(COUNT)).unwrap_or(0);
    let ports = (0..COUNT).map(|step| FIRST + (begin + step) % COUNT);
    let free = ports.into_iter().find(|port| !given.contains(port) && is_free(*port));
    let port = free.context("no free port is left on loopback")?;
    given.insert(port);
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: HashSet<SocketAddr> = (0..20).map(|_| free_address().unwrap()).collect();
        assert_eq!(ports.len(), 20);
    }
}
