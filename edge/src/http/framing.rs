//! Follows the framing of the requests on one client connection, and makes hyper reject a request whose head gives the
//! length twice (`Content-Length` and `Transfer-Encoding`) with 400, by writing an invalid byte into that head.
//!
//! Two parsers that read such a head differently make request smuggling possible (RFC 9112 §6.1); hyper silently
//! prefers one of the two lengths. Everything else that is malformed is left to hyper.
//!
//! ```text
//!           ┌────────────── head without a body ─────────────┐
//!           ▼                                                 │
//!  ──▶ Head(line by line) ──length──▶ Body(n) ──n = 0──▶ Head │
//!           │  └──chunked──▶ Size ──▶ Data(n) ──▶ Size ─0─▶ Trailer ──empty line──▶ Head
//!           └── upgrade, or not HTTP at all ──▶ Off (the rest passes unread)
//! ```
//!
//! What fails, and what happens then:
//!
//! * Both lengths in one head: the head is made invalid, and hyper responds with 400 and closes the connection.
//! * A chunk size that cannot be parsed: the rest passes unread, and hyper rejects it.
//! * A length that cannot be parsed: counts as zero, and hyper rejects the request.
//! * An upgrade that the instance refuses: the rest was not followed, so the listener closes the connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a line that are examined: longer than any header name and length that matter here.
const LINE_BYTES: usize = 48;

/// A byte that is invalid in any head, so that hyper rejects the request.
const SPOILER: u8 = 0;

/// A client connection whose request framing is checked.
#[derive(Debug)]
pub(crate) struct Guarded<T> {
    io: T,
    framing: Framing,
}

impl<T> Guarded<T> {
    pub(crate) fn new(io: T) -> Self {
        Self { io, framing: Framing::default() }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.framing.follow(&mut buf.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What the head has contained so far.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    started: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

#[derive(Debug)]
enum State {
    Head(Head),
    Body(u64),
    Size,
    Data(u64),
    Trailer,
    Off,
}

#[derive(Debug)]
struct Framing {
    state: State,
    line: LineStart,
}

impl Default for Framing {
    fn default() -> Self {
        Self { state: State::Head(Head::default()), line: LineStart::default() }
    }
}

impl Framing {
    /// Follows the next bytes, and invalidates a head in them that gives its length twice.
    fn follow(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = match &mut self.state {
                State::Off => return,
                State::Body(left) | State::Data(left) => {
                    let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    self.end_of_data();
                    taken
                }
                State::Head(_) | State::Size | State::Trailer => self.follow_line(bytes),
            };
            bytes = &mut bytes[taken..];
        }
    }

    fn end_of_data(&mut self) {
        match self.state {
            State::Body(0) => self.state = State::Head(Head::default()),
            State::Data(0) => self.state = State::Size,
            _ => {}
        }
    }

    /// Takes the bytes up to the end of the line, or all of them.
    fn follow_line(&mut self, bytes: &mut [u8]) -> usize {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.line.extend(bytes);
            return bytes.len();
        };
        self.line.extend(&bytes[..end]);
        let line = std::mem::take(&mut self.line);
        if !self.end_of_line(line.text()) {
            bytes[end] = SPOILER;
            self.state = State::Off;
        }
        end + 1
    }

    /// Takes a whole line; false if with it the head gives its length twice.
    fn end_of_line(&mut self, line: &[u8]) -> bool {
        match &mut self.state {
            State::Head(head) if line.is_empty() && head.started => self.state = head.body(),
            State::Head(head) => return head.line(line),
            State::Size if line.is_empty() => {} // the end of the chunk before
            State::Size => {
                self.state = match chunk_size(line) {
                    Some(0) => State::Trailer,
                    Some(size) => State::Data(size),
                    None => State::Off,
                }
            }
            State::Trailer if line.is_empty() => self.state = State::Head(Head::default()),
            State::Trailer | State::Body(_) | State::Data(_) | State::Off => {}
        }
        true
    }
}

impl Head {
    fn line(&mut self, line: &[u8]) -> bool {
        if !self.started {
            self.started = !line.is_empty(); // the request line, after any empty lines
            return true;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return true };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            self.length =
                Some(std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        }
        !(self.chunked && self.length.is_some())
    }

    fn body(&self) -> State {
        match (self.upgrade, self.chunked, self.length) {
            // What follows may not be HTTP any more. If it still is, the listener closes the connection.
            (true, _, _) => State::Off,
            (_, true, _) => State::Size,
            (_, _, Some(length)) if length > 0 => State::Body(length),
            _ => State::Head(Head::default()),
        }
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The first bytes of the current line, without its line break.
#[derive(Debug)]
struct LineStart {
    bytes: [u8; LINE_BYTES],
    used: usize,
    longer: bool,
}

impl Default for LineStart {
    fn default() -> Self {
        Self { bytes: [0; LINE_BYTES], used: 0, longer: false }
    }
}

impl LineStart {
    fn extend(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(LINE_BYTES - self.used);
        self.bytes[self.used..self.used + taken].copy_from_slice(&bytes[..taken]);
        self.used += taken;
        self.longer |= taken < bytes.len();
    }

    fn text(&self) -> &[u8] {
        let text = &self.bytes[..self.used];
        if self.longer { text } else { text.strip_suffix(b"\r").unwrap_or(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether the guard invalidates this input when it arrives in pieces of this size.
    fn invalidates(input: &str, piece: usize) -> bool {
        let mut framing = Framing::default();
        let mut seen = Vec::new();
        for part in input.as_bytes().chunks(piece) {
            let mut part = part.to_vec();
            framing.follow(&mut part);
            seen.extend(part);
        }
        let spoiled = seen != input.as_bytes();
        assert_eq!(spoiled, seen.contains(&SPOILER));
        spoiled
    }

    const PLAIN: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    const SIZED: &str =
        "POST /a HTTP/1.1\r\nContent-Length: 40\r\n\r\nContent-Length: 1\r\nTransfer-Encoding:\r\n..";
    const CHUNKED: &str = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n15;x=y\r\n\r\nContent-Length: 1\r\n\r\n0\r\nT: v\r\n\r\n";
    const TWICE: &str =
        "POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\nContent-LENGTH: 4\r\n\r\n0\r\n\r\n";
    const OTHER_ORDER: &str =
        "POST /a HTTP/1.1\r\nContent-Length: 4\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn a_head_with_two_lengths_is_invalidated_wherever_it_comes() {
        for piece in [1, 2, 7, 1000] {
            for sound in [PLAIN, SIZED, CHUNKED] {
                assert!(!invalidates(sound, piece), "{sound}");
                for bad in [TWICE, OTHER_ORDER] {
                    assert!(invalidates(bad, piece), "{bad}");
                    assert!(invalidates(&format!("{sound}{bad}"), piece), "{sound}{bad}");
                }
            }
        }
    }

    #[test]
    fn after_an_upgrade_the_bytes_are_not_http() {
        let upgrade = "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        assert!(!invalidates(&format!("{upgrade}{TWICE}"), 5));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_followed(bytes: Vec<u8>, piece in 1usize..9) {
            let mut framing = Framing::default();
            for part in bytes.chunks(piece) {
                framing.follow(&mut part.to_vec());
            }
        }
    }
}
