//! One call to an agent: a stream of its own, one frame each way, within a deadline.

use std::time::Duration;

use berth_common::wire::call::{Answer, Call};
use berth_common::wire::{STREAM_CALL, frame};
use quinn::{Connection, RecvStream};

/// Longest wait for a reply: agents reply once they have decided, not once they have finished.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest reply to a call that has one, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Why a call has no reply. The connection cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("the connection was lost: {0}")]
    Connection(#[from] quinn::ConnectionError),
    #[error("sending failed: {0}")]
    Write(#[from] quinn::WriteError),
    #[error(transparent)]
    Frame(#[from] frame::FrameError),
    #[error("the agent ended the stream without an answer")]
    NoAnswer,
    #[error("the agent did not answer within {} s", CALL_TIMEOUT.as_secs())]
    TimedOut,
    #[error("the agent sent a reply of another type than expected")]
    Unexpected,
}

/// Sends a call and waits for its single reply.
pub(crate) async fn ask(connection: &Connection, call: &Call) -> Result<Answer, CallError> {
    let asked = async {
        let mut recv = open(connection, call).await?;
        let answer = frame::read_within(&mut recv, MAX_ANSWER_BYTES).await?;
        answer.map(bounded).ok_or(CallError::NoAnswer)
    };
    tokio::time::timeout(CALL_TIMEOUT, asked).await.map_err(|_| CallError::TimedOut)?
}

/// A reply with a text of a bounded length: it is stored and shown.
fn bounded(answer: Answer) -> Answer {
    match answer {
        Answer::Refused(refusal) => Answer::Refused(refusal.bounded()),
        other => other,
    }
}

/// Sends a call and leaves reading its replies to the caller.
pub(crate) async fn open(connection: &Connection, call: &Call) -> Result<RecvStream, CallError> {
    let (mut send, recv) = connection.open_bi().await?;
    let mut bytes = frame::encode(call)?;
    bytes.insert(0, STREAM_CALL);
    send.write_all(&bytes).await?;
    // Fails only if the agent has stopped the stream; reading returns the reason.
    let _ = send.finish();
    Ok(recv)
}
