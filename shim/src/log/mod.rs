//! Writes the log of one instance: its output by line, with time and stream, limited in size and age.
//!
//! When the file has half the size allowed, or its first line is older than lines are kept, it becomes `ID.log.1`, in
//! place of an older one, and a new file begins: the newest half at least is always there, and the app never waits. The
//! agent reads them; `line` has the format of a line.

pub mod line;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use berth_common::spec::LogSpec;
use berth_common::wire::logs::LogStream;

use self::line::older;

/// Longest line kept in one piece, in bytes; longer ones are split.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// Most lines and bytes that an instance may log per second. More is read and dropped: writing it would cost the node
/// more than the app, and displace earlier output.
const MAX_LINES_PER_SECOND: u32 = 10_000;
const MAX_BYTES_PER_SECOND: usize = 2 << 20;
/// Below this many bytes the budget counts as used up.
const USUAL_LINE_BYTES: usize = 1024;
/// The period of that budget.
const SECOND: Duration = Duration::from_secs(1);

/// Where output goes.
pub struct Log {
    /// `None` if output is not kept.
    kept: Option<Kept>,
    budget: Budget,
}

/// The current log file.
struct Kept {
    path: PathBuf,
    file: File,
    /// Its offset in the log.
    start: u64,
    written: u64,
    half: u64,
    retention: Duration,
    /// Times of its first and last line. Times of lines never go back, even if the clock does.
    first: Option<SystemTime>,
    last: SystemTime,
}

impl Log {
    /// A new log, or one that drops all output, as the spec says.
    pub fn create(path: &Path, spec: &LogSpec) -> io::Result<Self> {
        let kept = if spec.enabled { Some(Kept::create(path, spec)?) } else { None };
        Ok(Self { kept, budget: Budget::new() })
    }

    /// Writes lines of one time, as far as the budget allows. Write errors are ignored: a full disk must not stop the
    /// instance.
    fn write<'a>(&mut self, stream: LogStream, lines: impl Iterator<Item = &'a [u8]>) {
        let Some(kept) = &mut self.kept else { return lines.for_each(drop) };
        let now = SystemTime::now().max(kept.last);
        let prefix = line::prefix(now, stream);
        self.budget.renew(Instant::now());
        let mut entries = Entries::default();
        if let Some(dropped) = self.budget.dropped_before() {
            let text = format!(
                "[{dropped} lines dropped: more than an instance may log in a second, or than the disk takes]"
            );
            entries.push(&line::prefix(now, LogStream::Berth), text.as_bytes());
        }
        let mut lost = 0;
        for line in lines.filter(|line| self.budget.allows(line.len())) {
            if !kept.has_room(entries.bytes() + prefix.len() + line.len() + 1) {
                lost += kept.append(&mut entries, now);
            }
            entries.push(&prefix, line);
        }
        self.budget.lost += lost + kept.append(&mut entries, now);
    }

    /// Whether nothing more is kept at present.
    fn is_closed(&mut self) -> bool {
        self.budget.renew(Instant::now());
        self.kept.is_none() || self.budget.is_spent()
    }

    /// Writes a remark, whatever the budget of the second is: for the few that a container's life has.
    pub fn remark(&mut self, text: &str) {
        let Some(kept) = &mut self.kept else { return };
        let now = SystemTime::now().max(kept.last);
        let mut entries = Entries::default();
        entries.push(&line::prefix(now, LogStream::Berth), one_line(text).as_bytes());
        self.budget.lost += kept.append(&mut entries, now);
    }

    /// Writes the remark about dropped lines, if any, at the end of the output.
    pub fn finish(&mut self) {
        self.budget.end();
        self.write(LogStream::Berth, std::iter::empty());
    }
}

/// A message may have several lines, and may be another's: a log has one each.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Formatted lines to be written.
#[derive(Default)]
struct Entries {
    text: Vec<u8>,
    count: u64,
}

impl Entries {
    fn push(&mut self, prefix: &str, line: &[u8]) {
        self.text.extend_from_slice(prefix.as_bytes());
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
        self.count += 1;
    }

    fn bytes(&self) -> usize {
        self.text.len()
    }
}

