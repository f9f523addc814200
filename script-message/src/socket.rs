//! WebSockets. One is two bodies, one each way, in which messages follow each other; so what is known of bodies holds for it: who
//! may name it, how much may be under way, how it ends. The body that comes from the one who has it stands in a response of
//! status 101 in place of that response's body. Whoever opens it names the body that goes there.

use super::Response;

/// Longest message of a WebSocket, in bytes: as long as the platform that Berth follows had it for years. Each side keeps a message
/// until all of it is there.
pub const MESSAGE_BYTES: usize = 1 << 20;

/// Bytes of a WebSocket that may be under way in one direction. Less than of other bodies, since a WebSocket stays for long.
pub const SOCKET_WINDOW: u32 = 32 << 10;

/// WebSockets that one script may have at once. What may be under way of each is apart from that of other bodies, as they stay for
/// long; so this bounds both: 128 MiB of windows.
pub const MAX_SOCKETS: usize = 4096;

/// Bytes of one WebSocket that may wait in a script for the other side to take what is under way: a few of the longest messages.
pub const SOCKET_UNSENT_BYTES: usize = 4 << 20;

/// Bytes that may wait so of all WebSockets of a script together.
pub const SOCKETS_UNSENT_BYTES: usize = 32 << 20;

/// Longest reason of a close, in bytes, as RFC 6455 has it.
pub const REASON_BYTES: usize = 123;

/// The code of a close that has none.
pub const NO_CODE: u16 = 1005;

/// The status of a response that has a WebSocket.
const SWITCHING: u16 = 101;

/// What stands before a message: its kind, and its length in four bytes, big-endian.
const PREFIX_BYTES: usize = 5;

/// Bytes that were taken at the front of the buffer before the rest is moved there.
const MOVE_BYTES: usize = 64 << 10;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

impl Response {
    /// Whether a WebSocket stands in place of its body.
    pub fn has_socket(&self) -> bool {
        self.status == SWITCHING
    }
}

/// A message of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketMessage {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// The last: no more comes. A code, `NO_CODE` if there was none, and a reason.
    Close(u16, String),
}

/// What comes in a WebSocket's body is no message, or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what came over the WebSocket is no message, or is longer than {MESSAGE_BYTES} bytes")]
pub struct NoMessage;

impl SocketMessage {
    /// How long it is, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::Close(_, reason) => size_of::<u16>() + reason.len(),
        }
    }

    /// As it stands in a body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let framed = |kind, parts: [&[u8]; 2]| {
            let length = u32::try_from(parts[0].len() + parts[1].len()).unwrap_or(u32::MAX);
            [&[kind], &length.to_be_bytes()[..], parts[0], parts[1]].concat()
        };
        match self {
            Self::Text(text) => framed(TEXT, [text.as_bytes(), &[]]),
            Self::Binary(bytes) => framed(BINARY, [bytes, &[]]),
            Self::Close(code, reason) => framed(CLOSE, [&code.to_be_bytes(), reason.as_bytes()]),
        }
    }

    fn of(kind: u8, bytes: &[u8]) -> Option<Self> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).ok();
        match kind {
            TEXT => text(bytes).map(Self::Text),
            BINARY => Some(Self::Binary(bytes.to_vec())),
            CLOSE => {
                let (code, reason) = bytes.split_first_chunk()?;
                let reason = text(reason).filter(|reason| reason.len() <= REASON_BYTES)?;
                Some(Self::Close(u16::from_be_bytes(*code), reason))
            }
            _ => None,
        }
    }
}

/// Takes messages out of the pieces of a body. Has never more than one message's bytes and the piece with its last.
#[derive(Debug, Default)]
pub struct SocketMessages {
    buffer: Vec<u8>,
    /// Where the next message starts.
    start: usize,
}

impl SocketMessages {
    /// Takes bytes in. All messages are taken out before the next bytes come in.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer = Vec::new();
            self.start = 0;
        } else if self.start > MOVE_BYTES {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message and how many bytes of the body it took, or `None` while bytes are missing. After an error the rest means nothing.
    pub fn next_message(&mut self) -> Result<Option<(SocketMessage, usize)>, NoMessage> {
        let Some((prefix, rest)) = self.buffer[self.start..].split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_BYTES {
            return Err(NoMessage);
        }
        let Some(bytes) = rest.get(..length) else { return Ok(None) };
        let message = SocketMessage::of(kind, bytes).ok_or(NoMessage)?;
        self.start += PREFIX_BYTES + length;
        Ok(Some((message, PREFIX_BYTES + length)))
    }

    /// Bytes of a message of which not all have come.
    pub fn begun_bytes(&self) -> usize {
        self.buffer.len() - self.start
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = SocketMessage> {
        prop_oneof![
            ".{0,40}".prop_map(SocketMessage::Text),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(SocketMessage::Binary),
            (any::<u16>(), ".{0,30}").prop_map(|(code, reason)| SocketMessage::Close(code, reason)),
        ]
    }

    fn read(bytes: &[u8], step: usize) -> Result<Vec<SocketMessage>, NoMessage> {
        let (mut messages, mut found, mut taken) = (SocketMessages::default(), Vec::new(), 0);
        for piece in bytes.chunks(step) {
            messages.extend(piece);
            while let Some((message, bytes)) = messages.next_message()? {
                found.push(message);
                taken += bytes;
            }
        }
        assert_eq!(taken + messages.begun_bytes(), bytes.len());
        Ok(found)
    }

    proptest! {
        #[test]
        fn messages_survive_however_they_are_cut(messages in proptest::collection::vec(message(), 0..6), step in 1..200_usize) {
            let bytes: Vec<u8> = messages.iter().flat_map(SocketMessage::to_bytes).collect();
            prop_assert_eq!(read(&bytes, step).unwrap(), messages);
        }

        #[test]
        fn any_bytes_are_messages_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1..50_usize) {
            let _ = read(&bytes, step);
        }
    }

    #[test]
    fn what_is_no_message_is_refused_before_its_bytes_come() {
        assert_eq!(read(&[BINARY, 0xff, 0, 0, 0], 5), Err(NoMessage));
        let longest = u32::try_from(MESSAGE_BYTES).unwrap();
        assert_eq!(read(&[&[BINARY][..], &longest.to_be_bytes()].concat(), 9), Ok(Vec::new()));
        assert_eq!(read(&[&[BINARY][..], &(longest + 1).to_be_bytes()].concat(), 9), Err(NoMessage));
        assert_eq!(read(&[TEXT, 0, 0, 0, 1, 0xff], 9), Err(NoMessage));
        assert_eq!(read(&[CLOSE, 0, 0, 0, 1, 3], 9), Err(NoMessage));
        assert_eq!(read(&[3, 0, 0, 0, 0], 9), Err(NoMessage));
    }
}
