//! Merges the lines of several nodes, each sorted, into one sequence by time; with a limit, only the last lines. Pure:
//! does no input or output.

use std::collections::VecDeque;

use berth_common::clock::wall_ms;

use super::{LineContent, NodeLine};

/// Bytes of text that are kept until it is known which lines are the last.
const MAX_TAIL_BYTES: usize = 16 << 20;

/// Merges the lines of several sources.
pub(super) struct Merge {
    sources: Vec<Source>,
    tail: Option<Tail>,
}

#[derive(Default)]
struct Source {
    lines: VecDeque<NodeLine>,
    complete: bool,
}

/// The last lines so far.
struct Tail {
    wanted: usize,
    lines: VecDeque<NodeLine>,
    bytes: usize,
    /// Lines that are wanted, but were dropped because they are too long together.
    left_out: usize,
}

impl Merge {
    pub(super) fn new(sources: usize, tail: Option<u32>) -> Self {
        let tail = tail.map(|wanted| Tail {
            wanted: usize::try_from(wanted).unwrap_or(usize::MAX),
            lines: VecDeque::new(),
            bytes: 0,
            left_out: 0,
        });
        Self { sources: (0..sources).map(|_| Source::default()).collect(), tail }
    }

    /// A source without a known next line: it must deliver before a line can be taken.
    pub(super) fn blocked_on(&self) -> Option<usize> {
        self.sources.iter().position(|source| source.lines.is_empty() && !source.complete)
    }

    pub(super) fn add(&mut self, index: usize, lines: Vec<NodeLine>) {
        self.sources[index].lines.extend(lines);
    }

    /// A source has delivered all its existing lines.
    pub(super) fn complete(&mut self, index: usize) {
        self.sources[index].complete = true;
    }

    /// Whether everything was delivered and taken.
    pub(super) fn is_done(&self) -> bool {
        self.sources.iter().all(|source| source.complete && source.lines.is_empty())
    }

    /// Takes the next lines, until a source without a known line blocks. With a limit, the last lines stay here.
    pub(super) fn take(&mut self, most: usize) -> Vec<NodeLine> {
        let mut taken = Vec::new();
        for _ in 0..most {
            let Some(line) = self.next() else { break };
            match (&mut self.tail, line.written()) {
                (Some(tail), Some(bytes)) => tail.push(line, bytes),
                _ => taken.push(line),
            }
        }
        taken
    }

    fn next(&mut self) -> Option<NodeLine> {
        if self.blocked_on().is_some() {
            return None;
        }
        let first = |source: &Source| source.lines.front().map(NodeLine::time_ms);
        let times = self.sources.iter().enumerate();
        let (_, index) = times.filter_map(|(index, source)| Some((first(source)?, index))).min()?;
        self.sources[index].lines.pop_front()
    }

    /// The last lines, once everything was taken.
    pub(super) fn finish(self) -> Vec<NodeLine> {
        self.tail.map(Tail::finish).unwrap_or_default()
    }
}

impl Tail {
    fn push(&mut self, line: NodeLine, bytes: usize) {
        self.lines.push_back(line);
        self.bytes += bytes;
        while self.lines.len() > self.wanted || self.bytes > MAX_TAIL_BYTES {
            self.left_out += usize::from(self.lines.len() <= self.wanted);
            let Some(bytes) = self.lines.pop_front().and_then(|line| line.written()) else { break };
            self.bytes -= bytes;
        }
        // With enough newer lines, the dropped ones are not missing any more.
        if self.lines.len() == self.wanted {
            self.left_out = 0;
        }
    }

    fn finish(self) -> Vec<NodeLine> {
        let mut lines = Vec::new();
        if let Some(first) = self.lines.front().filter(|_| self.left_out > 0) {
            let count = self.wanted - self.lines.len();
            let text = format!("[up to {count} of the last lines are left out: together they are too long]");
            lines.push(NodeLine {
                node: first.node.clone(),
                content: LineContent::Remark { time_ms: wall_ms(), text },
            });
        }
        lines.extend(self.lines);
        lines
    }
}

#[cfg(test)]
pub(super) mod tests {
    use berth_common::ids::{InstanceId, ObjectKey};
    use berth_common::wire::logs::{LogRecord, LogStream};

    use super::*;

    pub(crate) fn line(node: &str, time_ms: u64, text: &str) -> NodeLine {
        let object =
            ObjectKey { app: "a".parse().unwrap(), class: "C".parse().unwrap(), name: "x".parse().unwrap() };
        let record = LogRecord {
            time_ms,
            object,
            instance: InstanceId::from_bytes([1; 16]),
            stream: LogStream::Stdout,
            text: text.to_owned(),
            next: time_ms,
        };
        NodeLine { node: node.parse().unwrap(), content: LineContent::Record(record) }
    }

    fn lines(node: &str, times: &[u64]) -> Vec<NodeLine> {
        times.iter().map(|time| line(node, *time, "x")).collect()
    }

    fn times(lines: &[NodeLine]) -> Vec<u64> {
        lines.iter().map(NodeLine::time_ms).collect()
    }

    #[test]
    fn nothing_is_taken_before_every_source_has_delivered() {
        let mut merge = Merge::new(2, None);
        merge.add(0, lines("n1", &[1, 5]));
        assert_eq!(merge.blocked_on(), Some(1));
        assert!(merge.take(10).is_empty());
        merge.add(1, lines("n2", &[2, 3]));
        // After 3 there may be a 4.
        assert_eq!(times(&merge.take(10)), [1, 2, 3]);
        assert!(!merge.is_done());
        merge.complete(1);
        assert_eq!(times(&merge.take(10)), [5]);
        merge.complete(0);
        assert!(merge.is_done() && merge.finish().is_empty());
    }

    #[test]
    fn the_last_lines_are_those_of_all_sources_together() {
        let mut merge = Merge::new(2, Some(3));
        merge.add(0, lines("n1", &[1, 5, 6]));
        merge.add(1, lines("n2", &[2, 3, 7]));
        let remark = NodeLine::remark(&"n2".parse().unwrap(), "it was lost");
        merge.add(1, vec![remark.clone()]);
        merge.complete(0);
        merge.complete(1);
        assert_eq!(merge.take(100), [remark], "remarks are always shown");
        assert_eq!(times(&merge.finish()), [5, 6, 7]);
    }

    #[test]
    fn the_last_lines_are_bounded_in_size() {
        let mut merge = Merge::new(1, Some(100));
        let long = "x".repeat(1 << 20);
        merge.add(0, (0..20).map(|time| line("n1", time, &long)).collect());
        merge.complete(0);
        assert!(merge.take(100).is_empty());
        let last = merge.finish();
        assert!(matches!(&last[0].content, LineContent::Remark { text, .. } if text.contains("left out")));
        assert_eq!(times(&last[1..]), (4..20).collect::<Vec<_>>());
    }
}
