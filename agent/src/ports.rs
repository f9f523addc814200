//! Connections to the ports of an instance. Sockets must be made inside its network namespace; a small pool of them is
//! kept so that a request need not wait for one. Knows nothing of what is sent over them, except the status line of the
//! response to a ping.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use berth_common::lifecycle::Lifecycle;
use berth_common::wire::call::Usage;
use berth_common::wire::tunnel::TunnelAnswer;
use berth_shim::metering::{Carried, Seen};
use nix::errno::Errno;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::runtime::Container;
use crate::splice::Traffic;

/// Sockets in the pool of each instance.
const POOL_SOCKETS: usize = 4;
/// How long a port may take to accept a connection. Edges wait longer than this for an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the shim may take to make a socket for the pool.
const POOL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the shim may take to report usage.
const USAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// First delay before a port that did not answer is tried again; it doubles each time.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(1);
/// Longest such delay.
const MAX_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Why connecting to a port failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Nothing listens there.
    #[error("the port does not take connections: {0}")]
    Refused(io::Error),
    /// It did not answer.
    #[error("the port did not take the connection within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
    /// No socket could be made inside the instance.
    #[error("no socket inside the instance could be had: {0}")]
    NoSocket(io::Error),
}

impl From<&ConnectError> for TunnelAnswer {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::Refused(_) => Self::Refused,
            ConnectError::TimedOut => Self::TimedOut,
            ConnectError::NoSocket(_) => Self::Exhausted,
        }
    }
}

/// Sockets inside one instance.
pub(crate) struct Sockets<C> {
    container: C,
    pool: RefCell<VecDeque<OwnedFd>>,
    filling: Cell<bool>,
    traffic: Traffic,
    lifecycle: Lifecycle,
}

impl<C: Container + 'static> Sockets<C> {
    /// `carried`: bytes that earlier agents have carried.
    pub(crate) fn new(container: C, lifecycle: Lifecycle, carried: Carried) -> Rc<Self> {
        let (pool, filling) = (RefCell::default(), Cell::new(false));
        let traffic =
            Traffic { received: Cell::new(carried.received_bytes), sent: Cell::new(carried.sent_bytes) };
        Rc::new(Self { container, pool, filling, traffic, lifecycle })
    }

    /// Bytes of connections to the ports.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The instance's usage, including the bytes of connections to its ports.
    pub(crate) async fn usage(&self) -> io::Result<Usage> {
        let usage = tokio::time::timeout(USAGE_TIMEOUT, self.container.usage()).await;
        let mut usage = usage.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        usage.received_bytes += self.traffic.received.get();
        usage.sent_bytes += self.traffic.sent.get();
        Ok(usage)
    }

    /// Bytes of connections to its ports, of all agents so far.
    pub(crate) fn carried(&self) -> Carried {
        Carried { received_bytes: self.traffic.received.get(), sent_bytes: self.traffic.sent.get() }
    }

    /// The usage that is saved in the instance's directory.
    pub(crate) async fn seen(&self) -> io::Result<Seen> {
        let usage = tokio::time::timeout(USAGE_TIMEOUT, self.container.usage()).await;
        let Usage { cpu_us, received_bytes, sent_bytes, .. } =
            usage.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(Seen { carried: self.carried(), cpu_us, received_bytes, sent_bytes })
    }

    /// Connects to a port on the loopback address where something listens, IPv4 or IPv6.
    pub(crate) async fn connect(self: &Rc<Self>, port: u16) -> Result<TcpStream, ConnectError> {
        tokio::time::timeout(CONNECT_TIMEOUT, self.try_addresses(port))
            .await
            .unwrap_or(Err(ConnectError::TimedOut))
    }

    /// Waits until a port accepts a connection, without a limit. Polls, because nothing notifies of a new listener.
    pub(crate) async fn wait_until_open(self: &Rc<Self>, port: u16) {
        let mut pause = MIN_RETRY_DELAY;
        while self.connect(port).await.is_err() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_RETRY_DELAY);
        }
    }

    /// Waits until a path is answered over HTTP with a status below 500.
    pub(crate) async fn wait_until_answered(self: &Rc<Self>, port: u16, path: &str) {
        let mut pause = MIN_RETRY_DELAY;
        while !matches!(tokio::time::timeout(CONNECT_TIMEOUT, self.ping(port, path)).await, Ok(Ok(true))) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_RETRY_DELAY);
        }
    }

    /// Requests a path and reads only the status of the response.
    async fn ping(self: &Rc<Self>, port: u16, path: &str) -> io::Result<bool> {
        let mut stream = self.connect(port).await.map_err(io::Error::other)?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut answer).await?;
        Ok(answer.starts_with(b"HTTP/1.") && (b'1'..b'5').contains(&answer["HTTP/1.1 ".len()]))
    }

    /// Sends the app a signal.
    pub(crate) async fn resume(&self, until_ms: u64) -> io::Result<()> {
        self.container.resume(until_ms).await
    }

    pub(crate) async fn signal(&self, signal: i32) -> io::Result<()> {
        self.container.signal(signal).await
    }

    async fn try_addresses(self: &Rc<Self>, port: u16) -> Result<TcpStream, ConnectError> {
        let socket = self.take().await.map_err(ConnectError::NoSocket)?;
        let dual = SockRef::from(&socket).local_addr().is_ok_and(|address| address.is_ipv6());
        let first =
            if dual { Ipv4Addr::LOCALHOST.to_ipv6_mapped().into() } else { Ipv4Addr::LOCALHOST.into() };
        match connect(socket, SocketAddr::new(first, port)).await {
            Err(ConnectError::Refused(_)) if dual => {
                let socket = self.take().await.map_err(ConnectError::NoSocket)?;
                connect(socket, SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)).await
            }
            connected => connected,
        }
    }

    async fn take(self: &Rc<Self>) -> io::Result<OwnedFd> {
        let pooled = self.pool.borrow_mut().pop_front();
        self.refill();
        match pooled {
            Some(socket) => Ok(socket),
            None => self.container.socket().await,
        }
    }

    /// Fills the pool in the background.
    fn refill(self: &Rc<Self>) {
        if self.filling.replace(true) {
            return;
        }
        let sockets = Rc::clone(self);
        self.lifecycle.spawn_local(async move {
            while sockets.pool.borrow().len() < POOL_SOCKETS {
                match tokio::time::timeout(POOL_TIMEOUT, sockets.container.socket()).await {
                    Ok(Ok(socket)) => sockets.pool.borrow_mut().push_back(socket),
                    // The next request makes a socket itself and gets the error.
                    Ok(Err(_)) | Err(_) => break,
                }
            }
            sockets.filling.set(false);
        });
    }
}

