//! A client's TCP connection while hyper owns it: says when the client is gone, which hyper does not notice while it reads
//! nothing, and sends provisional answers, which hyper has no call for.
//!
//! The end of what a client sends is not its end: it may have shut down one direction only, and still reads. Whether
//! it does shows when something is sent, or by the kernel's probes in `SILENCE`.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::interim::Interim;
use crate::metrics::{Metrics, ShardCounts};

/// Silence after which the kernel probes a client (TCP keepalive), and unacknowledged time after which it closes the
/// connection.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes that the kernel may keep for a client beyond what is on its way: without a limit, megabytes for each that reads
/// slowly, whose progress would then only be seen every few of them.
const MAX_UNSENT_BYTES: u32 = 128 << 10;

/// How long, and how many bytes, are read of what a client still sends after the last answer. Longer uploads, and slower ones,
/// may be cut off before their client has read why they were refused.
const REST_TIME: Duration = Duration::from_secs(2);
const REST_BYTES: usize = 16 << 20;
/// Bytes of it that are read at once: room that each connection may take at the same time.
const REST_CHUNK_BYTES: usize = 4 << 10;

/// A client's connection. Clones share it; only one of them reads and writes.
#[derive(Debug, Clone)]
pub(crate) struct ClientSocket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: TcpStream,
    /// The counters for its bytes, and the index of this shard in them.
    metrics: Arc<Metrics>,
    shard: usize,
    interim: Interim,
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
        Ok(Self(Arc::new(Inner { stream, metrics, shard, interim: Interim::default() })))
    }

    /// Returns when the client has reset the connection, or does not answer any more.
    pub(crate) async fn lost(&self) {
        while self.0.stream.ready(Interest::ERROR).await.is_ok_and(|ready| !ready.is_error()) {}
    }

    /// Has the connection end with a reset once it is dropped, so that what was sent does not look whole.
    pub(crate) fn cut(&self) {
        // Fails only if it has ended already.
        let _ = SockRef::from(&self.0.stream).set_linger(Some(Duration::ZERO));
    }

    /// Reads what the client still sends after the last answer, until it ends the connection. One that is closed over unread
    /// bytes is reset, and a client that sends all of its request before it reads never sees the answer.
    pub(crate) async fn read_rest(mut self) {
        // On the heap: the room would be part of every connection.
        let (mut chunk, mut rest) = (vec![0; REST_CHUNK_BYTES], REST_BYTES);
        let read = async {
            while let Ok(bytes @ 1..) = self.read(&mut chunk).await
                && rest > bytes
            {
                rest -= bytes;
            }
        };
        // Whether it comes to its end or not: the connection is closed.
        let _ = tokio::time::timeout(REST_TIME, read).await;
    }

    /// The provisional answers that are sent over it.
    pub(crate) fn interim(&self) -> &Interim {
        &self.0.interim
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
        ready!(self.0.interim.poll_complete(cx, |cx, hint| self.poll_send(cx, hint)))?;
        self.poll_send(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.0.interim.poll_complete(cx, |cx, hint| self.poll_send(cx, hint)))?;
        self.poll_try(cx, |stream| stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.interim.poll_flush(cx, |cx, hint| self.poll_send(cx, hint))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.0.stream).shutdown(Shutdown::Write))
    }
}

impl ClientSocket {
    fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |stream| stream.try_write(bytes))
    }

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
