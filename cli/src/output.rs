//! Results on standard output: lines, tables and JSON. Progress goes to standard error, and is written by other
//! modules.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::{Table, presets};
use serde::Serialize;

/// Writes one line. A reader that has gone away is an error that ends the command quietly.
pub(crate) fn line(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Writes a value as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(line(serde_json::to_string_pretty(value)?)?)
}

/// Writes rows under headings.
pub(crate) fn table(headings: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
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
