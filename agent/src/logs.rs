//! Answers the call that reads logs: batch after batch, as fast as the edge reads. A slow reader delays no instance,
//! since they write to files; output that is removed before it was read is reported as a gap.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use berth_common::wire::call::{Answer, Refusal, RefusalCode};
use berth_common::wire::frame;
use berth_common::wire::logs::{LogBatch, MAX_LOG_PLACES, MAX_LOG_TAIL, ReadLogs};
use quinn::SendStream;

use crate::connected::Connected;
use crate::runtime::Runtime;
use crate::runtime::logs::{Reader, Rest};
use crate::stream::{StreamEnd, answer};

/// How often a follower's files are polled: with the latency of the network, a line arrives within 200 ms.
const POLL: Duration = Duration::from_millis(100);

/// Serves one reader to its end.
pub(crate) async fn serve<R: Runtime + 'static>(
    connected: &Rc<Connected<R>>,
    ask: ReadLogs,
    mut send: SendStream,
) -> Result<(), StreamEnd> {
    let room = connected.log_readers.try_acquire();
    let checked = match &room {
        Ok(_) => check(&ask),
        Err(_) => refuse(RefusalCode::Capacity, "too many read logs over this connection; try again later"),
    };
    let read = match checked {
        Ok(()) => read(connected, ask, &mut send).await?,
        Err(refusal) => Err(refusal),
    };
    match read {
        Ok(()) => {
            // Fails only if the stream has ended already.
            let _ = send.finish();
            Ok(())
        }
        Err(refusal) => answer(&mut send, &Answer::Refused(refusal)).await,
    }
}

fn check(ask: &ReadLogs) -> Result<(), Refusal> {
    if ask.after.len() > MAX_LOG_PLACES || ask.tail.is_some_and(|lines| lines > MAX_LOG_TAIL) {
        let text = format!("at most {MAX_LOG_TAIL} last lines and {MAX_LOG_PLACES} places may be asked for");
        return refuse(RefusalCode::Invalid, text);
    }
    Ok(())
}

fn refuse<T>(code: RefusalCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into() })
}

/// Sends existing and new output. The inner error is sent to the edge, the outer one says that the stream is gone.
async fn read<R: Runtime + 'static>(
    connected: &Connected<R>,
    ask: ReadLogs,
    send: &mut SendStream,
) -> Result<Result<(), Refusal>, StreamEnd> {
    let mut stopped = pin!(send.stopped());
    let (logs, owner) = (connected.agent.runtime.logs(), connected.session.edge.clone());
    let mut reader = match blocking(move || Reader::open(&logs, &owner, ask)).await {
        Ok(reader) => reader,
        Err(refusal) => return Ok(Err(refusal)),
    };
    loop {
        // Taken before the files are read: an instance that ends meanwhile is read once more.
        let alive = connected.agent.instances.alive().into_iter().collect();
        let next = blocking(move || reader.batch(&alive).map(|next| (reader, next))).await;
        let (batch, rest);
        (reader, (batch, rest)) = match next {
            Ok(next) => next,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if batch != LogBatch::default() {
            frame::write(send, &Answer::Logs(batch)).await?;
        }
        match rest {
            Rest::More => {}
            Rest::Nothing => return Ok(Ok(())),
            Rest::Later => tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                _ = &mut stopped => return Err(StreamEnd::Gone),
            },
        }
    }
}

/// Runs work that waits for the disk on a blocking thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let done =
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    done.or_else(|error| {
        tracing::warn!(%error, "cannot read logs of instances");
        refuse(RefusalCode::Other, format!("the node cannot read its logs: {error}"))
    })
}
