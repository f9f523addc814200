//! The output of instances, read from all nodes for one reader, and the lines of an app's program, which are here: first the
//! existing lines, merged by time; then, for a follower, new lines as they come.
//!
//! ```text
//! n1 ── node ──┐
//! n2 ── node ──┼─▶ merge by time, until each node has sent its existing lines ─▶ pass on as it comes ─▶ reader
//! n3 ── node ──┘
//! ```
//!
//! Every queue is bounded and waits for the reader, back to the files on the node: instances never wait.

mod merge;
mod node;
mod program;

use std::sync::Arc;

use berth_common::clock::wall_ms;
use berth_common::ids::NodeId;
use berth_common::wire::logs::{LogRecord, LogStream, ReadLogs};
use futures_util::StreamExt;
use futures_util::stream::select_all;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use self::merge::Merge;
use self::node::NodeReader;
use crate::programs::AppLog;
use crate::shard::link::Links;

/// Batches that may wait for a reader.
const WAITING_BATCHES: usize = 2;
/// Batches of one node that may wait to be merged.
const NODE_BATCHES: usize = 2;
/// Lines that are passed on together.
const BATCH_LINES: usize = 500;

/// A line, with the node that it is from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeLine {
    pub(crate) node: NodeId,
    pub(crate) content: LineContent,
}

/// The content of a line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LineContent {
    /// A line that an instance has written, or a remark of its node.
    Record(LogRecord),
    /// A line of an app's program.
    Program { time_ms: u64, stream: LogStream, text: String },
    /// A remark of the edge, with its time.
    Remark { time_ms: u64, text: String },
}

impl NodeLine {
    fn remark(node: &NodeId, text: impl Into<String>) -> Self {
        Self { node: node.clone(), content: LineContent::Remark { time_ms: wall_ms(), text: text.into() } }
    }

    fn time_ms(&self) -> u64 {
        match &self.content {
            LineContent::Record(record) => record.time_ms,
            LineContent::Program { time_ms, .. } | LineContent::Remark { time_ms, .. } => *time_ms,
        }
    }

    /// The length of what somebody's code has written, in bytes; none for a remark.
    fn written(&self) -> Option<usize> {
        match &self.content {
            LineContent::Record(record) => Some(record.text.len()),
            LineContent::Program { text, .. } => Some(text.len()),
            LineContent::Remark { .. } => None,
        }
    }
}

/// The log of a program, with the name that its lines are shown under: the edge's.
pub(crate) struct OwnLog {
    pub(crate) edge: NodeId,
    pub(crate) log: Arc<AppLog>,
}

/// A request to read.
pub(crate) struct LogRequest {
    pub(crate) ask: ReadLogs,
    own: Option<OwnLog>,
    lines: mpsc::Sender<Vec<NodeLine>>,
    /// One of the admin API's permits for watchers.
    _permit: OwnedSemaphorePermit,
}

impl LogRequest {
    /// A request to hand to a shard, and the receiver of its lines.
    pub(crate) fn new(
        ask: ReadLogs,
        own: Option<OwnLog>,
        permit: OwnedSemaphorePermit,
    ) -> (Self, mpsc::Receiver<Vec<NodeLine>>) {
        let (lines, arrive) = mpsc::channel(WAITING_BATCHES);
        (Self { ask, own, lines, _permit: permit }, arrive)
    }
}

/// Reads from all nodes, until there is no more or the reader is gone.
pub(crate) async fn read(links: &Links, request: LogRequest) {
    let gone = request.lines.clone();
    tokio::select! {
        _ = read_all(links, request) => {}
        () = gone.closed() => {}
    }
}

/// What the reader of one node reports.
#[derive(Debug)]
enum NodeEvent {
    Lines(Vec<NodeLine>),
    /// All lines that existed at the start were passed on.
    CaughtUp,
}

/// The client has disconnected.
#[derive(Debug)]
struct ReaderGone;

async fn read_all(links: &Links, request: LogRequest) -> Result<(), ReaderGone> {
    // Dropping the set stops the readers of all nodes.
    let mut readers = JoinSet::new();
    let mut nodes = Vec::new();
    for (node, link) in links.all() {
        let (events_in, events) = mpsc::channel(NODE_BATCHES);
        readers.spawn(NodeReader::new(node, link, request.ask.clone(), events_in).run());
        nodes.push(events);
    }
    if let Some(own) = request.own {
        let (events_in, events) = mpsc::channel(NODE_BATCHES);
        readers.spawn(program::read(own, request.ask.since_ms, events_in));
        nodes.push(events);
    }
    let out = Output { to: &request.lines };
    let nodes = out.merged(nodes, request.ask.tail).await?;
    if request.ask.follow {
        out.pass_on(nodes).await?;
    }
    Ok(())
}

/// The way to the client.
struct Output<'a> {
    to: &'a mpsc::Sender<Vec<NodeLine>>,
}

impl Output<'_> {
    async fn send(&self, lines: Vec<NodeLine>) -> Result<(), ReaderGone> {
        if lines.is_empty() { Ok(()) } else { self.to.send(lines).await.map_err(|_| ReaderGone) }
    }

    /// Sends the existing lines, ordered by time; returns the nodes that may have more.
    async fn merged(
        &self,
        mut nodes: Vec<mpsc::Receiver<NodeEvent>>,
        tail: Option<u32>,
    ) -> Result<Vec<mpsc::Receiver<NodeEvent>>, ReaderGone> {
        let mut merge = Merge::new(nodes.len(), tail);
        loop {
            if let Some(index) = merge.blocked_on() {
                match nodes[index].recv().await {
                    Some(NodeEvent::Lines(lines)) => merge.add(index, lines),
                    Some(NodeEvent::CaughtUp) | None => merge.complete(index),
                }
            } else {
                let lines = merge.take(BATCH_LINES);
                if lines.is_empty() && merge.is_done() {
                    break;
                }
                self.send(lines).await?;
            }
        }
        self.send(merge.finish()).await?;
        Ok(nodes)
    }

    /// Sends new lines as they come.
    async fn pass_on(&self, nodes: Vec<mpsc::Receiver<NodeEvent>>) -> Result<(), ReaderGone> {
        let mut events = select_all(nodes.into_iter().map(ReceiverStream::new));
        while let Some(event) = events.next().await {
            if let NodeEvent::Lines(lines) = event {
                self.send(lines).await?;
            }
        }
        Ok(())
    }
}
