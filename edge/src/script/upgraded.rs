//! A connection that an answer of status 101 has become: bytes both ways. It is in the answer's extensions, and taken once.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The server's side of an upgraded connection, directly behind its 101. Clones share it.
#[derive(Clone)]
pub(crate) struct Upgraded(Arc<Mutex<Option<Box<dyn Stream>>>>);

impl Upgraded {
    /// What is read comes from the server, what is written goes there. What the server sent together with its 101 is read first.
    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(stream)))))
    }

    /// The same; `guard` is dropped with it.
    pub(crate) fn held(stream: impl Stream + 'static, guard: impl Send + Unpin + 'static) -> Self {
        Self::new(Held { stream, _guard: guard })
    }

    /// The connection, the first time.
    pub(crate) fn take(&self) -> Option<Box<dyn Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").finish_non_exhaustive()
    }
}

/// A connection with something that lasts as long.
struct Held<S, G> {
    stream: S,
    _guard: G,
}

impl<S: Stream, G: Unpin> AsyncRead for Held<S, G> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: Stream, G: Unpin> AsyncWrite for Held<S, G> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_taken_once_whichever_clone_is_asked() {
        let mut response = http::Response::new(());
        response.extensions_mut().insert(Upgraded::new(tokio::io::duplex(1).0));
        let (parts, ()) = response.into_parts();
        let found = parts.extensions.get::<Upgraded>().cloned().unwrap();
        assert!(found.take().is_some());
        assert!(parts.extensions.get::<Upgraded>().unwrap().take().is_none());
    }
}
