//! The lines of an app's program, for one reader. They are in the edge's memory: nobody has to be asked.

use berth_common::ids::NodeId;
use berth_common::wire::logs::LogStream;
use berth_script::message::Level;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::{BATCH_LINES, LineContent, NodeEvent, NodeLine, OwnLog};
use crate::programs::ProgramLine;

/// Reads until the reader is gone: the lines that are kept, and then new ones.
pub(super) async fn read(own: OwnLog, since_ms: u64, events: mpsc::Sender<NodeEvent>) {
    let OwnLog { edge, log } = own;
    let (kept, mut fresh) = log.read();
    let kept: Vec<_> =
        kept.into_iter().filter(|line| line.time_ms >= since_ms).map(|line| shown(&edge, line)).collect();
    for batch in kept.chunks(BATCH_LINES) {
        if events.send(NodeEvent::Lines(batch.to_vec())).await.is_err() {
            return;
        }
    }
    let mut next = NodeEvent::CaughtUp;
    while events.send(next).await.is_ok() {
        next = match fresh.recv().await {
            Ok(line) => NodeEvent::Lines(vec![shown(&edge, line)]),
            Err(RecvError::Lagged(count)) => {
                NodeEvent::Lines(vec![NodeLine::remark(&edge, format!("[{count} lines are left out]"))])
            }
            Err(RecvError::Closed) => return,
        };
    }
}

fn shown(edge: &NodeId, ProgramLine { time_ms, level, text }: ProgramLine) -> NodeLine {
    let stream = match level {
        Level::Debug | Level::Log | Level::Info => LogStream::Stdout,
        Level::Warn | Level::Error => LogStream::Stderr,
    };
    NodeLine { node: edge.clone(), content: LineContent::Program { time_ms, stream, text } }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::programs::AppLog;
    use crate::script::VersionKey;

    #[tokio::test]
    async fn what_is_kept_comes_first_and_new_lines_behind_it() {
        let (log, version) = (Arc::<AppLog>::default(), VersionKey { app: "a".to_owned(), version: 1 });
        log.write(&version, Level::Log, "old".to_owned());
        let (events_in, mut events) = mpsc::channel(1);
        let own = OwnLog { edge: "e1".parse().unwrap(), log: Arc::clone(&log) };
        tokio::spawn(read(own, 0, events_in));
        let text = |event| match event {
            Some(NodeEvent::Lines(lines)) => match &lines[0].content {
                LineContent::Program { stream, text, .. } => format!("{} {text}", stream.name()),
                other => format!("{other:?}"),
            },
            other => format!("{other:?}"),
        };
        assert_eq!(text(events.recv().await), "stdout old");
        assert!(matches!(events.recv().await, Some(NodeEvent::CaughtUp)));
        log.write(&version, Level::Error, "new".to_owned());
        assert_eq!(text(events.recv().await), "stderr new");
    }
}
