//! Reads the log of one instance from an offset on, while it may be written and rotated.
//!
//! The current file stays open, so it can be read to its end even if it is renamed or removed. Then the file that
//! continues at that offset is opened. If that was removed already, the number of missed bytes is reported.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use berth_common::wire::logs::LogStream;
use berth_shim::log::line::{self, ParsedLine, older};

/// Size of the read buffer, which every followed log has.
const BUFFER_BYTES: usize = 8 * 1024;
/// Longest line that is read in one piece: longer than any that the shim writes.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Bytes read at once when searching backwards from a log's end.
const CHUNK_BYTES: usize = 64 * 1024;

/// One line of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LogLine {
    pub(super) time_ms: u64,
    pub(super) stream: LogStream,
    pub(super) text: Vec<u8>,
    /// The offset after it.
    pub(super) next: u64,
}

/// A position in a log.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    open: Option<Open>,
    /// The offset of the next byte; `None` before anything was read.
    at: Option<u64>,
    /// A line whose end is not written yet.
    partial: Vec<u8>,
    /// The time of the last line.
    last_ms: u64,
    /// Missed bytes to report before the next line.
    missed: u64,
}

#[derive(Debug)]
struct Open {
    file: BufReader<File>,
    id: FileId,
}

/// Device and inode: identifies a file whatever its name.
type FileId = (u64, u64);

/// A file of a log.
struct Candidate {
    file: File,
    id: FileId,
    /// The offset of its beginning in the log.
    start: u64,
}

impl Cursor {
    /// At this offset, or at the oldest byte that exists.
    pub(super) fn new(path: PathBuf, at: Option<u64>) -> Self {
        Self { path, open: None, at, partial: Vec::new(), last_ms: 0, missed: 0 }
    }

    /// The next line, or `None` if no more is written yet.
    pub(super) fn next(&mut self) -> io::Result<Option<LogLine>> {
        if self.open.is_none() && !self.open_next(None)? {
            return Ok(None);
        }
        loop {
            if let Some(said) = self.read_on()? {
                return Ok(Some(said));
            }
            let Some(id) = self.replaced()? else { return Ok(None) };
            // It was replaced, so no more is written to it, but something may have been written just before.
            if let Some(said) = self.read_on()? {
                return Ok(Some(said));
            }
            self.partial.clear();
            if !self.open_next(Some(id))? {
                return Ok(None);
            }
        }
    }

    /// The offset after the last line.
    pub(super) fn place(&self) -> u64 {
        self.at.unwrap_or(0).saturating_sub(self.partial.len() as u64)
    }

    /// Closes the file. Reading continues at the same offset.
    pub(super) fn close(&mut self) {
        self.at = self.at.map(|_| self.place());
        self.partial.clear();
        self.open = None;
    }

    fn read_on(&mut self) -> io::Result<Option<LogLine>> {
        while let Some(bytes) = self.read_line()? {
            if let Some(said) = self.parse_line(bytes) {
                return Ok(Some(said));
            }
        }
        Ok(None)
    }

