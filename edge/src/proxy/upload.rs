//! The body of a client's request on its way to an instance, for as long as it flows. A body that has not ended and of which
//! nothing comes for a while would hold its instance for ever: it ends with an error, and the request with 408.
//!
//! The time only counts while the instance waits for more: one that does not read, or that takes its time with the answer to a
//! request that is complete, is not the client's fault.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::client_body::CutShort;

/// How long a body that has not ended may stay without a byte: what common servers allow.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Why a body did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError<E> {
    /// Reading from the client failed.
    #[error(transparent)]
    Client(E),
    /// It came no further.
    #[error("{0}")]
    Idle(#[from] Idle),
}

/// Nothing came of a body for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing came of the request's body for {} s", IDLE_LIMIT.as_secs())]
pub(crate) struct Idle;

impl Idle {
    /// Whether this is why, or one of the causes of, an error.
    pub(crate) fn caused(error: &(dyn std::error::Error + 'static)) -> bool {
        std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<Self>())
    }
}

/// Whether reading from the client is why, or one of the causes of, an error: it has ended its body before it was whole.
pub(crate) fn is_cut_by_client(error: &(dyn std::error::Error + 'static)) -> bool {
    let is_cut = |error: &(dyn std::error::Error + 'static)| {
        matches!(
            error.downcast_ref::<UploadError<CutShort>>(),
            Some(UploadError::Client(CutShort::Client(_)))
        )
    };
    std::iter::successors(Some(error), |error| error.source()).any(is_cut)
}

/// A body that must flow.
#[derive(Debug)]
pub(crate) struct Upload<B> {
    body: B,
    /// Made when the body is first waited for: most requests have none.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl<B> Upload<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body, timer: None, waiting: false }
    }

    /// Ready once too much time has passed since the last byte.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = std::mem::replace(&mut self.waiting, true);
        if !waiting {
            let limit = Instant::now() + IDLE_LIMIT;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(limit),
                None => self.timer = Some(Box::pin(sleep_until(limit))),
            }
        }
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }
}

impl<B: Body + Unpin> Body for Upload<B> {
    type Data = B::Data;
    type Error = UploadError<B::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(UploadError::Client)));
        }
        ready!(self.poll_idle(cx));
        Poll::Ready(Some(Err(Idle.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, StreamBody};
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    type Piece = Result<Frame<Bytes>, std::io::Error>;
    type Pieces = Upload<StreamBody<ReceiverStream<Piece>>>;

    fn upload() -> (tokio::sync::mpsc::Sender<Piece>, Pieces) {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        (sender, Upload::new(StreamBody::new(ReceiverStream::new(receiver))))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_flows_slowly_passes_and_one_that_stops_ends() {
        let (sender, mut upload) = upload();
        let slow = async {
            for _ in 0..5 {
                tokio::time::sleep(IDLE_LIMIT - Duration::from_secs(1)).await;
                sender.send(Ok(Frame::data(Bytes::from_static(b"x")))).await.unwrap();
            }
        };
        let took = async {
            for _ in 0..5 {
                upload.frame().await.unwrap().unwrap();
            }
        };
        tokio::join!(slow, took);
        let began = Instant::now();
        let error = upload.frame().await.unwrap().unwrap_err();
        assert!(Idle::caused(&error), "{error}");
        assert_eq!(began.elapsed().as_secs(), IDLE_LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_in_which_nobody_waits_for_it_does_not_count() {
        let (sender, mut upload) = upload();
        tokio::time::sleep(IDLE_LIMIT * 3).await;
        let send = async {
            tokio::time::sleep(IDLE_LIMIT / 2).await;
            sender.send(Ok(Frame::data(Bytes::from_static(b"x")))).await.unwrap();
        };
        let ((), frame) = tokio::join!(send, upload.frame());
        assert!(frame.unwrap().is_ok());
        drop(sender);
        assert!(upload.frame().await.is_none());
    }
}
