//! How the output of an app's instances is kept.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::millis;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = HOUR.saturating_mul(24);

/// How long output may be kept: less than an hour is of little use, and a node's disk is no archive.
pub const LOG_RETENTION: RangeInclusive<Duration> = HOUR..=DAY.saturating_mul(30);
/// How many bytes of output are kept per instance. With less, a busy app's output is gone before it can be read.
pub const LOG_BYTES: RangeInclusive<u64> = (64 << 10)..=(1 << 30);

/// How the output of an app's instances is kept.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogSpec {
    /// Whether it is kept at all.
    pub enabled: bool,
    /// For how long, in milliseconds.
    #[serde(with = "millis")]
    #[cfg_attr(feature = "schema", schema(value_type = u64))]
    pub retention: Duration,
    /// Most bytes of it for each instance.
    pub bytes: u64,
}

impl Default for LogSpec {
    /// For seven days, 8 MiB for each instance.
    fn default() -> Self {
        Self { enabled: true, retention: DAY.saturating_mul(7), bytes: 8 << 20 }
    }
}

impl LogSpec {
    /// What is out of bounds, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        if !LOG_RETENTION.contains(&self.retention) {
            Some("retention must be from an hour to 30 days")
        } else if !LOG_BYTES.contains(&self.bytes) {
            Some("bytes must be from 64 KiB to 1 GiB")
        } else {
            None
        }
    }

    /// The same, clamped to the bounds: a peer of another version may have others.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            retention: self.retention.clamp(*LOG_RETENTION.start(), *LOG_RETENTION.end()),
            bytes: self.bytes.clamp(*LOG_BYTES.start(), *LOG_BYTES.end()),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_bounds_is_told_and_can_be_brought_within() {
        assert_eq!(LogSpec::default().fault(), None);
        let short = LogSpec { retention: Duration::ZERO, ..LogSpec::default() };
        let large = LogSpec { bytes: u64::MAX, ..LogSpec::default() };
        for bad in [short, large] {
            assert!(bad.fault().is_some() && bad.bounded().fault().is_none(), "{bad:?}");
        }
        let partial: LogSpec = serde_json::from_str(r#"{"retention":3600000}"#).unwrap();
        assert_eq!(partial, LogSpec { retention: HOUR, ..LogSpec::default() });
    }
}