async fn connect(socket: OwnedFd, address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let connected = TcpSocket::from_std_stream(socket.into()).connect(address).await;
    connected.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ETIMEDOUT) => ConnectError::TimedOut,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EADDRNOTAVAIL) => {
            ConnectError::NoSocket(error)
        }
        _ => ConnectError::Refused(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    /// Sockets of this machine, or none at all.
    #[derive(Clone)]
    struct Host(Option<Domain>, Rc<Cell<usize>>);

    impl Container for Host {
        async fn socket(&self) -> io::Result<OwnedFd> {
            self.1.set(self.1.get() + 1);
            let domain = self.0.ok_or(io::ErrorKind::NotConnected)?;
            let socket = Socket::new(domain, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        }

        async fn ready(&self) -> io::Result<()> {
            Ok(())
        }

        async fn usage(&self) -> io::Result<Usage> {
            Ok(Usage::default())
        }

        async fn signal(&self, _signal: i32) -> io::Result<()> {
            Ok(())
        }

        async fn resume(&self, _until_ms: u64) -> io::Result<()> {
            Ok(())
        }

        async fn stop(&self, _signal: i32, _grace: Duration, _drained: bool) -> io::Result<()> {
            Ok(())
        }
    }

    fn sockets(domain: Option<Domain>) -> Rc<Sockets<Host>> {
        Sockets::new(Host(domain, Rc::default()), Lifecycle::new(), Carried::default())
    }

    #[tokio::test]
    async fn a_port_is_found_on_either_loopback_address() {
        let test = async {
            for (domain, address) in
                [(Domain::IPV6, "127.0.0.1:0"), (Domain::IPV6, "[::1]:0"), (Domain::IPV4, "127.0.0.1:0")]
            {
                let listener = TcpListener::bind(address).await.unwrap();
                let port = listener.local_addr().unwrap().port();
                let (stream, _) = tokio::try_join!(
                    async { Ok(sockets(Some(domain)).connect(port).await.unwrap()) },
                    listener.accept()
                )
                .unwrap();
                assert_eq!(stream.peer_addr().unwrap().port(), port);
            }
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn errors_are_distinguished() {
        let test = async {
            let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
            for domain in [Domain::IPV4, Domain::IPV6] {
                let refused = sockets(Some(domain)).connect(closed).await.unwrap_err();
                assert_eq!(TunnelAnswer::from(&refused), TunnelAnswer::Refused);
            }
            let none = sockets(None).connect(closed).await.unwrap_err();
            assert_eq!(TunnelAnswer::from(&none), TunnelAnswer::Exhausted);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn a_pool_is_kept_and_bounded() {
        let test = async {
            let sockets = sockets(Some(Domain::IPV4));
            let taken = sockets.take().await.unwrap();
            assert!(taken.as_fd().try_clone_to_owned().is_ok());
            while sockets.filling.get() {
                tokio::task::yield_now().await;
            }
            assert_eq!(sockets.pool.borrow().len(), POOL_SOCKETS);
            assert_eq!(sockets.container.1.get(), POOL_SOCKETS + 1);
            sockets.take().await.unwrap();
            assert!(sockets.pool.borrow().len() >= POOL_SOCKETS - 1);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn waiting_ends_when_the_port_opens() {
        let test = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            let sockets = sockets(Some(Domain::IPV4));
            let mut waiting = Box::pin(sockets.wait_until_open(address.port()));
            assert!(tokio::time::timeout(Duration::from_millis(5), &mut waiting).await.is_err());
            let _listener = TcpListener::bind(address).await.unwrap();
            waiting.await;
        };
        LocalSet::new().run_until(test).await;
    }
}
