//! How streams of an edge's connection end: with an answer, abandoned by the peer, or with a breach of the protocol
//! that closes the connection.

use berth_common::wire::call::Answer;
use berth_common::wire::close;
use berth_common::wire::frame::{self, FrameError};
use quinn::{ReadError, ReadExactError, SendStream, WriteError};

/// Why a connection is closed by the agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Breach {
    /// The peer broke the protocol.
    #[error("the protocol was broken: {0}")]
    Protocol(String),
    /// The peer is not who it says it is.
    #[error("{0}")]
    Forbidden(String),
    /// A newer session has taken over.
    #[error("superseded: {0}")]
    Superseded(String),
    /// It reads its updates too slowly.
    #[error("updates were not read in time: connect again to be told everything")]
    Slow,
}

impl Breach {
    /// The code that the connection is closed with.
    pub(crate) fn code(&self) -> u32 {
        match self {
            Self::Protocol(_) => close::PROTOCOL,
            Self::Forbidden(_) => close::FORBIDDEN,
            Self::Superseded(_) => close::SUPERSEDED,
            Self::Slow => close::SLOW,
        }
    }
}

/// Why a stream ended before its work was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamEnd {
    /// The peer abandoned the stream or is gone: nothing is left to do.
    #[error("the stream is gone")]
    Gone,
    /// The whole connection must be closed.
    #[error(transparent)]
    Breach(#[from] Breach),
}

impl From<WriteError> for StreamEnd {
    fn from(_: WriteError) -> Self {
        Self::Gone
    }
}

impl From<ReadExactError> for StreamEnd {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => {
                Breach::Protocol("a stream ended before it said what it is for".to_owned()).into()
            }
            ReadExactError::ReadError(ReadError::Reset(_) | ReadError::ConnectionLost(_)) => Self::Gone,
            ReadExactError::ReadError(error) => Breach::Protocol(error.to_string()).into(),
        }
    }
}

impl From<FrameError> for StreamEnd {
    /// The text of a wrong body is left out: it may quote secrets.
    fn from(error: FrameError) -> Self {
        let text = match error {
            FrameError::Io(_) => return Self::Gone,
            FrameError::Body(error) => {
                format!("a frame is not the expected message (column {})", error.column())
            }
            FrameError::TooLong(_) | FrameError::Truncated => error.to_string(),
        };
        Breach::Protocol(text).into()
    }
}

/// Sends the last or only answer of a stream.
pub(crate) async fn answer(send: &mut SendStream, answer: &Answer) -> Result<(), StreamEnd> {
    frame::write(send, answer).await?;
    // Fails only if the stream has ended already.
    let _ = send.finish();
    Ok(())
}
