//! The log of one instance: its output by line, with time and stream, held under a size.
//!
//! A line: `2026-01-31T12:00:00.123Z stdout text`. When the file has half the size allowed it becomes `ID.log.1`, in
//! place of an older one, and a new file begins: the newest half at least is always there, and the app never waits.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Longest line kept in one piece, in bytes; longer ones are split.
const MAX_LINE_BYTES: usize = 16 * 1024;

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
}

impl Log {
    /// A new log that takes at most `limit` bytes in its two files.
    pub(crate) fn create(path: &Path, limit: u64) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: open(path)?, written: 0, half: limit / 2 })
    }

    /// Writes one line. Errors are the log's alone: a full disk must not stop the instance.
    fn line(&mut self, stream: Stream, text: &[u8]) {
        if self.written >= self.half && self.rotate().is_err() {
            return;
        }
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        let mut line = format!("{time} {} ", stream.name()).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        if self.file.write_all(&line).is_ok() {
            self.written += line.len() as u64;
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
        while let Some((line, used)) = next_line(&self.pending) {
            log.line(self.stream, line);
            self.pending.drain(..used);
        }
    }

    /// Writes what is left without a newline.
    pub(crate) fn finish(&mut self, log: &mut Log) {
        if !self.pending.is_empty() {
            log.line(self.stream, &self.pending);
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
    fn endless_lines_are_split() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::create(&dir.path().join("x.log"), 1 << 20).unwrap();
        let mut lines = Lines::new(Stream::Stderr);
        lines.push(&vec![b'a'; 3 * MAX_LINE_BYTES], &mut log);
        assert!(lines.pending.is_empty());
        assert_eq!(fs::read_to_string(dir.path().join("x.log")).unwrap().lines().count(), 3);
    }
}
