//! The agent's ends of its connections to the supervisor and to the shims.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use berth_common::wire::call::Usage;
use berth_shim::layout::Layout;
use berth_shim::messages::{self, ShimCall, ShimEvent, SupervisorAnswer, SupervisorCall};
use berth_shim::metering::Ended;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use super::async_fd::register;
use super::{Container, Event};

/// How long the supervisor may take to answer: it only forks, and never waits for anything else.
const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(5);

/// A call to a shim that is not answered yet, with the receiver of its answer.
#[derive(Debug)]
enum PendingCall {
    Socket(oneshot::Sender<io::Result<OwnedFd>>),
    Usage(oneshot::Sender<io::Result<Usage>>),
}

/// Calls that are not answered yet, in order.
type PendingCalls = Rc<RefCell<VecDeque<PendingCall>>>;

/// A container, by the connection to its shim.
#[derive(Debug, Clone)]
pub struct Shim {
    socket: Rc<AsyncFd<OwnedFd>>,
    pending: PendingCalls,
}

impl Shim {
    /// The container of the shim at the other end.
    pub(crate) fn connected(socket: AsyncFd<OwnedFd>) -> Self {
        Self { socket: Rc::new(socket), pending: Rc::default() }
    }

    /// Fails all pending calls: there will be no more answers.
    pub(crate) fn fail_pending(&self) {
        self.pending.borrow_mut().clear();
    }

    async fn call(&self, call: &ShimCall) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, |fd| messages::send(fd.as_fd(), call, &[])).await
    }

    /// Passes on the shim's events and answers, until it reports the end or is gone.
    pub(crate) async fn listen(&self, events: &mpsc::Sender<Event>) -> Option<Ended> {
        loop {
            let received = self
                .socket
                .async_io(Interest::READABLE, |fd| messages::receive::<ShimEvent>(fd.as_fd()))
                .await;
            match received {
                Ok(Some((ShimEvent::Socket, Some(socket)))) => self.answer(Ok(ShimAnswer::Socket(socket))),
                Ok(Some((ShimEvent::Socket, None))) => {
                    self.answer(Err(io::Error::other("the shim sent no socket with its answer")));
                }
                Ok(Some((ShimEvent::Usage(usage), _))) => self.answer(Ok(ShimAnswer::Usage(usage))),
                Ok(Some((ShimEvent::Failed { message }, _))) => self.answer(Err(io::Error::other(message))),
                Ok(Some((ShimEvent::Prepared { .. } | ShimEvent::Held, _))) => {}
                Ok(Some((ShimEvent::Started, _))) => drop(events.send(Event::Started).await),
                Ok(Some((ShimEvent::Frozen { frozen }, _))) => drop(events.send(Event::Frozen(frozen)).await),
                Ok(Some((ShimEvent::Exited { outcome, metered }, _))) => {
                    return Some(Ended { outcome, metered });
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::warn!(%error, "ignoring an unknown message of a shim of another version");
                }
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Has it run its container, whose configuration an earlier agent has written.
    pub(crate) async fn run(&self) -> io::Result<()> {
        self.call(&ShimCall::Run).await
    }

    /// Waits until the shim has wiped the disk and ended.
    pub(crate) async fn until_gone(&self) {
        let receive = |fd: &OwnedFd| messages::receive::<ShimEvent>(fd.as_fd());
        while let Ok(Some(_)) = self.socket.async_io(Interest::READABLE, receive).await {}
    }

    /// Passes an answer to its call. It is dropped if the caller has gone away.
    fn answer(&self, answer: io::Result<ShimAnswer>) {
        let pending = self.pending.borrow_mut().pop_front();
        match (pending, answer) {
            (Some(PendingCall::Socket(to)), Ok(ShimAnswer::Socket(socket))) => drop(to.send(Ok(socket))),
            (Some(PendingCall::Usage(to)), Ok(ShimAnswer::Usage(usage))) => drop(to.send(Ok(usage))),
            (Some(PendingCall::Socket(to)), answer) => drop(to.send(Err(unexpected(answer)))),
            (Some(PendingCall::Usage(to)), answer) => drop(to.send(Err(unexpected(answer)))),
            (None, _) => tracing::warn!("a shim sent an answer without a call"),
        }
    }

    async fn ask<T>(
        &self,
        call: &ShimCall,
        pending: impl FnOnce(oneshot::Sender<io::Result<T>>) -> PendingCall,
    ) -> io::Result<T> {
        let (to, answer) = oneshot::channel();
        self.pending.borrow_mut().push_back(pending(to));
        self.call(call).await?;
        answer.await.map_err(|_| io::Error::new(io::ErrorKind::NotConnected, "the instance has ended"))?
    }
}

/// The answer of a shim.
enum ShimAnswer {
    Socket(OwnedFd),
    Usage(Usage),
}

fn unexpected(answer: io::Result<ShimAnswer>) -> io::Error {
    answer.err().unwrap_or_else(|| io::Error::other("the shim answered another call"))
}

impl Container for Shim {
    async fn socket(&self) -> io::Result<OwnedFd> {
        self.ask(&ShimCall::Socket, PendingCall::Socket).await
    }

    async fn ready(&self) -> io::Result<()> {
        self.call(&ShimCall::Ready).await
    }

    async fn usage(&self) -> io::Result<Usage> {
        self.ask(&ShimCall::Usage, PendingCall::Usage).await
    }

    async fn signal(&self, signal: i32) -> io::Result<()> {
        self.call(&ShimCall::Signal { signal }).await
    }

    async fn resume(&self, until_ms: u64) -> io::Result<()> {
        self.call(&ShimCall::Resume { until_ms }).await
    }

    async fn stop(&self, signal: i32, grace: Duration, drained: bool) -> io::Result<()> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.call(&ShimCall::Stop { signal, grace_ms, drained }).await
    }
}

/// Calls the node's supervisor, and waits for its answer.
pub(crate) async fn ask_supervisor(layout: &Layout, call: &SupervisorCall) -> io::Result<SupervisorAnswer> {
    let socket = messages::connect_supervisor(layout).map_err(|e| {
        let path = layout.supervisor_socket();
        io::Error::new(
            e.kind(),
            format!("no supervisor at {}: {e}; start `berth-agent supervisor` first", path.display()),
        )
    })?;
    let socket = register(socket)?;
    let exchange = async {
        socket.async_io(Interest::WRITABLE, |fd| messages::send(fd.as_fd(), call, &[])).await?;
        socket.async_io(Interest::READABLE, |fd| messages::receive(fd.as_fd())).await
    };
    let answer = tokio::time::timeout(SUPERVISOR_TIMEOUT, exchange).await;
    let answer =
        answer.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the supervisor does not answer"))??;
    answer.map(|(answer, _)| answer).ok_or_else(|| io::Error::other("the supervisor hung up"))
}