    fn read_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let room = MAX_LINE_BYTES - self.partial.len();
        let read = open.file.by_ref().take(room as u64).read_until(b'\n', &mut self.partial)?;
        self.at = Some(self.at.unwrap_or(0) + read as u64);
        let whole = self.partial.last() == Some(&b'\n');
        if !whole && self.partial.len() < MAX_LINE_BYTES {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.partial);
        if whole {
            line.pop();
        }
        Ok(Some(line))
    }

    fn parse_line(&mut self, bytes: Vec<u8>) -> Option<LogLine> {
        let next = self.at.unwrap_or(0);
        let said = match line::parse(&bytes) {
            ParsedLine::Start { .. } => return None,
            ParsedLine::Text { time_ms, stream, text } => {
                LogLine { time_ms, stream, text: text.to_owned(), next }
            }
            ParsedLine::Torn => {
                LogLine { time_ms: self.last_ms, stream: LogStream::Berth, text: bytes, next }
            }
        };
        self.last_ms = said.time_ms;
        Some(said)
    }

    /// How many bytes were removed before they could be read; resets the number.
    pub(super) fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }

    /// The id of the current file, if another one has replaced it.
    fn replaced(&self) -> io::Result<Option<FileId>> {
        let Some(open) = &self.open else { return Ok(None) };
        match fs::metadata(&self.path) {
            Ok(now) => Ok((id(&now) != open.id).then_some(open.id)),
            // In the middle of a rotation, or removed for good.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the file that contains the current offset, except the one that was read to its end; or else the next newer
    /// one.
    fn open_next(&mut self, exhausted: Option<FileId>) -> io::Result<bool> {
        let mut candidates = files(&self.path)?;
        candidates.retain(|candidate| Some(candidate.id) != exhausted);
        let wanted = self.at.unwrap_or(0);
        let holds = candidates.iter().filter(|file| file.start <= wanted).map(|file| file.start).max();
        let start = holds.or_else(|| candidates.iter().map(|file| file.start).min());
        let Some(mut found) = candidates.into_iter().find(|file| Some(file.start) == start) else {
            return Ok(false);
        };
        let from = wanted.max(found.start);
        self.missed += if self.at.is_some() { from - wanted } else { 0 };
        found.file.seek(SeekFrom::Start(from - found.start))?;
        self.at = Some(from);
        self.open = Some(Open { file: BufReader::with_capacity(BUFFER_BYTES, found.file), id: found.id });
        Ok(true)
    }
}

fn id(metadata: &fs::Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// The files of a log that are not empty, the older one first: in this order a concurrent rename shows a file twice
/// rather than not at all.
fn files(path: &Path) -> io::Result<Vec<Candidate>> {
    let mut found = Vec::new();
    for path in [older(path), path.to_owned()] {
        match File::open(&path) {
            Ok(file) => found.extend(candidate(file)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.dedup_by_key(|candidate| candidate.id);
    Ok(found)
}

fn candidate(mut file: File) -> io::Result<Option<Candidate>> {
    let mut first = Vec::new();
    BufReader::new(&mut file).take(BUFFER_BYTES as u64).read_until(b'\n', &mut first)?;
    if first.is_empty() {
        return Ok(None);
    }
    let start = match line::parse(first.trim_ascii_end()) {
        ParsedLine::Start { at } => at,
        ParsedLine::Text { .. } | ParsedLine::Torn => 0,
    };
    let id = id(&file.metadata()?);
    Ok(Some(Candidate { file, id, start }))
}

/// The offset from which on a log has this many lines, or `None` if it has no more than that.
pub(super) fn place_of_last(path: &Path, mut lines: u64) -> io::Result<Option<u64>> {
    for mut candidate in files(path)?.into_iter().rev() {
        match last_lines(&mut candidate.file, lines)? {
            Back::Found(offset) => return Ok(Some(candidate.start + offset)),
            // Later files of a log begin with a line of Berth's, which is not counted.
            Back::Only(found) => lines -= found.saturating_sub(u64::from(candidate.start > 0)).min(lines),
        }
    }
    Ok(None)
}

/// The result of searching one file backwards.
#[derive(Debug, PartialEq, Eq)]
enum Back {
    /// From this offset on there are as many lines as wanted.
    Found(u64),
    /// It has fewer: this many lines.
    Only(u64),
}

fn last_lines(file: &mut File, wanted: u64) -> io::Result<Back> {
    let end = file.metadata()?.len();
    let (mut from, mut found) = (end, 0);
    if wanted == 0 {
        return Ok(Back::Found(end));
    }
    let mut chunk = vec![0; CHUNK_BYTES];
    while from > 0 {
        let length = from.min(CHUNK_BYTES as u64);
        from -= length;
        let chunk = &mut chunk[..usize::try_from(length).unwrap_or(CHUNK_BYTES)];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(chunk)?;
        for (index, _) in chunk.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let behind = from + index as u64 + 1;
            if behind == end {
                continue;
            }
            found += 1;
            if found == wanted {
                return Ok(Back::Found(behind));
            }
        }
    }
    Ok(Back::Only(found + u64::from(end > 0)))
}

#[cfg(test)]
mod tests {
    use berth_common::spec::LogSpec;

    use super::*;
    use berth_shim::log::{Lines, Log};

    struct Writer {
        _directory: tempfile::TempDir,
        path: PathBuf,
        log: Log,
        lines: Lines,
    }

    impl Writer {
        fn new(bytes: u64) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("x.log");
            let log = Log::create(&path, &LogSpec { bytes, ..LogSpec::default() }).unwrap();
            Self { _directory: directory, path, log, lines: Lines::new(LogStream::Stdout) }
        }

        fn say(&mut self, numbers: std::ops::Range<u32>) {
            for number in numbers {
                self.lines.push(format!("{number}\n").as_bytes(), &mut self.log);
            }
        }

        fn cursor(&self) -> Cursor {
            Cursor::new(self.path.clone(), None)
        }
    }

    fn numbers(cursor: &mut Cursor) -> Vec<u32> {
        let texts = std::iter::from_fn(|| cursor.next().unwrap());
        texts.map(|said| String::from_utf8(said.text).unwrap().parse().unwrap()).collect()
    }

    fn range(from: u32, to: u32) -> Vec<u32> {
        (from..to).collect()
    }

    #[test]
    fn a_reader_gets_every_line_once_while_the_log_is_rotated_under_it() {
        let mut writer = Writer::new(2000);
        let mut cursor = writer.cursor();
        assert_eq!(numbers(&mut cursor), range(0, 0));
        for round in 0..50 {
            // Less than half of the log: at most one rotation between two reads.
            writer.say(round * 20..(round + 1) * 20);
            assert_eq!(numbers(&mut cursor), range(round * 20, (round + 1) * 20), "round {round}");
            assert_eq!(cursor.take_missed(), 0);
        }
    }

    #[test]
    fn a_reader_that_is_too_slow_gets_the_size_of_the_gap() {
        let mut writer = Writer::new(2000);
        let mut cursor = writer.cursor();
        writer.say(0..5);
        assert_eq!(numbers(&mut cursor), range(0, 5));
        let place = cursor.place();
        writer.say(5..500);
        let mut late = numbers(&mut cursor);
        let missed = cursor.take_missed();
        assert!(missed > 0, "nothing was missed");
        // The open file is read to its end although it was removed; then there is one gap.
        let gaps = late.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
        assert!(gaps == 1 && late.pop() == Some(499), "{gaps} gaps");
        // A reader that resumes at an offset that was removed long ago.
        let mut back = Cursor::new(writer.path.clone(), Some(place));
        let first = back.next().unwrap().unwrap();
        let length = first.next - place - back.take_missed();
        assert!(length < 200, "the first line and the start of its file take {length} bytes");
    }

    #[test]
    fn a_reader_resumes_where_it_was() {
        let mut writer = Writer::new(4000);
        writer.say(0..10);
        let mut cursor = writer.cursor();
        assert_eq!(numbers(&mut cursor), range(0, 10));
        let place = cursor.place();
        writer.say(10..70);
        assert!(older(&writer.path).exists(), "it was not rotated");
        let mut back = Cursor::new(writer.path.clone(), Some(place));
        assert_eq!(numbers(&mut back), range(10, 70));
        assert_eq!(back.take_missed(), 0);
        back.close();
        writer.say(70..75);
        assert_eq!(numbers(&mut back), range(70, 75));
    }

    #[test]
    fn a_line_is_given_once_its_end_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let mut cursor = Cursor::new(path.clone(), None);
        let line = b"2026-01-31T12:00:00.123Z stderr a\xffb\n";
        fs::write(&path, &line[..20]).unwrap();
        assert_eq!(cursor.next().unwrap(), None);
        assert_eq!(cursor.place(), 0);
        fs::write(&path, line).unwrap();
        let said = cursor.next().unwrap().unwrap();
        assert_eq!(
            (said.stream, &said.text[..], said.next),
            (LogStream::Stderr, &b"a\xffb"[..], line.len() as u64)
        );
    }

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let mut writer = Writer::new(4000);
        assert_eq!(place_of_last(&writer.path, 3).unwrap(), None);
        writer.say(0..80);
        assert!(older(&writer.path).exists(), "it was not rotated");
        for wanted in [0, 1, 3, 30, 60] {
            let place = place_of_last(&writer.path, wanted).unwrap();
            let mut cursor = Cursor::new(writer.path.clone(), place);
            assert_eq!(
                numbers(&mut cursor),
                range(80 - u32::try_from(wanted).unwrap(), 80),
                "the last {wanted}"
            );
        }
        assert_eq!(place_of_last(&writer.path, 1000).unwrap(), None);
    }
}
