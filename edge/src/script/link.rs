//! One thread of a script process, as callers have it: a handle, the calls that they make over it, and the commands that reach
//! the actor behind it (`actor`).

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use berth_script::message::{EventId, HostBody, OpId, Piece, ScriptBody as MadeId, ScriptError};
use tokio::sync::{mpsc, oneshot};

use super::app::App;
use super::child::Child;
use super::failure::{Ended, Failure};
use super::{Body, ScriptBody, actor};

/// Calls that one thread may have at once; each costs a few hundred bytes here, and what the script makes of it there.
const CALLS: usize = 1000;

/// Pieces of bodies that wait to be written to a thread's socket. Whoever reads bodies for it waits meanwhile.
const PIECES: usize = 16;

/// What the actor is told.
pub(super) enum Command {
    /// Begins a call.
    Call(Box<Call>),
    /// The client of a call has gone.
    Abort(EventId),
    /// A request of the script's has come to something.
    Completed(OpId, Result<http::Response<Body>, ScriptError>),
    /// The reader of a script's body takes more.
    Credit(MadeId, u32),
    /// Nobody reads a script's body any more.
    Unread(MadeId),
}

/// What is called.
pub(super) enum What {
    Fetch(Box<http::Request<Body>>),
    Scheduled { cron: String, time_ms: u64 },
}

/// A call that is to begin.
pub(super) struct Call {
    pub(super) event: EventId,
    pub(super) what: What,
    pub(super) answer: oneshot::Sender<Result<http::Response<ScriptBody>, Failure>>,
    pub(super) end: oneshot::Sender<Result<(), Failure>>,
    pub(super) lease: Counted,
}

/// Counts a call for as long as it goes on.
pub(super) struct Counted(Arc<AtomicUsize>, Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
        self.1.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A way to the actor.
#[derive(Clone)]
pub(super) struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    last_event: Arc<AtomicU64>,
    calls: Arc<AtomicUsize>,
}

/// The ends of the actor's queues.
pub(super) struct Link {
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) to_itself: mpsc::UnboundedSender<Command>,
    pub(super) pieces: mpsc::Receiver<(HostBody, Piece)>,
    pub(super) pumps: mpsc::Sender<(HostBody, Piece)>,
}

impl Link {
    /// Starts the actor, on the runtime of the caller.
    pub(super) fn start(socket: UnixStream, app: Arc<App>, child: Arc<Child>) -> std::io::Result<Handle> {
        // Bounded by the bound on calls, and by what each may have: its end, its bodies, its requests.
        let (commands, received) = mpsc::unbounded_channel();
        let (pumps, pieces) = mpsc::channel(PIECES);
        let socket = tokio::net::UnixStream::from_std(socket)?;
        let link = Self { commands: received, to_itself: commands.clone(), pieces, pumps };
        tokio::spawn(actor::Actor::new(socket, link, app, child).run());
        Ok(Handle { commands, last_event: Arc::default(), calls: Arc::default() })
    }
}

/// A handle for one call, which counts from here on.
pub(super) struct Lease {
    handle: Handle,
    counted: Counted,
}

impl Lease {
    pub(super) fn take(handle: Handle, all: &Arc<AtomicUsize>) -> Result<Self, Failure> {
        all.fetch_add(1, Ordering::AcqRel);
        let before = handle.calls.fetch_add(1, Ordering::AcqRel);
        let counted = Counted(Arc::clone(&handle.calls), Arc::clone(all));
        if before >= CALLS { Err(Failure::Overloaded) } else { Ok(Self { handle, counted }) }
    }

    pub(super) fn fetch(self, request: http::Request<Body>) -> Result<Called, Failure> {
        self.call(What::Fetch(Box::new(request)))
    }

    pub(super) fn scheduled(self, cron: &str, time_ms: u64) -> Result<Called, Failure> {
        self.call(What::Scheduled { cron: cron.to_owned(), time_ms })
    }

    fn call(self, what: What) -> Result<Called, Failure> {
        let event = EventId(self.handle.last_event.fetch_add(1, Ordering::AcqRel) + 1);
        let (answer, answered) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let call = Box::new(Call { event, what, answer, end, lease: self.counted });
        let sent = self.handle.commands.send(Command::Call(call));
        sent.map_err(|_| Failure::Ended(Ended::Died))?;
        let guard = Guard { event, commands: Some(self.handle.commands) };
        Ok(Called { answered, ended, guard })
    }
}

/// A call that goes on.
pub(super) struct Called {
    answered: oneshot::Receiver<Result<http::Response<ScriptBody>, Failure>>,
    ended: oneshot::Receiver<Result<(), Failure>>,
    guard: Guard,
}

impl Called {
    /// Waits for the answer. Dropped before, the script is told.
    pub(super) async fn answer(self) -> Result<http::Response<ScriptBody>, Failure> {
        let answer = self.answered.await.unwrap_or(Err(Failure::Ended(Ended::Died)));
        answer.map(|response| response.map(|body| body.guarded_by(self.guard)))
    }

    /// Waits for the end.
    pub(super) async fn end(self) -> Result<(), Failure> {
        let mut guard = self.guard;
        let ended = self.ended.await.unwrap_or(Err(Failure::Ended(Ended::Died)));
        guard.disarm();
        ended
    }
}

/// Tells the script, when it is dropped, that the client of a call has gone.
pub(super) struct Guard {
    event: EventId,
    commands: Option<mpsc::UnboundedSender<Command>>,
}

impl Guard {
    /// The call has come to what its client wanted.
    pub(super) fn disarm(&mut self) {
        self.commands = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(commands) = self.commands.take() {
            let _ = commands.send(Command::Abort(self.event));
        }
    }
}
