//! The format of lines in a log file.
//!
//! ```text
//! 2026-01-31T12:00:00.123Z stdout text               output of the app
//! 2026-01-31T12:00:00.123Z berth [3 lines dropped]   a remark of Berth
//! 2026-01-31T12:00:00.123Z berth goes on at byte 4711   the first line of every file but the log's first
//! ```

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use berth_common::wire::logs::LogStream;

/// The text of the first line of a later file, before the offset.
const GOES_ON: &str = "goes on at byte ";

/// A parsed line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParsedLine<'a> {
    /// Output or a remark.
    Text {
        /// In milliseconds since 1970.
        time_ms: u64,
        /// The stream.
        stream: LogStream,
        /// The text without the line break.
        text: &'a [u8],
    },
    /// The start of a later file of the log.
    Start {
        /// The offset of the file in the log, in bytes.
        at: u64,
    },
    /// Not a valid line, as after a full disk or a crash of the machine.
    Torn,
}

/// The prefix of the lines that were written at one time.
pub fn prefix(time: SystemTime, stream: LogStream) -> String {
    format!("{} {} ", humantime::format_rfc3339_millis(time), stream.name())
}

/// The first line of a file that begins at this offset of its log.
pub fn start(time: SystemTime, at: u64) -> String {
    format!("{}{GOES_ON}{at}\n", prefix(time, LogStream::Berth))
}

/// Parses a line without its line break.
pub fn parse(line: &[u8]) -> ParsedLine<'_> {
    read(line).unwrap_or(ParsedLine::Torn)
}

fn read(line: &[u8]) -> Option<ParsedLine<'_>> {
    let (time, rest) = word(line)?;
    let (stream, text) = word(rest)?;
    let stream = LogStream::of_name(stream)?;
    let time = humantime::parse_rfc3339(std::str::from_utf8(time).ok()?).ok()?;
    if stream == LogStream::Berth
        && let Some(at) = text.strip_prefix(GOES_ON.as_bytes())
    {
        return Some(ParsedLine::Start { at: std::str::from_utf8(at).ok()?.parse().ok()? });
    }
    Some(ParsedLine::Text { time_ms: unix_ms(time), stream, text })
}

fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b' ')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// The path of a log's older file.
pub fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// Milliseconds since 1970.
pub fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let time = UNIX_EPOCH + Duration::from_millis(1_769_860_800_123);
        for (stream, text) in
            [(LogStream::Stdout, &b"a b"[..]), (LogStream::Stderr, b""), (LogStream::Berth, b"\xff")]
        {
            let mut line = prefix(time, stream).into_bytes();
            line.extend_from_slice(text);
            assert_eq!(parse(&line), ParsedLine::Text { time_ms: 1_769_860_800_123, stream, text });
        }
        assert_eq!(parse(start(time, 4711).trim_end().as_bytes()), ParsedLine::Start { at: 4711 });
    }

    #[test]
    fn an_app_cannot_write_what_only_berth_writes() {
        let mut line = prefix(UNIX_EPOCH, LogStream::Stdout).into_bytes();
        line.extend_from_slice(b"goes on at byte 7");
        assert!(matches!(parse(&line), ParsedLine::Text { stream: LogStream::Stdout, .. }));
    }

    #[test]
    fn anything_else_is_torn() {
        for text in
            ["", "x", "2026-01-31T12:00:00.123Z", "2026-01-31T12:00:00.123Z stdout", "x stdout y", "\0\0\0"]
        {
            assert_eq!(parse(text.as_bytes()), ParsedLine::Torn, "{text:?}");
        }
    }
}
