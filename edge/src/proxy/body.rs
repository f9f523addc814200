//! Bodies of responses: a short text by the edge, an instance's body, a program's, or a file. Reading an instance's body drives its
//! connection, and however that body ends, the request's hold on the instance ends with it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;

use super::claim::Claim;
use super::pool::Pool;
use super::upstream::Upstream;
use crate::http::headers;
use crate::script::ScriptBody;

/// The body of any response.
pub(crate) enum ResponseBody {
    /// A text by the edge itself.
    Text(Full<Bytes>),
    /// The body of an instance's response.
    Instance(Box<InstanceBody>),
    /// A static file.
    Asset(UnsyncBoxBody<Bytes, BoxError>),
    /// The body of a program's response. Dropped before the end, the program is told.
    Program(Box<ScriptBody>),
}

/// Why a body ended early.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl ResponseBody {
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Text(Full::new(text.into()))
    }

    pub(crate) fn empty() -> Self {
        Self::text(Bytes::new())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Text(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
            Self::Instance(body) => body.poll_frame(cx).map_err(Into::into),
            Self::Asset(body) => Pin::new(body).poll_frame(cx),
            Self::Program(body) => Pin::new(body.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_end_stream(),
            Self::Instance(body) => body.incoming.is_end_stream(),
            Self::Asset(body) => body.is_end_stream(),
            Self::Program(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => text.size_hint(),
            Self::Instance(body) => body.incoming.size_hint(),
            Self::Asset(body) => body.size_hint(),
            Self::Program(body) => body.size_hint(),
        }
    }
}

/// The body of an instance's response, with its connection and the hold. Dropped before the end, the connection is
/// reset and the hold released.
pub(crate) struct InstanceBody {
    incoming: Incoming,
    exchange: Option<Exchange>,
    pool: Arc<Pool>,
}

struct Exchange {
    upstream: Upstream,
    _claim: Claim,
}

impl InstanceBody {
    /// The body of a response whose head was received over this connection.
    pub(crate) async fn new(incoming: Incoming, upstream: Upstream, claim: Claim, pool: Arc<Pool>) -> Self {
        let mut body = Self { incoming, exchange: Some(Exchange { upstream, _claim: claim }), pool };
        if body.incoming.is_end_stream() {
            // An empty body is never polled, so it is finished here.
            poll_fn(|cx| {
                body.finish(cx);
                Poll::Ready(())
            })
            .await;
        }
        body
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = match ready!(self.poll_incoming(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.exchange = None;
                return Poll::Ready(Some(Err(error)));
            }
            None => {
                self.finish(cx);
                return Poll::Ready(None);
            }
        };
        if self.incoming.is_end_stream() {
            self.finish(cx);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Reads the next frame; if there is none, drives the connection and looks again.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if frame.is_pending() {
            if let Some(exchange) = &mut self.exchange {
                let _ = exchange.upstream.drive(cx);
            }
            frame = Pin::new(&mut self.incoming).poll_frame(cx);
        }
        frame.map(|mut frame| {
            if let Some(Ok(frame)) = &mut frame
                && let Some(trailers) = frame.trailers_mut()
            {
                headers::prepare_response_trailers(trailers);
            }
            frame
        })
    }

    /// The response is complete: the connection may carry the next request, and the hold ends.
    fn finish(&mut self, cx: &mut Context<'_>) {
        let Some(Exchange { mut upstream, _claim }) = self.exchange.take() else { return };
        if upstream.is_reusable(cx) {
            self.pool.keep(upstream);
        } else if upstream.is_done(cx) {
            upstream.end();
        }
        // Otherwise part of the request was never read: dropping the connection tells the instance.
    }
}