impl Kept {
    fn create(path: &Path, spec: &LogSpec) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: open(path)?,
            start: 0,
            written: 0,
            half: spec.bytes / 2,
            retention: spec.retention,
            first: None,
            last: SystemTime::UNIX_EPOCH,
        })
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.written + bytes as u64 <= self.half
    }

    /// Writes lines, all of them or none. Returns how many were lost.
    fn append(&mut self, entries: &mut Entries, now: SystemTime) -> u64 {
        let Entries { text, count } = std::mem::take(entries);
        if count == 0 {
            return 0;
        }
        let aged = |first| now.duration_since(first).is_ok_and(|age| age > self.retention);
        let over = !self.has_room(text.len()) || self.first.is_some_and(aged);
        if self.first.is_some() && over && self.rotate(now).is_err() {
            return count;
        }
        if self.file.write_all(&text).is_err() {
            // Removes the partial write, else readers' offsets would be wrong.
            let _ = self.file.set_len(self.written);
            return count;
        }
        self.written += text.len() as u64;
        self.first.get_or_insert(now);
        self.last = now;
        0
    }

    /// The new file is complete with its first line before it is renamed.
    fn rotate(&mut self, now: SystemTime) -> io::Result<()> {
        let start = self.start + self.written;
        let first = line::start(now, start);
        let next = self.path.with_extension("log.next");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(first.as_bytes())?;
        fs::rename(&self.path, older(&self.path))?;
        fs::rename(&next, &self.path)?;
        *self = Self {
            path: std::mem::take(&mut self.path),
            file,
            start,
            written: first.len() as u64,
            half: self.half,
            retention: self.retention,
            first: None,
            last: self.last,
        };
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Splits one stream into lines.
pub struct Lines {
    stream: LogStream,
    pending: Vec<u8>,
    /// The rest of a line of which the beginning was dropped is dropped too.
    in_dropped: bool,
}

impl Lines {
    /// An empty splitter for this stream.
    pub fn new(stream: LogStream) -> Self {
        Self { stream, pending: Vec::new(), in_dropped: false }
    }

    /// Adds bytes, and writes the lines that are complete. Where nothing is kept any more, for the second or at all, they
    /// are dropped as they are, without a look at each line; then it is false.
    pub fn push(&mut self, bytes: &[u8], log: &mut Log) -> bool {
        if log.is_closed() {
            self.drop_all(bytes, log);
            return false;
        }
        let bytes = self.after_dropped(bytes, log);
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
        true
    }

    fn drop_all(&mut self, bytes: &[u8], log: &mut Log) {
        // The compiler makes this as fast as the bytes can be read.
        let ends = bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        log.budget.dropped += ends;
        self.pending.clear();
        self.in_dropped = bytes.last().is_some_and(|byte| *byte != b'\n');
    }

    /// What follows a line that was dropped; all of it, if the line has no end nearby.
    fn after_dropped<'a>(&mut self, bytes: &'a [u8], log: &mut Log) -> &'a [u8] {
        if !std::mem::take(&mut self.in_dropped) {
            return bytes;
        }
        match next_line(bytes) {
            Some((line, length)) if length > line.len() => {
                log.budget.dropped += 1;
                &bytes[length..]
            }
            _ => bytes,
        }
    }

    /// Writes the rest without a newline.
    pub fn finish(&mut self, log: &mut Log) {
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

/// The budget of the current second.
struct Budget {
    since: Instant,
    lines: u32,
    bytes: usize,
    dropped: u64,
    /// Dropped in this second.
    lost: u64,
    /// Dropped in earlier seconds, and not yet in a remark.
    untold: u64,
}

impl Budget {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            lines: MAX_LINES_PER_SECOND,
            bytes: MAX_BYTES_PER_SECOND,
            dropped: 0,
            lost: 0,
            untold: 0,
        }
    }

    fn renew(&mut self, now: Instant) {
        if now.duration_since(self.since) >= SECOND {
            self.end();
        }
    }

    /// Ends the second.
    fn end(&mut self) {
        let untold = self.untold + self.dropped + self.lost;
        *self = Self { untold, ..Self::new() };
    }

    fn dropped_before(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.untold)).filter(|dropped| *dropped > 0)
    }

    /// Whether not even one more line of a usual length is allowed.
    fn is_spent(&self) -> bool {
        self.lines == 0 || self.bytes < USUAL_LINE_BYTES
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

    fn of(bytes: u64) -> LogSpec {
        LogSpec { bytes, ..LogSpec::default() }
    }

    #[test]
    fn lines_are_cut_and_kept_under_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = Log::create(&path, &of(2000)).unwrap();
        let mut lines = Lines::new(LogStream::Stdout);
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
        let mut log = Log::create(&path, &of(64 << 20)).unwrap();
        let mut lines = Lines::new(LogStream::Stdout);
        lines.push(&b"\n".repeat(3 * MAX_LINES_PER_SECOND as usize), &mut log);
        let kept = fs::read_to_string(&path).unwrap().lines().count();
        assert_eq!(kept, MAX_LINES_PER_SECOND as usize);
        log.budget.since -= SECOND;
        lines.push(b"calm\n", &mut log);
        lines.push(&b"\n".repeat(MAX_LINES_PER_SECOND as usize), &mut log);
        log.finish();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.lines().next_back().unwrap().contains(" berth [1 lines dropped"), "the end is not told");
        let told = text.lines().nth(kept).unwrap();
        assert!(told.contains(&format!("[{} lines dropped", 2 * MAX_LINES_PER_SECOND)), "{told}");
    }

    #[test]
    fn what_is_dropped_by_the_chunk_is_counted_and_ends_with_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = Log::create(&path, &of(64 << 20)).unwrap();
        let mut lines = Lines::new(LogStream::Stdout);
        assert!(lines.push(&b"\n".repeat(MAX_LINES_PER_SECOND as usize), &mut log));
        assert!(!lines.push(b"lost\nlost too\nbegun and ", &mut log), "the budget is used up");
        log.budget.since -= SECOND;
        assert!(lines.push(b"lost\nkept\n", &mut log));
        let text = fs::read_to_string(&path).unwrap();
        let said: Vec<_> = text.lines().skip(MAX_LINES_PER_SECOND as usize).collect();
        assert!(
            said.len() == 2 && said[0].contains("[2 lines dropped") && said[1].ends_with(" kept"),
            "{said:?}"
        );
    }

    #[test]
    fn a_remark_is_one_line_and_is_written_when_the_budget_is_used_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = Log::create(&path, &of(1 << 20)).unwrap();
        log.budget.lines = 0;
        log.remark("[container ended: start failed: no such file\n2026-01-31T12:00:00.123Z stdout a lie]");
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.lines().count() == 1 && text.contains(" berth [container ended: start failed"),
            "{text}"
        );
    }

    #[test]
    fn endless_lines_are_split() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::create(&dir.path().join("x.log"), &of(1 << 20)).unwrap();
        let mut lines = Lines::new(LogStream::Stderr);
        lines.push(&vec![b'a'; 3 * MAX_LINE_BYTES], &mut log);
        assert!(lines.pending.is_empty());
        assert_eq!(fs::read_to_string(dir.path().join("x.log")).unwrap().lines().count(), 3);
    }
    #[test]
    fn a_flood_of_short_lines_stays_under_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = Log::create(&path, &of(64 << 10)).unwrap();
        let mut lines = Lines::new(LogStream::Stdout);
        let size = |p: &Path| fs::metadata(p).map_or(0, |found| found.len());
        for _ in 0..10 {
            lines.push(&b"\n".repeat(5000), &mut log);
            log.budget = Budget::new();
            assert!(size(&path) + size(&older(&path)) <= 64 << 10);
        }
        assert!(size(&older(&path)) > 0, "it was not rotated");
    }

    #[test]
    fn a_file_ends_once_its_first_line_is_too_old() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = Log::create(&path, &of(1 << 20)).unwrap();
        let mut lines = Lines::new(LogStream::Stdout);
        lines.push(b"old\n", &mut log);
        lines.push(b"also\n", &mut log);
        assert!(!older(&path).exists());
        let kept = log.kept.as_mut().unwrap();
        kept.first = kept.first.map(|first| first - LogSpec::default().retention - SECOND);
        lines.push(b"new\n", &mut log);
        let old = fs::read_to_string(older(&path)).unwrap();
        assert_eq!(old.lines().count(), 2);
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains(&format!(" berth goes on at byte {}\n", old.len())) && text.ends_with("new\n"),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_kept_where_that_is_not_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = Log::create(&path, &LogSpec { enabled: false, ..of(1 << 20) }).unwrap();
        let mut lines = Lines::new(LogStream::Stdout);
        lines.push(b"one\ntwo\nthree", &mut log);
        lines.finish(&mut log);
        assert!(lines.pending.is_empty() && fs::read_dir(dir.path()).unwrap().next().is_none());
    }

    #[test]
    fn lines_that_the_disk_does_not_take_are_told_of_and_leave_no_halves() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = Log::create(&path, &of(1 << 20)).unwrap();
        let mut lines = Lines::new(LogStream::Stdout);
        lines.push(b"one\n", &mut log);
        // What a full disk does: no write works any more.
        let good = std::mem::replace(&mut log.kept.as_mut().unwrap().file, File::open(&path).unwrap());
        lines.push(b"two\nthree\n", &mut log);
        log.kept.as_mut().unwrap().file = good;
        log.budget.since -= SECOND;
        lines.push(b"four\n", &mut log);
        let text = fs::read_to_string(&path).unwrap();
        let said: Vec<_> = text.lines().map(|line| line.splitn(3, ' ').nth(2).unwrap()).collect();
        assert!(said[0] == "one" && said[1].starts_with("[2 lines dropped") && said[2] == "four", "{text}");
    }
}
