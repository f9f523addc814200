//! One HTTP/1.1 connection to a port of an instance, over a tunnel stream. It has no task of its own: the task that
//! waits for the response or reads the body drives it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use berth_common::ids::InstanceId;
use bytes::Bytes;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use super::client_body::ClientBody;
use super::upload::Upload;
use crate::http::headers::MAX_FIELDS;
use crate::shard::tunnel::TunnelStream;

/// Largest read buffer, and so the largest head of a response, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// The future that drives hyper over a tunnel stream.
type Driven = Connection<TokioIo<TunnelStream>, RequestBody>;

/// The body of a request to an instance.
pub(crate) type RequestBody = Upload<ClientBody>;

/// A port of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct InstancePort {
    pub(crate) instance: InstanceId,
    pub(crate) port: u16,
}

/// A connection that can carry one request at a time.
pub(crate) struct Upstream {
    port: InstancePort,
    sender: SendRequest<RequestBody>,
    /// None once the connection has ended with a request unanswered.
    connection: Option<Driven>,
    /// The connection has ended and must not be polled again.
    over: bool,
    /// The instance answered in an older version than HTTP/1.1, in which hyper would send the next request too: without
    /// chunks, so without a body whose length is not known.
    old: bool,
    /// Set once bytes have come.
    heard: Arc<AtomicBool>,
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum SendError {
    /// None of the request was sent; here it is for a retry.
    Unsent(Box<Request<RequestBody>>),
    /// The instance may have received it, and ended the connection without a byte of an answer.
    Unanswered(hyper::Error),
    /// The instance may have received it.
    Broken(hyper::Error),
}

impl Upstream {
    /// Makes a new stream ready for requests.
    pub(crate) async fn over(stream: TunnelStream, port: InstancePort) -> hyper::Result<Self> {
        let heard = stream.heard();
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER_BYTES).max_headers(MAX_FIELDS);
        // As a proxy must (RFC 9112 §5.1, §5.2): both are gone from what is passed on.
        builder
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self { port, sender, connection: Some(connection), over: false, old: false, heard })
    }

    /// The port that it leads to.
    pub(crate) fn port(&self) -> InstancePort {
        self.port
    }

    /// Drives the connection. Ready when it has ended; the response or the body has the reason.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        drive(&mut self.connection, &mut self.over, cx)
    }

    /// Whether the connection can carry another request, as far as this side knows.
    pub(crate) fn is_reusable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx).is_pending() && self.sender.is_ready() && !self.old
    }

    /// Whether it has nothing to send or to receive any more.
    pub(crate) fn is_done(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx).is_ready() || self.sender.is_ready()
    }

    /// Sends a request and drives the connection until the head of the response is complete.
    pub(crate) async fn send(
        mut self,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Self), SendError> {
        self.heard.store(false, Ordering::Relaxed);
        let mut answer = pin!(self.sender.try_send_request(request));
        let (connection, over) = (&mut self.connection, &mut self.over);
        let answered = poll_fn(|cx| {
            let ended = drive(connection, over, cx).is_ready();
            match answer.as_mut().poll(cx) {
                Poll::Pending if ended => {
                    // Dropping the connection resolves the request's future with its outcome.
                    *connection = None;
                    answer.as_mut().poll(cx)
                }
                other => other,
            }
        });
        match answered.await {
            Ok(mut response) => {
                self.old = response.version() < Version::HTTP_11;
                // The version of each hop is its own (RFC 9110 §2.5): what has no length gets chunks on the way to the
                // client, so that it sees when it was cut.
                *response.version_mut() = Version::HTTP_11;
                Ok((response, self))
            }
            Err(mut error) => Err(match error.take_message() {
                Some(request) => SendError::Unsent(Box::new(request)),
                None if self.over && !self.heard.load(Ordering::Relaxed) => {
                    SendError::Unanswered(error.into_error())
                }
                None => SendError::Broken(error.into_error()),
            }),
        }
    }

    /// The underlying stream after an upgrade, and the bytes that were already read from it.
    pub(crate) async fn into_stream(mut self) -> Option<(TunnelStream, Bytes)> {
        poll_fn(|cx| self.drive(cx)).await;
        let parts = self.connection?.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }

    /// Closes the connection cleanly; dropping it would reset it.
    pub(crate) fn end(self) {
        if let Some(connection) = self.connection {
            connection.into_parts().io.into_inner().end();
        }
    }
}

fn drive(connection: &mut Option<Driven>, over: &mut bool, cx: &mut Context<'_>) -> Poll<()> {
    match connection {
        Some(connection) if !*over => *over = connection.poll_without_shutdown(cx).is_ready(),
        _ => *over = true,
    }
    if *over { Poll::Ready(()) } else { Poll::Pending }
}
