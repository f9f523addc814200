//! A raw connection to a port of a container. What comes from an edge of this version has an end of its own: one that is cut is
//! an error, also over a Unix socket, where it would look like the end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a part's length.
const LENGTH_BYTES: usize = size_of::<u16>();

/// Bytes to and from a port of a container.
#[derive(Debug)]
pub struct RawConnection<T> {
    inner: T,
    state: State,
}

/// How what is read comes.
#[derive(Debug)]
enum State {
    /// As it is: the edge is of an earlier version.
    Plain,
    /// In parts, each after its length.
    Length { bytes: [u8; LENGTH_BYTES], read: usize },
    /// So much of a part is still to come.
    Part(usize),
    /// The container has ended the connection.
    Ended,
}

const NEXT: State = State::Length { bytes: [0; LENGTH_BYTES], read: 0 };

impl<T> RawConnection<T> {
    pub(super) const fn new(inner: T, in_parts: bool) -> Self {
        Self { inner, state: if in_parts { NEXT } else { State::Plain } }
    }
}

fn cut() -> io::Error {
    let why = "it was cut before the container ended it: the edge or the node went away, or the edge ends";
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

/// Reads at most so many bytes; how many. None come where the connection has ended.
fn read_some<T: AsyncRead + Unpin>(
    inner: &mut T,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
    most: usize,
) -> Poll<io::Result<usize>> {
    let mut some = ReadBuf::new(buffer.initialize_unfilled_to(most.min(buffer.remaining())));
    ready!(Pin::new(inner).poll_read(cx, &mut some))?;
    let read = some.filled().len();
    buffer.advance(read);
    Poll::Ready(Ok(read))
}

impl<T: AsyncRead + Unpin> AsyncRead for RawConnection<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { inner, state } = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match state {
                State::Plain => return Pin::new(inner).poll_read(cx, buffer),
                State::Ended => return Poll::Ready(Ok(())),
                State::Part(left) => {
                    let read = ready!(read_some(inner, cx, buffer, *left))?;
                    *left -= read;
                    if *left == 0 {
                        *state = NEXT;
                    }
                    return Poll::Ready(if read == 0 { Err(cut()) } else { Ok(()) });
                }
                State::Length { bytes, read } => {
                    let mut length = ReadBuf::new(&mut bytes[*read..]);
                    ready!(Pin::new(&mut *inner).poll_read(cx, &mut length))?;
                    match length.filled().len() {
                        0 => return Poll::Ready(Err(cut())),
                        some => *read += some,
                    }
                    if *read == LENGTH_BYTES {
                        let length = usize::from(u16::from_be_bytes(*bytes));
                        *state = if length == 0 { State::Ended } else { State::Part(length) };
                    }
                }
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for RawConnection<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    /// What is read of these bytes over a Unix socket that is closed after them, and whether that was the end.
    async fn read(sent: &[u8], in_parts: bool) -> (Vec<u8>, bool) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let write = async {
            for byte in sent {
                theirs.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(theirs);
        };
        let (mut connection, mut all) = (RawConnection::new(ours, in_parts), Vec::new());
        let ((), ended) = tokio::join!(write, connection.read_to_end(&mut all));
        (all, ended.is_ok())
    }

    #[tokio::test]
    async fn a_cut_is_no_end() {
        let whole = b"\0\x03abc\0\x01d\0\0";
        assert_eq!(read(whole, true).await, (b"abcd".to_vec(), true));
        for cut in 0..whole.len() {
            let (bytes, ended) = read(&whole[..cut], true).await;
            assert!(!ended && b"abcd".starts_with(&bytes), "cut after {cut}: {bytes:?}");
        }
        // An edge of the version before sends bytes as they are.
        assert_eq!(read(b"ab", false).await, (b"ab".to_vec(), true));
    }
}
