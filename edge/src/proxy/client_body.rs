//! The body of a request on its way to an instance: a client's, or a program's. Does not know what reads it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http::headers;
use crate::script::{self, BoxError};

/// The body of a request, whose trailers are filtered as its headers are.
#[derive(Debug)]
pub(crate) struct ClientBody(Source);

#[derive(Debug)]
enum Source {
    Nothing,
    Client(Incoming),
    Program(script::Body),
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CutShort {
    /// Reading from the client failed.
    #[error(transparent)]
    Client(hyper::Error),
    /// The program did not make all of it.
    #[error("{0}")]
    Program(BoxError),
}

impl ClientBody {
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self(Source::Client(incoming))
    }

    /// What a program sends.
    pub(crate) fn of_program(body: script::Body) -> Self {
        Self(Source::Program(body))
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self(Source::Nothing)
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let mut frame = match &mut self.0 {
            Source::Nothing => None,
            Source::Client(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(CutShort::Client))
            }
            Source::Program(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(CutShort::Program))
            }
        };
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            headers::prepare_request_trailers(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Nothing => true,
            Source::Client(body) => body.is_end_stream(),
            Source::Program(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Nothing => SizeHint::with_exact(0),
            Source::Client(body) => body.size_hint(),
            Source::Program(body) => body.size_hint(),
        }
    }
}
