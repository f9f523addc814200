//! One thread of a script process, as callers have it: a handle, the calls that they make over it, and the commands that reach
//! whoever serves it. Does not know who that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use berth_script::message::{EventId, HostBody, OpId, Piece, ScriptError};
use tokio::sync::{Notify, mpsc, oneshot};

use super::body::{Guard, Word, Words};
use super::failure::{Ended, Failure};
use super::{Body, ScriptBody};

/// Calls that one thread may have at once; each costs a few hundred bytes here, and what the script makes of it there.
const CALLS: usize = 1000;

/// Pieces of bodies that wait to be written to a thread's socket. Whoever reads bodies for it waits meanwhile.
const PIECES: usize = 16;

/// What a link is told.
pub(super) enum Command {
    /// Begins a call.
    Call(Box<Call>),
    /// A reader of what the script makes has something to say.
    Word(Word),
    /// A request of the script's has come to something.
    Completed(OpId, Result<http::Response<Body>, ScriptError>),
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

impl Call {
    /// Answers a call that does not begin.
    pub(super) fn refuse(self, why: Failure) {
        drop(self.end.send(Err(why.clone())));
        drop(self.answer.send(Err(why)));
    }
}

/// The calls of all threads of a process.
#[derive(Default)]
pub(super) struct Calls {
    count: AtomicUsize,
    none: Notify,
}

impl Calls {
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Returns once there is none.
    pub(super) async fn none(&self) {
        loop {
            let mut none = std::pin::pin!(self.none.notified());
            none.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            none.await;
        }
    }
}

/// Counts a call for as long as it goes on.
pub(super) struct Counted(Arc<AtomicUsize>, Arc<Calls>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
        if self.1.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.1.none.notify_waiters();
        }
    }
}

/// A way to a link.
#[derive(Clone)]
pub(super) struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    words: Words,
    last_event: Arc<AtomicU64>,
    calls: Arc<AtomicUsize>,
}

/// The ends of a link's queues.
pub(super) struct Link {
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) to_itself: mpsc::UnboundedSender<Command>,
    pub(super) words: Words,
    pub(super) pieces: mpsc::Receiver<(HostBody, Piece)>,
    pub(super) pumps: mpsc::Sender<(HostBody, Piece)>,
}

/// A link, and the way to it.
pub(super) fn link() -> (Handle, Link) {
    // Bounded by the bound on calls, and by what each may have: its end, its bodies, its requests.
    let (commands, received) = mpsc::unbounded_channel();
    let (pumps, pieces) = mpsc::channel(PIECES);
    let spoken = commands.clone();
    let words: Words = Arc::new(move |word| {
        let _ = spoken.send(Command::Word(word));
    });
    let link =
        Link { commands: received, to_itself: commands.clone(), words: Arc::clone(&words), pieces, pumps };
    (Handle { commands, words, last_event: Arc::default(), calls: Arc::default() }, link)
}

/// A handle for one call, which counts from here on.
pub(super) struct Lease {
    handle: Handle,
    counted: Counted,
}

impl Lease {
    pub(super) fn take(handle: Handle, all: &Arc<Calls>) -> Result<Self, Failure> {
        all.count.fetch_add(1, Ordering::AcqRel);
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
        Ok(Called { answered, ended, guard: Guard::new(event, self.handle.words) })
    }
}

/// A call that goes on.
pub(crate) struct Called {
    answered: oneshot::Receiver<Result<http::Response<ScriptBody>, Failure>>,
    ended: oneshot::Receiver<Result<(), Failure>>,
    guard: Guard,
}

impl Called {
    /// Waits for the answer. Dropped before, the script is told.
    pub(crate) async fn answer(self) -> Result<http::Response<ScriptBody>, Failure> {
        let answer = self.answered.await.unwrap_or(Err(Failure::Ended(Ended::Died)));
        answer.map(|response| response.map(|body| body.guarded_by(self.guard)))
    }

    /// Waits for the end.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        let mut guard = self.guard;
        let ended = self.ended.await.unwrap_or(Err(Failure::Ended(Ended::Died)));
        guard.disarm();
        ended
    }
}
