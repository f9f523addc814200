//! Clients with other addresses than this machine's: a network namespace with an address for each of them, from which
//! connections are made to what listens on all addresses of this one. Needs root.
//!
//! ```text
//!  this process's namespace          CROWD
//!  10.214.X.1/24 ─────────────────── 10.214.X.2, 10.214.X.3, ...
//!   (edge)
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Socket, Type};

use crate::world::{add_address, entrance, ip, within};

/// How long a connection may take: an edge that is full may leave it in the backlog of the kernel.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

static CROWDS: AtomicU8 = AtomicU8::new(0);

/// A namespace full of clients; removed with this value.
#[derive(Debug)]
pub struct Crowd {
    namespace: String,
    subnet: u8,
    size: u8,
}

impl Crowd {
    /// Makes one with so many addresses. `name` distinguishes it from others on this machine.
    pub fn make(name: &str, size: u8) -> Result<Self> {
        let number = CROWDS.fetch_add(1, Ordering::Relaxed);
        let subnet = u8::try_from(std::process::id() % 250)?.wrapping_add(number.wrapping_mul(41));
        let crowd = Self { namespace: format!("{name}-crowd"), subnet, size };
        crowd.connect_namespace().context("make a crowd (this needs root and iproute2)")?;
        Ok(crowd)
    }

    fn connect_namespace(&self) -> Result<()> {
        let outer = format!("bc{}x{}", std::process::id() % 100_000, self.subnet);
        ip(&["netns", "add", &self.namespace])?;
        ip(&["link", "add", &outer, "type", "veth", "peer", "name", "out0", "netns", &self.namespace])?;
        ip(&["addr", "add", &format!("{}/24", self.edge()), "dev", &outer])?;
        ip(&["link", "set", &outer, "up"])?;
        ip(&["-n", &self.namespace, "link", "set", "lo", "up"])?;
        ip(&["-n", &self.namespace, "link", "set", "out0", "up"])?;
        (0..self.size).try_for_each(|client| {
            add_address(&self.namespace, "out0", &format!("{}/24", self.client(client)))
        })
    }

    /// Where the crowd reaches this process.
    pub fn edge(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 214, self.subnet, 1)
    }

    /// The address of one client.
    pub fn client(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 214, self.subnet, 2 + number)
    }

    /// The first words of a command that runs in the crowd.
    pub fn entrance(&self) -> [String; 2] {
        entrance(&self.namespace)
    }

    /// Connections of one client to a port of this process.
    pub fn connect(&self, client: u8, port: u16, count: usize) -> Result<Vec<TcpStream>> {
        ensure!(client < self.size, "the crowd has {} clients", self.size);
        let (from, to) = ((self.client(client), 0).into(), (self.edge(), port).into());
        within(&self.namespace, move || {
            let all: io::Result<Vec<_>> = (0..count).map(|_| connect(from, to)).collect();
            all.with_context(|| format!("{count} connections from {from} to {to}"))
        })
    }
}

fn connect(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&from.into())?;
    socket.connect_timeout(&to.into(), CONNECT_TIMEOUT)?;
    Ok(socket.into())
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "delete", &self.namespace]) {
            eprintln!("removing a crowd: {error:#}");
        }
    }
}
