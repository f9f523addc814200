//! Joins a QUIC stream to a TCP connection, so that each end of the pair behaves as if it were connected to the other.
//!
//! ```text
//!  QUIC from edge            TCP to app            TCP from app            QUIC to edge
//!  bytes        ───────────▶ bytes                 bytes       ──────────▶ bytes
//!  end          ───────────▶ end                   end         ──────────▶ end
//!  reset, lost  ───────────▶ reset                 reset       ──────────▶ reset, and stop
//!                                                  (read no more)   ◀───── stop
//! ```
//!
//! Each direction has backpressure: nothing is read while the other end does not take it. An idle direction holds no
//! buffer.
//!
//! What fails, and what happens then:
//! * Either side resets, or the edge's connection is lost: both sides are reset.
//! * The app stops reading: the stream's upload is stopped; what the app wrote before is still delivered.
//! * The edge stops reading: nothing more is read from the app; TCP has no such signal, so the app learns of it when
//!   the connection is closed.
//! * The app does not read for a while, and its instance's share of unread bytes is used up: both sides are reset
//!   (`UNREAD`).
//! * The instance ends: the last bytes have a few seconds to be delivered, then both sides are reset.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::{Poll, ready};
use std::time::Duration;

use berth_common::wire::close;
use bytes::{Buf, Bytes, BytesMut};
use quinn::{RecvStream, SendStream, VarInt, WriteError};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio_util::sync::CancellationToken;

use crate::tunnels::{Tenant, Tunnels};

/// Chunks handed to the socket in one system call. A packet is one chunk at most.
const CHUNKS: usize = 16;
/// Smallest buffer that the socket is read into, in bytes: a typical response fits.
const MIN_READ_BYTES: usize = 4 << 10;
/// Largest such buffer, in bytes. Buffers grow while they are filled and shrink while they are not.
const MAX_READ_BYTES: usize = 64 << 10;
/// How long after its instance's end a connection may take to deliver the app's last bytes.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an app may take to read what has arrived before it counts as unread.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes carried so far, of an instance or of the whole node.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// To the app.
    pub(crate) received: Cell<u64>,
    /// From it.
    pub(crate) sent: Cell<u64>,
}

/// Where a connection is counted, and whose share its unread bytes take.
pub(crate) struct Account<'a> {
    /// Of the instance, and of the node.
    pub(crate) traffic: [&'a Traffic; 2],
    pub(crate) tunnels: &'a Tunnels,
    pub(crate) tenant: &'a Tenant,
}

/// Adds to each.
fn add(counts: [&Cell<u64>; 2], bytes: usize) {
    for count in counts {
        count.set(count.get().saturating_add(bytes as u64));
    }
}

/// Why a connection was cut, if it did not end normally on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    /// The edge reset its stream, or its connection is gone.
    #[error("the edge gave up")]
    ByEdge,
    /// The app reset its connection.
    #[error("the app reset the connection")]
    ByApp,
    /// The instance is gone.
    #[error("the instance has ended")]
    Ended,
    /// The app does not read, and what may be unread of its instance is used up.
    #[error("the app does not read, and its instance has its share of unread bytes already")]
    Unread,
}

impl Cut {
    /// The code that the stream is reset with.
    fn code(self) -> VarInt {
        VarInt::from_u32(if self == Self::Unread { close::UNREAD } else { close::RESET })
    }
}

/// Carries bytes both ways until both directions have ended or one was cut.
pub(crate) async fn splice(
    mut tcp: TcpStream,
    send: &mut SendStream,
    mut recv: RecvStream,
    ended: &CancellationToken,
    account: &Account<'_>,
) -> Result<(), Cut> {
    let carried = carry(&mut tcp, send, &mut recv, ended, account).await;
    if let Err(cut) = carried {
        // With a linger time of zero the close sends a reset. All three calls fail if that side has ended already.
        let _ = SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
        let _ = send.reset(cut.code());
        let _ = recv.stop(cut.code());
    }
    carried
}

