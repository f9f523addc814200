//! The compatibility date and flags: which of the runtime's changes a program sees. Only the few that are looked for here
//! are known; others change nothing.

use std::collections::BTreeSet;

use super::environment::{Found, View};
use super::section::{Reading, hint};
use crate::report::quoted;

/// Before this date there were no remote calls between objects, which do not go away here.
const OLDEST: &str = "2024-04-03";
/// From this date on `ctx.exports` is there.
const CONTEXT_EXPORTS: &str = "2025-11-17";
/// Most flags.
const MAX_FLAGS: usize = 256;

/// Flags that change something here, or are common enough to be no mistake.
const FLAGS: [&str; 16] = [
    "nodejs_compat",
    "nodejs_compat_v2",
    "no_nodejs_compat_v2",
    "nodejs_als",
    "nodejs_compat_populate_process_env",
    "nodejs_compat_do_not_populate_process_env",
    "enable_ctx_exports",
    "disable_ctx_exports",
    "delete_all_deletes_alarm",
    "delete_all_preserves_alarm",
    "websocket_standard_binary_type",
    "no_websocket_standard_binary_type",
    "web_socket_auto_reply_to_close",
    "global_fetch_strictly_public",
    "rpc",
    "experimental",
];

/// The compatibility date and flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compatibility {
    /// As `yyyy-mm-dd`, which sorts by time.
    pub date: String,
    /// The flags.
    pub flags: BTreeSet<String>,
}

impl Compatibility {
    /// Whether a change is on: by its flags, else since its date.
    pub fn has(&self, since: &str, on: &str, off: &str) -> bool {
        self.flags.contains(on) || (!self.flags.contains(off) && self.date.as_str() >= since)
    }

    /// Whether `ctx.exports` is there.
    pub fn has_context_exports(&self) -> bool {
        self.has(CONTEXT_EXPORTS, "enable_ctx_exports", "disable_ctx_exports")
    }

    /// Whether modules of Node can be imported.
    pub fn has_node(&self) -> bool {
        self.flags.contains("nodejs_compat") || self.flags.contains("nodejs_compat_v2")
    }
}

pub(super) fn read(reading: &mut Reading<'_>, view: &View<'_>) -> Option<Compatibility> {
    let flags = flags(reading, view);
    let Some(Found { node, path }) = view.given("compatibility_date") else {
        let message = "compatibility_date is missing; expected a date such as \"2025-11-17\"";
        reading.wrong(view.at(), message);
        return None;
    };
    let date = reading.text(node, &path)?;
    if !is_date(date) {
        let message = format!("{path}: {} is no date; expected one such as \"2025-11-17\"", quoted(date));
        reading.wrong(node.at, message);
        return None;
    }
    if date < OLDEST {
        let message =
            format!("{path}: programs run as of {OLDEST} at the earliest, with remote calls between objects");
        reading.warn(node.at, message);
    }
    Some(Compatibility { date: date.to_owned(), flags })
}

fn flags(reading: &mut Reading<'_>, view: &View<'_>) -> BTreeSet<String> {
    let Some(Found { node, path }) = view.given("compatibility_flags") else { return BTreeSet::new() };
    let flags = reading.texts(node, &path, MAX_FLAGS);
    for (flag, at) in &flags {
        if !FLAGS.contains(&flag.as_str()) {
            let near = hint(flag, &FLAGS);
            let near = if near.starts_with("known are") { "it changes nothing" } else { &near };
            reading.warn(*at, format!("{path}: {} is not a flag that Berth knows; {near}", quoted(flag)));
        }
    }
    flags.into_iter().map(|(flag, _)| flag).collect()
}

/// Whether a text is a day of the calendar, as `yyyy-mm-dd`.
fn is_date(text: &str) -> bool {
    let shape = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(i, byte)| if matches!(i, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
    if !shape {
        return false;
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<u32>().unwrap_or_default();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_of_the_calendar() {
        for good in ["2024-02-29", "2000-02-29", "2025-12-31", "2025-04-30"] {
            assert!(is_date(good), "{good}");
        }
        for bad in [
            "2025-02-29",
            "1900-02-29",
            "2025-13-01",
            "2025-00-10",
            "2025-04-31",
            "2025-4-1",
            "20250401xx",
            "ü025-04-1",
        ] {
            assert!(!is_date(bad), "{bad}");
        }
    }
}
