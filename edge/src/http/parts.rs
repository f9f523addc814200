//! Bytes in parts with an end of their own, so that a raw connection that is cut does not look like one that has ended: over a
//! Unix socket both are the same. Does not know what the bytes are.
//!
//! ```text
//! length in two bytes, big-endian, 1 to 65535 | so many bytes | length | bytes | ... | 0 0: the end
//! ```

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a part's length.
const LENGTH_BYTES: usize = size_of::<u16>();

/// A connection over which what is written goes in parts; what is read comes as it is. Dropped without having been shut down,
/// it has no end.
#[derive(Debug)]
pub(crate) struct InParts<T> {
    inner: T,
    length: [u8; LENGTH_BYTES],
    /// Bytes of the length that are still to be written.
    length_left: usize,
    /// Bytes of the part that are still to come.
    left: usize,
    /// Its end has been begun.
    ending: bool,
}

impl<T> InParts<T> {
    pub(crate) const fn new(inner: T) -> Self {
        Self { inner, length: [0; LENGTH_BYTES], length_left: 0, left: 0, ending: false }
    }
}

impl<T: AsyncWrite + Unpin> InParts<T> {
    fn begin(&mut self, bytes: u16) {
        (self.length, self.length_left, self.left) = (bytes.to_be_bytes(), LENGTH_BYTES, usize::from(bytes));
    }

    fn poll_length(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.length_left > 0 {
            let from = LENGTH_BYTES - self.length_left;
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.length[from..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.length_left -= written;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for InParts<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for InParts<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.length_left == 0 && self.left == 0 {
            self.begin(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        }
        ready!(self.poll_length(cx))?;
        // What follows a part that was written in pieces is the rest of it.
        let most = self.left.min(bytes.len());
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &bytes[..most]))?;
        self.left -= written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ending {
            if self.left > 0 {
                return Poll::Ready(Err(io::Error::other("the last part is not whole")));
            }
            self.ending = true;
            self.begin(0);
        }
        ready!(self.poll_length(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// What comes over a connection with room for so many bytes.
    async fn written(room: usize, texts: &[Vec<u8>], end: bool) -> Vec<u8> {
        let (ours, mut theirs) = duplex(room);
        let mut parts = InParts::new(ours);
        let write = async {
            for text in texts {
                parts.write_all(text).await.unwrap();
            }
            if end {
                parts.shutdown().await.unwrap();
            }
            drop(parts);
        };
        let mut all = Vec::new();
        let (_, read) = tokio::join!(write, theirs.read_to_end(&mut all));
        read.unwrap();
        all
    }

    #[tokio::test]
    async fn parts_have_their_lengths_and_only_an_end_has_none() {
        for room in [1, 3, 1 << 20] {
            let texts = [b"abc".to_vec(), Vec::new(), b"d".to_vec()];
            assert_eq!(written(room, &texts, true).await, b"\0\x03abc\0\x01d\0\0");
            assert_eq!(written(room, &texts, false).await, b"\0\x03abc\0\x01d");
        }
        let large = written(1 << 20, &[vec![7; 70_000]], true).await;
        assert_eq!(large.len(), 70_000 + 3 * LENGTH_BYTES);
        assert_eq!((&large[..2], &large[65_537..65_539]), (&[255, 255][..], &[17, 113][..]));
    }
}
