//! The output of instances, read from all nodes for one reader: first the existing lines, merged by time; then, for a
//! follower, new lines as they come.
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

use berth_common::clock::wall_ms;
use berth_common::ids::NodeId;
use berth_common::wire::logs::{LogRecord, ReadLogs};
use futures_util::StreamExt;
use futures_util::stream::select_all;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use self::merge::Merge;
use self::node::NodeReader;
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
    pub(crate) what: What,
}

/// The content of a line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// A line that an instance has written, or a remark of its node.
    Record(LogRecord),
    /// A remark of the edge, with its time.
    Remark { time_ms: u64, text: String },
}

impl NodeLine {
    fn remark(node: &NodeId, text: impl Into<String>) -> Self {
        Self { node: node.clone(), what: What::Remark { time_ms: wall_ms(), text: text.into() } }
    }

    fn time_ms(&self) -> u64 {
        match &self.what {
            What::Record(record) => record.time_ms,
            What::Remark { time_ms, .. } => *time_ms,
        }
    }
}

/// A request to read.
pub(crate) struct Reading {
    pub(crate) ask: ReadLogs,
    lines: mpsc::Sender<Vec<NodeLine>>,
    /// One of the admin API's permits for watchers.
    _permit: OwnedSemaphorePermit,
}

impl Reading {
    /// A request to hand to a shard, and the receiver of its lines.
    pub(crate) fn new(ask: ReadLogs, permit: OwnedSemaphorePermit) -> (Self, mpsc::Receiver<Vec<NodeLine>>) {
        let (lines, arrive) = mpsc::channel(WAITING_BATCHES);
        (Self { ask, lines, _permit: permit }, arrive)
    }
}

/// Reads from all nodes, until there is no more or the reader is gone.
pub(crate) async fn read(links: &Links, reading: Reading) {
    let gone = reading.lines.clone();
    tokio::select! {
        _ = read_all(links, reading) => {}
        () = gone.closed() => {}
    }
}

/// What the reader of one node reports.
#[derive(Debug)]
enum News {
    Lines(Vec<NodeLine>),
    /// All lines that existed at the start were passed on.
    CaughtUp,
}

/// The client has disconnected.
#[derive(Debug)]
struct Gone;

async fn read_all(links: &Links, reading: Reading) -> Result<(), Gone> {
    // Dropping the set stops the readers of all nodes.
    let mut readers = JoinSet::new();
    let mut nodes = Vec::new();
    for (node, link) in links {
        let (tell, news) = mpsc::channel(NODE_BATCHES);
        readers.spawn(NodeReader::new(node.clone(), link.clone(), reading.ask.clone(), tell).run());
        nodes.push(news);
    }
    let out = Out { to: &reading.lines };
    let nodes = out.merged(nodes, reading.ask.tail).await?;
    if reading.ask.follow {
        out.pass_on(nodes).await?;
    }
    Ok(())
}

/// The way to the client.
struct Out<'a> {
    to: &'a mpsc::Sender<Vec<NodeLine>>,
}

impl Out<'_> {
    async fn send(&self, lines: Vec<NodeLine>) -> Result<(), Gone> {
        if lines.is_empty() { Ok(()) } else { self.to.send(lines).await.map_err(|_| Gone) }
    }

    /// Sends the existing lines, ordered by time; returns the nodes that may have more.
    async fn merged(
        &self,
        mut nodes: Vec<mpsc::Receiver<News>>,
        tail: Option<u32>,
    ) -> Result<Vec<mpsc::Receiver<News>>, Gone> {
        let mut merge = Merge::new(nodes.len(), tail);
        loop {
            if let Some(index) = merge.lacking() {
                match nodes[index].recv().await {
                    Some(News::Lines(lines)) => merge.add(index, lines),
                    Some(News::CaughtUp) | None => merge.complete(index),
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
    async fn pass_on(&self, nodes: Vec<mpsc::Receiver<News>>) -> Result<(), Gone> {
        let mut news = select_all(nodes.into_iter().map(ReceiverStream::new));
        while let Some(news) = news.next().await {
            if let News::Lines(lines) = news {
                self.send(lines).await?;
            }
        }
        Ok(())
    }
}
