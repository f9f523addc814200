//! Reads the output from one node for one reader: asks for it, passes it on, and after a lost connection asks again for
//! what comes after the last line received.
//!
//! ```text
//!               asked                       the stream ended, or refused for good
//! connecting ─────────▶ reading ─────────────────────────────────────────────────▶ end
//!     ▲ │ not in time      │ lost                                                  ▲
//!     │ └─▶ told once ─────┤ again and again, or not in time: only a follower stays │
//!     └────────────────────┴───────────────────────────────────────────────────────┘
//! ```
//!
//! What fails, and what happens then:
//!
//! * Node not connected in time: one remark; only a follower keeps waiting, without limit.
//! * Connection lost: asked again after the last line received.
//! * Lost several times, and the reader does not follow: a remark, and the end.
//! * Node refuses: one remark; a follower asks again after a pause, unless the request is invalid.
//! * Client disconnects: the stream to the node is dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use berth_common::ids::{InstanceId, NodeId};
use berth_common::wire::call::{Answer, Call, Refusal, RefusalCode};
use berth_common::wire::frame;
use berth_common::wire::logs::{LogBatch, LogPlace, MAX_LOG_PLACES, ReadLogs};
use quinn::Connection;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{LineContent, NodeEvent, NodeLine, ReaderGone};
use crate::shard::link::LinkHandle;
use crate::shard::link::call::{self, CallError};

/// How long to wait for a node that is not connected: before anything is shown, and after its connection was lost.
const FIRST_WAIT: Duration = Duration::from_millis(300);
const NEXT_WAIT: Duration = Duration::from_secs(3);
/// Pause before a node is asked again after an error.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How many lost connections are not reported to a reader that does not follow: after an agent's restart, stale
/// connections may still look alive.
const MAX_LOSSES: u32 = 5;
/// Pause before a node is asked again that refused.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// An unlimited wait, in intervals: a node may come back after days.
const LONG_WAIT: Duration = Duration::from_secs(60 * 60);

/// Reads the output from one node.
pub(super) struct NodeReader {
    node: NodeId,
    link: Arc<LinkHandle>,
    ask: ReadLogs,
    events: mpsc::Sender<NodeEvent>,
    seen: Seen,
    /// All lines that existed at the start were passed on.
    caught_up: bool,
    /// The reader was told that something is wrong.
    warned: bool,
}

/// Why a node was not read to the end.
enum Broken {
    /// The reader is gone.
    ReaderGone,
    Lost(CallError),
    Refused(Refusal),
}

impl From<ReaderGone> for Broken {
    fn from(ReaderGone: ReaderGone) -> Self {
        Self::ReaderGone
    }
}

impl<E: Into<CallError>> From<E> for Broken {
    fn from(error: E) -> Self {
        Self::Lost(error.into())
    }
}

impl NodeReader {
    pub(super) fn new(
        node: NodeId,
        link: Arc<LinkHandle>,
        ask: ReadLogs,
        events: mpsc::Sender<NodeEvent>,
    ) -> Self {
        Self { node, link, ask, events, seen: Seen::default(), caught_up: false, warned: false }
    }

    /// Reads until there is no more, or the reader is gone.
    pub(super) async fn run(mut self) {
        // An error only means that the reader is gone; then nothing is left to do.
        let _ = self.read().await;
    }