async fn carry(
    tcp: &mut TcpStream,
    send: &mut SendStream,
    recv: &mut RecvStream,
    ended: &CancellationToken,
    account: &Account<'_>,
) -> Result<(), Cut> {
    let (from_app, to_app) = tcp.split();
    let app_reset = Cell::new(false);
    let both = async {
        let upload = upload(recv, to_app, &app_reset, account);
        let download = download(from_app, send, &app_reset, account.traffic.map(|traffic| &traffic.sent));
        tokio::try_join!(upload, download).map(|_| ())
    };
    tokio::select! {
        carried = both => carried,
        () = last_bytes(ended) => Err(Cut::Ended),
    }
}

/// Completes some time after the instance's end.
async fn last_bytes(ended: &CancellationToken) {
    ended.cancelled().await;
    tokio::time::sleep(LAST_BYTES_TIMEOUT).await;
}

/// From the edge to the app.
async fn upload(
    recv: &mut RecvStream,
    mut tcp: WriteHalf<'_>,
    app_reset: &Cell<bool>,
    account: &Account<'_>,
) -> Result<(), Cut> {
    let counts = account.traffic.map(|traffic| &traffic.received);
    let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
    loop {
        let Some(filled) = recv.read_chunks(&mut chunks).await.map_err(|_| Cut::ByEdge)? else {
            // It fails if the app has closed its end, which `download` detects.
            let _ = tcp.shutdown().await;
            return Ok(());
        };
        add(counts, chunks[..filled].iter().map(Bytes::len).sum());
        if let Err(error) = write_patiently(&mut tcp, &mut chunks[..filled], account).await? {
            // The app reads no more, but what it wrote before must still be delivered. After a normal close the error
            // is EPIPE; after a reset, the end of file that `download` will see is not a normal end.
            app_reset.set(error.kind() != io::ErrorKind::BrokenPipe);
            let _ = recv.stop(VarInt::from_u32(close::RESET));
            return Ok(());
        }
    }
}

/// Writes all chunks. While the app does not take them, the connection counts as one with unread bytes, and is cut if
/// there are too many of those already: the newest goes, and those that were there before stay.
async fn write_patiently(
    tcp: &mut WriteHalf<'_>,
    chunks: &mut [Bytes],
    account: &Account<'_>,
) -> Result<io::Result<()>, Cut> {
    let mut write = pin!(write_all(tcp, chunks));
    // The usual case, without a timer.
    if let Poll::Ready(written) = poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await {
        return Ok(written);
    }
    tokio::select! {
        written = &mut write => return Ok(written),
        () = tokio::time::sleep(PATIENCE) => {}
    }
    let _unread = account.tunnels.unread(account.tenant).ok_or(Cut::Unread)?;
    Ok(write.await)
}

