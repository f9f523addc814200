//! A client's TCP connection that can be looked at while hyper owns it: hyper does not read while an instance takes
//! nothing of an upload, and would not notice that the client has gone away.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::metrics::{Metrics, ShardCounts};

/// Silence after which the kernel asks whether a client is still there, and after which it is not.
const SILENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether a client has closed a connection that is not read from.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A client's connection. Clones are the same connection; one of them reads and writes.
#[derive(Debug, Clone)]
pub(crate) struct ClientSocket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: TcpStream,
    /// Where its bytes are counted: with this shard's.
    metrics: Arc<Metrics>,
    shard: usize,
}

impl ClientSocket {
    /// Sets the connection up so that clients that vanish without a word are found out about: a request of theirs would
    /// stay activity for ever.
    pub(crate) fn new(stream: TcpStream, metrics: Arc<Metrics>, shard: usize) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 4))?;
        socket.set_tcp_user_timeout(Some(SILENCE))?;
        Ok(Self(Arc::new(Inner { stream, metrics, shard })))
    }

    /// Returns when the client has closed or reset the connection, whether or not anything is left to read.
    pub(crate) async fn gone(&self) {
        while !self.is_closed() {
            // An error wakes at once. That the other side has closed does not, while there is something left to read.
            let _ = tokio::time::timeout(LOOK_EVERY, self.0.stream.ready(Interest::ERROR)).await;
        }
    }

    fn is_closed(&self) -> bool {
        let ready = self.0.stream.ready(Interest::READABLE | Interest::ERROR).now_or_never();
        ready.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed() || ready.is_error()))
    }
}

impl Inner {
    fn counts(&self) -> &ShardCounts {
        self.metrics.shard(self.shard)
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(cx))?;
            match self.0.stream.try_read_buf(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|read| self.0.counts().received_bytes.add(read as u64))),
            }
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |stream| stream.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |stream| stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.0.stream).shutdown(Shutdown::Write))
    }
}

impl ClientSocket {
    fn poll_try(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.stream.poll_write_ready(cx))?;
            match write(&self.0.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    return Poll::Ready(written.inspect(|n| self.0.counts().sent_bytes.add(*n as u64)));
                }
            }
        }
    }
}
