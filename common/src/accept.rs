//! The loop that accepts connections of any kind, each with a permit among those of its listener, and a stream that tells
//! its permit when bytes arrive.
//!
//! Does not know sockets, TLS, or what is served on a connection.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connections::{Connections, Permit, SWEEP_INTERVAL};

/// Pause after a failed accept. It mostly fails for want of file descriptors, and would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections for as long as it is polled, and passes each to `serve`, which must not block. One without a
/// permit is closed at once. `accept` is dropped and called again, and must not lose a connection by that; it returns
/// the client's address too, or none for a process of this machine.
pub async fn accept_loop<C, F>(
    connections: &Arc<Connections>,
    accept: impl Fn() -> F,
    serve: impl Fn(C, Arc<Permit>),
) where
    F: Future<Output = io::Result<(C, Option<IpAddr>)>>,
{
    let listener = connections.listener();
    let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            accepted = accept() => match accepted {
                Ok((connection, address)) => match connections.admit(address) {
                    Some(permit) => serve(connection, permit),
                    None => tracing::debug!(listener, ?address, "no permit for a connection"),
                },
                Err(error) => {
                    tracing::warn!(listener, %error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = sweeps.tick() => connections.sweep(),
        }
    }
}

/// A stream that tells its permit when bytes arrive, and has it for as long as it lives.
pub struct Admitted<S> {
    stream: S,
    permit: Arc<Permit>,
}

impl<S> Admitted<S> {
    /// The stream of this permit.
    pub fn new(stream: S, permit: Arc<Permit>) -> Self {
        Self { stream, permit }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Admitted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.permit.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Admitted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
