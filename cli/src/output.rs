//! Everything that is written for people: results on standard output as lines, tables and JSON, and notes on standard
//! error. It may hold texts of others, so that here, and nowhere else, what would steer a terminal is escaped; the lints
//! against printing hold all other modules to it.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_common::shown::{shown, shown_json, shown_lines};
use comfy_table::{Table, presets};
use serde::Serialize;

/// Writes a note for the user, as `eprintln!` does.
macro_rules! note {
    ($($text:tt)*) => { $crate::output::remark(format_args!($($text)*)) };
}
pub(crate) use note;

/// Writes one line, or several. A reader that has gone away is an error that ends the command quietly.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", shown_lines(&text.to_string()))
}

/// Writes a note on standard error. Nobody reads it if that fails.
pub(crate) fn remark(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{}", shown_lines(&text.to_string()));
}

/// Asks the user something: the answer is on the same line.
pub(crate) fn question(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{}", shown(text)).and_then(|()| stderr.flush());
}

/// Writes a value as it is; on a terminal as text, since it is of others.
pub(crate) fn bytes(value: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if stdout.is_terminal() {
        return write!(stdout, "{}", shown_lines(&String::from_utf8_lossy(value)));
    }
    stdout.write_all(value)
}

/// Writes a value as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(writeln!(io::stdout().lock(), "{}", shown_json(&text))?)
}

/// Writes rows under headings.
pub(crate) fn table(headings: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
    let cell = |cell: String| shown(&cell).into_owned();
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings.to_vec()).add_rows(rows);
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    line(table.lines().map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n"))
}

/// How long ago a moment was, to the second.
pub(crate) fn ago(unix_ms: u64, now: SystemTime) -> String {
    let then = UNIX_EPOCH + Duration::from_millis(unix_ms);
    match now.duration_since(then) {
        Ok(age) => format!("{} ago", humantime::format_duration(Duration::from_secs(age.as_secs()))),
        // Clocks differ a little between machines.
        Err(_) => "now".to_owned(),
    }
}

/// In how long a moment will be, to the second.
pub(crate) fn until(unix_ms: u64, now: SystemTime) -> String {
    let then = UNIX_EPOCH + Duration::from_millis(unix_ms);
    match then.duration_since(now) {
        Ok(wait) if wait.as_secs() > 0 => {
            format!("in {}", humantime::format_duration(Duration::from_secs(wait.as_secs())))
        }
        Ok(_) | Err(_) => "now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_whole_seconds() {
        let now = UNIX_EPOCH + Duration::from_millis(3_725_900);
        assert_eq!(ago(0, now), "1h 2m 5s ago");
        assert_eq!(ago(3_725_900, now), "0s ago");
        assert_eq!(ago(9_999_999, now), "now");
    }
}
