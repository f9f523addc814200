//! Everything that is written for people: results on standard output as lines, tables and JSON, and notes on standard
//! error. It may hold texts of others, so that here, and nowhere else, what would steer a terminal is escaped; the lints
//! against printing hold all other modules to it.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_common::shown::{shown, shown_json, shown_lines};
use comfy_table::{ContentArrangement, Table, presets};
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

/// Columns of a terminal that does not say how many it has, and the fewest that tables are made for.
const COLUMNS: u16 = 80;

/// Writes rows under headings. On a terminal long cells go on in the next line, so that the table fits; elsewhere each row is
/// one line, for those who search it.
pub(crate) fn table(headings: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
    line(arrange(headings, rows, width()))
}

/// The columns that there are: of the terminal, or as the variable COLUMNS says. `None` for no limit.
fn width() -> Option<u16> {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        Some(if size.ws_col == 0 { COLUMNS } else { size.ws_col })
    };
    let width: Option<u16> = io::stdout().is_terminal().then(terminal).flatten().or(said);
    width.map(|width| width.max(COLUMNS))
}

fn arrange(headings: &[&str], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let cell = |cell: String| shown(&cell).into_owned();
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings.to_vec()).add_rows(rows);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    let last = headings.len().saturating_sub(1);
    table.column_iter_mut().enumerate().for_each(|(index, column)| {
        column.set_padding((0, if index == last { 0 } else { 2 }));
    });
    table.lines().map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// The first digits of an id, which are enough to name it; with `--wide` all of them.
pub(crate) fn id(id: impl Display, wide: bool) -> String {
    let text = id.to_string();
    if wide { text } else { text.chars().take(SHORT_ID).collect() }
}

/// Digits of a short id: so many are shared by any two of a million objects once in five hundred such edges.
const SHORT_ID: usize = 12;
/// Parts of a duration that are shown: minutes and seconds, hours and minutes, days and hours.
const PARTS: usize = 2;

/// A duration to about a hundredth: its two largest parts.
pub(crate) fn about(duration: Duration) -> String {
    let whole = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    whole.split(' ').take(PARTS).collect::<Vec<_>>().join(" ")
}

/// About how long ago a moment was.
pub(crate) fn ago(unix_ms: u64, now: SystemTime) -> String {
    let then = UNIX_EPOCH + Duration::from_millis(unix_ms);
    match now.duration_since(then) {
        Ok(age) => format!("{} ago", about(age)),
        // Clocks differ a little between machines.
        Err(_) => "now".to_owned(),
    }
}

/// In about how long a moment will be.
pub(crate) fn until(unix_ms: u64, now: SystemTime) -> String {
    let then = UNIX_EPOCH + Duration::from_millis(unix_ms);
    match then.duration_since(now) {
        Ok(wait) if wait.as_secs() > 0 => format!("in {}", about(wait)),
        Ok(_) | Err(_) => "now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_its_terminal_and_loses_nothing() {
        let name = "shop/Cart/".to_owned() + &"a-long-name-".repeat(12);
        let rows = vec![vec![
            name.clone(),
            "healthy".to_owned(),
            "an error that explains itself at length ".repeat(4),
        ]];
        let headings = ["APP/CLASS/NAME", "STATE", "LAST ERROR"];
        let narrow = arrange(&headings, rows.clone(), Some(COLUMNS));
        assert!(narrow.lines().all(|line| line.chars().count() <= usize::from(COLUMNS)), "{narrow}");
        let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
        let wide = arrange(&headings, rows, None);
        assert_eq!(letters(&narrow), letters(&wide));
        assert!(wide.lines().nth(1).is_some_and(|row| row.contains(&name)), "{wide}");
    }

    #[test]
    fn ages_have_two_parts() {
        let now = UNIX_EPOCH + Duration::from_millis(3_725_900);
        assert_eq!(ago(0, now), "1h 2m ago");
        assert_eq!(ago(3_725_900, now), "0s ago");
        assert_eq!(ago(9_999_999, now), "now");
    }
}
