//! The sockets that clients connect to: those that the service manager keeps over restarts, or the edge's own.
//!
//! ```text
//!  kept:     the service manager listens; an edge that stops leaves connections in the kernel's queue to the next one
//!  own:      each shard listens; the next edge may listen beside this one before it stops (`--take-over`)
//! ```
//!
//! Knows nothing of what is served on them.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use crate::proxy::listener::bind;

/// The sockets of all shards.
#[derive(Debug)]
pub(crate) struct Sockets {
    kept: Vec<TcpListener>,
    /// Those that listen already, for the next shards.
    early: Vec<TcpListener>,
    address: SocketAddr,
}

impl Sockets {
    /// Takes what the service manager has passed on, or else will listen on this address. Changes the environment, so
    /// no other thread may run yet.
    pub(crate) fn take(address: SocketAddr) -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let mut kept = Vec::new();
        for index in 0..passed.len() {
            kept.extend(passed.take_tcp_listener(index)?);
        }
        Ok(Self { kept, early: Vec::new(), address })
    }

    /// Listens for all shards now. Connections wait in the kernel's queues until the shards take the sockets.
    pub(crate) fn listen_early(&mut self, shards: usize) -> io::Result<()> {
        if self.are_kept() {
            return Ok(());
        }
        let early: io::Result<Vec<_>> = (0..shards).map(|_| self.bind()).collect();
        self.early = early?;
        Ok(())
    }

    /// Whether they outlive this process.
    pub(crate) fn are_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Fails if there are more kept sockets than shards: nobody would accept the connections of the others.
    pub(crate) fn expect_served(&self, shards: usize) -> anyhow::Result<()> {
        let kept = self.kept.len();
        anyhow::ensure!(
            kept <= shards,
            "the service manager passes {kept} sockets on, and each needs a shard: --shards {kept} (there are {shards})"
        );
        Ok(())
    }

    /// The socket of a shard.
    pub(crate) fn of_shard(&mut self, index: usize) -> io::Result<TcpListener> {
        if let Some(kept) = self.kept.get(index % self.kept.len().max(1)) {
            // Shards may share one: each connection is then taken by one of them.
            let own = kept.try_clone()?;
            own.set_nonblocking(true)?;
            self.address = own.local_addr()?;
            return Ok(own);
        }
        self.early.pop().map_or_else(|| self.bind(), Ok)
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// With port 0 the kernel chooses a port for the first shard, and the others share it.
    fn bind(&mut self) -> io::Result<TcpListener> {
        let socket = bind(self.address)?;
        self.address = socket.local_addr()?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kept_socket_needs_a_shard() {
        let address = "127.0.0.1:0".parse().unwrap();
        let kept = (0..2).map(|_| TcpListener::bind(address).unwrap()).collect();
        let sockets = Sockets { kept, early: Vec::new(), address };
        assert!(sockets.expect_served(1).unwrap_err().to_string().contains("--shards 2"));
        assert!(sockets.expect_served(2).is_ok() && sockets.expect_served(3).is_ok());
    }
}
