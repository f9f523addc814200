//! Cron expressions: five fields (minute, hour, day of month, month, day of week), in UTC. Times are milliseconds since
//! 1970.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds, Year};
use serde::{Deserialize, Serialize};

/// Longest expression, in bytes. Enough for one that lists every minute by itself.
const MAX_BYTES: usize = 512;

/// A parsed cron expression.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    schedule: croner::Cron,
}

/// Why a text is not a cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// It cannot be parsed.
    #[error("is no cron expression of five fields, such as \"*/5 * * * *\": {0}")]
    Syntax(String),
    /// It is valid, but matches no time.
    #[error("never comes: no day is like that")]
    Never,
}

impl Cron {
    /// Parses an expression.
    pub fn new(text: &str) -> Result<Self, CronError> {
        if text.len() > MAX_BYTES {
            return Err(CronError::Syntax(format!("it is longer than {MAX_BYTES} bytes")));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let schedule = parser.parse(text).map_err(|error| CronError::Syntax(error.to_string()))?;
        let cron = Self { text: text.to_owned(), schedule };
        cron.after(0).map(|_| cron.clone()).ok_or(CronError::Never)
    }

    /// The first matching time after this one, if there is one.
    pub fn after(&self, ms: u64) -> Option<u64> {
        self.schedule.find_next_occurrence(&moment(ms)?, false).ok().and_then(millis)
    }

    /// The last matching time up to and including this one, if there is one.
    pub fn last(&self, ms: u64) -> Option<u64> {
        self.schedule.find_previous_occurrence(&moment(ms)?, true).ok().and_then(millis)
    }

    /// The expression as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn moment(ms: u64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(i64::try_from(ms).ok()?)
}

fn millis(moment: DateTime<Utc>) -> Option<u64> {
    u64::try_from(moment.timestamp_millis()).ok()
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.text)
    }
}

impl FromStr for Cron {
    type Err = CronError;
    fn from_str(text: &str) -> Result<Self, CronError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;
    fn try_from(text: String) -> Result<Self, CronError> {
        Self::new(&text)
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-31T12:00:00Z, a Saturday.
    const NOON_MS: u64 = 1_769_860_800_000;
    const MINUTE_MS: u64 = 60_000;

    #[test]
    fn moments_are_found_in_utc() {
        let every_two = Cron::new("*/2 * * * *").unwrap();
        assert_eq!(every_two.after(NOON_MS), Some(NOON_MS + 2 * MINUTE_MS));
        assert_eq!(every_two.last(NOON_MS), Some(NOON_MS));
        assert_eq!(every_two.last(NOON_MS + 2 * MINUTE_MS - 1), Some(NOON_MS));
        let noon = Cron::new("0 12 * * *").unwrap();
        assert_eq!(noon.after(NOON_MS), Some(NOON_MS + 24 * 60 * MINUTE_MS));
        assert_eq!(Cron::new("0 12 * * SAT").unwrap().after(NOON_MS - 1), Some(NOON_MS));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for bad in ["", "* * * *", "* * * * * *", "61 * * * *", "x * * * *", "0 0 31 2 *", &"1,".repeat(300)]
        {
            assert!(Cron::new(bad).is_err(), "{bad}");
        }
        let error = Cron::new("* *").unwrap_err().to_string();
        assert!(error.contains("five fields"), "{error}");
    }
}
