//! What a script was given and does not read on. It keeps something of the edge's: bytes, a file, a connection of the app's. So it is
//! bounded, and what nobody has read for a while goes where others wait for what it keeps.
//!
//! What fails, and what happens then:
//! * A script gets ever more answers, and reads none: the one goes that was not read for longest, for each that comes.
//! * What it does not read has all the room for bodies, or all the app's connections: others wait until that was so for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use berth_script::message::{Event, EventId, HostBody, INLINE_BODY_BYTES, Piece, ScriptError};
use futures_util::stream;
use http_body::Body as _;
use http_body_util::StreamBody;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::super::Body;
use super::super::sockets::Connection;
use super::Actor;

/// Answers that one script has at once without having read them to their end. Each may be an open file; a program that asks for as
/// much as that at once, and reads it then, is rare.
const ANSWERS: usize = 2_000;

/// Bytes of those that are all here.
const ANSWERS_BYTES: usize = 32 << 20;

/// Bodies and WebSockets that a script has at once, above which no answer comes: some hundred bytes each.
const GIVEN: usize = 20_000;

/// How many times longer than an answer what a call came with is kept: its handler may wait for others first.
const CALLS_STALLS: u32 = 6;

/// What a body that went comes to.
const CANCELLED: &str =
    "The body was cancelled to make room for others, as nobody read it on: read or cancel() each.";

/// What it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A client, or a WebSocket that goes on: it keeps nothing that others wait for.
    Client,
    /// A call of another thread of the script.
    Call,
    Answer,
}

/// A body that the script was given.
pub(super) struct Given {
    pub(super) event: EventId,
    /// As long as nobody reads it.
    pub(super) body: Option<Body>,
    /// Of a WebSocket that nobody has opened, where it leads.
    pub(super) connection: Option<Connection>,
    pub(super) credit: Arc<Semaphore>,
    pub(super) pump: Option<AbortHandle>,
    pub(super) source: Source,
    /// As long as it is an answer.
    pub(super) share: Option<Share>,
    /// When it was given, or last read on.
    pub(super) used: Instant,
}

impl Given {
    pub(super) fn new(event: EventId, body: Option<Body>, source: Source) -> Self {
        let credit = Arc::new(Semaphore::new(0));
        let used = Instant::now();
        Self { event, body, connection: None, credit, pump: None, source, share: None, used }
    }

    /// Whether it waits for the script to read on.
    fn waits(&self) -> bool {
        self.credit.available_permits() == 0
    }

    /// It is a WebSocket that goes on.
    pub(super) fn is_opened(&mut self) {
        (self.source, self.share) = (Source::Client, None);
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if let Some(pump) = &self.pump {
            pump.abort();
        }
    }
}

/// The answers that a script has.
#[derive(Default)]
pub(super) struct Answers {
    count: AtomicUsize,
    bytes: AtomicUsize,
}

impl Answers {
    fn has_room(&self, bytes: usize) -> bool {
        let kept = self.bytes.load(Ordering::Acquire);
        self.count.load(Ordering::Acquire) < ANSWERS && kept + bytes <= ANSWERS_BYTES
    }
}

/// What one of them takes of what all may.
pub(super) struct Share {
    of: Arc<Answers>,
    bytes: usize,
}

impl Share {
    fn new(of: Arc<Answers>, bytes: usize) -> Self {
        of.count.fetch_add(1, Ordering::AcqRel);
        of.bytes.fetch_add(bytes, Ordering::AcqRel);
        Self { of, bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.count.fetch_sub(1, Ordering::AcqRel);
        self.of.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A body that breaks off.
pub(super) fn cancelled() -> Body {
    Body::new(StreamBody::new(stream::iter([Err(CANCELLED.into())])))
}

/// The bytes of a body that is all here. Those of a file or a connection are few, and counted too.
fn bytes_here(body: &Body) -> usize {
    let bytes = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    bytes.filter(|bytes| *bytes <= INLINE_BODY_BYTES).unwrap_or(0)
}

impl Actor {
    /// The share of an answer with this body. What the script has not read for longest makes room for it.
    pub(super) fn share(&mut self, body: &Body) -> Result<Share, ScriptError> {
        let bytes = bytes_here(body);
        while !self.answers.has_room(bytes) || self.given.len() >= GIVEN {
            let waiting = self.given.iter().filter(|(_, given)| given.share.is_some() && given.waits());
            let longest = waiting.min_by_key(|(_, given)| given.used).map(|(body, _)| *body);
            let text = "Too many bodies of answers are being read.";
            self.withdraw(longest.ok_or_else(|| ScriptError::new("Error", text))?);
        }
        Ok(Share::new(Arc::clone(&self.answers), bytes))
    }

    /// Takes back half of what the script does not read, where others wait for what it keeps.
    pub(super) fn take_back(&mut self) {
        let version = &self.version;
        let (room, outside) = (version.has_waiting(), version.outside.is_waited_for(&version.code.key));
        if !room && !outside {
            return;
        }
        let stalls = |source, stalled: Duration| match source {
            Source::Client => None,
            // Connections are not in it.
            Source::Call => room.then_some(stalled * CALLS_STALLS),
            Source::Answer => Some(stalled),
        };
        let stalled = version.settings.stalled;
        let idle = self.given.iter().filter(|(_, given)| {
            given.waits() && stalls(given.source, stalled).is_some_and(|limit| given.used.elapsed() >= limit)
        });
        let mut idle: Vec<(Instant, HostBody)> = idle.map(|(body, given)| (given.used, *body)).collect();
        idle.sort_unstable_by_key(|(used, _)| *used);
        // As many again are looked for soon, if that is not enough.
        idle.truncate(idle.len().div_ceil(2));
        idle.into_iter().for_each(|(_, body)| self.withdraw(body));
    }

    /// Takes a body back. The script is told when it reads it.
    fn withdraw(&mut self, body: HostBody) {
        let Some(given) = self.given.get_mut(&body) else { return };
        if given.connection.take().is_some() {
            // It may be opening it, and finds it broken off.
            given.body = Some(cancelled());
            return given.is_opened();
        }
        self.given.remove(&body);
        self.ledger.withdraw(body);
        self.tell(&Event::Body(body, Piece::Failed(CANCELLED.to_owned())));
    }
}
