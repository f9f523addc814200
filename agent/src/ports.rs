//! Connections to the ports of an instance. Sockets come from inside its network namespace, where they must be made; a
//! few are kept in stock so that a request need not wait for one. Knows nothing of what is sent over them, but for the
//! first line of the answer to a ping.

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

/// Sockets kept in stock for each instance.
const STOCK_SOCKETS: usize = 4;
/// How long a port may take to take a connection. Edges wait longer than this for an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a socket for the stock may take to come.
const STOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the shim may take to read some counters.
const USAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before a port that did not answer is tried again, at first.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest such pause: each is twice the one before.
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// Why a port was not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Nothing listens there.
    #[error("the port does not take connections: {0}")]
    Refused(io::Error),
    /// It did not answer.
    #[error("the port did not take the connection within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
    /// There was no socket to connect.
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
    stock: RefCell<VecDeque<OwnedFd>>,
    stocking: Cell<bool>,
    traffic: Traffic,
    lifecycle: Lifecycle,
}

impl<C: Container + 'static> Sockets<C> {
    /// `carried`: what earlier agents have.
    pub(crate) fn new(container: C, lifecycle: Lifecycle, carried: Carried) -> Rc<Self> {
        let (stock, stocking) = (RefCell::default(), Cell::new(false));
        let traffic =
            Traffic { received: Cell::new(carried.received_bytes), sent: Cell::new(carried.sent_bytes) };
        Rc::new(Self { container, stock, stocking, traffic, lifecycle })
    }

    /// What has been sent over connections to the ports.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// What the instance takes, with what has been sent over connections to its ports.
    pub(crate) async fn usage(&self) -> io::Result<Usage> {
        let usage = tokio::time::timeout(USAGE_TIMEOUT, self.container.usage()).await;
        let mut usage = usage.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        usage.received_bytes += self.traffic.received.get();
        usage.sent_bytes += self.traffic.sent.get();
        Ok(usage)
    }

    /// What has been sent over connections to its ports, by all agents that it has had.
    pub(crate) fn carried(&self) -> Carried {
        Carried { received_bytes: self.traffic.received.get(), sent_bytes: self.traffic.sent.get() }
    }

    /// What there is to be noted of it.
    pub(crate) async fn seen(&self) -> io::Result<Seen> {
        let usage = tokio::time::timeout(USAGE_TIMEOUT, self.container.usage()).await;
        let Usage { cpu_us, received_bytes, sent_bytes, .. } =
            usage.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(Seen { carried: self.carried(), cpu_us, received_bytes, sent_bytes })
    }

    /// Connects to a port, on whichever loopback address something listens.
    pub(crate) async fn connect(self: &Rc<Self>, port: u16) -> Result<TcpStream, ConnectError> {
        tokio::time::timeout(CONNECT_TIMEOUT, self.try_addresses(port))
            .await
            .unwrap_or(Err(ConnectError::TimedOut))
    }

    /// Waits until a port takes a connection, for as long as that takes. There is nothing that would tell: it is tried.
    pub(crate) async fn wait_until_open(self: &Rc<Self>, port: u16) {
        let mut pause = FIRST_PAUSE;
        while self.connect(port).await.is_err() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Waits until a path is answered in HTTP, by a status that does not say that the app is not ready.
    pub(crate) async fn wait_until_answered(self: &Rc<Self>, port: u16, path: &str) {
        let mut pause = FIRST_PAUSE;
        while !matches!(tokio::time::timeout(CONNECT_TIMEOUT, self.ping(port, path)).await, Ok(Ok(true))) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Asks for a path and reads no more of the answer than its first line's status.
    async fn ping(self: &Rc<Self>, port: u16, path: &str) -> io::Result<bool> {
        let mut stream = self.connect(port).await.map_err(io::Error::other)?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut answer).await?;
        Ok(answer.starts_with(b"HTTP/1.") && (b'1'..b'5').contains(&answer["HTTP/1.1 ".len()]))
    }

    /// Sends the app a signal.
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
        let stocked = self.stock.borrow_mut().pop_front();
        self.restock();
        match stocked {
            Some(socket) => Ok(socket),
            None => self.container.socket().await,
        }
    }

    /// Fills the stock in the background.
    fn restock(self: &Rc<Self>) {
        if self.stocking.replace(true) {
            return;
        }
        let sockets = Rc::clone(self);
        self.lifecycle.spawn_local(async move {
            while sockets.stock.borrow().len() < STOCK_SOCKETS {
                match tokio::time::timeout(STOCK_TIMEOUT, sockets.container.socket()).await {
                    Ok(Ok(socket)) => sockets.stock.borrow_mut().push_back(socket),
                    // Whoever needs a socket next will hear why there is none.
                    Ok(Err(_)) | Err(_) => break,
                }
            }
            sockets.stocking.set(false);
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
    async fn what_went_wrong_is_told_apart() {
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
    async fn a_stock_is_kept_and_bounded() {
        let test = async {
            let sockets = sockets(Some(Domain::IPV4));
            let taken = sockets.take().await.unwrap();
            assert!(taken.as_fd().try_clone_to_owned().is_ok());
            while sockets.stocking.get() {
                tokio::task::yield_now().await;
            }
            assert_eq!(sockets.stock.borrow().len(), STOCK_SOCKETS);
            assert_eq!(sockets.container.1.get(), STOCK_SOCKETS + 1);
            sockets.take().await.unwrap();
            assert!(sockets.stock.borrow().len() >= STOCK_SOCKETS - 1);
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