    async fn read(&mut self) -> Result<(), ReaderGone> {
        let (mut wait, mut lost) = (FIRST_WAIT, 0);
        loop {
            let Some(connection) = self.connected(wait).await? else { return Ok(()) };
            wait = NEXT_WAIT;
            let pause = match self.read_from(&connection).await {
                Ok(()) => return Ok(()),
                Err(Broken::ReaderGone) => return Err(ReaderGone),
                Err(Broken::Refused(refusal)) => {
                    self.warn(format!("[{} does not show its output: {refusal}]", self.node)).await?;
                    // A busy node may have capacity later; a request that it does not understand will never succeed.
                    if refusal.code == RefusalCode::Invalid || !self.ask.follow {
                        return Ok(());
                    }
                    REFUSED_PAUSE
                }
                Err(Broken::Lost(error)) => {
                    tracing::debug!(node = %self.node, %error, "a reader of logs lost its node");
                    lost += 1;
                    RETRY_PAUSE
                }
            };
            if lost >= MAX_LOSSES && !self.ask.follow {
                let text = format!("[{} was lost while its output was read: some is missing]", self.node);
                return self.warn(text).await;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// A connection to the node; `None` if waiting any longer is pointless.
    async fn connected(&mut self, wait: Duration) -> Result<Option<Connection>, ReaderGone> {
        if let Some(connection) = self.link.connected(Instant::now() + wait).await {
            return Ok(Some(connection));
        }
        let rest = if self.ask.follow { "is shown once it is back" } else { "is missing" };
        self.warn(format!("[{} is not connected: its output {rest}]", self.node)).await?;
        if !self.ask.follow {
            return Ok(None);
        }
        loop {
            if let Some(connection) = self.link.connected(Instant::now() + LONG_WAIT).await {
                return Ok(Some(connection));
            }
        }
    }

    /// Reports a problem once until it is solved, and marks the node's existing lines as complete: others must not wait
    /// for it.
    async fn warn(&mut self, text: String) -> Result<(), ReaderGone> {
        if !std::mem::replace(&mut self.warned, true) {
            self.send(NodeEvent::Lines(vec![NodeLine::remark(&self.node, text)])).await?;
        }
        self.send(NodeEvent::CaughtUp).await
    }

    async fn read_from(&mut self, connection: &Connection) -> Result<(), Broken> {
        let ask = ReadLogs {
            // Lines that were left out the first time stay out; all later output is wanted.
            tail: self.ask.tail.filter(|_| !self.caught_up),
            after: self.seen.places(),
            ..self.ask.clone()
        };
        let mut answers = call::open(connection, &Call::Logs(ask)).await?;
        loop {
            match frame::read(&mut answers).await? {
                Some(Answer::Logs(batch)) => self.take(batch).await?,
                Some(Answer::Refused(refusal)) => return Err(Broken::Refused(refusal)),
                Some(_) => return Err(CallError::Unexpected.into()),
                None if self.ask.follow => return Err(CallError::NoAnswer.into()),
                None => return Ok(()),
            }
        }
    }

    async fn take(&mut self, batch: LogBatch) -> Result<(), ReaderGone> {
        self.warned = false;
        let LogBatch { mut records, caught_up } = batch;
        // A node that lies must not put words into another app's mouth.
        records.retain(|record| self.ask.of.wants(&record.object));
        let places: Vec<_> =
            records.iter().map(|record| LogPlace { instance: record.instance, at: record.next }).collect();
        if !records.is_empty() {
            let line = |record| NodeLine { node: self.node.clone(), content: LineContent::Record(record) };
            self.send(NodeEvent::Lines(records.into_iter().map(line).collect())).await?;
        }
        self.seen.reached(places);
        if let Some(places) = caught_up {
            self.seen.reached(places);
            self.caught_up = true;
            self.send(NodeEvent::CaughtUp).await?;
        }
        Ok(())
    }

    async fn send(&self, event: NodeEvent) -> Result<(), ReaderGone> {
        self.events.send(event).await.map_err(|_| ReaderGone)
    }
}

/// The position up to which the output of each instance was passed on; of the latest instances, as many as a call may
/// name.
#[derive(Debug, Default)]
struct Seen {
    places: HashMap<InstanceId, u64>,
    /// In order of their last line.
    order: VecDeque<InstanceId>,
}

impl Seen {
    fn reached(&mut self, places: Vec<LogPlace>) {
        for LogPlace { instance, at } in places {
            let known = self.places.entry(instance).or_insert_with(|| {
                self.order.push_back(instance);
                0
            });
            *known = (*known).max(at);
        }
        while self.order.len() > MAX_LOG_PLACES {
            let oldest = self.order.pop_front();
            oldest.map(|oldest| self.places.remove(&oldest));
        }
    }

    fn places(&self) -> Vec<LogPlace> {
        self.places.iter().map(|(instance, at)| LogPlace { instance: *instance, at: *at }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_place(number: usize, at: u64) -> LogPlace {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        LogPlace { instance: InstanceId::from_bytes(bytes), at }
    }

    #[test]
    fn places_only_grow_and_the_oldest_instances_are_forgotten() {
        let mut seen = Seen::default();
        seen.reached(vec![log_place(1, 10), log_place(2, 5), log_place(1, 0)]);
        let mut places = seen.places();
        places.sort_by_key(|place| place.instance);
        assert_eq!(places, [log_place(1, 10), log_place(2, 5)]);
        for number in 3..=MAX_LOG_PLACES + 1 {
            seen.reached(vec![log_place(number, 1)]);
        }
        assert_eq!(seen.places().len(), MAX_LOG_PLACES);
        assert!(!seen.places().contains(&log_place(1, 10)) && seen.places().contains(&log_place(2, 5)));
    }
}
