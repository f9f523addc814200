//! What instances have written, read from all nodes for one reader: first what is there, merged by time; then, for one who
//! follows, what comes, as it comes.
//!
//! ```text
//! n1 ── node ──┐
//! n2 ── node ──┼─▶ merge by time, until all have told what was there ─▶ pass on as it comes ─▶ reader
//! n3 ── node ──┘
//! ```
//!
//! Each way is bounded and waits for the reader, up to the files on the node: instances never do.

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

/// A line, from which node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeLine {
    pub(crate) node: NodeId,
    pub(crate) what: What,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// What an instance has written, or its node has to say about that.
    Record(LogRecord),
    /// What the edge has to say, and when.
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

/// Somebody who wants to read.
pub(crate) struct Reading {
    pub(crate) ask: ReadLogs,
    lines: mpsc::Sender<Vec<NodeLine>>,
    /// Their place among those whom the admin API has room for.
    _permit: OwnedSemaphorePermit,
}

impl Reading {
    /// A reading to be handed to a shard, and where its lines arrive.
    pub(crate) fn new(ask: ReadLogs, permit: OwnedSemaphorePermit) -> (Self, mpsc::Receiver<Vec<NodeLine>>) {
        let (lines, arrive) = mpsc::channel(WAITING_BATCHES);
        (Self { ask, lines, _permit: permit }, arrive)
    }
}

/// Reads from all nodes, until there is no more or nobody reads.
pub(crate) async fn read(links: &Links, reading: Reading) {
    let gone = reading.lines.clone();
    tokio::select! {
        _ = read_all(links, reading) => {}
        () = gone.closed() => {}
    }
}

/// What a node's reader tells.
#[derive(Debug)]
enum News {
    Lines(Vec<NodeLine>),
    /// All that was there has been told.
    CaughtUp,
}

/// The reader has gone away.
#[derive(Debug)]
struct Gone;

async fn read_all(links: &Links, reading: Reading) -> Result<(), Gone> {
    // Whoever leaves takes them all along.
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

/// Towards the reader.
struct Out<'a> {
    to: &'a mpsc::Sender<Vec<NodeLine>>,
}

impl Out<'_> {
    async fn send(&self, lines: Vec<NodeLine>) -> Result<(), Gone> {
        if lines.is_empty() { Ok(()) } else { self.to.send(lines).await.map_err(|_| Gone) }
    }

    /// Sends what was there, by time; gives back the nodes that may have more.
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

    /// Sends what comes.
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
