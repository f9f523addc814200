//! Frames: a length of four bytes, big-endian, and that many bytes of JSON.
//!
//! JSON because it is self-describing: a peer of a newer version may add fields, and this one skips them.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest body of a frame, in bytes. The largest message is the start of an instance with its environment,
/// which is limited to less than half of this.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// Bytes of the length before a body.
pub const PREFIX_BYTES: usize = 4;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer announces more than a frame, or a frame at this place, may hold.
    #[error("a frame of {0} bytes was announced, and is longer than allowed there")]
    TooLong(usize),
    /// The body is not the message that was expected.
    #[error("a frame does not hold the expected message: {0}")]
    Body(#[from] serde_json::Error),
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// Reading or writing failed.
    #[error("reading or writing a frame failed: {0}")]
    Io(#[from] std::io::Error),
}

/// Encodes a message as a frame.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; PREFIX_BYTES];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - PREFIX_BYTES;
    let prefix = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME_BYTES);
    frame[..PREFIX_BYTES].copy_from_slice(&prefix.ok_or(FrameError::TooLong(length))?.to_be_bytes());
    Ok(frame)
}

/// The length of the body that a prefix announces.
pub fn body_length(prefix: [u8; PREFIX_BYTES]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > MAX_FRAME_BYTES { Err(FrameError::TooLong(length)) } else { Ok(length) }
}

/// The message in a frame's body.
pub fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(body)?)
}

/// The body of a frame, and the bytes that follow the frame.
pub type Split<'a> = (&'a [u8], &'a [u8]);

/// Splits the first frame off `bytes`: its body and what follows, or `None` while bytes are missing.
pub fn split(bytes: &[u8]) -> Result<Option<Split<'_>>, FrameError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let length = body_length(*prefix)?;
    Ok((rest.len() >= length).then(|| rest.split_at(length)))
}

/// Writes one message as a frame.
#[cfg(feature = "runtime")]
pub async fn write<T: Serialize>(
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    message: &T,
) -> Result<(), FrameError> {
    use tokio::io::AsyncWriteExt;
    to.write_all(&encode(message)?).await?;
    Ok(to.flush().await?)
}

/// Reads one message, or `None` if the stream ended at a frame's boundary.
#[cfg(feature = "runtime")]
pub async fn read<T: DeserializeOwned>(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
) -> Result<Option<T>, FrameError> {
    read_within(from, MAX_FRAME_BYTES).await
}

/// Reads one message whose body has at most this many bytes, or `None` if the stream ended at a frame's boundary.
#[cfg(feature = "runtime")]
pub async fn read_within<T: DeserializeOwned>(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    most_bytes: usize,
) -> Result<Option<T>, FrameError> {
    use tokio::io::AsyncReadExt;
    let mut prefix = [0; PREFIX_BYTES];
    if from.read(&mut prefix[..1]).await? == 0 {
        return Ok(None);
    }
    let truncated = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => FrameError::Truncated,
        _ => FrameError::Io(error),
    };
    from.read_exact(&mut prefix[1..]).await.map_err(truncated)?;
    let mut body = Vec::new();
    let length = body_length(prefix)?;
    if length > most_bytes {
        return Err(FrameError::TooLong(length));
    }
    // `take` grows the buffer only with bytes that arrive: an announced length alone allocates nothing.
    from.take(length as u64).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(FrameError::Truncated);
    }
    decode_body(&body).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_message_survives_its_frame(text in ".{0,200}", tail in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut bytes = encode(&text).unwrap();
            let whole = bytes.len();
            prop_assert!(split(&bytes[..whole - 1]).unwrap().is_none());
            bytes.extend(&tail);
            let (body, rest) = split(&bytes).unwrap().unwrap();
            prop_assert_eq!(decode_body::<String>(body).unwrap(), text);
            prop_assert_eq!(rest, &tail[..]);
        }

        #[test]
        fn any_bytes_are_split_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = split(&bytes);
        }
    }

    #[test]
    fn an_absurd_length_is_refused() {
        assert!(matches!(split(&[0xff; 8]), Err(FrameError::TooLong(_))));
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_for_its_place_is_refused_before_it_is_read() {
        let frame = encode(&"hello").unwrap();
        assert_eq!(read_within::<String>(&mut &frame[..], 7).await.unwrap().as_deref(), Some("hello"));
        let announced = &frame[..PREFIX_BYTES];
        assert!(matches!(read_within::<String>(&mut &announced[..], 6).await, Err(FrameError::TooLong(7))));
    }

    #[tokio::test]
    async fn reading_tells_a_clean_end_from_a_cut() {
        let frame = encode(&"hello").unwrap();
        assert_eq!(read::<String>(&mut &frame[..]).await.unwrap().as_deref(), Some("hello"));
        assert!(read::<String>(&mut &frame[..0]).await.unwrap().is_none());
        assert!(matches!(read::<String>(&mut &frame[..3]).await, Err(FrameError::Truncated)));
        assert!(matches!(read::<String>(&mut &frame[..7]).await, Err(FrameError::Truncated)));
    }
}
