//! One HTTP/1.1 connection to a port of an instance, over a tunnel stream. It has no task of its own: whoever waits
//! for its answer or reads its body drives it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};

use berth_common::ids::InstanceId;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use crate::shard::tunnel::TunnelStream;

/// Largest buffer for what was read and not yet taken; also the largest head of a response.
const BUFFER_BYTES: usize = 64 * 1024;

/// What hyper needs to be driven over a tunnel stream.
type Driven = Connection<TokioIo<TunnelStream>, Incoming>;

/// A port of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct InstancePort {
    pub(crate) instance: InstanceId,
    pub(crate) port: u16,
}

/// A connection that can carry one request at a time.
pub(crate) struct Upstream {
    port: InstancePort,
    sender: SendRequest<Incoming>,
    /// Gone once it has come to its end with a request unanswered.
    connection: Option<Driven>,
    /// It has come to its end and must not be driven further.
    over: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Nothing of the request was sent; here it is again.
    Unsent(Box<Request<Incoming>>),
    /// The instance may have seen it.
    Broken(hyper::Error),
}

impl Upstream {
    /// Makes a fresh stream ready for requests.
    pub(crate) async fn over(stream: TunnelStream, port: InstancePort) -> hyper::Result<Self> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER_BYTES);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self { port, sender, connection: Some(connection), over: false })
    }

    /// Where it leads.
    pub(crate) fn port(&self) -> InstancePort {
        self.port
    }

    /// Lets the connection work. Ready when it has come to its end; how it ended is told by the answer or the body.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        drive(&mut self.connection, &mut self.over, cx)
    }

    /// Whether the connection can carry another request, as far as can be told from here.
    pub(crate) fn is_reusable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx).is_pending() && self.sender.is_ready()
    }

    /// Sends a request and drives the connection until the head of its answer is there.
    pub(crate) async fn send(
        mut self,
        request: Request<Incoming>,
    ) -> Result<(Response<Incoming>, Self), SendError> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let (connection, over) = (&mut self.connection, &mut self.over);
        let answered = poll_fn(|cx| {
            let ended = drive(connection, over, cx).is_ready();
            match answer.as_mut().poll(cx) {
                Poll::Pending if ended => {
                    // Dropped, it tells what became of the request.
                    *connection = None;
                    answer.as_mut().poll(cx)
                }
                other => other,
            }
        });
        match answered.await {
            Ok(response) => Ok((response, self)),
            Err(mut error) => Err(match error.take_message() {
                Some(request) => SendError::Unsent(Box::new(request)),
                None => SendError::Broken(error.into_error()),
            }),
        }
    }

    /// The stream below, after an answer that changed the protocol, and what was read from it already.
    pub(crate) async fn into_stream(mut self) -> Option<(TunnelStream, Bytes)> {
        poll_fn(|cx| self.drive(cx)).await;
        let parts = self.connection?.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }

    /// Ends the connection in good order; dropped, it would be reset.
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
