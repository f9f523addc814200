//! Frames: a length of four bytes, big-endian, and that many bytes of a message.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Effect, Event};

/// Longest message to a script, in bytes: an app's whole code is one.
pub const MAX_EVENT_BYTES: usize = 64 << 20;

/// Longest message from a script, in bytes: a head, an inline body or the piece of a body, or a line of the log.
pub const MAX_EFFECT_BYTES: usize = 512 << 10;

/// Bytes of the length before a message.
const PREFIX_BYTES: usize = 4;

/// Consumed bytes that are kept at the front of the buffer before the rest is moved there.
const MOVE_BYTES: usize = 64 << 10;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// More than a message may have.
    #[error("a message of {0} bytes is longer than it may be")]
    TooLong(usize),
    /// The bytes are no message.
    #[error("a frame does not hold a message: {0}")]
    Body(#[from] postcard::Error),
    /// There are bytes behind the message.
    #[error("a frame has {0} bytes behind its message")]
    Trailing(usize),
}

/// The messages of one direction, and how long they may be.
pub trait Direction: Serialize + DeserializeOwned {
    /// Most bytes of one.
    const MAX_BYTES: usize;
}

impl Direction for Event {
    const MAX_BYTES: usize = MAX_EVENT_BYTES;
}

impl Direction for Effect {
    const MAX_BYTES: usize = MAX_EFFECT_BYTES;
}

/// Appends a message's frame to `out`, which is unchanged if that fails.
pub fn encode<T: Direction>(message: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    let written = postcard::to_io(message, &mut *out).map(drop);
    let length = out.len() - start - PREFIX_BYTES;
    let prefix = u32::try_from(length).ok().filter(|_| length <= T::MAX_BYTES);
    let checked = written.map_err(FrameError::Body).and(prefix.ok_or(FrameError::TooLong(length)));
    match checked {
        Ok(prefix) => out[start..start + PREFIX_BYTES].copy_from_slice(&prefix.to_be_bytes()),
        Err(error) => {
            out.truncate(start);
            return Err(error);
        }
    }
    Ok(())
}

/// Bytes that have come in, from which messages are taken. Has never more than one message's bytes and what came with
/// its last.
pub struct Inbound<T> {
    buffer: Vec<u8>,
    /// Where the next frame starts.
    start: usize,
    messages: PhantomData<T>,
}

impl<T> Default for Inbound<T> {
    fn default() -> Self {
        Self { buffer: Vec::new(), start: 0, messages: PhantomData }
    }
}

impl<T: Direction> Inbound<T> {
    /// Takes bytes in. All messages are taken out before the next bytes come in.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.clear();
        } else if self.start > MOVE_BYTES {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, or `None` while bytes are missing. After an error the rest means nothing.
    pub fn next_message(&mut self) -> Result<Option<T>, FrameError> {
        let Some((prefix, rest)) = self.buffer[self.start..].split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > T::MAX_BYTES {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = decode(body)?;
        self.start += PREFIX_BYTES + length;
        Ok(Some(message))
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Empties the buffer, and gives back what a long message needed.
    fn clear(&mut self) {
        self.buffer.clear();
        self.start = 0;
        if self.buffer.capacity() > 2 * MAX_EFFECT_BYTES {
            self.buffer = Vec::new();
        }
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let (message, rest) = postcard::take_from_bytes(body)?;
    if rest.is_empty() { Ok(message) } else { Err(FrameError::Trailing(rest.len())) }
}
