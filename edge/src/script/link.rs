//! One thread of a script process, as callers have it: a handle, the calls that they make over it, and the commands that reach
//! whoever serves it. Does not know who that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use berth_script::message::{
    Argument, EventId, HostBody, Object, ObjectId, OpId, Piece, Request, ScriptError,
};
use tokio::sync::{Notify, mpsc, oneshot};

use super::body::{Guard, Word, Words};
use super::counts::Kind;
use super::failure::{Ended, Failure};
use super::ledger::Answers;
use super::owners::Claim;
use super::{Body, Contained, ContainerChanges, Keeper, ScriptBody};

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
    /// A method that the script has called has come to something.
    Returned(OpId, Result<Carried, ScriptError>),
    /// A commit of an object has come to something.
    Settled(Commit),
    /// Another wants an object that may be here.
    Wanted(ObjectId),
    /// Something has become of the container of an object that may be here.
    Contained(ObjectId),
}

/// A commit of an object in one life of it, up to this number, that is durable or never will be.
pub(super) struct Commit {
    pub(super) id: ObjectId,
    pub(super) life: EventId,
    pub(super) sequence: u64,
    /// Its bytes, as they count until it is settled.
    pub(super) weight: usize,
    pub(super) durable: bool,
}

/// The right to an object, what is kept of it, and what keeps more and its container.
pub(super) struct Read {
    pub(super) claim: Claim,
    pub(super) state: Vec<u8>,
    pub(super) keeper: Box<dyn Keeper>,
    pub(super) contained: Option<Contained>,
}

/// What has come of asking for an object.
pub(super) struct Asking {
    pub(super) id: ObjectId,
    pub(super) read: Result<Read, ScriptError>,
    pub(super) container_changes: ContainerChanges,
    pub(super) _permit: Option<tokio::sync::OwnedSemaphorePermit>,
}

/// An argument of a method, or what it returns, on its way from one thread to another. Its body is beside it.
pub(crate) struct Carried {
    pub(super) argument: Argument,
    pub(super) body: Option<ScriptBody>,
}

/// What is called.
pub(super) enum What {
    Fetch(Box<http::Request<Body>>),
    Scheduled {
        cron: String,
        time_ms: u64,
    },
    /// A request for an object.
    Object(Box<Object>, Box<Request>, ScriptBody),
    /// A method of an object.
    Method {
        object: Box<Object>,
        method: String,
        args: Vec<Carried>,
    },
    /// An object's alarm.
    Alarm {
        object: Box<Object>,
        scheduled_ms: u64,
        retry: u32,
    },
}

impl What {
    /// As it is counted.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Fetch(_) | Self::Object(..) => Kind::Fetch,
            Self::Scheduled { .. } => Kind::Scheduled,
            Self::Method { .. } => Kind::Method,
            Self::Alarm { .. } => Kind::Alarm,
        }
    }

    pub(super) fn answers(&self) -> Answers {
        match self {
            Self::Fetch(_) | Self::Object(..) => Answers::Response,
            Self::Method { .. } => Answers::Value,
            Self::Scheduled { .. } | Self::Alarm { .. } => Answers::Nothing,
        }
    }
}

/// Who waits for a call's answer.
pub(super) struct Asker {
    pub(super) response: oneshot::Sender<Result<http::Response<ScriptBody>, Failure>>,
    pub(super) value: oneshot::Sender<Result<Carried, Failure>>,
}

impl Asker {
    /// Without a receiver the client has gone.
    pub(super) fn fail(self, why: Failure) {
        drop(self.value.send(Err(why.clone())));
        drop(self.response.send(Err(why)));
    }
}

/// A call that is to begin.
pub(super) struct Call {
    pub(super) event: EventId,
    pub(super) what: What,
    pub(super) answer: Asker,
    pub(super) end: oneshot::Sender<Result<(), Failure>>,
    pub(super) lease: Counted,
}

impl Call {
    /// Answers a call that does not begin.
    pub(super) fn refuse(self, why: Failure) {
        drop(self.end.send(Err(why.clone())));
        self.answer.fail(why);
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
    /// What has come of asking for objects; little at once, since each may be large.
    pub(super) opened: mpsc::Receiver<Asking>,
    pub(super) openers: mpsc::Sender<Asking>,
    /// Gives numbers to the calls that stand for the lives of objects, too.
    pub(super) last_event: Arc<AtomicU64>,
}

/// A link, and the way to it.
pub(super) fn link() -> (Handle, Link) {
    // Bounded by the bound on calls, and by what each may have: its end, its bodies, its requests.
    let (commands, received) = mpsc::unbounded_channel();
    let (pumps, pieces) = mpsc::channel(PIECES);
    let (openers, opened) = mpsc::channel(1);
    let spoken = commands.clone();
    let words: Words = Arc::new(move |word| {
        let _ = spoken.send(Command::Word(word));
    });
    let last_event: Arc<AtomicU64> = Arc::default();
    let link = Link {
        commands: received,
        to_itself: commands.clone(),
        words: Arc::clone(&words),
        pieces,
        pumps,
        opened,
        openers,
        last_event: Arc::clone(&last_event),
    };
    (Handle { commands, words, last_event, calls: Arc::default() }, link)
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

    pub(super) fn alarm(self, object: Object, scheduled_ms: u64, retry: u32) -> Result<Called, Failure> {
        self.call(What::Alarm { object: Box::new(object), scheduled_ms, retry })
    }

    pub(super) fn call(self, what: What) -> Result<Called, Failure> {
        let event = next_event(&self.handle.last_event);
        let (response, answered) = oneshot::channel();
        let (value, returned) = oneshot::channel();
        let answer = Asker { response, value };
        let (end, ended) = oneshot::channel();
        let call = Box::new(Call { event, what, answer, end, lease: self.counted });
        let sent = self.handle.commands.send(Command::Call(call));
        sent.map_err(|_| Failure::Ended(Ended::Died))?;
        Ok(Called { answered, returned, ended, guard: Guard::new(event, self.handle.words) })
    }
}

/// The number of a link's next call.
pub(super) fn next_event(last: &AtomicU64) -> EventId {
    EventId(last.fetch_add(1, Ordering::AcqRel) + 1)
}

/// A call that goes on.
pub(crate) struct Called {
    answered: oneshot::Receiver<Result<http::Response<ScriptBody>, Failure>>,
    returned: oneshot::Receiver<Result<Carried, Failure>>,
    ended: oneshot::Receiver<Result<(), Failure>>,
    guard: Guard,
}

impl Called {
    /// Waits for the answer. Dropped before, the script is told.
    pub(crate) async fn answer(self) -> Result<http::Response<ScriptBody>, Failure> {
        let answer = self.answered.await.unwrap_or(Err(Failure::Ended(Ended::Died)));
        answer.map(|response| response.map(|body| body.guarded_by(self.guard)))
    }

    /// Waits for what a method returns. Dropped before, the script is told.
    pub(super) async fn value(self) -> Result<Carried, Failure> {
        let mut guard = self.guard;
        let value = self.returned.await.unwrap_or(Err(Failure::Ended(Ended::Died)));
        value.map(|carried| match carried.body {
            Some(body) => Carried { body: Some(body.guarded_by(guard)), ..carried },
            None => {
                guard.disarm();
                carried
            }
        })
    }

    /// Waits for the end.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        let mut guard = self.guard;
        let ended = self.ended.await.unwrap_or(Err(Failure::Ended(Ended::Died)));
        guard.disarm();
        ended
    }
}