/// Writes all chunks, and frees each as soon as it is written.
async fn write_all(tcp: &mut WriteHalf<'_>, chunks: &mut [Bytes]) -> io::Result<()> {
    let mut done = 0;
    while done < chunks.len() {
        let left = &mut chunks[done..];
        let mut slices = [IoSlice::new(&[]); CHUNKS];
        for (slice, chunk) in slices.iter_mut().zip(left.iter()) {
            *slice = IoSlice::new(chunk);
        }
        let written = tcp.write_vectored(&slices[..left.len()]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        done += advance(left, written);
    }
    Ok(())
}

/// Removes the first `written` bytes of the chunks, and returns how many chunks are empty now.
fn advance(chunks: &mut [Bytes], mut written: usize) -> usize {
    let mut empty = 0;
    for chunk in chunks {
        let taken = written.min(chunk.len());
        chunk.advance(taken);
        written -= taken;
        if !chunk.is_empty() {
            break;
        }
        *chunk = Bytes::new();
        empty += 1;
    }
    empty
}

/// From the app to the edge.
async fn download(
    mut tcp: ReadHalf<'_>,
    send: &mut SendStream,
    app_reset: &Cell<bool>,
    counts: [&Cell<u64>; 2],
) -> Result<(), Cut> {
    let mut stopped = pin!(send.stopped());
    let mut size = MIN_READ_BYTES;
    loop {
        let read = tokio::select! {
            read = read_some(&mut tcp, &mut size) => read.map_err(|_| Cut::ByApp)?,
            stopped = &mut stopped => return edge_stopped(stopped.is_ok(), send),
        };
        if read.is_empty() {
            if app_reset.get() {
                return Err(Cut::ByApp);
            }
            // Fails only if the stream has ended already.
            let _ = send.finish();
            return Ok(());
        }
        add(counts, read.len());
        match send.write_chunk(read).await {
            Ok(()) => {}
            Err(error) => return edge_stopped(matches!(error, WriteError::Stopped(_)), send),
        }
    }
}

/// The edge stops reading the app's bytes. TCP cannot signal that to the app until the other direction has ended too:
/// then the connection is closed, and later writes of the app are answered by a reset.
fn edge_stopped(in_order: bool, send: &mut SendStream) -> Result<(), Cut> {
    if !in_order {
        return Err(Cut::ByEdge);
    }
    let _ = send.reset(VarInt::from_u32(close::RESET));
    Ok(())
}

/// Reads once there is something to read; empty at the end. The buffer is allocated only when bytes are available.
async fn read_some(tcp: &mut ReadHalf<'_>, size: &mut usize) -> io::Result<Bytes> {
    let mut buffer = poll_fn(|cx| {
        ready!(tcp.as_ref().poll_read_ready(cx))?;
        let mut buffer = BytesMut::with_capacity(*size);
        let read = pin!(tcp.read_buf(&mut buffer)).poll(cx);
        read.map_ok(|_| buffer)
    })
    .await?;
    *size = next_size(*size, buffer.len());
    Ok(buffer.split().freeze())
}

/// The size of the next buffer after one of `size` bytes took `used`.
fn next_size(size: usize, used: usize) -> usize {
    if used >= size {
        (size * 2).min(MAX_READ_BYTES)
    } else if used < size / 4 {
        (size / 2).max(MIN_READ_BYTES)
    } else {
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::try_join!(TcpStream::connect(address), listener.accept()).unwrap();
        (ours, theirs.0)
    }

    #[test]
    fn buffers_follow_what_arrives() {
        assert_eq!(next_size(MIN_READ_BYTES, MIN_READ_BYTES), 2 * MIN_READ_BYTES);
        assert_eq!(next_size(MAX_READ_BYTES, MAX_READ_BYTES), MAX_READ_BYTES);
        assert_eq!(next_size(MAX_READ_BYTES, 1), MAX_READ_BYTES / 2);
        assert_eq!(next_size(MIN_READ_BYTES, 1), MIN_READ_BYTES);
        assert_eq!(next_size(8192, 4096), 8192);
    }

    #[tokio::test]
    async fn all_chunks_are_written_however_little_the_socket_takes_at_once() {
        let (mut ours, mut theirs) = pair().await;
        SockRef::from(&ours).set_send_buffer_size(4096).unwrap();
        let mut chunks: Vec<Bytes> =
            (0..CHUNKS).zip(b'a'..).map(|(i, letter)| Bytes::from(vec![letter; 50_000 + i])).collect();
        let expected: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.to_vec()).collect();
        let (_, mut half) = ours.split();
        let mut received = Vec::new();
        let write = async {
            write_all(&mut half, &mut chunks).await.unwrap();
            half.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(write, theirs.read_to_end(&mut received));
        read.unwrap();
        assert!(received == expected && chunks.iter().all(Bytes::is_empty));
    }

    #[tokio::test]
    async fn reading_gives_what_is_there_and_nothing_at_the_end() {
        let (mut ours, mut theirs) = pair().await;
        let (mut half, _) = ours.split();
        theirs.write_all(b"hello").await.unwrap();
        let mut size = MIN_READ_BYTES;
        assert_eq!(read_some(&mut half, &mut size).await.unwrap(), "hello");
        drop(theirs);
        assert!(read_some(&mut half, &mut size).await.unwrap().is_empty());
    }
}
