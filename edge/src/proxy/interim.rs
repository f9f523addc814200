//! Provisional answers (1xx, such as 103 Early Hints) of an instance on their way to its client. hyper's server sends
//! none but `100 Continue` and has no call for others, so they are written beside it:
//!
//! ```text
//!  instance ──▶ push ──wakes the connection's task──▶ hyper, with nothing left to write, flushes ──▶ written here
//!                                       the final answer is given to hyper only after that
//! ```
//!
//! hyper flushes its stream whenever it has written all that it has, so nothing comes between the bytes of an answer.
//! What fails, and what happens then: more than fits is left out, as nobody depends on hints.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use http::{HeaderMap, StatusCode};

use crate::http::headers;

/// Most bytes that wait for a client: as much as one head may have.
const MAX_BYTES: usize = 64 << 10;

/// The provisional answers of one connection. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interim(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether there is anything in `bytes`, to be asked without the lock.
    pending: AtomicBool,
    waiting: Mutex<Waiting>,
    task: AtomicWaker,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: BytesMut,
    /// Part of them is written: the rest has to follow before anything else.
    begun: bool,
}

impl Interim {
    /// Adds an answer. `100 Continue` is not for the client: the edge has told it that already if it asked.
    pub(crate) fn push(&self, status: StatusCode, headers: &HeaderMap) {
        if status == StatusCode::CONTINUE {
            return;
        }
        let head = head(status, headers);
        let mut waiting = self.lock();
        if waiting.bytes.len() + head.len() <= MAX_BYTES {
            waiting.bytes.extend_from_slice(&head);
            self.0.pending.store(true, Ordering::Release);
            drop(waiting);
            self.0.task.wake();
        }
    }

    /// Waits for an answer, and then until all that came before it is written.
    pub(crate) async fn before<R>(&self, answer: impl Future<Output = R>) -> R {
        let mut answer = pin!(answer);
        let answer = poll_fn(|cx| {
            self.0.task.register(cx.waker());
            answer.as_mut().poll(cx)
        });
        let answer = answer.await;
        poll_fn(|cx| {
            self.0.task.register(cx.waker());
            if self.is_pending() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        answer
    }

    /// Writes what waits. Only called while nothing else is being written.
    pub(crate) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        write: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        if self.is_pending() { self.poll_write_all(cx, write) } else { Poll::Ready(Ok(())) }
    }

    /// Writes the rest of what is partly written.
    pub(crate) fn poll_complete(
        &self,
        cx: &mut Context<'_>,
        write: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let begun = self.is_pending() && self.lock().begun;
        if begun { self.poll_write_all(cx, write) } else { Poll::Ready(Ok(())) }
    }

    fn poll_write_all(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let mut waiting = self.lock();
        while !waiting.bytes.is_empty() {
            let written = ready!(write(cx, &waiting.bytes))?;
            waiting.bytes.advance(written);
            waiting.begun = true;
        }
        waiting.begun = false;
        self.0.pending.store(false, Ordering::Release);
        drop(waiting);
        // The final answer may wait for this.
        self.0.task.wake();
        Poll::Ready(Ok(()))
    }

    fn is_pending(&self) -> bool {
        self.0.pending.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of a head without a body.
fn head(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in &headers::prepare_interim(headers) {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use http::header::{CONNECTION, HeaderValue, LINK};

    use super::*;

    fn headers() -> HeaderMap {
        let hop = (CONNECTION, HeaderValue::from_static("close"));
        HeaderMap::from_iter([(LINK, HeaderValue::from_static("</a.css>")), hop])
    }

    #[tokio::test]
    async fn the_final_answer_waits_until_hints_are_written_however_slowly() {
        let interim = Interim::default();
        interim.push(StatusCode::CONTINUE, &headers());
        assert_eq!(interim.before(async { 1 }).await, 1);

        let mut written = Vec::new();
        let mut answer = pin!(interim.before(async { interim.push(StatusCode::EARLY_HINTS, &headers()) }));
        let mut turns = 0;
        poll_fn(|cx| {
            let answered = answer.as_mut().poll(cx);
            // A stream that takes three bytes at a time.
            let _ = interim.poll_flush(cx, |_, bytes| {
                turns += 1;
                let taken = bytes.len().min(3);
                written.extend_from_slice(&bytes[..taken]);
                Poll::Ready(Ok(taken))
            });
            answered
        })
        .await;
        assert!(turns > 3);
        assert_eq!(String::from_utf8(written).unwrap(), "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let interim = Interim::default();
        let long = HeaderMap::from_iter([(LINK, HeaderValue::try_from("x".repeat(MAX_BYTES / 2)).unwrap())]);
        for _ in 0..9 {
            interim.push(StatusCode::EARLY_HINTS, &long);
        }
        assert!(interim.lock().bytes.len() < MAX_BYTES);
    }
}
