//! A client's TCP connection that can be checked while hyper owns it: hyper stops reading while an instance does not
//! read the upload, and would not notice that the client has gone.

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

/// Silence after which the kernel probes a client (TCP keepalive), and unacknowledged time after which it closes the
/// connection.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes that the kernel may keep for a client beyond what is on its way: without a limit, megabytes for each that reads
/// slowly, whose progress would then only be seen every few of them.
const MAX_UNSENT_BYTES: u32 = 128 << 10;
/// How often a connection that is not read from is checked for a close by the client.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A client's connection. Clones share it; only one of them reads and writes.
#[derive(Debug, Clone)]
pub(crate) struct ClientSocket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: TcpStream,
    /// The counters for its bytes, and the index of this shard in them.
    metrics: Arc<Metrics>,
    shard: usize,
}

impl ClientSocket {
    /// Sets socket options by which clients that disappear silently are detected: their requests would be activity for
    /// ever.
    pub(crate) fn new(stream: TcpStream, metrics: Arc<Metrics>, shard: usize) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 4))?;
        socket.set_tcp_user_timeout(Some(SILENCE))?;
        socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
        Ok(Self(Arc::new(Inner { stream, metrics, shard })))
    }

    /// Returns when the client has closed or reset the connection, even if unread bytes are left.
    pub(crate) async fn closed(&self) {
        while !self.is_closed() {
            // An error wakes at once. A close by the peer does not while unread bytes are left, so the loop polls for
            // it.
            let _ = tokio::time::timeout(POLL_INTERVAL, self.0.stream.ready(Interest::ERROR)).await;
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
