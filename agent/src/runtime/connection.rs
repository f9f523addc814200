//! The agent's ends of its connections with the supervisor and with the shims.

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

/// How long the supervisor may take to answer: it forks once, and does nothing else that could wait.
const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the answer to a call goes.
#[derive(Debug)]
enum Asked {
    Socket(oneshot::Sender<io::Result<OwnedFd>>),
    Usage(oneshot::Sender<io::Result<Usage>>),
}

/// Calls not yet answered, in order.
type Waiting = Rc<RefCell<VecDeque<Asked>>>;

/// A container, by the connection to its shim.
#[derive(Debug, Clone)]
pub struct Shim {
    socket: Rc<AsyncFd<OwnedFd>>,
    waiting: Waiting,
}

impl Shim {
    /// The container of the shim at the other end.
    pub(crate) fn connected(socket: AsyncFd<OwnedFd>) -> Self {
        Self { socket: Rc::new(socket), waiting: Rc::default() }
    }

    /// Lets go of everybody who waits for an answer: there will be none.
    pub(crate) fn answer_no_more(&self) {
        self.waiting.borrow_mut().clear();
    }

    async fn call(&self, call: &ShimCall) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, |fd| messages::send(fd.as_fd(), call, &[])).await
    }

    /// Hands out what the shim sends, until it tells the end or is gone.
    pub(crate) async fn listen(&self, events: &mpsc::Sender<Event>) -> Option<Ended> {
        loop {
            let received = self
                .socket
                .async_io(Interest::READABLE, |fd| messages::receive::<ShimEvent>(fd.as_fd()))
                .await;
            match received {
                Ok(Some((ShimEvent::Socket, Some(socket)))) => self.answer(Ok(Given::Socket(socket))),
                Ok(Some((ShimEvent::Socket, None))) => {
                    self.answer(Err(io::Error::other("the socket got lost")));
                }
                Ok(Some((ShimEvent::Usage(usage), _))) => self.answer(Ok(Given::Usage(usage))),
                Ok(Some((ShimEvent::Failed { message }, _))) => self.answer(Err(io::Error::other(message))),
                Ok(Some((ShimEvent::Prepared { .. } | ShimEvent::Held, _))) => {}
                Ok(Some((ShimEvent::Started, _))) => drop(events.send(Event::Started).await),
                Ok(Some((ShimEvent::Exited { outcome, metered }, _))) => {
                    return Some(Ended { outcome, metered });
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::warn!(%error, "skipping what a shim of another version said");
                }
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Has it run its container, which an earlier agent had described.
    pub(crate) async fn run(&self) -> io::Result<()> {
        self.call(&ShimCall::Run).await
    }

    /// Waits until the shim has wiped the disk and ended.
    pub(crate) async fn until_gone(&self) {
        let receive = |fd: &OwnedFd| messages::receive::<ShimEvent>(fd.as_fd());
        while let Ok(Some(_)) = self.socket.async_io(Interest::READABLE, receive).await {}
    }

    /// Passes an answer on. Whoever asked may have gone away: then it is dropped.
    fn answer(&self, answer: io::Result<Given>) {
        let asked = self.waiting.borrow_mut().pop_front();
        match (asked, answer) {
            (Some(Asked::Socket(to)), Ok(Given::Socket(socket))) => drop(to.send(Ok(socket))),
            (Some(Asked::Usage(to)), Ok(Given::Usage(usage))) => drop(to.send(Ok(usage))),
            (Some(Asked::Socket(to)), answer) => drop(to.send(Err(not_given(answer)))),
            (Some(Asked::Usage(to)), answer) => drop(to.send(Err(not_given(answer)))),
            (None, _) => tracing::warn!("a shim answered what nobody asked"),
        }
    }

    async fn ask<T>(
        &self,
        call: &ShimCall,
        asked: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Asked,
    ) -> io::Result<T> {
        let (to, given) = oneshot::channel();
        self.waiting.borrow_mut().push_back(asked(to));
        self.call(call).await?;
        given.await.map_err(|_| io::Error::new(io::ErrorKind::NotConnected, "the instance has ended"))?
    }
}

/// What a shim answers with.
enum Given {
    Socket(OwnedFd),
    Usage(Usage),
}

fn not_given(answer: io::Result<Given>) -> io::Error {
    answer.err().unwrap_or_else(|| io::Error::other("the shim answered another call"))
}

impl Container for Shim {
    async fn socket(&self) -> io::Result<OwnedFd> {
        self.ask(&ShimCall::Socket, Asked::Socket).await
    }

    async fn ready(&self) -> io::Result<()> {
        self.call(&ShimCall::Ready).await
    }

    async fn usage(&self) -> io::Result<Usage> {
        self.ask(&ShimCall::Usage, Asked::Usage).await
    }

    async fn signal(&self, signal: i32) -> io::Result<()> {
        self.call(&ShimCall::Signal { signal }).await
    }

    async fn stop(&self, signal: i32, grace: Duration, drained: bool) -> io::Result<()> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.call(&ShimCall::Stop { signal, grace_ms, drained }).await
    }
}

/// Asks the node's supervisor, and waits for its answer.
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
