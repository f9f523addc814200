//! The log of one instance: its output by line, with time and stream, held under a size.
//!
//! A line: `2026-01-31T12:00:00.123Z stdout text`. When the file has half the size allowed it becomes `ID.log.1`, in
//! place of an older one, and a new file begins: the newest half at least is always there, and the app never waits.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Longest line kept in one piece, in bytes; longer ones are split.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// Lines and bytes that an instance may log in a second. What is more is read and dropped: writing it would cost the
/// node more than it costs the app, and push out what came before.
const MAX_LINES_PER_SECOND: u32 = 10_000;
const MAX_BYTES_PER_SECOND: usize = 2 << 20;
/// Length of the time that is counted over.
const SECOND: Duration = Duration::from_secs(1);

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// An open log.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    written: u64,
    half: u64,
    budget: Budget,
}

impl Log {
    /// A new log that takes at most `limit` bytes in its two files.
    pub(crate) fn create(path: &Path, limit: u64) -> io::Result<Self> {
        let file = open(path)?;
        Ok(Self { path: path.to_owned(), file, written: 0, half: limit / 2, budget: Budget::new() })
    }

    /// Writes lines of the same moment, those that the budget allows. Errors are the log's alone: a full disk must not
    /// stop the instance.
    fn write<'a>(&mut self, stream: Stream, lines: impl Iterator<Item = &'a [u8]>) {
        let mut text = Vec::new();
        let start = format!("{} {} ", humantime::format_rfc3339_millis(SystemTime::now()), stream.name());
        let mut append = |line: &[u8]| {
            text.extend_from_slice(start.as_bytes());
            text.extend_from_slice(line);
            text.push(b'\n');
        };
        self.budget.renew(Instant::now());
        if let Some(dropped) = self.budget.dropped_before() {
            append(
                format!("[{dropped} lines dropped: more than an instance may log in a second]").as_bytes(),
            );
        }
        lines.filter(|line| self.budget.allows(line.len())).for_each(append);
        self.append(&text);
    }

    fn append(&mut self, text: &[u8]) {
        let length = text.len() as u64;
        if self.written > 0 && self.written + length > self.half && self.rotate().is_err() {
            return;
        }
        if self.file.write_all(text).is_ok() {
            self.written += length;
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, self.path.with_extension("log.1"))?;
        self.file = open(&self.path)?;
        self.written = 0;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Cuts one stream into lines.
pub(crate) struct Lines {
    stream: Stream,
    pending: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// Takes what was read, and writes the lines that are complete.
    pub(crate) fn push(&mut self, bytes: &[u8], log: &mut Log) {
        self.pending.extend_from_slice(bytes);
        let mut used = 0;
        let pending = &self.pending;
        let lines = std::iter::from_fn(|| {
            let (line, length) = next_line(&pending[used..])?;
            used += length;
            Some(line)
        });
        log.write(self.stream, lines);
        self.pending.drain(..used);
    }

    /// Writes what is left without a newline.
    pub(crate) fn finish(&mut self, log: &mut Log) {
        if !self.pending.is_empty() {
            log.write(self.stream, std::iter::once(self.pending.as_slice()));
            self.pending.clear();
        }
    }
}

fn next_line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    match bytes.iter().take(MAX_LINE_BYTES).position(|b| *b == b'\n') {
        Some(end) => Some((&bytes[..end], end + 1)),
        None if bytes.len() >= MAX_LINE_BYTES => Some((&bytes[..MAX_LINE_BYTES], MAX_LINE_BYTES)),
        None => None,
    }
}

/// What may still be logged in this second.
struct Budget {
    since: Instant,
    lines: u32,
    bytes: usize,
    dropped: u64,
    /// Dropped in seconds that are over, and not yet told.
    untold: u64,
}

impl Budget {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            lines: MAX_LINES_PER_SECOND,
            bytes: MAX_BYTES_PER_SECOND,
            dropped: 0,
            untold: 0,
        }
    }

    fn renew(&mut self, now: Instant) {
        if now.duration_since(self.since) >= SECOND {
            let untold = self.untold + self.dropped;
            *self = Self { since: now, untold, ..Self::new() };
        }
    }

    fn dropped_before(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.untold)).filter(|dropped| *dropped > 0)
    }

    fn allows(&mut self, bytes: usize) -> bool {
        let left = self.lines.checked_sub(1).zip(self.bytes.checked_sub(bytes));
        match left {
            Some((lines, bytes)) => (self.lines, self.bytes) = (lines, bytes),
            None => self.dropped += 1,
        }
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_kept_under_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = Log::create(&path, 2000).unwrap();
        let mut lines = Lines::new(Stream::Stdout);
        lines.push(b"one\ntw", &mut log);
        lines.push(b"o\nthree", &mut log);
        lines.finish(&mut log);
        let text = fs::read_to_string(&path).unwrap();
        let said: Vec<_> = text.lines().map(|l| l.split_once(" stdout ").unwrap().1).collect();
        assert_eq!(said, ["one", "two", "three"]);
        for _ in 0..1000 {
            lines.push(b"0123456789\n", &mut log);
        }
        let size = |p: &Path| fs::metadata(p).unwrap().len();
        assert!(size(&path) + size(&path.with_extension("log.1")) < 2200);
    }

    #[test]
    fn a_flood_is_dropped_and_told_of_once_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = Log::create(&path, 64 << 20).unwrap();
        let mut lines = Lines::new(Stream::Stdout);
        lines.push(&b"\n".repeat(3 * MAX_LINES_PER_SECOND as usize), &mut log);
        let kept = fs::read_to_string(&path).unwrap().lines().count();
        assert_eq!(kept, MAX_LINES_PER_SECOND as usize);
        log.budget.since -= SECOND;
        lines.push(b"calm\n", &mut log);
        let text = fs::read_to_string(&path).unwrap();
        let told = text.lines().rev().nth(1).unwrap();
        assert!(told.contains(&format!("[{} lines dropped", 2 * MAX_LINES_PER_SECOND)), "{told}");
    }

    #[test]
    fn endless_lines_are_split() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::create(&dir.path().join("x.log"), 1 << 20).unwrap();
        let mut lines = Lines::new(Stream::Stderr);
        lines.push(&vec![b'a'; 3 * MAX_LINE_BYTES], &mut log);
        assert!(lines.pending.is_empty());
        assert_eq!(fs::read_to_string(dir.path().join("x.log")).unwrap().lines().count(), 3);
    }
}
