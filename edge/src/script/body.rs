//! Bodies in flow: those that scripts make, on their way to whoever reads them; and those that scripts read, on their way there.
//! What their readers have to say goes back as words; who takes those is not known here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use berth_script::message::{EventId, HostBody, INLINE_BODY_BYTES, Piece, ScriptBody as MadeId};
use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use serde_bytes::ByteBuf;
use tokio::sync::{Semaphore, mpsc};

use super::{Body, BoxError};

/// What a script is told by those who read what it makes.
pub(super) enum Word {
    /// The client of a call has gone.
    Gone(EventId),
    /// The reader of a body takes this many further bytes.
    Credit(MadeId, u32),
    /// Nobody reads a body any more.
    Unread(MadeId),
    /// So many bytes of what bodies may have under way are free again.
    Room(u32),
    /// Somebody has taken a WebSocket that a script gave away: what comes to the script.
    Plugged(HostBody, Body),
}

/// The way of words to a script. Does not block, and loses what comes when the script is gone.
pub(super) type Words = Arc<dyn Fn(Word) + Send + Sync>;

/// Tells the script, when it is dropped, that the client of a call has gone.
pub(super) struct Guard {
    event: EventId,
    words: Option<Words>,
}

impl Guard {
    pub(super) fn new(event: EventId, words: Words) -> Self {
        Self { event, words: Some(words) }
    }

    /// The call has come to what its client wanted.
    pub(super) fn disarm(&mut self) {
        self.words = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(words) = self.words.take() {
            words(Word::Gone(self.event));
        }
    }
}

/// Why a body of a script's broke off.
#[derive(Debug, thiserror::Error)]
#[error("the script's body broke off: {0}")]
pub(crate) struct BrokeOff(String);

/// The body of a script's response, or of its request.
pub(crate) struct ScriptBody {
    /// Tells the script when its client does not want more; dropped first, so that it knows why nobody reads the body.
    guard: Option<Guard>,
    source: Source,
}

enum Source {
    Whole(Full<Bytes>),
    /// One that the script passed on.
    Passed(Body),
    Made(Made),
}

/// What a body may have under way, of what all may. Its reader keeps it to the end, also of a body that was sent whole: what nobody
/// reads is still here.
#[derive(Default)]
pub(super) struct Room(AtomicU32);

/// The reader has let go.
const LEFT: u32 = u32::MAX;

impl Room {
    /// Takes so many bytes, unless the reader has let go.
    pub(super) fn take(&self, bytes: u32) -> bool {
        self.0.compare_exchange(0, bytes, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Keeps so many of the bytes at most; returns how many are free by that.
    pub(super) fn shrink(&self, bytes: u32) -> u32 {
        let more = |taken: u32| (taken != LEFT && taken > bytes).then_some(bytes);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).map_or(0, |taken| taken - bytes)
    }

    /// The reader lets go; returns how many bytes are free by that.
    fn leave(&self) -> u32 {
        let taken = self.0.swap(LEFT, Ordering::AcqRel);
        if taken == LEFT { 0 } else { taken }
    }
}

/// What the script makes as it is read.
pub(super) struct Made {
    id: MadeId,
    pieces: mpsc::UnboundedReceiver<Piece>,
    words: Words,
    /// Bytes that may be under way.
    window: u32,
    room: Arc<Room>,
    /// Bytes taken since credit was last given.
    taken: u32,
    ended: bool,
}

impl Made {
    /// The link puts what the script sends into the other end of `pieces`, which credit bounds.
    pub(super) fn new(
        id: MadeId,
        pieces: mpsc::UnboundedReceiver<Piece>,
        words: Words,
        window: u32,
        room: Arc<Room>,
    ) -> Self {
        Self { id, pieces, words, window, room, taken: 0, ended: false }
    }

    fn let_go(&self) {
        let bytes = self.room.leave();
        if bytes > 0 {
            (self.words)(Word::Room(bytes));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // Without a sender the link has ended, which says so before.
        let piece =
            ready!(self.pieces.poll_recv(cx)).unwrap_or_else(|| Piece::Failed("its end is lost".to_owned()));
        Poll::Ready(match piece {
            Piece::Data(bytes) => {
                self.taken = self.taken.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                if self.taken >= self.window / 2 {
                    (self.words)(Word::Credit(self.id, std::mem::take(&mut self.taken)));
                }
                Some(Ok(Bytes::from(bytes.into_vec())))
            }
            Piece::End => {
                self.ended = true;
                self.let_go();
                None
            }
            Piece::Failed(text) => {
                self.ended = true;
                self.let_go();
                Some(Err(BrokeOff(text).into()))
            }
        })
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.ended {
            (self.words)(Word::Unread(self.id));
        }
        self.let_go();
    }
}

impl ScriptBody {
    pub(super) fn whole(bytes: Vec<u8>) -> Self {
        Self { source: Source::Whole(Full::from(bytes)), guard: None }
    }

    pub(super) fn passed(body: Body) -> Self {
        Self { source: Source::Passed(body), guard: None }
    }

    pub(super) fn made(made: Made) -> Self {
        Self { source: Source::Made(made), guard: None }
    }

    /// The same, which tells the script when it is dropped before its end. One that is all here does not depend on it.
    pub(super) fn guarded_by(mut self, mut guard: Guard) -> Self {
        match self.source {
            Source::Whole(_) => guard.disarm(),
            Source::Passed(_) | Source::Made(_) => self.guard = Some(guard),
        }
        self
    }
}

impl Drop for ScriptBody {
    fn drop(&mut self) {
        if http_body::Body::is_end_stream(self)
            && let Some(guard) = &mut self.guard
        {
            guard.disarm();
        }
    }
}

impl http_body::Body for ScriptBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().source {
            Source::Whole(whole) => Pin::new(whole).poll_frame(cx).map_err(|never| match never {}),
            Source::Passed(body) => Pin::new(body).poll_frame(cx),
            Source::Made(made) => made.poll(cx).map(|piece| piece.map(|bytes| bytes.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(whole) => whole.is_end_stream(),
            Source::Passed(body) => body.is_end_stream(),
            Source::Made(made) => made.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(whole) => whole.size_hint(),
            Source::Passed(body) => body.size_hint(),
            Source::Made(_) => SizeHint::default(),
        }
    }
}

/// Reads a body for a script, as far as there is credit, and hands its pieces to the link.
pub(super) async fn pump(
    id: HostBody,
    mut body: Body,
    credit: Arc<Semaphore>,
    pieces: mpsc::Sender<(HostBody, Piece)>,
) {
    loop {
        // One byte of credit first, so that nothing is read that nobody has asked for.
        let Ok(first) = credit.acquire().await else { return };
        let frame = body.frame().await;
        drop(first);
        let mut data = match frame {
            None => {
                let _ = pieces.send((id, Piece::End)).await;
                return;
            }
            Some(Err(error)) => {
                let text = format!("Network connection lost: {error}");
                let _ = pieces.send((id, Piece::Failed(text))).await;
                return;
            }
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        while data.has_remaining() {
            let most = data.remaining().min(INLINE_BODY_BYTES);
            // What there is credit for, or all of the piece once there is for that.
            let count = most.min(credit.available_permits().max(1));
            let Ok(permits) = credit.acquire_many(u32::try_from(count).unwrap_or(u32::MAX)).await else {
                return;
            };
            permits.forget();
            let piece = Piece::Data(ByteBuf::from(data.split_to(count)));
            if pieces.send((id, piece)).await.is_err() {
                return;
            }
        }
    }
}
